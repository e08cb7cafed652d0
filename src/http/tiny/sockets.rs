//! tiny_http's own sockets, found from outside.
//!
//! tiny_http hands out requests and keeps their sockets to itself. A live stream needs the socket: to bound
//! what the kernel queues in it, to give up on a player that takes nothing, to send a block with one system
//! call, and to end it. The [guard](super::guard) needs all of them. So they are looked for among this process's
//! own descriptors, by their peers.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::sys::tiny;

/// So many closed numbers behind the last open one are looked at too. The kernel gives away the lowest that is
/// free, so that a new one is rarely further away.
const BEYOND: RawFd = 256;
/// After so many looks the last open number is asked for again.
const LOOKS: u32 = 64;

/// The highest number that was open when this was looked at last.
static HIGHEST: AtomicI32 = AtomicI32::new(0);

/// The number of a socket that is connected to that peer.
///
/// Asking each number costs a third of reading `/proc/self/fd`.
pub(crate) fn find(peer: SocketAddr) -> Option<RawFd> {
    let beyond = HIGHEST.load(Ordering::Relaxed) + BEYOND;
    (0..beyond).find(|number| is(*number, peer)).or_else(|| open_numbers().find(|number| is(*number, peer)))
}

/// Whether the socket under that number is connected to that peer.
pub(crate) fn is(number: RawFd, peer: SocketAddr) -> bool {
    tiny::with_descriptor(number, peer_of) == Ok(Some(peer))
}

/// A duplicate of the socket under that number, if it is connected to that peer.
pub(crate) fn duplicate(number: RawFd, peer: SocketAddr) -> Option<TcpStream> {
    let socket = tiny::with_descriptor(number, |socket| {
        (peer_of(socket) == Ok(Some(peer))).then(|| socket.try_clone_to_owned())
    });
    let socket = socket?.ok()?;
    // Asked again, of the duplicate: the number may be another file's by now.
    (peer_of(socket.as_fd()) == Ok(Some(peer))).then(|| TcpStream::from(socket))
}

/// The address of ours that the socket under that number is connected to.
pub(crate) fn local_of(number: RawFd) -> Option<SocketAddr> {
    tiny::with_descriptor(number, |socket| rustix::net::getsockname(socket).ok()?.try_into().ok())
}

/// What came over the socket under that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Bytes that somebody has read.
    pub(crate) read: u64,
    /// Bytes that nobody has read yet.
    pub(crate) unread: u64,
}

/// What came over the socket under that number, if it is (still) connected to that peer.
pub(crate) fn traffic(number: RawFd, peer: SocketAddr) -> Option<Traffic> {
    tiny::with_descriptor(number, |socket| {
        if peer_of(socket) != Ok(Some(peer)) {
            return None;
        }
        let unread = rustix::io::ioctl_fionread(socket).ok()?;
        // In this order: what comes in between counts as read, which it soon will be.
        Some(Traffic { read: tiny::received(socket)?.saturating_sub(unread), unread })
    })
}

/// How many requests without bodies lie unread under that number, if it is (still) connected to that peer; counted by
/// their empty lines, in the first 2 KiB.
pub(crate) fn requests_unread(number: RawFd, peer: SocketAddr) -> usize {
    let mut bytes = [0; 2048];
    let looked = tiny::with_descriptor(number, |socket| {
        (peer_of(socket) == Ok(Some(peer)))
            .then(|| rustix::net::recv(socket, &mut bytes, RecvFlags::PEEK | RecvFlags::DONTWAIT))
    });
    let Some(Ok((count, _))) = looked else { return 0 };
    bytes[..count].windows(4).filter(|window| window == b"\r\n\r\n").count()
}

/// All connections of this process, looked for again and again.
#[derive(Default)]
pub(crate) struct Connected {
    looks: u32,
}

impl Connected {
    /// Number and peer of every connected socket, of both directions. Those that are held twice are there twice.
    pub(crate) fn look(&mut self) -> Vec<(RawFd, SocketAddr)> {
        let mut highest = match self.looks % LOOKS {
            0 => open_numbers().max().unwrap_or_default(),
            _ => HIGHEST.load(Ordering::Relaxed),
        };
        self.looks = self.looks.wrapping_add(1);
        let mut connected = Vec::new();
        let mut number = 0;
        while number <= highest + BEYOND {
            match tiny::with_descriptor(number, peer_of) {
                Err(Errno::BADF) => {}
                answer => {
                    highest = highest.max(number);
                    connected.extend(answer.ok().flatten().map(|peer| (number, peer)));
                }
            }
            number += 1;
        }
        HIGHEST.store(highest, Ordering::Relaxed);
        connected
    }
}

/// Whom a socket is connected to; an error for what is no socket, or none that is connected.
pub(crate) fn peer_of(socket: BorrowedFd<'_>) -> rustix::io::Result<Option<SocketAddr>> {
    Ok(rustix::net::getpeername(socket)?.and_then(|peer| peer.try_into().ok()))
}

fn open_numbers() -> impl Iterator<Item = RawFd> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Both ends of a connection, and the first one's address.
#[cfg(test)]
pub(crate) fn pair() -> (TcpStream, TcpStream, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    let (server, peer) = listener.accept().expect("a client");
    (client, server, peer)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_socket_of_a_peer_is_found_and_is_the_same_one() {
        let (mut client, server, peer) = pair();
        let mut found = duplicate(find(peer).expect("it is open"), peer).expect("it is still");
        found.write_all(b"same").expect("sent");
        assert!(duplicate(server.as_raw_fd(), peer).is_some());
        assert!(duplicate(client.as_raw_fd(), peer).is_none(), "that is the other end");
        drop((server, found));
        let mut text = String::new();
        client.read_to_string(&mut text).expect("it ended");
        assert_eq!(text, "same");
        assert!(find(peer).is_none(), "it is closed now");
    }

    #[test]
    fn what_came_and_what_was_read_of_it_is_seen() {
        let (mut client, mut server, peer) = pair();
        let seen = || traffic(server.as_raw_fd(), peer).expect("it is open");
        assert_eq!(seen(), Traffic { read: 0, unread: 0 });
        client.write_all(b"hello").expect("sent");
        while seen().unread < 5 {
            std::thread::yield_now();
        }
        assert_eq!(seen(), Traffic { read: 0, unread: 5 });
        (&server).read_exact(&mut [0; 3]).expect("it was sent");
        assert_eq!(seen(), Traffic { read: 3, unread: 2 });
        let number = server.as_raw_fd();
        assert_eq!(
            traffic(
                number,
                client.local_addr().map(|_| "1.2.3.4:5".parse()).expect("bound").expect("an address")
            ),
            None
        );
        server.flush().expect("nothing to do");
    }

    #[test]
    fn requests_that_lie_there_are_counted_and_stay() {
        let (mut client, server, peer) = pair();
        let number = server.as_raw_fd();
        assert_eq!(requests_unread(number, peer), 0);
        let requests = "GET / HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3) + "GET / HTTP/1.1\r\n";
        client.write_all(requests.as_bytes()).expect("sent");
        while traffic(number, peer).is_some_and(|seen| seen.unread < requests.len() as u64) {
            std::thread::yield_now();
        }
        assert_eq!(requests_unread(number, peer), 3);
        let elsewhere = "1.2.3.4:5".parse().expect("an address");
        assert_eq!(requests_unread(number, elsewhere), 0, "that is somebody else's");
        let mut all = vec![0; requests.len()];
        (&server).read_exact(&mut all).expect("it was sent");
        assert_eq!(all, requests.as_bytes(), "nothing was taken away");
        assert_eq!(requests_unread(number, peer), 0);
    }

    #[test]
    fn every_connection_is_found_while_it_is_there() {
        let mut connected = Connected::default();
        let (client, server, peer) = pair();
        let expected = (server.as_raw_fd(), peer);
        assert!(connected.look().contains(&expected));
        assert!(connected.look().iter().any(|(number, _)| *number == client.as_raw_fd()));
        assert_eq!(local_of(server.as_raw_fd()), client.peer_addr().ok());
        drop((client, server));
        assert!(!connected.look().contains(&expected));
    }
}
