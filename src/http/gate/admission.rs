//! Listening sockets and new connections: accepts, applies the limits, and makes room.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, accept_with, acceptfrom_with, shutdown, sockopt};

use super::connection::{Client, Place};
use super::limits::Admission;
use super::listen::ListenerId;
use super::refusal::Refusal;
use super::state::{LISTENER, Listener, State, reserve, turn_away};
use crate::sys::client_key::ClientKey;

/// Connections that one listening socket gives in one turn. The others have their turn in between.
const ACCEPTS: usize = 64;
/// A pause of accept4(2) when the process has no descriptor left: a listening socket that is ready would wake
/// the thread again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

impl State {
    /// Accepts clients on a listening socket from now on.
    pub(super) fn open(&mut self, listener: TcpListener) -> io::Result<ListenerId> {
        listener.set_nonblocking(true)?;
        let id = ListenerId(self.last_listener + 1);
        let flags = if self.accept_pause.is_some() { EventFlags::empty() } else { EventFlags::IN };
        epoll::add(&self.mailbox.epoll, &listener, EventData::new_u64(LISTENER | id.0), flags)?;
        self.last_listener = id.0;
        self.listeners.push(Listener { id, socket: listener, is_handed_over: false });
        Ok(id)
    }

    /// Stops accepting on a listening socket, which stays open.
    pub(super) fn hand_over(&mut self, id: ListenerId) {
        if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.id == id) {
            listener.is_handed_over = true;
            let _ = epoll::delete(&self.mailbox.epoll, &listener.socket);
        }
    }

    /// Closes a listening socket, and ends its connections that are between two requests.
    pub(super) fn close(&mut self, id: ListenerId, now: Instant) {
        if let Some(index) = self.listeners.iter().position(|listener| listener.id == id) {
            let listener = self.listeners.swap_remove(index);
            // A duplicate elsewhere would keep the socket in the set, and clients would wait in the duplicate for ever.
            let _ = epoll::delete(&self.mailbox.epoll, &listener.socket);
            let _ = shutdown(&listener.socket, Shutdown::Both);
        }
        for id in self.table.find(|client| client.listener == id && client.is_between_requests()) {
            self.end_by_id(id, now);
        }
    }

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

    /// Sets the events of all listening sockets: none during a pause.
    fn listen_for(&self, flags: EventFlags) {
        for listener in self.listeners.iter().filter(|listener| !listener.is_handed_over) {
            let token = EventData::new_u64(LISTENER | listener.id.0);
            let _ = epoll::modify(&self.mailbox.epoll, &listener.socket, token, flags);
        }
    }

    fn refuse_newcomer(&self, socket: &TcpStream, peer: SocketAddr, refusal: Refusal) {
        self.report(peer, refusal);
        turn_away(socket, refusal);
    }
}
