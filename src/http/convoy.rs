//! All who keep up are served by one thread.
//!
//! What a listener costs is not its bytes but the waking of its thread: about three times what its send costs.
//! So the threads of listeners that keep up sleep, and one of them, the *leader*, makes the round for all: at
//! each block it sends to those that are due what has come in since, without ever waiting for one of them. As
//! nearly all of them are at the same place, it copies that out of the ring once.
//!
//! Who does not take all of it at once gets off: its own thread wakes, waits with it, catches up or skips
//! ([`stream`](super::stream) does that), and gets on again when there is nothing left to send. Who is slow so
//! costs its own thread's time and nobody else's. When the leader's own listener gets off, it finishes the
//! round and wakes another one to lead.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::thread::futex;
use rustix::time::Timespec;

use super::chunk::Chunk;
use super::listeners::Listener;
use super::stream::blocks_in;
use crate::hub::Hub;
use crate::os::monotonic_ns;
use crate::ring::{Place, Read, Reader, Ring};

/// The leader's buffer: more than the longest interval brings in nearly every format.
const BUFFER: usize = 64 * 1024;
/// So many are due at the same block before another block is used too: a wake-up costs as much as some sends,
/// but the last one of a thousand would hear of a block too late.
const GROUP: usize = 16;
/// The leader looks this often whether something is wrong with the ring.
const NAP: Duration = Duration::from_secs(1);
/// And a sleeper whether nobody leads, which should not happen.
const LONG_NAP: Duration = Duration::from_secs(10);

/// Has a leader of that name panic.
#[cfg(test)]
pub(super) static PANICS: AtomicBool = AtomicBool::new(false);

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
            let convoy = Arc::new(Convoy {
                ring: ring.clone(),
                low_latency,
                led: AtomicBool::new(false),
                next: AtomicU64::new(0),
                seats: Mutex::default(),
            });
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
    /// Whether somebody leads.
    led: AtomicBool,
    /// The first block that no round was made for yet: a successor goes on from there.
    next: AtomicU64,
    seats: Mutex<Vec<Arc<Seat>>>,
}

/// A listener's place in the convoy.
struct Seat {
    listener: Arc<Listener>,
    chunked: bool,
    ride: Mutex<Ride>,
    /// One of the values below; its thread sleeps on it.
    signal: AtomicU32,
}

/// On board; somebody else leads.
const ON: u32 = 0;
/// On board; nobody leads, so it should.
const LEAD: u32 = 1;
/// Not on board any more.
const OFF: u32 = 2;

/// Where a listener is, and what is left of what should have been sent to it.
pub struct Ride {
    /// Its place in the ring.
    pub reader: Reader,
    /// Bytes that must go out before anything else, chunk framing included.
    pub unsent: Vec<u8>,
    /// Whether its connection failed.
    pub failed: bool,
}

impl Convoy {
    /// Takes a listener on board that has nothing left to send, and returns when it got off: its send did not
    /// take everything, its connection failed, it was lapped, or the ring was closed.
    pub fn ride(&self, hub: &Hub, listener: Arc<Listener>, reader: Reader, chunked: bool) -> Ride {
        let ride = Mutex::new(Ride { reader, unsent: Vec::new(), failed: false });
        let seat = Arc::new(Seat { listener, chunked, ride, signal: AtomicU32::new(ON) });
        self.lock().push(Arc::clone(&seat));
        let _boarded = Boarded { convoy: self, seat: &seat };
        while seat.signal.load(Ordering::Acquire) != OFF {
            // Whoever stops to lead looks for a successor afterwards, and finds this one if this fails.
            if !self.led.swap(true, Ordering::AcqRel) {
                Leader { convoy: self, own: &seat }.lead(hub);
            } else {
                seat.sleep();
            }
        }
        // Off means that no leader has it any more.
        let mut ride = seat.ride.lock().unwrap_or_else(PoisonError::into_inner);
        Ride { reader: ride.reader.clone(), unsent: std::mem::take(&mut ride.unsent), failed: ride.failed }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn sleep(&self) {
        let end = monotonic_ns() + LONG_NAP.as_nanos() as u64;
        let until = Timespec { tv_sec: (end / 1_000_000_000) as i64, tv_nsec: (end % 1_000_000_000) as _ };
        let all = std::num::NonZeroU32::MAX;
        let _ = futex::wait_bitset(&self.signal, futex::Flags::PRIVATE, ON, Some(&until), all);
        // A call to lead is answered by trying to; being off stays.
        let _ = self.signal.compare_exchange(LEAD, ON, Ordering::AcqRel, Ordering::Acquire);
    }

    fn wake(&self, signal: u32) {
        self.signal.store(signal, Ordering::Release);
        // It can only fail on a bad address.
        let _ = futex::wake(&self.signal, futex::Flags::PRIVATE, 1);
    }
}

/// Takes a seat away whose thread panicked: it could not lead if it were called to.
struct Boarded<'a> {
    convoy: &'a Convoy,
    seat: &'a Arc<Seat>,
}

impl Drop for Boarded<'_> {
    fn drop(&mut self) {
        if self.seat.signal.load(Ordering::Acquire) != OFF {
            self.convoy.lock().retain(|seat| !Arc::ptr_eq(seat, self.seat));
        }
    }
}

/// Leads as long as it is there, and calls a successor when it goes, also when it goes by a panic.
struct Leader<'a> {
    convoy: &'a Convoy,
    own: &'a Arc<Seat>,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.convoy.led.store(false, Ordering::Release);
        // One that is off is not among them, so this cannot call it back.
        let seats = self.convoy.lock();
        if let Some(seat) = seats.iter().find(|seat| !Arc::ptr_eq(seat, self.own)) {
            seat.wake(LEAD);
        }
    }
}

/// What the leader sends: what lies between two places of the ring, ready to go.
struct Parcel {
    chunk: Chunk,
    from: u64,
    to: Place,
    frames: u64,
    captured_at: u64,
    /// Whether it reaches to the live edge.
    is_all: bool,
}

impl Leader<'_> {
    /// Makes a round whenever somebody is due, until its own listener gets off.
    fn lead(&self, hub: &Hub) {
        let ring = &self.convoy.ring;
        let clock = ring.reader(0);
        let mut parcel = Parcel {
            chunk: Chunk::new(BUFFER.max(ring.format().frame_bytes())),
            from: u64::MAX,
            to: clock.place(),
            frames: 0,
            captured_at: 0,
            is_all: false,
        };
        let mut next = self.convoy.next.load(Ordering::Relaxed);
        let mut due = next;
        while self.own.signal.load(Ordering::Acquire) != OFF {
            clock.wait(due, NAP);
            #[cfg(test)]
            if self.own.listener.player.starts_with("panics-while-leading") {
                assert!(!PANICS.load(Ordering::Relaxed), "while leading");
            }
            let published = clock.next_block();
            if published > due || ring.is_closed() {
                due = self.round(hub, next..published, &mut parcel);
                next = published;
                self.convoy.next.store(next, Ordering::Relaxed);
            }
        }
    }

    /// Serves all who were due at one of these blocks, and returns the first block after them at which
    /// somebody is.
    fn round(&self, hub: &Hub, blocks: Range<u64>, parcel: &mut Parcel) -> u64 {
        let Convoy { ring, low_latency, .. } = self.convoy;
        let closed = ring.is_closed();
        let interval = if *low_latency { Duration::ZERO } else { super::stream::interval(hub) };
        let every = blocks_in(interval, ring.format(), ring.block_frames());
        // What was sent in the last round was read up to another edge.
        parcel.from = u64::MAX;
        // Who gets on before the next round is waited for no longer than it may be.
        let mut soonest = blocks.end + every - 1;
        let mut seats = self.convoy.lock();
        let groups = seats.len().div_ceil(GROUP) as u64;
        seats.retain(|seat| {
            let due = seat.due(blocks.start, every, groups) < blocks.end;
            let stays = !closed && (!due || seat.serve(parcel, interval));
            match stays {
                true => soonest = soonest.min(seat.due(blocks.end, every, groups)),
                false => seat.wake(OFF),
            }
            stays
        });
        soonest
    }
}

impl Seat {
    /// The first block from `from` on at which this listener is due, if it is at one block in `every`.
    fn due(&self, from: u64, every: u64, groups: u64) -> u64 {
        let groups = groups.clamp(1, every);
        let at = self.listener.id % groups * every / groups;
        from + (at + every - from % every) % every
    }

    /// Sends everything up to the live edge; `false` if not all of it could be sent at once.
    fn serve(&self, parcel: &mut Parcel, interval: Duration) -> bool {
        let mut ride = self.ride.lock().unwrap_or_else(PoisonError::into_inner);
        self.listener.interval_us.store(interval.as_micros() as u32, Ordering::Relaxed);
        loop {
            if parcel.from != ride.reader.frame() && !parcel.fill(&ride.reader) {
                return false;
            }
            if parcel.frames == 0 {
                return true;
            }
            let bytes = parcel.chunk.bytes(self.chunked);
            let sent =
                rustix::net::send(self.listener.socket(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
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
            self.listener.sent.fetch_add(parcel.frames, Ordering::Relaxed);
            self.listener.position.store(parcel.to.frame, Ordering::Relaxed);
            if !all {
                return false;
            }
            let latency = monotonic_ns().saturating_sub(parcel.captured_at);
            self.listener.latency.note(Duration::from_nanos(latency));
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
