//! The tests that measure time and nothing else: a program of its own, because it has to run alone, one test after the
//! other, after all others.
//!
//! `scripts/test timing` runs them, and so does `cargo test --test timing -- --ignored --test-threads=1`. All other
//! tests assert order and counts, and leave time to the deadlines of waits.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::daemon::Daemon;
use support::http;
use support::stopwatch::{Span, Stopwatch, assert_span_within};
use support::synth::SynthRamp;
use support::{HEADER_BYTES, let_pass, wait_for};

const CHROMIUM: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";
/// The default format: 44.1 kHz, two channels of 16 bits.
const RATE: u64 = 44_100;
const FRAME_BYTES: usize = 4;
/// A format with little to send: 8 kHz, two channels of 32 bits.
const SLOW_RAMP: &str = "rate = 8000\nformat = \"s32\"\n";
const SLOW_RATE: usize = 8000;
const SLOW_FRAME_BYTES: usize = 8;

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Returns the time from the connect to the first byte of sound.
fn time_to_sound(daemon: &Daemon, target: &str) -> Span {
    let began = Stopwatch::start();
    let mut response = daemon.get(target);
    response.bytes(HEADER_BYTES + 1);
    began.span()
}

// From the request, or the start, to the sound.

#[test]
#[ignore = "measures time: scripts/test timing"]
fn the_first_sound_is_there_at_once() {
    let daemon = Daemon::ramp("period_ms = 150");
    daemon.wait_for_edge(RATE);
    let mut times: Vec<Span> = (0..40).map(|_| time_to_sound(&daemon, "/live.wav")).collect();
    times.sort_unstable();
    println!("first sound after the request: median {:?}, worst {:?}", times[20], times[39]);
    assert_span_within(times[20], ms(50), "the first sound, at the median of 40");
}

#[test]
#[ignore = "measures time: scripts/test timing"]
fn a_player_that_connects_while_the_daemon_starts_hears_sound_at_once() {
    let mut times = Vec::new();
    for _ in 0..20 {
        let address = free_address();
        let config = format!("[http]\nlisten = \"{address}\"\n[input.live]\ndevice = \"synth:ramp\"\n");
        let began = Stopwatch::start();
        let daemon = Daemon::launch(&config, &[], &[], Stdio::piped());
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "it does not listen");
        }
        let mut response = http::request(address, "GET", "/live.wav", "1.1", &[]);
        assert_eq!(response.status, 200);
        response.bytes(HEADER_BYTES + 441 * FRAME_BYTES);
        times.push(began.span());
        drop(daemon);
    }
    times.sort_unstable();
    println!("first sound {:?} after the start, at the median", times[10]);
    assert_span_within(times[10], ms(100), "the first sound after the start, at the median of 20");
}

/// Returns an address with a port that no program has now.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound")
}

#[test]
#[ignore = "measures time: scripts/test timing"]
fn a_hundred_players_that_connect_at_once_all_hear_sound_within_two_seconds() {
    let daemon = Daemon::ramp("");
    daemon.wait_for_edge(RATE / 2);
    let barrier = Arc::new(Barrier::new(100));
    let players: Vec<_> = (0..100)
        .map(|_| {
            let (barrier, address) = (Arc::clone(&barrier), daemon.address());
            thread::spawn(move || {
                barrier.wait();
                let began = Stopwatch::start();
                let mut response = http::request(address, "GET", "/live.wav", "1.1", &[]);
                response.bytes(HEADER_BYTES + 1000 * FRAME_BYTES);
                // The connections stay open, so that none makes room for another one.
                (began.span(), response)
            })
        })
        .collect();
    let players: Vec<_> = players.into_iter().map(|player| player.join().expect("it is served")).collect();
    let worst = players.iter().map(|(time, _)| *time).max().expect("a hundred");
    println!("100 players at once: the last one hears sound after {worst:?}");
    assert_span_within(worst, ms(2000), "the first sound of the last of 100 players");
}

#[test]
#[ignore = "measures time: scripts/test timing"]
fn a_request_among_half_requests_is_answered_at_once() {
    let daemon = Daemon::ramp("");
    daemon.wait_for_edge(RATE / 2);
    let mut halves = Vec::new();
    let mut worst = Span::default();
    for _ in 0..40 {
        for _ in 0..6 {
            let mut half = http::connect(daemon.address());
            half.write_all(b"GET /live.wav HTTP/1.1\r\n").expect("sent");
            halves.push(half);
        }
        worst = worst.max(time_to_sound(&daemon, "/live.wav"));
    }
    println!("among half requests: the worst of 40 hears sound after {worst:?}");
    assert_span_within(worst, ms(1000), "the first sound among half requests");
}

#[test]
#[ignore = "measures time: scripts/test timing"]
fn a_player_that_leaves_is_forgotten_at_once() {
    let daemon = Daemon::ramp("");
    let response = daemon.get("/live.wav");
    assert_eq!(daemon.listeners().len(), 1);
    drop(response);
    let began = Stopwatch::start();
    wait_for("it to be gone", || daemon.listeners().is_empty().then_some(()));
    assert_span_within(began.span(), ms(2000), "the end of a listener that has left");
}

#[test]
#[ignore = "measures time: scripts/test timing"]
fn a_signal_ends_the_daemon_within_two_seconds() {
    for listeners in [0, 200] {
        let mut daemon = Daemon::ramp("");
        let listening: Vec<_> = (0..listeners)
            .map(|_| {
                let mut response = daemon.get("/live.wav");
                thread::spawn(move || response.body.read_to_end(&mut Vec::new()))
            })
            .collect();
        // One that does not read, which the end does not wait for.
        let mut stalled = http::connect_narrow(daemon.address(), 2048);
        let request = http::request_text(daemon.address(), "GET", "/live.wav", "1.1", &[]);
        stalled.write_all(request.as_bytes()).expect("sent");
        wait_for("all to listen", || (daemon.listeners().len() == listeners + 1).then_some(()));
        daemon.signal("TERM");
        let (_, time) = daemon.wait();
        println!("the end with {listeners} listeners and one that does not read: {time:?}");
        assert_span_within(time, ms(2000), "the end after a signal");
        for one in listening {
            one.join().expect("no panic").expect("the last chunk");
        }
    }
}

// From the card to the wire.

#[test]
#[ignore = "measures time: scripts/test timing"]
fn a_block_is_on_the_wire_before_the_next_one_is_captured() {
    const PERIOD: Duration = Duration::from_millis(150);
    const BLOCK: usize = 6615;
    let daemon = Daemon::ramp("period_ms = 150");
    for target in ["/live.wav?latency=low", "/live.wav"] {
        // Without a range this is a fetch(), which gets no burst: its first block is the next one.
        let mut response = daemon.get_with(target, &[("User-Agent", CHROMIUM)]);
        response.bytes(HEADER_BYTES);
        let mut ramp = SynthRamp::new(2, 2);
        let (mut prompt, mut late) = (0, 0);
        let mut last: Option<Instant> = None;
        // Until eight blocks have been measured.
        for _ in 0..100 {
            if prompt + late == 8 {
                break;
            }
            ramp.feed(&response.bytes(BLOCK * FRAME_BYTES));
            let came = Instant::now();
            // A client that a busy machine kept waiting cannot tell when the block came.
            let even = last.replace(came).is_some_and(|last| came - last < PERIOD + PERIOD / 4);
            let captured = daemon.edge();
            if even && came.elapsed() < PERIOD / 2 {
                let earliest = captured.saturating_sub(2 * BLOCK as u64);
                let has = earliest + u64::from(ramp.last().wrapping_sub(earliest as u16)) + 1;
                if has == captured { prompt += 1 } else { late += 1 }
            }
        }
        assert!(ramp.is_whole(), "{:?}", ramp.holes);
        assert!(prompt >= 5, "{target}: the machine was too busy to measure: {prompt} prompt, {late} late");
        assert_eq!(late, 0, "{target}: {prompt} blocks were prompt");
        let latency = &daemon.listeners()[0]["latency_ms"];
        println!("{target}: from capture to the kernel: {latency} ms");
        assert!(latency["median"].as_f64().is_some_and(|median| median < 20.0), "{latency}");
        drop(response);
        wait_for("the listener to leave", || daemon.listeners().is_empty().then_some(()));
    }
}

#[test]
#[ignore = "measures time: scripts/test timing"]
fn levels_come_twenty_times_a_second() {
    let daemon = Daemon::synth("synth:tone");
    daemon.wait_for_state("live", "capturing");
    let mut response = daemon.get("/live/levels");
    let mut text = String::new();
    let mut next = |count: usize| {
        let mut seen = 0;
        while seen < count {
            text += std::str::from_utf8(&response.body.chunk().expect("it goes on")).expect("UTF-8");
            while let Some((event, rest)) = text.split_once("\n\n") {
                seen += usize::from(event.starts_with("data: {\"frame\""));
                text = rest.to_owned();
            }
        }
    };
    next(1);
    let began = Stopwatch::start();
    next(40);
    assert!(began.by_the_clock() > ms(1700), "{:?}", began.by_the_clock());
    assert_span_within(began.span(), ms(3000), "40 events with levels");
}

// Wake-ups. A thread that wakes up for nothing costs a small board most of its time.

/// Returns the number of times that the threads of the daemon with this name were woken up until now.
fn wakeups(daemon: &Daemon, name: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs");
    let switches = |task: PathBuf| {
        let comm = fs::read_to_string(task.join("comm")).ok()?;
        let status = fs::read_to_string(task.join("status")).ok()?;
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        comm.starts_with(name).then(|| count.trim().parse::<u64>().ok())?
    };
    tasks.filter_map(|task| switches(task.ok()?.path())).sum()
}

/// Returns the number of times that the capture thread of `live` wakes up within half a second. A period is 10 ms.
fn capture_wakeups(daemon: &Daemon) -> u64 {
    let before = wakeups(daemon, "capture live");
    assert_ne!(before, 0, "there is a capture thread");
    // The length of the measurement.
    let_pass(ms(500));
    wakeups(daemon, "capture live") - before
}

/// Waits until the capture thread wakes up at most so often within half a second.
fn wait_for_at_most(daemon: &Daemon, most: u64) {
    wait_for(&format!("at most {most} wake-ups"), || (capture_wakeups(daemon) <= most).then_some(()));
}

#[test]
#[ignore = "measures time: scripts/test timing"]
fn the_capture_thread_wakes_seldom_without_listeners_and_for_each_block_with_one() {
    let daemon = Daemon::ramp_with("", "synth:ramp", SLOW_RAMP);
    wait_for_at_most(&daemon, 12);
    let mut listener = daemon.get("/live.wav?latency=low");
    listener.bytes(HEADER_BYTES);
    let mut ramp = SynthRamp::new(4, 2);
    wait_for("a wake-up for each block", || {
        ramp.feed(&listener.bytes(SLOW_RATE / 2 * SLOW_FRAME_BYTES));
        (capture_wakeups(&daemon) >= 45).then_some(())
    });
    ramp.feed(&listener.bytes(SLOW_RATE / 2 * SLOW_FRAME_BYTES));
    assert!(ramp.is_whole());
    drop(listener);
    wait_for_at_most(&daemon, 12);
}

#[test]
#[ignore = "measures time: scripts/test timing"]
fn the_capture_thread_wakes_as_often_as_its_listeners_are_served() {
    let daemon = Daemon::ramp_with("", "synth:ramp", SLOW_RAMP);
    let mut listener = daemon.get("/live.wav");
    listener.bytes(HEADER_BYTES);
    let mut ramp = SynthRamp::new(4, 2);
    // The listener is served every 40 ms, 12 or 13 times, and now and then the thread wakes up early, to see when a
    // period ends.
    wait_for("at most 18 wake-ups", || {
        ramp.feed(&listener.bytes(SLOW_RATE / 2 * SLOW_FRAME_BYTES));
        (capture_wakeups(&daemon) <= 18).then_some(())
    });
    // A listener with low latency wants every block.
    let mut low = daemon.get("/live.wav?latency=low");
    low.bytes(HEADER_BYTES);
    wait_for("a wake-up for each block", || {
        ramp.feed(&listener.bytes(SLOW_RATE / 2 * SLOW_FRAME_BYTES));
        low.bytes(SLOW_RATE / 2 * SLOW_FRAME_BYTES);
        (capture_wakeups(&daemon) >= 45).then_some(())
    });
    assert!(ramp.is_whole());
    let status: &Value = &daemon.listeners()[0];
    assert!(status["lag_ms"].as_f64() < Some(150.0), "{status}");
}

#[test]
#[ignore = "measures time: scripts/test timing"]
fn a_listener_with_low_latency_wakes_the_sleeping_capture_thread() {
    let daemon = Daemon::ramp_with("[listeners]\ninterval_ms = 500\n", "synth:ramp", SLOW_RAMP);
    let seldom = daemon.get("/live.wav");
    let reads = thread::spawn(move || {
        let mut seldom = seldom;
        while seldom.body.chunk().is_ok_and(|chunk| !chunk.is_empty()) {}
    });
    wait_for_at_most(&daemon, 18);
    let mut waited: Vec<Span> = (0..25)
        .map(|_| {
            // Longer than the 50 ms for which the capture thread sleeps at most, so that it sleeps again.
            let_pass(ms(130));
            let mut low = daemon.get("/live.wav?latency=low");
            low.bytes(HEADER_BYTES);
            let began = Stopwatch::start();
            low.bytes(SLOW_FRAME_BYTES);
            began.span()
        })
        .collect();
    waited.sort_unstable();
    // A period is 10 ms and ends at any moment.
    println!("first block after the header: median {:?}, worst {:?}", waited[12], waited[24]);
    assert_span_within(waited[12], ms(12), "the first block, at the median of 25");
    drop(daemon);
    reads.join().expect("no panic");
}

#[test]
#[ignore = "measures time: scripts/test timing"]
fn forty_pages_wake_no_thread_but_the_one_that_sends() {
    let daemon = Daemon::synth("synth:tone");
    daemon.wait_for_state("live", "capturing");
    let mut pages: Vec<_> = (0..40).map(|_| daemon.get("/live/levels")).collect();
    for page in &mut pages {
        page.body.chunk().expect("it goes on");
    }
    // A page that reads nothing is disconnected, and takes nothing from the others.
    let mut deaf = http::connect_narrow(daemon.address(), 4096);
    deaf.write_all(b"GET /live/levels HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let before = wakeups(&daemon, "listener");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        for page in &mut pages {
            page.body.chunk().expect("it goes on");
        }
    }
    let woken = wakeups(&daemon, "listener") - before;
    assert!(woken < 40, "{woken} wake-ups of threads that should sleep");
}
