//! All who listen now.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::guard;
use crate::os;

/// One listener, as everyone sees it. Its own thread counts, everybody reads.
pub struct Listener {
    /// Counts up from 1.
    pub id: u64,
    /// The input it listens to.
    pub input: String,
    /// Where it is.
    pub address: SocketAddr,
    /// What it calls itself.
    pub player: String,
    /// When it began.
    pub since: Instant,
    /// Frames that were handed to the kernel.
    pub sent: AtomicU64,
    /// Frames it will never get because it was too slow.
    pub skipped: AtomicU64,
    /// Index in the ring of the frame that comes next for it; what is being sent is not counted yet. Beyond
    /// the live edge before it began.
    pub position: AtomicU64,
    /// How often it is served, in µs.
    pub interval_us: AtomicU32,
    /// Time from the capture of a block to its being with the kernel.
    pub latency: Histogram,
    socket: TcpStream,
    ended: AtomicBool,
}

impl Listener {
    /// Bytes that the kernel still has to get to it.
    pub fn queued_bytes(&self) -> u64 {
        os::unacknowledged(&self.socket)
    }

    /// Its socket.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether it was told to end.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Ends it whatever its thread is doing, even if that is blocked in a send.
    pub fn cut(&self) {
        self.ended.store(true, Ordering::Relaxed);
        // It fails when the other side was faster, which is as well.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// A time's distribution in steps of a quarter octave, from 1 µs to 1 s.
pub struct Histogram([AtomicU32; Histogram::STEPS]);

impl Histogram {
    const STEPS: usize = 80;

    fn new() -> Histogram {
        Histogram([const { AtomicU32::new(0) }; Histogram::STEPS])
    }

    /// Counts one time.
    pub fn note(&self, time: Duration) {
        let us = (time.as_nanos() / 1000).clamp(1, u128::from(u32::MAX)) as u32;
        let octave = us.ilog2();
        let quarter = ((u64::from(us) * 4) >> octave) as u32 - 4;
        let step = (octave * 4 + quarter).min(Self::STEPS as u32 - 1);
        self.0[step as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The time that this share of all counted ones did not exceed, to a quarter octave (at most 25 % too
    /// high); `None` before the first.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed).into()).collect();
        let total: u64 = counts.iter().sum();
        let wanted = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let step = counts.iter().position(|count| {
            seen += count;
            *count > 0 && seen >= wanted
        })?;
        let (octave, quarter) = (step as u32 / 4, step as u64 % 4);
        Some(Duration::from_nanos(((5 + quarter) * 1000) << octave >> 2))
    }
}

/// The list of them.
#[derive(Default)]
pub struct Listeners {
    last_id: AtomicU64,
    count: AtomicUsize,
    /// The longest listening first, and so by their ids.
    all: Mutex<Vec<Arc<Listener>>>,
}

impl Listeners {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// All of them, the longest listening first.
    pub fn all(&self) -> Vec<Arc<Listener>> {
        self.lock().clone()
    }

    /// Adds one, unless there are as many already as there may be: in all, and from one address. It is on the list
    /// until its place is dropped.
    ///
    /// # Errors
    ///
    /// When there are.
    pub fn admit(
        self: &Arc<Self>,
        (max, max_of_address): (u32, usize),
        input: &str,
        address: SocketAddr,
        player: String,
        socket: TcpStream,
    ) -> Result<Admitted, Full> {
        let mut all = self.lock();
        if all.len() >= max as usize {
            return Err(Full::All(all.len()));
        }
        let party = guard::party(address.ip());
        let others = all.iter().filter(|other| guard::party(other.address.ip()) == party).count();
        if others >= max_of_address {
            return Err(Full::Address(others));
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let listener = Arc::new(Listener {
            id,
            input: input.to_owned(),
            address,
            player,
            since: Instant::now(),
            sent: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            position: AtomicU64::new(u64::MAX),
            interval_us: AtomicU32::new(0),
            latency: Histogram::new(),
            socket,
            ended: AtomicBool::new(false),
        });
        all.push(Arc::clone(&listener));
        self.count.store(all.len(), Ordering::Relaxed);
        Ok(Admitted { listener, list: Arc::clone(self) })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Listener>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// So many listen.
    All(usize),
    /// So many listen from that address.
    Address(usize),
}

/// A listener's place on the list.
pub struct Admitted {
    listener: Arc<Listener>,
    list: Arc<Listeners>,
}

impl Admitted {
    /// The listener itself.
    pub fn shared(&self) -> Arc<Listener> {
        Arc::clone(&self.listener)
    }
}

impl std::ops::Deref for Admitted {
    type Target = Listener;

    fn deref(&self) -> &Listener {
        &self.listener
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut all = self.list.lock();
        if let Ok(at) = all.binary_search_by_key(&self.listener.id, |listener| listener.id) {
            all.remove(at);
        }
        self.list.count.store(all.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_a_quarter_too_high_and_never_too_low() {
        for us in [1u64, 2, 3, 5, 10, 99, 1000, 12_345, 400_000] {
            let histogram = Histogram::new();
            histogram.note(Duration::from_micros(us));
            let found = histogram.quantile(0.5).expect("one was counted").as_nanos() as f64 / 1000.0;
            assert!(found >= us as f64 && found <= us as f64 * 1.25 + 0.25, "{us} µs: {found}");
        }
        assert_eq!(Histogram::new().quantile(0.5), None);
    }

    #[test]
    fn the_99th_percentile_sees_the_slow_ones() {
        let histogram = Histogram::new();
        for _ in 0..980 {
            histogram.note(Duration::from_micros(50));
        }
        for _ in 0..20 {
            histogram.note(Duration::from_millis(5));
        }
        assert!(histogram.quantile(0.5).expect("counted") < Duration::from_micros(64));
        assert!(histogram.quantile(0.99).expect("counted") >= Duration::from_millis(5));
    }
}
