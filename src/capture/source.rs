//! Where sound comes from: open it, then take one block of frames after another.

use std::fmt;
use std::time::Duration;

use crate::inputs::SourceInfo;

/// An open source that runs.
pub trait Source: Send {
    /// What was agreed on when it was opened.
    fn info(&self) -> &SourceInfo;

    /// Waits for the next frames, at most [`PATIENCE`], and puts them into `out`, which has room for
    /// [`SourceInfo::block_frames`]. Allocates nothing.
    ///
    /// # Errors
    ///
    /// A [`SourceLost`] when this source will give no more sound: close it and open it again.
    fn read(&mut self, out: &mut [u8]) -> Result<SourceRead, SourceLost>;
}

/// How long a read waits for sound before it says [`SourceRead::Timeout`], so that its thread can be stopped.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceRead {
    /// So many frames, the last of which was captured at that time (CLOCK_MONOTONIC, ns).
    Frames {
        /// How many; at least 1.
        frames: usize,
        /// When the last of them was sampled.
        captured_at: u64,
    },
    /// No sound for as long as a read waits.
    Timeout,
    /// The reader was late and the source dropped frames; it runs again.
    Overrun,
}

/// Why a source gives no more sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceLost {
    /// The device is gone.
    Unplugged,
    /// Reading failed with this errno.
    Failed(i32),
    /// It gave no data for this long.
    Hung(Duration),
    /// It overran again and again without a frame in between.
    Overrunning,
}

impl fmt::Display for SourceLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceLost::Unplugged => f.write_str("the sound card was unplugged"),
            SourceLost::Failed(errno) => {
                write!(f, "reading failed: {}", std::io::Error::from_raw_os_error(*errno))
            }
            SourceLost::Hung(time) => {
                write!(f, "the sound card gave no sound for {:.1} s", time.as_secs_f64())
            }
            SourceLost::Overrunning => f.write_str("the sound card overran again and again without a sound"),
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
