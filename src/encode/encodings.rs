//! The encodings in use: each is one thread that encodes one input with one codec at one bit rate, for all its consumers.
//!
//! ```text
//!  ring (PCM) ──▶ thread "mp3 live" ──▶ ring (packets) ──▶ fan-out, listener threads
//! ```
//!
//! An encoding starts with its first consumer and ends [`LINGER`](super::encoding::LINGER) after its last, so that what nobody listens to costs
//! nothing. All consumers get the same packets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{fmt, io};

use log::warn;

use super::codec::Codec;
use super::encoder::{Encoder, OpenError, Options, Target};
use super::encoding::{Consumer, Encoding, Kind, Running};
use super::mp3;
use super::thread::EncoderThread;
use crate::inputs::LiveInput;
use crate::media::format::StreamFormat;
use crate::media::ring::{self, OutOfMemory, PacketLayout, Ring};
use crate::settings::Settings;
use crate::sys::clock::monotonic_ns;

/// The sound that a ring of packets keeps: the longest burst, and what a slow listener may lag behind.
const HISTORY: Duration = Duration::from_secs(5);
/// The most bytes of a ring of packets, unless it would keep less than [`LEAST_HISTORY`] then.
const MOST_BYTES: u64 = 768 * 1024;
const LEAST_HISTORY: Duration = Duration::from_millis(500);

/// All encodings in use.
pub struct Encodings {
    settings: Arc<Settings>,
    running: Arc<Running>,
    /// Encoders that one listener has for itself. Raised under the lock of `running`.
    private: AtomicU32,
    /// The codecs of which the log says already that they are missing, as bits.
    reported: AtomicU32,
}

/// An encoder that one listener has for itself. Its first frame has the position 0.
pub struct PrivateEncoder {
    kind: Kind,
    encoder: Box<dyn Encoder>,
    _room: Room,
}

impl PrivateEncoder {
    /// Returns codec and bit rate.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the encoder.
    pub fn get(&mut self) -> &mut dyn Encoder {
        &mut *self.encoder
    }
}

/// The room of a private encoder among all encoders.
struct Room(Arc<Encodings>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.private.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A reason why an encoding cannot be used.
#[derive(Debug)]
pub enum Unavailable {
    /// The configuration turns encoders off.
    Off,
    /// The codec cannot be used here, or not for this format.
    Codec(Codec, OpenError),
    /// As many encoders run as the configuration allows.
    Full(u32),
    /// As many encoders run as may, but for one that is kept for ordinary requests.
    Reserved(u32),
    /// There is no memory for the packets.
    Memory(OutOfMemory),
    /// The operating system gives no thread.
    Thread(io::Error),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::Off => f.write_str("Compressed streams are turned off here."),
            Unavailable::Codec(codec, OpenError::Library(missing)) => {
                write!(f, "{codec} is not available here: the package {} is missing.", missing.package)
            }
            Unavailable::Codec(_, error) => write!(f, "{error}."),
            Unavailable::Full(1) => f.write_str("One encoder runs already, no more can."),
            Unavailable::Full(count) => write!(f, "{count} encoders run already, no more can."),
            Unavailable::Reserved(count) => {
                let noun = if *count == 1 { "encoder runs" } else { "encoders run" };
                write!(
                    f,
                    "{count} {noun} already, and one more is for streams without bitrate, back, for and last."
                )
            }
            Unavailable::Memory(_) => f.write_str("There is no memory left for another encoder."),
            Unavailable::Thread(_) => f.write_str("There is no thread left for another encoder."),
        }
    }
}

impl Encodings {
    /// Returns a list without encodings.
    pub fn new(settings: Arc<Settings>) -> Encodings {
        Encodings {
            settings,
            running: Arc::default(),
            private: AtomicU32::new(0),
            reported: AtomicU32::new(0),
        }
    }

    /// Returns the encodings that run.
    pub fn all(&self) -> Vec<Arc<Encoding>> {
        self.running.lock().clone()
    }

    /// Returns codec and bit rate for a consumer of PCM of `format` that asks for `bitrate`, or for none.
    pub fn kind(&self, codec: Codec, bitrate: Option<u32>, format: StreamFormat) -> Kind {
        let encoders = self.settings.encoders();
        let configured = match codec {
            Codec::Flac => None,
            Codec::Mp3 => encoders.mp3_bitrate,
            Codec::Opus => encoders.opus_bitrate,
        };
        let default = codec.default_bitrate(format.channels);
        let wanted = default.map(|default| bitrate.or(configured).unwrap_or(default));
        let bitrate = match codec {
            // Low rates have no high bit rates.
            Codec::Mp3 => wanted.map(|bitrate| mp3::Settings::nearest(format.rate, bitrate).bitrate),
            Codec::Flac | Codec::Opus => wanted,
        };
        Kind { codec, bitrate, in_ogg: false }
    }

    /// Returns the codecs that can be used on this machine, for PCM of `format` where it is known.
    pub fn codecs(&self, format: Option<StreamFormat>) -> Vec<Codec> {
        let is_off = self.settings.encoders().max == 0;
        let can_be_used = |codec: &Codec| match format {
            _ if is_off => false,
            Some(format) => codec.check(format).is_ok(),
            None => codec.load().is_ok(),
        };
        Codec::ALL.into_iter().filter(can_be_used).collect()
    }

    /// Checks that PCM of that format can be encoded. Logs, once, that a codec cannot be used.
    ///
    /// # Errors
    ///
    /// [`Unavailable::Off`] and [`Unavailable::Codec`].
    pub fn check(&self, codec: Codec, format: StreamFormat) -> Result<(), Unavailable> {
        if self.settings.encoders().max == 0 {
            return Err(Unavailable::Off);
        }
        codec.check(format).map_err(|error| {
            self.report(codec, &error);
            Unavailable::Codec(codec, error)
        })
    }

    /// Returns the encoding of that kind of an input's ring, which is started if it does not run: then it begins `back`
    /// frames before the live edge.
    ///
    /// # Errors
    ///
    /// See [`Unavailable`].
    pub fn open(
        self: &Arc<Self>,
        input: &Arc<LiveInput>,
        pcm: &Ring,
        kind: Kind,
        back: u64,
    ) -> Result<Consumer, Unavailable> {
        if let Some(consumer) = find(&self.running.lock(), pcm, kind) {
            return Ok(consumer);
        }
        // Without the lock: this may load a library.
        let thread = self.prepare(input, pcm, kind, back)?;
        let mut running = self.running.lock();
        if let Some(consumer) = find(&running, pcm, kind) {
            return Ok(consumer);
        }
        self.make_room(&mut running, self.is_ordinary(kind, pcm.format()))?;
        let encoding = Arc::clone(thread.encoding());
        thread.start(Arc::clone(&self.running)).map_err(Unavailable::Thread)?;
        running.push(Arc::clone(&encoding));
        Ok(Consumer::new(encoding))
    }

    /// Opens an encoder that no other consumer shares. It counts for `[encoders] max` until it is dropped.
    ///
    /// # Errors
    ///
    /// See [`Unavailable`].
    pub fn open_private(
        self: &Arc<Self>,
        format: StreamFormat,
        kind: Kind,
        target: Target,
        title: &str,
    ) -> Result<PrivateEncoder, Unavailable> {
        {
            let mut running = self.running.lock();
            self.make_room(&mut running, false)?;
            self.private.fetch_add(1, Ordering::Relaxed);
        }
        // Gives the room back if the encoder does not open.
        let room = Room(Arc::clone(self));
        let serial = (monotonic_ns() / 1_000_000) as u32;
        let options = Options { bitrate: kind.bitrate, target, title, serial, first_frame: 0 };
        let encoder = kind.codec.open(format, &options).map_err(|error| {
            self.report(kind.codec, &error);
            Unavailable::Codec(kind.codec, error)
        })?;
        Ok(PrivateEncoder { kind, encoder, _room: room })
    }

    /// Returns whether an encoding is that of requests which choose nothing but the codec.
    fn is_ordinary(&self, kind: Kind, format: StreamFormat) -> bool {
        kind.bitrate == self.kind(kind.codec, None, format).bitrate
    }

    /// Makes room for one more encoder: if as many run as may, an encoding that has no consumers any more ends at once.
    ///
    /// One place is for ordinary encodings, which all listeners of a codec share: a client that asks for one bit rate after the
    /// other does not take all of them.
    fn make_room(&self, running: &mut Vec<Arc<Encoding>>, is_ordinary: bool) -> Result<(), Unavailable> {
        let max = self.settings.encoders().max;
        if max == 0 {
            return Err(Unavailable::Off);
        }
        let most = if is_ordinary { max } else { (max - 1).max(1) };
        loop {
            let count = running.len() as u64 + u64::from(self.private.load(Ordering::Relaxed));
            if count < u64::from(most) {
                return Ok(());
            }
            let unused = running.iter().position(|one| one.consumers() == 0);
            let Some(unused) = unused else {
                let is_full = count >= u64::from(max);
                return Err(if is_full { Unavailable::Full(max) } else { Unavailable::Reserved(most) });
            };
            running.swap_remove(unused).ring.close();
        }
    }

    /// Opens the encoder and allocates the ring.
    fn prepare(
        &self,
        input: &Arc<LiveInput>,
        pcm: &Ring,
        kind: Kind,
        back: u64,
    ) -> Result<EncoderThread, Unavailable> {
        self.make_room(&mut self.running.lock(), self.is_ordinary(kind, pcm.format()))?;
        let reader = pcm.reader(back);
        let names = Options {
            bitrate: kind.bitrate,
            target: if kind.in_ogg { Target::OggListeners } else { Target::Listeners },
            title: "",
            serial: (monotonic_ns() / 1_000_000) as u32,
            first_frame: reader.frame(),
        };
        let format = pcm.format();
        let encoder = kind.codec.open(format, &names).map_err(|error| {
            self.report(kind.codec, &error);
            Unavailable::Codec(kind.codec, error)
        })?;
        let layout = PacketLayout {
            max_frames: encoder.max_packet_frames(),
            max_bytes: encoder.max_packet_bytes(),
            first_frame: reader.frame(),
        };
        let (writer, ring) =
            ring::packets(format, layout, history(pcm, layout)).map_err(Unavailable::Memory)?;
        let encoding = Arc::new(Encoding::new(kind, &input.name, encoder.header(), ring, pcm));
        Ok(EncoderThread::new(encoding, Arc::clone(input), reader, encoder, writer))
    }

    /// Logs, once, that a codec cannot be used.
    fn report(&self, codec: Codec, error: &OpenError) {
        let bit = 1 << Codec::ALL.iter().position(|other| *other == codec).unwrap_or_default();
        if self.reported.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            warn!("{codec} is not available: {error}");
        }
    }
}

/// Returns how much sound a ring of packets keeps.
fn history(pcm: &Ring, layout: PacketLayout) -> Duration {
    let format = pcm.format();
    let packets = MOST_BYTES / layout.max_bytes.max(1) as u64;
    let by_memory = format.duration_of(packets * u64::from(layout.max_frames));
    HISTORY.min(by_memory).max(LEAST_HISTORY)
}

/// Returns the running encoding of that kind as a consumer.
fn find(running: &[Arc<Encoding>], pcm: &Ring, kind: Kind) -> Option<Consumer> {
    let found = running.iter().find(|one| one.is_of(pcm, kind));
    found.cloned().map(Consumer::new)
}
