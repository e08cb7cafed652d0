//! An encoder as its users see it: packets, settings, errors.

use std::fmt;

use super::codec::Codec;
use crate::sys::dl::MissingLibrary;

/// The consumer of the packets, on which framing and delay depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Listeners of this server: native FLAC, MP3 frames, one Opus packet in each Ogg page for the least
    /// delay.
    Listeners,
    /// Listeners with a player whose decoder ends at a damaged frame: as for the others, but FLAC in Ogg, one frame in each
    /// page. Players leave out a page whose checksum is wrong.
    OggListeners,
    /// An Icecast server: FLAC and Opus in Ogg pages of about 100 ms, because Icecast's cost is per page and
    /// it hands late listeners the headers only of Ogg.
    Push,
    /// A finite recording, which begins with the first packet and is ended by [`Encoder::finish`]: decoded,
    /// it has exactly the frames that were encoded (MP3: some silence more). [`flac::header`](super::flac::header) makes a header
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
    ///
    /// Returns the number of frames that were dropped.
    fn skip_to(&mut self, first_frame: u64, sink: &mut Sink<'_>) -> u64;

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
