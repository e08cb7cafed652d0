//! A connection to a server: every wait has a deadline and ends when the push is stopped.
//!
//! The socket never blocks. The resolver of the C library has no deadline, so it runs in a thread of its own, of which a push
//! has one at most.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::control::{Control, POLL};
use super::problem::{End, Problem, broken};
#[cfg(feature = "tls")]
use super::tls::TlsStream;
use crate::config::Push;

/// The time for each step of a connection: the name, the connect to one address, TLS, the answer.
pub(super) const STEP: Duration = Duration::from_secs(5);
/// The time for a step that has failed in silence before: the kernel repeats its first packet after 1 s, and then after 2 s,
/// so that short tries find a network sooner that has come back.
pub(super) const QUICK_STEP: Duration = Duration::from_secs(2);
/// The time in ms after which the kernel gives up a connection whose bytes are not acknowledged.
const ACKNOWLEDGE_MS: u32 = 8000;
/// The most bytes of an answer that are read.
const MOST_ANSWER: usize = 8192;
/// The most addresses of a server that are tried.
const MOST_ADDRESSES: usize = 4;

/// The names of a push's server.
#[derive(Default)]
pub(super) struct Resolver {
    /// The lookup that has not ended. A new try waits for it, too.
    pending: Option<Receiver<io::Result<Vec<SocketAddr>>>>,
    /// The addresses that were found last. They serve while the name server is out of reach.
    known: Vec<SocketAddr>,
}

impl Resolver {
    /// Returns the addresses of a server: those of the name server, or those that were known before if it does not answer.
    ///
    /// # Errors
    ///
    /// The name is not known, or nobody answers in time.
    pub(super) fn resolve(
        &mut self,
        host: &str,
        port: u16,
        control: &Control,
    ) -> Result<Vec<SocketAddr>, End> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        match self.look_up(host, port, control) {
            Ok(addresses) => self.known = addresses,
            Err(End::Problem(_)) if !self.known.is_empty() => {}
            Err(end) => return Err(end),
        }
        Ok(self.known.clone())
    }

    fn look_up(&mut self, host: &str, port: u16, control: &Control) -> Result<Vec<SocketAddr>, End> {
        let receiver = match self.pending.take() {
            Some(pending) => pending,
            None => start_lookup(host, port)?,
        };
        let time = if self.known.is_empty() { STEP } else { QUICK_STEP };
        let began = Instant::now();
        loop {
            match receiver.recv_timeout(POLL) {
                Ok(Ok(addresses)) if !addresses.is_empty() => return Ok(addresses),
                Ok(Ok(_)) => {
                    return Err(Problem::unreachable(format!("the name {host} has no address")).into());
                }
                Ok(Err(error)) => {
                    let detail = format!("the name {host} is not known, or the network is down: {error}");
                    return Err(Problem::silent(detail).into());
                }
                Err(RecvTimeoutError::Timeout) if control.is_stopped() => return Err(End::Stopped),
                Err(RecvTimeoutError::Timeout) if began.elapsed() < time => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.pending = Some(receiver);
                    let detail = format!("the name server does not answer about {host}");
                    return Err(Problem::silent(detail).into());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(
                        Problem::failed(format!("the lookup of {host} ended without a result")).into()
                    );
                }
            }
        }
    }
}

/// Looks up a name in a thread of its own, which may hang in the C library.
fn start_lookup(host: &str, port: u16) -> Result<Receiver<io::Result<Vec<SocketAddr>>>, End> {
    let (sender, receiver) = bounded(1);
    let name = host.to_owned();
    let lookup = move || {
        let found = (name.as_str(), port).to_socket_addrs().map(Iterator::collect);
        // The push may have ended.
        let _ = sender.send(found);
    };
    let thread = thread::Builder::new().name("push name".to_owned()).spawn(lookup);
    thread.map_err(|error| Problem::failed(format!("no thread to look up {host}: {error}")))?;
    Ok(receiver)
}

/// A connection to a server.
pub(super) struct Connection {
    wire: Wire,
    control: Arc<Control>,
}

/// The bytes of a connection, plain or encrypted. Nothing blocks.
enum Wire {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

impl Connection {
    /// Connects to the first of the addresses that takes the connection. The kernel holds about `send_buffer` bytes that the
    /// server has not acknowledged. Each address has the time `step`.
    ///
    /// # Errors
    ///
    /// None takes it in time.
    pub(super) fn open(
        addresses: &[SocketAddr],
        send_buffer: usize,
        step: Duration,
        control: &Arc<Control>,
    ) -> Result<Connection, End> {
        let mut last = Problem::unreachable("the server has no address");
        for address in addresses.iter().take(MOST_ADDRESSES) {
            match connect_to(*address, send_buffer, step, control) {
                Ok(stream) => {
                    return Ok(Connection { wire: Wire::Plain(stream), control: Arc::clone(control) });
                }
                Err(End::Problem(problem)) => last = problem,
                Err(End::Stopped) => return Err(End::Stopped),
            }
        }
        Err(last.into())
    }

    /// Encrypts the connection as the push says.
    ///
    /// # Errors
    ///
    /// The server has no TLS on this port, or its certificate is not trusted.
    #[cfg(feature = "tls")]
    pub(super) fn encrypted(self, push: &Push) -> Result<Connection, End> {
        let Connection { wire: Wire::Plain(stream), control } = self else { return Ok(self) };
        let mut tls = TlsStream::new(push, stream)?;
        let deadline = Instant::now() + STEP;
        while tls.is_handshaking() {
            match tls.shake_hands() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wait(tls.socket(), PollFlags::IN, deadline, &control)? {
                        let detail = "the server does not answer in TLS: is this port for icecasts://?";
                        return Err(Problem::unreachable(detail).into());
                    }
                }
                Err(error) => return Err(tls.problem(&error).into()),
            }
        }
        Ok(Connection { wire: Wire::Tls(Box::new(tls)), control })
    }

    /// Refuses: this program was built without TLS.
    #[cfg(not(feature = "tls"))]
    pub(super) fn encrypted(self, _: &Push) -> Result<Connection, End> {
        Err(Problem::failed(crate::config::NO_TLS).into())
    }

    /// Sends all bytes of a request.
    ///
    /// # Errors
    ///
    /// The connection breaks, or takes longer than [`STEP`].
    pub(super) fn send_all(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        let deadline = Instant::now() + STEP;
        while !bytes.is_empty() {
            match self.send(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wait(self.socket(), PollFlags::OUT, deadline, &self.control)? {
                        return Err(Problem::unreachable("the server does not take the request").into());
                    }
                }
                Err(error) => return Err(broken(&error).into()),
            }
        }
        Ok(())
    }

    /// Reads until `is_complete` returns `true` for the text so far, or the server ends the connection. Returns the text.
    ///
    /// # Errors
    ///
    /// The answer takes longer than `time`. What has come is lost: it was none.
    pub(super) fn answer(
        &mut self,
        time: Duration,
        is_complete: impl Fn(&str) -> bool,
    ) -> Result<String, End> {
        let deadline = Instant::now() + time;
        let mut bytes = Vec::new();
        loop {
            let mut piece = [0; 1024];
            match self.receive(&mut piece) {
                Ok(0) => return Ok(text(&bytes)),
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wait(self.socket(), PollFlags::IN, deadline, &self.control)? {
                        return Err(Problem::unreachable("the server does not answer")
                            .with_words(&text(&bytes))
                            .into());
                    }
                }
                // A server that ends with unread bytes resets the connection: its words come first.
                Err(_) if !bytes.is_empty() => return Ok(text(&bytes)),
                Err(error) => return Err(broken(&error).into()),
            }
            if bytes.len() >= MOST_ANSWER || is_complete(&text(&bytes)) {
                return Ok(text(&bytes));
            }
        }
    }

    /// Reads what still comes within `time`, up to the end of the connection, and returns it.
    pub(super) fn rest(&mut self, time: Duration) -> String {
        let deadline = Instant::now() + time;
        let mut bytes = Vec::new();
        let mut piece = [0; 1024];
        while bytes.len() < MOST_ANSWER {
            match self.receive(&mut piece) {
                Ok(count @ 1..) => bytes.extend_from_slice(&piece[..count]),
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && wait(self.socket(), PollFlags::IN, deadline, &self.control).unwrap_or(false) => {}
                Ok(_) | Err(_) => break,
            }
        }
        text(&bytes)
    }

    /// Sends bytes without waiting. Returns the number of bytes that were taken.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if none can be taken now.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        retry_interrupted(|| match &mut self.wire {
            Wire::Plain(stream) => stream.write(bytes),
            #[cfg(feature = "tls")]
            Wire::Tls(stream) => stream.write(bytes),
        })
    }

    /// Sends what encryption holds back, without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if something is left.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.wire {
            Wire::Plain(_) => Ok(()),
            #[cfg(feature = "tls")]
            Wire::Tls(stream) => retry_interrupted(|| stream.flush()),
        }
    }

    /// Receives bytes without waiting. 0 is the end of the connection.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there are none now.
    pub(super) fn receive(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        retry_interrupted(|| match &mut self.wire {
            Wire::Plain(stream) => stream.read(bytes),
            #[cfg(feature = "tls")]
            Wire::Tls(stream) => stream.read(bytes),
        })
    }

    /// Sleeps until the server takes more bytes or says something, for at most [`POLL`].
    pub(super) fn wait_for_room(&self) {
        let deadline = Instant::now() + POLL;
        // A stop is noticed by the caller.
        let _ = wait(self.socket(), PollFlags::IN | PollFlags::OUT, deadline, &self.control);
    }

    fn socket(&self) -> &TcpStream {
        match &self.wire {
            Wire::Plain(stream) => stream,
            #[cfg(feature = "tls")]
            Wire::Tls(stream) => stream.socket(),
        }
    }
}

fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn connect_to(
    address: SocketAddr,
    send_buffer: usize,
    step: Duration,
    control: &Control,
) -> Result<TcpStream, End> {
    let failed = |error: Errno| match error {
        Errno::CONNREFUSED => Problem::unreachable(format!("nobody listens on {address}")),
        Errno::TIMEDOUT => {
            Problem::silent(format!("{address} does not answer: the network or the server is down"))
        }
        error => Problem::silent(format!("no connection to {address}: {}", io::Error::from(error))),
    };
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(failed)?;
    // The kernel may not hide seconds of sound, and doubles the number for its bookkeeping.
    sockopt::set_socket_send_buffer_size(&socket, send_buffer / 2).map_err(failed)?;
    sockopt::set_tcp_user_timeout(&socket, ACKNOWLEDGE_MS).map_err(failed)?;
    match connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            if !wait(&socket, PollFlags::OUT, Instant::now() + step, control)? {
                return Err(failed(Errno::TIMEDOUT).into());
            }
            sockopt::socket_error(&socket).and_then(|result| result).map_err(failed)?;
        }
        Err(error) => return Err(failed(error).into()),
    }
    Ok(TcpStream::from(socket))
}

/// Sleeps until the socket is ready, or until the deadline: then returns `false`.
fn wait(socket: impl AsFd, flags: PollFlags, deadline: Instant, control: &Control) -> Result<bool, End> {
    loop {
        if control.is_stopped() {
            return Err(End::Stopped);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let time = left.min(POLL);
        let timeout = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
        let fd = socket.as_fd();
        match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            // An error of the socket is found by the next call on it.
            _ => return Ok(true),
        }
    }
}
