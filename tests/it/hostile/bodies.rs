//! Bodies: announced and sent, announced and not sent, larger than any memory.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Shutdown};
use std::thread;
use std::time::Duration;

use super::{Honest, SLOW_RAMP, Siege, attacker, connected_from, request};
use crate::support::daemon::Daemon;
use crate::support::http::{self, Response};
use crate::support::stopwatch::{Span, Stopwatch, assert_span_within, assert_within};

/// Returns the head of a request that announces a body.
fn announcing(method: &str, target: &str, length: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
}

/// Returns `true` if this is the right status for a request with a body.
fn is_right(method: &str, answer: &str) -> bool {
    let status = answer.get(9..12).unwrap_or_default();
    answer.starts_with("HTTP/1.1 ")
        && match method {
            "GET" | "HEAD" => status == "200",
            _ => status == "405" || status == "413",
        }
}

#[test]
fn bodies_that_are_announced_and_do_not_come_are_answered_and_cost_nothing() {
    let siege = Siege::new();
    let address = siege.address();
    let lengths = [1025_u64, 5000, 1 << 20, (1 << 20) + 1, 3 << 30, 1 << 62, 1 << 63, u64::MAX];
    let (mut bodies, mut slowest) = (0, Span::default());
    for length in lengths {
        for n in 0..40 {
            let method = ["POST", "GET", "HEAD"][n % 3];
            let target = ["/", "/live.wav", "/healthz"][n / 3 % 3];
            // A client that asks too fast is slowed down, so there are many source addresses.
            let from: IpAddr = Ipv4Addr::new(127, 66, 8, (bodies % 100) as u8).into();
            let mut stream = connected_from(from, address);
            bodies += 1;
            let _ = stream.write_all((announcing(method, target, &length.to_string()) + "body").as_bytes());
            if target == "/live.wav" && method == "GET" {
                // A stream with a body is a stream all the same.
                assert_eq!(Response::read(stream, false).status, 200, "{length}");
                continue;
            }
            let began = Stopwatch::start();
            let answer = http::answer_to(stream, b"");
            assert!(is_right(method, &answer), "{method} {target} with {length}: {answer}");
            slowest = slowest.max(began.span());
        }
    }
    assert_eq!(bodies, 320);
    siege.lift("320 bodies that do not come");
    assert_span_within(slowest, Duration::from_secs(5), "the end of a connection with a body");
}

#[test]
fn a_hundred_addresses_announce_100_gb_each_and_nobody_is_disconnected() {
    let siege = Siege::new();
    let address = siege.address();
    // Clients that keep their connections open between two requests.
    let mut idle: Vec<_> = (0..20)
        .map(|_| {
            let response = siege.daemon.get("/healthz");
            assert_eq!(response.status, 200);
            response.finish().1
        })
        .collect();
    let attacks: Vec<_> = (0..100)
        .map(|number| {
            thread::spawn(move || {
                let from: IpAddr = Ipv4Addr::new(127, 66, 9, number).into();
                let mut stream = connected_from(from, address);
                let _ = stream.write_all(announcing("POST", "/", "100000000000").as_bytes());
                // The body comes as long as the daemon takes it, at most 4 MiB of it.
                let mut sender = stream.try_clone().expect("a duplicate");
                let sends = thread::spawn(move || {
                    let piece = [b'x'; 65_536];
                    (0..64).take_while(|_| sender.write_all(&piece).is_ok()).count()
                });
                let answer = http::answer_to(stream, b"");
                sends.join().expect("no panic");
                answer
            })
        })
        .collect();
    for attack in attacks {
        let answer = attack.join().expect("the attacker was let in");
        assert!(is_right("POST", &answer), "{answer}");
    }
    for connection in &mut idle {
        let text = request("/healthz");
        connection.get_mut().write_all(text.as_bytes()).expect("it is still connected");
    }
    for connection in idle {
        assert_eq!(Response::next(connection, false).text(), "ok\n");
    }
    siege.lift("100 bodies of 100 GB from as many addresses");
}

#[test]
fn a_body_in_chunks_is_answered_too() {
    let daemon = Daemon::ramp_with("", "synth:ramp", SLOW_RAMP);
    let honest = Honest::listen(&daemon, 1);
    for (method, head) in [
        ("POST", "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("PUT", "PUT /live.wav HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ] {
        let mut stream = connected_from(attacker(1), daemon.address());
        stream.write_all(head.as_bytes()).expect("sent");
        // A chunk of 2^62 bytes is announced, and some of it sent.
        let _ = stream.write_all(b"4000000000000000\r\nbody");
        let answer = http::answer_to(stream, b"");
        assert!(is_right(method, &answer), "{answer}");
        // The end of the sending side changes nothing.
        let mut stream = connected_from(attacker(1), daemon.address());
        stream.write_all(head.as_bytes()).expect("sent");
        let _ = stream.shutdown(Shutdown::Write);
        let answer = http::answer_to(stream, b"");
        assert!(is_right(method, &answer), "{answer}");
    }
    honest.end();
}

#[test]
fn a_client_that_waits_for_100_continue_gets_the_final_status_at_once() {
    let daemon = Daemon::ramp("");
    for (method, target) in [("POST", "/"), ("GET", "/healthz")] {
        let began = Stopwatch::start();
        let text = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\nExpect: 100-continue\r\n\r\n"
        );
        let stream = connected_from(attacker(1), daemon.address());
        let answer = http::answer_to(stream, text.as_bytes());
        assert!(is_right(method, &answer), "{answer}");
        assert_within(&began, Duration::from_secs(5), "the answer to a client that waits for 100-continue");
    }
}

#[test]
fn two_lengths_that_differ_are_refused() {
    let daemon = Daemon::ramp("");
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: five\r\n",
    ] {
        let stream = connected_from(attacker(1), daemon.address());
        let text = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\nbody");
        let answer = http::answer_to(stream, text.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 "), "{fields:?}: {answer}");
    }
}
