//! Socket calls that no safe wrapper among the dependencies has.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A descriptor that this process was started with and that is its own by agreement with who started it
/// (sd_listen_fds(3)).
///
/// To be called once for each, before anything else here opens and closes descriptors.
pub fn inherited(number: RawFd) -> OwnedFd {
    // SAFETY: the number comes from the environment, by a protocol that gives what is open under it to this
    // process, and nobody else in it looks there. Should the environment lie, what is closed in the end is a
    // descriptor of nobody (an error that is ignored) or one that the liar opened.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Bytes that were sent but that the other side has not acknowledged (SIOCOUTQ, tcp(7)).
pub fn unacknowledged(socket: impl AsFd) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ, which is SIOCOUTQ, writes one int, and `bytes` is one that lives until after it.
    match unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &mut bytes) } {
        0 => bytes.max(0) as u64,
        _ => 0,
    }
}

/// How many connections wait in a listening socket to be accepted. 0 where the kernel does not say.
pub fn waiting_connections(listener: impl AsFd) -> u32 {
    // Of a listening socket this field is its queue's length: tcp_get_info() in the kernel's net/ipv4/tcp.c.
    const LISTEN: u8 = 10;
    tcp_info(listener.as_fd()).filter(|info| info.tcpi_state == LISTEN).map_or(0, |info| info.tcpi_unacked)
}

/// TCP_INFO (tcp(7)). What an old kernel does not know is 0.
pub(crate) fn tcp_info(socket: BorrowedFd<'_>) -> Option<libc::tcp_info> {
    // SAFETY: it is a struct of integers; all zeros is a value of it.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is that large, and the length it wrote to
    // `length`; both live until after the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &mut length,
        )
    };
    (result == 0).then_some(info)
}

/// Lets the kernel hold back a new connection until it has sent something (TCP_DEFER_ACCEPT, tcp(7)), for so
/// many seconds.
pub fn accept_when_it_speaks(listener: impl AsFd, seconds: i32) -> io::Result<()> {
    let value: libc::c_int = seconds;
    // SAFETY: the pointer and the length are those of one int, which the kernel reads.
    let result = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_the_other_side_has_not_taken_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        accept_when_it_speaks(&listener, 10).expect("a TCP socket takes it");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        client.write_all(b"x").expect("sent");
        let (mut server, _) = listener.accept().expect("it spoke");
        assert_eq!(unacknowledged(&server), 0);
        server.set_nonblocking(true).expect("set");
        while server.write(&[0; 65536]).is_ok() {}
        assert!(unacknowledged(&server) > 0);
    }
}
