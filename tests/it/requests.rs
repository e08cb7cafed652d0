//! Requests as real clients and proxies send them, byte by byte, and malformed ones.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::http::{self, Response, answer_to};
use crate::support::stopwatch::{Stopwatch, assert_within};
use crate::support::{HEADER_BYTES, wait_for};

/// Sends bytes as they are, and returns once the head of the answer has come.
fn send(daemon: &Daemon, bytes: &[u8]) -> Response {
    let mut stream = http::connect(daemon.address());
    stream.write_all(bytes).expect("sent");
    Response::read(stream, false)
}

/// Checks that the answer is the stream.
fn assert_stream(mut response: Response, request: &str) {
    assert_eq!(response.status, 200, "{request}");
    assert_eq!(response.bytes(4), b"RIFF", "{request}");
}

// Heads that are unusual and right.

#[test]
fn bytes_beyond_ascii_in_a_header_field_are_harmless() {
    let daemon = Daemon::ramp("");
    for field in [
        "Cookie: room=K\u{fc}che",
        "User-Agent: R\u{e1}dio/1.0",
        "Referer: http://k\u{fc}che/",
        "X-Name: \u{1f426}",
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n");
        // As UTF-8 and as Latin-1.
        let latin: Vec<u8> =
            text.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap_or(0xFF)).collect();
        for bytes in [text.as_bytes(), &latin] {
            assert_eq!(send(&daemon, bytes).status, 200, "{field}");
            let stream = bytes.to_vec();
            let stream = [b"GET /live.wav".as_slice(), &stream["GET /".len()..]].concat();
            assert_stream(send(&daemon, &stream), field);
        }
    }
    // The status shows the user agent in ASCII.
    let mut listening = send(
        &daemon,
        "GET /live.wav HTTP/1.1\r\nHost: localhost\r\nUser-Agent: R\u{e1}dio/1.0\r\n\r\n".as_bytes(),
    );
    listening.bytes(HEADER_BYTES);
    let player = wait_for("the listener", || {
        daemon
            .listeners()
            .iter()
            .find_map(|one| Some(one["player"].as_str()?.to_owned()).filter(|name| name.contains("dio")))
    });
    assert!(player.is_ascii(), "{player}");
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    let daemon = Daemon::ramp("");
    for lines in ["\r\n", "\r\n\r\n"] {
        let text = format!("{lines}GET /live.wav HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_stream(send(&daemon, text.as_bytes()), &text);
    }
    // Old clients send an empty line behind each request.
    let mut stream = http::connect(daemon.address());
    stream
        .write_all("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n".repeat(3).as_bytes())
        .expect("sent");
    let mut reader = std::io::BufReader::new(stream);
    for _ in 0..3 {
        let response = Response::next(reader, false);
        assert_eq!(response.status, 200);
        let text;
        (text, reader) = response.finish();
        assert_eq!(text, "ok\n");
    }
}

#[test]
fn a_bare_line_feed_ends_a_line_or_is_refused_at_once() {
    let daemon = Daemon::ramp("");
    let began = Stopwatch::start();
    let answer = answer_to(
        http::connect(daemon.address()),
        b"GET /healthz HTTP/1.1\nHost: localhost\nConnection: close\n\n",
    );
    assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    assert_within(&began, Duration::from_secs(5), "the answer to a request with bare line feeds");
}

#[test]
fn the_names_of_header_fields_have_any_case() {
    let daemon = Daemon::ramp("");
    for name in ["range", "RANGE", "Range", "rAnGe"] {
        let text = format!("GET /live.wav HTTP/1.1\r\nHOST: localhost\r\n{name}: bytes=0-1\r\n\r\n");
        let response = send(&daemon, text.as_bytes());
        assert_eq!(response.status, 206, "{name}");
        assert_eq!(response.text(), "RI");
    }
}

#[test]
fn an_absolute_target_is_the_path_and_the_host() {
    let daemon = Daemon::ramp("");
    for authority in ["localhost", "localhost:4410", "127.0.0.1"] {
        let text = format!("GET http://{authority}/live.wav HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_stream(send(&daemon, text.as_bytes()), &text);
    }
    // The host of the target counts (RFC 9112, section 3.2.2), and this one is no name of the machine.
    let text = "GET http://evil.example/live.wav HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(send(&daemon, text.as_bytes()).status, 403);
}

#[test]
fn a_path_that_is_written_strangely_is_still_the_stream() {
    let daemon = Daemon::ramp("");
    for target in ["//live.wav", "/live.wav/", "/live.wav;", "/live.wav?t=1&%62ack=1&amp;latency=low"] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_stream(send(&daemon, text.as_bytes()), target);
    }
    assert_eq!(daemon.get("/healthz/live").status, 200);
    assert_eq!(daemon.get("/healthz/other").status, 404);
    // The redirect to a clip is relative to the path as the client wrote it.
    daemon.wait_for_edge(44_100);
    for target in ["/live.wav?last=1", "/live.wav/?last=1"] {
        let redirect = daemon.get(target);
        assert_eq!(redirect.status, 307, "{target}");
        let goes_up = redirect.header("location").expect("an address").starts_with("../");
        assert_eq!(goes_up, target.contains("/?"), "{target}");
    }
}

#[test]
fn an_address_with_a_zone_is_an_address() {
    let daemon = Daemon::ramp("");
    for host in ["[fe80::1%eth0]:4410", "[fe80::1%25eth0]:4410", "[fe80::1%wlan0]"] {
        let text = format!("GET /live.wav HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_stream(send(&daemon, text.as_bytes()), &text);
    }
}

#[test]
fn a_client_that_closes_its_sending_side_gets_all_its_answers() {
    let daemon = Daemon::ramp("");
    let mut stream = http::connect(daemon.address());
    let text = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(5);
    stream.write_all(text.as_bytes()).expect("sent");
    stream.shutdown(Shutdown::Write).expect("shut down");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("a clean end");
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 5, "{answers}");
    let mut stream = http::connect(daemon.address());
    stream.write_all(b"GET /live.wav?for=0.5 HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    stream.shutdown(Shutdown::Write).expect("shut down");
    let mut response = Response::read(stream, false);
    response.bytes(HEADER_BYTES + 22_050 * 4);
    assert!(response.body.is_complete());
}

// Other protocols, and malformed heads.

#[test]
fn other_protocols_are_refused_at_once() {
    let daemon = Daemon::ramp("");
    let mut hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    hello.extend([0x5A; 500]);
    let protocols: [(&str, &[u8]); 4] = [
        ("HTTP/2 without TLS", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("a TLS hello", &hello),
        ("the beginning of a TLS hello", &hello[..5]),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
    ];
    for (name, bytes) in protocols {
        let began = Stopwatch::start();
        let answer = answer_to(http::connect(daemon.address()), bytes);
        let refused = ["", "HTTP/1.1 400 ", "HTTP/1.1 505 "].iter().any(|start| match start.is_empty() {
            true => answer.is_empty(),
            false => answer.starts_with(start),
        });
        assert!(refused, "{name}: {answer:?}");
        // Less than the ten seconds that an unfinished request has.
        assert_within(&began, Duration::from_secs(5), name);
    }
    assert_eq!(daemon.get("/healthz").text(), "ok\n");
}

#[test]
fn malformed_heads_are_refused_at_once() {
    let daemon = Daemon::ramp("");
    for head in [
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1 extra\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/3.0\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
        "GET /\u{7f} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ] {
        let began = Stopwatch::start();
        let answer = answer_to(http::connect(daemon.address()), head.as_bytes());
        assert!(
            answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 505 "),
            "{head:?}: {answer:?}"
        );
        assert_within(&began, Duration::from_secs(5), "the answer to a malformed head");
    }
}

// Proxies and players.

#[test]
fn a_proxy_that_is_not_named_gets_403_with_the_line_to_configure() {
    let daemon = Daemon::ramp("");
    let claims = [
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-For: 192.168.1.4",
        "Forwarded: for=203.0.113.9",
        "X-Real-IP: 203.0.113.9",
        "CF-Connecting-IP: 203.0.113.9",
        "x-forwarded-for: 203.0.113.9",
    ];
    for claim in claims {
        for target in ["/healthz", "/live.wav", "/", "/status.json", "/live/levels", "/nothing"] {
            let text = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{claim}\r\n\r\n");
            let response = send(&daemon, text.as_bytes());
            assert_eq!(response.status, 403, "{claim}, {target}");
            let text = response.text();
            assert!(text.contains("trusted_proxies = [\"127.0.0.1\"]"), "{claim}, {target}: {text}");
        }
    }
    // A forward proxy of the client names itself and nobody else.
    for via in ["Via: 1.1 proxy.example", "Via: 1.0 fred, 1.1 p.example.net"] {
        let text = format!("GET /live.wav HTTP/1.1\r\nHost: localhost\r\n{via}\r\n\r\n");
        assert_stream(send(&daemon, text.as_bytes()), via);
    }
}

/// Returns the entry of an M3U playlist.
fn entry_of(playlist: Response) -> String {
    assert_eq!(playlist.status, 200);
    let text = playlist.text();
    text.lines().find(|line| line.contains(".wav")).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn a_playlist_behind_a_proxy_leads_back_through_the_proxy() {
    let request = b"GET /live.m3u HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Prefix: /audio\r\n\r\n";
    // The proxy's own address is allowed, since the test itself asks for the status without naming a client.
    let access = "[access]\nallow = [\"local\", \"127.0.0.1\"]\ntrusted_proxies = \"127.0.0.1\"\n";
    let named = Daemon::ramp_with(access, "synth:ramp", "");
    let entry = entry_of(send(&named, request));
    assert!(entry == "live.wav" || entry == "https://localhost/audio/live.wav", "{entry}");
    // A claim of a peer that is not named counts for nothing. A relative entry is right behind any proxy.
    let entry = entry_of(send(&Daemon::ramp(""), request));
    assert_eq!(entry, "live.wav");
}

#[test]
fn a_pls_playlist_names_the_address_that_the_client_used() {
    let direct = Daemon::ramp("");
    let forwarded = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Prefix", "/audio")];
    let pls = direct.get_with("/live.pls", &forwarded).text();
    assert!(!pls.contains("https") && !pls.contains("audio"), "nobody trusts this peer: {pls}");
    // HTTP/1.0 has no Host.
    let mut old = http::connect(direct.address());
    old.write_all(b"GET /live.pls HTTP/1.0\r\n\r\n").expect("sent");
    let mut answer = String::new();
    old.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains(&format!("File1=http://{}/live.wav\n", direct.address())), "{answer}");

    let access = "[access]\nallow = [\"local\", \"127.0.0.1\"]\ntrusted_proxies = \"127.0.0.1\"\n";
    let trusting = Daemon::ramp_with(access, "synth:ramp", "");
    let client = ("X-Forwarded-For", "192.168.1.4");
    let headers = [client, ("Host", "example.org"), forwarded[0], forwarded[1]];
    // A name that the configuration does not know stays refused.
    assert_eq!(trusting.get_with("/live.pls", &headers).status, 403);
    let headers = [client, ("Host", "pi.local"), forwarded[0], forwarded[1]];
    let pls = trusting.get_with("/live.pls", &headers).text();
    assert!(pls.contains("File1=https://pi.local/audio/live.wav\n"), "{pls}");
}

#[test]
fn a_playlist_for_a_client_without_a_host_leads_back_to_the_daemon() {
    let daemon = Daemon::ramp("");
    let entry = entry_of(send(&daemon, b"GET /live.m3u HTTP/1.0\r\n\r\n"));
    assert!(entry == "live.wav" || entry == daemon.url("/live.wav"), "{entry}");
}

#[test]
fn a_player_that_takes_chunks_for_sound_can_have_the_stream_without_chunks() {
    let daemon = Daemon::ramp("");
    // The request of the usual library for the ESP32, which calls itself VLC.
    let text = "GET /live.wav?framing=identity HTTP/1.1\r\nHost: localhost\r\nIcy-MetaData:1\r\n\
                Accept-Encoding: identity;q=1,*;q=0\r\n\
                User-Agent: VLC/3.0.21 LibVLC/3.0.21 AppleWebKit/537.36 (KHTML, like Gecko)\r\n\
                Connection: keep-alive\r\n\r\n";
    let response = send(&daemon, text.as_bytes());
    assert_eq!(response.header("transfer-encoding"), None);
    assert_eq!(response.header("connection"), Some("close"));
    assert_stream(response, text);
}
