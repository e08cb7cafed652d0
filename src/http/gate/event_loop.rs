//! The gate's thread: waits, and gives each event to the code for it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};

use super::connection::{Connection, Released};
use super::inner_server::{InnerServer, OnRequest};
use super::limits::{Places, Rate, Shares};
use super::mailbox::{Mailbox, Message};
use super::table::{Client, Phase, Table};
use super::{ListenerId, Policy, admission};
use crate::config::Limits;
use crate::http::refusal_log::RefusalLog;

/// The token of the mailbox in epoll's events. Connections have tokens without the two upper bits.
pub(super) const WAKE: u64 = u64::MAX;
/// The bit of a listening socket's token.
const LISTENER: u64 = 1 << 63;
/// The bit of the token of a connection to tiny_http. The lower byte is its index, the bytes above are the
/// server's generation.
const LINK: u64 = 1 << 62;

/// Requests inside tiny_http and handlers at once. More would only wait there, where they have no turns.
const IN_FLIGHT: usize = 16;
/// Bytes of answers that were not taken, of all clients together.
const UNSENT_BYTES: usize = 8 << 20;
/// A client that connected so recently and has not asked is about to ask.
const ABOUT_TO_ASK: Duration = Duration::from_millis(500);
/// tiny_http is started at most this often.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// A pause after a panic, so that one that comes again at once does not take a processor.
const PANIC_PAUSE: Duration = Duration::from_millis(20);
/// Events of one turn.
const EVENTS: usize = 256;
/// Bytes of one recv(2).
const SCRATCH: usize = 64 * 1024;

/// The state of the gate's thread. No other thread sees it.
pub(super) struct EventLoop {
    pub(super) mailbox: Arc<Mailbox>,
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
    last_listener: u64,
    on_request: OnRequest,
    /// `None` while tiny_http cannot be started.
    inner: Option<InnerServer>,
    inner_started: Instant,
    generation: u64,
    /// Requests that count against [`IN_FLIGHT`].
    in_flight: usize,
    /// Requests that have no answer yet.
    with_handlers: usize,
    /// Something of this turn has ended in a panic.
    has_panicked: bool,
}

/// A public listening socket.
pub(super) struct Listener {
    pub(super) id: ListenerId,
    pub(super) socket: TcpListener,
    /// New connections wait for the next process.
    pub(super) is_handed_over: bool,
}

impl EventLoop {
    pub(super) fn new(
        mailbox: &Arc<Mailbox>,
        policy: Policy,
        log: &RefusalLog,
        on_request: OnRequest,
    ) -> io::Result<EventLoop> {
        let mut event_loop = EventLoop {
            mailbox: Arc::clone(mailbox),
            policy,
            log: log.clone(),
            shares: Shares::default(),
            table: Table::default(),
            listeners: Vec::new(),
            accept_pause: None,
            reserve: admission::reserve(),
            last_id: 0,
            scratch: vec![0; SCRATCH],
            last_listener: 0,
            on_request,
            inner: None,
            inner_started: Instant::now(),
            generation: 0,
            in_flight: 0,
            with_handlers: 0,
            has_panicked: false,
        };
        event_loop.start_inner(Instant::now())?;
        Ok(event_loop)
    }

    /// Runs until the process ends.
    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            self.turn(&mut events);
            if self.has_panicked {
                thread::sleep(PANIC_PAUSE);
            }
            self.mailbox.connections.store(self.shares.total(), Ordering::Relaxed);
            self.mailbox.turns.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn turn(&mut self, events: &mut Vec<Event>) {
        let timeout = match self.has_panicked {
            // The panic may have left a request queued that nothing else would wake the thread for.
            true => Some(Duration::ZERO),
            false => self.next_event().map(|time| time.saturating_duration_since(Instant::now())),
        };
        self.has_panicked = false;
        let timeout = timeout.and_then(|time| rustix::time::Timespec::try_from(time).ok());
        events.clear();
        // EINTR is a turn without events.
        let _ = epoll::wait(&self.mailbox.epoll, spare_capacity(events), timeout.as_ref());
        let now = Instant::now();
        let mut is_woken = false;
        for event in events.iter() {
            let Event { data, flags } = *event;
            match data.u64() {
                WAKE => is_woken = true,
                token if token & LISTENER != 0 => {
                    self.catch_panic(|gate| gate.accept(ListenerId(token & !LISTENER), now));
                }
                token if token & LINK != 0 => self.catch_panic(|gate| gate.progress_link(token & !LINK)),
                id => self.catch_panic(|gate| gate.on_event(id, flags, now)),
            }
        }
        if is_woken {
            for message in self.mailbox.receive() {
                self.catch_panic(|gate| gate.on_message(message, now));
            }
        }
        self.catch_panic(|gate| {
            gate.expire(now);
            gate.shares.resume(now);
            gate.pass_on(now);
        });
    }

    /// Does one thing, and goes on after a panic. The panic hook has logged it.
    ///
    /// A connection that is changed at that moment is dropped, and gives its place back. Everything else is
    /// consistent between two operations on the table. No other event or message is lost: an edge-triggered
    /// event does not come again.
    fn catch_panic(&mut self, work: impl FnOnce(&mut EventLoop)) {
        self.has_panicked |= panic::catch_unwind(AssertUnwindSafe(|| work(self))).is_err();
    }

    /// Returns the time of the next thing to do without an event.
    fn next_event(&self) -> Option<Instant> {
        let restart = self.inner.is_none().then(|| self.inner_started + RESTART_PAUSE);
        let times = [self.table.next_deadline(), self.shares.next_token(), self.accept_pause, restart];
        times.into_iter().flatten().min()
    }

    fn on_message(&mut self, message: Message, now: Instant) {
        match message {
            Message::Answered(connection, unsent) => self.on_answered(connection, unsent, now),
            Message::Released(released) => self.apply(released, now),
            Message::Open(listener, reply) => drop(reply.send(self.open(listener))),
            Message::Close(id, reply) => {
                self.close(id, now);
                let _ = reply.send(());
            }
            Message::HandOver(id, reply) => {
                if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.id == id) {
                    listener.is_handed_over = true;
                    let _ = epoll::delete(&self.mailbox.epoll, &listener.socket);
                }
                let _ = reply.send(());
            }
            Message::IsIdle(reply) => drop(reply.send(self.is_idle(now))),
            Message::SetPolicy(policy, reply) => {
                self.policy = policy;
                let _ = reply.send(());
            }
            Message::Ping => {}
            #[cfg(test)]
            Message::BreakLink => self.inner.iter().for_each(InnerServer::break_link),
            #[cfg(test)]
            Message::Panic => panic!("a panic of the gate's thread, as a test"),
        }
    }

    fn open(&mut self, listener: TcpListener) -> io::Result<ListenerId> {
        listener.set_nonblocking(true)?;
        let id = ListenerId(self.last_listener + 1);
        let flags = if self.accept_pause.is_some() { EventFlags::empty() } else { EventFlags::IN };
        epoll::add(&self.mailbox.epoll, &listener, EventData::new_u64(LISTENER | id.0), flags)?;
        self.last_listener = id.0;
        self.listeners.push(Listener { id, socket: listener, is_handed_over: false });
        Ok(id)
    }

    fn close(&mut self, id: ListenerId, now: Instant) {
        if let Some(index) = self.listeners.iter().position(|listener| listener.id == id) {
            let listener = self.listeners.swap_remove(index);
            // A duplicate elsewhere would keep the socket in the set.
            let _ = epoll::delete(&self.mailbox.epoll, &listener.socket);
        }
        for id in self.table.find(|client| client.listener == id && client.is_between_requests()) {
            self.end_by_id(id, now);
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        let is_about_to_ask =
            |client: &Client| !client.has_asked && now < client.quiet_since + ABOUT_TO_ASK && !client.closes;
        self.with_handlers == 0
            && self.shares.queued() == 0
            && self.table.writing() == 0
            && self.table.find(is_about_to_ask).is_empty()
    }

    /// Sets the events of all listening sockets: none during a pause.
    pub(super) fn listen_for(&self, flags: EventFlags) {
        for listener in self.listeners.iter().filter(|listener| !listener.is_handed_over) {
            let token = EventData::new_u64(LISTENER | listener.id.0);
            let _ = epoll::modify(&self.mailbox.epoll, &listener.socket, token, flags);
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

    pub(super) fn end_by_id(&mut self, id: u64, now: Instant) {
        if let Some(client) = self.table.remove(id, &mut self.shares) {
            self.end(id, client, now);
        }
    }

    fn on_answered(&mut self, connection: Connection, unsent: Vec<u8>, now: Instant) {
        let id = connection.id();
        let mut client = connection.into_client();
        let place = &mut client.place;
        self.in_flight -= usize::from(std::mem::take(&mut place.is_in_flight));
        self.with_handlers -= usize::from(std::mem::take(&mut place.is_with_handler));
        self.send_rest(id, client, unsent, now);
        while let Some(slowest) = self.table.slowest_beyond(UNSENT_BYTES) {
            self.end_by_id(slowest, now);
        }
    }

    /// Passes requests on to tiny_http, as many as may be in flight, one of each client in turn.
    fn pass_on(&mut self, now: Instant) {
        if self.inner.is_none() && now >= self.inner_started + RESTART_PAUSE {
            if let Err(error) = self.start_inner(now) {
                self.log.fault(format!("cannot start the HTTP server, requests wait: {error}"));
            }
        }
        while self.in_flight < IN_FLIGHT {
            let Some(inner) = &mut self.inner else { return };
            let Some(id) = self.shares.next_request(self.policy.rate(), now) else { return };
            let Some(mut client) = self.table.remove(id, &mut self.shares) else { continue };
            let Phase::Queued(head) = std::mem::replace(&mut client.phase, Phase::Reading) else { continue };
            (client.place.is_in_flight, client.place.is_with_handler) = (true, true);
            self.in_flight += 1;
            self.with_handlers += 1;
            // Before it is sent: a worker looks for the connection as soon as the request is parsed.
            self.mailbox.put_parsing(Connection::new(id, client));
            if inner.send(&head.forwarded).is_err() {
                self.drop_inner();
            }
        }
    }

    fn progress_link(&mut self, token: u64) {
        let (generation, index) = (token >> 8, (token & 0xFF) as usize);
        let Some(inner) = self.inner.as_mut().filter(|_| generation == self.generation) else { return };
        if inner.progress(index).is_err() {
            self.drop_inner();
        }
    }

    /// Gives up a tiny_http that has ended one of its connections. The requests inside end with their
    /// connections.
    fn drop_inner(&mut self) {
        self.log.fault("a connection to the HTTP server inside has ended; another server is started");
        self.inner = None;
        drop(self.mailbox.drain_parsing());
    }

    fn start_inner(&mut self, now: Instant) -> io::Result<()> {
        self.generation += 1;
        self.inner_started = now;
        let generation = self.generation;
        let token = |index| LINK | generation << 8 | index as u64;
        self.inner = Some(InnerServer::start(&self.mailbox.epoll, token, &self.on_request)?);
        Ok(())
    }
}

impl Policy {
    /// Returns the bucket of each client that has one.
    pub(super) fn rate(&self) -> Rate {
        let Limits { requests_per_second, request_burst, .. } = &self.limits;
        Rate { per_second: f64::from(*requests_per_second), burst: f64::from(*request_burst) }
    }

    /// Returns the limits of a new connection.
    pub(super) fn places(&self, ip: IpAddr) -> Places {
        let per_client = match self.is_trusted_proxy(ip) {
            true => usize::MAX,
            false => self.limits.connections_per_address.of(ip),
        };
        let rate = (!self.has_free_requests(ip)).then(|| self.rate());
        Places { total: self.limits.connections as usize, per_client, rate }
    }

    /// Returns `true` for a client without a bucket: a trusted proxy, this machine itself, and a client that
    /// may have any number of connections.
    pub(super) fn has_free_requests(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        // Players and proxies on this machine have no other address to come from.
        let is_itself = ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST;
        is_itself || self.limits.connections_per_address.of(ip) == usize::MAX || self.is_trusted_proxy(ip)
    }

    fn is_trusted_proxy(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&ip))
    }
}
