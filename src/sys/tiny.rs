//! Calls that only the guard around tiny_http needs; deleted with the guard.

#![allow(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// Asks something of whatever this process has open under that number.
///
/// For sockets that another part of the process holds and does not hand out. A number can be closed and given
/// away again at any time, between two calls of this too: what must be true of the same file is asked in one,
/// or of a duplicate that was made in one.
pub fn with_descriptor<T>(number: RawFd, ask: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    // SAFETY: the borrow cannot leave this call, and its users here only hand the number to getpeername,
    // getsockname, getsockopt, FIONREAD, recv with MSG_PEEK, dup3, fcntl's F_DUPFD_CLOEXEC and epoll_ctl's
    // EPOLL_CTL_ADD, which fail with EBADF or the like if it is not what they look for, and change nothing in a file
    // that is.
    ask(unsafe { BorrowedFd::borrow_raw(number) })
}

/// Bytes that came over a connection since it began, whether they were read or not. `None` for what is no TCP
/// socket.
pub fn received(socket: impl AsFd) -> Option<u64> {
    super::socket::tcp_info(socket.as_fd()).map(|info| info.tcpi_bytes_received)
}

/// Has the kernel send SIGIO to this process whenever somebody connects to that listening socket (F_SETOWN and
/// O_ASYNC, fcntl(2)), also if the connection is accepted at once.
///
/// Only where that signal has a handler: without one it ends the process.
///
/// # Errors
///
/// Where the kernel cannot do it.
pub fn signal_connections(listener: impl AsFd) -> io::Result<()> {
    let listener = listener.as_fd();
    let this = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: it takes two integers, and changes only who is signalled for that socket.
    match unsafe { libc::fcntl(listener.as_raw_fd(), libc::F_SETOWN, this) } {
        0 => {
            let flags = rustix::fs::fcntl_getfl(listener)?;
            Ok(rustix::fs::fcntl_setfl(listener, flags | rustix::fs::OFlags::ASYNC)?)
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the kernel drop whatever comes from these to a listening socket (SO_ATTACH_FILTER, socket(7)), as if nobody
/// were there: IPv4 addresses, and IPv6 networks of 64 bits. These and no others; connections that it made before
/// are not touched.
///
/// # Errors
///
/// Where the kernel has no such filter or no room for one so long.
pub fn drop_packets_from(listener: impl AsFd, parties: &[IpAddr]) -> io::Result<()> {
    // Offsets into the IP header: linux/filter.h.
    const IP_HEADER: u32 = libc::SKF_NET_OFF as u32;
    const WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const IS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const END: u32 = libc::BPF_RET | libc::BPF_K;
    // If it is not, so many are left out.
    let step = |code: u32, value: u32, otherwise: u8| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: otherwise,
        k: value,
    };
    let (drop, pass) = (step(END, 0, 0), step(END, u32::MAX, 0));
    let (mut of_v4, mut of_v6) = (vec![step(WORD, IP_HEADER.wrapping_add(12), 0)], Vec::new());
    for party in parties {
        match party {
            IpAddr::V4(ip) => of_v4.extend([step(IS, ip.to_bits(), 1), drop]),
            IpAddr::V6(ip) => of_v6.extend([
                step(WORD, IP_HEADER.wrapping_add(8), 0),
                step(IS, (ip.to_bits() >> 96) as u32, 3),
                step(WORD, IP_HEADER.wrapping_add(12), 0),
                step(IS, (ip.to_bits() >> 64) as u32, 1),
                drop,
            ]),
        }
    }
    of_v4.push(pass);
    of_v6.push(pass);
    let mut program = vec![
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, IP_HEADER, 0),
        step(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 4, 0),
        libc::sock_filter { code: IS as u16, jt: 1, jf: 0, k: 4 },
        step(libc::BPF_JMP | libc::BPF_JA, of_v4.len() as u32, 0),
    ];
    program.extend(of_v4);
    program.extend(of_v6);
    attach_filter(listener.as_fd(), &mut program)
}

/// Has the kernel drop whatever comes to a listening socket, until [`drop_packets_from`] says otherwise.
///
/// # Errors
///
/// As there.
pub fn drop_all_packets(listener: impl AsFd) -> io::Result<()> {
    let drop = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
    attach_filter(listener.as_fd(), &mut [drop])
}

/// Puts a filter before a socket (SO_ATTACH_FILTER, socket(7)), in place of one that is there.
fn attach_filter(socket: BorrowedFd<'_>, program: &mut [libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the kernel reads a sock_fprog, and from where that points to as many steps as it says, which live until
    // after the call. It checks each before it takes them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ignores that signal from now on, in this program and in the one that takes its place by exec(2), until that has a
/// handler. What is pending of it is gone.
///
/// # Errors
///
/// None that sigaction(2) has for a signal that exists.
pub fn ignore_connections() -> io::Result<()> {
    // SAFETY: it changes only what becomes of that signal, which from now on is nothing; no code of ours runs in it.
    match unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
