//! Socket calls that no safe wrapper among the dependencies has.

#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::env;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

/// The first descriptor that a service manager passes (sd_listen_fds(3)).
const FIRST_PASSED: RawFd = 3;

/// The passed descriptors that have an owner in this process.
static OWNED: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// Takes ownership of a descriptor that the service manager passed to this process (sd_listen_fds(3)).
///
/// The environment says which descriptors were passed; each of them can be taken once.
///
/// # Errors
///
/// `InvalidInput` for a descriptor that was not passed, `AlreadyExists` for one that was taken before, EBADF for one
/// that is not open.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    let variable = |name| env::var(name).ok();
    let by_manager = passed(variable("LISTEN_PID"), std::process::id(), variable("LISTEN_FDS"));
    if !by_manager.contains(&number) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("descriptor {number} was not passed"),
        ));
    }
    // SAFETY: F_GETFD only asks for the flags of whatever is open under the number, or fails with EBADF.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if !OWNED.lock().unwrap_or_else(PoisonError::into_inner).insert(number) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("descriptor {number} was taken before"),
        ));
    }
    // SAFETY: the descriptor is open, and its owner is whoever it was passed to. That is this process: the parent
    // says so in the environment, which is not changed here (`env::set_var` is unsafe). Nothing else in this process
    // opened it, because it was open when the process began, and nothing else owns it, because `OWNED` lets each
    // number through once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Returns the descriptors that a service manager passed to the process `own_pid`, from the values of `LISTEN_PID` and
/// `LISTEN_FDS`. The range is empty if they are missing, wrong, or for another process.
fn passed(pid: Option<String>, own_pid: u32, count: Option<String>) -> std::ops::Range<RawFd> {
    let is_for_us = pid.and_then(|pid| pid.parse::<u32>().ok()) == Some(own_pid);
    let count = count.filter(|_| is_for_us).and_then(|count| count.parse::<u16>().ok()).unwrap_or(0);
    FIRST_PASSED..FIRST_PASSED + RawFd::from(count)
}

/// Returns the number of bytes that were sent and that the other side has not acknowledged (SIOCOUTQ, tcp(7)); 0 where
/// the kernel does not say.
pub fn unacknowledged(socket: impl AsFd) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ, which is SIOCOUTQ, writes one int, and `bytes` is one that outlives the call.
    match unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &mut bytes) } {
        0 => bytes.max(0) as u64,
        _ => 0,
    }
}

/// Returns the number of connections in a listening socket's queue that were not accepted yet; 0 where the kernel does
/// not say.
pub fn waiting_connections(listener: impl AsFd) -> u32 {
    // For a listening socket this field is the length of its queue: tcp_get_info() in the kernel's net/ipv4/tcp.c.
    const LISTEN: u8 = 10;
    tcp_info(listener.as_fd()).filter(|info| info.tcpi_state == LISTEN).map_or(0, |info| info.tcpi_unacked)
}

/// Returns a TCP socket's TCP_INFO (tcp(7)); `None` for another kind of socket. A field that the kernel is too old to
/// know is 0.
pub(crate) fn tcp_info(socket: BorrowedFd<'_>) -> Option<libc::tcp_info> {
    // SAFETY: `tcp_info` is a struct of integers, for which all zeros is a valid value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has that size, and the number of bytes that it
    // wrote to `length`; both outlive the call.
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

/// Makes the kernel hold back each new connection until its client has sent something, for at most `seconds`
/// (TCP_DEFER_ACCEPT, tcp(7)).
///
/// # Errors
///
/// An error of setsockopt(2) for a socket that is not TCP.
pub fn accept_when_it_speaks(listener: impl AsFd, seconds: i32) -> io::Result<()> {
    let value: libc::c_int = seconds;
    // SAFETY: pointer and length are those of one int, which the kernel only reads.
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
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn a_descriptor_that_was_not_passed_cannot_be_taken() {
        let file = std::fs::File::open("/dev/null").expect("the file exists");
        for number in [file.as_raw_fd(), 0, -1, 1_000_000] {
            let error = inherited(number).expect_err("no service manager started this test");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{number}");
        }
        assert!(file.metadata().is_ok(), "the file is still open");
    }

    #[test]
    fn a_passed_descriptor_can_be_taken_once() {
        const TEST: &str = "sys::socket::tests::a_passed_descriptor_can_be_taken_once";
        if env::var_os("LISTEN_PID").is_none() {
            // Runs this test again in a process to which /dev/null was passed. `exec` keeps the process number.
            let script = "LISTEN_PID=$$ LISTEN_FDS=2 exec \"$0\" --exact \"$1\" 3</dev/null 4<&-";
            let this = env::current_exe().expect("this program has a path");
            let child = std::process::Command::new("sh").args(["-c", script]).arg(this).arg(TEST).output();
            let child = child.expect("sh can be run");
            let text = String::from_utf8_lossy(&child.stdout);
            assert!(child.status.success() && text.contains("1 passed"), "{text}");
            return;
        }
        let taken = inherited(FIRST_PASSED).expect("it was passed");
        assert_eq!(taken.as_raw_fd(), FIRST_PASSED);
        let again = inherited(FIRST_PASSED).expect_err("it has an owner");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        drop(taken);
        // Closed now, and perhaps opened by somebody else under the same number.
        assert!(inherited(FIRST_PASSED).is_err());
    }

    #[test]
    fn passed_descriptors_are_those_that_the_environment_announces_for_this_process() {
        let passed = |pid: &str, count: &str| passed(Some(pid.into()), 7, Some(count.into()));
        assert_eq!(passed("7", "2"), 3..5);
        for (pid, count) in [("8", "2"), ("", "2"), ("7", ""), ("7", "-1"), ("7", "4294967295"), ("7", "0")] {
            assert!(passed(pid, count).is_empty(), "{pid:?} {count:?}");
        }
        assert!(super::passed(None, 7, Some("2".into())).is_empty());
    }

    #[test]
    fn bytes_that_the_other_side_has_not_read_are_unacknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        accept_when_it_speaks(&listener, 10).expect("a TCP socket has this option");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("the socket is bound")).expect("connected");
        client.write_all(b"x").expect("sent");
        let (mut server, _) = listener.accept().expect("the client has sent something");
        assert_eq!(unacknowledged(&server), 0);
        server.set_nonblocking(true).expect("set");
        while server.write(&[0; 65536]).is_ok() {}
        assert!(unacknowledged(&server) > 0);
    }

    #[test]
    fn connections_that_were_not_accepted_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        assert_eq!(waiting_connections(&listener), 0);
        let _client =
            TcpStream::connect(listener.local_addr().expect("the socket is bound")).expect("connected");
        assert_eq!(waiting_connections(&listener), 1);
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        assert_eq!(waiting_connections(&datagrams), 0, "a UDP socket has no queue");
        assert!(accept_when_it_speaks(&datagrams, 10).is_err());
    }
}
