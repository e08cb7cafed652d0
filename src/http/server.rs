//! The listening socket, and one handler thread for each connection that asks for something.
//!
//! # How tiny_http is fenced in
//!
//! tiny_http accepts connections, reads requests and writes short answers. What it would do badly is kept
//! away from it:
//!
//! - Nothing is answered on the thread that receives requests: answers on one connection are ordered, and
//!   one that waits for its turn would hold up everybody.
//! - A connection has one handler at a time, and its further requests wait in a short queue. So a request
//!   that is pipelined behind an endless stream costs no thread, and its connection alone waits.
//! - A stream never goes through `respond()`: that collects an endless body in memory for HTTP/1.0. It writes
//!   its own head through tiny_http's writer, which keeps the order, and then on the socket itself.
//! - The listening socket's options are inherited by accepted ones: a send that makes no progress ends, a
//!   dead peer is noticed. (Never a receive timeout: it ends tiny_http's accept loop.)
//! - A request that announces a large body is never dropped: tiny_http would then allocate all of it at once,
//!   and where that much memory cannot be had the process would end.
//! - The kernel hands over a connection only when it has sent something: one that stays silent costs nothing.
//! - A connection that tiny_http forgets is brought back to its mind: see `nudge.rs`.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{debug, error, warn};
use rustix::net::sockopt;
use tiny_http::{Method, Request};

use super::access::{Asking, Refusal};
use super::plan::{self, Ask};
use super::player::{self, Player};
use super::request::{BadRequest, Range, Target, Wanted};
use super::stream::{self, Stream};
use super::{answer, nudge, page, playlist, sockets, status};
use crate::config::ListenAddr;
use crate::hub::Hub;
use crate::os;

/// A handler's stack. It holds no buffer; the deepest it goes is formatting a status.
const STACK: usize = 128 * 1024;
/// Requests that may wait on one connection behind the one that is being answered.
const MOST_WAITING: usize = 16;
/// A body that is announced as larger than this ends the connection. Nothing here wants one.
const LARGEST_BODY: usize = 1024 * 1024;
/// An answer that makes no progress for so long is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// The kernel holds back a connection that says nothing for so many seconds.
const SILENT_CONNECT_SECONDS: i32 = 10;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long the acceptor may take to end.
const HANDING_OVER: Duration = Duration::from_millis(500);

/// Opens a listening socket.
///
/// # Errors
///
/// The operating system's: in use, not this machine's address, no permission for a port below 1024.
pub fn bind(address: ListenAddr) -> io::Result<TcpListener> {
    let listener = match address {
        ListenAddr::Addr(address) => TcpListener::bind(address)?,
        // One socket for both families; where the kernel has no IPv6, one for IPv4.
        ListenAddr::Any(port) => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?
            }
            other => other?,
        },
    };
    prepare(&listener)?;
    Ok(listener)
}

/// Makes a listening socket, wherever it comes from, one that [`Server::start`] can serve on.
///
/// # Errors
///
/// When it is no listening TCP socket.
pub fn prepare(listener: &TcpListener) -> io::Result<()> {
    rustix::net::listen(listener, BACKLOG)?;
    // An earlier run may have left it so: see `Server::hand_over`.
    listener.set_nonblocking(false)?;
    sockopt::set_socket_timeout(listener, sockopt::Timeout::Send, Some(SEND_TIMEOUT))?;
    sockopt::set_tcp_user_timeout(listener, SEND_TIMEOUT.as_millis() as u32)?;
    sockopt::set_socket_keepalive(listener, true)?;
    sockopt::set_tcp_nodelay(listener, true)?;
    os::accept_when_it_speaks(listener, SILENT_CONNECT_SECONDS)
}

/// A running server on one listening socket.
pub struct Server {
    address: SocketAddr,
    /// The listening socket once more: tiny_http keeps the one it was given.
    listener: TcpListener,
    http: Arc<tiny_http::Server>,
    connections: Arc<Connections>,
    thread: JoinHandle<()>,
    /// The acceptor's end comes through here, as the end of the channel.
    accepting: Receiver<Infallible>,
    progress: Progress,
}

/// What was seen when it was last asked whether the server gets on.
#[derive(Clone, Copy, Default)]
struct Progress {
    requests: u64,
    queued: u32,
}

impl Server {
    /// Serves what the hub has, on that socket.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub fn start(listener: TcpListener, hub: Arc<Hub>) -> io::Result<Server> {
        let address = listener.local_addr()?;
        let same = listener.try_clone()?;
        let http = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let http = Arc::new(http);
        let (asked, nudger) = bounded(1);
        let connections = Arc::new(Connections {
            hub,
            address,
            asked,
            waiting: Mutex::default(),
            requests: AtomicU64::new(0),
            handing_over: AtomicBool::new(false),
        });
        // Weak: the nudger ends when nobody is left who could tell it anything.
        let known = Arc::downgrade(&connections);
        nudge::start(address, nudger, move |peer| {
            known.upgrade().is_some_and(|connections| connections.lock().contains_key(peer))
        })?;
        let (accepts, accepting) = bounded(1);
        let (receiving, taking) = (Arc::clone(&http), Arc::clone(&connections));
        let thread = thread::Builder::new().name("http".to_owned()).spawn(move || {
            let mut accepts: Option<Sender<Infallible>> = Some(accepts);
            loop {
                match receiving.recv() {
                    Ok(request) => taking.take(request),
                    Err(error) if error.to_string() == "thread unblocked" => return,
                    // The acceptor's end. What it has accepted goes on to ask.
                    Err(error) => {
                        drop(accepts.take());
                        if !taking.handing_over.load(Ordering::Relaxed) {
                            error!("no more connections are accepted: {error}");
                            return;
                        }
                    }
                }
            }
        })?;
        let progress = Progress::default();
        Ok(Server { address, listener: same, http, connections, thread, accepting, progress })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The listening socket.
    pub fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// Whether it got on since this was asked last: nobody waits to be let in, or others were meanwhile. To be
    /// asked every few seconds.
    pub fn gets_on(&mut self) -> bool {
        let now = Progress {
            requests: self.connections.requests.load(Ordering::Relaxed),
            queued: os::waiting_connections(&self.listener),
        };
        let before = std::mem::replace(&mut self.progress, now);
        let stuck = now.queued > 0 && before.queued > 0 && now.requests == before.requests;
        !stuck && !self.thread.is_finished()
    }

    /// Accepts no more connections, but goes on to answer those that are there. Who connects from now on waits
    /// in the listening socket, for the next process that has it.
    pub fn hand_over(&self) {
        self.connections.handing_over.store(true, Ordering::Relaxed);
        // tiny_http's acceptor ends at an accept that would have to wait. It waits in one already, which one
        // more connection ends; it may as well be a real one, which is then answered here.
        let _ = self.listener.set_nonblocking(true);
        nudge::nudge(self.address);
        if self.accepting.recv_timeout(HANDING_OVER) == Err(RecvTimeoutError::Timeout) {
            debug!("{}: still accepts", self.address);
        }
    }

    /// Whether no request is being answered.
    pub fn is_idle(&self) -> bool {
        self.connections.lock().is_empty()
    }

    /// Stops to accept connections and to take requests; streams go on. After this the address is free.
    pub fn stop(self) {
        self.http.unblock();
        let _ = self.thread.join();
        // tiny_http closes its socket some time later, in a thread of its own. One that does not listen any
        // more does not keep others from its address.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

/// The connections that have a handler, and the requests that wait for it.
struct Connections {
    hub: Arc<Hub>,
    /// The server's own.
    address: SocketAddr,
    /// Tells the nudger of each connection that came.
    asked: Sender<()>,
    waiting: Mutex<HashMap<SocketAddr, VecDeque<Request>>>,
    /// How many came.
    requests: AtomicU64,
    /// Another process accepts from now on.
    handing_over: AtomicBool,
}

impl Connections {
    /// Gives a request to its connection's handler; starts one if there is none.
    fn take(self: &Arc<Self>, request: Request) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        // None only for Unix sockets, of which there are none here.
        let Some(peer) = request.remote_addr().copied() else { return };
        if request.body_length().is_some_and(|bytes| bytes > LARGEST_BODY) {
            warn!("{}: announced a body of more than 1 MiB and was disconnected", stream::shown(peer));
            if let Some(socket) = sockets::find(peer) {
                let _ = socket.shutdown(Shutdown::Both);
            }
            // What this leaks (a descriptor or two, and tiny_http's thread for the connection) is less than
            // what its drop would do.
            return std::mem::forget(request);
        }
        {
            let mut waiting = self.lock();
            if let Some(queue) = waiting.get_mut(&peer) {
                if queue.len() == MOST_WAITING {
                    debug!("{peer}: too many requests behind one another");
                    if let Some(socket) = sockets::find(peer) {
                        let _ = socket.shutdown(Shutdown::Both);
                    }
                }
                queue.push_back(request);
                return;
            }
            waiting.insert(peer, VecDeque::new());
        }
        // Full means that it was told already.
        let _ = self.asked.try_send(());
        let handler = Handler { connections: Arc::clone(self), peer, finished: false };
        let spawned = thread::Builder::new()
            .name("listener".to_owned())
            .stack_size(STACK)
            .spawn(move || handler.run(request));
        if let Err(error) = spawned {
            // The request was dropped with the handler, and so answered with 500.
            warn!("no thread for a request: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, VecDeque<Request>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers one connection's requests, one after another.
struct Handler {
    connections: Arc<Connections>,
    peer: SocketAddr,
    finished: bool,
}

impl Handler {
    fn run(mut self, first: Request) {
        let mut next = Some(first);
        while let Some(request) = next {
            self.answer(request);
            let mut waiting = self.connections.lock();
            next = waiting.get_mut(&self.peer).and_then(VecDeque::pop_front);
            if next.is_none() {
                // Under the same lock: a request that comes after this finds no handler and starts one.
                waiting.remove(&self.peer);
                self.finished = true;
            }
        }
    }

    fn answer(&self, request: Request) {
        // tiny_http reads on where a body in chunks begins, and would take it for the next request.
        let last = !matches!(request.method(), Method::Get | Method::Head)
            || header(&request, "Transfer-Encoding").is_some();
        self.answer_one(request);
        if last {
            self.hang_up();
        }
    }

    fn answer_one(&self, request: Request) {
        let hub = &*self.connections.hub;
        if !matches!(request.method(), Method::Get | Method::Head) {
            return answer::not_allowed(request);
        }
        let client = match hub.access().check(&self.asking(&request)) {
            Ok(client) => client,
            Err(refusal) => return refuse(request, refusal),
        };
        match Target::parse(request.url()) {
            Err(BadRequest(why)) => answer::text(request, 400, &why),
            Ok(Target::Page) => answer::html(request, page::render(hub)),
            Ok(Target::Status) => answer::json(request, status::render(hub)),
            Ok(Target::Health) => {
                let (code, text) = status::health(hub);
                answer::text(request, code, &text);
            }
            Ok(Target::M3u(name)) if hub.input(&name).is_some() => {
                let base = playlist::base(&request, self.connections.address);
                answer::playlist(request, "audio/x-mpegurl", playlist::m3u(&base, &name));
            }
            Ok(Target::Pls(name)) if hub.input(&name).is_some() => {
                let base = playlist::base(&request, self.connections.address);
                answer::playlist(request, "audio/x-scpls", playlist::pls(&base, &name));
            }
            Ok(Target::Wav(name, wanted)) => self.stream(request, client, &name, wanted),
            Ok(_) => answer::text(request, 404, &not_found(hub)),
        }
    }

    fn stream(&self, request: Request, client: IpAddr, name: &str, wanted: Wanted) {
        let hub = &*self.connections.hub;
        let Some(input) = hub.input(name) else {
            return answer::text(request, 404, &not_found(hub));
        };
        let Some(ring) = input.ring() else {
            let state = input.state();
            return answer::unavailable(request, &format!("{name} has no sound yet: {}", state.why()));
        };
        let user_agent = header(&request, "User-Agent").unwrap_or_default().to_owned();
        let range = header(&request, "Range");
        let ask = Ask {
            name,
            wanted,
            player: Player::of(&user_agent, range.is_some()),
            range: range.and_then(Range::parse),
            chunks: *request.http_version() >= (1, 1) && !refuses_chunks(header(&request, "TE")),
        };
        let history = input.history();
        let plan = match plan::plan(&ask, ring.format(), history) {
            Ok(plan) => plan,
            Err(BadRequest(why)) => return answer::text(request, 400, &why),
        };
        if *request.method() == Method::Head {
            // The same head, and nothing after it. An error is a player that is gone.
            let mut writer = request.into_writer();
            let _ = writer.write_all(plan.head.as_bytes()).and_then(|()| writer.flush());
            drop(writer);
            self.hang_up();
            return;
        }
        let admitted = self.socket().and_then(|socket| {
            let player = player::product(&user_agent);
            let client = SocketAddr::new(client, self.peer.port());
            hub.listeners.admit(hub.settings().max, name, client, player, socket)
        });
        let Some(listener) = admitted else {
            let why = format!("{} are listening, no more can.", hub.listeners.count());
            return answer::unavailable(request, &why);
        };
        // Through tiny_http's writer, so that it waits for the answers before it; everything after it goes
        // to the socket itself. The writer is kept, so that the answers after it wait.
        let head = plan.head.clone();
        let mut writer = request.into_writer();
        stream::log_start(&listener);
        let mut streaming = Stream::new(hub, &input, &ring, &listener, plan, wanted.low_latency);
        let end = match writer.write_all(head.as_bytes()).and_then(|()| writer.flush()) {
            Ok(()) => streaming.run(),
            Err(_) => stream::End::Left,
        };
        drop(streaming);
        stream::log_end(&listener, &end);
        // What is with the kernel still goes out. Without this tiny_http would wait for another request.
        let _ = listener.socket().shutdown(Shutdown::Both);
        drop(writer);
    }

    fn asking<'a>(&self, request: &'a Request) -> Asking<'a> {
        let peer = self.peer.ip().to_canonical();
        Asking {
            peer,
            // It takes a look for the socket, and only this needs it.
            local: peer.is_ipv6().then(|| self.socket()?.local_addr().ok()).flatten().map(|local| local.ip()),
            host: header(request, "Host"),
            forwarded: headers(request, "X-Forwarded-For").collect(),
            authorization: header(request, "Authorization"),
        }
    }

    fn socket(&self) -> Option<TcpStream> {
        sockets::find(self.peer)
    }

    fn hang_up(&self) {
        if let Some(socket) = self.socket() {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        if !self.finished {
            // It panicked, or never started. What waits is dropped outside the lock, since that answers it.
            let left = self.connections.lock().remove(&self.peer);
            drop(left);
        }
    }
}

fn header<'a>(request: &'a Request, name: &'static str) -> Option<&'a str> {
    headers(request, name).next()
}

fn headers<'a>(request: &'a Request, name: &'static str) -> impl Iterator<Item = &'a str> {
    let found = request.headers().iter().filter(move |header| header.field.equiv(name));
    found.map(|header| header.value.as_str())
}

/// Says why one may not, and what the owner can do about it.
fn refuse(request: Request, refusal: Refusal) {
    debug!("{:?}: {refusal:?}", request.remote_addr());
    match refusal {
        Refusal::Address(ip) => {
            let why =
                format!("{ip} may not listen here: it is not among the addresses that [access] allow names.");
            answer::text(request, 403, &why);
        }
        Refusal::Host(host) => {
            let host: String = host.chars().filter(|char| !char.is_control()).take(100).collect();
            let why = format!("{host:?} is not known as a name of this machine: [access] hosts may name it.");
            answer::text(request, 403, &why);
        }
        Refusal::Password => answer::unauthorized(request),
        Refusal::TooManyTries => answer::too_many(request, "Too many passwords were tried."),
    }
}

/// `TE: identity` is not in RFC 9110 any more, but players that send it mean it.
fn refuses_chunks(te: Option<&str>) -> bool {
    te.is_some_and(|te| te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("identity")))
}

/// Names the streams that there are.
fn not_found(hub: &Hub) -> String {
    let streams: Vec<String> = hub.inputs().iter().map(|input| format!("/{}.wav", input.name)).collect();
    format!("There is nothing here. To listen: {}", streams.join("  "))
}
