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
//! | requests ahead of the answers; or much too long a request | 8; 4 × `header_bytes` | 503 or 431, and its address is kept out (`bans.rs`) |
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
//! See `acceptor.rs` and `guard/door.rs`. As an acceptor can only die of somebody who comes, it is looked after
//! whenever somebody does.

mod door;
mod watch;

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{debug, warn};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::Shutdown;
use signal_hook::consts::SIGIO;
use tiny_http::Request;

pub(crate) use door::Door;

use super::bans::{self, Bans, Often};
use super::dismiss::{Dismisser, Refusal};
use super::sockets::{self, Connected};
use crate::http::context::Context;
use crate::http::server::LARGEST_BODY;
use crate::listeners::catch_up::shown;
use crate::sys::{reserve_threads, socket, threads, tiny};
use watch::Watch;

/// In epoll's events: somebody came. Connections have tokens from 1 on.
const CAME: u64 = 0;
/// Requests that may wait on one connection behind the one that is being answered.
const MOST_WAITING: usize = 8;
/// More requests of one address than so many that are too large are no accident
const MOST_LARGE: usize = 2;
/// within this.
const LARGE_WITHIN: Duration = Duration::from_secs(10);
/// So many idle connections, at the least, end where a request, or an attempt to have an acceptor again, fails for want
/// of descriptors or threads.
const SACRIFICED: usize = 4;
/// Who has come so recently is going to ask for something, and is answered before the process ends.
const ABOUT_TO_ASK: Duration = Duration::from_millis(500);
/// So many may wait for one that begins anew: each may be one of those for whom it has to.
const FEW_WAITING: i32 = 64;
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
pub(crate) fn party(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

/// The connections of all listening sockets, and the thread that looks after them.
pub struct Guard {
    context: Arc<Context>,
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

/// What becomes of a request.
pub(crate) enum Asked {
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
            Why::Pipelined => Some(("503 Service Unavailable", "Too many requests ahead of the answers.")),
            Why::Idle | Why::Closed => None,
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
    pub fn start(context: Arc<Context>) -> io::Result<Arc<Guard>> {
        reserve_threads::have_reserve();
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let (told, tell) = UnixStream::pair()?;
        told.set_nonblocking(true)?;
        let call = tell.try_clone()?;
        signal_hook::low_level::pipe::register(SIGIO, tell)?;
        epoll::add(&epoll, &told, EventData::new_u64(CAME), EventFlags::IN | EventFlags::ET)?;
        let guard = Arc::new(Guard {
            context,
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
        threads::start("guard", None, move || Watch::new(same, told).keep())?;
        Ok(guard)
    }

    /// Looks after a listening socket from now on. Requests go to `take`.
    ///
    /// # Errors
    ///
    /// When the operating system has no thread or no descriptor for it.
    pub(crate) fn open(
        &self,
        listener: TcpListener,
        take: impl Fn(&Arc<Door>, Request) + Send + Sync + 'static,
    ) -> io::Result<Arc<Door>> {
        let id = {
            let mut table = self.lock();
            table.last_door += 1;
            table.last_door
        };
        let door = Door::new(id, listener, take)?;
        epoll::add(&self.epoll, &door.listener, EventData::new_u64(CAME), EventFlags::IN | EventFlags::ET)?;
        // Before anybody accepts, so that of all who come none is missed.
        if let Err(error) = tiny::signal_connections(&door.listener) {
            debug!("{}: the kernel does not signal who connects: {error}", door.address);
            self.deaf.store(true, Ordering::Relaxed);
        }
        self.filter(&door);
        door.accept()?;
        self.doors().push(Arc::clone(&door));
        // For those who came before.
        let _ = (&self.call).write(&[0]);
        Ok(door)
    }

    /// Takes in a request.
    pub(crate) fn ask(&self, door: &Door, peer: SocketAddr, request: Request) -> Asked {
        let key = (door.id, peer);
        let limits = self.context.settings.limits();
        let connections = limits.connections.min(self.context.stuck.room()) as usize;
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
    pub(crate) fn next(&self, door: &Door, peer: SocketAddr) -> Option<Request> {
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
    pub(crate) fn give_up(&self, door: &Door, peer: SocketAddr) -> VecDeque<Request> {
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
    pub(crate) fn refuse(&self, door: &Door, peer: SocketAddr) {
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
    pub(crate) fn socket(&self, door: &Door, peer: SocketAddr) -> Option<TcpStream> {
        let number = self.number(door, peer)?;
        let socket = sockets::duplicate(number, peer);
        if socket.is_none() && sockets::traffic(number, peer).is_some() {
            self.starve();
        }
        socket
    }

    /// Shuts down a connection that was not ended yet, or one half of it.
    pub(crate) fn shut_down(&self, door: &Door, peer: SocketAddr, how: Shutdown) {
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
    pub(crate) fn has_ended(&self, door: &Door, peer: SocketAddr) -> bool {
        self.lock().connections.get(&(door.id, peer)).is_some_and(|connection| connection.ended)
    }

    /// Whether nothing is being answered there, and nobody who has just come is about to ask.
    pub(crate) fn is_idle(&self, door: &Door) -> bool {
        let connected = Connected::default().look();
        let table = self.lock();
        let has_to_wait = |one: &Connection| {
            one.waiting.is_some() || one.requests == 0 && !one.ended && one.came.elapsed() < ABOUT_TO_ASK
        };
        let is_new = |(number, peer): (RawFd, SocketAddr)| {
            !table.connections.contains_key(&(door.id, peer))
                && sockets::local_of(number).is_some_and(|local| door.is_at(local))
        };
        let mut known = table.connections.iter().filter(|((id, _), _)| *id == door.id);
        !known.any(|(_, one)| has_to_wait(one)) && !connected.into_iter().any(is_new)
    }

    /// Has the kernel drop what comes from whoever that is, for an hour, unless it may have any number of connections.
    pub(crate) fn ban(&self, peer: SocketAddr) {
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
        let is_limited = self.context.settings.limits().connections_per_address.of(ip) < usize::MAX;
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
    pub(crate) fn let_wait(&self, door: &Door) {
        let _ = rustix::net::listen(&door.listener, FEW_WAITING);
        self.filter(door);
        // The others that wait already have to come again. With so many there, this does not wait for one.
        while socket::waiting_connections(&door.listener) > FEW_WAITING as u32 {
            if rustix::net::accept(&door.listener).is_err() {
                break;
            }
        }
    }

    /// A socket that was there before may have an old filter.
    fn filter(&self, door: &Door) {
        if let Err(error) = tiny::drop_packets_from(&door.listener, &self.banned()) {
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
    pub(crate) fn shut(&self) {
        for door in self.doors().iter() {
            door.shut();
        }
    }

    /// Who counts as one for limits per address; `None` for proxies.
    fn party(&self, peer: SocketAddr) -> Option<IpAddr> {
        let ip = peer.ip().to_canonical();
        (!self.context.access().is_proxy(ip)).then(|| party(ip))
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
    pub(crate) fn say(&self, who: IpAddr, what: &str) {
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
    pub(crate) fn tells_of(&self, who: IpAddr) -> bool {
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
