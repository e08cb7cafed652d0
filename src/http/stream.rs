//! One listener: ring → socket.
//!
//! A listener's thread sleeps until a block is there that it is due for, takes everything that has come in
//! since, and hands it to the kernel in one piece: chunk head, sound and chunk end in a single system call.
//! It allocates nothing once it runs, holds no lock, and what it does costs nobody else anything.
//!
//! # How often
//!
//! What a listener costs is wake-ups and sends, not bytes. So all ordinary listeners share a budget of
//! [`SENDS_PER_SECOND`]: few of them get every block as it comes, many get some blocks at a time, up to
//! [`LONGEST_INTERVAL`]. A low-latency listener gets every block at once, always.
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

use super::listeners::Admitted;
use super::plan::Plan;
use crate::audio::format::StreamFormat;
use crate::audio::input::LiveInput;
use crate::config::{Interval, WhenBehind};
use crate::hub::Hub;
use crate::os::monotonic_ns;
use crate::ring::{Read, Reader, Ring};

/// How many sends all ordinary listeners together make in a second, as long as that leaves none waiting for
/// longer than [`LONGEST_INTERVAL`].
pub const SENDS_PER_SECOND: u32 = 2000;
/// The longest that an ordinary listener waits for sound.
pub const LONGEST_INTERVAL: Duration = Duration::from_millis(100);

/// Sound that goes out in one system call, at the most.
const MOST_BYTES: usize = 64 * 1024;
/// Room for the size of a chunk: eight hexadecimal digits and a line end.
const CHUNK_HEAD: usize = 10;
const CHUNK_END: &[u8] = b"\r\n";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// A sleeping listener looks this often whether it was told to end.
const NAP: Duration = Duration::from_secs(1);

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

/// One listener's stream.
pub struct Stream<'a> {
    hub: &'a Hub,
    input: &'a LiveInput,
    listener: &'a Admitted,
    socket: &'a TcpStream,
    reader: Reader,
    format: StreamFormat,
    block_frames: u32,
    plan: Plan,
    low_latency: bool,
    /// Chunk head, sound, chunk end.
    buffer: Vec<u8>,
    /// Frames it may be behind: what it began with and what is configured.
    allowed_lag: u64,
    warned: bool,
}

impl<'a> Stream<'a> {
    /// Prepares the socket and the place in the ring.
    pub fn new(
        hub: &'a Hub,
        input: &'a Arc<LiveInput>,
        ring: &Ring,
        listener: &'a Admitted,
        socket: &'a TcpStream,
        mut plan: Plan,
        low_latency: bool,
    ) -> Stream<'a> {
        let format = ring.format();
        let settings = hub.settings();
        let reader = ring.reader(plan.back);
        // A young ring has less of the past than was asked for. Who began there must not be sent back later, to
        // hear again what it has heard, each time that it is behind.
        plan.lag_target = plan.lag_target.map(|target| target.min(reader.lag()));
        listener.position.store(reader.frame(), Ordering::Relaxed);
        let block_bytes = ring.block_frames() as usize * format.frame_bytes();
        let interval_bytes = (format.bytes_per_second() / 10) as usize;
        let capacity = interval_bytes.max(block_bytes).min(MOST_BYTES).max(format.frame_bytes());
        bound_kernel_queue(socket, format, settings.send_buffer, settings.stall_timeout);
        let allowed_lag = match plan.lag_target {
            Some(_) => reader.lag() + format.frames_in(settings.max_lag),
            None => u64::MAX,
        };
        Stream {
            hub,
            input,
            listener,
            socket,
            format,
            block_frames: ring.block_frames(),
            reader,
            plan,
            low_latency,
            buffer: vec![0; CHUNK_HEAD + capacity + CHUNK_END.len()],
            allowed_lag,
            warned: false,
        }
    }

    /// Sends until the end, whichever it is, and leaves the socket shut down or about to be by its caller.
    pub fn run(&mut self) -> End {
        match self.send_all() {
            Ok(end) => end,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                End::Stalled
            }
            Err(_) => End::Left,
        }
    }

    fn send_all(&mut self) -> io::Result<End> {
        let prefix = std::mem::take(&mut self.plan.prefix);
        let mut filled = prefix.len();
        self.room()[..filled].copy_from_slice(&prefix);
        let (began, mut captured_at) = (monotonic_ns(), None);
        let mut left_out = self.plan.skip;
        // Whether this listener is due: at first, and whenever it has slept.
        let mut due = true;
        loop {
            if self.listener.has_ended() {
                return Ok(End::Left);
            }
            // What the plan still allows, rounded up to the frame; the rest of a last frame is cut below.
            let frame_bytes = self.format.frame_bytes();
            let allowed = self.plan.length.map_or(usize::MAX, |length| {
                usize::try_from(length.div_ceil(frame_bytes as u64)).map_or(usize::MAX, |f| f * frame_bytes)
            });
            let capacity = self.room().len();
            let until = capacity.min(filled.saturating_add(allowed));
            let full = until < filled + frame_bytes;
            let read = match due && !full {
                false => Read::Nothing,
                true => {
                    let room = &mut self.buffer[CHUNK_HEAD..][filled..until];
                    self.reader.read(room)
                }
            };
            match read {
                Read::Block { frames, captured_at: at } => {
                    let mut bytes = frames * frame_bytes;
                    if left_out > 0 {
                        let sound = filled..filled + bytes;
                        self.room()[sound].copy_within(left_out.., 0);
                        bytes -= std::mem::take(&mut left_out);
                    }
                    if let Some(length) = &mut self.plan.length {
                        bytes = bytes.min(usize::try_from(*length).unwrap_or(usize::MAX));
                        *length -= bytes as u64;
                    }
                    self.listener.sent.fetch_add(frames as u64, Ordering::Relaxed);
                    filled += bytes;
                    captured_at = Some(at);
                }
                Read::Lapped { lost } => {
                    self.skipped(lost);
                    if let Some(end) = self.keep_up() {
                        return Ok(end);
                    }
                }
                Read::Nothing if filled > 0 => {
                    self.send(filled)?;
                    // What came in meanwhile waits for its turn too: a send of its own would cost as much.
                    (filled, due) = (0, false);
                    // Only sound from after the request: what was kept for a burst is old on purpose.
                    if let Some(at) = captured_at.take().filter(|at| *at > began) {
                        self.listener.latency.note(Duration::from_nanos(monotonic_ns().saturating_sub(at)));
                    }
                    if let Some(end) = self.keep_up() {
                        return Ok(end);
                    }
                }
                Read::Nothing if self.plan.length == Some(0) => return self.finish(),
                Read::Nothing => {
                    self.sleep();
                    due = true;
                }
                Read::End => {
                    self.send(filled)?;
                    filled = 0;
                    if !self.move_on() {
                        return self.finish();
                    }
                }
            }
        }
    }

    /// The part of the buffer that sound goes into.
    fn room(&mut self) -> &mut [u8] {
        let end = self.buffer.len() - CHUNK_END.len();
        &mut self.buffer[CHUNK_HEAD..end]
    }

    /// Sends so many bytes from the beginning of [`room`](Self::room) with one system call, unless the kernel
    /// takes only a part of them.
    fn send(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let (mut from, mut to) = (CHUNK_HEAD, CHUNK_HEAD + bytes);
        if self.plan.chunked {
            self.buffer[to..to + CHUNK_END.len()].copy_from_slice(CHUNK_END);
            to += CHUNK_END.len();
            from = put_chunk_head(&mut self.buffer[..CHUNK_HEAD], bytes);
        }
        // The time limit is the socket's: each write that brings no progress for so long fails.
        (&mut &*self.socket).write_all(&self.buffer[from..to])
    }

    fn finish(&mut self) -> io::Result<End> {
        if self.plan.chunked {
            (&mut &*self.socket).write_all(LAST_CHUNK)?;
        }
        Ok(End::Complete)
    }

    /// Looks how far it is behind, and does what is configured for one that is too far.
    fn keep_up(&mut self) -> Option<End> {
        let lag = self.reader.lag();
        self.listener.position.store(self.reader.frame(), Ordering::Relaxed);
        let target = self.plan.lag_target.filter(|_| lag > self.allowed_lag)?;
        if self.hub.settings().when_behind == WhenBehind::Disconnect {
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

    /// Sleeps until this listener is due, which is at once if that was before what it has been sent until now.
    fn sleep(&mut self) {
        let interval = self.interval();
        self.listener.interval_us.store(interval.as_micros() as u32, Ordering::Relaxed);
        let block = self.format.duration_of(self.block_frames.into());
        let blocks = (interval.as_nanos() / block.as_nanos().max(1)).max(1) as u64;
        // The next block, from its own place on, whose number is this listener's own modulo the interval: so
        // a thousand listeners are not all due at the same block.
        let next = self.reader.block();
        let due = next + (blocks - 1 - (next + self.listener.id) % blocks);
        self.reader.wait(due, NAP);
    }

    fn interval(&self) -> Duration {
        if self.low_latency {
            return Duration::ZERO;
        }
        match self.hub.interval() {
            Interval::Every(interval) => interval,
            Interval::Auto => {
                let share = Duration::from_secs(1) / SENDS_PER_SECOND;
                let listeners = self.hub.listeners.count() as u32;
                (share * listeners).min(LONGEST_INTERVAL)
            }
        }
    }

    /// Goes on with the input's next ring, if there is one with the same format: when the configuration was
    /// read again, or the capture thread began anew.
    fn move_on(&mut self) -> bool {
        match self.input.ring() {
            Some(ring) if !ring.is_closed() && ring.format() == self.format => {
                self.block_frames = ring.block_frames();
                self.reader = ring.reader(self.plan.lag_target.unwrap_or(0));
                true
            }
            _ => false,
        }
    }
}

/// Writes a chunk's size so that it ends where the sound begins, and returns where it begins.
fn put_chunk_head(head: &mut [u8], bytes: usize) -> usize {
    let mut at = head.len() - 2;
    head[at..].copy_from_slice(b"\r\n");
    let mut rest = bytes;
    loop {
        at -= 1;
        head[at] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
        if rest == 0 {
            return at;
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
pub fn log_start(listener: &Admitted) {
    info!("{}: {} ({}) listens", listener.input, shown(listener.address), listener.player);
}

/// Says that a listener left, and why.
pub fn log_end(listener: &Admitted, end: &End) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_head_ends_where_the_sound_begins() {
        for (bytes, text) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (65_536, "10000\r\n")] {
            let mut head = [b'.'; CHUNK_HEAD];
            let at = put_chunk_head(&mut head, bytes);
            assert_eq!(&head[at..], text.as_bytes());
        }
    }
}
