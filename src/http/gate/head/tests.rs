//! Heads by table, and arbitrary bytes against a real tiny_http.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use proptest::prelude::*;
use tiny_http::Server;

use super::*;

fn parse_text(head: &str) -> Result<Head, Refusal> {
    parse(head.as_bytes(), 7)
}

/// Returns the request line and the fields that tiny_http gets, without those that the gate always adds.
fn forwarded(head: &str) -> String {
    let head = parse_text(head).expect("a good head");
    let text = String::from_utf8(head.forwarded).expect("ASCII");
    text.replace("Connection: keep-alive\r\nX-Wavecast-Connection: 7\r\n", "").replace("\r\n", "|")
}

#[test]
fn a_request_is_written_anew_with_the_fields_that_handlers_use() {
    for (head, expected) in [
        ("GET / HTTP/1.1\r\nHost: pi\r\n\r\n", "GET / HTTP/1.1|Host: pi||"),
        ("GET /a?b=c HTTP/1.0\r\n\r\n", "GET /a?b=c HTTP/1.0||"),
        // Any case, any spaces around the value, fields in their order, repeated ones too.
        (
            "HEAD / HTTP/1.1\r\nhOST:pi:4410\r\nx-forwarded-for:  1.2.3.4 \r\nRANGE: bytes=0-\r\nX-FORWARDED-FOR:\t5.6.7.8\r\n\r\n",
            "HEAD / HTTP/1.1|Host: pi:4410|X-Forwarded-For: 1.2.3.4|Range: bytes=0-|X-Forwarded-For: 5.6.7.8||",
        ),
        // A field that no handler uses, and all that tiny_http would act upon.
        (
            "GET / HTTP/1.1\r\nHost: pi\r\nCookie: a=b\r\nReferer: http://x/\r\nExpect: 100-continue\r\nUpgrade: h2c\r\n\
             Connection: Upgrade, HTTP2-Settings\r\nKeep-Alive: 5\r\nContent-Length: 5\r\nTE: identity\r\n\r\n",
            "GET / HTTP/1.1|Host: pi|TE: identity||",
        ),
        // A client's own idea of the connection's number.
        (
            "GET / HTTP/1.1\r\nHost: pi\r\nX-Wavecast-Connection: 1\r\nx-wavecast-connection: 2\r\n\r\n",
            "GET / HTTP/1.1|Host: pi||",
        ),
        // Bytes above 0x7F.
        (
            "GET /é HTTP/1.1\r\nHost: pi\r\nUser-Agent: Küche\r\nCookie: é\r\n\r\n",
            "GET /%C3%A9 HTTP/1.1|Host: pi|User-Agent: K??che||",
        ),
        // Absolute form: the target's host wins.
        (
            "GET http://radio.local:4410/a?b HTTP/1.1\r\nHost: proxy\r\n\r\n",
            "GET /a?b HTTP/1.1|Host: radio.local:4410||",
        ),
        ("GET HTTP://pi HTTP/1.1\r\nHost: pi\r\n\r\n", "GET / HTTP/1.1|Host: pi||"),
        ("GET https://pi?a HTTP/1.0\r\n\r\n", "GET /?a HTTP/1.0|Host: pi||"),
        ("OPTIONS * HTTP/1.1\r\nHost: pi\r\n\r\n", "OPTIONS * HTTP/1.1|Host: pi||"),
        ("CONNECT pi:443 HTTP/1.1\r\nHost: pi\r\n\r\n", "CONNECT pi:443 HTTP/1.1|Host: pi||"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / HTTP/1.1|Host: ||"),
    ] {
        assert_eq!(forwarded(head), expected, "{head:?}");
    }
}

#[test]
fn what_cannot_be_read_in_one_way_only_is_refused() {
    for (head, refusal) in [
        ("GET / HTTP/1.1\r\n\r\n", BAD_HOST),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", BAD_HOST),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", BAD_HOST),
        ("GET http://a/ HTTP/1.1\r\n\r\n", BAD_HOST),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", BAD_LENGTH),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", BAD_LENGTH),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", BAD_LENGTH),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", BAD_LENGTH),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", BAD_LENGTH),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", BAD_FIELD),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", BAD_FIELD),
        ("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", BAD_FIELD),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", BAD_FIELD),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", BAD_FIELD),
        ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", BARE_LINE_FEED),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", NOT_HTTP),
        ("GET /\r\n\r\n", NOT_HTTP),
        ("GET / HTTP/1.1 \r\n\r\n", NOT_HTTP),
        ("G(T / HTTP/1.1\r\n\r\n", NOT_HTTP),
        ("GET / HTTP\r\n\r\n", NOT_HTTP),
        ("GET / HTTP/1.1", NOT_HTTP),
        ("", NOT_HTTP),
        ("\r\n\r\n", NOT_HTTP),
        ("GET / HTTP/2.0\r\n\r\n", Refusal::Version),
        ("PRI * HTTP/2.0\r\n\r\n", Refusal::Version),
        ("GET live.wav HTTP/1.0\r\n\r\n", BAD_TARGET),
        ("GET * HTTP/1.0\r\n\r\n", BAD_TARGET),
        ("GET ftp://pi/ HTTP/1.0\r\n\r\n", BAD_TARGET),
        ("GET http:///a HTTP/1.0\r\n\r\n", BAD_TARGET),
        ("GET http://user@pi/ HTTP/1.0\r\n\r\n", BAD_TARGET),
        ("GET /a\tb HTTP/1.0\r\n\r\n", BAD_TARGET),
    ] {
        assert_eq!(parse_text(head).expect_err(head), refusal, "{head:?}");
    }
}

#[test]
fn a_connection_ends_where_the_next_request_cannot_be_found_or_is_not_wanted() {
    for (closes, head) in [
        (false, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (false, "OPTIONS / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n"),
        (false, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
        (false, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        (false, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
        (true, "GET / HTTP/1.0\r\n\r\n"),
        (true, "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"),
        (true, "GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, CLOSE\r\n\r\n"),
        (true, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000000000000000000000\r\n\r\n"),
        (true, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n"),
        (true, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (true, "POST / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (true, "get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        assert_eq!(parse_text(head).expect("a good head").closes, closes, "{head:?}");
    }
}

#[test]
fn the_end_of_a_head_is_found_in_pieces_of_any_size() {
    let bytes = b"GET / HTTP/1.1\r\nHost: pi\r\n\r\nGET /next";
    for size in 1..bytes.len() {
        let mut search = EndSearch::default();
        let mut found = None;
        for end in (size..bytes.len()).step_by(size) {
            found = search.end(&bytes[..end]).expect("nothing wrong");
            if found.is_some() {
                break;
            }
        }
        let found = found.or_else(|| search.end(bytes).expect("nothing wrong"));
        assert_eq!(found, Some(28), "pieces of {size} bytes");
    }
}

#[test]
fn what_cannot_become_a_request_is_refused_before_its_end() {
    for (bytes, refusal) in [
        (&b"\x16\x03\x01\x02"[..], Refusal::Tls),
        (b"\x16", Refusal::Tls),
        (b"\x15\x03", NOT_HTTP),
        (b"\x80", NOT_HTTP),
        (b" GET", NOT_HTTP),
        (b"GET / HTTP/1.1\n", BARE_LINE_FEED),
        (b"GET / HTTP/1.1\r\nHost: a\n", BARE_LINE_FEED),
    ] {
        assert_eq!(EndSearch::default().end(bytes).expect_err("refused"), refusal, "{bytes:?}");
    }
    assert_eq!(EndSearch::default().end(b""), Ok(None));
    assert_eq!(leading_newlines(b"\r\n\n\rGET\r\n"), 4);
}

/// A tiny_http as the gate has it: one connection, which must live as long as the test.
struct Inner {
    server: Server,
    link: UnixStream,
}

impl Inner {
    fn start() -> Inner {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("wavecast head test {}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name).expect("a short name");
        let listener = UnixListener::bind_addr(&address).expect("a free name");
        let link = UnixStream::connect_addr(&address).expect("it listens");
        link.set_nonblocking(true).expect("a socket");
        let server = Server::from_listener(listener, None).expect("a thread");
        Inner { server, link }
    }

    /// Passes a head on. tiny_http makes exactly one request of it, at once, and writes nothing.
    fn assert_makes_one_request(&mut self, head: &Head) {
        self.link.write_all(&head.forwarded).expect("tiny_http reads");
        let request =
            self.server.recv_timeout(Duration::from_secs(20)).expect("no error").expect("a request");
        let shown = String::from_utf8_lossy(&head.forwarded).into_owned();
        assert!(
            request.url().starts_with('/')
                || ["*"].contains(&request.url())
                || request.method().as_str() == "CONNECT",
            "{shown}"
        );
        let id = request.headers().iter().find(|header| header.field.equiv(CONNECTION_FIELD));
        assert_eq!(id.expect("the gate's field").value.as_str(), "7", "{shown}");
        assert_eq!(request.body_length(), None, "{shown}");
        drop(request.into_writer());
        let mut byte = [0];
        let nothing = self.link.read(&mut byte).expect_err("the connection lives, and has nothing to say");
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock, "{shown}");
        assert!(self.server.try_recv().expect("no error").is_none(), "one request only: {shown}");
    }
}

/// Bytes that are often nearly a request.
fn nearly_a_request() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![Just("GET".to_owned()), Just("HEAD".to_owned()), "[A-Z]{1,8}", "[!-~]{1,6}"];
    let target =
        prop_oneof![Just("/live.wav".to_owned()), "/[ -~é]{0,20}", "http://[ -~]{0,20}", "[ -~]{0,10}"];
    let version = prop_oneof![Just("HTTP/1.1".to_owned()), Just("HTTP/1.0".to_owned()), "HTTP/[0-9.]{1,4}"];
    let name = prop_oneof![
        proptest::sample::select(&FORWARDED_FIELDS[..]).prop_map(str::to_owned),
        proptest::sample::select(
            &[
                "Connection",
                "Content-Length",
                "Transfer-Encoding",
                "Expect",
                "Upgrade",
                "Cookie",
                CONNECTION_FIELD
            ][..]
        )
        .prop_map(str::to_owned),
        "[a-zA-Z-]{1,12}",
        "[ -~]{0,8}",
    ];
    let value = prop_oneof![
        "[ -~]{0,30}",
        "[0-9]{1,30}",
        Just("chunked".to_owned()),
        Just("close, upgrade".to_owned()),
        "[\\t -~é\\u{80}-\\u{ff}]{0,20}",
        any::<String>(),
    ];
    let fields = proptest::collection::vec((name, value), 0..8);
    (method, target, version, any::<bool>(), fields).prop_map(
        |(method, target, version, has_host, fields)| {
            let host = if has_host { "Host: pi\r\n" } else { "" };
            let fields: String = fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
            format!("{method} {target} {version}\r\n{host}{fields}\r\n").into_bytes()
        },
    )
}

#[test]
fn whatever_comes_is_refused_or_is_exactly_one_request_to_tiny_http() {
    let inner = std::cell::RefCell::new(Inner::start());
    let passed = std::cell::Cell::new(0);
    let bytes = prop_oneof![
        8 => nearly_a_request(),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
        1 => (nearly_a_request(), any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
    ];
    proptest!(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() }, |(bytes in bytes)| {
        let bytes = &bytes[leading_newlines(&bytes)..];
        if let Ok(Some(length)) = EndSearch::default().end(bytes) {
            if let Ok(head) = parse(&bytes[..length], 7) {
                passed.set(passed.get() + 1);
                inner.borrow_mut().assert_makes_one_request(&head);
            }
        }
    });
    assert!(passed.get() > 200, "enough of them are requests: {}", passed.get());
    // Dropping a server on a socket without a path panics in tiny_http 0.12.
    std::mem::forget(inner.into_inner().server);
}
