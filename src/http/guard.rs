//! What strangers may take of the machine, and that the doors stay open.
//!
//! tiny_http accepts whoever comes, reads whatever they send, and waits for them for ever. The guard is a thread
//! beside it that knows every connection from outside, by the process's own descriptors and the kernel's count
//! of what came over each (`TCP_INFO`), and ends those that take too much:
//!
//! | what | limit | then |
//! |---|---|---|
//! | connections in all, and from one address | `connections`, `connections_per_address` | the one that has asked for nothing for the longest time is closed; a request for which there is no such one is answered with 503 |
//! | a request's line and headers | `header_bytes` | 431 |
//! | time to send a request | `request_seconds` | 408 |
//! | time without a request | `idle_seconds` | closed |
//! | requests ahead of the answers; or much too long a request | 8; 4 × `header_bytes` | closed, and its address kept out (`bans.rs`) |
//!
//! The first answer is written here, on the socket itself, when tiny_http has not begun to answer anything. Who
//! asks in full gets an answer within milliseconds, and so is never the one that has waited for the longest: a
//! thousand half requests keep nobody out, not even from the same address. Behind a trusted proxy all come from
//! one address, so that its connections are not counted by address.
//!
//! # What it costs
//!
//! Nothing while nobody comes and nobody sends: it sleeps in epoll_wait(2) until somebody connects or, on a
//! connection, something comes. (Of those who connect epoll does not tell when tiny_http was faster, so that
//! the kernel sends a signal for each.) When it wakes it looks at all descriptors at once, at most
//! every millisecond and for no more than a tenth of the time. With 1000 listeners that took 0.4 ms of each second, and
//! 9 ms while somebody else came ten times a second.
//!
//! # Forgotten connections
//!
//! tiny_http 0.12 gives each connection to a thread of its pool, and starts a new one when it counts no idle
//! one. But it counts a thread as idle until that has woken up: of connections that come within those
//! microseconds, more are queued than there are threads for. A queued one waits until another connection
//! *ends*, and with endless streams that is never. (Of 100 players that connected at once, 4 to 97 heard
//! something.) Such a connection is known by what nobody reads: its request lies in the kernel. What helps is one
//! more connection, which ends at once: its thread then looks into the queue.
//!
//! # Dead acceptors
//!
//! See `acceptor.rs`. As an acceptor can only die of somebody who comes, it is looked after
//! whenever somebody does.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};
use signal_hook::consts::SIGIO;
use tiny_http::Request;

use super::acceptor::{self, Acceptor, Take};
use super::bans::{self, Bans, Often};
use super::dismiss::{Dismisser, Refusal};
use super::own_thread;
use super::server::LARGEST_BODY;
use super::sockets::{self, Connected, Traffic};
use super::stream::shown;
use crate::config::Limits;
use crate::hub::Hub;
use crate::{os, threads};

/// In epoll's events: somebody came. Connections have tokens from 1 on.
const CAME: u64 = 0;
/// Requests that may wait on one connection behind the one that is being answered.
const MOST_WAITING: usize = 8;
/// `GET / HTTP/1.1` and two ends of lines.
const SHORTEST_REQUEST: u64 = 18;
/// What tiny_http may have read ahead of what it has made a request of.
const READ_AHEAD: u64 = 1024;
/// So many times as much as a request may have is no accident, like a browser's many cookies.
const FLOOD: u64 = 4;
/// And neither are more than so many requests of one address that are too large
const MOST_LARGE: usize = 2;
/// within this.
const LARGE_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks, so that of many who come at once each does not cost one.
const PAUSE: Duration = Duration::from_millis(1);
/// And so many times what a look takes.
const LEISURE: u32 = 10;
/// A request that lies unread for so long is forgotten: a thread that has it would have read it.
const PATIENCE: Duration = Duration::from_millis(10);
/// An acceptor is looked after again this long after somebody came: it may take its time to die.
const AFTERWARDS: Duration = Duration::from_millis(300);
/// So many idle connections, at the least, end where a request, or an attempt to have an acceptor again, fails for want
/// of descriptors or threads.
const SACRIFICED: usize = 4;
/// So many of those who wait, at the most, are thought of at such an attempt;
const MOST_THOUGHT_OF: usize = 16;
/// and half as many after each so many attempts, and the others are refused: what they would take is not to be had.
const PERSISTENCE: u32 = 4;
/// The acceptor may take so many times 2 ms to end.
const HANDING_OVER: u32 = 250;
/// Who has come so recently is going to ask for something, and is answered before the process ends.
const ABOUT_TO_ASK: Duration = Duration::from_millis(500);
/// From one attempt to have an acceptor again to the next.
const RETRY: Duration = Duration::from_millis(20);
/// So many may wait for one that begins anew: each may be one of those for whom it has to.
const FEW_WAITING: i32 = 64;
/// While there are connections, a look is at most so long ago.
const LONGEST: Duration = Duration::from_secs(5);
/// Refusals that follow each other within this are one burst, and one or two lines in the log.
const BURST: Duration = Duration::from_secs(10);
/// Of the listeners of one address the log tells of so many
const MOST_TOLD: usize = 20;
/// within this.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
/// A burst that goes on is told of this often.
const LONG_BURST: Duration = Duration::from_secs(60);

/// Whom limits per address mean: an IPv4 address, or an IPv6 network of 64 bits, of which every household has a
/// whole one.
pub(super) fn party(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

/// The connections of all listening sockets, and the thread that looks after them.
pub struct Guard {
    hub: Arc<Hub>,
    epoll: OwnedFd,
    /// Has the guard look, as the kernel's signal does.
    call: UnixStream,
    /// The kernel does not signal who connects.
    deaf: AtomicBool,
    dismisser: Dismisser,
    /// There was no thread or descriptor for a request: idle connections have to make room.
    starved: AtomicBool,
    table: Mutex<Table>,
    doors: Mutex<Vec<Arc<Door>>>,
    bursts: Mutex<Vec<Burst>>,
    /// Of whose listeners the log has told, by party.
    told: Mutex<Often>,
    /// Who sent requests that were too large.
    large: Mutex<Often>,
    /// Whose packets the kernel drops.
    bans: Mutex<Bans>,
}

#[derive(Default)]
struct Table {
    connections: HashMap<Key, Connection>,
    /// How many of them are being answered, in all and for each party.
    answered: usize,
    answered_of: HashMap<IpAddr, usize>,
    /// Counts the looks.
    look: u64,
    /// Counts up; 0 is none's.
    last_token: u64,
    last_door: u64,
}

/// The listening socket's number, and who is connected to it.
type Key = (u64, SocketAddr);

/// A connection from outside.
struct Connection {
    /// In epoll's events.
    token: u64,
    /// The look at which it was last there.
    look: u64,
    /// A descriptor that tiny_http has of it.
    number: Option<RawFd>,
    came: Instant,
    /// Since when nothing of it is being answered.
    quiet: Instant,
    /// Since when a part of a request is there.
    asking: Option<Instant>,
    /// Complete requests until now, and at the last look.
    requests: u64,
    requests_seen: u64,
    /// The length of the last one's body.
    body: u64,
    /// What had been read when its last request was complete.
    read_before: u64,
    /// Since when its first request lies there and nobody reads it.
    unread: Option<Instant>,
    /// Requests that wait behind the one being answered; `None` while none is.
    waiting: Option<VecDeque<Request>>,
    /// It was ended, and is about to disappear; or is to be ended as soon as its descriptor is known.
    ended: bool,
    to_end: Option<Why>,
}

/// A listening socket.
pub(super) struct Door {
    id: u64,
    /// Where it is.
    pub(super) address: SocketAddr,
    /// The socket; the acceptor has another descriptor of it.
    pub(super) listener: TcpListener,
    phase: AtomicU8,
    take: Take,
    accepting: Mutex<Accepting>,
}

/// The acceptor, and the attempts to have one that lives.
struct Accepting {
    /// `None` before the first.
    acceptor: Option<Acceptor>,
    died: Option<Instant>,
    /// Not before this it is tried again.
    again: Option<Instant>,
    /// Attempts since it died for which there was too little of something.
    failed: u32,
}

/// Connections are accepted.
const OPEN: u8 = 0;
/// Another process accepts from now on.
const HANDED_OVER: u8 = 1;
/// Nobody does any more.
const CLOSED: u8 = 2;

/// What becomes of a request.
pub(super) enum Asked {
    /// It is to be answered now, by a thread of its own.
    Now(Request),
    /// It waits behind another one of its connection.
    Later,
    /// Its connection was ended, with an answer if one was possible.
    Gone(Request),
}

const CROWDED: Refusal = ("503 Service Unavailable", "Too many connections.");

/// Why a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Crowded,
    Full,
    NoThread,
    Large,
    Slow,
    Idle,
    Pipelined,
    Closed,
}

impl Why {
    /// What has to be said in the log, if anything.
    fn said(self) -> Option<&'static str> {
        match self {
            Why::Crowded => Some("has too many connections, or all together have; idle ones are closed"),
            Why::Full => Some("is refused: there are too many connections"),
            Why::NoThread => Some("is refused: there is no thread to answer"),
            Why::Large => Some("sent a request that is too large, and was disconnected"),
            Why::Slow => Some("did not finish its request in time, and was disconnected"),
            Why::Pipelined => Some("asks faster than it takes answers, and was disconnected"),
            Why::Idle | Why::Closed => None,
        }
    }

    /// Status line, and what follows Retry-After.
    fn answer(self) -> Option<Refusal> {
        match self {
            Why::Crowded => Some(CROWDED),
            Why::Full => Some(("503 Service Unavailable", "Too many connections are being answered.")),
            Why::NoThread => Some(("503 Service Unavailable", "There is no thread to answer this.")),
            Why::Large => Some(("431 Request Header Fields Too Large", "The request is too large.")),
            Why::Slow => Some(("408 Request Timeout", "The request was not finished in time.")),
            Why::Idle | Why::Pipelined | Why::Closed => None,
        }
    }
}

/// A row of refusals of one kind.
struct Burst {
    what: String,
    began: Instant,
    last: Instant,
    count: u64,
}

impl Guard {
    /// Starts the thread, which ends with the process.
    ///
    /// # Errors
    ///
    /// When the operating system has no thread or no descriptor for it.
    pub fn start(hub: Arc<Hub>) -> io::Result<Arc<Guard>> {
        own_thread::have_reserve();
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let (told, tell) = UnixStream::pair()?;
        told.set_nonblocking(true)?;
        let call = tell.try_clone()?;
        signal_hook::low_level::pipe::register(SIGIO, tell)?;
        epoll::add(&epoll, &told, EventData::new_u64(CAME), EventFlags::IN | EventFlags::ET)?;
        let guard = Arc::new(Guard {
            hub,
            epoll,
            call,
            deaf: AtomicBool::new(false),
            dismisser: Dismisser::new()?,
            starved: AtomicBool::new(false),
            table: Mutex::default(),
            doors: Mutex::default(),
            bursts: Mutex::default(),
            told: Mutex::new(Often::new(MOST_TOLD, TOLD_WITHIN)),
            large: Mutex::new(Often::new(MOST_LARGE, LARGE_WITHIN)),
            bans: Mutex::default(),
        });
        let same = Arc::clone(&guard);
        threads::start("guard", None, move || {
            let mut watch = Watch {
                guard: same,
                told,
                connected: Connected::default(),
                dirty: HashSet::new(),
                afterwards: None,
                has_ended_some: false,
            };
            let mut timeout = None;
            loop {
                // A look that panics is one that was not made. It is made again in a second.
                timeout = catch_unwind(AssertUnwindSafe(|| watch.turn(timeout)))
                    .unwrap_or(Some(Duration::from_secs(1)));
            }
        })?;
        Ok(guard)
    }

    /// Looks after a listening socket from now on. Requests go to `take`.
    ///
    /// # Errors
    ///
    /// When the operating system has no thread or no descriptor for it.
    pub(super) fn open(
        &self,
        listener: TcpListener,
        take: impl Fn(&Arc<Door>, Request) + Send + Sync + 'static,
    ) -> io::Result<Arc<Door>> {
        let id = {
            let mut table = self.lock();
            table.last_door += 1;
            table.last_door
        };
        let address = listener.local_addr()?;
        let door = Arc::new_cyclic(|door: &Weak<Door>| {
            let weak = Weak::clone(door);
            Door {
                id,
                address,
                listener,
                phase: AtomicU8::new(OPEN),
                take: Arc::new(move |request| {
                    // It is there as long as its acceptor.
                    if let Some(door) = weak.upgrade() {
                        take(&door, request);
                    }
                }),
                accepting: Mutex::new(Accepting { acceptor: None, died: None, again: None, failed: 0 }),
            }
        });
        epoll::add(&self.epoll, &door.listener, EventData::new_u64(CAME), EventFlags::IN | EventFlags::ET)?;
        // Before anybody accepts, so that of all who come none is missed.
        if let Err(error) = os::signal_connections(&door.listener) {
            debug!("{address}: the kernel does not signal who connects: {error}");
            self.deaf.store(true, Ordering::Relaxed);
        }
        self.filter(&door);
        door.accepting().acceptor = Some(Acceptor::start(&door.listener, Arc::clone(&door.take))?);
        self.doors().push(Arc::clone(&door));
        // For those who came before.
        let _ = (&self.call).write(&[0]);
        Ok(door)
    }

    /// Takes in a request.
    pub(super) fn ask(&self, door: &Door, peer: SocketAddr, request: Request) -> Asked {
        let key = (door.id, peer);
        let limits = self.hub.limits();
        let connections = limits.connections.min(self.hub.stuck.room()) as usize;
        let party = self.party(peer);
        let is_banned = party.is_some_and(|party| self.lock_bans().has(party, Instant::now()));
        let mut table = self.lock();
        // More is never read: see `LARGEST_BODY`.
        let body = request.body_length().unwrap_or(0).min(LARGEST_BODY) as u64;
        let Table { answered, answered_of, .. } = &*table;
        let of_party = party.and_then(|party| answered_of.get(&party).copied()).unwrap_or(0);
        let most = limits.connections_per_address.of(peer.ip());
        let is_full = *answered >= connections || of_party >= most;
        let connection = table.of(key);
        connection.requests += 1;
        connection.body = body;
        if let Some(waiting) = connection.waiting.as_mut().filter(|waiting| waiting.len() < MOST_WAITING) {
            waiting.push_back(request);
            return Asked::Later;
        }
        let is_pipelined = !connection.ended && connection.waiting.is_some();
        if is_pipelined {
            self.end(connection, peer, Why::Pipelined);
        } else if !connection.ended && is_banned {
            // It was let in before that.
            self.end(connection, peer, Why::Closed);
        } else if !connection.ended && is_full {
            // Not through tiny_http: that would wait for one who does not read, and everybody with it.
            self.end(connection, peer, Why::Full);
        }
        if connection.ended {
            drop(table);
            if is_pipelined {
                self.strike(peer);
            }
            return Asked::Gone(request);
        }
        connection.waiting = Some(VecDeque::new());
        table.answered += 1;
        if let Some(party) = party {
            *table.answered_of.entry(party).or_default() += 1;
        }
        Asked::Now(request)
    }

    /// The next request of that connection, whose last one was answered.
    pub(super) fn next(&self, door: &Door, peer: SocketAddr) -> Option<Request> {
        let mut table = self.lock();
        let connection = table.connections.get_mut(&(door.id, peer))?;
        if let Some(request) = connection.waiting.as_mut().and_then(VecDeque::pop_front) {
            return Some(request);
        }
        // Under the same lock: a request that comes after this finds that none is being answered.
        connection.waiting = None;
        connection.quiet = Instant::now();
        connection.asking = None;
        table.answered_one_less(self.party(peer));
        None
    }

    /// No more requests of that connection are going to be answered; those that wait.
    pub(super) fn give_up(&self, door: &Door, peer: SocketAddr) -> VecDeque<Request> {
        let mut table = self.lock();
        let connection = table.connections.get_mut(&(door.id, peer));
        let left = connection.and_then(|connection| {
            connection.quiet = Instant::now();
            connection.waiting.take()
        });
        if left.is_some() {
            table.answered_one_less(self.party(peer));
        }
        left.unwrap_or_default()
    }

    /// Ends a connection whose request nobody can answer.
    pub(super) fn refuse(&self, door: &Door, peer: SocketAddr) {
        let left = self.give_up(door, peer);
        debug_assert!(left.is_empty(), "nobody was there to take a second one");
        if let Some(connection) = self.lock().connections.get_mut(&(door.id, peer)) {
            self.end(connection, peer, Why::NoThread);
        }
        self.starve();
    }

    /// Has room made for the next one, where there was none for a request.
    fn starve(&self) {
        self.starved.store(true, Ordering::Relaxed);
        let _ = (&self.call).write(&[0]);
    }

    /// A duplicate of that connection's socket; `None` where it has ended, or where there is no descriptor left.
    pub(super) fn socket(&self, door: &Door, peer: SocketAddr) -> Option<TcpStream> {
        let number = self.number(door, peer)?;
        let socket = sockets::duplicate(number, peer);
        if socket.is_none() && sockets::traffic(number, peer).is_some() {
            self.starve();
        }
        socket
    }

    /// Shuts down a connection that was not ended yet, or one half of it.
    pub(super) fn shut_down(&self, door: &Door, peer: SocketAddr, how: Shutdown) {
        if let Some(number) = self.number(door, peer) {
            let _ = self.dismisser.with(number, peer, |socket| rustix::net::shutdown(socket, how));
        }
    }

    /// A descriptor of a connection that was not ended.
    fn number(&self, door: &Door, peer: SocketAddr) -> Option<RawFd> {
        let number = {
            let table = self.lock();
            let connection = table.connections.get(&(door.id, peer));
            if connection.is_some_and(|connection| connection.ended) {
                return None;
            }
            connection.and_then(|connection| connection.number)
        };
        // It may not have been looked for yet, or tiny_http has closed the one of its descriptors that was found.
        number.filter(|number| sockets::is(*number, peer)).or_else(|| sockets::find(peer))
    }

    /// Whether nobody waits for answers on that connection any more.
    pub(super) fn has_ended(&self, door: &Door, peer: SocketAddr) -> bool {
        self.lock().connections.get(&(door.id, peer)).is_some_and(|connection| connection.ended)
    }

    /// Whether nothing is being answered there, and nobody who has just come is about to ask.
    pub(super) fn is_idle(&self, door: &Door) -> bool {
        let connected = Connected::default().look();
        let table = self.lock();
        let has_to_wait = |one: &Connection| {
            one.waiting.is_some() || one.requests == 0 && !one.ended && one.came.elapsed() < ABOUT_TO_ASK
        };
        let is_new = |(number, peer): (RawFd, SocketAddr)| {
            !table.connections.contains_key(&(door.id, peer))
                && sockets::local_of(number).is_some_and(|local| is_at(door.address, local))
        };
        let mut known = table.connections.iter().filter(|((id, _), _)| *id == door.id);
        !known.any(|(_, one)| has_to_wait(one)) && !connected.into_iter().any(is_new)
    }

    /// Has the kernel drop what comes from whoever that is, for an hour, unless it may have any number of connections.
    pub(super) fn ban(&self, peer: SocketAddr) {
        let Some(party) = self.party_to_ban(peer) else { return };
        if self.lock_bans().add(party, bans::LONGEST, Instant::now()) {
            self.drop_packets();
            self.say_banned(party, bans::LONGEST);
        }
    }

    /// Keeps somebody out for a while of whom a connection was ended because it sent too much. The guard's thread sees to
    /// what else of it is open: whoever calls this has little time.
    fn strike(&self, peer: SocketAddr) {
        let Some(party) = self.party_to_ban(peer) else { return };
        let time = self.lock_bans().strike(party, Instant::now());
        if let Some(time) = time {
            self.drop_packets();
            self.say_banned(party, time);
        }
    }

    fn say_banned(&self, party: IpAddr, time: Duration) {
        self.say(party, &format!("is not let in for {} s", time.as_secs()));
    }

    /// Notes that a request was too large, which happens to browsers that have too many cookies; whether it is no accident
    /// any more.
    fn is_too_large_too_often(&self, peer: SocketAddr, now: Instant) -> bool {
        let mut large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
        large.again(party(peer.ip()), now)
    }

    /// Not this machine itself, whatever is told to keep to a limit: players and proxies on it have nowhere else to
    /// come from.
    fn party_to_ban(&self, peer: SocketAddr) -> Option<IpAddr> {
        let ip = peer.ip().to_canonical();
        let is_itself = ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST;
        let is_limited = self.hub.limits().connections_per_address.of(ip) < usize::MAX;
        self.party(peer).filter(|_| is_limited && !is_itself)
    }

    /// Those who are not let in for now.
    fn banned(&self) -> Vec<IpAddr> {
        self.lock_bans().current(Instant::now())
    }

    /// Those of them who did what cannot be an accident.
    pub(crate) fn banned_for_long(&self) -> Vec<IpAddr> {
        self.lock_bans().long(Instant::now())
    }

    /// The same, from one that ran before.
    pub(crate) fn set_banned_for_long(&self, parties: impl Iterator<Item = IpAddr>) {
        let now = Instant::now();
        for party in parties {
            self.lock_bans().add(party, bans::LONGEST, now);
        }
        self.drop_packets();
    }

    fn drop_packets(&self) {
        for door in self.doors().iter() {
            self.filter(door);
        }
    }

    /// Lets some wait for the next one, after [`Server::hand_over`](super::server::Server::hand_over).
    pub(super) fn let_wait(&self, door: &Door) {
        let _ = rustix::net::listen(&door.listener, FEW_WAITING);
        self.filter(door);
        // The others that wait already have to come again. With so many there, this does not wait for one.
        while os::waiting_connections(&door.listener) > FEW_WAITING as u32 {
            if rustix::net::accept(&door.listener).is_err() {
                break;
            }
        }
    }

    /// A socket that was there before may have an old filter.
    fn filter(&self, door: &Door) {
        if let Err(error) = os::drop_packets_from(&door.listener, &self.banned()) {
            debug!("{}: packets cannot be dropped: {error}", door.address);
        }
    }

    /// Keeps those out who are banned now, and lets those in again whose time is over; when to look again.
    fn keep_out(&self, now: Instant) -> Option<Instant> {
        let mut bans = self.lock_bans();
        let (changed, next) = (bans.have_changed(now), bans.next(now));
        drop(bans);
        if changed {
            self.drop_packets();
        }
        next
    }

    /// Lets nobody in any more; who is there stays.
    pub(super) fn shut(&self) {
        for door in self.doors().iter() {
            door.shut();
        }
    }

    /// Who counts as one for limits per address; `None` for proxies.
    fn party(&self, peer: SocketAddr) -> Option<IpAddr> {
        let ip = peer.ip().to_canonical();
        (!self.hub.access().is_proxy(ip)).then(|| party(ip))
    }

    /// Ends a connection, with an answer if it may expect one.
    fn end(&self, connection: &mut Connection, peer: SocketAddr, why: Why) {
        connection.ended = true;
        let Some(number) = connection.number else {
            // It is looked for in a moment.
            connection.to_end = Some(why);
            return;
        };
        // tiny_http has nothing to say between one request's answer and the next request. Where it is not found it is
        // gone.
        self.dismisser.end(number, peer, why.answer().filter(|_| connection.waiting.is_none()));
        match why.said() {
            Some(what) => self.say(shown(peer), what),
            None => debug!("{peer}: {why:?}"),
        }
    }

    /// Refuses so many of those who have waited for the longest time at a socket of which nobody accepts, so that the
    /// others have somebody who does.
    fn turn_away(&self, door: &Door, count: usize) {
        for peer in self.dismisser.turn_away(&door.listener, count, CROWDED) {
            self.say(shown(peer), "is refused: there are too many connections");
        }
    }

    /// Logs a refusal, but not each one of many.
    pub(super) fn say(&self, who: IpAddr, what: &str) {
        let now = Instant::now();
        let mut bursts = self.bursts.lock().unwrap_or_else(PoisonError::into_inner);
        match bursts.iter_mut().find(|burst| burst.what == what) {
            Some(burst) => (burst.last, burst.count) = (now, burst.count + 1),
            None => {
                warn!("{who} {what}");
                bursts.push(Burst { what: what.to_owned(), began: now, last: now, count: 1 });
            }
        }
    }

    /// Whether the log has a line for one more listener of that address. There is one for each; but who comes and
    /// goes without end does not fill the journal with it.
    pub(super) fn tells_of(&self, who: IpAddr) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let tells = !told.again(party(who), Instant::now());
        drop(told);
        if !tells {
            self.say(who, "begins to listen again and again; the log does not have each time");
        }
        tells
    }

    /// Tells of bursts that are over, or go on and on; when to look again.
    fn end_bursts(&self, now: Instant) -> Option<Instant> {
        let mut bursts = self.bursts.lock().unwrap_or_else(PoisonError::into_inner);
        bursts.retain_mut(|burst| {
            let over = now >= burst.last + BURST;
            let long = now >= burst.began + LONG_BURST;
            if (over || long) && burst.count > 1 {
                let time = burst.last.duration_since(burst.began).as_secs_f64();
                warn!("{} times within {time:.0} s: somebody {}", burst.count, burst.what);
            }
            if long && !over {
                (burst.began, burst.count) = (now, 0);
            }
            !over
        });
        bursts.iter().map(|burst| (burst.last + BURST).min(burst.began + LONG_BURST)).min()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_bans(&self) -> MutexGuard<'_, Bans> {
        self.bans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doors(&self) -> MutexGuard<'_, Vec<Arc<Door>>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The connection of that key, which may be a new one.
    fn of(&mut self, key: Key) -> &mut Connection {
        let Table { connections, look, last_token, .. } = self;
        connections.entry(key).or_insert_with(|| {
            *last_token += 1;
            let now = Instant::now();
            Connection {
                token: *last_token,
                look: *look,
                number: None,
                came: now,
                quiet: now,
                asking: None,
                requests: 0,
                requests_seen: 0,
                body: 0,
                read_before: 0,
                unread: None,
                waiting: None,
                ended: false,
                to_end: None,
            }
        })
    }

    fn answered_one_less(&mut self, party: Option<IpAddr>) {
        self.answered = self.answered.saturating_sub(1);
        // A party that is a proxy since it began was counted, and stays so until it begins anew; that is no harm.
        if let Some(count) = party.and_then(|party| self.answered_of.get_mut(&party)) {
            *count = count.saturating_sub(1);
        }
        self.answered_of.retain(|_, count| *count > 0);
    }
}

impl Door {
    /// Accepts no more; who connects from now on waits for another process that has the socket.
    pub(super) fn hand_over(&self) {
        self.phase.store(HANDED_OVER, Ordering::Relaxed);
        // tiny_http's acceptor ends at an accept that would have to wait. It waits in one already, which one
        // more connection ends; it may as well be a real one, which is then answered here.
        let _ = self.listener.set_nonblocking(true);
        nudge(self.address);
        // So many looks, not so long: a machine that stands still takes nothing of its time.
        for _ in 0..HANDING_OVER {
            if !self.accepting().acceptor.as_ref().is_some_and(Acceptor::lives) {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        debug!("{}: still accepts", self.address);
    }

    /// Accepts no more, and lets nobody wait.
    fn shut(&self) {
        let open = self.phase.compare_exchange(OPEN, HANDED_OVER, Ordering::Relaxed, Ordering::Relaxed);
        if open.is_ok() {
            let _ = self.listener.set_nonblocking(true);
            nudge(self.address);
            // tiny_http accepts all who wait before it ends. There are to be no more of them.
            if let Err(error) = os::drop_all_packets(&self.listener) {
                debug!("{}: packets cannot be dropped: {error}", self.address);
            }
        }
    }

    /// Accepts no more; the address is free after this. Connections that ask for nothing are closed.
    pub(super) fn close(&self) {
        self.phase.store(CLOSED, Ordering::Relaxed);
        // tiny_http closes its socket some time later. One that does not listen any more does not keep others
        // from its address. The guard hears of it too.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(acceptor) = &self.accepting().acceptor {
            acceptor.close();
        }
    }

    /// Whether connections are to be accepted.
    pub(super) fn is_open(&self) -> bool {
        self.phase() == OPEN
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }

    fn accepting(&self) -> MutexGuard<'_, Accepting> {
        self.accepting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that somebody accepts, where there is room for so many; when to look again if that is not sure.
    fn keep_open(&self, now: Instant, room: usize) -> Opening {
        let mut accepting = self.accepting();
        let Accepting { acceptor, died, again, failed } = &mut *accepting;
        let Some(acceptor) = acceptor.as_ref().filter(|_| self.phase() == OPEN) else {
            return Opening::Sure;
        };
        let lives = acceptor.lives();
        match (lives, *died) {
            (true, None) => return Opening::Sure,
            (true, Some(since)) => {
                // It may die at its first accept: it is as good as before only after a while.
                let sure = again.map_or(now, |again| again + AFTERWARDS);
                if now < sure {
                    return Opening::Tried(sure.min(now + RETRY));
                }
                let seconds = (now - since).as_secs_f64();
                info!("{}: connections are accepted again, after {seconds:.1} s", self.address);
                (*died, *again, *failed) = (None, None, 0);
                return Opening::Sure;
            }
            (false, None) => {
                *died = Some(now);
                warn!(
                    "{}: nobody can connect: {}; tried again until it works",
                    self.address,
                    acceptor.problem()
                );
            }
            (false, Some(_)) => {}
        }
        if let Some(again) = again.filter(|again| *again > now) {
            return Opening::Tried(again);
        }
        *again = Some(now + RETRY);
        let waiting = os::waiting_connections(&self.listener) as usize;
        let most = MOST_THOUGHT_OF >> (*failed / PERSISTENCE).min(usize::BITS - 1);
        let room = if *failed < PERSISTENCE { room } else { room.min(most) };
        let thought_of = waiting.min(room).min(most);
        // With too little of everything it would only die again.
        match acceptor::is_worth_it(thought_of + 1).and_then(|()| acceptor.again(&self.listener)) {
            Ok(()) => Opening::Tried(now + RETRY),
            Err(error) => {
                debug!("{}: no acceptor for {thought_of} of {waiting}: {error}", self.address);
                *failed += 1;
                Opening::Starved {
                    again: now + RETRY,
                    wanted: thought_of,
                    excess: waiting.saturating_sub(room),
                }
            }
        }
    }
}

/// Whether somebody accepts.
enum Opening {
    Sure,
    /// It is seen then whether it lives.
    Tried(Instant),
    /// It is tried again then, and there has to be room for so many; so many others wait for whom there is none.
    Starved {
        again: Instant,
        wanted: usize,
        excess: usize,
    },
}

/// The guard's thread.
struct Watch {
    guard: Arc<Guard>,
    /// A byte for each signal that somebody has connected.
    told: UnixStream,
    connected: Connected,
    /// Tokens of those that sent something since they were last looked at.
    dirty: HashSet<u64>,
    /// When to look again because somebody came.
    afterwards: Option<Instant>,
    /// At the last look somebody took too much.
    has_ended_some: bool,
}

impl Watch {
    /// Waits until there is something to look at, at most for so long, and looks at it; how long it can wait
    /// afterwards.
    fn turn(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        let mut events = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 256];
        let timeout = timeout.and_then(|time| rustix::time::Timespec::try_from(time).ok());
        // Interrupted at the worst.
        let count = epoll::wait(&self.guard.epoll, &mut events, timeout.as_ref()).unwrap_or(0);
        let came = events[..count].iter().any(|event| event.data.u64() == CAME);
        while came && self.told.read(&mut [0; 256]).is_ok_and(|count| count > 0) {}
        self.dirty.extend(events[..count].iter().map(|event| event.data.u64()));
        if count > 0 {
            thread::sleep(PAUSE);
        }
        let (began, busy) = (Instant::now(), os::thread_time());
        let mut next = self.look(began);
        if came {
            self.afterwards = Some(began + AFTERWARDS);
        }
        // Whatever else there is to look at meanwhile does not take its place.
        self.afterwards = self.afterwards.filter(|afterwards| *afterwards > began);
        next = self.afterwards.map_or(next, |afterwards| next.min(afterwards));
        // Its own time, not the clock's: where others take all of the time there is the more to look at. And where some
        // had to be ended there may be more of them soon.
        let took = os::thread_time().saturating_sub(busy);
        if took * LEISURE > PAUSE && !self.has_ended_some {
            // A machine that stood still meanwhile may count that as its time.
            thread::sleep((took * LEISURE - PAUSE).min(AFTERWARDS));
        }
        let may_sleep = !self.guard.deaf.load(Ordering::Relaxed) && self.guard.lock().connections.is_empty();
        let now = Instant::now();
        // With nobody there and nothing to wait for it sleeps until somebody comes.
        (!may_sleep || next < began + LONGEST).then(|| next.saturating_duration_since(now))
    }

    /// Looks at everything; when to look again at the latest.
    fn look(&mut self, now: Instant) -> Instant {
        let guard = Arc::clone(&self.guard);
        let limits = guard.hub.limits();
        let doors = guard.doors().clone();
        let mut next = now + LONGEST;
        let mut sooner = |when: Option<Instant>| next = when.map_or(next, |when| when.min(next));
        let room =
            (limits.connections.min(guard.hub.stuck.room()) as usize).saturating_sub(guard.lock().answered);
        let mut sacrificed = if guard.starved.swap(false, Ordering::Relaxed) { SACRIFICED } else { 0 };
        for door in &doors {
            match door.keep_open(now, room) {
                Opening::Sure => {}
                Opening::Tried(again) => sooner(Some(again)),
                Opening::Starved { again, wanted, excess } => {
                    sooner(Some(again));
                    guard.turn_away(door, excess);
                    sacrificed = sacrificed.max(wanted).max(SACRIFICED);
                }
            }
            // Who is not let in yet has no descriptor to be found by, and will not be heard of again.
            if door.phase() == OPEN && os::waiting_connections(&door.listener) > 0 {
                sooner(Some(now + PAUSE));
            }
        }

        let look = {
            let mut table = guard.lock();
            table.look += 1;
            table.look
        };
        let connected = self.connected.look();
        let banned = guard.banned();
        let mut table = guard.lock();
        self.meet(&mut table, &doors, connected, look);
        // Those who are gone. One that came meanwhile is of this look, and one that is being answered is known by
        // its thread.
        table.connections.retain(|_, one| {
            if one.look < look {
                one.number = None;
            }
            one.look >= look || one.waiting.is_some()
        });
        let (mut nudges, mut struck) = (Vec::new(), Vec::new());
        self.has_ended_some = false;
        for ((id, peer), one) in &mut table.connections {
            let door = doors.iter().find(|door| door.id == *id);
            // Who is banned now may have been let in before, with much more to say.
            let closed = door.is_none_or(|door| door.phase() == CLOSED)
                || guard.party(*peer).is_some_and(|party| banned.contains(&party));
            match self.judge(one, *peer, closed, &limits, now) {
                Verdict::Fine(again) => sooner(again),
                Verdict::Forgotten => {
                    debug!("{peer}: its request was left lying");
                    nudges.extend(door.map(|door| door.address));
                    sooner(Some(now + PATIENCE));
                }
                Verdict::Ends(why) => {
                    self.has_ended_some = true;
                    guard.end(one, *peer, why);
                    if why == Why::Large && guard.is_too_large_too_often(*peer, now) {
                        struck.push(*peer);
                    }
                }
                Verdict::Floods(why) => {
                    self.has_ended_some = true;
                    guard.end(one, *peer, why);
                    struck.push(*peer);
                }
            }
        }
        self.dirty.clear();
        // What tiny_http has forgotten keeps its descriptors even if it was ended, until the thread of another
        // connection that ends looks for it. Some have to be made to end, as nobody new can be let in for it.
        self.make_room(&mut table, &limits, sacrificed);
        let closed_and_empty = |door: &Arc<Door>| {
            door.phase() == CLOSED && !table.connections.keys().any(|(id, _)| *id == door.id)
        };
        let gone: Vec<u64> = doors.iter().filter(|door| closed_and_empty(door)).map(|door| door.id).collect();
        drop(table);
        if !gone.is_empty() {
            guard.doors().retain(|door| !gone.contains(&door.id));
        }
        for address in nudges {
            nudge(address);
        }
        for peer in struck {
            guard.strike(peer);
        }
        sooner(guard.keep_out(now));
        sooner(guard.end_bursts(now));
        next
    }

    /// Finds each connection in the table, or puts it there.
    fn meet(&self, table: &mut Table, doors: &[Arc<Door>], connected: Vec<(RawFd, SocketAddr)>, look: u64) {
        for (number, peer) in connected {
            let known =
                doors.iter().map(|door| (door.id, peer)).find(|key| table.connections.contains_key(key));
            let key = known.or_else(|| {
                let local = sockets::local_of(number)?;
                // Where one was closed, another one may be open at the same address by now.
                let mut here = doors.iter().filter(|door| is_at(door.address, local));
                let door = here.clone().find(|door| door.phase() != CLOSED).or_else(|| here.next())?;
                Some((door.id, peer))
            });
            let Some(key) = key else { continue };
            let one = table.of(key);
            if one.look == look && one.number.is_some() {
                // tiny_http holds each of them twice.
                continue;
            }
            one.look = look;
            if one.number != Some(number) {
                one.number = Some(number);
                if let Some(why) = one.to_end.take() {
                    self.guard.end(one, peer, why);
                }
                let token = EventData::new_u64(one.token);
                let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
                // It may be there already, by another number; or be gone. Both is as well.
                let _ =
                    os::with_descriptor(number, |socket| epoll::add(&self.guard.epoll, socket, token, flags));
            }
        }
    }

    /// Whether a connection keeps to the limits.
    fn judge(
        &self,
        one: &mut Connection,
        peer: SocketAddr,
        closed: bool,
        limits: &Limits,
        now: Instant,
    ) -> Verdict {
        let Some(number) = one.number.filter(|_| !one.ended) else { return Verdict::Fine(None) };
        let is_answered = one.waiting.is_some();
        if closed && !is_answered {
            return Verdict::Ends(Why::Closed);
        }
        if is_answered && one.requests == one.requests_seen && !self.dirty.contains(&one.token) {
            return Verdict::Fine(None);
        }
        let Some(Traffic { read, unread }) = sockets::traffic(number, peer) else {
            return Verdict::Fine(None);
        };
        if one.requests != one.requests_seen || read < one.read_before {
            one.requests_seen = one.requests;
            one.read_before = read;
            one.asking = None;
        }
        let head = read - one.read_before;
        let most = u64::from(limits.header_bytes) + READ_AHEAD + one.body;
        if head > most {
            return if head > FLOOD * most { Verdict::Floods(Why::Large) } else { Verdict::Ends(Why::Large) };
        }
        // Where many do so at once, those who count their requests get behind.
        if unread > MOST_WAITING as u64 * SHORTEST_REQUEST
            && sockets::requests_unread(number, peer) > MOST_WAITING + 1
        {
            return Verdict::Floods(Why::Pipelined);
        }
        if is_answered {
            return Verdict::Fine(None);
        }
        if one.requests == 0 {
            one.asking.get_or_insert(one.came);
        } else if head + unread > 0 {
            one.asking.get_or_insert(now);
        }
        let (end, why) = match one.asking {
            Some(since) => (since + limits.request_time, Why::Slow),
            None => (one.quiet + limits.idle_time, Why::Idle),
        };
        if now >= end {
            return Verdict::Ends(why);
        }
        if read > 0 || unread == 0 {
            one.unread = None;
            return Verdict::Fine(Some(end));
        }
        let since = *one.unread.get_or_insert(now);
        match now >= since + PATIENCE {
            true => Verdict::Forgotten,
            false => Verdict::Fine(Some(since + PATIENCE)),
        }
    }

    /// Ends those that have asked for nothing for the longest time, where there are too many, and so many in any case.
    fn make_room(&self, table: &mut Table, limits: &Limits, at_least: usize) {
        let guard = &self.guard;
        let mut of_party: HashMap<IpAddr, usize> = HashMap::new();
        let mut all = 0;
        for ((_, peer), _) in table.connections.iter().filter(|(_, one)| !one.ended) {
            all += 1;
            if let Some(party) = guard.party(*peer) {
                *of_party.entry(party).or_default() += 1;
            }
        }
        let connections = limits.connections.min(guard.hub.stuck.room()) as usize;
        of_party.retain(|party, count| *count > limits.connections_per_address.of(*party));
        if all <= connections && of_party.is_empty() && at_least == 0 {
            return;
        }
        let mut quiet: Vec<(&Key, &mut Connection)> = table
            .connections
            .iter_mut()
            .filter(|(_, one)| !one.ended && one.waiting.is_none() && one.number.is_some())
            .collect();
        quiet.sort_by_key(|(_, one)| one.quiet);
        // First those of who has too many, and only then those of all.
        for ((_, peer), one) in &mut quiet {
            let most = limits.connections_per_address.of(peer.ip());
            let count = guard.party(*peer).and_then(|party| of_party.get_mut(&party));
            if let Some(count) = count.filter(|count| **count > most) {
                *count -= 1;
                all -= 1;
                guard.end(one, *peer, Why::Crowded);
            }
        }
        let excess = all.saturating_sub(connections).max(at_least);
        for ((_, peer), one) in quiet.iter_mut().filter(|(_, one)| !one.ended).take(excess) {
            guard.end(one, *peer, Why::Crowded);
        }
    }
}

/// What is found of a connection.
enum Verdict {
    /// It may stay, and has to be looked at again then.
    Fine(Option<Instant>),
    /// tiny_http has forgotten it.
    Forgotten,
    Ends(Why),
    /// It is ended, and who sent that is kept out.
    Floods(Why),
}

/// Whether a connection to that local address came through this listening socket.
fn is_at(door: SocketAddr, local: SocketAddr) -> bool {
    let ip = door.ip();
    door.port() == local.port() && (ip.is_unspecified() || ip.to_canonical() == local.ip().to_canonical())
}

/// Connects and ends at once, without waiting for anything.
fn nudge(address: SocketAddr) {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // The end of what it sends is what makes the kernel hand it over. An error means that nothing can be
    // reached there now; then nothing is waiting either.
    if let Ok(socket) = rustix::net::socket_with(family, SocketType::STREAM, flags, None) {
        let _ = rustix::net::connect(socket.as_fd(), &SocketAddr::new(ip, address.port()));
        let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Write);
    }
}
