//! tiny_http's own sockets, found from outside.
//!
//! tiny_http hands out requests and keeps their sockets to itself. A live stream needs the socket: to bound
//! what the kernel queues in it, to give up on a player that takes nothing, to send a block with one system
//! call, and to end it. So the descriptor is looked for among this process's own, by its peer.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, RawFd};

use crate::os;

/// A duplicate of the socket that is connected to that peer.
pub(super) fn find(peer: SocketAddr) -> Option<TcpStream> {
    let number = descriptors().find(|number| os::with_descriptor(*number, peer_of) == Some(peer))?;
    let socket = os::with_descriptor(number, |socket| socket.try_clone_to_owned()).ok()?;
    // Asked again, of the duplicate: the number may be another file's by now.
    (peer_of(socket.as_fd()) == Some(peer)).then(|| TcpStream::from(socket))
}

/// A connection that tiny_http has accepted.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Accepted {
    /// Whose it is.
    pub(super) peer: SocketAddr,
    /// Whether it has sent something that nobody has read yet.
    pub(super) unread: bool,
}

/// All connections to that port of ours.
pub(super) fn accepted(port: u16) -> Vec<Accepted> {
    let sockets = descriptors().filter_map(|number| {
        os::with_descriptor(number, |socket| {
            let peer = peer_of(socket)?;
            let local: SocketAddr = rustix::net::getsockname(socket).ok()?.try_into().ok()?;
            let unread = rustix::io::ioctl_fionread(socket).ok()? > 0;
            (local.port() == port).then_some(Accepted { peer, unread })
        })
    });
    let mut sockets: Vec<Accepted> = sockets.collect();
    // tiny_http holds each of them twice.
    sockets.sort_unstable();
    sockets.dedup_by_key(|socket| socket.peer);
    sockets
}

fn peer_of(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    rustix::net::getpeername(socket).ok()??.try_into().ok()
}

fn descriptors() -> impl Iterator<Item = RawFd> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_socket_of_a_peer_is_found_and_is_the_same_one() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (server, peer) = listener.accept().expect("a client");
        let mut found = find(peer).expect("it is open");
        found.write_all(b"same").expect("sent");
        drop((server, found));
        let mut text = String::new();
        client.read_to_string(&mut text).expect("it ended");
        assert_eq!(text, "same");
        assert!(find(peer).is_none(), "it is closed now");
    }

    #[test]
    fn what_nobody_has_read_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut client = TcpStream::connect(address).expect("it listens");
        let (mut server, peer) = listener.accept().expect("a client");
        let accepted = || accepted(address.port());
        assert_eq!(accepted(), [Accepted { peer, unread: false }]);
        client.write_all(b"hello").expect("sent");
        while accepted() == [Accepted { peer, unread: false }] {
            std::thread::yield_now();
        }
        assert_eq!(accepted(), [Accepted { peer, unread: true }]);
        server.read_exact(&mut [0; 5]).expect("it was sent");
        assert_eq!(accepted(), [Accepted { peer, unread: false }]);
    }
}
