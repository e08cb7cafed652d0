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

/// The peers of all connections to that port of ours which have sent something that nobody has read yet.
pub(super) fn unread(port: u16) -> Vec<SocketAddr> {
    let peers = descriptors().filter_map(|number| {
        os::with_descriptor(number, |socket| {
            let peer = peer_of(socket)?;
            let local: SocketAddr = rustix::net::getsockname(socket).ok()?.try_into().ok()?;
            let unread = local.port() == port && rustix::io::ioctl_fionread(socket).ok()? > 0;
            unread.then_some(peer)
        })
    });
    let mut peers: Vec<SocketAddr> = peers.collect();
    // tiny_http holds each socket twice.
    peers.sort_unstable();
    peers.dedup();
    peers
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
        assert_eq!(unread(address.port()), []);
        client.write_all(b"hello").expect("sent");
        while unread(address.port()).is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(unread(address.port()), [peer]);
        server.read_exact(&mut [0; 5]).expect("it was sent");
        assert_eq!(unread(address.port()), []);
    }
}
