//! Limits: of a request's head and time, of connections and listeners, in all and per client.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::{FRAME_BYTES, RATE, SLOW_RAMP, ask, attacker, connected_from, request};
use crate::support::daemon::Daemon;
use crate::support::http::{self, Response, answer_to};
use crate::support::stopwatch::{Stopwatch, assert_span_within, assert_within};
use crate::support::synth::SynthRamp;
use crate::support::{HEADER_BYTES, let_pass, wait_for};

const TIGHT: &str = "[limits]\nconnections = 12\nconnections_per_address = 6\nlisteners_per_address = 3\n\
                     header_bytes = 2048\nrequest_seconds = 1\nidle_seconds = 2\n";

/// Less than the time of a request and of an idle connection by default, and time for a machine that stalls.
const BEFORE_THE_DEFAULT: Duration = Duration::from_secs(9);

/// Starts a daemon with low limits.
fn tight() -> Daemon {
    Daemon::ramp_with(TIGHT, "synth:ramp", SLOW_RAMP)
}

/// Starts a daemon with low limits of everything but time, which half a request of a test does not exceed.
fn tight_and_patient() -> Daemon {
    let patient = TIGHT
        .replace("request_seconds = 1\n", "request_seconds = 60\n")
        .replace("idle_seconds = 2\n", "idle_seconds = 60\n");
    Daemon::ramp_with(&patient, "synth:ramp", SLOW_RAMP)
}

#[test]
fn a_request_that_is_not_finished_in_time_is_answered_with_408() {
    let daemon = tight();
    let mut stream = connected_from(attacker(1), daemon.address());
    stream.write_all(b"GET / HTTP/1.1\r\n").expect("sent");
    let began = Stopwatch::start();
    let mut dripping = stream.try_clone().expect("a duplicate");
    // A byte now and then does not move the deadline.
    thread::spawn(move || {
        while dripping.write_all(b"x").is_ok() {
            let_pass(Duration::from_millis(200));
        }
    });
    let answer = answer_to(stream, b"");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(began.by_the_clock() > Duration::from_millis(900), "{:?}", began.by_the_clock());
    daemon.wait_for_log("127.66.6.1 did not finish its request in time");
    assert_within(&began, BEFORE_THE_DEFAULT, "the 408 after a second");
}

#[test]
fn the_only_connection_of_a_quiet_daemon_has_a_deadline_too() {
    // Eight daemons at once, so that each sees its connections late.
    let once = || {
        let daemon = tight();
        (0..3)
            .map(|_| {
                let stream = connected_from(attacker(1), daemon.address());
                let began = Stopwatch::start();
                let answer = answer_to(stream, b"GET / HTTP/1.1\r\n");
                assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
                began.span()
            })
            .max()
            .expect("three")
    };
    let slowest = thread::scope(|scope| {
        let daemons: Vec<_> = (0..8).map(|_| scope.spawn(once)).collect();
        daemons.into_iter().map(|one| one.join().expect("each had its 408")).max().expect("eight")
    });
    assert_span_within(slowest, BEFORE_THE_DEFAULT, "the slowest of 24 answers 408 after a second");
}

#[test]
fn a_head_that_is_too_large_is_answered_with_431() {
    let daemon = tight_and_patient();
    let stream = connected_from(attacker(1), daemon.address());
    let answer = answer_to(stream, format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(4000)).as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // Many smaller heads on one connection are not one large head.
    let mut stream = connected_from(attacker(1), daemon.address());
    for _ in 0..10 {
        let text = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1900));
        stream.write_all(text.as_bytes()).expect("sent");
        let response = Response::read(stream.try_clone().expect("a duplicate"), false);
        assert_eq!(response.status, 200);
        assert_eq!(response.text(), "ok\n");
    }
}

/// Returns a request whose head is `bytes` long, from its first letter to the empty line.
fn head_of(bytes: usize) -> String {
    let short = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: \r\n\r\n";
    short.replace("X: ", &format!("X: {}", "x".repeat(bytes - short.len())))
}

#[test]
fn a_head_gets_431_exactly_beyond_header_bytes() {
    let daemons = [(Daemon::ramp(""), 16_384), (tight_and_patient(), 2048)];
    for (daemon, header_bytes) in daemons {
        for round in 0..12 {
            for (bytes, status) in [
                (header_bytes - 1, 200),
                (header_bytes, 200),
                (header_bytes + 1, 431),
                (header_bytes + 2, 431),
                (header_bytes + 1000, 431),
                (8 * header_bytes, 431),
            ] {
                // A client whose bucket of requests is empty would have to wait.
                let from = attacker(round * 6 + status as u8 % 6);
                let mut stream = connected_from(from, daemon.address());
                let head = head_of(bytes);
                // At once, or in two pieces, the last of which is a byte, half, or all but a byte.
                let cut = [0, bytes - 1, bytes / 2, 1][round as usize % 4];
                stream.write_all(&head.as_bytes()[..cut]).expect("sent");
                let answer =
                    answer_to(stream, &[&head.as_bytes()[cut..], b"GET /healthz HTTP/1.0\r\n\r\n"].concat());
                let expected = format!("HTTP/1.1 {status} ");
                assert!(
                    answer.starts_with(&expected),
                    "{bytes} of {header_bytes} bytes, cut at {cut}: {answer:?}"
                );
            }
        }
    }
}

#[test]
fn an_idle_connection_ends_and_a_listener_is_not_idle() {
    let daemon = tight();
    let mut listening = daemon.get("/live.wav");
    let response = ask(connected_from(attacker(1), daemon.address()), "/healthz");
    assert_eq!(response.status, 200);
    let (_, mut rest) = response.finish();
    let began = Stopwatch::start();
    assert_eq!(rest.read(&mut [0]).expect("a clean end"), 0);
    let ended = began.span();
    assert!(ended.clock > Duration::from_millis(1800), "{ended:?}");
    listening.bytes(HEADER_BYTES);
    let mut ramp = SynthRamp::new(4, 2);
    ramp.feed(&listening.bytes(FRAME_BYTES * RATE * 2));
    assert!(ramp.is_whole());
    assert_span_within(ended, BEFORE_THE_DEFAULT, "the end of a connection that is idle for two seconds");
}

#[test]
fn listeners_of_one_address_are_limited_and_those_of_others_are_not() {
    let daemon = tight_and_patient();
    let listen = |from| ask(connected_from(from, daemon.address()), "/live.wav");
    let mut first: Vec<Response> = (0..3).map(|_| listen(attacker(1))).collect();
    assert!(first.iter().all(|one| one.status == 200));
    let fourth = listen(attacker(1));
    assert_eq!((fourth.status, fourth.header("retry-after")), (503, Some("5")));
    assert_eq!(fourth.text(), "3 are listening from your address, no more can.\n");
    assert_eq!(listen(attacker(2)).status, 200);
    first.pop();
    wait_for("its place to be free", || (listen(attacker(1)).status == 200).then_some(()));
    daemon.wait_for_log("127.66.6.1 is refused: there are too many listeners");
}

#[test]
fn connections_of_one_address_are_limited_and_its_oldest_idle_one_makes_room() {
    let daemon = tight_and_patient();
    let mut halves = (0..6)
        .map(|_| {
            let mut half = connected_from(attacker(1), daemon.address());
            half.write_all(b"GET /").expect("sent");
            half
        })
        .collect::<Vec<TcpStream>>()
        .into_iter();
    let seventh = ask(connected_from(attacker(1), daemon.address()), "/live.wav");
    assert_eq!(seventh.status, 200);
    let answer = answer_to(halves.next().expect("the first"), b"");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: 5"), "{answer}");
    // The others are still connected.
    let second = halves.next().expect("the second");
    let answer = answer_to(second, b"healthz HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.0 200 ") || answer.starts_with("HTTP/1.1 200 "), "{answer}");
    daemon.wait_for_log("127.66.6.1 has too many connections");
}

#[test]
fn one_more_connection_gets_503_when_every_place_is_a_listener() {
    let daemon = tight_and_patient();
    let connect = |from| connected_from(from, daemon.address());
    let mut listening: Vec<Response> = (0..12).map(|n| ask(connect(attacker(n / 3)), "/live.wav")).collect();
    assert!(listening.iter().all(|one| one.status == 200));
    let thirteenth = ask(connect(attacker(9)), "/healthz");
    assert_eq!((thirteenth.status, thirteenth.header("retry-after")), (503, Some("5")));
    listening.truncate(6);
    wait_for("room", || (ask(connect(attacker(9)), "/healthz").status == 200).then_some(()));
}

#[test]
fn when_every_place_is_taken_the_client_with_the_most_makes_room_for_a_new_one() {
    let daemon = tight_and_patient();
    // Two clients have six idle connections each, which are all places there are.
    let mut idle: Vec<TcpStream> = Vec::new();
    for n in 0..12 {
        let mut half = connected_from(attacker(n % 2), daemon.address());
        half.write_all(b"GET /").expect("sent");
        idle.push(half);
    }
    for n in 2..6 {
        let newcomer = ask(connected_from(attacker(n), daemon.address()), "/live.wav");
        assert_eq!(newcomer.status, 200, "{n}");
    }
}

#[test]
fn behind_a_trusted_proxy_listeners_are_counted_by_their_own_addresses() {
    let tables = format!("{TIGHT}[access]\ntrusted_proxies = [\"127.66.6.1\"]\n");
    let daemon = Daemon::ramp_with(&tables, "synth:ramp", SLOW_RAMP);
    let listen = |client: &str| {
        let mut stream = connected_from(attacker(1), daemon.address());
        let text = format!("GET /live.wav HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client}\r\n\r\n");
        stream.write_all(text.as_bytes()).expect("sent");
        Response::read(stream, false)
    };
    let mut listening: Vec<Response> = Vec::new();
    for client in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
        listening.extend((0..3).map(|_| listen(client)));
        assert_eq!(listen(client).status, 503, "{client}");
    }
    assert!(listening.iter().all(|one| one.status == 200), "nine, and one address may have six connections");
}

#[test]
fn connections_of_an_address_that_is_not_listened_on_any_more_are_closed() {
    const INPUT: &str = "[input.live]\ndevice = \"synth:ramp\"\nbuffer_ms = 10000\n";
    let daemon = Daemon::ramp("");
    let first = daemon.address();
    let response = daemon.get("/healthz");
    let (_, mut idle) = response.finish();
    let mut listening = daemon.get("/live.wav");
    listening.bytes(HEADER_BYTES);
    daemon.reload_whole(&format!("[http]\nlisten = \"127.0.0.1:0\"\n{INPUT}"));
    daemon.wait_for_log("was read again");
    daemon.reload_whole(&format!("[http]\nlisten = \"127.0.0.2:0\"\n{INPUT}"));
    // Much less than the 60 s after which an idle connection ends anyway.
    assert_eq!(idle.read(&mut [0]).expect("a clean end"), 0);
    wait_for("the address to be closed", || TcpStream::connect(first).is_err().then_some(()));
    let mut ramp = SynthRamp::new(2, 2);
    ramp.feed(&listening.bytes(4 * 44_100));
    assert!(ramp.is_whole(), "listeners go on");
}

#[test]
fn a_forged_connection_number_reaches_no_other_connection() {
    let daemon = Daemon::ramp("");
    // Other clients, each with the half of a request of its own.
    let mut others: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut other = connected_from(attacker(1), daemon.address());
            other.write_all(b"GET /live.m3u HTTP/1.1\r\nHost: localhost\r\n").expect("sent");
            other
        })
        .collect();
    let mut listening = daemon.get("/live.wav");
    listening.bytes(HEADER_BYTES);
    let mut numbers: Vec<String> = (0..64).map(|number: u32| number.to_string()).collect();
    numbers.extend((0..32).map(|number: u32| format!("{number:x}")));
    numbers.extend(["", "-1", "18446744073709551615", "99999999999999999999", "0, 1"].map(str::to_owned));
    for (nth, number) in numbers.iter().enumerate() {
        let name = ["X-Wavecast-Connection", "x-wavecast-connection", "X-WAVECAST-CONNECTION"][nth % 3];
        let target = ["/healthz", "/live.wav"][nth % 2];
        let mut stream = connected_from(attacker(2 + nth as u8), daemon.address());
        let text = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{name}: {number}\r\n\r\n");
        stream.write_all(text.as_bytes()).expect("sent");
        let mut response = Response::read(stream, false);
        assert_eq!(response.status, 200, "{name}: {number}");
        assert_eq!(
            response.bytes(3),
            if target == "/healthz" { *b"ok\n" } else { *b"RIF" },
            "{name}: {number}"
        );
    }
    for other in &mut others {
        other.write_all(b"\r\n").expect("it is still connected");
    }
    for other in others {
        let response = Response::read(other, false);
        assert_eq!((response.status, response.header("content-type")), (200, Some("audio/x-mpegurl")));
    }
    let mut ramp = SynthRamp::new(2, 2);
    ramp.feed(&listening.bytes(4 * 44_100));
    assert!(ramp.is_whole(), "{:?}", ramp.holes);
}

/// Addresses on the loopback interface. They are removed on drop.
struct LoopbackAddresses(Vec<Ipv6Addr>);

impl LoopbackAddresses {
    /// Adds `fd77:6176:6563:…::1` and so on. Returns `None`, and prints the reason, if that cannot be done here.
    fn add(count: u16) -> Option<LoopbackAddresses> {
        if !rustix::process::geteuid().is_root() {
            println!("only root can add IPv6 addresses: nothing was tried");
            return None;
        }
        // The process ID keeps the addresses of two runs apart.
        let process = std::process::id() as u16;
        let mut all = LoopbackAddresses(Vec::new());
        for number in 1..=count {
            let address = Ipv6Addr::new(0xfd77, 0x6176, 0x6563, process, 0, 0, 0, number);
            if !ip(&["-6", "address", "add", &format!("{address}/128"), "dev", "lo", "nodad"]) {
                println!("this machine has no IPv6, or no ip(8): nothing was tried");
                return None;
            }
            all.0.push(address);
        }
        Some(all)
    }
}

impl Drop for LoopbackAddresses {
    fn drop(&mut self) {
        for address in &self.0 {
            ip(&["-6", "address", "del", &format!("{address}/128"), "dev", "lo"]);
        }
    }
}

/// Runs ip(8) and returns `true` if it succeeded.
fn ip(arguments: &[&str]) -> bool {
    let output = Command::new("ip").args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn one_of_two_neighbours_with_a_common_ipv6_prefix_misbehaves_and_costs_the_other_nothing() {
    let Some(addresses) = LoopbackAddresses::add(3) else { return };
    let [server, bad, good] = addresses.0[..] else { panic!("three addresses") };
    let config = format!(
        "[http]\nlisten = \"[{server}]:0\"\n{TIGHT}[input.live]\ndevice = \"synth:ramp\"\nbuffer_ms = 10000\n{SLOW_RAMP}"
    );
    let daemon = Daemon::start(None, &config);
    daemon.wait_for_log("capturing from");
    let address: SocketAddr = daemon.address();
    let connect = |from: Ipv6Addr| http::connect_from(IpAddr::V6(from), address, Duration::from_secs(1));
    let good_is_served = |after: &str| {
        let stream =
            connect(good).unwrap_or_else(|| panic!("the good neighbour is not let in after {after}"));
        assert_eq!(ask(stream, "/healthz").status, 200, "after {after}");
    };
    good_is_served("nothing");

    // A body larger than any memory.
    let text = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", 1_u64 << 62);
    answer_to(connect(bad).expect("it listens"), text.as_bytes());
    good_is_served("a body");
    // Heads that are too large, more than a client may send without being slowed down.
    for _ in 0..20 {
        let Some(stream) = connect(bad) else { break };
        answer_to(stream, format!("GET /?{} HTTP/1.1\r\n", "a".repeat(60_000)).as_bytes());
    }
    good_is_served("large heads");
    // A flood of requests.
    for _ in 0..5 {
        let Some(mut stream) = connect(bad) else { break };
        let _ = stream.write_all(request("/healthz").repeat(2000).as_bytes());
    }
    good_is_served("a flood");

    // All the listeners that one client may have, and all its connections.
    let listen = |from| connect(from).map(|stream| ask(stream, "/live.wav"));
    let listening: Vec<Response> = (0..3).map(|_| listen(good).expect("it is let in")).collect();
    assert!(listening.iter().all(|one| one.status == 200));
    let fourth = listen(good).expect("it is let in");
    assert_eq!(
        (fourth.status, fourth.text().as_str()),
        (503, "3 are listening from your address, no more can.\n")
    );
    drop(listening);
    // The bad neighbour's own limits hold for it alone.
    let held: Vec<TcpStream> = (0..10)
        .filter_map(|_| {
            let mut half = connect(bad)?;
            half.write_all(b"GET /").ok()?;
            Some(half)
        })
        .collect();
    good_is_served("connections that idle");
    drop(held);
}
