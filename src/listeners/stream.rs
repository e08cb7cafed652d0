//! One listener's stream: its body, its place in the ring, and its end.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use log::{info, warn};
use rustix::net::sockopt;

use super::icy::Icy;
use super::list::{Admitted, Coding, Listener};
use super::own_encoder::OwnEncoder;
use crate::encode::Consumer;
use crate::inputs::LiveInput;
use crate::media::ring::{Reader, Ring};
use crate::settings::Settings;

/// The least send buffer in bytes, for formats of which 250 ms are next to nothing.
const LEAST_SEND_BUFFER: usize = 4096;

/// The body of a response: what one listener receives after the head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Playback {
    /// True to send the body in chunks (RFC 9112 §7.1).
    pub chunked: bool,
    /// Bytes before the sound: the WAV header, or the requested part of it.
    pub prefix: Vec<u8>,
    /// Bytes of the first frame to leave out.
    pub skip: usize,
    /// Bytes of sound after the prefix; `None` for an endless stream.
    pub length: Option<u64>,
    /// Bytes after the sound, if it has a length: the pad byte of a WAV file.
    pub suffix: &'static [u8],
    /// Frame with which the sound begins.
    pub begin: StartAt,
    /// Title for ICY metadata between the bytes; `None` for a client that did not ask for it.
    pub icy: Option<String>,
    /// Distance from the live edge, in frames, at which a listener that is too slow goes on. `None` for a file: no
    /// frame of a file is left out while the ring still has it.
    pub lag_target: Option<u64>,
}

/// The origin of a stream.
pub struct StreamSource {
    /// The input.
    pub input: Arc<LiveInput>,
    /// The input's ring, or the ring of packets of an encoding.
    pub ring: Ring,
    /// The coding of the sound.
    pub sound: Sound,
}

/// The coding of a stream's sound.
pub enum Sound {
    /// PCM, as it is in the ring.
    Pcm,
    /// Packets of an encoding that many listeners share; the ring is the encoding's.
    Packets(Consumer),
    /// PCM of the ring, encoded for this listener alone.
    Encoded(Box<OwnEncoder>),
}

impl Sound {
    /// Returns codec, bit rate and encoding, as the list of listeners has them.
    pub fn coding(&self) -> Option<Coding> {
        match self {
            Sound::Pcm => None,
            Sound::Packets(consumer) => {
                let encoding = Arc::clone(consumer.encoding());
                Some(Coding { kind: encoding.kind, shared: Some(encoding) })
            }
            Sound::Encoded(encoder) => Some(Coding { kind: encoder.kind(), shared: None }),
        }
    }
}

/// The place in the ring at which a listener starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// This number of frames before the live edge, or the oldest frame in the ring.
    Back(u64),
    /// Exactly this frame, and no other.
    Frame(u64),
}

impl Default for StartAt {
    fn default() -> StartAt {
        StartAt::Back(0)
    }
}

/// The reason for the end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All that was asked for was sent, or the input ended or changed its format.
    Complete,
    /// The client ended the connection.
    Left,
    /// The client accepted no data for too long.
    Stalled,
    /// The listener was too slow, and the configuration disconnects such listeners.
    TooSlow,
    /// Another thread [cut](Listener::cut) the listener.
    Cut,
    /// The listener's own encoder failed.
    EncoderFailed,
}

/// Bytes that a send did not take.
#[derive(Default)]
pub(super) struct Unsent {
    /// The rest of the send, chunk framing included.
    pub(super) bytes: Vec<u8>,
    /// Frames that the whole send contains. They count as sent with the last byte.
    pub(super) frames: u64,
}

/// A listener and its place in a ring.
///
/// One thread at a time owns the stream: a thread "listener" while the stream [catches up](super::catch_up), the
/// [fan-out](super::fanout) of its ring while it is at the live edge. When the stream is dropped, the connection ends.
pub(super) struct Stream {
    pub(super) settings: Arc<Settings>,
    pub(super) input: Arc<LiveInput>,
    pub(super) listener: Admitted,
    pub(super) ring: Ring,
    pub(super) sound: Sound,
    pub(super) icy: Option<Box<Icy>>,
    pub(super) reader: Reader,
    pub(super) playback: Playback,
    pub(super) low_latency: bool,
    /// Head of the response, until the first bytes of the body are sent with it.
    pub(super) head: Vec<u8>,
    /// The rest of a send of the fan-out. It must go out before anything else.
    pub(super) unsent: Unsent,
    /// The end that the fan-out found in a send.
    pub(super) failure: Option<End>,
    /// Distance from the live edge at the start, in frames.
    pub(super) initial_lag: u64,
    /// True once the log has a line about skipped frames.
    warned: bool,
    /// True if the log gets a line for the start and one for the end.
    logged: bool,
    is_started: bool,
}

impl Stream {
    /// See [`ActiveStream::new`](super::ActiveStream::new).
    pub(super) fn new(
        settings: Arc<Settings>,
        source: StreamSource,
        listener: Admitted,
        mut playback: Playback,
        low_latency: bool,
        logged: bool,
    ) -> Stream {
        let StreamSource { input, ring, sound } = source;
        let reader = match playback.begin {
            StartAt::Back(back) => ring.reader(back),
            StartAt::Frame(frame) => ring.reader_at(frame),
        };
        // A young ring has less of the past than was asked for. A listener that began at its oldest frame must not be
        // sent back later, each time that it is too slow, to sound that it has already.
        let initial_lag = match (&sound, playback.begin) {
            // An encoder that starts with its first listener encodes the listener's burst only now.
            (Sound::Packets(_), StartAt::Back(back)) => reader.lag().max(back),
            _ => reader.lag(),
        };
        playback.lag_target = playback.lag_target.map(|target| target.min(initial_lag));
        listener.position.store(reader.frame(), Ordering::Relaxed);
        let table = settings.listeners();
        let bytes_per_second = match &sound {
            Sound::Pcm => ring.format().bytes_per_second(),
            Sound::Packets(consumer) => consumer.encoding().kind.bytes_per_second(ring.format()),
            Sound::Encoded(encoder) => encoder.kind().bytes_per_second(ring.format()),
        };
        let queue = (bytes_per_second as f64 * table.send_buffer.as_secs_f64()) as usize;
        bound_kernel_queue(listener.socket(), queue, table.stall_timeout);
        let icy = playback.icy.as_deref().map(|title| Box::new(Icy::new(title)));
        Stream {
            settings,
            input,
            listener,
            ring,
            sound,
            icy,
            reader,
            playback,
            low_latency,
            head: Vec::new(),
            unsent: Unsent::default(),
            failure: None,
            initial_lag,
            warned: false,
            logged,
            is_started: false,
        }
    }

    /// Logs the start of the stream, once.
    pub(super) fn log_start(&mut self) {
        if self.logged && !std::mem::replace(&mut self.is_started, true) {
            let Listener { input, player, .. } = &*self.listener;
            let coding = self.listener.coding.as_ref().map(|coding| format!(" to {}", coding.kind));
            info!("{input}: {} ({player}) listens{}", self.listener.ip(), coding.unwrap_or_default());
        }
    }

    /// Logs the end and ends the connection after the bytes that the kernel has accepted.
    pub(super) fn end(self: Box<Self>, end: End) {
        if self.logged {
            log_end(&self.listener, end);
        }
    }

    /// Returns the reason for the end of a stream whose send failed.
    pub(super) fn end_of(&self, error: &io::Error) -> End {
        match error.kind() {
            _ if self.listener.is_cut() => End::Cut,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => End::Stalled,
            _ => End::Left,
        }
    }

    /// Counts frames that the listener will never get.
    pub(super) fn record_skip(&mut self, frames: u64) {
        self.listener.skipped.fetch_add(frames, Ordering::Relaxed);
        // Once for each listener: the sum is in the line about its end, and in the status until then.
        if !std::mem::replace(&mut self.warned, true) {
            warn!(
                "{}: {} ({}) is too slow: {} frames ({:.1} s) skipped",
                self.input.name,
                self.listener.ip(),
                self.listener.player,
                frames,
                self.ring.format().duration_of(frames).as_secs_f64()
            );
        }
    }
}

/// Bounds the bytes that wait in the kernel for a slow client, and the time that a send waits for one.
fn bound_kernel_queue(socket: &TcpStream, bytes: usize, stall: Duration) {
    // The kernel doubles the size for its own bookkeeping, which needs about as much again. Errors can only come from a
    // socket that is gone, which the first send reports.
    let _ = sockopt::set_socket_send_buffer_size(socket, bytes.max(LEAST_SEND_BUFFER));
    let _ = socket.set_write_timeout(Some(stall));
    let _ = sockopt::set_tcp_user_timeout(socket, stall.as_millis() as u32);
    let _ = socket.set_nodelay(true);
}

/// Logs the end of a stream and its reason.
fn log_end(listener: &Listener, end: End) {
    let reason = match end {
        End::Complete => "reached the end of the stream",
        End::Left => "left",
        End::Stalled => "accepted no data for too long and was disconnected",
        End::TooSlow => "was too slow and was disconnected",
        End::Cut => "was disconnected",
        End::EncoderFailed => "was disconnected, since its encoder failed,",
    };
    let skipped = match listener.skipped.load(Ordering::Relaxed) {
        0 => String::new(),
        frames => format!(", {frames} frames skipped"),
    };
    info!(
        "{}: {} ({}) {reason} after {:.0} s{skipped}",
        listener.input,
        listener.ip(),
        listener.player,
        listener.since.elapsed().as_secs_f64()
    );
}
