//! New connections: accepts, applies the limits, and makes room.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, acceptfrom_with, recv, send, sockopt};

use super::ListenerId;
use super::connection::Place;
use super::event_loop::EventLoop;
use super::limits::Admission;
use super::refusal::Refusal;
use super::table::{Client, Phase};
use crate::sys::client_key::ClientKey;

/// Connections that one listening socket gives in one turn. The others have their turn in between.
const ACCEPTS: usize = 64;
/// A pause of accept4(2) when the process has no descriptor left: a listening socket that is ready would wake
/// the thread again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// Bytes of a refused client that are read before its connection is closed. See `Phase::Lingering` for the
/// reason. The kernel holds hardly more (`listen`), and whatever is read makes room for a flooder to send
/// more at the server's expense.
const REFUSED_BYTES: usize = 4096;

impl EventLoop {
    /// Accepts the clients that wait at a listening socket.
    pub(super) fn accept(&mut self, id: ListenerId, now: Instant) {
        // Within the turn the pause may have begun, or the socket may have been closed.
        let Some(index) = self.listeners.iter().position(|listener| listener.id == id) else { return };
        for _ in 0..ACCEPTS {
            if self.accept_pause.is_some() {
                return;
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match acceptfrom_with(&self.listeners[index].socket, flags) {
                Ok((socket, Some(peer))) => {
                    if let Ok(peer) = SocketAddr::try_from(peer) {
                        self.admit(TcpStream::from(socket), peer, id, now);
                    }
                }
                Err(Errno::AGAIN) => return,
                // The client was gone before it was accepted; accept(2) names the other errors of the network.
                Ok((_, None))
                | Err(
                    Errno::INTR
                    | Errno::CONNABORTED
                    | Errno::NETDOWN
                    | Errno::PROTO
                    | Errno::NOPROTOOPT
                    | Errno::HOSTDOWN
                    | Errno::NONET
                    | Errno::HOSTUNREACH
                    | Errno::OPNOTSUPP
                    | Errno::NETUNREACH
                    | Errno::PERM,
                ) => {}
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.accept_without_descriptor(index, now);
                }
                Err(error) => {
                    self.log.fault(format!("cannot accept connections for a moment: {error}"));
                    self.pause_accept(now);
                }
            }
        }
    }

    /// Ends an idle connection to have a descriptor. Without one, answers 503 by means of the reserve, and
    /// pauses.
    fn accept_without_descriptor(&mut self, index: usize, now: Instant) {
        if let Some(idle) = self.shares.oldest_idle() {
            self.evict(idle, now);
            return;
        }
        self.log.fault("the process has no file descriptor left; new connections are answered with 503");
        drop(self.reserve.take());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let Ok(socket) = accept_with(&self.listeners[index].socket, flags) {
            turn_away(&socket, Refusal::NoDescriptor);
        }
        self.reserve = reserve();
        self.pause_accept(now);
    }

    fn pause_accept(&mut self, now: Instant) {
        self.accept_pause = Some(now + ACCEPT_PAUSE);
        self.listen_for(EventFlags::empty());
    }

    /// Ends the pause of accept4(2) when its time is over.
    pub(super) fn resume_accept(&mut self, now: Instant) {
        if self.accept_pause.is_some_and(|end| end <= now) {
            self.accept_pause = None;
            self.listen_for(EventFlags::IN);
        }
    }

    fn admit(&mut self, socket: TcpStream, peer: SocketAddr, listener: ListenerId, now: Instant) {
        // Only IPv6 needs the server's address, to know who is on the same link.
        let local = if peer.is_ipv6() { socket.local_addr().ok() } else { None };
        let key = ClientKey::of(peer.ip(), local.map(|local| local.ip()));
        match self.shares.admit(key, &self.policy.places(peer.ip()), now) {
            Admission::Admit { evict } => {
                if let Some(id) = evict {
                    self.evict(id, now);
                }
            }
            Admission::TooOften => {
                self.log.warn(peer.ip(), "connects too often, and is disconnected");
                // Closing resets the connection: no answer, and no TIME_WAIT for each of thousands per second.
                let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
                return;
            }
            Admission::ClientFull => return self.refuse_newcomer(&socket, peer, Refusal::ClientFull),
            Admission::Full => return self.refuse_newcomer(&socket, peer, Refusal::Full),
        }
        self.last_id += 1;
        let id = self.last_id;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        // Fails where the kernel has no memory left, or the user has too many epoll entries (epoll(7),
        // max_user_watches).
        if let Err(error) = epoll::add(&self.mailbox.epoll, &socket, EventData::new_u64(id), flags) {
            self.log.fault(format!("cannot wait for a connection, which is closed: {error}"));
            return;
        }
        self.shares.add(key, now);
        let place = Place::new(&self.mailbox, key);
        let mut client = Client::new(socket, peer, listener, place, now);
        client.deadline = Some(now + self.policy.limits.request_time);
        self.table.insert(id, client, &mut self.shares);
        // With TCP_DEFER_ACCEPT the request is there already.
        self.on_event(id, EventFlags::IN, now);
    }

    fn refuse_newcomer(&self, socket: &TcpStream, peer: SocketAddr, refusal: Refusal) {
        self.report(peer, refusal);
        turn_away(socket, refusal);
    }

    /// Ends a connection to make room for another one.
    ///
    /// A connection between two requests ends without a word: its client makes the next request on a new one,
    /// as it would after `idle_seconds`, whereas a 503 could be taken for the answer to a request that is on
    /// its way.
    pub(super) fn evict(&mut self, id: u64, now: Instant) {
        let Some(client) = self.table.remove(id, &mut self.shares) else { return };
        self.report(client.peer, Refusal::Evicted);
        let waits =
            matches!(client.phase, Phase::Reading | Phase::Queued(_)) && !client.is_between_requests();
        if waits {
            turn_away(&client.socket, Refusal::Evicted);
        }
        self.end(id, client, now);
    }

    /// Reports a refusal to the log.
    pub(super) fn report(&self, peer: SocketAddr, refusal: Refusal) {
        match refusal.warning() {
            Some(text) => self.log.warn(peer.ip(), text),
            None => {
                self.log.debug(peer.ip(), format_args!("{}: {}", refusal.debug_text(), refusal.explanation()))
            }
        }
    }
}

/// Returns a descriptor to be closed when one is needed.
pub(super) fn reserve() -> Option<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC).ok()
}

/// Answers a connection that is closed next, without waiting.
fn turn_away(socket: impl AsFd, refusal: Refusal) {
    let _ = recv(&socket, &mut [0; REFUSED_BYTES], RecvFlags::DONTWAIT);
    let _ = send(&socket, &refusal.response(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}
