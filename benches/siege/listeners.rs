//! Listeners that compare every frame of `synth:ramp`: any number of them in one thread.
//!
//! Frame n of the ramp carries n modulo 65,536 in each of its two 16-bit channels. One read is compared with the
//! expected bytes in one piece; only a read that differs is looked at frame by frame.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::Timespec;

use crate::http::{self, StreamDecoder};
use crate::{FRAME_BYTES, RATE};

/// Frames after which the ramp repeats.
const RAMP_FRAMES: usize = 65_536;
/// Bytes that one read takes at most.
const READ_BYTES: usize = 64 * 1024;
/// Time within which each listener must have received sound. A server that takes longer fails the step.
const FIRST_SOUND: Duration = Duration::from_secs(20);

/// Listeners of one server.
pub(crate) struct Listeners {
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    /// The bytes of the ramp, followed by its beginning, so that any read can be compared in one piece.
    ramp: Vec<u8>,
    buffer: Vec<u8>,
    heard: Heard,
}

/// The figures of all listeners together.
#[derive(Clone, Copy, Default)]
pub(crate) struct Heard {
    /// Frames that were received.
    pub(crate) frames: u64,
    /// Frames of the ramp that are missing, or that differ from the ramp.
    pub(crate) lost: u64,
    /// Listeners whose stream ended.
    pub(crate) disconnected: u64,
    /// The longest time in which a listener received nothing.
    pub(crate) largest_gap: Duration,
}

impl Listeners {
    /// Connects the listeners one after the other and waits until all of them have received sound.
    ///
    /// # Errors
    ///
    /// A sentence: a listener was refused, or did not receive sound in time.
    pub(crate) fn connect(address: SocketAddr, count: usize) -> Result<Listeners, String> {
        let mut all = Listeners {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| format!("epoll: {error}"))?,
            listeners: Vec::with_capacity(count),
            ramp: (0..RAMP_FRAMES + READ_BYTES / FRAME_BYTES).flat_map(ramp_frame).collect(),
            buffer: vec![0; READ_BYTES],
            heard: Heard::default(),
        };
        let connect = || {
            let mut socket = TcpStream::connect(address)?;
            socket.write_all(http::get(address, "/live.wav").as_bytes())?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        for number in 0..count {
            let failed = |error: std::io::Error| format!("listener {number} of {count}: {error}");
            let socket = connect().map_err(failed)?;
            let token = epoll::EventData::new_u64(number as u64);
            epoll::add(&all.epoll, &socket, token, epoll::EventFlags::IN).map_err(|e| failed(e.into()))?;
            all.listeners.push(Listener::new(socket));
            // The listeners that are connected go on reading meanwhile.
            all.listen(Duration::from_millis(1));
        }
        let end = Instant::now() + FIRST_SOUND;
        loop {
            if all.heard.disconnected > 0 {
                return Err(format!("{} of {count} listeners were refused", all.heard.disconnected));
            }
            let silent = all.listeners.iter().filter(|listener| listener.checked.next.is_none()).count();
            match silent {
                0 => return Ok(all),
                _ if Instant::now() > end => {
                    return Err(format!("{silent} of {count} listeners got no sound in {FIRST_SOUND:?}"));
                }
                _ => all.listen(Duration::from_millis(10)),
            }
        }
    }

    /// Reads and compares for this time.
    pub(crate) fn listen(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut events = Vec::with_capacity(256);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("epoll_wait on a descriptor of this process: {error}"),
            }
            for event in events.drain(..) {
                self.read(event.data.u64() as usize);
            }
        }
    }

    /// Reads and compares while another thread runs `work`.
    pub(crate) fn listen_while<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let work = scope.spawn(work);
            while !work.is_finished() {
                self.listen(Duration::from_millis(10));
            }
            work.join().expect("the work does not panic")
        })
    }

    /// Returns the figures since the last call, a gap that still lasts included.
    pub(crate) fn take(&mut self) -> Heard {
        let now = Instant::now();
        let open = self.listeners.iter().filter(|listener| listener.socket.is_some());
        let silent = open.filter_map(|listener| Some(now - listener.last_sound?)).max();
        self.heard.largest_gap = self.heard.largest_gap.max(silent.unwrap_or_default());
        std::mem::take(&mut self.heard)
    }

    fn read(&mut self, number: usize) {
        let Listeners { listeners, ramp, buffer, heard, .. } = self;
        let listener = &mut listeners[number];
        let Some(socket) = &mut listener.socket else { return };
        let count = match socket.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => 0,
        };
        let Listener { decoder, checked, .. } = listener;
        let now = Instant::now();
        let mut has_sound = false;
        let decoded = decoder.decode(&buffer[..count], |sound| {
            has_sound = true;
            checked.check(sound, ramp, now, heard);
        });
        if count == 0 || decoded.is_err() {
            heard.disconnected += 1;
            // Closing the socket removes it from epoll.
            listener.socket = None;
        } else if has_sound {
            if let Some(last) = listener.last_sound.replace(now) {
                heard.largest_gap = heard.largest_gap.max(now - last);
            }
        }
    }
}

fn ramp_frame(number: usize) -> [u8; FRAME_BYTES] {
    let [low, high] = (number as u16).to_le_bytes();
    [low, high, low, high]
}

struct Listener {
    /// `None` when the stream has ended.
    socket: Option<TcpStream>,
    decoder: StreamDecoder,
    checked: Checked,
    last_sound: Option<Instant>,
}

impl Listener {
    fn new(socket: TcpStream) -> Listener {
        Listener {
            socket: Some(socket),
            decoder: StreamDecoder::default(),
            checked: Checked::default(),
            last_sound: None,
        }
    }
}

/// The position of one listener in the ramp.
#[derive(Default)]
struct Checked {
    /// The value that the next frame must carry; `None` before the first frame.
    next: Option<u16>,
    /// The first bytes of a frame whose rest has not come yet.
    partial: Vec<u8>,
    /// The time of the first frame.
    began: Option<Instant>,
    /// Frames until now, the lost ones included.
    position: u64,
    /// Frames that the listener was ahead of the clock at most. The burst at the start puts it ahead.
    lead: f64,
}

impl Checked {
    /// Compares the next bytes of the stream with the ramp.
    fn check(&mut self, mut sound: &[u8], ramp: &[u8], now: Instant, heard: &mut Heard) {
        if !self.partial.is_empty() {
            let (end, rest) = sound.split_at(sound.len().min(FRAME_BYTES - self.partial.len()));
            sound = rest;
            self.partial.extend_from_slice(end);
            if self.partial.len() < FRAME_BYTES {
                return;
            }
            let partial = std::mem::take(&mut self.partial);
            self.check_frame(&partial, now, heard);
        }
        let (whole, partial) = sound.split_at(sound.len() / FRAME_BYTES * FRAME_BYTES);
        let from = self.next.map(|next| usize::from(next) * FRAME_BYTES);
        if from.is_some_and(|from| whole == &ramp[from..from + whole.len()]) {
            let frames = whole.len() / FRAME_BYTES;
            self.next = self.next.map(|next| next.wrapping_add(frames as u16));
            self.position += frames as u64;
            heard.frames += frames as u64;
        } else {
            whole.chunks_exact(FRAME_BYTES).for_each(|frame| self.check_frame(frame, now, heard));
        }
        self.partial.extend_from_slice(partial);
        self.lead = self.lead.max(self.position as f64 - self.clock(now));
    }

    fn check_frame(&mut self, frame: &[u8], now: Instant, heard: &mut Heard) {
        self.began.get_or_insert(now);
        heard.frames += 1;
        self.position += 1;
        let value = u16::from_le_bytes([frame[0], frame[1]]);
        let next = self.next.unwrap_or(value);
        let is_silence = value == 0 && next != 0;
        if frame[..2] != frame[2..] || is_silence {
            heard.lost += 1;
            self.next = Some(next.wrapping_add(1));
            return;
        }
        if value != next {
            let lost = self.lost(value.wrapping_sub(next), now);
            heard.lost += lost;
            self.position += lost;
        }
        self.next = Some(value.wrapping_add(1));
    }

    /// Returns the number of lost frames where the ramp jumps by `jump`. The ramp repeats every 1.5 s, so the clock
    /// decides how many whole ramps are missing besides.
    fn lost(&self, jump: u16, now: Instant) -> u64 {
        let late = self.clock(now) + self.lead - self.position as f64 - f64::from(jump);
        let ramps = (late / RAMP_FRAMES as f64).round().max(0.0) as u64;
        u64::from(jump) + ramps * RAMP_FRAMES as u64
    }

    /// Returns the frames that the input has delivered since this listener's first frame.
    fn clock(&self, now: Instant) -> f64 {
        self.began.map_or(0.0, |began| (now - began).as_secs_f64() * f64::from(RATE))
    }
}
