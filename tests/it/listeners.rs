//! Many listeners at once, some of them slow or dead: no listener pays for another one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::http::{self, Response};
use crate::support::stopwatch::Stopwatch;
use crate::support::synth::SynthRamp;
use crate::support::{HEADER_BYTES, PATIENCE, wait_for};
use serde_json::Value;

/// The options of the input. The ramp of 65536 frames lasts 8.2 s, longer than any hole here, at 64 kB a second.
const SLOW_RAMP: &str = "rate = 8000\nformat = \"s32\"\n";
const RATE: u64 = 8000;
const FRAME_BYTES: usize = 8;
/// The receive buffer of a listener that does not read, in bytes: the kernel's smallest.
const NARROW: usize = 2048;

/// Opens a stream on a connection with the smallest receive buffer, and reads its WAV header.
fn narrow_stream(daemon: &Daemon, target: &str, agent: &str) -> Response {
    let mut stream = http::connect_narrow(daemon.address(), NARROW);
    let text = http::request_text(daemon.address(), "GET", target, "1.1", &[("User-Agent", agent)]);
    stream.write_all(text.as_bytes()).expect("the request is sent");
    let mut response = Response::read(stream, false);
    assert_eq!(response.status, 200);
    response.bytes(HEADER_BYTES);
    response
}

/// A listener of the slow ramp that reads everything at once until it leaves.
struct Healthy {
    leave: Arc<AtomicBool>,
    thread: JoinHandle<SynthRamp>,
}

impl Healthy {
    fn join(daemon: &Daemon) -> Healthy {
        let mut response = daemon.get("/live.wav");
        response.bytes(HEADER_BYTES);
        let leave = Arc::new(AtomicBool::new(false));
        let leaves = Arc::clone(&leave);
        let thread = thread::spawn(move || {
            let mut ramp = SynthRamp::new(4, 2);
            while !leaves.load(Ordering::Relaxed) {
                ramp.feed(&response.bytes(80 * FRAME_BYTES));
            }
            ramp
        });
        Healthy { leave, thread }
    }

    /// Leaves, and returns the checker of its stream.
    fn leave(self) -> SynthRamp {
        self.leave.store(true, Ordering::Relaxed);
        self.thread.join().expect("it was served all the time")
    }
}

/// Checks that listeners lost no frame, and heard at least so many.
fn all_leave(healthy: Vec<Healthy>, at_least: u64) {
    for one in healthy {
        let ramp = one.leave();
        assert!(ramp.is_whole(), "{:?}", ramp.holes);
        assert!(ramp.frames >= at_least, "{} frames", ramp.frames);
    }
}

/// Returns the status of the listener with this user agent.
fn listener(daemon: &Daemon, player: &str) -> Option<Value> {
    daemon.listeners().into_iter().find(|listener| listener["player"] == player)
}

/// Reads until frames are missing, and 1000 frames more.
fn read_past_a_hole(response: &mut Response) -> SynthRamp {
    let mut ramp = SynthRamp::new(4, 2);
    while ramp.is_whole() {
        ramp.feed(&response.bytes(10 * FRAME_BYTES));
    }
    ramp.feed(&response.bytes(1000 * FRAME_BYTES));
    ramp
}

/// Returns the number of frames from the frame `from` to the one whose number is `frame` in the ramp, which begins again
/// after 65536 frames. It is negative if that one is earlier by at most 1000 frames.
fn ahead(frame: u64, from: u64) -> i64 {
    i64::from((frame as u16).wrapping_sub(from as u16).wrapping_add(1000)) - 1000
}

#[test]
fn listeners_that_leave_or_stop_reading_cost_the_others_no_frame() {
    let daemon = Daemon::ramp_with("", "synth:ramp", SLOW_RAMP);
    daemon.wait_for_edge(RATE);
    // The first listeners go one after the other: politely, by a reset in the middle of everything, or by not reading
    // any more.
    let mut going: Vec<Response> = (0..6).map(|_| narrow_stream(&daemon, "/live.wav", "going")).collect();
    let healthy: Vec<Healthy> = (0..10).map(|_| Healthy::join(&daemon)).collect();
    let mut asleep = Vec::new();
    for (nth, one) in going.drain(..).enumerate() {
        let edge = daemon.edge();
        daemon.wait_for_edge(edge + RATE / 4);
        match nth % 3 {
            0 => drop(one),
            1 => one.body.socket().shutdown(std::net::Shutdown::Both).expect("it is connected"),
            _ => asleep.push(one),
        }
    }
    let edge = daemon.edge();
    daemon.wait_for_edge(edge + RATE);
    for listener in daemon.listeners() {
        if listener["player"] != "going" {
            assert_eq!(listener["frames_skipped"], 0, "{listener}");
            let id = listener["id"].clone();
            wait_for("it to be at the live edge", || {
                let now = daemon.listeners().into_iter().find(|one| one["id"] == id).expect("it listens");
                (now["lag_ms"].as_f64() < Some(250.0)).then_some(())
            });
        }
    }
    all_leave(healthy, 2 * RATE);
}

#[test]
fn a_listener_that_stops_reading_is_skipped_to_the_live_edge_and_the_others_lose_no_frame() {
    let daemon = Daemon::ramp_with("[listeners]\nmax_lag_ms = 2000", "synth:ramp", SLOW_RAMP);
    daemon.wait_for_edge(RATE);
    let healthy: Vec<Healthy> = (0..5).map(|_| Healthy::join(&daemon)).collect();
    let mut sleeper = narrow_stream(&daemon, "/live.wav?latency=low", "sleeper");
    let before = daemon.edge();
    daemon.wait_for_edge(before + 5 * RATE);

    let asleep = listener(&daemon, "sleeper").expect("it is still there");
    assert!(asleep["lag_ms"].as_f64() > Some(2500.0), "its lag is in the status while it sleeps: {asleep}");

    let before = daemon.edge();
    let ramp = read_past_a_hole(&mut sleeper);
    let [(queued, hole)] = ramp.holes[..] else { panic!("one hole: {:?}", ramp.holes) };
    let awake = listener(&daemon, "sleeper").expect("it is still there");
    assert_eq!(awake["frames_skipped"], hole, "the status counts the hole in the ramp");
    // The sound before the hole was in the send buffer, a quarter of a second, and in the client's receive buffer.
    println!("queued for a sleeper: {:.0} ms", queued as f64 * 1e3 / RATE as f64);
    assert!(queued < RATE, "{queued} frames were queued for it");
    assert!(u64::from(hole) > 2 * RATE, "{hole} frames of 5 s");
    // The stream goes on at the live edge.
    let first_after = u64::from(ramp.first.expect("a frame")) + queued + u64::from(hole);
    let (ahead, took) = (ahead(first_after, before), daemon.edge() - before);
    assert!(
        (-80..=took as i64).contains(&ahead),
        "{ahead} frames from the live edge, which went on by {took}"
    );

    let warning = daemon.wait_for_log("is too slow");
    assert!(warning.contains(&format!("live: 127.0.0.1 (sleeper) is too slow: {hole} frames")));
    all_leave(healthy, 4 * RATE);
    drop(sleeper);
    let line = daemon.wait_for_log("(sleeper) left");
    assert!(line.ends_with(&format!(", {hole} frames skipped")), "{line}");
    let input = daemon.input("live");
    assert_eq!((&input["overruns"], &input["silence_frames"]), (&Value::from(0), &Value::from(0)));
}

#[test]
fn every_hole_of_a_listener_that_sleeps_again_and_again_is_counted() {
    let daemon = Daemon::ramp_with("[listeners]\nmax_lag_ms = 200", "synth:ramp", SLOW_RAMP);
    let mut dozer = narrow_stream(&daemon, "/live.wav?latency=low", "dozer");
    let mut ramp = SynthRamp::new(4, 2);
    for _ in 0..3 {
        let before = daemon.edge();
        daemon.wait_for_edge(before + 2 * RATE);
        let holes = ramp.holes.len();
        while ramp.holes.len() == holes {
            ramp.feed(&dozer.bytes(10 * FRAME_BYTES));
        }
    }
    // A machine that stalls makes another hole, which is counted before its end is heard.
    wait_for("the count of the frames in the holes", || {
        let skipped = listener(&daemon, "dozer").expect("it is there")["frames_skipped"].as_u64();
        ramp.feed(&dozer.bytes(10 * FRAME_BYTES));
        (skipped.map(|frames| frames as u16) == Some(ramp.missing())).then_some(())
    });
    // One warning, not one for each hole.
    let warnings = daemon.log().into_iter().filter(|line| line.contains("is too slow")).count();
    assert_eq!(warnings, 1);
}

#[test]
fn when_behind_disconnect_cuts_the_stream_before_the_hole() {
    let daemon = Daemon::ramp_with(
        "[listeners]\nmax_lag_ms = 2000\nwhen_behind = \"disconnect\"",
        "synth:ramp",
        SLOW_RAMP,
    );
    let healthy: Vec<Healthy> = (0..3).map(|_| Healthy::join(&daemon)).collect();
    let mut sleeper = narrow_stream(&daemon, "/live.wav", "sleeper");
    let before = daemon.edge();
    daemon.wait_for_edge(before + 5 * RATE);
    let mut ramp = SynthRamp::new(4, 2);
    let mut sound = Vec::new();
    assert!(sleeper.body.read_to_end(&mut sound).is_err(), "cut, so that its player knows");
    assert!(!sleeper.body.is_complete());
    ramp.feed(&sound);
    assert!(ramp.is_whole(), "the sound before the cut has no hole: {:?}", ramp.holes);
    daemon.wait_for_log("(sleeper) was too slow and was disconnected after");
    all_leave(healthy, 3 * RATE);
}

#[test]
fn a_listener_that_takes_nothing_for_too_long_is_disconnected() {
    let daemon = Daemon::ramp_with("[listeners]\nstall_seconds = 1.5", "synth:ramp", "");
    let mut listening = daemon.get("/live.wav");
    listening.bytes(HEADER_BYTES);
    let mut dead: Vec<Response> = (0..10).map(|_| narrow_stream(&daemon, "/live.wav", "dead")).collect();
    let began = Stopwatch::start();
    assert_eq!(daemon.listeners().len(), 11);
    let mut ramp = SynthRamp::new(2, 2);
    while daemon.listeners().len() > 1 {
        ramp.feed(&listening.bytes(4410 * 4));
        assert!(began.elapsed() < PATIENCE, "the dead listeners are still there");
    }
    let took = began.by_the_clock();
    assert!(took > Duration::from_millis(1400), "{took:?}");
    daemon.wait_for_log("(dead) accepted no data for too long and was disconnected after");
    assert!(ramp.is_whole(), "{:?}", ramp.holes);
    // Their connections have ended.
    for one in &mut dead {
        let mut rest = Vec::new();
        let _ = one.body.read_to_end(&mut rest);
        assert!(!one.body.is_complete(), "it ended with a cut");
    }
}

#[test]
fn listeners_that_read_a_byte_a_second_disturb_nobody() {
    let daemon = Daemon::ramp_with("[listeners]\nstall_seconds = 2", "synth:ramp", SLOW_RAMP);
    daemon.wait_for_edge(RATE);
    let healthy: Vec<Healthy> = (0..5).map(|_| Healthy::join(&daemon)).collect();
    let slow: Vec<TcpStream> = (0..20)
        .map(|n| {
            let mut stream = http::connect_narrow(daemon.address(), NARROW);
            let target = ["/live.wav", "/live.wav?latency=low", "/live.wav?back=1", "/live.wav?for=9"][n % 4];
            let text = http::request_text(daemon.address(), "GET", target, "1.1", &[]);
            stream.write_all(text.as_bytes()).expect("the request is sent");
            stream
        })
        .collect();
    for _ in 0..4 {
        for mut stream in &slow {
            // Its connection may have been ended already.
            let _ = stream.read(&mut [0]);
        }
        let before = daemon.edge();
        daemon.wait_for_edge(before + RATE);
        assert_eq!(daemon.get("/healthz").text(), "ok\n");
    }
    all_leave(healthy, 4 * RATE);
    drop(slow);
    wait_for("all of them to be gone", || daemon.listeners().is_empty().then_some(()));
    assert_eq!(daemon.input("live")["overruns"], 0);
}

#[test]
fn no_more_than_max_listen_and_the_next_gets_503() {
    let daemon = Daemon::start(
        None,
        "[listeners]\nmax = 3\n[input.live]\ndevice = \"synth:ramp\"\n[input.tone]\ndevice = \"synth:tone\"\n",
    );
    daemon.wait_for_state("live", "capturing");
    daemon.wait_for_state("tone", "capturing");
    let mut streams: Vec<Response> =
        ["/live.wav", "/tone.wav", "/live.wav"].map(|target| daemon.get(target)).into();
    for target in ["/live.wav", "/tone.wav"] {
        let refused = daemon.get(target);
        assert_eq!(refused.status, 503, "{target}");
        assert_eq!(refused.header("retry-after"), Some("5"));
        assert_eq!(refused.text(), "3 are listening, no more can.\n");
    }
    // Everything else is answered.
    assert_eq!(daemon.get("/").status, 200);
    assert_eq!(daemon.listeners().len(), 3);
    for stream in &mut streams {
        stream.bytes(44 + 40_000);
    }
    // The place of a listener that leaves can be taken.
    streams.pop();
    wait_for("a place", || (daemon.get("/live.wav").status == 200).then_some(()));
}

#[test]
fn a_listener_in_the_past_is_not_skipped_for_its_lag() {
    // The limit is less than the lag that the listener asks for, and lasts for two seconds of the clock.
    let daemon = Daemon::ramp_with("[listeners]\nmax_lag_ms = 4000", "synth:ramp?speed=2", SLOW_RAMP);
    daemon.wait_for_edge(5 * RATE);
    let mut response = daemon.get("/live.wav?back=5");
    response.bytes(HEADER_BYTES);
    let mut ramp = SynthRamp::new(4, 2);
    ramp.feed(&response.bytes(16 * RATE as usize * FRAME_BYTES));
    assert!(ramp.is_whole(), "{:?}", ramp.holes);
    let listener = &daemon.listeners()[0];
    assert_eq!(listener["frames_skipped"], 0);
}

#[test]
fn a_slow_listener_in_the_past_is_skipped_to_the_moment_that_it_asked_for() {
    let daemon = Daemon::ramp_with("[listeners]\nmax_lag_ms = 1500", "synth:ramp", SLOW_RAMP);
    daemon.wait_for_edge(3 * RATE);
    let mut sleeper = narrow_stream(&daemon, "/live.wav?back=2&latency=low", "sleeper");
    // The past comes at once, as far as the buffers of both kernels hold it. Then the listener sleeps.
    let before = daemon.edge();
    daemon.wait_for_edge(before + 4 * RATE);
    let before = daemon.edge();
    let ramp = read_past_a_hole(&mut sleeper);
    let took = daemon.edge() - before;
    let [(queued, hole)] = ramp.holes[..] else { panic!("one hole: {:?}", ramp.holes) };
    let skipped = listener(&daemon, "sleeper").expect("it is there")["frames_skipped"].as_u64();
    assert_eq!(skipped, Some(hole.into()), "{:?}", ramp.holes);
    let first_after = u64::from(ramp.first.expect("a frame")) + queued + u64::from(hole);
    let ahead = ahead(first_after, before - 2 * RATE);
    assert!((-80..=took as i64).contains(&ahead), "{ahead} frames from where it asked to be, {took} later");
}

#[test]
fn a_recording_has_no_hole_while_the_history_holds_it() {
    let daemon = Daemon::ramp_with("[listeners]\nmax_lag_ms = 100", "synth:ramp", SLOW_RAMP);
    let mut sleeper = narrow_stream(&daemon, "/live.wav?for=4", "recorder");
    let before = daemon.edge();
    daemon.wait_for_edge(before + 3 * RATE);
    let mut sound = Vec::new();
    sleeper.body.read_to_end(&mut sound).expect("all of it comes");
    let mut ramp = SynthRamp::new(4, 2);
    ramp.feed(&sound);
    assert_eq!((ramp.frames, ramp.is_whole()), (4 * RATE, true), "{:?}", ramp.holes);
    daemon.wait_for_log("(recorder) reached the end of the stream after 4 s");
}

#[test]
fn the_kernel_holds_no_more_than_send_buffer_ms() {
    for (send_buffer, most) in [(100, 350.0), (250, 800.0)] {
        let daemon = Daemon::ramp_with(
            &format!("[listeners]\nsend_buffer_ms = {send_buffer}\nmax_lag_ms = 60000"),
            "synth:ramp",
            "rate = 48000\n",
        );
        let sleeper = narrow_stream(&daemon, "/live.wav?latency=low", "sleeper");
        let before = daemon.edge();
        daemon.wait_for_edge(before + 2 * 48_000);
        let sent = listener(&daemon, "sleeper").expect("it is there")["frames_sent"].as_u64();
        let sent_ms = sent.expect("a number") as f64 / 48.0;
        println!(
            "send_buffer_ms = {send_buffer}: {sent_ms:.0} ms were sent to a listener that reads nothing"
        );
        assert!(sent_ms >= f64::from(send_buffer), "the buffer is as long as configured");
        assert!(sent_ms < most, "{sent_ms} ms are in the kernel");
        drop(sleeper);
    }
}

#[test]
fn few_listeners_get_small_chunks_and_many_get_larger_ones() {
    const BLOCK: usize = 441 * 4;
    let daemon = Daemon::ramp("");
    let sizes = |response: &mut Response| {
        let mut ramp = SynthRamp::new(2, 2);
        let sizes: Vec<usize> = (0..40)
            .map(|_| {
                let chunk = response.body.chunk().expect("the stream goes on");
                ramp.feed(&chunk);
                chunk.len() / BLOCK
            })
            .collect();
        assert!(ramp.is_whole());
        // After a stall of the machine some chunks are larger.
        let mut sorted = sizes.clone();
        sorted.sort_unstable();
        (sorted[4], sorted[20], sizes)
    };
    let open = |target: &str| {
        let mut response = daemon.get_with(target, &[("User-Agent", "VLC/3.0")]);
        response.bytes(HEADER_BYTES);
        response
    };
    let mut first = open("/live.wav");
    assert_eq!(sizes(&mut first).1, 4, "alone, it gets 40 ms of blocks of 10 ms");
    assert_eq!(daemon.listeners()[0]["interval_ms"], 40.0);

    let mut low = open("/live.wav?latency=low");
    let others: Vec<Response> = (0..98).map(|_| open("/live.wav")).collect();
    let shared = wait_for("the interval of a hundred", || {
        let listeners = daemon.listeners();
        let interval = listeners[0]["interval_ms"].as_f64().filter(|interval| *interval >= 50.0);
        interval.map(|_| listeners)
    });
    assert_eq!(shared.len(), 100);
    assert_eq!(shared[0]["interval_ms"], 50.0);
    assert_eq!(shared[1]["interval_ms"], 0.0, "a listener with low latency keeps its interval");
    // The chunks that had gathered meanwhile come first.
    for _ in 0..20 {
        first.body.chunk().expect("the stream goes on");
        low.body.chunk().expect("the stream goes on");
    }
    let (_, median, all) = sizes(&mut first);
    assert_eq!(median, 5, "50 ms of blocks of 10 ms: {all:?}");
    drop(first);
    while low.body.chunk().expect("the stream goes on").len() > BLOCK {}
    let (_, median, all) = sizes(&mut low);
    assert_eq!(median, 1, "{all:?}");

    drop(others);
    wait_for("the others to leave", || (daemon.listeners().len() == 1).then_some(()));
    let mut last = open("/live.wav");
    assert_eq!(sizes(&mut last).1, 4, "almost alone again");
}

#[test]
fn an_interval_that_was_configured_is_kept() {
    let daemon = Daemon::ramp_with("[listeners]\ninterval_ms = 80", "synth:ramp", "");
    let mut response = daemon.get("/live.wav");
    response.bytes(HEADER_BYTES);
    response.body.chunk().expect("the burst");
    let mut ramp = SynthRamp::new(2, 2);
    let mut sizes: Vec<usize> = (0..20)
        .map(|_| {
            let chunk = response.body.chunk().expect("the stream goes on");
            ramp.feed(&chunk);
            chunk.len() / (441 * 4)
        })
        .collect();
    sizes.sort_unstable();
    assert!(ramp.is_whole());
    assert_eq!(sizes[10], 8, "{sizes:?}");
    assert_eq!(daemon.listeners()[0]["interval_ms"], 80.0);
}

#[test]
fn two_hundred_listeners_hear_every_frame() {
    let daemon = Daemon::ramp("");
    let listeners: Vec<JoinHandle<SynthRamp>> = (0..200)
        .map(|_| {
            let mut response = daemon.get("/live.wav");
            response.bytes(HEADER_BYTES);
            thread::spawn(move || {
                let mut ramp = SynthRamp::new(2, 2);
                for _ in 0..10 {
                    ramp.feed(&response.bytes(8820 * 4));
                }
                ramp
            })
        })
        .collect();
    for one in listeners {
        let ramp = one.join().expect("it was served");
        assert!(ramp.is_whole(), "{:?}", ramp.holes);
    }
    assert_eq!(daemon.input("live")["overruns"], 0);
}
