//! Faults at random between three pushes and their server, for minutes or an hour: never stuck, nothing leaks, and a listener
//! of the board loses no frame.
//!
//! Only on request: `cargo test --test push soak -- --ignored --nocapture`, for 3 minutes or for `WAVECAST_SOAK` seconds.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::servers::{Icecast, installed};
use crate::support::daemon::Daemon;
use crate::support::synth::SynthRamp;
use crate::support::{HEADER_BYTES, let_pass};
use crate::{number, push, push_status, wait_within};

/// The faults of [`Proxy`].
const FAULTS: [&str; 5] = ["good", "closed", "silent", "slow", "cut"];

/// A forwarder of connections that has a fault.
struct Proxy {
    port: u16,
    fault: Arc<AtomicU32>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn start(to: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let (fault, open): (Arc<AtomicU32>, Arc<Mutex<Vec<TcpStream>>>) = (Arc::default(), Arc::default());
        let (faults, connections) = (Arc::clone(&fault), Arc::clone(&open));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(to) else { continue };
                if faults.load(Ordering::Relaxed) == 1 {
                    continue;
                }
                let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
                connections.lock().expect("no panic").extend([clone(&client), clone(&server)]);
                for (from, to) in [(clone(&client), clone(&server)), (server, client)] {
                    let fault = Arc::clone(&faults);
                    thread::spawn(move || forward(from, to, &fault));
                }
            }
        });
        Proxy { port, fault, open }
    }

    fn set(&self, fault: usize) {
        self.fault.store(fault as u32, Ordering::Relaxed);
        if matches!(fault, 1 | 4) {
            for stream in self.open.lock().expect("no panic").drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, fault: &AtomicU32) {
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        while fault.load(Ordering::Relaxed) == 2 {
            let_pass(Duration::from_millis(10));
        }
        if fault.load(Ordering::Relaxed) == 3 {
            let_pass(Duration::from_millis(500));
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Returns the number of threads and of descriptors of a process.
fn held(pid: u32) -> (usize, usize) {
    let count = |folder: &str| std::fs::read_dir(format!("/proc/{pid}/{folder}")).expect("it runs").count();
    (count("task"), count("fd"))
}

#[test]
#[ignore = "takes minutes: cargo test --test push soak -- --ignored --nocapture"]
fn soak_of_random_faults() {
    if !installed(&["icecast2"]) {
        return;
    }
    let seconds = std::env::var("WAVECAST_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(180);
    let icecast = Icecast::start();
    let proxy = Proxy::start(icecast.address);
    let to = |mount: &str| format!("icecast://127.0.0.1:{}{mount}", proxy.port);
    let config = [
        "[listeners]\nmax_lag_ms = 30000\n[input.live]\ndevice = \"synth:ramp\"\nrate = 48000\nbuffer_ms = 10000\n".to_owned(),
        push("flac", &to("/a.ogg"), ""),
        push("opus", &to("/b.ogg"), "format = \"opus\""),
        push("mp3", &to("/c.mp3"), "format = \"mp3\"\ntitle = \"Soak\""),
    ];
    let daemon = Daemon::start(None, &config.concat());
    daemon.wait_for_state("live", "capturing");
    let mut response = daemon.get("/live.wav");
    let _ = response.bytes(HEADER_BYTES);
    let ended = Arc::new(AtomicBool::new(false));
    let listener = {
        let ended = Arc::clone(&ended);
        thread::spawn(move || {
            let mut heard = SynthRamp::new(2, 2);
            while !ended.load(Ordering::Relaxed) {
                heard.feed(&response.bytes(4800));
            }
            (heard.frames, heard.holes)
        })
    };
    let all_on_the_air = |after: &str| {
        let began = Instant::now();
        for name in ["flac", "opus", "mp3"] {
            wait_within(
                Duration::from_secs(120),
                Duration::from_millis(20),
                &format!("{name} on the air after {after}"),
                || (push_status(&daemon, name)["state"] == "on the air").then_some(()),
            );
        }
        began.elapsed()
    };
    all_on_the_air("the start");
    let before = held(daemon.pid());
    let (began, mut seed, mut count) = (Instant::now(), 1_u32, 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (fault, length) =
            (1 + (seed >> 16) as usize % 4, Duration::from_millis(u64::from(seed >> 8) % 15_000));
        proxy.set(fault);
        let_pass(length);
        proxy.set(0);
        let back = all_on_the_air(FAULTS[fault]);
        println!("{} for {length:.1?}: all on the air after {back:.1?}", FAULTS[fault]);
        count += 1;
    }
    // Threads for names and titles end by themselves.
    wait_within(
        Duration::from_secs(60),
        Duration::from_millis(100),
        "no more threads and descriptors",
        || {
            let now = held(daemon.pid());
            (now.0 <= before.0 && now.1 <= before.1).then_some(())
        },
    );
    ended.store(true, Ordering::Relaxed);
    let (frames, holes) = listener.join().expect("the listener heard the ramp");
    assert!(holes.is_empty(), "{holes:?}");
    for name in ["flac", "opus", "mp3"] {
        let status = push_status(&daemon, name);
        assert_eq!(number(&status, "lost_frames"), 0, "{status}");
        println!(
            "{name}: {} reconnects, {} packets dropped",
            status["reconnects"], status["dropped_packets"]
        );
    }
    println!("{count} faults; a listener heard {frames} frames, each the next one");
}
