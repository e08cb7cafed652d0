//! Public listening sockets, with the options that every accepted connection inherits.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

use crate::config::ListenAddr;
use crate::sys::socket;

/// A send that makes no progress for so long ends with an error.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// The kernel keeps a connection to itself until the client has sent something, for up to this many seconds.
const SILENT_CONNECT_SECONDS: i32 = 10;
/// Bytes that a client can send ahead of the gate: a request. The kernel doubles this for its own bookkeeping.
const RECEIVE_BUFFER: usize = 2 * 1024;
/// Connections that may wait to be accepted. The kernel lowers this to net.core.somaxconn, 4096 by default.
///
/// The gate accepts more than 10,000 connections per second, so that a long queue is still a short wait. A
/// full queue is worse: with TCP_DEFER_ACCEPT the client believes to be connected, and its request is
/// repeated after 200 ms, 600 ms and so on. 512 places overflowed 687 times while a busy machine gave the
/// gate no processor.
const BACKLOG: i32 = 4096;

/// The name of a listening socket within its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(super) u64);

/// Opens a listening socket.
///
/// # Errors
///
/// The operating system's: the address is in use or not this machine's, or a port below 1024 is not permitted.
pub fn bind(address: ListenAddr) -> io::Result<TcpListener> {
    let listener = match address {
        ListenAddr::Addr(address) => bind_socket(address)?,
        // One socket for both families; one for IPv4 alone where the kernel has no IPv6, or has it switched
        // off.
        ListenAddr::Any(port) => match bind_socket((Ipv6Addr::UNSPECIFIED, port).into()) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
                bind_socket((Ipv4Addr::UNSPECIFIED, port).into())?
            }
            other => other?,
        },
    };
    prepare(&listener)?;
    Ok(listener)
}

/// Sets the options of a listening socket, wherever the socket comes from.
///
/// # Errors
///
/// When the socket is not a listening TCP socket.
pub fn prepare(listener: &TcpListener) -> io::Result<()> {
    rustix::net::listen(listener, BACKLOG)?;
    // accept4(2) must not wait for a client that has gone since epoll_wait(2) reported it.
    listener.set_nonblocking(true)?;
    // Never a receive timeout: streams read nothing, and the gate has deadlines.
    sockopt::set_socket_timeout(listener, sockopt::Timeout::Send, Some(SEND_TIMEOUT))?;
    sockopt::set_tcp_user_timeout(listener, SEND_TIMEOUT.as_millis() as u32)?;
    sockopt::set_socket_keepalive(listener, true)?;
    sockopt::set_tcp_nodelay(listener, true)?;
    sockopt::set_socket_recv_buffer_size(listener, RECEIVE_BUFFER)?;
    socket::accept_when_it_speaks(listener, SILENT_CONNECT_SECONDS)
}

fn bind_socket(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A restart must not wait for connections of the process before to be forgotten (TIME_WAIT).
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // With net.ipv6.bindv6only = 1, [::] would be IPv6 alone.
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn one_socket_serves_both_families() {
        let listener = bind(ListenAddr::Any(0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        if listener.local_addr().expect("bound").is_ipv6() {
            assert_eq!(sockopt::ipv6_v6only(&listener), Ok(false));
        }
    }

    #[test]
    fn an_address_in_use_is_an_error() {
        let address = bind(ListenAddr::Addr("127.0.0.1:0".parse().expect("an address"))).expect("a port");
        let again = bind(ListenAddr::Addr(address.local_addr().expect("bound")));
        assert_eq!(again.expect_err("in use").kind(), io::ErrorKind::AddrInUse);
    }
}
