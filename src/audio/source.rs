//! Where sound comes from: open it, then take one block of frames after another.

use std::fmt;
use std::time::Duration;

use super::convert::SourceSample;
use super::{alsa, synth};
use crate::config::{Device, Input};

/// An open source that runs.
pub trait Source: Send {
    /// What was agreed on when it was opened.
    fn info(&self) -> &Info;

    /// Waits for the next frames, at most [`PATIENCE`], and puts them into `out`, which has room for
    /// [`Info::block_frames`]. Allocates nothing.
    ///
    /// # Errors
    ///
    /// A [`Loss`] when this source will give no more sound: close it and open it again.
    fn read(&mut self, out: &mut [u8]) -> Result<Got, Loss>;
}

/// How long a read waits for sound before it says [`Got::Nothing`], so that its thread can be stopped.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// So many frames, the last of which was captured at that time (CLOCK_MONOTONIC, ns).
    Frames {
        /// How many; at least 1.
        frames: usize,
        /// When the last of them was sampled.
        captured_at: u64,
    },
    /// No sound for as long as a read waits.
    Nothing,
    /// The reader was late and the source dropped frames; it runs again.
    Overrun,
}

/// What a source and its user agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The name under which it was opened, as ALSA or the configuration has it.
    pub device: String,
    /// The name on the box, where there is one.
    pub card: Option<String>,
    /// Frames a second.
    pub rate: u32,
    /// Samples in a frame.
    pub channels: u16,
    /// How each sample is stored.
    pub sample: SourceSample,
    /// The most frames that one read brings; nearly always it brings so many.
    pub block_frames: u32,
    /// Frames that the source keeps for a late reader.
    pub buffer_frames: u32,
}

impl Info {
    /// Bytes of one frame as the source stores it.
    pub fn frame_bytes(&self) -> usize {
        self.sample.bytes() * usize::from(self.channels)
    }

    /// How long the source keeps sound for a late reader.
    pub fn buffer(&self) -> Duration {
        Duration::from_nanos(u64::from(self.buffer_frames) * 1_000_000_000 / u64::from(self.rate))
    }
}

/// Why a source gives no more sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The device is gone.
    Unplugged,
    /// Reading failed with this errno.
    Failed(i32),
    /// It gave no data for this long.
    Hung(Duration),
    /// It overran again and again without a frame in between.
    Overrunning,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Unplugged => f.write_str("the sound card was unplugged"),
            Loss::Failed(errno) => {
                write!(f, "reading failed: {}", std::io::Error::from_raw_os_error(*errno))
            }
            Loss::Hung(time) => {
                write!(f, "the sound card gave no sound for {:.1} s", time.as_secs_f64())
            }
            Loss::Overrunning => f.write_str("the sound card overran again and again without a sound"),
        }
    }
}

/// Why a source could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    /// What is wrong and what the user can do about it, in a sentence or two.
    pub advice: String,
    /// Whether there is just nothing of that name. Of a card that was there before, all that helps is to wait.
    pub absent: bool,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.advice)
    }
}

/// Opens what an input is configured to listen to, as near to the wanted format as it can, and starts it.
///
/// # Errors
///
/// An [`OpenError`] that tells the user what to do.
pub fn open(input: &Input) -> Result<Box<dyn Source>, OpenError> {
    match &input.device {
        Device::Synth(synth) => Ok(Box::new(synth::SynthSource::open(*synth, input))),
        _ => Ok(Box::new(alsa::AlsaSource::open(input)?)),
    }
}
