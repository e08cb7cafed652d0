//! All who keep up are served by one thread.
//!
//! What a listener costs is not its bytes but the waking of its thread, about three times what its send costs,
//! and the memory of a thread that sleeps. So a listener that has caught up with the live edge gets on a convoy and
//! its thread ends, all but the first one's: that drives. At each block the driver makes the round, and sends to
//! those that are due what has come in since, without ever waiting for one of them. As nearly all of them are at
//! the same place, it copies that out of the ring once.
//!
//! Who does not take all of it at once gets off: it gets a thread again, waits with it, catches up or skips
//! ([`stream`](super::stream) does that), and gets on again when there is nothing left to send. Who is slow so
//! costs its own thread's time and nobody else's. The driver ends when nobody is on board.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::chunk::Chunk;
use super::listeners::Listener;
use super::own_thread;
use super::stream::blocks_in;
use crate::hub::Hub;
use crate::os::monotonic_ns;
use crate::ring::{Place, Read, Reader, Ring};

/// The driver's buffer: more than the longest interval brings in nearly every format.
const BUFFER: usize = 64 * 1024;
/// So many are due at the same block before another block is used too: a wake-up costs as much as some sends,
/// but the last one of a thousand would hear of a block too late.
const GROUP: usize = 64;
/// The driver looks this often whether something is wrong with the ring.
const NAP: Duration = Duration::from_secs(1);
/// Where there was no thread for those who got off, it is tried again after this.
const RETRY: Duration = Duration::from_millis(20);

/// Has the driver panic when it serves a player of that name.
#[cfg(test)]
pub(super) static PANICS: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// The convoys there are: for each ring that somebody listens to one of ordinary listeners and one of
/// low-latency ones, so that all in a convoy are served equally often.
#[derive(Default)]
pub struct Convoys(Mutex<Vec<Weak<Convoy>>>);

impl Convoys {
    /// The convoy of those listeners of that ring.
    pub fn of(&self, ring: &Ring, low_latency: bool) -> Arc<Convoy> {
        let mut convoys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = convoys
            .iter()
            .filter_map(Weak::upgrade)
            .find(|convoy| convoy.ring.is(ring) && convoy.low_latency == low_latency);
        found.unwrap_or_else(|| {
            let stop = Mutex::new(Stop { driven: false, waiting: Vec::new() });
            let convoy = Arc::new(Convoy { ring: ring.clone(), low_latency, stop });
            convoys.retain(|convoy| convoy.strong_count() > 0);
            convoys.push(Arc::downgrade(&convoy));
            convoy
        })
    }
}

/// The listeners of one ring that keep up.
pub struct Convoy {
    ring: Ring,
    low_latency: bool,
    stop: Mutex<Stop>,
}

/// Where listeners get on.
struct Stop {
    /// Whether somebody drives.
    driven: bool,
    /// Those who came since the last round.
    waiting: Vec<Seat>,
}

/// What gets on, and off again.
pub trait Passenger: Send {
    /// Goes on from where the convoy has brought it, in a thread of its own.
    fn get_off(self: Box<Self>, ride: Ride);
}

/// A listener on board.
pub struct Seat {
    /// Whom it is sent to.
    pub listener: Arc<Listener>,
    /// Whether in chunks.
    pub chunked: bool,
    /// Where it is.
    pub ride: Ride,
    /// Who goes on when it gets off. Dropped without that only after a panic, when its connection was cut.
    pub passenger: Box<dyn Passenger>,
}

/// Where a listener is, and what is left of what should have been sent to it.
pub struct Ride {
    /// Its place in the ring.
    pub reader: Reader,
    /// Bytes that must go out before anything else, chunk framing included.
    pub unsent: Vec<u8>,
    /// Whether its connection failed.
    pub failed: bool,
}

impl Ride {
    /// Of one who has nothing left to send.
    pub fn from(reader: Reader) -> Ride {
        Ride { reader, unsent: Vec::new(), failed: false }
    }
}

impl Convoy {
    /// Takes a listener on board that has nothing left to send. It gets off when a send did not take everything,
    /// its connection failed, it was lapped, or the ring was closed.
    ///
    /// Returns at once or, if nobody drives, when everybody has got off.
    pub fn board(&self, hub: &Hub, seat: Seat) {
        let mut stop = self.lock();
        stop.waiting.push(seat);
        if !std::mem::replace(&mut stop.driven, true) {
            drop(stop);
            Driver::new(self, hub).drive();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stop> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who makes the rounds.
struct Driver<'a> {
    convoy: &'a Convoy,
    hub: &'a Hub,
    seats: Vec<Seat>,
    /// The one that is being served.
    at: usize,
    /// Those who got off where there was no thread for them.
    stranded: Vec<Seat>,
    parcel: Parcel,
    /// At the last round, everybody was due at one block in so many, and there were so many groups.
    every: u64,
    groups: u64,
}

/// What is sent: what lies between two places of the ring, ready to go.
struct Parcel {
    chunk: Chunk,
    from: u64,
    to: Place,
    frames: u64,
    captured_at: u64,
    /// Whether it reaches to the live edge.
    is_all: bool,
}

impl<'a> Driver<'a> {
    fn new(convoy: &'a Convoy, hub: &'a Hub) -> Driver<'a> {
        let ring = &convoy.ring;
        let parcel = Parcel {
            chunk: Chunk::new(BUFFER.max(ring.format().frame_bytes())),
            from: u64::MAX,
            to: ring.reader(0).place(),
            frames: 0,
            captured_at: 0,
            is_all: false,
        };
        Driver { convoy, hub, seats: Vec::new(), at: 0, stranded: Vec::new(), parcel, every: 1, groups: 1 }
    }

    /// Makes a round whenever somebody is due, until nobody is on board.
    fn drive(mut self) {
        let clock = self.convoy.ring.reader(0);
        // The first block that no round was made for yet, and the next at which somebody is due. Everybody is in the
        // first round.
        let (mut next, mut due) = (0, 0);
        loop {
            // By the time that it has served those who are due, the capture thread wants to know when it has to be back.
            clock.announce(self.next_due(due + 1));
            clock.wait(due, NAP);
            let (published, closed) = (clock.next_block(), self.convoy.ring.is_closed());
            if published <= due && !closed {
                continue;
            }
            let mut stop = self.convoy.lock();
            self.seats.append(&mut stop.waiting);
            if self.seats.is_empty() && self.stranded.is_empty() {
                stop.driven = false;
                return;
            }
            drop(stop);
            due = self.round(next..published, closed);
            next = published;
            if closed {
                thread::sleep(RETRY);
            }
        }
    }

    /// Serves all who were due at one of these blocks, and returns the first block after them at which somebody may be.
    fn round(&mut self, blocks: Range<u64>, closed: bool) -> u64 {
        if closed {
            self.stranded.append(&mut self.seats);
        }
        for seat in std::mem::take(&mut self.stranded) {
            self.let_off(seat);
        }
        let ring = &self.convoy.ring;
        let interval =
            if self.convoy.low_latency { Duration::ZERO } else { super::stream::interval(self.hub) };
        self.every = blocks_in(interval, ring.format(), ring.block_frames());
        self.groups = (self.seats.len().div_ceil(GROUP) as u64).clamp(1, self.every);
        // What was sent in the last round was read up to another edge.
        self.parcel.from = u64::MAX;
        // Whose turn came first goes first: who has waited longest while nothing went on does not wait for all the
        // others as well.
        for block in blocks.start..blocks.end.min(blocks.start + self.every) {
            let group = (block % self.every * self.groups).div_ceil(self.every);
            if self.due(group, block) == block {
                self.serve(group, interval);
            }
        }
        self.next_due(blocks.end)
    }

    /// Serves all of a group.
    fn serve(&mut self, group: u64, interval: Duration) {
        self.at = 0;
        while self.at < self.seats.len() {
            // Whatever goes wrong with one listener is not the others'.
            let served = catch_unwind(AssertUnwindSafe(|| {
                while let Some(seat) = self.seats.get_mut(self.at) {
                    if seat.listener.id % self.groups == group && !seat.serve(&mut self.parcel, interval) {
                        let seat = self.seats.swap_remove(self.at);
                        self.let_off(seat);
                    } else {
                        self.at += 1;
                    }
                }
            }));
            if served.is_err() && self.at < self.seats.len() {
                // It is not known what was sent to it, and the parcel may be half filled.
                self.seats.swap_remove(self.at).listener.cut();
                self.parcel.from = u64::MAX;
            }
        }
    }

    /// The first block from that one on at which some group is due.
    fn next_due(&self, from: u64) -> u64 {
        (0..self.groups).map(|group| self.due(group, from)).min().unwrap_or(from)
    }

    /// The first block from that one on at which that group is due: each is at one block in `every`.
    #[inline(always)]
    fn due(&self, group: u64, from: u64) -> u64 {
        let at = group * self.every / self.groups;
        from + (at + self.every - from % self.every) % self.every
    }

    fn let_off(&mut self, seat: Seat) {
        if let Err(seat) = own_thread::start(seat, |seat| seat.passenger.get_off(seat.ride)) {
            self.stranded.push(seat);
        }
    }
}

impl Seat {
    /// Sends everything up to the live edge; `false` if not all of it could be sent at once.
    fn serve(&mut self, parcel: &mut Parcel, interval: Duration) -> bool {
        #[cfg(test)]
        if self.listener.player.starts_with("panics-on-board") {
            assert!(!PANICS.load(Ordering::Relaxed), "on board");
        }
        let Seat { listener, ride, .. } = self;
        listener.interval_us.store(interval.as_micros() as u32, Ordering::Relaxed);
        loop {
            if parcel.from != ride.reader.frame() && !parcel.fill(&ride.reader) {
                return false;
            }
            if parcel.frames == 0 {
                return true;
            }
            let bytes = parcel.chunk.bytes(self.chunked);
            let sent = rustix::net::send(listener.socket(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            let sent = match sent {
                Ok(sent) => sent,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(_) => {
                    ride.failed = true;
                    return false;
                }
            };
            let all = sent == bytes.len();
            if !all {
                ride.unsent = bytes[sent..].to_vec();
            }
            ride.reader.go_to(parcel.to);
            listener.sent.fetch_add(parcel.frames, Ordering::Relaxed);
            listener.position.store(parcel.to.frame, Ordering::Relaxed);
            if !all {
                return false;
            }
            let latency = monotonic_ns().saturating_sub(parcel.captured_at);
            listener.latency.note(Duration::from_nanos(latency));
            if parcel.is_all {
                return true;
            }
        }
    }
}

impl Parcel {
    /// Takes what there is from that reader's place on, as far as it fits; `false` if the reader must see to
    /// it itself.
    fn fill(&mut self, from: &Reader) -> bool {
        let mut reader = from.clone();
        let frame_bytes = reader.format().frame_bytes();
        (self.from, self.frames, self.is_all) = (from.frame(), 0, false);
        self.chunk.clear();
        while self.chunk.room().len() >= frame_bytes {
            let room = self.chunk.room();
            match reader.read(room) {
                Read::Block { frames, captured_at } => {
                    self.chunk.add(frames * frame_bytes);
                    self.frames += frames as u64;
                    self.captured_at = captured_at;
                }
                Read::Nothing => {
                    self.is_all = true;
                    break;
                }
                Read::Lapped { .. } | Read::End => {
                    self.from = u64::MAX;
                    return false;
                }
            }
        }
        self.to = reader.place();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::audio::format::{SampleFormat, StreamFormat};
    use crate::config::{self, Interval, Limits};
    use crate::http::access::Access;
    use crate::http::listeners::Admitted;
    use crate::ring;

    struct Staying(#[expect(dead_code, reason = "its place is kept")] Admitted);

    impl Passenger for Staying {
        fn get_off(self: Box<Self>, _: Ride) {}
    }

    #[test]
    fn after_a_stall_whose_turn_came_first_is_served_first() {
        // Blocks of 10 ms, everybody is served every tenth, and there are three groups.
        let (format, listeners) = (StreamFormat { rate: 8000, channels: 1, sample: SampleFormat::S16 }, 130);
        let (mut writer, ring) = ring::new(format, 80, Duration::from_secs(1));
        writer.publish(&[0; 23 * 160], 0);
        let settings = config::Listeners {
            interval: Interval::Every(Duration::from_millis(100)),
            ..config::Listeners::default()
        };
        let access = Access::new(&config::Access::default()).expect("no file to be read");
        let hub = Hub::new(settings, Limits::default(), access);
        // All send into the same connection, each another length, from which it is known.
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = TcpStream::connect(server.local_addr().expect("its port")).expect("it listens");
        let (received, address) = server.accept().expect("it connects");
        let mut seat = |number: u64| {
            let socket = socket.try_clone().expect("a descriptor");
            let most = (1000, usize::MAX);
            let admitted = hub.listeners.admit(most, "live", address, String::new(), socket).expect("room");
            assert_eq!(admitted.id, number);
            Seat {
                listener: admitted.shared(),
                chunked: true,
                ride: Ride::from(ring.reader(number)),
                passenger: Box::new(Staying(admitted)),
            }
        };
        let convoy = hub.convoys.of(&ring, false);
        let mut driver = Driver::new(&convoy, &hub);
        driver.seats = (1..=listeners).map(&mut seat).collect();

        let order = thread::spawn(move || {
            let mut received = BufReader::new(received);
            let mut chunk = || {
                let mut size = String::new();
                received.read_line(&mut size).expect("a line");
                let size = usize::from_str_radix(size.trim(), 16).expect("a size");
                received.read_exact(&mut vec![0; size + 2]).expect("a chunk");
                size as u64 / 2
            };
            (0..listeners).map(|_| chunk() % 3).collect::<Vec<u64>>()
        });
        // Turns are at every block whose number ends in 0, 3 and 6.
        let next = driver.round(13..23, false);
        let mut order = order.join().expect("all came");
        order.dedup();
        assert_eq!(order, [1, 2, 0]);
        assert_eq!(next, 23);
        assert_eq!(driver.seats.len(), 130);
        // Until then nobody is due, and those who are then are no others.
        assert_eq!(driver.next_due(24), 26);
    }
}
