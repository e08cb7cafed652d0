//! Ends connections that tiny_http holds, also where the process has no descriptor left to do it with.
//!
//! To end a connection takes a duplicate of its descriptor: the number alone may be another connection's by the
//! time that something is done to it. But it is just where all descriptors are taken that connections have to be
//! ended. One that is given up for that can be gone before it is used, as acceptors wait for nothing else. So the
//! duplicate takes the *place* of a descriptor that is kept for it (dup3(2)), which is nobody else's at any moment.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::DupFlags;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use super::sockets;
use crate::sys::{socket, tiny};

/// What is said to who is sent away: the status line's end, and a sentence.
pub(crate) type Refusal = (&'static str, &'static str);

/// Who ends connections, with descriptors of its own.
pub(crate) struct Dismisser(Mutex<Spare>);

struct Spare {
    /// Where duplicates go.
    place: OwnedFd,
    /// What is there otherwise.
    filler: OwnedFd,
    /// Closed to accept somebody who waits; `None` if there was none to be had again.
    to_accept: Option<OwnedFd>,
}

impl Dismisser {
    /// # Errors
    ///
    /// When the process has not three descriptors left.
    pub(crate) fn new() -> io::Result<Dismisser> {
        let (place, filler, to_accept) = (any()?, any()?, any()?);
        Ok(Dismisser(Mutex::new(Spare { place, filler, to_accept: Some(to_accept) })))
    }

    /// Ends the connection with that peer, of which the process has that descriptor; `false` if it has not, or not any
    /// more.
    pub(crate) fn end(&self, number: RawFd, peer: SocketAddr, refusal: Option<Refusal>) -> bool {
        self.with(number, peer, |socket| dismiss(socket, refusal)).is_some()
    }

    /// Does something with the connection with that peer.
    pub(crate) fn with<T>(
        &self,
        number: RawFd,
        peer: SocketAddr,
        act: impl FnOnce(BorrowedFd<'_>) -> T,
    ) -> Option<T> {
        let mut spare = self.lock();
        let Spare { place, filler, .. } = &mut *spare;
        let copied =
            tiny::with_descriptor(number, |socket| rustix::io::dup3(socket, place, DupFlags::CLOEXEC));
        let is_it = copied.is_ok() && sockets::peer_of(place.as_fd()) == Ok(Some(peer));
        let done = is_it.then(|| act(place.as_fd()));
        // A duplicate that stayed would keep the connection open.
        let emptied = rustix::io::dup3(filler, place, DupFlags::CLOEXEC);
        debug_assert_eq!(emptied, Ok(()), "both are open");
        done
    }

    /// Ends so many of those who have waited for the longest time at a socket of which nobody accepts, and tells who they
    /// were.
    pub(crate) fn turn_away(
        &self,
        listener: &TcpListener,
        count: usize,
        refusal: Refusal,
    ) -> Vec<SocketAddr> {
        let mut spare = self.lock();
        drop(spare.to_accept.take());
        let mut gone = Vec::new();
        // Where nobody waits accept() would.
        while gone.len() < count && socket::waiting_connections(listener) > 0 {
            let Ok((socket, peer)) = listener.accept() else { break };
            dismiss(socket.as_fd(), Some(refusal));
            gone.push(peer);
        }
        spare.to_accept = any().ok();
        gone
    }

    fn lock(&self) -> MutexGuard<'_, Spare> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cheapest descriptor there is.
fn any() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC)?)
}

/// Ends a connection, with an answer or without one.
fn dismiss(socket: BorrowedFd<'_>, refusal: Option<Refusal>) {
    if let Some((status, line)) = refusal {
        let text = format!(
            "HTTP/1.1 {status}\r\nServer: {}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nRetry-After: 5\r\nConnection: close\r\n\r\n{line}\n",
            crate::http::SERVER,
            line.len() + 1
        );
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = rustix::net::send(socket, text.as_bytes(), flags);
    }
    let _ = rustix::net::shutdown(socket, Shutdown::Both);
    drain(socket);
}

/// Takes away what came over a connection that was shut down and that nobody has read: tiny_http would make requests of
/// it, hundreds of some kilobytes.
fn drain(socket: BorrowedFd<'_>) {
    let mut bytes = [0; 4096];
    while rustix::net::recv(socket, &mut bytes, RecvFlags::DONTWAIT).is_ok_and(|(count, _)| count > 0) {}
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;
    use std::os::fd::AsRawFd;

    use super::sockets::pair;
    use super::*;

    const NO: Refusal = ("503 Service Unavailable", "No.");

    #[test]
    fn a_connection_ends_with_an_answer_and_nothing_of_it_stays_open() {
        let dismisser = Dismisser::new().expect("descriptors");
        let (mut client, server, peer) = pair();
        assert!(dismisser.end(server.as_raw_fd(), peer, Some(NO)));
        let mut text = String::new();
        client.read_to_string(&mut text).expect("a clean end");
        assert!(text.starts_with("HTTP/1.1 503 ") && text.ends_with("\r\n\r\nNo.\n"), "{text}");
        // What was there in between was its socket; now it is not.
        assert_eq!(sockets::peer_of(dismisser.lock().place.as_fd()).ok().flatten(), None);
    }

    #[test]
    fn another_connection_under_that_number_is_left_alone() {
        let dismisser = Dismisser::new().expect("descriptors");
        let (mut client, server, peer) = pair();
        let (_other, elsewhere, _) = pair();
        assert!(!dismisser.end(elsewhere.as_raw_fd(), peer, Some(NO)));
        assert!(!dismisser.end(RawFd::MAX, peer, Some(NO)), "nothing is open under that");
        client.set_nonblocking(true).expect("set");
        assert_eq!(client.read(&mut [0]).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        drop(server);
    }

    #[test]
    fn who_waits_to_be_accepted_can_be_turned_away() {
        let dismisser = Dismisser::new().expect("descriptors");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).expect("it listens")).collect();
        assert_eq!(dismisser.turn_away(&listener, 2, NO).len(), 2);
        assert_eq!(dismisser.turn_away(&listener, 2, NO).len(), 1, "nobody else waits");
        let mut text = String::new();
        clients[2].read_to_string(&mut text).expect("a clean end");
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    }
}
