//! Faults of addresses, ranges, heads and proxies, asked of the running daemon.

use std::io::{Read, Write};

use crate::support::daemon::Daemon;
use crate::support::http::{self, Response};
use crate::support::wait_for;

const HEADER_BYTES: usize = 44;

fn daemon(tables: &str, options: &str) -> Daemon {
    let daemon = Daemon::start(None, &format!("{tables}[input.live]\ndevice = \"synth:ramp\"\n{options}"));
    daemon.wait_for_log("capturing from");
    daemon
}

fn head(daemon: &Daemon, target: &str) -> Response {
    http::request(daemon.address(), "HEAD", target, "1.1", &[])
}

#[test]
fn a_proxy_that_nobody_named_makes_nobody_local() {
    let unaware = daemon("", "");
    for header in ["X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP"] {
        for target in ["/", "/live.wav", "/healthz", "/status.json"] {
            let refused = unaware.get_with(target, &[(header, "203.0.113.9")]);
            assert_eq!(refused.status, 403, "{header} {target}");
            let text = refused.text();
            assert!(text.contains("trusted_proxies = [\"127.0.0.1\"]"), "{text}");
        }
    }
    assert_eq!(unaware.get_with("/healthz", &[("Via", "1.1 squid")]).status, 200);

    let trusting = daemon("[access]\ntrusted_proxies = \"127.0.0.1\"\n", "");
    for (header, value, status) in [
        ("X-Real-IP", "203.0.113.9", 403),
        ("Forwarded", "for=203.0.113.9", 403),
        ("CF-Connecting-IP", "203.0.113.9", 403),
        ("X-Forwarded-For", "unknown", 403),
        ("X-Real-IP", "192.168.1.4", 200),
        ("Forwarded", "for=\"[fd00::4]:99\";proto=https", 200),
        ("CF-Connecting-IP", "192.168.1.4", 200),
    ] {
        assert_eq!(trusting.get_with("/healthz", &[(header, value)]).status, status, "{header}: {value}");
    }
    let both = [("X-Forwarded-For", "192.168.1.4"), ("X-Real-IP", "203.0.113.9")];
    assert_eq!(trusting.get_with("/healthz", &both).status, 403);
    let silent = trusting.get("/healthz");
    assert_eq!(silent.status, 403, "the proxy says of nobody that the client is local");
    assert!(silent.text().contains("X-Forwarded-For"));
}

#[test]
fn a_zone_in_host_is_an_address() {
    let daemon = daemon("", "");
    let mut socket = http::connect(daemon.address());
    write!(socket, "GET /healthz HTTP/1.1\r\nHost: [fe80::1%eth0]:4410\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn a_path_that_is_written_strangely_is_still_the_stream() {
    let daemon = daemon("", "");
    for target in ["//live.wav", "/live.wav/", "/live.wav;", "/live.wav?t=1&%62ack=1&amp;latency=low"] {
        let mut response = daemon.get(target);
        assert_eq!(response.status, 200, "{target}");
        assert_eq!(response.bytes(4), b"RIFF", "{target}");
    }
    let slip = daemon.get("/live.wav?fro=60");
    assert_eq!(slip.status, 400);
    assert_eq!(slip.text(), "There is no key fro. Did you mean for=60 or from=60?\n");
    assert_eq!(daemon.get("/healthz/live").status, 200);
    assert_eq!(daemon.get("/healthz/other").status, 404);
    for target in ["/live.wav?last=1", "/live.wav/?last=1"] {
        let lead = wait_for("a second", || Some(daemon.get(target)).filter(|lead| lead.status == 307));
        let up = lead.header("location").expect("an address").starts_with("../");
        assert_eq!(up, target.contains("/?"), "{target}");
    }
}

#[test]
fn back_beyond_the_history_begins_with_the_oldest_frame() {
    let daemon = daemon("", "history_seconds = 2");
    wait_for("a second of sound", || (daemon.edge() > 44_100).then_some(()));
    let mut response = daemon.get("/live.wav?back=86400");
    assert_eq!(response.status, 200);
    // The bytes that arrive at once: far more than the burst of half a second.
    response.bytes(HEADER_BYTES + 44_100 * 4);
}

#[test]
fn framing_identity_has_no_chunks() {
    let daemon = daemon("", "");
    let mut plain = daemon.get("/live.wav?framing=identity");
    assert_eq!((plain.status, plain.header("transfer-encoding")), (200, None));
    assert_eq!(plain.bytes(4), b"RIFF");
    assert_eq!(head(&daemon, "/live.wav").header("transfer-encoding"), Some("chunked"));
}

#[test]
fn every_head_has_a_date() {
    let daemon = daemon("", "");
    for target in
        ["/", "/live.wav", "/live.wav?for=1", "/live/levels", "/status.json", "/live.m3u", "/nothing"]
    {
        let date = head(&daemon, target).header("date").map(str::to_owned).expect(target);
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{target}: {date}");
    }
}

#[test]
fn a_file_of_an_odd_size_ends_with_a_pad_byte() {
    let daemon = daemon("", "rate = 11025\nchannels = 1\nformat = \"s24\"");
    let mut response = daemon.get("/live.wav?for=0.0011");
    // Twelve frames would be even.
    assert_eq!(response.header("content-length"), Some("80"));
    response.bytes(80);
    let mut response = daemon.get("/live.wav?for=0.0012");
    assert_eq!(response.header("content-length"), Some("84"));
    let file = response.bytes(84);
    assert_eq!(file.len() % 2, 0);
    let field = |at: usize| u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]);
    assert_eq!((field(4), field(40), file[83]), (76, 39, 0));
    assert!(response.body.is_complete());
}

#[test]
fn a_range_beyond_all_reach_is_ignored() {
    let daemon = daemon("", "");
    let mut response = daemon.get_with("/live.wav", &[("Range", "bytes=9007199254740992-")]);
    assert_eq!((response.status, response.header("content-range")), (200, None));
    assert_eq!(response.bytes(4), b"RIFF");
    assert_eq!(daemon.get("/live.wav?last=1&utc=-2147483648").status, 400);
}

#[test]
fn a_resumed_download_of_the_last_seconds_joins_no_two_moments() {
    let daemon = daemon("", "history_seconds = 5");
    wait_for("a second of sound", || (daemon.edge() > 44_100).then_some(()));
    let lead = daemon.get("/live.wav?last=1");
    assert_eq!((lead.status, lead.header("cache-control")), (307, Some("no-store")));
    let clip = daemon.get(&format!("/{}", lead.header("location").expect("an address")));
    assert!(clip.header("etag").is_some());
    let again = daemon.get_with("/live.wav?last=1", &[("Range", "bytes=1000-")]);
    assert_eq!((again.status, again.header("etag")), (200, None));
    assert_eq!(again.header("content-length"), Some("176444"));
}

#[test]
fn playlists_lead_to_where_the_client_is() {
    let direct = daemon("", "");
    let forwarded = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Prefix", "/audio")];
    let m3u = direct.get_with("/live.m3u", &forwarded).text();
    assert!(m3u.ends_with("\nlive.wav\n"), "{m3u}");
    let pls = direct.get_with("/live.pls", &forwarded).text();
    assert!(!pls.contains("https") && !pls.contains("audio"), "nobody trusts this peer: {pls}");
    // HTTP/1.0 has no Host.
    let mut old = http::connect(direct.address());
    old.write_all(b"GET /live.pls HTTP/1.0\r\n\r\n").expect("sent");
    let mut answer = String::new();
    old.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains(&format!("File1=http://{}/live.wav\n", direct.address())), "{answer}");

    let trusting = daemon("[access]\ntrusted_proxies = \"127.0.0.1\"\n", "");
    let client = ("X-Forwarded-For", "192.168.1.4");
    let headers = [client, ("Host", "example.org"), forwarded[0], forwarded[1]];
    // A name that the configuration does not know stays refused.
    assert_eq!(trusting.get_with("/live.pls", &headers).status, 403);
    let headers = [client, ("Host", "pi.local"), forwarded[0], forwarded[1]];
    let pls = trusting.get_with("/live.pls", &headers).text();
    assert!(pls.contains("File1=https://pi.local/audio/live.wav\n"), "{pls}");
}
