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
use super::access::forwarded::ForwardingHeaders;
use super::access::{self, Access, RequestFacts, Verdict};
use super::handlers::clip::{self, Last, Refusal};
use super::handlers::playlist::Origin;
use super::handlers::{page, playlist, status};
use super::response_head::ResponseHead;
use super::players::{self, Player};
use super::stream_response::{self, StreamRequest};
use super::byte_range::ByteRange;
use super::target::{BadRequest, StreamQuery, Target};
use super::tiny::guard::{Asked, Door, Guard};
use super::event_stream::{self, Topic};
use super::response;
use crate::config::ListenAddr;
use crate::http::context::Context;
use crate::inputs::LiveInput;
use crate::listeners::Full;
use crate::listeners::catch_up::{self, Next, Stream};
use crate::listeners::chunked::Chunk;
use crate::listeners::fanout::{Delivery, Resume};
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
            Handler { connection, peer, finished: true, begun: None, told: false }.take(request);
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
                self.guard.say(catch_up::shown(*peer), what);
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
    /// A stream that was asked for and has got its head, and the writer of its answer.
    begun: Option<(Stream, Box<dyn io::Write + Send>)>,
    /// The log tells of its last stream.
    told: bool,
}

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
            if let Some((stream, writer)) = self.begun.take() {
                return Playing { handler: self, stream, writer }.play();
            }
            next = self.connection.guard.next(&self.connection.door, self.peer);
        }
        self.finished = true;
    }

    fn answer(&mut self, request: Request) {
        // tiny_http reads on where a body in chunks begins, and would take it for the next request.
        let last = !matches!(request.method(), Method::Get | Method::Head) || has_body(&request);
        if request.body_length().is_some_and(|bytes| bytes > LARGEST_BODY) {
            let who = catch_up::shown(self.peer);
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
        if last && self.begun.is_none() {
            self.hang_up();
        }
    }

    fn answer_one(&mut self, request: Request) {
        let context = &Arc::clone(&self.connection.context);
        #[cfg(test)]
        assert!(request.url() != "/panic", "while answering");
        let access = context.access();
        let facts = self.facts(&request);
        let cors = &access.cors(facts.origin);
        if *request.method() == Method::Options && header(&request, "Access-Control-Request-Method").is_some()
        {
            return self.preflight(request, &access);
        }
        if !matches!(request.method(), Method::Get | Method::Head) {
            return response::not_allowed(request, &Cors::none());
        }
        let checked = access.check(&facts).and_then(|verdict| match verdict {
            Verdict::Allowed(client) => Ok(client),
            Verdict::NeedsHash(pending) => access.verify_slow(&pending),
        });
        let client = match checked {
            Ok(client) => client,
            Err(refusal) => return refuse(request, cors, &access, &refusal),
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
            Ok(Target::Status) => {
                let status = status::render(context.started, &context.inputs, &context.listeners);
                response::json(request, cors, status);
            },
            Ok(Target::Health(name)) => match status::health(&context.inputs, name.as_deref()) {
                Some((code, text)) => response::text(request, cors, code, &text),
                None => response::text(request, cors, 404, &not_found(context)),
            },
            Ok(Target::M3u(name)) if context.input(&name).is_some() => {
                response::playlist(request, cors, "audio/x-mpegurl", playlist::m3u(&name));
            }
            Ok(Target::Pls(name)) if context.input(&name).is_some() => {
                let facts = self.facts(&request);
                let local = self.socket().and_then(|socket| socket.local_addr().ok());
                let local = local.unwrap_or(self.connection.address);
                let list = playlist::pls(&Origin::of(&facts, local, access.is_proxy(facts.peer)), &name);
                response::playlist(request, cors, "audio/x-scpls", list);
            }
            Ok(Target::Wav(name, query)) => self.stream(request, cors, client, &name, query),
            Ok(_) => response::text(request, cors, 404, &not_found(context)),
        }
    }

    /// Tells a browser whether a page from elsewhere may ask for this. Nobody sends a password with that question.
    fn preflight(&self, request: Request, access: &Access) {
        if let Err(refusal) = access.admit(&self.facts(&request)) {
            return refuse(request, &Cors::none(), access, &refusal);
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
            Ok(Target::Page | Target::Status | Target::Health(None)) => true,
            Ok(Target::Asset(name)) => page::asset(&name).is_some(),
            Ok(Target::Levels(None, _)) => !context.inputs.all().is_empty(),
            Ok(
                Target::Levels(Some(name), _)
                | Target::Health(Some(name))
                | Target::M3u(name)
                | Target::Pls(name)
                | Target::Wav(name, _),
            ) => context.input(&name).is_some(),
            Ok(Target::Unknown | Target::Favicon) | Err(BadRequest(_)) => false,
        }
    }

    /// Begins a stream.
    fn stream(&mut self, request: Request, cors: &Cors, client: IpAddr, name: &str, query: StreamQuery) {
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
        let asked = StreamRequest {
            name,
            query,
            player: Player::of(&user_agent, range.is_some()),
            range: range.and_then(ByteRange::parse),
            accepts_chunks: players::accepts_chunks(
                *request.http_version() >= (1, 1),
                header(&request, "TE"),
            ),
        };
        let mut frames = query.frames;
        if query.last.is_some() {
            match clip::last(&ring, name, &query, input.history(), range) {
                Ok(Last::Redirect(address)) => return response::redirect(request, cors, &address),
                Ok(Last::Nothing) => {
                    return response::unavailable(request, cors, &format!("{name} has no sound yet."));
                }
                Err(BadRequest(why)) => return response::text(request, cors, 400, &why),
                Ok(Last::Whole(whole)) => frames = Some(whole),
            }
        }
        let mut plan = match frames {
            Some(frames) => {
                let (range, if_range) = (header(&request, "Range"), header(&request, "If-Range"));
                let is_relative = query.last.is_some();
                let clip = clip::ClipRequest { name, frames, utc: query.utc, range, if_range, is_relative };
                match clip::plan(&clip, &ring) {
                    Ok(plan) => plan,
                    Err(Refusal::Range(total)) => {
                        return self.head_only(request, cors, clip::range_head(total));
                    }
                    Err(refusal) => {
                        let (status, why) = refusal.text();
                        return response::text(request, cors, status, why);
                    }
                }
            }
            None => match stream_response::plan(&asked, ring.format()) {
                Ok(plan) => plan,
                Err(BadRequest(why)) => return response::text(request, cors, 400, &why),
            },
        };
        if *request.method() == Method::Head {
            return self.head_only(request, cors, plan.head);
        }
        let most =
            (context.settings.listeners().max, context.settings.limits().listeners_per_address.of(client));
        let client = SocketAddr::new(client, self.peer.port());
        let admit = |socket| {
            context.listeners.admit(most, name, client, players::product(&user_agent), socket).map_err(
                |full| {
                    self.connection
                        .guard
                        .say(catch_up::shown(client), "is refused: there are too many listeners");
                    match full {
                        Full::All(count) => format!("{count} are listening, no more can."),
                        Full::Address(count) => {
                            format!("{count} are listening from your address, no more can.")
                        }
                    }
                },
            )
        };
        let listener = match self.socket().ok_or_else(|| NO_DESCRIPTOR.to_owned()).and_then(admit) {
            Ok(listener) => listener,
            Err(why) => return response::unavailable(request, cors, &why),
        };
        // Through tiny_http's writer, so that it waits for the answers before it; everything after it goes
        // to the socket itself. The writer is kept, so that the answers after it wait.
        let mut writer = request.into_writer();
        self.told = self.connection.guard.tells_of(catch_up::shown(client));
        if self.told {
            catch_up::log_start(&listener);
        }
        let stream = Stream::new(&context.listeners, input, &ring, listener, plan.body, query.low_latency);
        plan.head.add_cors(cors);
        if query.low_latency {
            // By this the page knows when what it plays was captured.
            plan.head.push("Wavecast-Frame", format!("{}/{}", ring.id(), stream.frame()));
        }
        match writer.write_all(&plan.head.render()).and_then(|()| writer.flush()) {
            Ok(()) => self.begun = Some((stream, writer)),
            Err(_) => {
                if self.told {
                    catch_up::log_end(stream.listener(), &catch_up::End::Left);
                }
                self.hang_up();
            }
        }
    }

    fn facts<'a>(&self, request: &'a Request) -> RequestFacts<'a> {
        let peer = self.peer.ip().to_canonical();
        let mut forwarding = ForwardingHeaders::default();
        for header in request.headers() {
            forwarding.add(header.field.as_str().as_str(), header.value.as_str());
        }
        RequestFacts {
            peer,
            // It takes a look for the socket, and only this needs it.
            local: peer.is_ipv6().then(|| self.socket()?.local_addr().ok()).flatten().map(|local| local.ip()),
            host: header(request, "Host"),
            forwarding,
            authorization: header(request, "Authorization"),
            origin: header(request, "Origin"),
        }
    }

    /// Answers with events, which another thread sends.
    fn levels(&self, request: Request, cors: &Cors, name: &str, interval: Duration) {
        let context = &self.connection.context;
        let chunked = *request.http_version() >= (1, 1);
        let mut head = ResponseHead::new(200)
            .with("Content-Type", "text/event-stream")
            .with("Cache-Control", "no-store, no-transform")
            .with("X-Content-Type-Options", "nosniff")
            .with("X-Accel-Buffering", "no")
            .with("Connection", "close");
        if chunked {
            head.push("Transfer-Encoding", "chunked");
        }
        if *request.method() == Method::Head {
            return self.head_only(request, cors, head);
        }
        let (admitted, socket) = (context.subscribers.admit(context.settings.listeners().max), self.socket());
        let has_place = admitted.is_some();
        let full = || format!("{} pages are open, no more can be.", context.subscribers.count());
        let (Some(admitted), Some(socket)) = (admitted, socket) else {
            let why = if has_place { NO_DESCRIPTOR.to_owned() } else { full() };
            return response::unavailable(request, cors, &why);
        };
        let everywhere = self.connection.address.ip().is_unspecified();
        let hello = event_stream::hello(socket.local_addr().ok(), everywhere);
        let mut chunk = Chunk::new(hello.len());
        chunk.push(hello.as_bytes());
        let mut writer = request.into_writer();
        head.add_cors(cors);
        if writer.write_all(&head.render()).and_then(|()| writer.flush()).is_ok() {
            let topic = Topic { input: name.to_owned(), interval };
            let (place, ended) = crossbeam_channel::bounded::<()>(0);
            let place = Box::new((admitted, place));
            context.subscribers.join(topic, socket, place, chunked, chunk.bytes(chunked).to_vec());
            let _ = ended.recv();
        }
        self.hang_up();
        // Kept until here, so that answers to what was pipelined wait.
        drop(writer);
    }

    /// Sends a head and nothing after it. An error is a player that is gone.
    fn head_only(&self, request: Request, cors: &Cors, mut head: ResponseHead) {
        head.add_cors(cors);
        let mut writer = request.into_writer();
        let _ = writer.write_all(&head.render()).and_then(|()| writer.flush());
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

/// A stream, with the handler that goes on when it has ended.
struct Playing {
    handler: Handler,
    stream: Stream,
    writer: Box<dyn io::Write + Send>,
}

impl Playing {
    fn play(mut self) {
        let next = self.stream.run();
        self.go_on(next);
    }

    fn go_on(self, next: Next) {
        match next {
            Next::KeepsUp => {
                let context = Arc::clone(&self.handler.connection.context);
                let (fanout, member) = self.stream.member();
                fanout.join(&context.listeners, member(self));
            }
            Next::Ended(end) => self.end(&end),
        }
    }

    fn end(self, end: &catch_up::End) {
        let Playing { handler, stream, writer } = self;
        if handler.told {
            catch_up::log_end(stream.listener(), end);
        }
        // What is with the kernel still goes out. Without this tiny_http would wait for another request.
        let _ = rustix::net::shutdown(stream.listener().socket(), Shutdown::Both);
        drop((writer, stream));
        let next = handler.connection.guard.next(&handler.connection.door, handler.peer);
        handler.answer_all(next);
    }
}

impl Resume for Playing {
    fn resume(mut self: Box<Self>, delivery: Delivery) {
        let next = self.stream.go_on(delivery);
        self.go_on(next);
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
fn refuse(request: Request, cors: &Cors, access: &Access, refusal: &access::Refusal) {
    debug!("{:?}: {refusal:?}", request.remote_addr());
    let why = access.explain(refusal);
    match refusal {
        access::Refusal::Password => response::unauthorized(request, cors),
        access::Refusal::TooManyTries => response::too_many(request, cors, &why),
        _ => response::text(request, &Cors::none(), 403, &why),
    }
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
