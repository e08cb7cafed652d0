//! The codecs: names, media types, bit rates, and the libraries that they need.

use std::fmt;

use crate::config::{MP3_BITRATES, OPUS_BITRATES};
use crate::sys::dl::MissingLibrary;

/// A codec that listeners can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Lossless, in native FLAC frames.
    Flac,
    /// MPEG-1, MPEG-2 or MPEG-2.5 Layer III with a constant bit rate.
    Mp3,
    /// Opus in Ogg with a constant bit rate.
    Opus,
}

impl Codec {
    /// Every codec, in the order in which the page lists them.
    pub const ALL: [Codec; 3] = [Codec::Flac, Codec::Mp3, Codec::Opus];

    /// The name in the configuration; also the extension of the path and of recorded files.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Flac => "flac",
            Codec::Mp3 => "mp3",
            Codec::Opus => "opus",
        }
    }

    /// Returns the codec of that name.
    pub fn from_name(name: &str) -> Option<Codec> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// The media type of the listeners' stream.
    pub const fn content_type(self) -> &'static str {
        match self {
            Codec::Flac => "audio/flac",
            Codec::Mp3 => "audio/mpeg",
            Codec::Opus => "audio/ogg",
        }
    }

    /// The media type of what is pushed to Icecast. Icecast replays headers to late listeners only for
    /// exactly this type of Ogg; a parameter such as `codecs=opus` would make it treat the stream as plain
    /// bytes.
    pub const fn push_content_type(self) -> &'static str {
        match self {
            Codec::Mp3 => "audio/mpeg",
            Codec::Flac | Codec::Opus => "application/ogg",
        }
    }

    /// The bit rates that exist, in kbit/s, lowest first. Empty for FLAC, whose bit rate follows the sound.
    pub const fn bitrates(self) -> &'static [u32] {
        match self {
            Codec::Flac => &[],
            Codec::Mp3 => MP3_BITRATES,
            Codec::Opus => OPUS_BITRATES,
        }
    }

    /// The bit rate in kbit/s where nobody chose one; `None` for FLAC.
    pub const fn default_bitrate(self, channels: u16) -> Option<u32> {
        match (self, channels) {
            (Codec::Flac, _) => None,
            (_, 1) => Some(64),
            (Codec::Mp3, _) => Some(128),
            (Codec::Opus, _) => Some(96),
        }
    }

    /// Opens the codec's library, if it needs one. The first outcome is remembered for the life of the
    /// process.
    ///
    /// # Errors
    ///
    /// The library is not installed or not usable.
    pub fn load(self) -> Result<(), MissingLibrary> {
        match self {
            Codec::Flac => Ok(()),
            Codec::Mp3 => crate::sys::lame::load(),
            Codec::Opus => crate::sys::opus::load(),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Flac => "FLAC",
            Codec::Mp3 => "MP3",
            Codec::Opus => "Opus",
        })
    }
}
