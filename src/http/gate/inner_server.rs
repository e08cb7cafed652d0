//! tiny_http, on a listening socket that nobody else can reach.
//!
//! tiny_http accepts from an abstract Unix socket with a random name. The queue of that socket has room for
//! four connections. The gate makes all four before tiny_http accepts, then shuts the socket for further
//! ones: a fifth connect(2) fails with EAGAIN before the shutdown and with ECONNREFUSED after it. tiny_http
//! accepts the four, gets EINVAL, and ends its acceptor thread. From then on tiny_http makes no thread and no
//! descriptor.
//!
//! tiny_http keeps a thread for each connection. There are four connections because its pool has at least
//! four threads.

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    listen, recv, send, shutdown, socket_with,
};
use rustix::rand::{GetRandomFlags, getrandom};

/// Connections between the gate and tiny_http.
pub(super) const LINKS: usize = 4;
/// Threads that run handlers.
const WORKERS: usize = 4;
/// Names that are tried. A second one is needed only if another process connected to a random name within
/// microseconds.
const TRIES: usize = 5;

/// A request that tiny_http has parsed.
///
/// A handler answers by way of the [`Connection`](super::Connection), never by tiny_http: when a [`tiny_http::Request`] is
/// dropped, it writes 500 to the gate, and waits for the answers before it. Dropping this value does neither.
pub struct Request(Option<tiny_http::Request>);

impl Request {
    pub(super) fn new(request: tiny_http::Request) -> Request {
        Request(Some(request))
    }
}

impl Deref for Request {
    type Target = tiny_http::Request;

    fn deref(&self) -> &tiny_http::Request {
        self.0.as_ref().expect("only drop() empties it")
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        drop(self.0.take().map(tiny_http::Request::into_writer));
    }
}

/// The function that gets each request.
pub(super) type OnRequest = Arc<dyn Fn(Request) + Send + Sync>;

/// A running tiny_http with its workers. They end when this is dropped.
pub(super) struct InnerServer {
    server: Arc<tiny_http::Server>,
    is_retired: Arc<AtomicBool>,
    links: Vec<Link>,
    next_link: usize,
}

/// A connection to tiny_http.
struct Link {
    socket: OwnedFd,
    /// Requests that the kernel had no room for. At most all requests in flight.
    unsent: Vec<u8>,
}

impl InnerServer {
    /// Starts tiny_http and the workers. Events of link `n` come from `epoll` with the token `token(n)`.
    ///
    /// # Errors
    ///
    /// When the operating system has no descriptor or no thread left.
    pub(super) fn start(
        epoll: &OwnedFd,
        token: impl Fn(usize) -> u64,
        on_request: &OnRequest,
    ) -> io::Result<InnerServer> {
        let (listener, sockets) = sealed_listener()?;
        for (index, socket) in sockets.iter().enumerate() {
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(epoll, socket, EventData::new_u64(token(index)), flags)?;
        }
        // tiny_http panics when there is no thread for its acceptor.
        let server = panic::catch_unwind(|| tiny_http::Server::from_listener(listener, None))
            .map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?
            .map_err(io::Error::other)?;
        let server = Arc::new(server);
        // Dropping a server on a socket without a path panics in tiny_http 0.12, so that this one is never
        // dropped.
        std::mem::forget(Arc::clone(&server));
        let links = sockets.into_iter().map(|socket| Link { socket, unsent: Vec::new() }).collect();
        let inner = InnerServer { server, is_retired: Arc::default(), links, next_link: 0 };
        for number in 1..=WORKERS {
            let (server, is_retired) = (Arc::clone(&inner.server), Arc::clone(&inner.is_retired));
            let on_request = Arc::clone(on_request);
            thread::Builder::new()
                .name(format!("http {number}"))
                .spawn(move || work(&server, &is_retired, &on_request))?;
        }
        Ok(inner)
    }

    /// Sends a request to tiny_http without waiting.
    ///
    /// # Errors
    ///
    /// When tiny_http has ended the connection. A new server is needed then.
    pub(super) fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.next_link = (self.next_link + 1) % self.links.len();
        let link = &mut self.links[self.next_link];
        link.unsent.extend_from_slice(request);
        link.flush()
    }

    /// Goes on after an event of a link.
    ///
    /// # Errors
    ///
    /// When tiny_http has ended the connection. A new server is needed then.
    pub(super) fn progress(&mut self, index: usize) -> io::Result<()> {
        let Some(link) = self.links.get_mut(index) else { return Ok(()) };
        link.discard()?;
        link.flush()
    }

    /// Ends a connection as tiny_http would.
    #[cfg(test)]
    pub(super) fn break_link(&self) {
        let _ = shutdown(&self.links[0].socket, Shutdown::Both);
    }
}

impl Drop for InnerServer {
    fn drop(&mut self) {
        self.is_retired.store(true, Ordering::Release);
        // One for each worker. A worker that runs a handler finds its own later.
        (0..WORKERS).for_each(|_| self.server.unblock());
    }
}

impl Link {
    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match send(&self.socket, &self.unsent, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads and discards what tiny_http writes by itself, which is nothing unless there is a bug.
    fn discard(&self) -> io::Result<()> {
        let mut bytes = [0; 1024];
        loop {
            match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn work(server: &tiny_http::Server, is_retired: &AtomicBool, on_request: &OnRequest) {
    loop {
        match server.recv() {
            // The panic hook logs it. The client's connection was closed on the way.
            Ok(request) => drop(panic::catch_unwind(AssertUnwindSafe(|| on_request(Request::new(request))))),
            Err(_) if is_retired.load(Ordering::Acquire) => return,
            // The end of the acceptor, which is reported to one worker once.
            Err(_) => {}
        }
    }
}

/// Returns a listening socket with [`LINKS`] connections in its queue and no way in, and their other ends.
fn sealed_listener() -> io::Result<(UnixListener, Vec<OwnedFd>)> {
    let mut result = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..TRIES {
        let mut name = [0; 16];
        getrandom(&mut name, GetRandomFlags::empty())?;
        result = seal(&SocketAddrUnix::new_abstract_name(&name)?);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn seal(address: &SocketAddrUnix) -> io::Result<(UnixListener, Vec<OwnedFd>)> {
    let new =
        |flags| socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | flags, None);
    let listener = new(SocketFlags::empty())?;
    bind(&listener, address)?;
    // The kernel lets in one more than this number.
    listen(&listener, LINKS as i32 - 1)?;
    let mut links = Vec::with_capacity(LINKS);
    for _ in 0..LINKS {
        let link = new(SocketFlags::NONBLOCK)?;
        // EAGAIN: a connection of another process is in the queue.
        connect(&link, address)?;
        links.push(link);
    }
    shutdown(&listener, Shutdown::Read)?;
    Ok((UnixListener::from(listener), links))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_can_connect_to_the_sealed_socket() {
        let address = SocketAddrUnix::new_abstract_name(b"wavecast test of the seal").expect("a short name");
        let (listener, links) = seal(&address).expect("descriptors");
        assert_eq!(links.len(), LINKS);
        let stranger = || {
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None)
                .expect("a socket")
        };
        assert_eq!(connect(stranger(), &address), Err(Errno::CONNREFUSED));
        for _ in 0..LINKS {
            listener.accept().expect("a connection of ours");
        }
        let end = listener.accept().expect_err("there are no more");
        assert_eq!(
            end.raw_os_error(),
            Some(Errno::INVAL.raw_os_error()),
            "tiny_http's acceptor ends by this"
        );
        assert_eq!(connect(stranger(), &address), Err(Errno::CONNREFUSED), "also when the queue is empty");
    }

    #[test]
    fn a_name_in_use_is_not_used() {
        let address = SocketAddrUnix::new_abstract_name(b"wavecast test of a race").expect("a short name");
        let first = seal(&address).expect("descriptors");
        assert!(seal(&address).is_err(), "the name is in use");
        drop(first);
    }
}
