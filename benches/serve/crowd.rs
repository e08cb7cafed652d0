//! The clients of the benchmark: any number of players in one thread, which check every frame of `synth:ramp`.
//!
//! The players share the machine with the measured server, so they are kept cheap: one `epoll_wait` for all
//! sockets, one `recv` for each readable socket, and one memory comparison with the expected ramp.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::Timespec;

use crate::{FORMAT, FRAME_BYTES, RAMP_FRAMES, ramp};

const RAMP_BYTES: usize = RAMP_FRAMES * FRAME_BYTES;
/// The limit of a WAV header, in bytes. A stream whose header has not ended by then has no header.
const LONGEST_WAV_HEADER: usize = 512;
/// The size of the receive buffer, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// The shortest gap that the report lists individually, with its time.
const LONG_GAP: Duration = Duration::from_millis(150);
/// The shortest `epoll` round of the players' own thread that the report lists.
const LONG_ROUND: Duration = Duration::from_millis(30);
/// The time limit for all players to receive sound.
const PATIENCE: Duration = Duration::from_secs(30);

/// Players that listen to one server.
pub(crate) struct Crowd {
    epoll: OwnedFd,
    players: Vec<Player>,
    /// The ramp, and its beginning again, so that any read can be compared in one piece.
    ramp: Vec<u8>,
    buffer: Vec<u8>,
    clock: Instant,
    heard: Heard,
}

/// The measurements of a crowd over some time.
#[derive(Default)]
pub(crate) struct Heard {
    /// HTTP chunks, over all players; 0 from a server that sends none.
    pub(crate) chunks: u64,
    /// Reads that returned sound, over all players.
    pub(crate) reads: u64,
    /// The longest time in which a player received nothing.
    pub(crate) largest_gap: Duration,
    /// Every gap of at least [`LONG_GAP`].
    pub(crate) gaps: Vec<Gap>,
    /// Rounds over the readable sockets longer than [`LONG_ROUND`], spent in this process.
    pub(crate) rounds: Vec<Gap>,
    /// Frames of the ramp that are missing.
    pub(crate) lost: u64,
    /// Frames that are not of the ramp, or silence in its place.
    pub(crate) wrong: u64,
    /// Streams that ended.
    pub(crate) ended: u64,
    /// For each read, its time minus the due time of its last frame, in seconds. The origin is arbitrary: only
    /// differences between two values mean something.
    arrivals: Vec<f64>,
}

/// An interval without an expected event.
#[derive(Clone, Copy)]
pub(crate) struct Gap {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

impl Gap {
    pub(crate) fn length(&self) -> Duration {
        self.ended - self.began
    }
}

impl Heard {
    /// Returns the `share` quantile of the lateness of all reads, relative to the fastest read.
    pub(crate) fn lateness(&self, share: f64) -> Duration {
        // The ramp gives a frame's time only modulo its own length, so the arrivals are points on a circle. Their
        // spread is far less than half of the circle.
        let circle = RAMP_FRAMES as f64 / f64::from(FORMAT.rate);
        let Some(first) = self.arrivals.first() else { return Duration::ZERO };
        let from_first = |at: &f64| (at - first + circle / 2.0).rem_euclid(circle) - circle / 2.0;
        let mut late: Vec<f64> = self.arrivals.iter().map(from_first).collect();
        late.sort_by(f64::total_cmp);
        let at = ((late.len() as f64 * share).ceil() as usize).clamp(1, late.len()) - 1;
        Duration::from_secs_f64(late[at] - late[0])
    }
}

impl Crowd {
    /// Connects `players` players, one after the other, and waits until all of them receive sound.
    pub(crate) fn new(address: SocketAddr, target: &str, players: usize) -> Crowd {
        let mut crowd = Crowd {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll descriptor"),
            players: Vec::with_capacity(players),
            ramp: ramp(0, RAMP_FRAMES + READ_BYTES / FRAME_BYTES),
            buffer: vec![0; READ_BYTES],
            clock: Instant::now(),
            heard: Heard::default(),
        };
        for number in 0..players {
            let socket = request(address, target);
            socket.set_nonblocking(true).expect("a socket of our own");
            epoll::add(
                &crowd.epoll,
                &socket,
                epoll::EventData::new_u64(number as u64),
                epoll::EventFlags::IN,
            )
            .expect("room for one more");
            crowd.players.push(Player::new(socket));
            // Connected players continue to read while the others connect.
            crowd.listen(Duration::from_millis(1));
        }
        let end = Instant::now() + PATIENCE;
        while crowd.players.iter().any(|player| player.checked.place.is_none()) {
            assert!(Instant::now() < end, "not all of {players} players heard something in {PATIENCE:?}");
            crowd.listen(Duration::from_millis(10));
        }
        crowd
    }

    /// Reads for `time`, and returns the measurements since the previous call.
    pub(crate) fn listen(&mut self, time: Duration) -> Heard {
        let end = Instant::now() + time;
        let mut events = Vec::with_capacity(256);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return std::mem::take(&mut self.heard);
            }
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("epoll_wait: {error}"),
            }
            let began = Instant::now();
            for event in events.drain(..) {
                self.read(event.data.u64() as usize);
            }
            let round = Gap { began, ended: Instant::now() };
            if round.length() > LONG_ROUND {
                self.heard.rounds.push(round);
            }
        }
    }

    fn read(&mut self, number: usize) {
        let Crowd { players, ramp, buffer, heard, .. } = self;
        let player = &mut players[number];
        let bytes = match (&player.socket).read(buffer) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => 0,
        };
        let now = Instant::now();
        if bytes == 0 {
            heard.ended += 1;
            let _ = epoll::delete(&self.epoll, &player.socket);
            return;
        }
        let (chunks, checked) = (player.framing.chunks, &mut player.checked);
        let mut sound = false;
        player.framing.parse(&buffer[..bytes], |bytes| {
            sound = true;
            checked.check(bytes, ramp, heard);
        });
        heard.chunks += player.framing.chunks - chunks;
        if !sound {
            return;
        }
        heard.reads += 1;
        if let Some(last) = player.last_sound.replace(now) {
            heard.largest_gap = heard.largest_gap.max(now - last);
            if now - last >= LONG_GAP {
                heard.gaps.push(Gap { began: last, ended: now });
            }
        }
        if let Some(place) = checked.place {
            let due = (place / FRAME_BYTES) as f64 / f64::from(FORMAT.rate);
            heard.arrivals.push((now - self.clock).as_secs_f64() - due);
        }
    }
}

struct Player {
    socket: TcpStream,
    framing: Framing,
    checked: Checked,
    last_sound: Option<Instant>,
}

impl Player {
    fn new(socket: TcpStream) -> Player {
        Player { socket, framing: Framing::default(), checked: Checked::default(), last_sound: None }
    }
}

/// The position of a player in the ramp.
#[derive(Default)]
struct Checked {
    /// The offset in the ramp of the next expected byte; `None` before the first frame.
    place: Option<usize>,
    /// The bytes of an incomplete frame, or those before the first recognised frame.
    rest: Vec<u8>,
}

impl Checked {
    fn check(&mut self, sound: &[u8], ramp: &[u8], heard: &mut Heard) {
        if self.place.is_none() {
            self.rest.extend_from_slice(sound);
            let Some(at) = first_frame(&self.rest) else { return };
            let sound = self.rest.split_off(at);
            self.rest.clear();
            let value = u16::from_le_bytes([sound[0], sound[1]]);
            self.place = Some(usize::from(value) * FRAME_BYTES);
            return self.check(&sound, ramp, heard);
        }
        if let Some(place) = self.place.filter(|_| self.rest.is_empty()) {
            if sound == &ramp[place..place + sound.len()] {
                self.place = Some((place + sound.len()) % RAMP_BYTES);
                return;
            }
            // The comparison failed: check frame by frame, from the start of the frame that contains `place`.
            let begun = place % FRAME_BYTES;
            self.rest.extend_from_slice(&ramp[place - begun..place]);
            self.place = Some(place - begun);
        }
        self.rest.extend_from_slice(sound);
        let mut frames = self.rest.chunks_exact(FRAME_BYTES);
        for frame in &mut frames {
            let value = u16::from_le_bytes([frame[0], frame[1]]);
            let of_ramp = frame[..2] == frame[2..];
            let expected = self.place.map(|place| (place / FRAME_BYTES) as u16);
            match expected {
                Some(expected) if !of_ramp || (value == 0 && expected != 0) => {
                    heard.wrong += 1;
                    self.place = Some(usize::from(expected) * FRAME_BYTES);
                    continue;
                }
                Some(expected) => heard.lost += u64::from(value.wrapping_sub(expected)),
                None => {}
            }
            self.place = Some(usize::from(value.wrapping_add(1)) * FRAME_BYTES);
        }
        self.rest = frames.remainder().to_vec();
    }
}

/// Returns the offset of the ramp. Some servers start in the middle of a frame, or with silence.
fn first_frame(bytes: &[u8]) -> Option<usize> {
    let value = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let frame = |at: usize| (value(at) == value(at + 2)).then(|| value(at));
    let follows = |at: usize| Some(frame(at + FRAME_BYTES)? == frame(at)?.wrapping_add(1));
    (0..(bytes.len() + 1).saturating_sub(4 * FRAME_BYTES))
        .find(|at| (0..3).all(|frames| follows(at + frames * FRAME_BYTES) == Some(true)))
}

/// A parser that removes the response head, the chunk framing and the WAV header from a stream. Other servers
/// send neither chunks nor a WAV header.
struct Framing {
    head: Vec<u8>,
    chunked: bool,
    part: Part,
    /// The bytes of the WAV header so far; `None` after its end.
    wav_header: Option<Vec<u8>>,
    chunks: u64,
}

impl Default for Framing {
    fn default() -> Framing {
        let (head, part) = (Vec::new(), Part::default());
        Framing { head, chunked: false, part, wav_header: Some(Vec::new()), chunks: 0 }
    }
}

#[derive(Default)]
enum Part {
    /// Status line and header fields.
    #[default]
    Head,
    /// A chunk's size: the value of the digits so far.
    Size(usize),
    /// The bytes of the body that are left.
    Body(usize),
    /// The bytes that are left of the line end after a chunk.
    End(usize),
}

impl Framing {
    /// Parses received bytes and passes the bytes of sound to `sound`.
    fn parse(&mut self, mut bytes: &[u8], mut sound: impl FnMut(&[u8])) {
        while let [first, rest @ ..] = bytes {
            match &mut self.part {
                Part::Head => {
                    self.head.push(*first);
                    bytes = rest;
                    if self.head.ends_with(b"\r\n\r\n") {
                        let status =
                            self.head.starts_with(b"HTTP/1.") && self.head[8..].starts_with(b" 200 ");
                        assert!(status, "the server refused: {}", String::from_utf8_lossy(&self.head));
                        let head = self.head.to_ascii_lowercase();
                        self.chunked = head.windows(26).any(|line| line == b"transfer-encoding: chunked");
                        self.part = if self.chunked { Part::Size(0) } else { Part::Body(usize::MAX) };
                    }
                }
                Part::Size(size) => {
                    bytes = rest;
                    match char::from(*first).to_digit(16) {
                        Some(digit) => *size = *size * 16 + digit as usize,
                        None if *first == b'\n' => {
                            self.chunks += 1;
                            self.part = Part::Body(*size);
                        }
                        None => {}
                    }
                }
                Part::Body(left) => {
                    let (body, rest) = bytes.split_at(bytes.len().min(*left));
                    bytes = rest;
                    *left -= body.len();
                    if *left == 0 {
                        self.part = Part::End(2);
                    }
                    match &mut self.wav_header {
                        None => sound(body),
                        Some(header) => {
                            header.extend_from_slice(body);
                            if let Some(end) = wav_header_end(header) {
                                if end < header.len() {
                                    sound(&header[end..]);
                                }
                                self.wav_header = None;
                            }
                        }
                    }
                }
                Part::End(left) => {
                    bytes = rest;
                    *left -= 1;
                    if *left == 0 {
                        self.part = Part::Size(0);
                    }
                }
            }
        }
    }
}

/// Returns the offset of the sound: the end of the `data` chunk's header, or 0 without a WAV header. Returns `None`
/// while more bytes are needed.
fn wav_header_end(bytes: &[u8]) -> Option<usize> {
    match bytes.len() {
        0..12 => None,
        _ if !bytes.starts_with(b"RIFF") => Some(0),
        _ => {
            let data = bytes.windows(4).position(|word| word == b"data").map(|at| at + 8);
            data.filter(|end| *end <= bytes.len()).or((bytes.len() > LONGEST_WAV_HEADER).then_some(0))
        }
    }
}

fn request(address: SocketAddr, target: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).expect("the server listens");
    socket.set_nodelay(true).expect("a socket of our own");
    // A single write, as players send their requests.
    let text = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: bench\r\n\r\n");
    socket.write_all(text.as_bytes()).expect("the server takes the request");
    socket
}

/// The waiting times of a new player, from before it connects.
pub(crate) struct Start {
    /// The time until the WAV header: the server's time for a request.
    pub(crate) header: Duration,
    /// The time until the first byte of sound.
    pub(crate) sound: Duration,
}

/// Connects one player, and disconnects after its first byte of sound.
pub(crate) fn start(address: SocketAddr, target: &str) -> Start {
    let began = Instant::now();
    let mut socket = request(address, target);
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket of our own");
    let (mut framing, mut header, mut sound) = (Framing::default(), None, None);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let bytes = socket.read(&mut buffer).expect("the stream begins");
        let now = began.elapsed();
        assert!(bytes > 0, "the stream ended before it began");
        framing.parse(&buffer[..bytes], |_| sound = Some(now));
        if framing.wav_header.is_none() {
            header.get_or_insert(now);
        }
        if let (Some(header), Some(sound)) = (header, sound) {
            return Start { header, sound };
        }
    }
}
