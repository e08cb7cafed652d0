//! One listener: ring → socket.
//!
//! A listener's thread sends what it begins with (a burst, or sound from some time ago) until it has caught up
//! with the live edge. Then it joins the [fan-out](super::fanout) of those who keep up, where one thread
//! sends for all, and its own ends. It gets another one when it leaves: because the player takes sound too
//! slowly, or went away, or the input ended. What it does costs nobody else anything.
//!
//! # Who is too slow
//!
//! The kernel takes a quarter of a second for a listener that reads too slowly; after that its place in the
//! ring falls behind the live edge. Beyond the limit it goes on at the live edge (or is disconnected, as
//! configured), in whole frames, counted. Who takes not a single byte for ten seconds is disconnected.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use log::{info, warn};
use rustix::net::sockopt;

use super::chunked::{self, Chunk};
use super::fanout::{Delivery, Fanout, Member, Resume};
use super::pacing::{blocks_in, interval};
use super::{Admitted, Listener, Listeners};
use crate::config::WhenBehind;
use crate::inputs::LiveInput;
use crate::media::format::StreamFormat;
use crate::media::ring::{Read, Reader, Ring};
use crate::sys::clock::monotonic_ns;

/// Sound that goes out in one system call, at the most.
const MOST_BYTES: usize = 64 * 1024;
/// A sleeping listener looks this often whether it was told to end.
const NAP: Duration = Duration::from_secs(1);

/// What one listener receives after the head of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Playback {
    /// Whether the body is sent in chunks (RFC 9112 §7.1).
    pub chunked: bool,
    /// Bytes that precede the frames: the WAV header, or the requested part of it.
    pub prefix: Vec<u8>,
    /// Bytes of the first frame to leave out.
    pub skip: usize,
    /// Bytes of sound after the prefix; `None` for an endless stream.
    pub length: Option<u64>,
    /// Bytes that follow the last byte of sound: the pad byte of a WAV file with an odd size, or nothing.
    pub suffix: &'static [u8],
    /// Frame with which the sound begins.
    pub begin: StartAt,
    /// Distance from the live edge, in frames, at which a listener that is too slow goes on. `None` for a file: no
    /// frame of it is left out while the ring still has it.
    pub lag_target: Option<u64>,
}

/// The place in the ring at which a listener starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// This number of frames before the live edge.
    Back(u64),
    /// Exactly this frame, and no other.
    Frame(u64),
}

/// Why a stream ended.
#[derive(Debug)]
pub enum End {
    /// All that was asked for was sent, or the input ended or changed its format.
    Complete,
    /// The player went away.
    Left,
    /// The player took nothing for too long.
    Stalled,
    /// The player was too slow, and the configuration disconnects such.
    TooSlow,
}

/// What comes next for a stream.
#[derive(Debug)]
pub enum Next {
    /// It has nothing left to send: it joins the fan-out.
    KeepsUp,
    /// It ended.
    Ended(End),
}

/// One listener's stream.
pub struct Stream {
    listeners: Arc<Listeners>,
    input: Arc<LiveInput>,
    listener: Admitted,
    reader: Reader,
    format: StreamFormat,
    block_frames: u32,
    plan: Playback,
    low_latency: bool,
    /// Bytes that go out in one system call, at the most.
    capacity: usize,
    fanout: Arc<Fanout>,
    /// Frames it may be behind: what it began with and what is configured.
    allowed_lag: u64,
    warned: bool,
}

impl Stream {
    /// Prepares the socket and the place in the ring.
    pub fn new(
        listeners: &Arc<Listeners>,
        input: Arc<LiveInput>,
        ring: &Ring,
        listener: Admitted,
        mut plan: Playback,
        low_latency: bool,
    ) -> Stream {
        let format = ring.format();
        let settings = listeners.settings.listeners();
        let reader = match plan.begin {
            StartAt::Back(back) => ring.reader(back),
            StartAt::Frame(frame) => ring.reader_at(frame),
        };
        // A young ring has less of the past than was asked for. Who began there must not be sent back later, to
        // hear again what it has heard, each time that it is behind.
        plan.lag_target = plan.lag_target.map(|target| target.min(reader.lag()));
        listener.position.store(reader.frame(), Ordering::Relaxed);
        let block_bytes = ring.block_frames() as usize * format.frame_bytes();
        let interval_bytes = (format.bytes_per_second() / 10) as usize;
        let capacity = interval_bytes.max(block_bytes).min(MOST_BYTES).max(format.frame_bytes());
        bound_kernel_queue(listener.socket(), format, settings.send_buffer, settings.stall_timeout);
        let allowed_lag = match plan.lag_target {
            Some(_) => reader.lag() + format.frames_in(settings.max_lag),
            None => u64::MAX,
        };
        Stream {
            listeners: Arc::clone(listeners),
            input,
            listener,
            format,
            block_frames: ring.block_frames(),
            reader,
            plan,
            low_latency,
            capacity,
            fanout: listeners.fanouts.of(ring, low_latency),
            allowed_lag,
            warned: false,
        }
    }

    /// Sends from the beginning on, and leaves the socket shut down or about to be by its caller if it ended.
    pub fn run(&mut self) -> Next {
        if matches!(self.plan.begin, StartAt::Frame(frame) if frame != self.reader.frame()) {
            return Next::Ended(End::TooSlow);
        }
        let sent = self.send_all();
        self.next(sent)
    }

    /// Goes on from where the fan-out has brought it.
    pub fn go_on(&mut self, delivery: Delivery) -> Next {
        self.reader = delivery.reader;
        if delivery.failed {
            return Next::Ended(End::Left);
        }
        let sent = self.listener.socket().write_all(&delivery.unsent).and_then(|()| self.send_all());
        self.next(sent)
    }

    fn next(&self, sent: io::Result<Next>) -> Next {
        sent.unwrap_or_else(|error| {
            Next::Ended(match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => End::Stalled,
                _ => End::Left,
            })
        })
    }

    /// The fan-out that it joins, and what makes it a member, given what is to go on when it leaves.
    pub fn member<R: Resume + 'static>(&self) -> (Arc<Fanout>, impl FnOnce(R) -> Member + use<R>) {
        let (listener, delivery) = (self.listener.shared(), Delivery::from(self.reader.clone()));
        let chunked = self.plan.chunked;
        let member = move |stream| Member { listener, chunked, delivery, stream: Box::new(stream) };
        (Arc::clone(&self.fanout), member)
    }

    /// Who listens.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Index in the ring of the frame that comes next.
    pub fn frame(&self) -> u64 {
        self.reader.frame()
    }

    fn send_all(&mut self) -> io::Result<Next> {
        let mut chunk = Chunk::new(self.capacity);
        chunk.push(&std::mem::take(&mut self.plan.prefix));
        let (began, mut captured_at) = (monotonic_ns(), None);
        let frame_bytes = self.format.frame_bytes();
        loop {
            if self.listener.has_ended() {
                return Ok(Next::Ended(End::Left));
            }
            let room = self.allowed(chunk.room());
            let read = if room.len() < frame_bytes { Read::Nothing } else { self.reader.read(room) };
            match read {
                Read::Block { frames, captured_at: at } => {
                    self.take(&mut chunk, frames * frame_bytes);
                    self.listener.sent.fetch_add(frames as u64, Ordering::Relaxed);
                    captured_at = Some(at);
                }
                Read::Lapped { lost } => {
                    self.skipped(lost);
                    if let StartAt::Frame(_) = self.plan.begin {
                        // A file with a hole would look whole; one that was cut is fetched again.
                        return Ok(Next::Ended(End::TooSlow));
                    }
                    if let Some(end) = self.keep_up() {
                        return Ok(Next::Ended(end));
                    }
                }
                Read::Nothing if chunk.len() > 0 => {
                    self.send(&mut chunk)?;
                    // Only sound from after the request: what was kept for a burst is old on purpose.
                    if let Some(at) = captured_at.take().filter(|at| *at > began) {
                        self.listener.latency.note(Duration::from_nanos(monotonic_ns().saturating_sub(at)));
                    }
                    if let Some(end) = self.keep_up() {
                        return Ok(Next::Ended(end));
                    }
                }
                Read::Nothing if self.plan.length == Some(0) => {
                    self.listener.socket().write_all(self.plan.suffix)?;
                    return self.finish();
                }
                // A recording goes its own way to its end, and so does a frame that has to be cut.
                Read::Nothing if self.plan.length.is_some() || self.plan.skip > 0 => self.sleep(),
                Read::Nothing => return Ok(Next::KeepsUp),
                Read::End => {
                    self.send(&mut chunk)?;
                    if !self.move_on() {
                        return self.finish();
                    }
                }
            }
        }
    }

    /// The part of the room that the plan allows to be used: up to the end of the last frame, the rest of
    /// which is cut off when it was read.
    fn allowed<'r>(&self, room: &'r mut [u8]) -> &'r mut [u8] {
        let frame_bytes = self.format.frame_bytes();
        let allowed = self.plan.length.map_or(usize::MAX, |length| {
            let frames = usize::try_from(length.div_ceil(frame_bytes as u64)).unwrap_or(usize::MAX);
            frames.saturating_mul(frame_bytes)
        });
        let length = room.len().min(allowed);
        &mut room[..length]
    }

    /// Counts so many bytes that were read into the chunk's room, without what the plan leaves out.
    fn take(&mut self, chunk: &mut Chunk, mut bytes: usize) {
        if self.plan.skip > 0 {
            chunk.room()[..bytes].copy_within(self.plan.skip.., 0);
            bytes -= std::mem::take(&mut self.plan.skip);
        }
        if let Some(length) = &mut self.plan.length {
            bytes = bytes.min(usize::try_from(*length).unwrap_or(usize::MAX));
            *length -= bytes as u64;
        }
        chunk.add(bytes);
    }

    /// Sends the chunk and empties it. The time limit is the socket's: each write that brings no progress for
    /// so long fails.
    fn send(&mut self, chunk: &mut Chunk) -> io::Result<()> {
        self.listener.socket().write_all(chunk.bytes(self.plan.chunked))?;
        chunk.clear();
        Ok(())
    }

    fn finish(&mut self) -> io::Result<Next> {
        if self.plan.chunked {
            self.listener.socket().write_all(chunked::LAST)?;
        }
        Ok(Next::Ended(End::Complete))
    }

    /// Looks how far it is behind, and does what is configured for one that is too far.
    fn keep_up(&mut self) -> Option<End> {
        let lag = self.reader.lag();
        self.listener.position.store(self.reader.frame(), Ordering::Relaxed);
        let target = self.plan.lag_target.filter(|_| lag > self.allowed_lag)?;
        if self.listeners.settings.listeners().when_behind == WhenBehind::Disconnect {
            return Some(End::TooSlow);
        }
        let lost = self.reader.seek(target);
        self.listener.position.store(self.reader.frame(), Ordering::Relaxed);
        self.skipped(lost);
        None
    }

    fn skipped(&mut self, frames: u64) {
        self.listener.skipped.fetch_add(frames, Ordering::Relaxed);
        // Once: the sum is in the line that says that it left, and in the state meanwhile.
        if !std::mem::replace(&mut self.warned, true) {
            warn!(
                "{}: {} ({}) takes sound too slowly: {} frames ({:.1} s) were left out for it",
                self.input.name,
                shown(self.listener.address),
                self.listener.player,
                frames,
                self.format.duration_of(frames).as_secs_f64()
            );
        }
    }

    /// Sleeps until there is as much as an interval brings.
    fn sleep(&mut self) {
        let interval = if self.low_latency { Duration::ZERO } else { interval(&self.listeners) };
        self.listener.interval_us.store(interval.as_micros() as u32, Ordering::Relaxed);
        let blocks = blocks_in(interval, self.format, self.block_frames);
        self.reader.wait(self.reader.place().block + blocks - 1, NAP);
    }

    /// Goes on with the input's next ring, if there is one with the same format: when the configuration was
    /// read again, or the capture thread began anew.
    fn move_on(&mut self) -> bool {
        match self.input.ring() {
            Some(ring) if !ring.is_closed() && ring.format() == self.format => {
                self.block_frames = ring.block_frames();
                self.fanout = self.listeners.fanouts.of(&ring, self.low_latency);
                self.reader = ring.reader(self.plan.lag_target.unwrap_or(0));
                true
            }
            _ => false,
        }
    }
}

/// Bounds what waits in the kernel for a slow player, and how long a send may wait for one.
fn bound_kernel_queue(socket: &TcpStream, format: StreamFormat, sound: Duration, stall: Duration) {
    let bytes = format.frames_in(sound) as usize * format.frame_bytes();
    // The kernel doubles what it is told, for its own bookkeeping, which takes about as much again. Errors
    // can only come from a socket that is gone, which the first send finds out.
    let _ = sockopt::set_socket_send_buffer_size(socket, bytes.max(4096));
    let _ = socket.set_write_timeout(Some(stall));
    let _ = sockopt::set_tcp_user_timeout(socket, stall.as_millis() as u32);
    let _ = socket.set_nodelay(true);
}

/// An address without the port, and an IPv4 one as such even where the socket is one for both.
pub fn shown(address: std::net::SocketAddr) -> std::net::IpAddr {
    address.ip().to_canonical()
}

/// Says that a listener came.
pub fn log_start(listener: &Listener) {
    info!("{}: {} ({}) listens", listener.input, shown(listener.address), listener.player);
}

/// Says that a listener left, and why.
pub fn log_end(listener: &Listener, end: &End) {
    let how = match end {
        End::Complete => "heard it to the end",
        End::Left => "left",
        End::Stalled => "took nothing for too long and was disconnected",
        End::TooSlow => "was too slow and was disconnected",
    };
    let skipped = match listener.skipped.load(Ordering::Relaxed) {
        0 => String::new(),
        frames => format!(", {frames} frames left out"),
    };
    info!(
        "{}: {} ({}) {how} after {:.0} s{skipped}",
        listener.input,
        shown(listener.address),
        listener.player,
        listener.since.elapsed().as_secs_f64()
    );
}
