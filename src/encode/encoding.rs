//! One encoding in use: its packets, its counters, its consumers.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::codec::Codec;
#[cfg(doc)]
use super::encoder::Target;
use super::{flac, mp3, opus};
use crate::media::format::StreamFormat;
use crate::media::ring::Ring;

/// An encoding without consumers ends after this time, so that a player that reconnects finds it running.
pub const LINGER: Duration = Duration::from_secs(10);

/// Codec, bit rate and container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The codec.
    pub codec: Codec,
    /// Bit rate in kbit/s; `None` for FLAC.
    pub bitrate: Option<u32>,
    /// True for FLAC in Ogg, for [`Target::OggListeners`].
    pub in_ogg: bool,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bitrate {
            Some(bitrate) => write!(f, "{} {bitrate} kbit/s", self.codec),
            None => self.codec.fmt(f),
        }
    }
}

impl Kind {
    /// Returns the media type of the stream.
    pub const fn content_type(self) -> &'static str {
        match self.in_ogg {
            true => Codec::Opus.content_type(),
            false => self.codec.content_type(),
        }
    }

    /// Returns the bytes of a second that a listener gets, about: FLAC takes half of PCM.
    pub fn bytes_per_second(self, format: StreamFormat) -> u64 {
        let bytes = match self.bitrate {
            Some(kbits) => u64::from(kbits) * 125,
            None => format.bytes_per_second() / 2,
        };
        match self.codec {
            Codec::Opus => bytes + opus::LISTENER_PAGE_BYTES_PER_SECOND,
            Codec::Flac | Codec::Mp3 => bytes,
        }
    }
}

impl Kind {
    /// Returns the frames of the input that a listener's packet covers, rounded up.
    pub fn packet_frames(self, format: StreamFormat) -> u64 {
        match self.codec {
            Codec::Flac => flac::BLOCK_FRAMES as u64,
            Codec::Opus => u64::from(format.rate).div_ceil(opus::PACKETS.into()),
            Codec::Mp3 => {
                let settings = mp3::Settings::nearest(format.rate, self.bitrate.unwrap_or_default());
                (settings.frame_length() as u64 * u64::from(format.rate)).div_ceil(settings.rate.into())
            }
        }
    }
}

/// One encoding, as its consumers and the status see it. Its thread writes the counters; any thread reads them.
pub struct Encoding {
    /// Codec and bit rate.
    pub kind: Kind,
    /// The input's name.
    pub input: String,
    /// The bytes that precede the first packet of every listener. Empty for MP3.
    pub header: Box<[u8]>,
    /// The ring of packets. It is closed when the encoding ends.
    pub ring: Ring,
    /// Frames of the input that the encoder was too slow for, and left out.
    pub skipped: AtomicU64,
    /// The share of one core that the thread uses, in millionths, over its last seconds.
    pub cpu: AtomicU32,
    /// Written by the thread of the encoding and by consumers that come and go.
    state: Mutex<State>,
}

/// The ring that an encoding reads, and its consumers.
struct State {
    /// The ring of the input.
    pcm: Ring,
    /// The position of a frame in the ring of packets less its index in the ring of the input. 0 until the input gets
    /// another ring of the same format.
    offset: i64,
    consumers: usize,
    /// The time at which the last consumer left, or the start.
    since: Instant,
}

/// A use of an encoding. The encoding runs on for as long as there is one.
pub struct Consumer {
    encoding: Arc<Encoding>,
}

impl Encoding {
    /// Returns an encoding without consumers that reads `pcm`.
    pub(super) fn new(kind: Kind, input: &str, header: &[u8], ring: Ring, pcm: &Ring) -> Encoding {
        Encoding {
            kind,
            input: input.to_owned(),
            header: header.into(),
            ring,
            skipped: AtomicU64::new(0),
            cpu: AtomicU32::new(0),
            state: Mutex::new(State { pcm: pcm.clone(), offset: 0, consumers: 0, since: Instant::now() }),
        }
    }

    /// Returns whether this is the running encoding of that kind of an input's ring.
    pub(super) fn is_of(&self, pcm: &Ring, kind: Kind) -> bool {
        self.kind == kind && self.state().pcm.is(pcm) && !self.ring.is_closed()
    }

    /// Returns the number of consumers.
    pub fn consumers(&self) -> usize {
        self.state().consumers
    }

    /// Returns the ID of the input's ring and the index there of the frame at `position` of the ring of packets. `None` for
    /// a frame of an earlier ring.
    pub fn input_frame(&self, position: u64) -> Option<(u64, u64)> {
        let state = self.state();
        Some((state.pcm.id(), position.checked_add_signed(-state.offset)?))
    }

    /// Notes that the encoding goes on with another ring of its input.
    pub(super) fn moved_to(&self, pcm: &Ring, offset: i64) {
        let mut state = self.state();
        (state.pcm, state.offset) = (pcm.clone(), offset);
    }

    fn is_unused(&self) -> bool {
        let state = self.state();
        state.consumers == 0 && state.since.elapsed() >= LINGER
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Consumer {
    pub(super) fn new(encoding: Arc<Encoding>) -> Consumer {
        encoding.state().consumers += 1;
        Consumer { encoding }
    }

    /// Returns the encoding.
    pub fn encoding(&self) -> &Arc<Encoding> {
        &self.encoding
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let mut state = self.encoding.state();
        state.consumers -= 1;
        state.since = Instant::now();
    }
}

/// The encodings that run.
#[derive(Default)]
pub(super) struct Running {
    /// Locked to find or add an encoding, and by a thread that ends: an encoding that was found under this lock runs. Only
    /// the state of an encoding is locked while it is held.
    list: Mutex<Vec<Arc<Encoding>>>,
}

impl Running {
    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Arc<Encoding>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes an encoding from those that run, if nobody has used it for [`LINGER`].
    pub(super) fn retire_unused(&self, encoding: &Arc<Encoding>) -> bool {
        let mut running = self.lock();
        let is_unused = encoding.is_unused();
        if is_unused {
            running.retain(|other| !Arc::ptr_eq(other, encoding));
        }
        is_unused
    }

    /// Removes an encoding from those that run.
    pub(super) fn remove(&self, encoding: &Arc<Encoding>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, encoding));
    }
}
