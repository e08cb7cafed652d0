//! tiny_http's own sockets, found from outside.
//!
//! tiny_http hands out requests and keeps their sockets to itself. A live stream needs the socket: to bound
//! what the kernel queues in it, to give up on a player that takes nothing, to send a block with one system
//! call, and to end it. So the descriptor is looked for among this process's own, by its peer.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, RawFd};

use crate::os;

/// A duplicate of the socket that is connected to that peer.
pub(super) fn find(peer: SocketAddr) -> Option<TcpStream> {
    descriptors().find_map(|number| {
        let socket = os::duplicate(number).ok()?;
        // Asked of the duplicate: the number may be another file's by now.
        (peer_of(&socket)? == peer).then(|| TcpStream::from(socket))
    })
}

fn peer_of(socket: impl AsFd) -> Option<SocketAddr> {
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
}
