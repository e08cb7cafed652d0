//! The few things that only the operating system can do: its clock, its limits, its priorities.
//!
//! This is the one module with unsafe code: calls that no safe wrapper among the dependencies has.

#![allow(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds: never jumps, stands still in suspend.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How long the calling thread has been running on a processor.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How many seconds this machine's own clock is ahead of UTC at that time (seconds since 1970).
// It has 32 bits on armhf.
#[allow(clippy::useless_conversion)]
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

/// Gives back what was freed in the heap below something that is still in use, which the C library keeps otherwise.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes an integer, and gives back whole pages that no block is in, under the allocator's own locks
    // (MT-Safe in malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0)
    };
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
    // getsockname, getsockopt, FIONREAD, recv with MSG_PEEK, dup3, fcntl's F_DUPFD_CLOEXEC and epoll_ctl's
    // EPOLL_CTL_ADD, which fail with EBADF or the like if it is not what they look for, and change nothing in a file
    // that is.
    ask(unsafe { BorrowedFd::borrow_raw(number) })
}

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

/// Bytes that came over a connection since it began, whether they were read or not. `None` for what is no TCP
/// socket.
pub fn received(socket: impl AsFd) -> Option<u64> {
    tcp_info(socket.as_fd()).map(|info| info.tcpi_bytes_received)
}

/// TCP_INFO (tcp(7)). What an old kernel does not know is 0.
fn tcp_info(socket: BorrowedFd<'_>) -> Option<libc::tcp_info> {
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
    fn a_trimmed_heap_keeps_what_is_in_use_and_gives_back_the_rest() {
        let anonymous = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("it is there");
            line.trim_end_matches("kB").trim().parse().expect("a number")
        };
        // One in a hundred stays, among them the last: without trimming nothing could be given back.
        let blocks: Vec<Vec<u8>> = (0..20_000).map(|_| vec![7; 1000]).collect();
        let (kept, freed): (Vec<_>, Vec<_>) =
            blocks.into_iter().enumerate().partition(|(number, _)| number % 100 == 99);
        let before = anonymous();
        drop(freed);
        trim_heap();
        assert!(anonymous() + 15_000 < before, "{before} KB, then {} KB", anonymous());
        assert!(kept.iter().all(|(_, block)| block.iter().all(|byte| *byte == 7)));
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
    fn a_descriptor_of_before_becomes_an_owned_one() {
        let (mut other, ours) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let number = std::os::fd::IntoRawFd::into_raw_fd(ours);
        drop(inherited(number));
        assert_eq!(std::io::Read::read(&mut other, &mut [0]).expect("it is closed"), 0);
    }

    #[test]
    fn who_waits_to_be_let_in_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        assert_eq!(waiting_connections(&listener), 0);
        let clients: Vec<TcpStream> =
            (0..3).map(|_| TcpStream::connect(address).expect("it listens")).collect();
        assert_eq!(waiting_connections(&listener), 3);
        listener.accept().expect("one waits");
        assert_eq!(waiting_connections(&listener), 2);
        assert_eq!(waiting_connections(&clients[0]), 0, "no listening socket");
    }

    #[test]
    fn who_connects_is_told_of_even_if_he_is_let_in_at_once() {
        let (mut told, tell) = std::os::unix::net::UnixStream::pair().expect("a pair");
        signal_hook::low_level::pipe::register(libc::SIGIO, tell).expect("a handler");
        told.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        signal_connections(&listener).expect("the kernel can");
        let address = listener.local_addr().expect("bound");
        let accepting = std::thread::spawn(move || listener.accept().expect("a client"));
        TcpStream::connect(address).expect("it listens");
        accepting.join().expect("it was accepted");
        std::io::Read::read_exact(&mut told, &mut [0]).expect("somebody came");
    }

    #[test]
    fn a_listening_socket_hears_nothing_of_those_whose_packets_are_dropped() {
        use std::net::SocketAddr;
        let listeners = ["127.0.0.1:0", "[::1]:0"].map(|at| TcpListener::bind(at).expect("a port"));
        let connects = |from: &str, to: &TcpListener| {
            let from: SocketAddr = from.parse().expect("an address");
            let to = to.local_addr().expect("bound");
            let family = match to.is_ipv4() {
                true => rustix::net::AddressFamily::INET,
                false => rustix::net::AddressFamily::INET6,
            };
            let socket =
                rustix::net::socket(family, rustix::net::SocketType::STREAM, None).expect("a socket");
            rustix::net::bind(&socket, &from).expect("an address of ours");
            rustix::net::sockopt::set_socket_timeout(
                &socket,
                rustix::net::sockopt::Timeout::Send,
                Some(Duration::from_millis(300)),
            )
            .expect("set");
            rustix::net::connect(&socket, &to).is_ok()
        };
        let [v4, v6] = &listeners;
        let parties: Vec<IpAddr> = ["10.0.0.1", "127.0.0.3", "2001:db8::", "::", "127.0.0.5"]
            .map(|ip| ip.parse().expect("one"))
            .to_vec();
        for listener in &listeners {
            drop_packets_from(listener, &parties).expect("the kernel can");
        }
        assert!(connects("127.0.0.2:0", v4) && connects("127.0.0.4:0", v4));
        assert!(!connects("127.0.0.3:0", v4) && !connects("127.0.0.5:0", v4));
        assert!(!connects("[::1]:0", v6));
        for listener in &listeners {
            drop_packets_from(listener, &["2001:db8::".parse().expect("one")]).expect("the kernel can");
        }
        assert!(connects("127.0.0.3:0", v4) && connects("[::1]:0", v6));
        drop_all_packets(v4).expect("the kernel can");
        assert!(!connects("127.0.0.2:0", v4));
        drop_packets_from(v4, &[]).expect("the kernel can");
        assert!(connects("127.0.0.2:0", v4));
    }

    #[test]
    fn what_came_is_counted_whether_it_was_read_or_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (mut server, _) = listener.accept().expect("a client");
        assert_eq!(received(&server), Some(0));
        client.write_all(b"hello").expect("sent");
        std::io::Read::read_exact(&mut server, &mut [0; 2]).expect("it was sent");
        assert_eq!(received(&server), Some(5));
        assert_eq!(received(std::fs::File::open("/dev/null").expect("it is there")), None);
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
