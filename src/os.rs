//! The few things that only the operating system can do: its clock, its limits, its priorities.
//!
//! This is the one module with unsafe code: calls that no safe wrapper among the dependencies has.

#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds: never jumps, stands still in suspend.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How many seconds this machine's own clock is ahead of UTC at that time (seconds since 1970).
pub fn utc_offset(time: i64) -> i64 {
    let time = time as libc::time_t;
    // SAFETY: tm is a struct of integers and a pointer that may be null: all zeros is a value of it.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that live until after the call. It reads TZ from the environment,
    // which nothing in this program changes.
    match unsafe { libc::localtime_r(&raw const time, &raw mut local) }.is_null() {
        true => 0,
        false => local.tm_gmtoff as i64,
    }
}

/// The name that this machine calls itself.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The address that other machines reach this one by, if there is a way out.
pub fn own_address() -> Option<IpAddr> {
    // Connecting a UDP socket sends nothing: the kernel only looks up its route. TEST-NET-1, RFC 5737.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

/// Gives the calling thread, and no other, the real-time scheduling class SCHED_FIFO (sched(7)).
///
/// # Errors
///
/// EPERM without CAP_SYS_NICE and with a lower RLIMIT_RTPRIO; EINVAL for a priority outside 1 to 99.
pub fn realtime(priority: u8) -> io::Result<()> {
    // SAFETY: sched_param is a struct of integers (on musl with reserved ones): all zeros is a value of it.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = priority.into();
    // Reset on fork: should this thread ever start another, that one is an ordinary one again.
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel only reads `param`, which lives until after the call; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, policy, &param) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the C library's heap, which Rust uses too, give back what was freed: a thousand buffers of listeners
/// that have caught up would otherwise stay with the process. For the beginning of `main`, before there are
/// threads.
pub fn lean_heap() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        // Blocks from here on get a mapping of their own and lose it when they are freed. Setting it also ends
        // its growing.
        (libc::M_MMAP_THRESHOLD, 16 * 1024),
        // Two heaps instead of eight for each core: nothing here allocates so often that it would queue.
        (libc::M_ARENA_MAX, 2),
    ] {
        // SAFETY: it takes two integers and changes nothing but the allocator's own parameters, under the
        // allocator's own lock; 0, for failure, leaves things as they were.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Raises the limit of open descriptors to as many as this process may have, and returns it. Each listener
/// takes three.
pub fn raise_open_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // It may always be raised to the maximum; where a sandbox thinks otherwise, what there is must do.
        let _ = setrlimit(Resource::Nofile, limit);
        limit = getrlimit(Resource::Nofile);
    }
    limit.current.unwrap_or(u64::MAX)
}

/// Asks something of whatever this process has open under that number.
///
/// For sockets that another part of the process holds and does not hand out. A number can be closed and given
/// away again at any time, between two calls of this too: what must be true of the same file is asked in one,
/// or of a duplicate that was made in one.
pub fn with_descriptor<T>(number: RawFd, ask: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    // SAFETY: the borrow cannot leave this call, and its users here only hand the number to getpeername,
    // getsockname, FIONREAD and fcntl's F_DUPFD_CLOEXEC, which fail with EBADF or ENOTSOCK if it is not what
    // they look for, and change nothing in a file that is.
    ask(unsafe { BorrowedFd::borrow_raw(number) })
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
    fn the_clock_moves_forward() {
        let before = monotonic_ns();
        std::thread::yield_now();
        assert!(monotonic_ns() > before);
    }

    #[test]
    fn the_machine_has_a_name() {
        assert!(!host_name().is_empty());
    }

    #[test]
    fn the_machines_clock_is_within_a_day_of_utc() {
        // Zones are whole quarters of an hour today; the machine's own is not known here.
        let offset = utc_offset(1_763_640_000);
        assert!(offset.abs() <= 14 * 3600 && offset % 900 == 0, "{offset}");
    }

    #[test]
    fn a_wrong_priority_is_refused_and_harms_nothing() {
        assert_eq!(realtime(0).map_err(|e| e.raw_os_error()), Err(Some(libc::EINVAL)));
        assert_eq!(realtime(200).map_err(|e| e.raw_os_error()), Err(Some(libc::EINVAL)));
    }

    #[test]
    fn a_lean_heap_still_allocates_what_is_large_and_what_is_small() {
        lean_heap();
        let blocks: Vec<Vec<u8>> = (0..20).map(|power| vec![7; 1 << power]).collect();
        assert!(blocks.iter().flatten().all(|byte| *byte == 7));
    }

    #[test]
    fn the_limit_of_open_files_is_as_high_as_it_may_be() {
        raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn a_number_leads_to_its_file_and_a_closed_one_to_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let same = with_descriptor(listener.as_raw_fd(), |fd| fd.try_clone_to_owned()).expect("it is open");
        let same = TcpListener::from(same);
        assert_eq!(same.local_addr().expect("bound"), listener.local_addr().expect("bound"));
        assert!(with_descriptor(1_000_000, |fd| fd.try_clone_to_owned()).is_err());
    }

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
