//! The list of all listeners: who listens, the limits of admission, and the end of a connection.

use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::net::{RecvFlags, recv};

use super::latency::Histogram;
use crate::encode::{Encoding, Kind};
use crate::sys::client_key::ClientKey;
use crate::sys::socket;

/// A value that has to live as long as a connection, such as the connection's slot in the gate.
pub type Place = Box<dyn Send + Sync>;

/// The listeners, the longest listening first.
#[derive(Default)]
pub(super) struct List {
    /// The id of the newest listener.
    last_id: AtomicU64,
    /// The number of listeners, for readers that need no more.
    count: AtomicUsize,
    /// Written when a seat is reserved, occupied or given up. While this lock is held, no other lock is taken, no call
    /// blocks and nothing is sent.
    seats: Mutex<Seats>,
}

/// The seats that are not free.
#[derive(Default)]
struct Seats {
    /// The listeners in the order of their ids.
    taken: Vec<Arc<Listener>>,
    /// The clients of requests that are about to listen, each with all that it may be.
    reserved: Vec<Vec<ClientKey>>,
}

/// The limits for one admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The most listeners in all.
    pub max: u32,
    /// The most listeners of the client that asks.
    pub max_per_client: usize,
}

/// The limit that leaves no room for one more listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// This many clients listen already.
    All(usize),
    /// The client that asks has this many listeners already.
    Client(usize),
}

impl List {
    /// See [`Listeners::count`](super::Listeners::count).
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// See [`Listeners::all`](super::Listeners::all).
    pub(super) fn all(&self) -> Vec<Arc<Listener>> {
        self.lock().taken.clone()
    }

    /// See [`Listeners::reserve`](super::Listeners::reserve).
    pub(super) fn reserve(
        self: &Arc<Self>,
        limits: Admission,
        addresses: &[IpAddr],
        local: Option<IpAddr>,
    ) -> Result<Seat, Full> {
        let mut keys: Vec<ClientKey> =
            addresses.iter().map(|address| ClientKey::of(*address, local)).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut seats = self.lock();
        let count = seats.taken.len() + seats.reserved.len();
        if count >= limits.max as usize {
            return Err(Full::All(count));
        }
        let others = || seats.taken.iter().map(|listener| &listener.keys).chain(&seats.reserved);
        let count_of = |key: &ClientKey| others().filter(|keys| keys.contains(key)).count();
        let of_client = keys.iter().map(count_of).max().unwrap_or(0);
        if of_client >= limits.max_per_client {
            return Err(Full::Client(of_client));
        }
        seats.reserved.push(keys.clone());
        Ok(Seat { keys, list: Arc::clone(self) })
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reserved place for a listener. The place is free again when this is dropped.
pub struct Seat {
    keys: Vec<ClientKey>,
    list: Arc<List>,
}

impl Seat {
    /// Adds a listener of `input`, whose sound is coded so. It stays on the list until the returned value is dropped.
    ///
    /// `client` is the client's address, which behind a proxy is not the peer of `socket`. `socket` must be blocking.
    /// `place` is dropped with the listener.
    pub fn occupy(
        self,
        input: &str,
        coding: Option<Coding>,
        client: SocketAddr,
        player: String,
        socket: TcpStream,
        place: Place,
    ) -> Admitted {
        let list = Arc::clone(&self.list);
        let mut seats = list.lock();
        let listener = Arc::new(Listener {
            id: list.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            input: input.to_owned(),
            coding,
            address: client,
            player,
            since: Instant::now(),
            sent: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            position: AtomicU64::new(u64::MAX),
            interval_us: AtomicU32::new(0),
            latency: Histogram::new(),
            keys: self.keys.clone(),
            socket,
            is_cut: AtomicBool::new(false),
        });
        seats.taken.push(Arc::clone(&listener));
        list.count.store(seats.taken.len(), Ordering::Relaxed);
        drop(seats);
        // Dropping the seat gives up the reservation, which the listener replaces.
        drop(self);
        Admitted { listener, list, _place: place }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.list.lock();
        if let Some(index) = seats.reserved.iter().position(|keys| *keys == self.keys) {
            seats.reserved.swap_remove(index);
        }
    }
}

/// The coding of a listener's sound.
#[derive(Clone)]
pub struct Coding {
    /// Codec and bit rate.
    pub kind: Kind,
    /// The encoding, if other listeners can share it: then the listener's position is one in its ring.
    pub shared: Option<Arc<Encoding>>,
}

/// One listener, as all threads see it. The thread that sends to it writes the counters; any thread reads them.
pub struct Listener {
    /// A number that no other listener of this process has. The first is 1.
    pub id: u64,
    /// The name of the input.
    pub input: String,
    /// The coding of the sound; `None` for PCM.
    pub coding: Option<Coding>,
    /// The address of the client, without regard to the proxy in between.
    pub address: SocketAddr,
    /// The product that the client names in `User-Agent`.
    pub player: String,
    /// The time of the admission.
    pub since: Instant,
    /// Frames that were handed to the kernel.
    pub sent: AtomicU64,
    /// Frames that the listener was too slow for, and will never get.
    pub skipped: AtomicU64,
    /// Index in the ring of the first frame that was not handed to the kernel yet. Beyond the live edge before the
    /// stream starts.
    pub position: AtomicU64,
    /// The interval at which the listener is sent data, in µs.
    pub interval_us: AtomicU32,
    /// The time from the capture of a block until the kernel has it.
    pub latency: Histogram,
    /// The clients that the listener counts for: more than one behind a proxy whose headers differ.
    keys: Vec<ClientKey>,
    socket: TcpStream,
    is_cut: AtomicBool,
}

impl Listener {
    /// Returns the number of bytes that the kernel has accepted and the client has not acknowledged.
    pub fn queued_bytes(&self) -> u64 {
        socket::unacknowledged(&self.socket)
    }

    /// Returns the socket.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Returns the address of the client without its port; an IPv4 address as such, even on an IPv6 socket.
    pub fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }

    /// Ends the listener. A thread that is blocked in a send to it continues at once.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        // An error means that the client was faster to end the connection.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Returns whether [`cut`](Self::cut) was called.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }
}

/// A listener's entry on the list. Its end is the end of the connection.
pub struct Admitted {
    listener: Arc<Listener>,
    list: Arc<List>,
    _place: Place,
}

impl Admitted {
    /// Returns the number of all listeners.
    pub(super) fn count(&self) -> usize {
        self.list.count()
    }

    /// Returns the list.
    pub(super) fn list(&self) -> &Arc<List> {
        &self.list
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
        let mut seats = self.list.lock();
        if let Ok(index) = seats.taken.binary_search_by_key(&self.listener.id, |listener| listener.id) {
            seats.taken.remove(index);
        }
        self.list.count.store(seats.taken.len(), Ordering::Relaxed);
        drop(seats);
        close(&self.listener.socket);
    }
}

/// Ends a connection after the bytes that the kernel has accepted.
fn close(socket: &TcpStream) {
    // If close(2) finds bytes that were not read, such as another request, the kernel sends a reset, which can cost the
    // client the end of the stream. The receive buffer of a connection is a few kilobytes; the bound is for a client
    // that goes on sending.
    let mut bytes = [0; 1024];
    let _ = (0..64).find(|_| !matches!(recv(socket, &mut bytes, RecvFlags::DONTWAIT), Ok((1.., _))));
    let _ = socket.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests;
