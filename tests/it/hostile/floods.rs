//! Floods: too many requests, connections, bytes, or clients that do not read.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Dice, Siege, attacker, behave_like_another_machine, connect_from, is_full, lasting, request};
use crate::support::programs::installed;
use crate::support::{http, let_pass};

#[test]
fn two_hundred_thousand_requests_in_a_row() {
    let siege = Siege::new();
    let address = siege.address();
    for (number, target) in ["/healthz", "/live.wav", "/", "/status.json", "/nothing"].into_iter().enumerate()
    {
        let Some(mut stream) = connect_from(attacker(number as u8), address) else { continue };
        let mut reader = stream.try_clone().expect("a duplicate");
        // Every other attacker reads the answers.
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

/// Pipelines 20,000 requests for a stream from each of `floods` threads, for `time`. The threads share `addresses`
/// source addresses. A thread whose connection ends connects again after `pause`. Returns the number of connections.
fn flood(address: SocketAddr, floods: u8, addresses: u8, pause: Duration, time: Duration) -> u32 {
    let end = Instant::now() + time;
    let all = Arc::new(request("/live.wav").repeat(20_000));
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
                    let_pass(pause);
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
    let connections = flood(siege.address(), 30, 4, pause, lasting(60, 5));
    siege.lift(&format!("30 at once pipeline 20,000 requests, {connections} times in all"));
}

#[test]
fn many_pipeline_and_connect_again_at_once() {
    let siege = Siege::new();
    let connections = flood(siege.address(), 60, 4, Duration::ZERO, lasting(60, 5));
    siege.lift(&format!("60 at once pipeline 20,000 requests from 4 addresses, {connections} times in all"));
}

#[test]
fn many_pipeline_and_connect_again_at_once_from_an_address_each() {
    let siege = Siege::new();
    let floods = if is_full() { 60 } else { 30 };
    let connections = flood(siege.address(), floods, floods, Duration::ZERO, lasting(60, 5));
    siege.lift(&format!(
        "{floods} at once pipeline 20,000 requests from as many addresses, {connections} times in all"
    ));
}

#[test]
fn slow_readers_half_closers_resetters_and_pipeliners() {
    let siege = Siege::with("[listeners]\nstall_seconds = 3");
    let address = siege.address();
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
                    http::reset(stream);
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
        // The pace at which they read a byte.
        let_pass(Duration::from_millis(200));
    }
    drop(held);
    siege.lift(&format!("{began} that read slowly, half-close, reset or pipeline"));
}

#[test]
fn never_readers_from_40_addresses() {
    // A stall limit beyond the attack: they hold their connections until its end.
    let siege = Siege::with("[listeners]\nstall_seconds = 60");
    let address = siege.address();
    let each = if is_full() { 20 } else { 5 };
    let targets = ["/live.wav", "/", "/live.wav?back=1", "/status.json", "/live/levels"];
    let mut held = Vec::new();
    for number in 0..40 * each {
        let from: IpAddr = Ipv4Addr::new(127, 66, 7, (number % 40) as u8).into();
        let stream = http::connect_with(Some(from), Some(2048), address, Duration::from_secs(1));
        let Some(mut stream) = stream else { continue };
        // Pipelined requests behind the first one ask for more answers than a send buffer holds.
        let _ = stream.write_all(request(targets[number % targets.len()]).repeat(20).as_bytes());
        held.push(stream);
    }
    let_pass(lasting(60, 5));
    let count = held.len();
    assert!(count > 20 * each, "{count} connected");
    drop(held);
    siege.lift(&format!("{count} from 40 addresses that never read"));
}

#[test]
fn five_thousand_connections_a_second() {
    const THREADS: u64 = 4;
    const PER_SECOND: u64 = 5000;
    let siege = Siege::new();
    let address = siege.address();
    let began = Instant::now();
    let end = began + lasting(60, 6);
    let made = Arc::new(AtomicU64::new(0));
    let answered = Arc::new(AtomicU64::new(0));
    let floods: Vec<_> = (0..THREADS)
        .map(|number| {
            let (made, answered) = (Arc::clone(&made), Arc::clone(&answered));
            thread::spawn(move || {
                behave_like_another_machine();
                let mut dice = Dice(0xF100D + number);
                let text = request("/healthz");
                for n in 0.. {
                    let due = began + Duration::from_secs(1) * n / (PER_SECOND / THREADS) as u32;
                    let_pass(due.saturating_duration_since(Instant::now()));
                    if Instant::now() > end {
                        return;
                    }
                    let from = attacker((dice.roll() % 20) as u8);
                    let Some(mut stream) = connect_from(from, address) else { continue };
                    made.fetch_add(1, Ordering::Relaxed);
                    match dice.roll() % 4 {
                        // No request, half a request, a whole request, and one whose answer is read.
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
                        0 => http::reset(stream),
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
    if !installed(&["slowhttptest"]) {
        return;
    }
    let seconds = lasting(60, 8).as_secs().to_string();
    for (mode, name) in
        [("-H", "slow headers"), ("-B", "slow bodies"), ("-R", "ranges"), ("-X", "slow reading")]
    {
        let siege = Siege::new();
        let url = siege.daemon.url(if mode == "-X" { "/status.json" } else { "/live.wav" });
        // slowhttptest cannot choose its address, so it has the address of the honest listeners.
        let mut command = Command::new("slowhttptest");
        command.args([mode, "-c", "1000", "-r", "400", "-i", "3", "-l", &seconds, "-p", "3", "-u", &url]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let output = command.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = lines.iter().rev().find(|line| line.contains("status")).copied().unwrap_or_default();
        let threads = siege.lift(&format!("slowhttptest {mode} ({name}), 1000 connections [{last}]"));
        // A thread for each connection would be a thousand.
        assert!(threads < 600, "{mode}: {threads} threads");
    }
}

#[test]
fn a_gigabyte_of_header() {
    let siege = Siege::new();
    let address = siege.address();
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
        println!("the daemon took {taken} MiB");
        assert!(taken < 64, "{taken} MiB");
    }
    siege.lift("three times 1 GB of header");
}

#[test]
fn random_bytes() {
    let siege = Siege::new();
    let address = siege.address();
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
            http::reset(stream)
        } else {
            drop(stream.shutdown(Shutdown::Write))
        }
        tried += 1;
    }
    siege.lift(&format!("{tried} times random bytes"));
}

#[test]
fn a_client_that_comes_and_goes_does_not_fill_the_log() {
    let siege = Siege::new();
    let address = siege.address();
    let end = Instant::now() + lasting(60, 5);
    let mut times = 0;
    while Instant::now() < end {
        let Some(mut stream) = connect_from(attacker(1), address) else { continue };
        let _ = stream.write_all(request("/live.wav").as_bytes());
        if stream.read(&mut [0]).is_ok_and(|count| count > 0) {
            times += 1;
        }
    }
    let log = siege.daemon.log();
    let about =
        |text: &str| log.iter().filter(|line| line.contains("127.66.6.1") && line.contains(text)).count();
    assert!(times > 100, "{times}");
    // 20 lines for a client within a minute. A full run lasts a minute.
    let most = if is_full() { 40 } else { 20 };
    assert!((20..=most).contains(&about(") listens")), "{}", about(") listens"));
    assert!(
        about(") left") <= about(") listens"),
        "a listener without a line at its start has none at its end"
    );
    // One line for the rest. The new listeners of the siege come from another address.
    let all = log.iter().filter(|line| line.contains("starts to listen again and again")).count();
    assert_eq!(all, 1);
    siege.lift(&format!("one that began to listen {times} times"));
}
