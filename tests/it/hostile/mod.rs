//! Hostile clients, and accidents that look the same.
//!
//! During each attack 20 honest listeners compare every frame, a new listener comes every 100 ms, half of these must
//! hear sound within a second and all within [`PATIENCE`], and the memory of the daemon stays below a bound. Afterwards every thread and descriptor is given
//! back.
//!
//! Each attack lasts some seconds, and with `WAVECAST_SIEGE=full` as long and as hard as docs/robustness.md promises
//! (some minutes in all). The attackers have source addresses of their own in 127.66.0.0/16.

mod bodies;
mod exhaustion;
mod floods;
mod limits;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{env, fs};

use crate::support::daemon::Daemon;
use crate::support::http::{self, Response};
use crate::support::stopwatch::{Span, Stopwatch, assert_span_within};
use crate::support::synth::SynthRamp;
use crate::support::{HEADER_BYTES, PATIENCE, let_pass, wait_for, wait_within};

/// The options of the input. The ramp of 65536 frames lasts 8.2 s, longer than any hole here.
const SLOW_RAMP: &str = "rate = 8000\nformat = \"s32\"\nhistory_seconds = 2\n";
const RATE: usize = 8000;
const FRAME_BYTES: usize = 8;
/// The number of honest listeners.
const HONEST: usize = 20;
/// The resident memory that the daemon may use during an attack.
const MEMORY_MB: u64 = 96;
/// The longest time from the connect of a new listener to its first sound, at the median: a machine that stalls delays
/// one or two. `scripts/siege` measures the slowest, on a quiet machine.
const SERVED_WITHIN: Duration = Duration::from_secs(1);

/// A daemon under attack, its honest listeners, and the new listeners that come all the time.
///
/// The fields are in the order in which they are dropped by a test that fails: the clients end before the daemon.
struct Siege {
    honest: Honest,
    newcomers: Newcomers,
    daemon: Daemon,
    threads: usize,
    descriptors: usize,
    _alone: MutexGuard<'static, ()>,
}

impl Siege {
    fn new() -> Siege {
        Siege::with("")
    }

    /// Starts a daemon with more tables in its configuration. `tables` follows the table `[limits]`.
    fn with(tables: &str) -> Siege {
        let alone = alone();
        // Without the limit, addresses of this machine may have any number of connections.
        let tables = format!("[limits]\nconnections_per_address = 120\n{tables}");
        let daemon = Daemon::ramp_with(&tables, "synth:ramp", SLOW_RAMP);
        // Each look is a request, and the honest clients must not empty the bucket of their address.
        let rarely = Duration::from_millis(200);
        wait_within(PATIENCE, rarely, "a second of sound", || (daemon.edge() >= RATE as u64).then_some(()));
        let honest = Honest::listen(&daemon, HONEST);
        wait_within(PATIENCE, rarely, "all to listen", || (daemon.listeners().len() == HONEST).then_some(()));
        let pid = daemon.pid();
        let (threads, descriptors) = (count(pid, "task"), count(pid, "fd"));
        let newcomers = Newcomers::start(&daemon);
        Siege { honest, newcomers, daemon, threads, descriptors, _alone: alone }
    }

    fn address(&self) -> SocketAddr {
        self.daemon.address()
    }

    /// Ends the attack, checks the honest listeners, the new listeners and the daemon, and returns the largest number
    /// of threads that the daemon had.
    fn lift(self, name: &str) -> usize {
        self.newcomers.wait_for(4);
        let seen = self.newcomers.end();
        let frames = self.honest.end();
        println!(
            "{name}: {HONEST} listeners, {frames} frames, none lost; {} new listeners, half of them heard sound within \
             {:.0} ms and all within {:.0} ms; at most {} MB, {} threads",
            seen.served.len(),
            seen.median().net().as_secs_f64() * 1e3,
            seen.slowest().net().as_secs_f64() * 1e3,
            seen.memory_mb,
            seen.threads
        );
        assert!(seen.served.len() > 3, "{}", seen.served.len());
        assert!(seen.memory_mb < MEMORY_MB, "{name}: {} MB", seen.memory_mb);
        let pid = self.daemon.pid();
        wait_for("every thread and descriptor to be given back", || {
            (count(pid, "task") <= self.threads && count(pid, "fd") <= self.descriptors).then_some(())
        });
        let log = self.daemon.log();
        assert!(!log.iter().any(|line| line.contains("bug in wavecast")), "{log:?}");
        let warnings = log.iter().filter(|line| line.contains("WARN")).count();
        // One line for the first refusal of a burst and one for the rest. A full run has time for several bursts.
        let most = if is_full() { 24 } else { 12 };
        assert!(warnings < most, "{log:?}");
        // Last, because a missed time bound may be retried, and everything else may not.
        assert_span_within(seen.median(), SERVED_WITHIN, "the first sound of half of the new listeners");
        seen.threads
    }
}

/// Honest listeners, each of which compares every frame on a thread of its own. They leave on drop.
struct Honest {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<SynthRamp>>,
}

impl Honest {
    /// Connects `count` listeners.
    fn listen(daemon: &Daemon, count: usize) -> Honest {
        let mut honest = Honest { over: Arc::default(), threads: Vec::new() };
        (0..count).for_each(|_| honest.add(daemon));
        honest
    }

    /// Connects one more listener.
    fn add(&mut self, daemon: &Daemon) {
        let mut response = daemon.get("/live.wav");
        assert_eq!(response.status, 200);
        response.bytes(HEADER_BYTES);
        let over = Arc::clone(&self.over);
        self.threads.push(thread::spawn(move || {
            let mut ramp = SynthRamp::new(4, 2);
            while !over.load(Ordering::Relaxed) {
                ramp.feed(&response.bytes(400 * FRAME_BYTES));
            }
            ramp
        }));
    }

    /// Ends the listeners, checks that none lost a frame, and returns the number of their frames.
    fn end(mut self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        let mut frames = 0;
        for one in self.threads.drain(..) {
            let ramp = one.join().expect("the listener was served all the time");
            assert!(ramp.is_whole(), "{:?} within {} frames", ramp.holes, ramp.frames);
            frames += ramp.frames;
        }
        frames
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for one in self.threads.drain(..) {
            let _ = one.join();
        }
    }
}

/// The thread that starts one new listener after the other, and measures the daemon. It ends on drop.
struct Newcomers {
    over: Arc<AtomicBool>,
    served: Arc<AtomicU32>,
    thread: Option<JoinHandle<Seen>>,
}

/// The measurements of [`Newcomers`].
#[derive(Default)]
struct Seen {
    /// The largest resident memory.
    memory_mb: u64,
    /// The largest number of threads.
    threads: usize,
    /// The times from a connect to the first sound, one for each new listener.
    served: Vec<Span>,
}

impl Seen {
    fn median(&self) -> Span {
        let mut served = self.served.clone();
        served.sort_unstable();
        served.get(served.len() / 2).copied().unwrap_or_default()
    }

    fn slowest(&self) -> Span {
        self.served.iter().max().copied().unwrap_or_default()
    }
}

impl Newcomers {
    fn start(daemon: &Daemon) -> Newcomers {
        let (pid, address) = (daemon.pid(), daemon.address());
        let (over, served): (Arc<AtomicBool>, Arc<AtomicU32>) = Default::default();
        let (ends, counter) = (Arc::clone(&over), Arc::clone(&served));
        let thread = thread::spawn(move || {
            let mut seen = Seen::default();
            while !ends.load(Ordering::Relaxed) {
                seen.memory_mb = seen.memory_mb.max(memory_mb(pid));
                seen.threads = seen.threads.max(count(pid, "task"));
                seen.served.push(time_to_sound(address));
                counter.store(seen.served.len() as u32, Ordering::Relaxed);
                // The pace of the new listeners.
                let_pass(Duration::from_millis(100));
            }
            seen
        });
        Newcomers { over, served, thread: Some(thread) }
    }

    /// Waits until `more` new listeners have been served, or one was not.
    fn wait_for(&self, more: u32) {
        let before = self.served.load(Ordering::Relaxed);
        wait_for("new listeners after the attack", || {
            let has_ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            (has_ended || self.served.load(Ordering::Relaxed) >= before + more).then_some(())
        });
    }

    fn end(mut self) -> Seen {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it ends once");
        thread.join().expect("every new listener was served")
    }
}

impl Drop for Newcomers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns `true` if the attacks are to last as long as docs/robustness.md promises.
fn is_full() -> bool {
    env::var_os("WAVECAST_SIEGE").is_some_and(|value| value == "full")
}

/// Returns the length of an attack: `full` seconds in a full run, otherwise `short` seconds.
fn lasting(full: u64, short: u64) -> Duration {
    Duration::from_secs(if is_full() { full } else { short })
}

/// Waits until no other attack runs. Each attack is measured, so two at once would disturb each other.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the time that a new listener waits until it hears sound. It tries once.
fn time_to_sound(address: SocketAddr) -> Span {
    let began = Stopwatch::start();
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut response = ask(stream, "/live.wav");
    assert_eq!(response.status, 200);
    response.bytes(HEADER_BYTES + FRAME_BYTES);
    began.span()
}

/// Sends a GET on a new connection and returns once the head of the answer has come.
fn ask(mut stream: TcpStream, target: &str) -> Response {
    stream.write_all(request(target).as_bytes()).expect("sent");
    Response::read(stream, false)
}

/// Returns the text of a GET.
fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Returns the number of entries of a folder of a process in `/proc`.
fn count(pid: u32, folder: &str) -> usize {
    fs::read_dir(format!("/proc/{pid}/{folder}")).map_or(0, Iterator::count)
}

/// Returns the resident memory of a process.
fn memory_mb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb: u64 = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    kb / 1024
}

/// Returns an address of an attacker.
fn attacker(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 66, 6, number).into()
}

/// Connects from an attacker's address, within a second. The same limit is on each send.
fn connect_from(from: IpAddr, address: SocketAddr) -> Option<TcpStream> {
    http::connect_from(from, address, Duration::from_secs(1))
}

/// Connects like [`connect_from`], as often as it takes on a machine that stalls.
fn connected_from(from: IpAddr, address: SocketAddr) -> TcpStream {
    wait_for("a connection", || connect_from(from, address))
}

/// Lowers the priority of this thread, so that an attacker uses only time that nobody else wants, as on another
/// machine.
fn behave_like_another_machine() {
    let _ = rustix::process::nice(19);
}

/// A generator of random numbers (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
