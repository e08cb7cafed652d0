//! Exhaustion: too few descriptors, too few threads, and system calls that fail.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, thread};

use super::{
    FRAME_BYTES, Honest, SLOW_RAMP, alone, ask, attacker, connect_from, connected_from, count, request,
};
use crate::support::daemon::Daemon;
use crate::support::http;
use crate::support::stopwatch::{Span, Stopwatch, assert_span_within};
use crate::support::{HEADER_BYTES, let_pass, strace, wait_for};

/// The longest time until a new client gets an answer, while something is exhausted. Without a place made for it, the
/// client would wait for the ten seconds in which a request must be finished.
const LET_IN_WITHIN: Duration = Duration::from_secs(7);

/// Starts the daemon through another program that limits its resources.
fn limited(by: &[&str]) -> Daemon {
    Daemon::ramp_through(by, "[log]\nfilter = \"debug\"\n", SLOW_RAMP)
}

/// Opens `count` connections at once, each with half a request.
fn crowd(address: SocketAddr, count: u32) -> Vec<TcpStream> {
    let connect = |n| {
        let mut stream = connect_from(attacker((n % 10) as u8), address)?;
        stream.write_all(b"GET / HTTP/1.1\r\n").ok()?;
        Some(stream)
    };
    (0..count).filter_map(connect).collect()
}

/// Returns the time until a new client gets an answer. It tries again and again.
fn let_in_after(address: SocketAddr) -> Span {
    let began = Stopwatch::start();
    wait_for("a new client to be let in", || {
        // A SYN that was dropped is sent again by the kernel after a second only, so the client tries more often.
        let mut stream = http::connect_from(attacker(200), address, Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_millis(300))).ok()?;
        stream.write_all(request("/healthz").as_bytes()).ok()?;
        let mut answer = [0; 64];
        let count = stream.read(&mut answer).ok()?;
        answer[..count].starts_with(b"HTTP/1.1 200").then_some(())
    });
    began.span()
}

/// The number of connections that are opened while the daemon stands still.
const AT_ONCE: u32 = 100;

/// Opens `requests` half requests, three times, while ten honest listeners compare every frame, and checks that a new
/// client is let in soon each time. The daemon stands still until the first [`AT_ONCE`] of them are there, so that it
/// has to accept them all at once.
fn ten_listen_while_half_requests_take_all_there_is(daemon: &Daemon, requests: u32) {
    let honest = Honest::listen(daemon, 10);
    let address = daemon.address();
    let mut slowest = Span::default();
    for round in 0..3 {
        daemon.signal("STOP");
        let mut all = crowd(address, requests.min(AT_ONCE));
        daemon.signal("CONT");
        all.extend(crowd(address, requests.saturating_sub(AT_ONCE)));
        let took = let_in_after(address);
        println!("round {round}: {} half requests; a new client was let in after {took:?}", all.len());
        slowest = slowest.max(took);
    }
    honest.end();
    assert_span_within(slowest, LET_IN_WITHIN, "the answer to the slowest new client");
}

/// The thread that records the largest number of descriptors that a process has open.
struct DescriptorPeak {
    over: Arc<AtomicBool>,
    peak: Arc<AtomicUsize>,
}

impl DescriptorPeak {
    fn of(pid: u32) -> DescriptorPeak {
        let (over, peak): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let (ended, highest) = (Arc::clone(&over), Arc::clone(&peak));
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                highest.fetch_max(count(pid, "fd"), Ordering::Relaxed);
                let_pass(Duration::from_millis(1));
            }
        });
        DescriptorPeak { over, peak }
    }

    fn get(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Drop for DescriptorPeak {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn too_few_descriptors_keep_nobody_out() {
    let _alone = alone();
    let daemon = limited(&["prlimit", "--nofile=130:130"]);
    daemon.wait_for_log("there can be 66 connections");
    ten_listen_while_half_requests_take_all_there_is(&daemon, 100);
    // Now the daemon has fewer than it counts on: not enough for all the connections that it would accept.
    let pid = daemon.pid();
    let lowered = Command::new("prlimit").args(["--pid", &pid.to_string(), "--nofile=85:85"]).status();
    assert!(lowered.expect("prlimit runs").success());
    let peak = DescriptorPeak::of(pid);
    ten_listen_while_half_requests_take_all_there_is(&daemon, 100);
    assert!(peak.get() >= 84, "{} of 85 were used: nothing was exhausted", peak.get());
}

/// The program that runs another one as a user that nobody else is, so that only its threads count. That user has to
/// be able to read the daemon's program.
const AS_ANOTHER_USER: [&str; 3] = ["setpriv", "--reuid=64066", "--clear-groups"];

/// Returns `true` if this process is root, and prints the consequence if it is not.
fn can_limit_threads() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("only root can start the daemon as a user whose threads are limited: nothing was tried");
    }
    is_root
}

#[test]
fn too_few_threads_keep_nobody_out() {
    if !can_limit_threads() {
        return;
    }
    let _alone = alone();
    let daemon = limited(&[&AS_ANOTHER_USER[..], &["prlimit", "--nproc=120:120"]].concat());
    ten_listen_while_half_requests_take_all_there_is(&daemon, 200);
    // Other processes of the user take threads that the daemon has counted on.
    let user = AS_ANOTHER_USER;
    let mut others: Vec<_> = (0..12)
        .map(|_| Command::new(user[0]).args(&user[1..]).args(["sleep", "60"]).spawn().expect("setpriv runs"))
        .collect();
    ten_listen_while_half_requests_take_all_there_is(&daemon, 200);
    for other in &mut others {
        other.kill().and_then(|()| other.wait()).expect("it is our child");
    }
}

#[test]
fn when_no_thread_can_be_started_new_clients_are_answered_and_new_listeners_served() {
    if !can_limit_threads() {
        return;
    }
    let _alone = alone();
    let daemon = limited(&AS_ANOTHER_USER);
    let address = daemon.address();
    let honest = Honest::listen(&daemon, 10);
    // As the same user: lowering the limit of another user's process takes a capability that root may not have.
    let lowered = Command::new(AS_ANOTHER_USER[0])
        .args(&AS_ANOTHER_USER[1..])
        .args(["prlimit", "--pid", &daemon.pid().to_string(), "--nproc=1:1"])
        .status();
    assert!(lowered.expect("prlimit runs").success());
    // Beside the requests that a thread of their own would be started for.
    let mut slowest = Span::default();
    for round in 0..10 {
        let crowd = crowd(address, 20);
        slowest = slowest.max(let_in_after(address));
        let connect = || connected_from(attacker(100 + round), address);
        let mut stream = ask(connect(), "/live.wav");
        assert_eq!(stream.status, 200, "listeners at the live edge need no thread of their own");
        stream.bytes(HEADER_BYTES + FRAME_BYTES);
        for target in ["/live.wav?back=1", "/live.wav?last=1", "/live/levels", "/status.json"] {
            let status = ask(connect(), target).status;
            assert!(matches!(status, 200 | 307 | 503), "{target}: {status}");
        }
        drop(crowd);
    }
    honest.end();
    assert_span_within(slowest, LET_IN_WITHIN, "the answer to the slowest new client");
}

/// Starts a daemon in which `fault` is injected into `calls`. Returns it and the file of the tracer's notes.
fn failing(calls: &str, fault: &str) -> (Daemon, PathBuf) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let name = format!("strace-{}-{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
    let notes = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let strace = strace::around(&notes, calls, fault);
    let strace: Vec<&str> = strace.iter().map(String::as_str).collect();
    (limited(&strace), notes)
}

/// Returns the number of calls that failed, and removes the file of the tracer's notes.
fn failed(notes: &Path) -> usize {
    let text = fs::read_to_string(notes).expect("the tracer has written it");
    let _ = fs::remove_file(notes);
    text.matches("(INJECTED)").count()
}

/// Checks that each of `others` new clients, one after the other, is let in soon, while ten honest listeners compare
/// every frame.
fn ten_listen_while_others_come(daemon: &Daemon, others: u32) {
    let mut honest = Honest::listen(daemon, 0);
    for _ in 0..10 {
        let_in_after(daemon.address());
        honest.add(daemon);
    }
    let slowest = (0..others).map(|_| let_in_after(daemon.address())).max().expect("some");
    println!("the slowest of {others} was let in after {slowest:?}");
    honest.end();
    assert_span_within(slowest, LET_IN_WITHIN, "the answer to the slowest new client");
}

#[test]
fn connections_that_are_gone_when_they_are_accepted_keep_nobody_out() {
    if !strace::can_inject() {
        return;
    }
    let _alone = alone();
    let (daemon, notes) = failing("accept4,accept", "error=ECONNABORTED:when=5+5");
    ten_listen_while_others_come(&daemon, 30);
    let failed = failed(&notes);
    println!("accept() failed {failed} times");
    assert!(failed > 3, "{failed}");
}

#[test]
fn an_accept_that_is_interrupted_is_made_again() {
    if !strace::can_inject() {
        return;
    }
    let _alone = alone();
    let (daemon, notes) = failing("accept4,accept", "error=EINTR:when=3+2");
    ten_listen_while_others_come(&daemon, 30);
    assert!(failed(&notes) > 3);
    // The limits of this machine may be a reason for a warning.
    let log = daemon.log();
    assert!(!log.iter().any(|line| line.contains("WARN") && !line.contains(" allows ")), "{log:?}");
}

#[test]
fn limits_beyond_those_of_the_system_are_lowered_and_the_log_says_so() {
    let daemon = limited(&["prlimit", "--nofile=400:400"]);
    daemon.wait_for_log(
        "the operating system allows 400 descriptors (LimitNOFILE=): there can be 336 connections, not 1200",
    );
    daemon.wait_for_log("so there can be 336 listeners, not 1000");
}
