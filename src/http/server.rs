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
//!   dead peer is noticed, and what is received has little room. (Never a receive timeout: it ends tiny_http's
//!   accept loop.)
//! - A body is not waited for: before a request with one is answered, the socket is shut down for reading.
//!   Otherwise tiny_http would read it to its end, however long that takes.
//! - A request that announces a huge body is dropped with care: see `Connection::discard`.
//! - The kernel hands over a connection only when it has sent something: one that stays silent costs nothing.
//! - All that a stranger can take too much of, and what tiny_http dies of or forgets: see the
//!   [guard](super::guard).

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::debug;
use rustix::net::{Shutdown, sockopt};
use tiny_http::{Method, Request};

use super::access::cors::Cors;
use super::access::{self, Access, Asking};
use super::handlers::clip::{self, Refusal};
use super::handlers::{page, playlist, status};
use super::players::{self, Player};
use super::stream_response::{self, StreamRequest};
use super::target::{BadRequest, Range, Target, Wanted};
use super::tiny::guard::{Asked, Door, Guard};
use super::{event_stream, response};
use crate::config::ListenAddr;
use crate::http::context::Context;
use crate::inputs::LiveInput;
use crate::listeners::catch_up::shown;
use crate::listeners::chunked::Chunk;
use crate::listeners::{ActiveStream, Admission, Full};
use crate::media::ring::Ring;
use crate::sys::{panics, reserve_threads, socket};

/// A body that is announced as larger than this ends the connection. Nothing here wants one.
pub(crate) const LARGEST_BODY: usize = 1024 * 1024;
/// An answer that makes no progress for so long is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// The kernel holds back a connection that says nothing for so many seconds.
const SILENT_CONNECT_SECONDS: i32 = 10;
/// What the kernel keeps of what a connection sends, until it is read, in bytes: a request. It doubles that for its
/// own bookkeeping. A few bytes of a request become a kilobyte once it is read, and more of them than are wanted can
/// be in here when a connection is ended: of 8 KiB, 60 who sent as many as they could kept others out for a second.
const RECEIVE_BUFFER: usize = 2 * 1024;
/// Connections that may wait to be accepted. Who finds no place tries again after a second. One who connects and leaves
/// as fast as it can makes 5500 in a second, so that 256 are there in 46 ms, which the acceptor of a busy machine may take
/// to get its turn.
const BACKLOG: i32 = 512;
/// So long a request for sound waits for a card that is being opened.
const OPENING: Duration = Duration::from_secs(3);
/// What is said to who needs one.
const NO_DESCRIPTOR: &str = "There is no descriptor left for this.";

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
    sockopt::set_socket_recv_buffer_size(listener, RECEIVE_BUFFER)?;
    socket::accept_when_it_speaks(listener, SILENT_CONNECT_SECONDS)
}

/// A running server on one listening socket.
pub struct Server {
    door: Arc<Door>,
    guard: Arc<Guard>,
    /// How many came.
    requests: Arc<AtomicU64>,
    progress: Progress,
}

/// What was seen when it was last asked whether the server gets on.
#[derive(Clone, Copy, Default)]
struct Progress {
    requests: u64,
    queued: u32,
}

impl Server {
    /// Serves what the context has, on that socket.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub fn start(listener: TcpListener, context: Arc<Context>, guard: &Arc<Guard>) -> io::Result<Server> {
        let requests: Arc<AtomicU64> = Arc::default();
        let (counter, same) = (Arc::clone(&requests), Arc::clone(guard));
        let door = guard.open(listener, move |door, request| {
            counter.fetch_add(1, Ordering::Relaxed);
            // None only for Unix sockets, of which there are none here.
            let Some(peer) = request.remote_addr().copied() else { return };
            let connection = Connection {
                context: Arc::clone(&context),
                guard: Arc::clone(&same),
                door: Arc::clone(door),
                address: door.address,
            };
            Handler { connection, peer, finished: true }.take(request);
        })?;
        Ok(Server { door, guard: Arc::clone(guard), requests, progress: Progress::default() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.door.address
    }

    /// The listening socket.
    pub fn listener(&self) -> &TcpListener {
        &self.door.listener
    }

    /// Whether it got on since this was asked last: nobody waits to be let in, or others were meanwhile. To be
    /// asked every few seconds.
    pub fn gets_on(&mut self) -> bool {
        let now = Progress {
            requests: self.requests.load(Ordering::Relaxed),
            queued: socket::waiting_connections(&self.door.listener),
        };
        let before = std::mem::replace(&mut self.progress, now);
        let stuck =
            self.door.is_open() && now.queued > 0 && before.queued > 0 && now.requests == before.requests;
        !stuck
    }

    /// Accepts no more connections, but goes on to answer those that are there. Who connects from now on waits
    /// in the listening socket, for the next process that has it.
    pub fn hand_over(&self) {
        self.door.hand_over();
    }

    /// The same, for one that begins anew because of what came in.
    pub fn hand_over_anew(&self) {
        self.hand_over();
        self.guard.let_wait(&self.door);
    }

    /// Whether no request is being answered, and nobody who has just come is about to make one.
    pub fn is_idle(&self) -> bool {
        self.guard.is_idle(&self.door)
    }

    /// Stops to accept connections and ends those that ask for nothing; streams go on. After this the address is
    /// free.
    pub fn stop(self) {
        self.door.close();
    }
}

/// Where a connection came from, and who knows of it.
#[derive(Clone)]
struct Connection {
    context: Arc<Context>,
    guard: Arc<Guard>,
    door: Arc<Door>,
    /// The server's own.
    address: SocketAddr,
}

impl Connection {
    /// Drops a request that is not answered, of a connection that has been shut down.
    ///
    /// By way of its writer: so tiny_http neither answers it nor waits for those before it.
    ///
    /// To drop one, tiny_http allocates as much as is left of its body, in one piece, though the connection has ended
    /// and nothing is going to be read into it. That costs nothing: nobody touches the memory. But where it cannot be
    /// had the process would end. So it is asked for first. If there is that much address space, all is well. If the
    /// length is beyond all bounds, Rust panics instead, which is as well. What is in between, from about the size of
    /// the memory to 2^63, is [stuck](super::stuck).
    fn discard(&self, request: Request) {
        let length = request.body_length().unwrap_or(0);
        if length <= LARGEST_BODY {
            return drop(request.into_writer());
        }
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        if isize::try_from(length).is_err() {
            // Not by way of its writer, which a panic at that moment would leak.
            panics::quietly(|| drop(request));
        } else if !is_for_ever(&request) {
            drop(request.into_writer());
        } else {
            if let Some(peer) = request.remote_addr() {
                let what =
                    "announced a body larger than the memory: a thread and two descriptors stay with it";
                self.guard.say(shown(*peer), what);
            }
            std::mem::forget(request);
            if self.context.stuck.one_more() {
                self.guard.shut();
            }
        }
    }
}

/// Answers one connection's requests, one after another.
struct Handler {
    connection: Connection,
    peer: SocketAddr,
    finished: bool,
}

/// A handler whose connection has a stream now, and the writer of its answer, which keeps tiny_http from answering what
/// was pipelined behind it.
type Held = Mutex<Option<(Box<dyn io::Write + Send>, Handler)>>;

impl Handler {
    /// Gives a request to its connection's handler; becomes that if there is none.
    fn take(self, request: Request) {
        if is_for_ever(&request) {
            // Before anything else: its sender may have more of them on the way.
            self.connection.guard.ban(self.peer);
        }
        match self.connection.guard.ask(&self.connection.door, self.peer, request) {
            Asked::Later => {}
            Asked::Gone(request) => self.connection.discard(request),
            Asked::Now(request) => self.start(request),
        }
    }

    /// Answers in a thread of its own.
    fn start(mut self, request: Request) {
        self.finished = false;
        let started = reserve_threads::start_in_any_case((self, request), |(handler, request)| {
            handler.answer_all(Some(request))
        });
        if let Err((mut handler, request)) = started {
            handler.finished = true;
            handler.connection.guard.refuse(&handler.connection.door, handler.peer);
            handler.connection.discard(request);
        }
    }

    /// Answers that request and those that wait behind it.
    fn answer_all(mut self, mut next: Option<Request>) {
        while let Some(request) = next {
            match self.connection.guard.has_ended(&self.connection.door, self.peer) {
                true => self.connection.discard(request),
                false => self.answer(request),
            }
            if self.finished {
                return;
            }
            next = self.connection.guard.next(&self.connection.door, self.peer);
        }
        self.finished = true;
    }

    fn answer(&mut self, request: Request) {
        // tiny_http reads on where a body in chunks begins, and would take it for the next request.
        let last = !matches!(request.method(), Method::Get | Method::Head) || has_body(&request);
        if request.body_length().is_some_and(|bytes| bytes > LARGEST_BODY) {
            let who = shown(self.peer);
            self.connection.guard.say(who, "announced a body of more than 1 MiB, and was disconnected");
            self.hang_up();
            return self.connection.discard(request);
        }
        if has_body(&request) {
            // What has not come yet is not waited for.
            self.shut_down(Shutdown::Read);
        }
        self.answer_one(request);
        // A stream ends with its connection anyway.
        if last && !self.finished {
            self.hang_up();
        }
    }

    fn answer_one(&mut self, request: Request) {
        let context = &Arc::clone(&self.connection.context);
        #[cfg(test)]
        assert!(request.url() != "/panic", "while answering");
        let access = context.access();
        let cors = &access.cors(header(&request, "Origin"));
        if *request.method() == Method::Options && header(&request, "Access-Control-Request-Method").is_some()
        {
            return self.preflight(request, &access);
        }
        if !matches!(request.method(), Method::Get | Method::Head) {
            return response::not_allowed(request, &Cors::none());
        }
        let client = match access.check(&self.asking(&request)) {
            Ok(client) => client,
            Err(refusal) => return refuse(request, cors, refusal),
        };
        match Target::parse(request.url()) {
            Err(BadRequest(why)) => response::text(request, cors, 400, &why),
            Ok(Target::Page) => response::asset(request, cors, &page::INDEX),
            Ok(Target::Asset(name)) => match page::asset(&name) {
                Some(asset) => response::asset(request, cors, asset),
                None => response::text(request, cors, 404, &not_found(context)),
            },
            Ok(Target::Levels(name, interval)) => {
                let name = name.or_else(|| context.inputs.all().first().map(|input| input.name.clone()));
                match name.filter(|name| context.input(name).is_some()) {
                    Some(name) => self.levels(request, cors, &name, interval),
                    None => response::text(request, cors, 404, &not_found(context)),
                }
            }
            Ok(Target::Status) => response::json(request, cors, status::render(context)),
            Ok(Target::Health) => {
                let (code, text) = status::health(context);
                response::text(request, cors, code, &text);
            }
            Ok(Target::M3u(name)) if context.input(&name).is_some() => {
                let base = playlist::base(&request, self.connection.address);
                response::playlist(request, cors, "audio/x-mpegurl", playlist::m3u(&base, &name));
            }
            Ok(Target::Pls(name)) if context.input(&name).is_some() => {
                let base = playlist::base(&request, self.connection.address);
                response::playlist(request, cors, "audio/x-scpls", playlist::pls(&base, &name));
            }
            Ok(Target::Wav(name, wanted)) => self.stream(request, cors, client, &name, wanted),
            Ok(_) => response::text(request, cors, 404, &not_found(context)),
        }
    }

    /// Tells a browser whether a page from elsewhere may ask for this. Nobody sends a password with that question.
    fn preflight(&self, request: Request, access: &Access) {
        if let Err(refusal) = access.admit(&self.asking(&request)) {
            return refuse(request, &Cors::none(), refusal);
        }
        match access.cors(header(&request, "Origin")).preflight() {
            Some(cors) if self.is_there(request.url()) => response::preflight(request, &cors),
            Some(_) => response::text(request, &Cors::none(), 404, &not_found(&self.connection.context)),
            None => response::not_allowed(request, &Cors::none()),
        }
    }

    /// Whether there is something under that address.
    fn is_there(&self, url: &str) -> bool {
        let context = &*self.connection.context;
        match Target::parse(url) {
            Ok(Target::Page | Target::Status | Target::Health) => true,
            Ok(Target::Asset(name)) => page::asset(&name).is_some(),
            Ok(Target::Levels(None, _)) => !context.inputs.all().is_empty(),
            Ok(
                Target::Levels(Some(name), _) | Target::M3u(name) | Target::Pls(name) | Target::Wav(name, _),
            ) => context.input(&name).is_some(),
            Ok(Target::Unknown) | Err(BadRequest(_)) => false,
        }
    }

    /// Begins a stream.
    fn stream(&mut self, request: Request, cors: &Cors, client: IpAddr, name: &str, wanted: Wanted) {
        let context = &self.connection.context;
        let Some(input) = context.input(name) else {
            return response::text(request, cors, 404, &not_found(context));
        };
        let Some(ring) = soon_a_ring(&input) else {
            let state = input.state();
            return response::unavailable(
                request,
                cors,
                &format!("{name} has no sound yet: {}", state.why()),
            );
        };
        let user_agent = header(&request, "User-Agent").unwrap_or_default().to_owned();
        let range = header(&request, "Range");
        let ask = StreamRequest {
            name,
            wanted,
            player: Player::of(&user_agent, range.is_some()),
            range: range.and_then(Range::parse),
            chunks: *request.http_version() >= (1, 1) && !refuses_chunks(header(&request, "TE")),
        };
        let history = input.history();
        if let Some(last) = wanted.last {
            return match clip::address(&ring, name, last, history, wanted.utc) {
                Ok(Some(address)) => response::redirect(request, cors, &address),
                Ok(None) => response::unavailable(request, cors, &format!("{name} has no sound yet.")),
                Err(BadRequest(why)) => response::text(request, cors, 400, &why),
            };
        }
        let mut plan = match wanted.span {
            Some(span) => {
                let (range, if_range) = (header(&request, "Range"), header(&request, "If-Range"));
                match clip::plan(&clip::ClipRequest { name, span, utc: wanted.utc, range, if_range }, &ring) {
                    Ok(plan) => plan,
                    Err(Refusal::Range(head)) => return self.head_only(request, &cors.within(&head)),
                    Err(refusal) => {
                        let (status, why) = refusal.text();
                        return response::text(request, cors, status, why);
                    }
                }
            }
            None => match stream_response::plan(&ask, ring.format(), history) {
                Ok(plan) => plan,
                Err(BadRequest(why)) => return response::text(request, cors, 400, &why),
            },
        };
        if *request.method() == Method::Head {
            return self.head_only(request, &cors.within(&plan.head));
        }
        let limits = context.settings.limits();
        let limits = Admission {
            max: context.settings.listeners().max,
            max_per_client: limits.listeners_per_address.of(client),
        };
        let client = SocketAddr::new(client, self.peer.port());
        let Some(socket) = self.socket() else {
            return response::unavailable(request, cors, NO_DESCRIPTOR);
        };
        let held: Arc<Held> = Arc::default();
        let (place, player) = (Box::new(Arc::clone(&held)), players::product(&user_agent));
        let listener = match context.listeners.admit(limits, name, client, player, socket, place) {
            Ok(listener) => listener,
            Err((full, ..)) => {
                self.connection.guard.say(shown(client), "is refused: there are too many listeners");
                let why = match full {
                    Full::All(count) => format!("{count} are listening, no more can."),
                    Full::Client(count) => format!("{count} are listening from your address, no more can."),
                };
                return response::unavailable(request, cors, &why);
            }
        };
        let mut head = cors.within(&std::mem::take(&mut plan.head));
        let logged = self.connection.guard.tells_of(shown(client));
        let low_latency = wanted.low_latency;
        let stream =
            ActiveStream::new(&context.listeners, input, &ring, listener, plan.body, low_latency, logged);
        if low_latency {
            // By this the page knows when what it plays was captured.
            head.truncate(head.len() - "\r\n".len());
            let _ = write!(head, "Wavecast-Frame: {}/{}\r\n\r\n", ring.id(), stream.frame());
        }
        // The answers before it have been written. What is pipelined behind it is discarded when it ends.
        let handler = Handler { connection: self.connection.clone(), peer: self.peer, finished: false };
        *held.lock().unwrap_or_else(PoisonError::into_inner) = Some((request.into_writer(), handler));
        self.finished = true;
        drop(held);
        if let Err(stream) = stream.start(head.into_bytes()) {
            let mut socket = stream.into_socket();
            let _ = socket.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
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

    /// Answers with events, which another thread sends.
    fn levels(&self, request: Request, cors: &Cors, name: &str, interval: Duration) {
        let context = &self.connection.context;
        let chunked = *request.http_version() >= (1, 1);
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: {}\r\nContent-Type: text/event-stream\r\n\
             Cache-Control: no-store, no-transform\r\nX-Content-Type-Options: nosniff\r\n\
             X-Accel-Buffering: no\r\nConnection: close\r\n{}\r\n",
            super::SERVER,
            if chunked { "Transfer-Encoding: chunked\r\n" } else { "" }
        );
        let head = cors.within(&head);
        if *request.method() == Method::Head {
            return self.head_only(request, &head);
        }
        let (admitted, socket) = (context.subscribers.admit(context.settings.listeners().max), self.socket());
        let full = || format!("{} pages are open, no more can be.", context.subscribers.count());
        let (Some(_admitted), Some(socket)) = (&admitted, socket) else {
            let why = if admitted.is_none() { full() } else { NO_DESCRIPTOR.to_owned() };
            return response::unavailable(request, cors, &why);
        };
        let everywhere = self.connection.address.ip().is_unspecified();
        let hello = event_stream::hello(socket.local_addr().ok(), everywhere);
        let mut chunk = Chunk::new(hello.len());
        chunk.push(hello.as_bytes());
        let mut writer = request.into_writer();
        let first = [head.as_bytes(), chunk.bytes(chunked)].concat();
        if writer.write_all(&first).and_then(|()| writer.flush()).is_ok() {
            let served = context.subscribers.join(context, name, interval, socket, chunked);
            let _ = served.recv();
        }
        self.hang_up();
        // Kept until here, so that answers to what was pipelined wait.
        drop(writer);
    }

    /// Sends a head and nothing after it. An error is a player that is gone.
    fn head_only(&self, request: Request, head: &str) {
        let mut writer = request.into_writer();
        let _ = writer.write_all(head.as_bytes()).and_then(|()| writer.flush());
        drop(writer);
        self.hang_up();
    }

    fn socket(&self) -> Option<TcpStream> {
        self.connection.guard.socket(&self.connection.door, self.peer)
    }

    fn hang_up(&self) {
        self.shut_down(Shutdown::Both);
    }

    fn shut_down(&self, how: Shutdown) {
        self.connection.guard.shut_down(&self.connection.door, self.peer, how);
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        if !self.finished {
            // It panicked, or never started. What it has begun to send has no end now.
            if thread::panicking() {
                self.hang_up();
            }
            let left = self.connection.guard.give_up(&self.connection.door, self.peer);
            left.into_iter().for_each(|request| self.connection.discard(request));
        }
    }
}

/// Whether a request can never be dropped: see [stuck](super::stuck).
fn is_for_ever(request: &Request) -> bool {
    let length = request.body_length().unwrap_or(0);
    length > LARGEST_BODY
        && isize::try_from(length).is_ok()
        && Vec::<u8>::new().try_reserve_exact(length).is_err()
}

fn has_body(request: &Request) -> bool {
    request.body_length().is_some_and(|bytes| bytes > 0) || header(request, "Transfer-Encoding").is_some()
}

fn header<'a>(request: &'a Request, name: &'static str) -> Option<&'a str> {
    headers(request, name).next()
}

fn headers<'a>(request: &'a Request, name: &'static str) -> impl Iterator<Item = &'a str> {
    let found = request.headers().iter().filter(move |header| header.field.equiv(name));
    found.map(|header| header.value.as_str())
}

/// Says why one may not, and what the owner can do about it.
fn refuse(request: Request, cors: &Cors, refusal: access::Refusal) {
    debug!("{:?}: {refusal:?}", request.remote_addr());
    match refusal {
        access::Refusal::Address(ip) => {
            let why =
                format!("{ip} may not listen here: it is not among the addresses that [access] allow names.");
            response::text(request, &Cors::none(), 403, &why);
        }
        access::Refusal::Host(host) => {
            let host: String = host.chars().filter(|char| !char.is_control()).take(100).collect();
            let why = format!("{host:?} is not known as a name of this machine: [access] hosts may name it.");
            response::text(request, &Cors::none(), 403, &why);
        }
        access::Refusal::Password => response::unauthorized(request, cors),
        access::Refusal::TooManyTries => response::too_many(request, cors, "Too many passwords were tried."),
    }
}

/// `TE: identity` is not in RFC 9110 any more, but players that send it mean it.
fn refuses_chunks(te: Option<&str>) -> bool {
    te.is_some_and(|te| te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("identity")))
}

/// The input's ring. Just after a start the card is being opened: that is waited for, so that a player which connects
/// again after a restart hears something instead of a refusal.
fn soon_a_ring(input: &LiveInput) -> Option<Ring> {
    let began = Instant::now();
    loop {
        let ring = input.ring();
        if ring.is_some() || !input.state().problem.is_empty() || began.elapsed() > OPENING {
            return ring;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Names the streams that there are.
fn not_found(context: &Context) -> String {
    let streams: Vec<String> =
        context.inputs.all().iter().map(|input| format!("/{}.wav", input.name)).collect();
    format!("There is nothing here. To listen: {}", streams.join("  "))
}

#[cfg(test)]
mod tests;
