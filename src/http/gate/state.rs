//! The state of the gate's thread, and how a connection ends.
//!
//! `admission`, `requests` and `forwarding` add the work on this state, each for one stage of a connection; `event_loop`
//! calls that work.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::connection::{Client, Message, Phase, Released};
use super::inner_server::{InnerServer, OnRequest};
use super::limits::Shares;
use super::listen::ListenerId;
use super::mailbox::Mailbox;
use super::parsing::Parsing;
use super::policy::Policy;
use super::refusal::Refusal;
use super::table::Table;
use crate::http::refusal_log::RefusalLog;

/// The token of the mailbox in epoll's events. Connections have tokens without the two upper bits.
pub(super) const WAKE: u64 = u64::MAX;
/// The bit of a listening socket's token.
pub(super) const LISTENER: u64 = 1 << 63;
/// The bit of the token of a connection to tiny_http. The lower byte is its index, the bytes above are the
/// server's generation.
pub(super) const LINK: u64 = 1 << 62;
/// Bytes of one recv(2).
const SCRATCH: usize = 64 * 1024;
/// Bytes of a refused client that are read before its connection is closed. See `Phase::Lingering` for the
/// reason. The kernel holds hardly more (`listen`), and whatever is read makes room for a flooder to send
/// more at the server's expense.
const REFUSED_BYTES: usize = 4096;

/// The state of the gate's thread. No other thread sees it.
pub(super) struct State {
    /// Messages of other threads, and the epoll descriptor.
    pub(super) mailbox: Arc<Mailbox<Message>>,
    /// Connections whose request is inside tiny_http. Shared with the workers.
    pub(super) parsing: Arc<Parsing>,
    pub(super) policy: Policy,
    pub(super) log: RefusalLog,
    pub(super) shares: Shares,
    pub(super) table: Table,
    pub(super) listeners: Vec<Listener>,
    /// The end of a pause of accept4(2), during which the process has no descriptor left.
    pub(super) accept_pause: Option<Instant>,
    /// A descriptor that is closed to have one for a 503.
    pub(super) reserve: Option<OwnedFd>,
    /// The number of the last connection. 0 is none's.
    pub(super) last_id: u64,
    /// Memory to receive into.
    pub(super) scratch: Vec<u8>,
    /// The number of the last listening socket.
    pub(super) last_listener: u64,
    /// The function to which tiny_http's workers give each request.
    pub(super) on_request: OnRequest,
    /// `None` while tiny_http cannot be started.
    pub(super) inner: Option<InnerServer>,
    /// The time of the last attempt to start tiny_http.
    pub(super) inner_started: Instant,
    /// The number of that attempt. Events of an earlier tiny_http have an earlier number.
    pub(super) generation: u64,
    /// Requests inside tiny_http and handlers that count against the limit of requests in flight.
    pub(super) in_flight: usize,
    /// Requests that have no answer yet.
    pub(super) with_handlers: usize,
}

/// A public listening socket.
pub(super) struct Listener {
    pub(super) id: ListenerId,
    pub(super) socket: TcpListener,
    /// New connections wait for the next process.
    pub(super) is_handed_over: bool,
}

impl State {
    /// Returns the state of a gate without listening sockets, for which tiny_http was not started yet.
    pub(super) fn new(
        mailbox: &Arc<Mailbox<Message>>,
        parsing: &Arc<Parsing>,
        policy: Policy,
        log: &RefusalLog,
        on_request: OnRequest,
    ) -> State {
        State {
            mailbox: Arc::clone(mailbox),
            parsing: Arc::clone(parsing),
            policy,
            log: log.clone(),
            shares: Shares::default(),
            table: Table::default(),
            listeners: Vec::new(),
            accept_pause: None,
            reserve: reserve(),
            last_id: 0,
            scratch: vec![0; SCRATCH],
            last_listener: 0,
            on_request,
            inner: None,
            inner_started: Instant::now(),
            generation: 0,
            in_flight: 0,
            with_handlers: 0,
        }
    }

    /// Subtracts what a connection held.
    pub(super) fn apply(&mut self, released: Released, now: Instant) {
        self.in_flight -= usize::from(released.in_flight);
        self.with_handlers -= usize::from(released.with_handler);
        if let Some(client) = released.client {
            self.shares.remove(client, self.policy.rate(), now);
        }
    }

    /// Closes a connection and counts its place as free.
    pub(super) fn end(&mut self, id: u64, client: Client, now: Instant) {
        let Client { phase, place, socket, .. } = client;
        drop(socket);
        if let Phase::Queued(_) = phase {
            self.shares.dequeue(place.client, id);
        }
        self.apply(place.release(), now);
    }

    /// Closes the connection with that number, if the gate has it.
    pub(super) fn end_by_id(&mut self, id: u64, now: Instant) {
        if let Some(client) = self.table.remove(id, &mut self.shares) {
            self.end(id, client, now);
        }
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
pub(super) fn turn_away(socket: impl AsFd, refusal: Refusal) {
    let _ = recv(&socket, &mut [0; REFUSED_BYTES], RecvFlags::DONTWAIT);
    let _ = send(&socket, &refusal.response(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}
