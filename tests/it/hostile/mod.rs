//! Strangers who mean no good, and accidents that look the same: while they last, twenty who listen lose not a
//! frame, a new listener is served within a second, and memory stays below a bound. Afterwards nothing is left.
//!
//! Each attack lasts some seconds; with `WAVECAST_SIEGE=full` as long and as hard as is promised (some minutes
//! in all). The attackers have addresses of their own where they can choose them.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, fs};

use crate::support::daemon::Daemon;
use crate::support::http::{self, Response};
use crate::support::stopwatch::Stopwatch;
use crate::support::strace;
use crate::support::synth::SynthRamp;
use crate::support::{PATIENCE, wait_for};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

/// A format whose ramp of 65536 frames lasts 8.2 s, longer than any hole here.
const SLOW_RAMP: &str = "rate = 8000\nformat = \"s32\"\nhistory_seconds = 2\n";
const FRAME_BYTES: usize = 8;
const HEADER_BYTES: usize = 44;
/// Who listens while others attack.
const HONEST: usize = 20;
/// What the daemon may take meanwhile.
const MEMORY_MB: u64 = 96;
/// The same where more requests come at once than are taken away, until all who send them are kept out.
const FLOODED_MB: u64 = 256;
/// A new listener hears something after so long at the most.
const SERVED_WITHIN: Duration = Duration::from_secs(1);
/// What the daemon takes for a dead acceptor until others are let in again.
const OPEN_AGAIN_WITHIN: Duration = Duration::from_secs(1);

fn is_full() -> bool {
    env::var_os("WAVECAST_SIEGE").is_some_and(|value| value == "full")
}

/// So long in a full run, and else so long.
fn lasting(full: u64, short: u64) -> Duration {
    Duration::from_secs(if is_full() { full } else { short })
}

/// One attack at a time: each is measured.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A daemon, those who listen to it, and one who comes anew all the time.
struct Siege {
    daemon: Daemon,
    over: Arc<AtomicBool>,
    honest: Vec<JoinHandle<SynthRamp>>,
    watch: JoinHandle<Seen>,
    threads: usize,
    descriptors: usize,
    _alone: MutexGuard<'static, ()>,
}

/// What was seen of the daemon and its newcomers meanwhile.
#[derive(Default)]
struct Seen {
    memory_mb: u64,
    threads: usize,
    newcomers: u32,
    slowest: Duration,
    /// How much of that passed before it was connected.
    connected: Duration,
}

impl Siege {
    fn new() -> Siege {
        Siege::with("")
    }

    fn with(tables: &str) -> Siege {
        let alone = alone();
        // From this machine itself there may be any number, unless it is said.
        let tables = format!("[limits]\nconnections_per_address = 120\n{tables}");
        let daemon = Daemon::ramp_with(&tables, "synth:ramp", SLOW_RAMP);
        Siege::of(daemon, alone)
    }

    fn of(daemon: Daemon, alone: MutexGuard<'static, ()>) -> Siege {
        daemon.wait_for_edge(8000);
        let over: Arc<AtomicBool> = Arc::default();
        let honest = (0..HONEST).map(|_| listen(daemon.address(), &over)).collect();
        wait_for("all to listen", || (daemon.listeners().len() == HONEST).then_some(()));
        let pid = daemon.pid();
        let (threads, descriptors) = (count(pid, "task"), count(pid, "fd"));
        let (address, told) = (daemon.address(), Arc::clone(&over));
        let watch = thread::spawn(move || {
            let mut seen = Seen::default();
            while !told.load(Ordering::Relaxed) {
                seen.memory_mb = seen.memory_mb.max(memory_mb(pid));
                seen.threads = seen.threads.max(count(pid, "task"));
                let (connected, took) = time_to_sound(address);
                seen.newcomers += 1;
                if took > seen.slowest {
                    (seen.slowest, seen.connected) = (took, connected);
                }
                thread::sleep(Duration::from_millis(100));
            }
            seen
        });
        Siege { daemon, over, honest, watch, threads, descriptors, _alone: alone }
    }

    /// Ends it, looks at what everybody has to say, and returns how many threads the daemon had at the most.
    fn lift(self, name: &str) -> usize {
        self.end(0, MEMORY_MB, name)
    }

    /// The same where it may take so much memory.
    fn lift_below(self, memory_mb: u64, name: &str) -> usize {
        self.end(0, memory_mb, name)
    }

    /// The same where so many threads, and twice as many descriptors, are known to stay.
    fn lift_but(self, stay: usize, name: &str) -> usize {
        self.end(stay, MEMORY_MB, name)
    }

    fn end(self, stay: usize, memory_mb: u64, name: &str) -> usize {
        thread::sleep(Duration::from_millis(500));
        self.over.store(true, Ordering::Relaxed);
        let seen = self.watch.join().expect("newcomers were served");
        let mut frames = 0;
        for one in self.honest {
            let ramp = one.join().expect("it was served all the time");
            assert!(ramp.is_whole(), "{name}: {:?} within {} frames", ramp.holes, ramp.frames);
            frames += ramp.frames;
        }
        println!(
            "{name}: {HONEST} listeners, {frames} frames, none lost; {} newcomers, the slowest heard something after \
             {:.0} ms ({:.0} of them to connect); at most {} MB, {} threads",
            seen.newcomers,
            seen.slowest.as_secs_f64() * 1e3,
            seen.connected.as_secs_f64() * 1e3,
            seen.memory_mb,
            seen.threads
        );
        assert!(seen.newcomers > 3);
        assert!(seen.slowest < SERVED_WITHIN, "{name}: {:?}", seen.slowest);
        assert!(seen.memory_mb < memory_mb, "{name}: {} MB", seen.memory_mb);
        // Nothing is left; tiny_http keeps an idle thread for five seconds.
        let pid = self.daemon.pid();
        wait_for("everything to be given back", || {
            let (threads, descriptors) = (count(pid, "task"), count(pid, "fd"));
            (threads <= self.threads + stay && descriptors <= self.descriptors + 2 * stay).then_some(())
        });
        let log = self.daemon.log();
        assert!(!log.iter().any(|line| line.contains("bug in wavecast")), "{log:?}");
        let warnings = log.iter().filter(|line| line.contains("WARN")).count();
        // Who was kept out for ten seconds comes again within a full run's minute, which is another burst.
        let most = if is_full() { 24 } else { 12 };
        assert!(warnings < most, "one line for the first and one for the rest of a burst: {log:?}");
        seen.threads
    }
}

/// Listens until it is over.
fn listen(address: SocketAddr, over: &Arc<AtomicBool>) -> JoinHandle<SynthRamp> {
    let mut response = http::request(address, "GET", "/live.wav", "1.1", &[]);
    assert_eq!(response.status, 200);
    response.bytes(HEADER_BYTES);
    let over = Arc::clone(over);
    thread::spawn(move || {
        let mut ramp = SynthRamp::new(4, 2);
        while !over.load(Ordering::Relaxed) {
            ramp.feed(&response.bytes(400 * FRAME_BYTES));
        }
        ramp
    })
}

/// How long somebody new waits who does nothing about it: until he is connected, and until he hears something.
fn time_to_sound(address: SocketAddr) -> (Duration, Duration) {
    let began = Stopwatch::start();
    let mut stream = TcpStream::connect(address).expect("it listens");
    let connected = began.elapsed();
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(request("/live.wav").as_bytes()).expect("sent");
    let mut response = Response::read(stream, false);
    assert_eq!(response.status, 200);
    response.bytes(HEADER_BYTES + FRAME_BYTES);
    (connected, began.elapsed())
}

/// How many entries a folder of a process has in `/proc`.
fn count(pid: u32, folder: &str) -> usize {
    fs::read_dir(format!("/proc/{pid}/{folder}")).map_or(0, Iterator::count)
}

fn memory_mb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb: u64 = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    kb / 1024
}

/// An attacker's address.
fn attacker(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 66, 6, number).into()
}

/// Connects from that address.
fn connect_from(from: IpAddr, address: SocketAddr) -> Option<TcpStream> {
    connect_soon(from, address, Duration::from_secs(1))
}

/// The same within that time, which is how long it waits for any send too.
fn connect_soon(from: IpAddr, address: SocketAddr, patience: Duration) -> Option<TcpStream> {
    // Not for the daemons that other tests start meanwhile.
    let socket: OwnedFd =
        net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).ok()?;
    net::bind(&socket, &SocketAddr::new(from, 0)).ok()?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience)).ok()?;
    net::connect(&socket, &address).ok()?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Takes only the processor time that nobody else wants.
fn behave_like_another_machine() {
    let _ = rustix::process::nice(19);
}

/// Ends it by a reset.
fn reset(stream: TcpStream) {
    // To linger for no time is to reset.
    let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    drop(stream);
}

/// Random numbers (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

// Nobody blocks anybody.

#[test]
fn two_hundred_thousand_requests_in_a_row() {
    let siege = Siege::new();
    let address = siege.daemon.address();
    for (number, target) in ["/healthz", "/live.wav", "/", "/status.json", "/nothing"].into_iter().enumerate()
    {
        let Some(mut stream) = connect_from(attacker(number as u8), address) else { continue };
        let _ = stream.set_nodelay(true);
        let mut reader = stream.try_clone().expect("a duplicate");
        // With one who reads the answers, and one who does not.
        let reads = thread::spawn(move || {
            let mut bytes = vec![0; 65_536];
            let mut sum = 0;
            while let (true, Ok(count @ 1..)) = (number % 2 == 0, reader.read(&mut bytes)) {
                sum += count;
            }
            sum
        });
        let all = request(target).repeat(200_000);
        let sent = stream.write_all(all.as_bytes());
        let _ = stream.shutdown(Shutdown::Both);
        let read = reads.join().expect("no panic");
        println!("{target}: {sent:?}, {read} bytes of answers");
    }
    siege.lift("200,000 pipelined requests, five times");
}

/// So many flood it for that long, from so many addresses, each anew after that pause when it is thrown out. How often
/// they came in.
fn flood(address: SocketAddr, floods: u8, addresses: u8, pause: Duration, time: Duration) -> u32 {
    let end = Instant::now() + time;
    let all = Arc::new("GET /live.wav HTTP/1.1\r\n\r\n".repeat(20_000));
    let floods: Vec<_> = (0..floods)
        .map(|number| {
            let all = Arc::clone(&all);
            thread::spawn(move || {
                behave_like_another_machine();
                let mut connections = 0;
                while Instant::now() < end {
                    let Some(mut stream) = connect_from(attacker(number % addresses), address) else {
                        continue;
                    };
                    let _ = stream.write_all(all.as_bytes());
                    connections += 1;
                    thread::sleep(pause);
                }
                connections
            })
        })
        .collect();
    floods.into_iter().map(|flood| flood.join().expect("no panic")).sum()
}

#[test]
fn many_pipeline_at_once() {
    let siege = Siege::new();
    let pause = Duration::from_millis(500);
    let connections = flood(siege.daemon.address(), 30, 4, pause, lasting(60, 5));
    siege.lift(&format!("30 at once pipeline 20,000 requests, {connections} times in all"));
}

#[test]
fn more_pipeline_at_once_and_come_again_at_once() {
    let siege = Siege::new();
    let connections = flood(siege.daemon.address(), 60, 4, Duration::ZERO, lasting(60, 5));
    siege.daemon.wait_for_log("is not let in for 10 s");
    siege.lift_below(
        FLOODED_MB,
        &format!("60 at once pipeline 20,000 requests from 4 addresses, {connections} times in all"),
    );
}

#[test]
fn so_do_many_from_an_address_each() {
    let siege = Siege::new();
    let floods = if is_full() { 60 } else { 30 };
    let connections = flood(siege.daemon.address(), floods, floods, Duration::ZERO, lasting(60, 5));
    siege.lift_below(
        FLOODED_MB,
        &format!(
            "{floods} at once pipeline 20,000 requests from as many addresses, {connections} times in all"
        ),
    );
}

#[test]
fn those_who_do_not_read_or_read_a_byte_a_second_or_half_close_or_reset_or_ask_again() {
    let siege = Siege::with("[listeners]\nstall_seconds = 3");
    let address = siege.daemon.address();
    let end = Instant::now() + lasting(60, 8);
    let mut dice = Dice(0x5EED);
    let mut held: Vec<TcpStream> = Vec::new();
    let targets = ["/live.wav", "/live.wav?latency=low", "/live.wav?back=1", "/status.json", "/"];
    let mut began = 0;
    while Instant::now() < end {
        for _ in 0..10 {
            let target = targets[dice.roll() as usize % targets.len()];
            let mut stream = http::connect_narrow(address, 2048);
            if stream.write_all(request(target).as_bytes()).is_err() {
                continue;
            }
            began += 1;
            match dice.roll() % 5 {
                0 => drop(stream.shutdown(Shutdown::Write)),
                1 => {
                    reset(stream);
                    continue;
                }
                2 => drop(stream.write_all(request("/live.wav").repeat(3).as_bytes())),
                _ => {}
            }
            held.push(stream);
        }
        for stream in &mut held {
            stream.set_nonblocking(true).expect("set");
            let _ = stream.read(&mut [0]);
            if dice.roll() % 4 == 0 {
                let _ = stream.write_all(request("/healthz").as_bytes());
            }
        }
        let excess = held.len().saturating_sub(70);
        held.drain(..excess);
        thread::sleep(Duration::from_millis(200));
    }
    drop(held);
    siege.lift(&format!("{began} who read badly, half-close, reset or ask again"));
}

#[test]
fn five_thousand_connections_a_second() {
    let siege = Siege::new();
    let address = siege.daemon.address();
    let began = Instant::now();
    let end = began + lasting(60, 6);
    let made = Arc::new(AtomicU64::new(0));
    let answered = Arc::new(AtomicU64::new(0));
    const THREADS: u64 = 4;
    const PER_SECOND: u64 = 5000;
    let floods: Vec<_> = (0..THREADS)
        .map(|number| {
            let (made, answered) = (Arc::clone(&made), Arc::clone(&answered));
            thread::spawn(move || {
                behave_like_another_machine();
                let mut dice = Dice(0xF100D + number);
                let text = request("/healthz");
                for n in 0.. {
                    let due = began + Duration::from_secs(1) * n / (PER_SECOND / THREADS) as u32;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    if Instant::now() > end {
                        return;
                    }
                    let from = attacker((dice.roll() % 20) as u8);
                    let Some(mut stream) = connect_from(from, address) else { continue };
                    made.fetch_add(1, Ordering::Relaxed);
                    match dice.roll() % 4 {
                        // Nothing at all, half a request, a whole one; and one whose answer is read.
                        0 => {}
                        1 => drop(stream.write_all(b"GET / HTTP/1.1\r\nHos")),
                        2 => drop(stream.write_all(text.as_bytes())),
                        _ => {
                            let _ = stream.write_all(text.as_bytes());
                            if stream.read(&mut [0; 512]).is_ok_and(|count| count > 0) {
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                    match dice.roll() % 2 {
                        0 => reset(stream),
                        _ => drop(stream),
                    }
                }
            })
        })
        .collect();
    for flood in floods {
        flood.join().expect("no panic");
    }
    let seconds = began.elapsed().as_secs_f64();
    let made = made.load(Ordering::Relaxed);
    let answered = answered.load(Ordering::Relaxed);
    siege.lift(&format!(
        "{made} connections in {seconds:.0} s ({:.0} a second, {answered} waited for their answer)",
        made as f64 / seconds
    ));
}

#[test]
fn slowhttptest_in_all_its_modes() {
    if Command::new("slowhttptest").arg("-h").output().is_err() {
        assert!(env::var_os("WAVECAST_ALL_PLAYERS").is_none(), "slowhttptest is not installed");
        println!("slowhttptest is not installed: nothing was tried");
        return;
    }
    let seconds = lasting(60, 8).as_secs().to_string();
    for (mode, name) in
        [("-H", "slow headers"), ("-B", "slow bodies"), ("-R", "ranges"), ("-X", "slow reading")]
    {
        let siege = Siege::new();
        let url = siege.daemon.url(if mode == "-X" { "/status.json" } else { "/live.wav" });
        // All from the address of those who listen: slowhttptest cannot choose.
        let mut command = Command::new("slowhttptest");
        command.args([mode, "-c", "1000", "-r", "400", "-i", "3", "-l", &seconds, "-p", "3", "-u", &url]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let output = command.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let said: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = said.iter().rev().find(|line| line.contains("status")).copied().unwrap_or_default();
        let threads = siege.lift(&format!("slowhttptest {mode} ({name}), 1000 connections [{last}]"));
        // One for each of them would be a thousand.
        assert!(threads < 600, "{mode}: {threads} threads");
    }
}

#[test]
fn a_gigabyte_of_header() {
    let siege = Siege::new();
    let address = siege.daemon.address();
    let beginnings = ["GET /", "GET / HTTP/1.1\r\nX: ", "GET / HTTP/1.1\r\n"];
    let attacks: Vec<_> = beginnings
        .into_iter()
        .enumerate()
        .map(|(number, beginning)| {
            thread::spawn(move || {
                let piece = match beginning.ends_with("1.1\r\n") {
                    true => "X: y\r\n".repeat(170_000),
                    false => "x".repeat(1 << 20),
                };
                let Some(mut stream) = connect_from(attacker(number as u8), address) else { return 0 };
                let _ = stream.write_all(beginning.as_bytes());
                (0..1024).take_while(|_| stream.write_all(piece.as_bytes()).is_ok()).count()
            })
        })
        .collect();
    for attack in attacks {
        let taken = attack.join().expect("no panic");
        println!("{taken} MiB were taken");
        assert!(taken < 64);
    }
    siege.lift("three times 1 GB of header");
}

#[test]
fn random_bytes() {
    let siege = Siege::new();
    let address = siege.daemon.address();
    let end = Instant::now() + lasting(60, 5);
    let mut dice = Dice(0xD1CE);
    let mut tried = 0;
    while Instant::now() < end {
        let kind = dice.roll();
        let length = 1 + dice.roll() as usize % 3000;
        let mut bytes: Vec<u8> = (0..length).map(|_| dice.roll() as u8).collect();
        if kind & 1 == 0 {
            bytes.iter_mut().for_each(|byte| *byte = b"\r\n :/GETHP1.0%?=&-,"[usize::from(*byte) % 19]);
        }
        if kind & 2 == 0 {
            bytes.splice(..0, *b"GET /live.wav HTTP/1.1\r\n").for_each(drop);
        }
        if kind & 4 == 0 {
            bytes.extend(b"\r\n\r\n");
        }
        let Some(mut stream) = connect_from(attacker((kind >> 8) as u8), address) else { continue };
        let _ = stream.write_all(&bytes);
        if kind & 8 == 0 {
            reset(stream)
        } else {
            drop(stream.shutdown(Shutdown::Write))
        }
        tried += 1;
    }
    siege.lift(&format!("{tried} times random bytes"));
}

#[test]
fn bodies_that_are_announced_and_do_not_come_cost_nothing() {
    let siege = Siege::new();
    let address = siege.daemon.address();
    // As much as there is no memory for is another matter: see below.
    for length in [1025_u64, 5000, 1 << 20, (1 << 20) + 1, 3 << 30, 1 << 63, u64::MAX] {
        for n in 0..40 {
            let method = ["POST", "GET", "HEAD"][n % 3];
            let target = ["/", "/live.wav", "/healthz"][n / 3 % 3];
            let Some(mut stream) = connect_from(attacker(n as u8 % 8), address) else { continue };
            let text = format!(
                "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\nbody"
            );
            let _ = stream.write_all(text.as_bytes());
            // A stream is one all the same.
            if target != "/live.wav" || method == "POST" {
                let mut rest = Vec::new();
                let began = Instant::now();
                let _ = stream.read_to_end(&mut rest);
                assert!(
                    began.elapsed() < Duration::from_secs(5),
                    "{method} {target} with {length}: {rest:?}"
                );
            }
        }
    }
    siege.lift("280 bodies that do not come");
}

/// Waits until the kernel drops what comes from that address.
fn wait_to_be_kept_out(who: IpAddr, address: SocketAddr) {
    wait_for("it to be kept out", || {
        connect_soon(who, address, Duration::from_millis(300)).is_none().then_some(())
    });
}

/// Announces a body for which there is memory nowhere, and which is yet none that Rust refuses to think of: its request
/// stays in the daemon for ever.
fn stick(from: IpAddr, address: SocketAddr) -> bool {
    // Who is not let in gets no answer to its SYN.
    let Some(mut stream) = connect_soon(from, address, Duration::from_millis(100)) else { return false };
    let text = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", 1_u64 << 62);
    stream.write_all(text.as_bytes()).is_ok()
}

/// Tries that so often from these addresses, so many at once, or until it is over; how often it was let in.
fn stick_often(
    address: SocketAddr,
    times: u32,
    at_once: u32,
    from: fn(u32) -> IpAddr,
    over: &Arc<AtomicBool>,
) -> u32 {
    let attacks: Vec<_> = (0..at_once)
        .map(|one| {
            let over = Arc::clone(over);
            thread::spawn(move || {
                behave_like_another_machine();
                let goes_on = |_: &u32| !over.load(Ordering::Relaxed);
                let tries = (one..times).step_by(at_once as usize).take_while(goes_on);
                tries.filter(|n| stick(from(*n), address)).count() as u32
            })
        })
        .collect();
    attacks.into_iter().map(|attack| attack.join().expect("no panic")).sum()
}

fn stuck(daemon: &Daemon) -> u64 {
    daemon.status()["stuck_requests"].as_u64().unwrap_or(0)
}

/// The same when no more come: those that were let in may still be on their way.
fn all_stuck(daemon: &Daemon) -> u64 {
    wait_for("the last one to be stuck", || {
        let before = stuck(daemon);
        thread::sleep(Duration::from_secs(1));
        (stuck(daemon) == before).then_some(before)
    })
}

#[test]
fn who_announces_more_than_the_memory_is_not_let_in_again() {
    let siege = Siege::new();
    // A try that nobody answers takes 100 ms.
    let times = if is_full() { 2000 } else { 400 };
    let from = |n| attacker((n % 4) as u8);
    let let_in = stick_often(siege.daemon.address(), times, 4, from, &Arc::default());
    for number in 0..4 {
        wait_to_be_kept_out(attacker(number), siege.daemon.address());
    }
    siege.daemon.wait_for_log("is not let in for 3600 s");
    let stuck = all_stuck(&siege.daemon);
    assert!(stuck > 0 && stuck < 1000, "{stuck}");
    assert!(!siege.daemon.log().iter().any(|line| line.contains("beginning anew")));
    siege.lift_but(
        stuck as usize,
        &format!(
            "{times} bodies larger than the memory from 4 addresses, {let_in} let in, {stuck} requests stuck"
        ),
    );
}

/// Listens until the stream ends as it should, and how much that was.
fn listen_to_the_end(address: SocketAddr) -> JoinHandle<SynthRamp> {
    let mut response = http::request(address, "GET", "/live.wav", "1.1", &[]);
    assert_eq!(response.status, 200);
    response.bytes(HEADER_BYTES);
    thread::spawn(move || {
        let mut ramp = SynthRamp::new(4, 2);
        let mut bytes = vec![0; 65_536];
        loop {
            match response.body.read(&mut bytes).expect("it ends as its framing says") {
                0 => return ramp,
                count => ramp.feed(&bytes[..count]),
            }
        }
    })
}

#[test]
fn too_many_of_them_make_it_begin_anew_but_not_again_and_again() {
    let alone = alone();
    // This machine itself is never kept out, its other addresses are.
    let daemon = Daemon::ramp_with("[limits]\nconnections_per_address = 5000\n", "synth:ramp", SLOW_RAMP);
    daemon.wait_for_edge(8000);
    let address = daemon.address();
    assert!(stick(attacker(9), address));
    wait_to_be_kept_out(attacker(9), address);
    let (pid, name) = (daemon.pid(), fs::read_to_string(format!("/proc/{}/comm", daemon.pid())));
    let honest: Vec<_> = (0..HONEST).map(|_| listen_to_the_end(address)).collect();
    let count_log = |text: &str| daemon.log().iter().filter(|line| line.contains(text)).count();

    let over: Arc<AtomicBool> = Arc::default();
    let told = Arc::clone(&over);
    let attack =
        thread::spawn(move || stick_often(address, 10_000, 20, |_| Ipv4Addr::LOCALHOST.into(), &told));
    wait_for("it to have had enough", || (count_log("beginning anew") == 1).then_some(()));
    let began = Stopwatch::start();
    over.store(true, Ordering::Relaxed);
    let took = let_in_after(address);
    let let_in = attack.join().expect("no panic");
    println!("after {let_in} it began anew; somebody was served {:.0} ms later", took.as_secs_f64() * 1e3);
    assert!(began.elapsed() < PATIENCE && took < SERVED_WITHIN, "{took:?}");
    for one in honest {
        let ramp = one.join().expect("it was served to the end");
        assert!(ramp.is_whole() && ramp.frames > 800, "{:?} within {}", ramp.holes, ramp.frames);
    }
    wait_for("it to say so", || (count_log("open http://") == 2).then_some(()));
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).ok(), name.ok(), "the same process");
    wait_for("the sound to be back", || (daemon.get("/healthz").status == 200).then_some(()));
    assert!(count(pid, "task") < 100 && stuck(&daemon) < 100, "the new one has none of the old one's");
    wait_to_be_kept_out(attacker(9), address);

    // Within the next minutes it does not do that again: who listens goes on, and nobody else is let in.
    let over: Arc<AtomicBool> = Arc::default();
    let honest: Vec<_> = (0..HONEST).map(|_| listen(address, &over)).collect();
    wait_for("all to listen", || (daemon.listeners().len() == HONEST).then_some(()));
    let stop: Arc<AtomicBool> = Arc::default();
    let told = Arc::clone(&stop);
    let attack =
        thread::spawn(move || stick_often(address, 10_000, 20, |_| Ipv4Addr::LOCALHOST.into(), &told));
    wait_for("it to have had enough", || {
        (count_log("nobody is let in, and wavecast begins anew in") == 2).then_some(())
    });
    thread::sleep(lasting(60, 5));
    stop.store(true, Ordering::Relaxed);
    attack.join().expect("no panic");
    let (memory, threads) = (memory_mb(pid), count(pid, "task"));
    println!("then it waits, with {memory} MB and {threads} threads");
    assert!(memory < MEMORY_MB && threads < 2500, "{memory} MB, {threads} threads");
    assert_eq!(count_log("beginning anew"), 1);
    over.store(true, Ordering::Relaxed);
    for one in honest {
        let ramp = one.join().expect("it was served all the time");
        assert!(ramp.is_whole(), "{:?} within {}", ramp.holes, ramp.frames);
    }
    drop(alone);
}

// Limits.

/// The answer to what is sent, as text, until the connection ends.
fn answer_to(mut stream: TcpStream, bytes: &[u8]) -> String {
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

const TIGHT: &str = "[limits]\nconnections = 12\nconnections_per_address = 6\nlisteners_per_address = 3\n\
                     header_bytes = 2048\nrequest_seconds = 1\nidle_seconds = 2\n";

fn tight() -> Daemon {
    Daemon::ramp_with(TIGHT, "synth:ramp", SLOW_RAMP)
}

#[test]
fn a_request_that_is_not_finished_in_time_is_answered_with_408() {
    let daemon = tight();
    let mut stream = connect_from(attacker(1), daemon.address()).expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\n").expect("sent");
    let began = Stopwatch::start();
    let mut dripping = stream.try_clone().expect("a duplicate");
    // What comes in drops is as late.
    thread::spawn(move || {
        while dripping.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(200))
        }
    });
    let answer = answer_to(stream, b"");
    let took = began.elapsed();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(
        began.by_the_clock() > Duration::from_millis(900) && took < Duration::from_millis(2500),
        "{took:?}"
    );
    daemon.wait_for_log("127.66.6.1 did not finish its request in time");
}

#[test]
fn the_only_one_who_connects_is_noticed_however_soon_he_is_let_in() {
    // epoll does not tell of a connection that tiny_http has accepted by the time it looks: of such that came alone
    // every fifth was never noticed, and could idle for ever.
    let once = || {
        let daemon = tight();
        for _ in 0..3 {
            let stream = connect_from(attacker(1), daemon.address()).expect("it listens");
            let began = Stopwatch::start();
            let answer = answer_to(stream, b"GET / HTTP/1.1\r\n");
            let took = began.elapsed();
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            assert!(took < Duration::from_millis(2500), "{took:?}");
        }
    };
    thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(once))));
}

#[test]
fn a_request_that_is_too_large_is_answered_with_431() {
    let daemon = tight();
    let stream = connect_from(attacker(1), daemon.address()).expect("it listens");
    let answer = answer_to(stream, format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(4000)).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // What is smaller is none of its business, and neither are many small ones in a row.
    let mut stream = connect_from(attacker(1), daemon.address()).expect("it listens");
    for _ in 0..10 {
        let text = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1900));
        stream.write_all(text.as_bytes()).expect("sent");
        let response = Response::read(stream.try_clone().expect("a duplicate"), false);
        assert_eq!(response.status, 200);
        assert_eq!(response.text(), "ok\n");
    }
}

#[test]
fn who_idles_is_disconnected_and_who_listens_does_not_idle() {
    let daemon = tight();
    let mut listening = daemon.get("/live.wav");
    let mut idle = connect_from(attacker(1), daemon.address()).expect("it listens");
    idle.write_all(request("/healthz").as_bytes()).expect("sent");
    let response = Response::read(idle, false);
    assert_eq!(response.status, 200);
    let (_, mut rest) = response.finish();
    let began = Stopwatch::start();
    assert_eq!(rest.read(&mut [0]).expect("a clean end"), 0);
    let took = began.elapsed();
    assert!(
        began.by_the_clock() > Duration::from_millis(1800) && took < Duration::from_millis(4000),
        "{took:?}"
    );
    listening.bytes(HEADER_BYTES);
    let mut ramp = SynthRamp::new(4, 2);
    ramp.feed(&listening.bytes(FRAME_BYTES * 8000 * 2));
    assert!(ramp.is_whole());
}

#[test]
fn one_address_may_have_so_many_listeners_and_others_too() {
    let daemon = tight();
    let ask = |from| {
        let mut stream = connect_from(from, daemon.address()).expect("it listens");
        stream.write_all(request("/live.wav").as_bytes()).expect("sent");
        Response::read(stream, false)
    };
    let mut first: Vec<Response> = (0..3).map(|_| ask(attacker(1))).collect();
    assert!(first.iter().all(|one| one.status == 200));
    let fourth = ask(attacker(1));
    assert_eq!((fourth.status, fourth.header("retry-after")), (503, Some("5")));
    assert_eq!(fourth.text(), "3 are listening from your address, no more can.\n");
    assert_eq!(ask(attacker(2)).status, 200);
    first.pop();
    wait_for("its place to be free", || (ask(attacker(1)).status == 200).then_some(()));
    daemon.wait_for_log("127.66.6.1 is refused: there are too many listeners");
}

#[test]
fn one_address_may_have_so_many_connections_and_the_oldest_idle_one_makes_room() {
    let daemon = tight();
    let halves: Vec<TcpStream> = (0..6)
        .map(|_| {
            let mut half = connect_from(attacker(1), daemon.address()).expect("it listens");
            half.write_all(b"GET /").expect("sent");
            // One after the other, so that there is an oldest one.
            thread::sleep(Duration::from_millis(50));
            half
        })
        .collect();
    let mut seventh = connect_from(attacker(1), daemon.address()).expect("it listens");
    seventh.write_all(request("/live.wav").as_bytes()).expect("sent");
    assert_eq!(Response::read(seventh.try_clone().expect("a duplicate"), false).status, 200);
    let mut halves = halves.into_iter();
    let answer = answer_to(halves.next().expect("the first"), b"");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: 5"), "{answer}");
    // The others are still there.
    let second = halves.next().expect("the second");
    let answer = answer_to(second, b"healthz HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.0 200 ") || answer.starts_with("HTTP/1.1 200 "), "{answer}");
    daemon.wait_for_log("127.66.6.1 has too many connections");
}

#[test]
fn where_all_connections_are_being_answered_one_more_gets_503() {
    let daemon = tight();
    let mut listening = Vec::new();
    for n in 0..12 {
        let mut stream = connect_from(attacker(n / 3), daemon.address()).expect("it listens");
        stream.write_all(request("/live.wav").as_bytes()).expect("sent");
        listening.push(Response::read(stream, false));
    }
    assert!(listening.iter().all(|one| one.status == 200));
    let mut stream = connect_from(attacker(9), daemon.address()).expect("it listens");
    stream.write_all(request("/healthz").as_bytes()).expect("sent");
    let thirteenth = Response::read(stream, false);
    assert_eq!((thirteenth.status, thirteenth.header("retry-after")), (503, Some("5")));
    listening.truncate(6);
    wait_for("room", || {
        let mut stream = connect_from(attacker(9), daemon.address())?;
        stream.write_all(request("/healthz").as_bytes()).ok()?;
        (Response::read(stream, false).status == 200).then_some(())
    });
}

#[test]
fn behind_a_trusted_proxy_listeners_are_counted_by_their_own_addresses() {
    let tables = format!("{TIGHT}[access]\ntrusted_proxies = [\"127.66.6.1\"]\n");
    let daemon = Daemon::ramp_with(&tables, "synth:ramp", SLOW_RAMP);
    let ask = |client: &str| {
        let mut stream = connect_from(attacker(1), daemon.address()).expect("it listens");
        let text = format!("GET /live.wav HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client}\r\n\r\n");
        stream.write_all(text.as_bytes()).expect("sent");
        Response::read(stream, false)
    };
    let mut listening: Vec<Response> = Vec::new();
    for client in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        listening.extend((0..3).map(|_| ask(client)));
        assert_eq!(ask(client).status, 503, "{client}");
    }
    assert!(listening.iter().all(|one| one.status == 200), "more than one address may have otherwise");
}

#[test]
fn what_an_address_that_is_listened_on_no_more_keeps_open_is_closed() {
    let daemon = Daemon::ramp("");
    let first = daemon.address();
    let response = daemon.get("/healthz");
    let (_, mut idle) = response.finish();
    let mut listening = daemon.get("/live.wav");
    listening.bytes(HEADER_BYTES);
    daemon.reload_whole(
        "[http]\nlisten = \"127.0.0.1:0\"\n[input.live]\ndevice = \"synth:ramp\"\nbuffer_ms = 10000\n",
    );
    daemon.wait_for_log("was read again");
    // Port 0 is the same address to the configuration: another one.
    daemon.reload_whole(
        "[http]\nlisten = \"127.0.0.2:0\"\n[input.live]\ndevice = \"synth:ramp\"\nbuffer_ms = 10000\n",
    );
    let began = Stopwatch::start();
    assert_eq!(idle.read(&mut [0]).expect("a clean end"), 0);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(TcpStream::connect(first).is_err());
    let mut ramp = SynthRamp::new(2, 2);
    ramp.feed(&listening.bytes(4 * 44_100));
    assert!(ramp.is_whole(), "who listens is not touched");
}

// The acceptor cannot die.

/// Starts the daemon through another program that lessens what it may have.
fn lessened(by: &[&str]) -> Daemon {
    Daemon::ramp_through(by, "[log]\nfilter = \"debug\"\n", SLOW_RAMP)
}

/// So many connections at once, each with half a request.
fn crowd(address: SocketAddr, count: u32) -> Vec<TcpStream> {
    let connect = |n| {
        let mut stream = connect_from(attacker((n % 10) as u8), address)?;
        stream.write_all(b"GET / HTTP/1.1\r\n").ok()?;
        Some(stream)
    };
    (0..count).filter_map(connect).collect()
}

/// How long it takes until somebody else gets an answer.
fn let_in_after(address: SocketAddr) -> Duration {
    let began = Stopwatch::start();
    wait_for("somebody to be let in", || {
        // Its kernel would try again after a second only, where so many want in that a SYN is dropped.
        let mut stream = connect_soon(attacker(200), address, Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_millis(300))).ok()?;
        stream.write_all(request("/healthz").as_bytes()).ok()?;
        let mut answer = [0; 64];
        let count = stream.read(&mut answer).ok()?;
        answer[..count].starts_with(b"HTTP/1.1 200").then_some(())
    });
    began.elapsed()
}

/// So many can wait to be accepted, with some to spare.
const AT_ONCE: u32 = 100;

/// Ten listen and lose nothing, while so many half requests, three times, take what the daemon has; and somebody new is
/// let in soon. The daemon stands still until they are there: of those who come one by one the guard, which looks each
/// millisecond, ends enough in time.
fn ten_listen_while_half_requests_take_all_there_is(daemon: &Daemon, requests: u32) {
    let over: Arc<AtomicBool> = Arc::default();
    let honest: Vec<_> = (0..10).map(|_| listen(daemon.address(), &over)).collect();
    let address = daemon.address();
    for round in 0..3 {
        daemon.signal("STOP");
        let mut all = crowd(address, requests.min(AT_ONCE));
        daemon.signal("CONT");
        all.extend(crowd(address, requests.saturating_sub(AT_ONCE)));
        let took = let_in_after(address);
        println!("round {round}: {} half requests; let in after {took:?}", all.len());
        assert!(took < OPEN_AGAIN_WITHIN, "{took:?}");
    }
    over.store(true, Ordering::Relaxed);
    for one in honest {
        let ramp = one.join().expect("it was served all the time");
        assert!(ramp.is_whole(), "{:?}", ramp.holes);
    }
}

#[test]
fn too_few_descriptors_keep_nobody_out_for_longer_than_a_second() {
    let alone = alone();
    let daemon = lessened(&["prlimit", "--nofile=130:130"]);
    daemon.wait_for_log("there can be 22 connections");
    ten_listen_while_half_requests_take_all_there_is(&daemon, 100);
    // It did run out of them: the acceptor died, and was begun again.
    daemon.wait_for_log("nobody can connect: ");
    daemon.wait_for_log("connections are accepted again");
    // There are fewer than it counts on: not enough for all whom it would let in.
    let pid = daemon.pid().to_string();
    let lowered = Command::new("prlimit").args(["--pid", &pid, "--nofile=85:85"]).status();
    assert!(lowered.expect("prlimit runs").success());
    ten_listen_while_half_requests_take_all_there_is(&daemon, 100);
    drop(alone);
}

#[test]
fn too_few_threads_keep_nobody_out_for_longer_than_a_second() {
    if !rustix::process::geteuid().is_root() {
        println!("only root can start it as somebody else, whose threads can be limited: nothing was tried");
        return;
    }
    let alone = alone();
    // Of a user that nobody else is, so that only its threads count; it has to be able to read the program.
    let user = ["setpriv", "--reuid=64066", "--clear-groups"];
    let daemon = lessened(&[&user[..], &["prlimit", "--nproc=120:120"]].concat());
    daemon.wait_for_log("there can be 28 connections");
    ten_listen_while_half_requests_take_all_there_is(&daemon, 200);
    // It has counted on threads that others take after that.
    let mut others: Vec<_> = (0..12)
        .map(|_| Command::new(user[0]).args(&user[1..]).args(["sleep", "60"]).spawn().expect("setpriv runs"))
        .collect();
    ten_listen_while_half_requests_take_all_there_is(&daemon, 200);
    for other in &mut others {
        other.kill().and_then(|()| other.wait()).expect("it is our child");
    }
    // Often the guard has made room before the acceptor wants a thread; when it has not, the acceptor has died.
    if daemon.log().iter().any(|line| line.contains("nobody can connect: failed to spawn thread")) {
        daemon.wait_for_log("connections are accepted again");
    }
    drop(alone);
}

/// A daemon in which that call fails so, and what its tracer writes down. That is a process beside it; only this call
/// makes the daemon stop.
fn failing(calls: &str, fault: &str) -> (Daemon, PathBuf) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let name = format!("strace-{}-{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
    let notes = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let strace = strace::around(&notes, calls, fault);
    let strace: Vec<&str> = strace.iter().map(String::as_str).collect();
    (lessened(&strace), notes)
}

/// How often it did. What the tracer wrote is gone after this.
fn failed(notes: &Path) -> usize {
    let text = fs::read_to_string(notes).expect("it was written");
    let _ = fs::remove_file(notes);
    text.matches("(INJECTED)").count()
}

/// Ten listen and lose nothing while so many come and ask, one after the other; all are let in soon.
fn ten_listen_while_others_come(daemon: &Daemon, others: u32) {
    let over: Arc<AtomicBool> = Arc::default();
    let honest: Vec<_> = (0..10)
        .map(|_| {
            let_in_after(daemon.address());
            listen(daemon.address(), &over)
        })
        .collect();
    let slowest = (0..others).map(|_| let_in_after(daemon.address())).max().expect("some");
    println!("the slowest of {others} was let in after {slowest:?}");
    assert!(slowest < OPEN_AGAIN_WITHIN, "{slowest:?}");
    over.store(true, Ordering::Relaxed);
    for one in honest {
        let ramp = one.join().expect("it was served all the time");
        assert!(ramp.is_whole(), "{:?}", ramp.holes);
    }
}

#[test]
fn connections_that_are_gone_when_they_are_accepted_keep_nobody_out() {
    if !strace::can_inject() {
        return;
    }
    let alone = alone();
    // The acceptor that is begun in the place of the first one dies too, and so on.
    let (daemon, notes) = failing("accept4,accept", "error=ECONNABORTED:when=5");
    ten_listen_while_others_come(&daemon, 30);
    let failed = failed(&notes);
    println!("it failed {failed} times");
    assert!(failed > 3, "{failed}");
    daemon.wait_for_log("nobody can connect: Software caused connection abort");
    daemon.wait_for_log("connections are accepted again");
    drop(alone);
}

#[test]
fn an_accept_that_is_interrupted_is_made_again() {
    if !strace::can_inject() {
        return;
    }
    let alone = alone();
    let (daemon, notes) = failing("accept4,accept", "error=EINTR:when=3+2");
    ten_listen_while_others_come(&daemon, 30);
    assert!(failed(&notes) > 3);
    assert!(!daemon.log().iter().any(|line| line.contains("nobody can connect")));
    drop(alone);
}

#[test]
fn threads_that_cannot_be_started_keep_nobody_out() {
    if !strace::can_inject() {
        return;
    }
    let alone = alone();
    // Each thread's first 31 threads are there. So the daemon begins, and ten listen; then there is none some times, and
    // those in reserve answer.
    let (daemon, notes) = failing("clone,clone3", "error=EAGAIN:when=32..40");
    ten_listen_while_others_come(&daemon, 60);
    let crowd = crowd(daemon.address(), 60);
    let took = let_in_after(daemon.address());
    assert!(took < OPEN_AGAIN_WITHIN, "{took:?} beside {}", crowd.len());
    let failed = failed(&notes);
    println!("it failed {failed} times");
    assert!(failed > 3, "{failed}");
    drop(alone);
}

#[test]
fn a_stranger_who_comes_and_goes_does_not_fill_the_log() {
    let siege = Siege::new();
    let address = siege.daemon.address();
    let end = Instant::now() + lasting(60, 5);
    let mut times = 0;
    while Instant::now() < end {
        let Some(mut stream) = connect_from(attacker(1), address) else { continue };
        let _ = stream.write_all(request("/live.wav").as_bytes());
        let _ = stream.read(&mut [0]);
        times += 1;
    }
    let log = siege.daemon.log();
    let about =
        |text: &str| log.iter().filter(|line| line.contains("127.66.6.1") && line.contains(text)).count();
    assert!(times > 200, "{times}");
    // So many within a minute; a full run lasts one.
    let most = if is_full() { 40 } else { 20 };
    assert!((20..=most).contains(&about(") listens")));
    assert!(about(") left") <= about(") listens"), "who was not announced does not leave");
    // One line for all of them: those who are new all the time are another address.
    let all = log.iter().filter(|line| line.contains("begins to listen again and again")).count();
    assert_eq!(all, 1);
    siege.lift(&format!("one who began to listen {times} times"));
}

#[test]
fn what_the_configuration_allows_beyond_the_system_is_lowered_and_said() {
    let daemon = lessened(&["prlimit", "--nofile=400:400"]);
    daemon.wait_for_log(
        "the operating system allows 400 descriptors (LimitNOFILE=): there can be 112 connections, not 1200",
    );
    daemon.wait_for_log("no more can listen, not 1000");
}
