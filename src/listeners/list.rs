//! The list of all listeners: who listens, the limits of admission, and the end of a connection.

use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, recv};

use super::latency::Histogram;
use crate::sys::socket;

/// A value that has to live as long as a connection, such as the connection's slot in the gate.
pub type Place = Box<dyn Send + Sync>;

/// The listeners, the longest listening first.
#[derive(Default)]
pub(super) struct List {
    /// The id of the newest listener.
    last_id: AtomicU64,
    /// The length of `all`, for readers that need no more.
    count: AtomicUsize,
    /// In the order of their ids. Written at admission and when an [`Admitted`] is dropped. While this lock is held, no
    /// other lock is taken, no call blocks and nothing is sent.
    all: Mutex<Vec<Arc<Listener>>>,
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
        self.lock().clone()
    }

    /// See [`Listeners::admit`](super::Listeners::admit).
    pub(super) fn admit(
        self: &Arc<Self>,
        limits: Admission,
        input: &str,
        client: SocketAddr,
        player: String,
        socket: TcpStream,
        place: Place,
    ) -> Result<Admitted, (Full, TcpStream, Place)> {
        let key = client_key(client.ip(), socket.local_addr().ok().map(|local| local.ip()));
        let mut all = self.lock();
        if all.len() >= limits.max as usize {
            return Err((Full::All(all.len()), socket, place));
        }
        let of_client = all.iter().filter(|other| other.key == key).count();
        if of_client >= limits.max_per_client {
            return Err((Full::Client(of_client), socket, place));
        }
        let listener = Arc::new(Listener {
            id: self.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            input: input.to_owned(),
            address: client,
            player,
            since: Instant::now(),
            sent: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            position: AtomicU64::new(u64::MAX),
            interval_us: AtomicU32::new(0),
            latency: Histogram::new(),
            key,
            socket,
            is_cut: AtomicBool::new(false),
        });
        all.push(Arc::clone(&listener));
        self.count.store(all.len(), Ordering::Relaxed);
        Ok(Admitted { listener, list: Arc::clone(self), keeps_connection: false, _place: place })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Listener>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One listener, as all threads see it. The thread that sends to it writes the counters; any thread reads them.
pub struct Listener {
    /// A number that no other listener of this process has. The first is 1.
    pub id: u64,
    /// The name of the input.
    pub input: String,
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
    /// The client that the listener counts for.
    key: ClientKey,
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
    /// Set if the socket is taken out, to be used further.
    keeps_connection: bool,
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

    /// Removes the listener from the list and returns its socket, with the connection as it is.
    pub(super) fn into_socket(mut self) -> TcpStream {
        self.keeps_connection = true;
        let mut listener = Arc::clone(&self.listener);
        // From here on the listener is not on the list, so no thread can get at it any more. A thread that reads a
        // copy of the list has it for some milliseconds.
        drop(self);
        loop {
            match Arc::try_unwrap(listener) {
                Ok(listener) => return listener.socket,
                Err(shared) => listener = shared,
            }
            thread::sleep(Duration::from_millis(1));
        }
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
        if let Ok(index) = all.binary_search_by_key(&self.listener.id, |listener| listener.id) {
            all.remove(index);
        }
        self.list.count.store(all.len(), Ordering::Relaxed);
        drop(all);
        if !self.keeps_connection {
            close(&self.listener.socket);
        }
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

/// The client that a listener counts for. To be replaced by `sys::client_key::ClientKey`.
type ClientKey = Ipv6Addr;

/// Returns the client of `peer`, which is connected to the address `local` of this machine.
///
/// An IPv4 address is a client of its own, and so is an IPv6 address of this network: loopback, link-local, unique local
/// (RFC 4193), or with the first 64 bits of `local`. A household elsewhere has a whole /64, which counts as one client.
fn client_key(peer: IpAddr, local: Option<IpAddr>) -> ClientKey {
    let peer = match peer.to_canonical() {
        IpAddr::V4(peer) => return peer.to_ipv6_mapped(),
        IpAddr::V6(peer) => peer,
    };
    let network = |ip: Ipv6Addr| Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX));
    let is_on_link = matches!(local, Some(IpAddr::V6(local)) if network(local) == network(peer));
    let is_local = peer.is_loopback() || peer.is_unicast_link_local() || peer.is_unique_local() || is_on_link;
    if is_local { peer } else { network(peer) }
}

#[cfg(test)]
mod tests;
