//! All who listen now.

pub mod catch_up;
pub mod chunked;
pub mod fanout;
pub mod latency;
pub mod pacing;
mod slow;

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use self::fanout::Fanouts;
use self::latency::Histogram;
use crate::http::tiny::guard;
use crate::settings::Settings;
use crate::sys::socket;

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
        socket::unacknowledged(&self.socket)
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

/// All clients that listen, and how they are served.
pub struct Listeners {
    /// The settings that a reload replaces.
    pub settings: Arc<Settings>,
    /// One for each ring and kind of listener.
    pub fanouts: Fanouts,
    last_id: AtomicU64,
    count: AtomicUsize,
    /// The longest listening first, and so by their ids.
    all: Mutex<Vec<Arc<Listener>>>,
}

impl Listeners {
    /// An empty list.
    pub fn new(settings: Arc<Settings>) -> Listeners {
        Listeners {
            settings,
            fanouts: Fanouts::default(),
            last_id: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            all: Mutex::default(),
        }
    }

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
