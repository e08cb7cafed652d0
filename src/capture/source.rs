//! The source of an input: something that is opened, started, and read block by block.

use std::fmt;
use std::time::Duration;

use crate::inputs::{SourceInfo, Trouble};

/// An open source of sound.
///
/// The opener thread opens, starts and closes (drops) a source, since a driver can take seconds for each. The capture
/// thread only reads it.
pub trait Source: Send {
    /// Returns what was agreed on when the source was opened.
    fn info(&self) -> &SourceInfo;

    /// Starts the capture. Called once, before the first read.
    ///
    /// # Errors
    ///
    /// An [`OpenError`] with what to do.
    fn start(&mut self) -> Result<(), OpenError>;

    /// Waits for the next frames, at most [`READ_TIMEOUT`], and copies them to the beginning of `out`, which has room
    /// for [`SourceInfo::block_frames`]. Allocates nothing.
    ///
    /// # Errors
    ///
    /// A [`SourceLost`] when this source will give no more sound: close it and open it again.
    fn read(&mut self, out: &mut [u8]) -> Result<SourceRead, SourceLost>;
}

/// The longest wait of a read. A stop request is seen after this time at the latest.
pub const READ_TIMEOUT: Duration = Duration::from_millis(100);

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceRead {
    /// Frames were copied.
    Frames {
        /// Number of frames, at least 1.
        frames: usize,
        /// Time at which the last of them was captured, in ns of CLOCK_MONOTONIC.
        captured_at: u64,
    },
    /// No sound came within [`READ_TIMEOUT`].
    Timeout,
    /// The reader was late and the source dropped frames. The source runs again.
    Overrun,
}

/// A reason for which a source gives no more sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceLost {
    /// The device is gone.
    Unplugged,
    /// Reading failed with this errno.
    Failed(i32),
    /// The source gave no frame and no error for this long.
    Hung(Duration),
    /// The source overran again and again without a frame in between.
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

/// A failed attempt to open a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenError {
    /// One or two sentences: what is wrong and what the user can do.
    pub advice: String,
    /// The kind of the problem.
    pub trouble: Trouble,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.advice)
    }
}

impl std::error::Error for OpenError {}
