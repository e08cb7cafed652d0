//! Encoders: PCM in the format of a stream goes in, packets of FLAC, MP3 or Opus come out.
//!
//! An encoder has no thread and does no I/O. After it is opened, encoding allocates nothing. Positions of
//! packets are counted in frames of the *input*, also where the encoder resamples, so that lag, pre-roll and
//! latency of encoded and plain listeners have one arithmetic.
//!
//! FLAC is coded here. No crate does all that live streams need under Rust 1.85: flacenc cannot keep the bit
//! rate up in silence and costs twice as much; and libFLAC's soname differs between Debian 12 and 13. MP3 and
//! Opus are coded by the distribution's libmp3lame and libopus, which are opened on first use (`sys::lame`,
//! `sys::opus`).

use std::fmt;

use crate::media::format::StreamFormat;
use crate::sys::dl::MissingLibrary;

mod blocks;
pub mod downmix;
pub mod flac;
mod intake;
pub mod mp3;
pub mod ogg;
pub mod opus;
pub mod resample;

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

/// Bit rates that listeners may ask for, in kbit/s. The lower ones exist for speech and for hosted services:
/// Broadcastify takes 16 kbit/s mono.
const MP3_BITRATES: &[u32] = &[16, 24, 32, 48, 64, 96, 128, 160, 192, 256, 320];
const OPUS_BITRATES: &[u32] = &[16, 24, 32, 48, 64, 96, 128, 160, 192, 256];

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
            Codec::Flac | Codec::Opus => "audio/ogg",
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

    /// Opens an encoder for PCM of `format`.
    ///
    /// # Errors
    ///
    /// The library is missing, or the codec cannot carry this format.
    pub fn open(self, format: StreamFormat, options: &Options<'_>) -> Result<Box<dyn Encoder>, OpenError> {
        let bitrate = options.bitrate.or(self.default_bitrate(format.channels)).unwrap_or(0);
        let pages = match options.target {
            Target::Listeners => ogg::Paging::EachPacket,
            Target::Push | Target::File => ogg::Paging::TenthOfASecond,
        };
        Ok(match (self, options.target) {
            (Codec::Flac, Target::Listeners | Target::File) => {
                Box::new(flac::FlacEncoder::new(format, options.first_frame)?)
            }
            (Codec::Flac, Target::Push) => Box::new(flac::OggFlacEncoder::new(format, options, pages)?),
            (Codec::Mp3, _) => Box::new(mp3::Mp3Encoder::new(format, bitrate, options.first_frame)?),
            (Codec::Opus, _) => Box::new(opus::OpusEncoder::new(format, bitrate, options, pages)?),
        })
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

/// The consumer of the packets, on which framing and delay depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Listeners of this server: native FLAC, MP3 frames, one Opus packet in each Ogg page for the least
    /// delay.
    Listeners,
    /// An Icecast server: FLAC and Opus in Ogg pages of about 100 ms, because Icecast's cost is per page and
    /// it hands late listeners the headers only of Ogg.
    Push,
    /// A finite recording, which begins with the first packet and is ended by [`Encoder::finish`]: decoded,
    /// it has exactly the frames that were encoded (MP3: some silence more). [`flac::header`] makes a header
    /// with the length and the checksum.
    File,
}

/// The settings of an encoder.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Bit rate in kbit/s; `None` for the codec's default. FLAC ignores it.
    pub bitrate: Option<u32>,
    /// The consumer of the packets.
    pub target: Target,
    /// The stream's title, for the comment header of Ogg; empty for none.
    pub title: &'a str,
    /// Serial number of the Ogg stream. A restarted stream needs another one.
    pub serial: u32,
    /// Position in the input of the first frame that will be encoded.
    pub first_frame: u64,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { bitrate: None, target: Target::Listeners, title: "", serial: 1, first_frame: 0 }
    }
}

/// One unit of the encoded stream, which is sent whole or not at all: a FLAC frame, an MP3 frame, an Ogg
/// page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Position of the packet's first frame, in frames of the input.
    pub first_frame: u64,
    /// Frames of the input that the packet covers. Where the encoder resamples, it varies by one.
    pub frames: u32,
    /// The bytes to send.
    pub bytes: &'a [u8],
}

/// The receiver of packets, called once for each.
pub type Sink<'a> = dyn FnMut(Packet<'_>) + 'a;

/// An encoder of one stream.
///
/// Every listener gets the header once and then packets, beginning with any of them.
pub trait Encoder: Send {
    /// The bytes that precede the first packet of every listener. Empty for MP3.
    fn header(&self) -> &[u8];

    /// Upper bound of a packet's bytes.
    fn max_packet_bytes(&self) -> usize;

    /// Upper bound of the frames of the input that a packet covers.
    fn max_packet_frames(&self) -> u32;

    /// Encodes any whole number of frames of PCM. Hands the packets that become complete to `sink`; the rest
    /// waits for the next call.
    ///
    /// # Errors
    ///
    /// The codec's library reported an error. The stream ends; FLAC never fails.
    fn encode(&mut self, pcm: &[u8], sink: &mut Sink<'_>) -> Result<(), EncodeError>;

    /// Continues with the frame at position `first_frame` of the input, which must not be before frames that
    /// were encoded. Frames that wait for a complete packet are dropped; an Ogg page that waits goes to
    /// `sink`. The packets' own numbers go on without a hole, so that players do not fill the hole with
    /// silence.
    fn skip_to(&mut self, first_frame: u64, sink: &mut Sink<'_>);

    /// Encodes what is left and ends the stream, as a finite recording needs it. Live streams just stop.
    ///
    /// # Errors
    ///
    /// The codec's library reported an error.
    fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), EncodeError>;

    /// Returns `true` once the codec has no number left for another packet. The encoder then drops all PCM;
    /// its listeners must be disconnected and a new encoder opened. Only FLAC has such a limit, after 1.6
    /// years at 48 kHz.
    fn is_full(&self) -> bool {
        false
    }
}

/// A reason for which an encoder cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The codec's library is not installed or not usable.
    Library(MissingLibrary),
    /// FLAC carries 1 to 8 channels.
    Channels(u16),
    /// The codec has no such rate (frames a second).
    Rate(u32),
    /// The codec's library refused the settings with this error number.
    Refused(Codec, i32),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Library(missing) => missing.fmt(f),
            OpenError::Channels(channels) => write!(f, "FLAC carries 1 to 8 channels, not {channels}"),
            OpenError::Rate(rate) => write!(f, "the codec does not carry {rate} Hz"),
            OpenError::Refused(codec, error) => {
                write!(f, "the {codec} library refuses the settings (error {error})")
            }
        }
    }
}

impl std::error::Error for OpenError {}

impl From<MissingLibrary> for OpenError {
    fn from(missing: MissingLibrary) -> Self {
        OpenError::Library(missing)
    }
}

/// An error of a codec's library while encoding, with the library's error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeError(pub i32);

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the codec's library failed (error {})", self.0)
    }
}

impl std::error::Error for EncodeError {}
