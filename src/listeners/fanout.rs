//! The fan-out: all who keep up are served by one thread.
//!
//! What a listener costs is not its bytes but the waking of its thread, about three times what its send costs,
//! and the memory of a thread that sleeps. So a listener that has caught up with the live edge joins a fan-out and
//! its thread ends, all but the first one's: that one drives. Whenever somebody is due the driver makes a round, and
//! sends to those that are what has come in since, without ever waiting for one of them. As nearly all of them are at
//! the same place, it copies that out of the ring once: a batch.
//!
//! Who does not take all of it at once is released: it gets a thread again, waits with it, catches up or skips
//! ([`stream`](super::stream) does that), and joins again when there is nothing left to send. Who is slow so costs its
//! own thread's time and nobody else's. The driver ends when there are no members left.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::chunked::Chunk;
use super::pacing::{blocks_in, interval};
use super::{Listener, Listeners};
use crate::media::ring::{Place, Read, Reader, Ring};
use crate::sys::clock::monotonic_ns;
use crate::sys::reserve_threads;

/// The driver's buffer: more than the longest interval brings in nearly every format.
const BUFFER: usize = 64 * 1024;
/// So many are due at the same block before another block is used too: a wake-up costs as much as some sends,
/// but the last one of a thousand would hear of a block too late.
const GROUP: usize = 64;
/// The driver looks this often whether something is wrong with the ring.
const NAP: Duration = Duration::from_secs(1);
/// Where there was no thread for those who leave, it is tried again after this.
const RETRY: Duration = Duration::from_millis(20);

/// Has the driver panic when it serves a player of that name.
#[cfg(test)]
pub(crate) static PANICS: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// The fan-outs there are: for each ring that somebody listens to one of ordinary listeners and one of
/// low-latency ones, so that all in a fan-out are served equally often.
#[derive(Default)]
pub struct Fanouts(Mutex<Vec<Weak<Fanout>>>);

impl Fanouts {
    /// The fan-out of those listeners of that ring.
    pub fn of(&self, ring: &Ring, low_latency: bool) -> Arc<Fanout> {
        let mut fanouts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = fanouts
            .iter()
            .filter_map(Weak::upgrade)
            .find(|fanout| fanout.ring.is(ring) && fanout.low_latency == low_latency);
        found.unwrap_or_else(|| {
            let entrance = Mutex::new(Entrance { driven: false, waiting: Vec::new() });
            let fanout = Arc::new(Fanout { ring: ring.clone(), low_latency, entrance });
            fanouts.retain(|fanout| fanout.strong_count() > 0);
            fanouts.push(Arc::downgrade(&fanout));
            fanout
        })
    }
}

/// The listeners of one ring that keep up.
pub struct Fanout {
    ring: Ring,
    low_latency: bool,
    entrance: Mutex<Entrance>,
}

/// Where listeners join.
struct Entrance {
    /// Whether somebody drives.
    driven: bool,
    /// Those who came since the last round.
    waiting: Vec<Member>,
}

/// What a listener was before it joined, and is again when it leaves.
pub trait Resume: Send {
    /// Goes on from where the fan-out has brought it, in a thread of its own.
    fn resume(self: Box<Self>, delivery: Delivery);
}

/// A listener that is served with the others.
pub struct Member {
    /// Whom it is sent to.
    pub listener: Arc<Listener>,
    /// Whether in chunks.
    pub chunked: bool,
    /// Where it is.
    pub delivery: Delivery,
    /// What goes on when it leaves. Dropped without that only after a panic, when its connection was cut.
    pub stream: Box<dyn Resume>,
}

/// Where a listener is, and what is left of what should have been sent to it.
pub struct Delivery {
    /// Its place in the ring.
    pub reader: Reader,
    /// Bytes that must go out before anything else, chunk framing included.
    pub unsent: Vec<u8>,
    /// Whether its connection failed.
    pub failed: bool,
}

impl Delivery {
    /// Of one who has nothing left to send.
    pub fn from(reader: Reader) -> Delivery {
        Delivery { reader, unsent: Vec::new(), failed: false }
    }
}

impl Fanout {
    /// Takes a listener in that has nothing left to send. It is released when a send did not take everything, its
    /// connection failed, it was lapped, or the ring was closed.
    ///
    /// Returns at once or, if nobody drives, when everybody has left.
    pub fn join(&self, listeners: &Listeners, member: Member) {
        let mut entrance = self.lock();
        entrance.waiting.push(member);
        if !std::mem::replace(&mut entrance.driven, true) {
            drop(entrance);
            Driver::new(self, listeners).drive();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entrance> {
        self.entrance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who makes the rounds.
struct Driver<'a> {
    fanout: &'a Fanout,
    listeners: &'a Listeners,
    members: Vec<Member>,
    /// The one that is being served.
    at: usize,
    /// Those who were to be released where there was no thread for them.
    leaving: Vec<Member>,
    batch: Batch,
    /// At the last round, everybody was due at one block in so many, and there were so many groups.
    every: u64,
    groups: u64,
}

/// What is sent to many: what lies between two places of the ring, ready to go.
struct Batch {
    chunk: Chunk,
    from: u64,
    to: Place,
    frames: u64,
    captured_at: u64,
    /// Whether it reaches to the live edge.
    is_all: bool,
}

impl<'a> Driver<'a> {
    fn new(fanout: &'a Fanout, listeners: &'a Listeners) -> Driver<'a> {
        let ring = &fanout.ring;
        let batch = Batch {
            chunk: Chunk::new(BUFFER.max(ring.format().frame_bytes())),
            from: u64::MAX,
            to: ring.reader(0).place(),
            frames: 0,
            captured_at: 0,
            is_all: false,
        };
        Driver {
            fanout,
            listeners,
            members: Vec::new(),
            at: 0,
            leaving: Vec::new(),
            batch,
            every: 1,
            groups: 1,
        }
    }

    /// Makes a round whenever somebody is due, until there are no members left.
    fn drive(mut self) {
        let clock = self.fanout.ring.reader(0);
        // The first block that no round was made for yet, and the next at which somebody is due. Everybody is in the
        // first round.
        let (mut next, mut due) = (0, 0);
        loop {
            // By the time that it has served those who are due, the capture thread wants to know when it has to be back.
            clock.register_next_wait(self.next_due(due + 1));
            clock.wait(due, NAP);
            let (published, closed) = (clock.next_block(), self.fanout.ring.is_closed());
            if published <= due && !closed {
                continue;
            }
            let mut entrance = self.fanout.lock();
            self.members.append(&mut entrance.waiting);
            if self.members.is_empty() && self.leaving.is_empty() {
                entrance.driven = false;
                return;
            }
            drop(entrance);
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
            self.leaving.append(&mut self.members);
        }
        for member in std::mem::take(&mut self.leaving) {
            self.release(member);
        }
        let ring = &self.fanout.ring;
        let interval = if self.fanout.low_latency { Duration::ZERO } else { interval(self.listeners) };
        self.every = blocks_in(interval, ring.format(), ring.block_frames());
        self.groups = (self.members.len().div_ceil(GROUP) as u64).clamp(1, self.every);
        // What was sent in the last round was read up to another edge.
        self.batch.from = u64::MAX;
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
        while self.at < self.members.len() {
            // Whatever goes wrong with one listener is not the others'.
            let served = catch_unwind(AssertUnwindSafe(|| {
                while let Some(member) = self.members.get_mut(self.at) {
                    if member.listener.id % self.groups == group && !member.serve(&mut self.batch, interval) {
                        let member = self.members.swap_remove(self.at);
                        self.release(member);
                    } else {
                        self.at += 1;
                    }
                }
            }));
            if served.is_err() && self.at < self.members.len() {
                // It is not known what was sent to it, and the batch may be half filled.
                self.members.swap_remove(self.at).listener.cut();
                self.batch.from = u64::MAX;
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

    fn release(&mut self, member: Member) {
        if let Err(member) = reserve_threads::start(member, |member| member.stream.resume(member.delivery)) {
            self.leaving.push(member);
        }
    }
}

impl Member {
    /// Sends everything up to the live edge; `false` if not all of it could be sent at once.
    fn serve(&mut self, batch: &mut Batch, interval: Duration) -> bool {
        #[cfg(test)]
        if self.listener.player.starts_with("panics-in-fanout") {
            assert!(!PANICS.load(Ordering::Relaxed), "in the fan-out");
        }
        let Member { listener, delivery, .. } = self;
        listener.interval_us.store(interval.as_micros() as u32, Ordering::Relaxed);
        loop {
            if batch.from != delivery.reader.frame() && !batch.fill(&delivery.reader) {
                return false;
            }
            if batch.frames == 0 {
                return true;
            }
            let bytes = batch.chunk.bytes(self.chunked);
            let sent = rustix::net::send(listener.socket(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            let sent = match sent {
                Ok(sent) => sent,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(_) => {
                    delivery.failed = true;
                    return false;
                }
            };
            let all = sent == bytes.len();
            if !all {
                delivery.unsent = bytes[sent..].to_vec();
            }
            delivery.reader.go_to(batch.to);
            listener.sent.fetch_add(batch.frames, Ordering::Relaxed);
            listener.position.store(batch.to.frame, Ordering::Relaxed);
            if !all {
                return false;
            }
            let latency = monotonic_ns().saturating_sub(batch.captured_at);
            listener.latency.note(Duration::from_nanos(latency));
            if batch.is_all {
                return true;
            }
        }
    }
}

impl Batch {
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
    use crate::config::{self, Interval, Limits};
    use crate::listeners::Admitted;
    use crate::media::format::{SampleFormat, StreamFormat};
    use crate::media::ring;
    use crate::settings::Settings;

    struct Staying(#[expect(dead_code, reason = "its place is kept")] Admitted);

    impl Resume for Staying {
        fn resume(self: Box<Self>, _: Delivery) {}
    }

    #[test]
    fn after_a_stall_whose_turn_came_first_is_served_first() {
        // Blocks of 10 ms, everybody is served every tenth, and there are three groups.
        let (format, listeners) = (StreamFormat { rate: 8000, channels: 1, sample: SampleFormat::S16 }, 130);
        let (mut writer, ring) = ring::new(format, 80, Duration::from_secs(1)).expect("memory");
        writer.publish(&[0; 23 * 160], 0);
        let settings = config::Listeners {
            interval: Interval::Every(Duration::from_millis(100)),
            ..config::Listeners::default()
        };
        let all = Arc::new(Listeners::new(Arc::new(Settings::new(settings, Limits::default()))));
        // All send into the same connection, each another length, from which it is known.
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = TcpStream::connect(server.local_addr().expect("its port")).expect("it listens");
        let (received, address) = server.accept().expect("it connects");
        let mut member = |number: u64| {
            let socket = socket.try_clone().expect("a descriptor");
            let most = (1000, usize::MAX);
            let admitted = all.admit(most, "live", address, String::new(), socket).expect("room");
            assert_eq!(admitted.id, number);
            Member {
                listener: admitted.shared(),
                chunked: true,
                delivery: Delivery::from(ring.reader(number)),
                stream: Box::new(Staying(admitted)),
            }
        };
        let fanout = all.fanouts.of(&ring, false);
        let mut driver = Driver::new(&fanout, &all);
        driver.members = (1..=listeners).map(&mut member).collect();

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
        assert_eq!(driver.members.len(), 130);
        // Until then nobody is due, and those who are then are no others.
        assert_eq!(driver.next_due(24), 26);
    }
}
