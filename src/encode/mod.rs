//! Encoders: PCM in the format of a stream goes in, packets of FLAC, MP3 or Opus come out.
//!
//! [`encodings`] runs a thread for each encoding that somebody uses, and hands its packets to all consumers in a ring.
//!
//! An encoder itself has no thread and does no I/O. After it is opened, encoding allocates nothing. Positions of
//! packets are counted in frames of the *input*, also where the encoder resamples, so that lag, pre-roll and
//! latency of encoded and plain listeners have one arithmetic.
//!
//! FLAC is coded here. No crate does all that live streams need under Rust 1.85: flacenc cannot keep the bit
//! rate up in silence and costs twice as much; and libFLAC's soname differs between Debian 12 and 13. MP3 and
//! Opus are coded by the distribution's libmp3lame and libopus, which are opened on first use (`sys::lame`,
//! `sys::opus`).

mod blocks;
pub mod codec;
pub mod downmix;
pub mod encoder;
pub mod encoding;
pub mod encodings;
pub mod flac;
mod intake;
pub mod mp3;
pub mod ogg;
pub mod opus;
pub mod resample;
mod thread;

pub use self::codec::Codec;
pub use self::encoder::{EncodeError, Encoder, OpenError, Options, Packet, Sink, Target};
pub use self::encoding::{Consumer, Encoding, Kind};
pub use self::encodings::{Encodings, Unavailable};
use crate::media::format::StreamFormat;

impl Codec {
    /// Checks that PCM of that format can be encoded here.
    ///
    /// # Errors
    ///
    /// The library is missing, or the codec cannot carry this format.
    pub fn check(self, format: StreamFormat) -> Result<(), OpenError> {
        match self {
            Codec::Flac => flac::check(format),
            Codec::Mp3 | Codec::Opus => Ok(self.load()?),
        }
    }

    /// Opens an encoder for PCM of `format`.
    ///
    /// # Errors
    ///
    /// The library is missing, or the codec cannot carry this format.
    pub fn open(self, format: StreamFormat, options: &Options<'_>) -> Result<Box<dyn Encoder>, OpenError> {
        let bitrate = options.bitrate.or(self.default_bitrate(format.channels)).unwrap_or(0);
        let pages = match options.target {
            Target::Listeners | Target::OggListeners => ogg::Paging::EachPacket,
            Target::Push | Target::File => ogg::Paging::TenthOfASecond,
        };
        Ok(match (self, options.target) {
            (Codec::Flac, Target::Listeners | Target::File) => {
                Box::new(flac::FlacEncoder::new(format, options.first_frame)?)
            }
            (Codec::Flac, Target::OggListeners | Target::Push) => {
                Box::new(flac::OggFlacEncoder::new(format, options, pages)?)
            }
            (Codec::Mp3, _) => Box::new(mp3::Mp3Encoder::new(format, bitrate, options.first_frame)?),
            (Codec::Opus, _) => Box::new(opus::OpusEncoder::new(format, bitrate, options, pages)?),
        })
    }
}
