//! The gate as clients see it, on the loopback interface, with handlers of a few lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use tiny_http::{Method, Response};

use super::*;
use crate::config::{ListenAddr, PerAddress};

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: pi\r\n\r\n";

/// A gate on a port of its own.
struct Running {
    gate: Gate,
    listener: ListenerId,
    address: SocketAddr,
}

fn limits() -> Limits {
    Limits {
        connections: 100,
        connections_per_address: PerAddress::Most(50),
        header_bytes: 2048,
        request_time: Duration::from_millis(400),
        idle_time: Duration::from_secs(1),
        ..Limits::default()
    }
}

fn start() -> Running {
    start_with(Policy { limits: limits(), trusted_proxies: Vec::new() })
}

fn start_for_eight() -> Running {
    let limits = Limits { connections_per_address: PerAddress::Most(8), ..limits() };
    start_with(Policy { limits, trusted_proxies: Vec::new() })
}

fn start_with(policy: Policy) -> Running {
    let gate = Gate::start(policy, handle).expect("threads and descriptors");
    let address = ListenAddr::Addr(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let listener = listen::bind(address).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let listener = gate.open(listener).expect("a listening socket");
    Running { gate, listener, address }
}

fn handle(request: Request, connection: Connection) {
    let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
    match path {
        "/panic" => panic!("a handler that panics, as a test"),
        "/drop" => {}
        "/stream" => {
            let (mut socket, place) = connection.into_stream();
            std::thread::spawn(move || {
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsound");
                // Until the client leaves.
                let _ = socket.read(&mut [0; 1]);
                drop(place);
            });
        }
        "/large" => answer(&request, connection, &"x".repeat(query.parse().expect("a number"))),
        "/slow" => {
            std::thread::sleep(Duration::from_millis(query.parse().expect("a number")));
            answer(&request, connection, "slow");
        }
        "/wait" => {
            let mut connection = connection;
            connection.release_in_flight();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(300));
                answer(&request, connection, "waited");
            });
        }
        "/echo" => {
            let fields: String = request.headers().iter().map(|header| format!("{header}\n")).collect();
            let text = format!("{} {} {}\n{fields}", request.method(), request.url(), request.http_version());
            answer(&request, connection, &text);
        }
        _ => answer(&request, connection, "hello"),
    }
}

fn answer(request: &Request, connection: Connection, body: &str) {
    let response = Response::from_string(body).with_chunked_threshold(usize::MAX);
    let mut bytes = Vec::new();
    let is_head = *request.method() == Method::Head;
    response
        .raw_print(&mut bytes, request.http_version().clone(), request.headers(), is_head, None)
        .expect("a vector takes everything");
    connection.answer(bytes);
}

impl Running {
    fn connect(&self) -> TcpStream {
        connect(TcpStream::connect(self.address).expect("it listens"))
    }

    /// Connects from an address of this machine's own network 127.0.0.0/8.
    fn connect_from(&self, last: u8) -> TcpStream {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .expect("a descriptor");
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 7, last], 0)))
            .expect("an address of loopback");
        rustix::net::connect(&socket, &self.address).expect("it listens");
        connect(TcpStream::from(socket))
    }

    /// Sends bytes on a new connection, and returns all that comes back until its end.
    fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        // The gate may end the connection before it has read everything.
        let _ = stream.write_all(bytes.as_ref());
        read_all(&mut stream)
    }

    /// Waits until that many connections have a place.
    fn wait_for_connections(&self, count: usize) {
        wait_for(|| self.gate.connections() == count);
    }
}

fn connect(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("not zero");
    stream.set_write_timeout(Some(Duration::from_secs(10))).expect("not zero");
    stream
}

fn wait_for(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(10), "it does not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn read_all(stream: &mut TcpStream) -> String {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    // A reset after the answer is an end as well.
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..count]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one answer with a `Content-Length`, and returns its first line and its body.
fn read_answer(stream: &mut TcpStream) -> (String, String) {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).expect("ASCII");
    let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    stream.read_exact(&mut body).expect("a whole body");
    (head.lines().next().unwrap_or_default().to_owned(), String::from_utf8(body).expect("ASCII"))
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[test]
fn requests_share_a_connection_and_are_answered_in_their_order() {
    let running = start();
    let mut stream = running.connect();
    for _ in 0..3 {
        stream.write_all(HELLO.as_bytes()).expect("sent");
        assert_eq!(read_answer(&mut stream).1, "hello");
    }
    // All at once, a slow one first.
    let row = ["/slow?30", "/hello", "/large?5", "/slow?1", "/hello"]
        .map(|target| format!("GET {target} HTTP/1.1\r\nHost: pi\r\n\r\n"));
    stream.write_all(row.concat().as_bytes()).expect("sent");
    for body in ["slow", "hello", "xxxxx", "slow", "hello"] {
        assert_eq!(read_answer(&mut stream).1, body);
    }
}

#[test]
fn a_client_that_half_closes_its_connection_gets_all_its_answers() {
    let running = start();
    let mut stream = running.connect();
    stream.write_all(HELLO.repeat(3).as_bytes()).expect("sent");
    stream.shutdown(Shutdown::Write).expect("connected");
    let answers = read_all(&mut stream);
    assert_eq!(answers.matches("200 OK").count(), 3, "{answers}");
    assert_eq!(answers.matches("hello").count(), 3, "{answers}");
    running.wait_for_connections(0);
}

#[test]
fn a_head_of_exactly_header_bytes_is_served_and_a_longer_one_never_is() {
    let running = start();
    let head = |length: usize| {
        let frame = "GET /hello HTTP/1.1\r\nHost: pi\r\nConnection: close\r\nX: \r\n\r\n".len();
        format!(
            "GET /hello HTTP/1.1\r\nHost: pi\r\nConnection: close\r\nX: {}\r\n\r\n",
            "x".repeat(length - frame)
        )
    };
    for (length, expected) in
        [(100, "200"), (2047, "200"), (2048, "200"), (2049, "431"), (5000, "431"), (100_000, "431")]
    {
        for _ in 0..5 {
            let head = head(length);
            assert_eq!(head.len(), length);
            assert_eq!(status(&running.exchange(&head)), expected, "{length} bytes");
            // In pieces, so that the gate sees the end alone.
            let mut stream = running.connect();
            let (most, rest) = head.split_at(length.min(2048) - 1);
            stream.write_all(most.as_bytes()).expect("sent");
            std::thread::sleep(Duration::from_millis(2));
            let _ = stream.write_all(rest.as_bytes());
            assert_eq!(status(&read_all(&mut stream)), expected, "{length} bytes in pieces");
        }
    }
    // More requests behind it are not part of it.
    let row = head(2048).replace("Connection: close", "X-Other:     y").repeat(2) + &head(2048);
    assert_eq!(running.exchange(row).matches("200 OK").count(), 3);
}

#[test]
fn empty_lines_in_front_of_a_request_are_skipped() {
    let running = start();
    for newlines in ["\r\n", "\r\n\r\n\r\n", "\n"] {
        let mut stream = running.connect();
        for _ in 0..2 {
            stream.write_all(format!("{newlines}{HELLO}").as_bytes()).expect("sent");
            assert_eq!(read_answer(&mut stream).1, "hello");
        }
    }
    assert_eq!(status(&running.exchange("\r\n".repeat(1000))), "400");
}

#[test]
fn other_protocols_are_refused_at_once() {
    let running = start();
    for (bytes, expected) in [
        (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], "505"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400"),
        (b"GET / HTTP/1.1\nHost: pi\n\n", "400"),
        (b"\x00\x01\x02", "400"),
    ] {
        let start = Instant::now();
        assert_eq!(status(&running.exchange(bytes)), expected, "{bytes:?}");
        assert!(start.elapsed() < Duration::from_millis(300), "before the request's time is over");
    }
}

#[test]
fn half_a_request_is_answered_with_408_and_an_idle_connection_is_closed() {
    let running = start();
    let start = Instant::now();
    let mut half = running.connect();
    half.write_all(b"GET / HTTP/1.1\r\nHo").expect("sent");
    let mut idle = running.connect();
    idle.write_all(HELLO.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut idle).1, "hello");
    let answer = read_all(&mut half);
    assert_eq!(status(&answer), "408", "{answer}");
    assert!(start.elapsed() >= Duration::from_millis(400));
    assert_eq!(read_all(&mut idle), "", "closed without a word");
    assert!(start.elapsed() >= Duration::from_secs(1));
    // The second half of a request is late as well.
    let mut late = running.connect();
    late.write_all(HELLO.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut late).1, "hello");
    late.write_all(b"GET /").expect("sent");
    assert_eq!(status(&read_all(&mut late)), "408");
}

#[test]
fn a_body_is_never_read_and_the_request_is_answered() {
    let running = start();
    for body in [
        "Content-Length: 100000000000",
        "Content-Length: 18446744073709551615",
        "Content-Length: 99999999999999999999999999999999",
        "Transfer-Encoding: chunked",
        "Content-Length: 5\r\nExpect: 100-continue",
    ] {
        for method in ["POST", "GET"] {
            let start = Instant::now();
            let answer =
                running.exchange(format!("{method} /echo HTTP/1.1\r\nHost: pi\r\n{body}\r\n\r\n{HELLO}"));
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "one answer: {answer}");
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("Connection: close"), "{answer}");
            assert!(!answer.contains("hello"), "the body is no request: {answer}");
            assert!(start.elapsed() < Duration::from_secs(1), "{body}");
        }
    }
    // One that is sent in full before the answer is read.
    let mut stream = running.connect();
    let text = "POST /hello HTTP/1.1\r\nHost: pi\r\nContent-Length: 500000\r\n\r\n".to_owned()
        + &"x".repeat(500_000);
    stream.write_all(text.as_bytes()).expect("all of it is read");
    assert_eq!(status(&read_all(&mut stream)), "200");
}

#[test]
fn http_1_0_and_connection_close_end_with_the_answer() {
    let running = start();
    for request in
        ["GET /hello HTTP/1.0\r\n\r\n", "GET /hello HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n"]
    {
        let answer = running.exchange(format!("{request}{HELLO}"));
        assert_eq!(answer.matches("200 OK").count(), 1, "{answer}");
        assert!(answer.ends_with("hello"), "{answer}");
    }
    let kept = running.exchange(format!(
        "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n{}",
        "GET /hello HTTP/1.0\r\n\r\n"
    ));
    assert_eq!(kept.matches("200 OK").count(), 2, "{kept}");
    assert_eq!(kept.matches("Connection: keep-alive\r\n").count(), 1, "the client must know: {kept}");
    assert_eq!(kept.matches("Connection: close\r\n").count(), 1, "{kept}");
    let head = running.exchange("HEAD /hello HTTP/1.0\r\n\r\n");
    assert!(head.contains("Content-Length: 5") && !head.contains("hello"), "{head}");
}

#[test]
fn a_client_cannot_forge_the_number_of_a_connection() {
    let running = start();
    // The slow one is number 1.
    let mut slow = running.connect();
    slow.write_all(b"GET /slow?100 HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
    let answer = running.exchange(
        "GET /echo HTTP/1.1\r\nHost: pi\r\nX-Wavecast-Connection: 1\r\nConnection: close\r\nUser-Agent: K\u{fc}che\r\n\r\n",
    );
    assert_eq!(answer.matches("X-Wavecast-Connection").count(), 1, "{answer}");
    assert!(!answer.contains("X-Wavecast-Connection: 1\n"), "{answer}");
    assert!(answer.contains("User-Agent: K??che"), "{answer}");
    assert_eq!(read_answer(&mut slow).1, "slow");
}

#[test]
fn a_handler_that_panics_gives_everything_back() {
    let running = start();
    for _ in 0..40 {
        // More than may be in flight, and more than there are workers.
        for path in ["/panic", "/drop"] {
            assert_eq!(running.exchange(format!("GET {path} HTTP/1.1\r\nHost: pi\r\n\r\n")), "");
        }
    }
    running.wait_for_connections(0);
    assert!(running.gate.is_idle());
    assert!(running.exchange(HELLO).ends_with("hello"));
}

#[test]
fn a_stream_leaves_the_gate_and_keeps_its_place() {
    let running = start();
    let mut streams: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = running.connect();
            stream.write_all(b"GET /stream HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
            stream
        })
        .collect();
    for stream in &mut streams {
        let mut sound = [0; 43];
        stream.read_exact(&mut sound).expect("the stream begins");
        assert!(sound.ends_with(b"\r\n\r\nsound"));
    }
    assert_eq!(running.gate.connections(), 20);
    assert!(running.gate.is_idle(), "a stream waits for no answer");
    assert!(running.exchange(HELLO.replace("Host", "Connection: close\r\nHost")).ends_with("hello"));
    drop(streams);
    running.wait_for_connections(0);
}

#[test]
fn handlers_that_wait_do_not_hold_up_the_others() {
    let running = start();
    let mut waiting: Vec<TcpStream> = (0..30)
        .map(|_| {
            let mut stream = running.connect();
            stream.write_all(b"GET /wait HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
            stream
        })
        .collect();
    let start = Instant::now();
    let mut stream = running.connect();
    stream.write_all(HELLO.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut stream).1, "hello");
    assert!(!running.gate.is_idle(), "30 wait for their answers");
    assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
    for stream in &mut waiting {
        assert_eq!(read_answer(stream).1, "waited");
    }
    wait_for(|| running.gate.is_idle());
}

#[test]
fn an_answer_that_nobody_takes_is_given_up() {
    let running = start();
    // 8 MB are kept in all: of five answers of 3 MB, those without progress for the longest time go.
    let mut readers: Vec<TcpStream> = (0..5)
        .map(|_| {
            let mut stream = running.connect();
            stream.write_all(b"GET /large?6000000 HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
            std::thread::sleep(Duration::from_millis(30));
            stream
        })
        .collect();
    wait_for(|| running.gate.connections() < 5);
    assert!(!running.gate.is_idle(), "the others are still being sent");
    // The last one is still there, and gets everything.
    let mut last = readers.pop().expect("five");
    assert_eq!(read_answer(&mut last).1.len(), 6_000_000);
    drop(readers);
    wait_for(|| running.gate.is_idle());
}

#[test]
fn a_client_beyond_its_limit_loses_its_own_oldest_idle_connection() {
    let running = start_for_eight();
    let mut other = running.connect_from(2);
    other.write_all(b"GET /").expect("sent");
    let mut halves: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut half = running.connect_from(1);
            half.write_all(b"GET /").expect("sent");
            std::thread::sleep(Duration::from_millis(10));
            half
        })
        .collect();
    let mut newcomer = running.connect_from(1);
    newcomer.write_all(HELLO.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut newcomer).1, "hello");
    let answer = read_all(&mut halves[0]);
    assert!(status(&answer) == "503" && answer.contains("Retry-After: 5"), "{answer}");
    // The second one and the other client's are still there.
    for stream in [&mut halves[1], &mut other] {
        stream.write_all(b"hello HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
        assert_eq!(read_answer(stream).1, "hello");
    }
}

#[test]
fn a_client_with_nothing_idle_gets_503_and_others_are_served() {
    let running = start_for_eight();
    let mut streams: Vec<TcpStream> = (0..8).map(|_| running.connect_from(1)).collect();
    for stream in &mut streams {
        stream.write_all(b"GET /stream HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
        stream.read_exact(&mut [0; 43]).expect("the stream begins");
    }
    let mut ninth = running.connect_from(1);
    ninth.write_all(HELLO.as_bytes()).expect("sent");
    let answer = read_all(&mut ninth);
    assert!(status(&answer) == "503" && answer.contains("Retry-After: 5"), "{answer}");
    let mut other = running.connect_from(2);
    other.write_all(HELLO.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut other).1, "hello");
}

#[test]
fn when_all_places_are_taken_the_newcomer_gets_one_of_the_largest_client() {
    let limits = Limits { connections: 10, ..limits() };
    let running = start_with(Policy { limits, trusted_proxies: Vec::new() });
    let mut halves = Vec::new();
    for client in [1, 1, 1, 1, 1, 1, 2, 2, 3, 3] {
        let mut half = running.connect_from(client);
        half.write_all(b"GET /").expect("sent");
        std::thread::sleep(Duration::from_millis(5));
        halves.push(half);
    }
    let mut newcomer = running.connect_from(9);
    newcomer.write_all(HELLO.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut newcomer).1, "hello");
    assert_eq!(status(&read_all(&mut halves[0])), "503");
    for half in &mut halves[6..] {
        half.write_all(b"hello HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
        assert_eq!(read_answer(half).1, "hello");
    }
}

#[test]
fn a_trusted_proxy_has_any_number_of_connections_and_requests() {
    let limits = Limits { requests_per_second: 1, request_burst: 20, connections: 100, ..limits() };
    let limits = Limits { connections_per_address: PerAddress::Most(8), ..limits };
    let trusted_proxies = vec!["127.0.7.1/32".parse().expect("a network")];
    let running = start_with(Policy { limits, trusted_proxies });
    let mut streams: Vec<TcpStream> = (0..40).map(|_| running.connect_from(1)).collect();
    for stream in &mut streams {
        stream.write_all(HELLO.repeat(3).as_bytes()).expect("sent");
    }
    for stream in &mut streams {
        for _ in 0..3 {
            assert_eq!(read_answer(stream).1, "hello");
        }
    }
}

#[test]
fn a_flood_is_slowed_down_and_nobody_else_is() {
    let limits = Limits { requests_per_second: 50, request_burst: 20, ..limits() };
    let running = start_with(Policy { limits, trusted_proxies: Vec::new() });
    let start = Instant::now();
    let mut flood = running.connect_from(1);
    flood.write_all(HELLO.repeat(45).as_bytes()).expect("sent");
    let mut other = running.connect_from(2);
    other.write_all(HELLO.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut other).1, "hello");
    assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
    for _ in 0..45 {
        assert_eq!(read_answer(&mut flood).1, "hello");
    }
    // Of 45 requests 20 are served at once, the others 50 a second.
    assert!(start.elapsed() >= Duration::from_millis(480), "{:?}", start.elapsed());
    // Connections beyond that are reset.
    let answers = (0..60).map(|_| {
        let mut stream = running.connect_from(1);
        let _ = stream.write_all(HELLO.replace("Host", "Connection: close\r\nHost").as_bytes());
        read_all(&mut stream)
    });
    let refused = answers.filter(|answer| answer.is_empty()).count();
    assert!(refused > 30, "{refused} of 60");
}

#[test]
fn a_connection_to_tiny_http_that_ends_is_replaced() {
    let running = start();
    let mut kept = running.connect();
    for round in 0..5 {
        let mut under_way = running.connect();
        under_way.write_all(b"GET /slow?100 HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
        std::thread::sleep(Duration::from_millis(20));
        running.gate.mailbox.send(Message::BreakLink);
        // The request is parsed: its handler has the connection, and answers.
        assert_eq!(read_answer(&mut under_way).1, "slow", "round {round}");
        kept.write_all(HELLO.as_bytes()).expect("sent");
        assert_eq!(read_answer(&mut kept).1, "hello", "round {round}");
    }
    drop(kept);
    running.wait_for_connections(0);
    assert!(running.gate.is_idle());
}

#[test]
fn a_closed_listener_frees_its_address_and_ends_what_idles() {
    let running = start();
    let mut idle = running.connect();
    idle.write_all(HELLO.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut idle).1, "hello");
    let mut busy = running.connect();
    busy.write_all(b"GET /slow?100 HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
    let mut stream = running.connect();
    stream.write_all(b"GET /stream HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
    stream.read_exact(&mut [0; 43]).expect("the stream begins");
    running.gate.close(running.listener);
    assert!(TcpStream::connect(running.address).is_err());
    let again = listen::bind(ListenAddr::Addr(running.address)).expect("the address is free");
    assert_eq!(read_all(&mut idle), "");
    assert!(read_all(&mut busy).ends_with("slow"), "answered, then closed");
    running.wait_for_connections(1);
    running.gate.open(again).expect("a listening socket");
    assert!(running.exchange(HELLO).ends_with("hello"));
}

#[test]
fn after_a_hand_over_new_connections_wait_for_the_next_process() {
    let (first, second) = (start(), start());
    let mut kept = first.connect();
    kept.write_all(HELLO.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut kept).1, "hello");
    let again =
        listen::bind(ListenAddr::Addr(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).expect("a free port");
    let shared = again.try_clone().expect("a descriptor");
    let (address, id) =
        (again.local_addr().expect("bound"), first.gate.open(again).expect("a listening socket"));
    first.gate.hand_over(id);
    let mut waiting = connect(TcpStream::connect(address).expect("the kernel lets it in"));
    waiting.write_all(HELLO.as_bytes()).expect("sent");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(first.gate.connections(), 1);
    assert!(first.gate.is_idle());
    kept.write_all(HELLO.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut kept).1, "hello", "who is there is served");
    second.gate.open(shared).expect("a listening socket");
    assert_eq!(read_answer(&mut waiting).1, "hello");
}

#[test]
fn the_gate_is_not_idle_while_somebody_is_about_to_ask() {
    let running = start();
    assert!(running.gate.is_idle());
    let mut half = running.connect();
    half.write_all(b"GET /hello HTT").expect("sent");
    running.wait_for_connections(1);
    assert!(!running.gate.is_idle());
    half.write_all(b"P/1.1\r\nHost: pi\r\n\r\n").expect("sent");
    assert_eq!(read_answer(&mut half).1, "hello");
    wait_for(|| running.gate.is_idle());
}

#[test]
fn queued_requests_whose_senders_are_gone_keep_nobody_out() {
    let limits = Limits {
        connections: 1200,
        connections_per_address: PerAddress::Most(120),
        requests_per_second: 1000,
        request_burst: 1000,
        ..limits()
    };
    let running = start_with(Policy { limits, trusted_proxies: Vec::new() });
    for client in 1..=12 {
        for n in 0..100 {
            let mut stream = running.connect_from(client);
            stream.write_all(b"GET /slow?20 HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
            if n % 2 == 0 {
                let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            }
        }
    }
    let mut newcomer = running.connect_from(99);
    let start = Instant::now();
    newcomer.write_all(HELLO.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut newcomer).1, "hello");
    // A turn of 12 others, 20 ms each, four at a time; and what is inside already.
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_reload_changes_the_limits_of_those_who_are_there() {
    let running = start();
    let mut stream = running.connect();
    let long = format!("GET /hello HTTP/1.1\r\nHost: pi\r\nX: {}\r\n\r\n", "x".repeat(1500));
    stream.write_all(long.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut stream).1, "hello");
    let limits = Limits { header_bytes: 1024, ..limits() };
    running.gate.set_policy(Policy { limits, trusted_proxies: Vec::new() });
    stream.write_all(long.as_bytes()).expect("sent");
    assert_eq!(status(&read_all(&mut stream)), "431");
}

#[test]
fn the_thread_lives_and_sleeps() {
    let running = start();
    let before = running.gate.heartbeats();
    std::thread::sleep(Duration::from_millis(300));
    let after = running.gate.heartbeats();
    assert!(
        (1..20).contains(&(after - before)),
        "a turn for the question, and hardly more: {}",
        after - before
    );
}

#[test]
fn a_panic_of_the_thread_ends_nothing() {
    let running = start();
    let mut kept = running.connect();
    for _ in 0..3 {
        kept.write_all(HELLO.as_bytes()).expect("sent");
        assert_eq!(read_answer(&mut kept).1, "hello");
        running.gate.mailbox.send(Message::Panic);
    }
    assert!(running.exchange(HELLO.replace("Host", "Connection: close\r\nHost")).ends_with("hello"));
    drop(kept);
    running.wait_for_connections(0);
}

/// Runs in a process of its own: the limit of descriptors is the process's.
#[test]
#[ignore = "started by the test below"]
fn serve_with_few_descriptors() {
    let running = start_with(Policy {
        limits: Limits { connections_per_address: PerAddress::Most(1000), ..Limits::default() },
        trusted_proxies: Vec::new(),
    });
    let limit = rustix::process::Rlimit { current: Some(60), maximum: Some(60) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("less is always allowed");
    println!("address {}", running.address);
    // Until the parent closes it.
    let _ = std::io::stdin().read(&mut [0; 1]);
}

#[test]
fn without_descriptors_idle_connections_make_room_and_listeners_stay() {
    let name = "http::gate::tests::serve_with_few_descriptors";
    let mut child = Command::new(std::env::current_exe().expect("a program"))
        .args(["--exact", name, "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let mut lines =
        BufReader::new(child.stdout.take().expect("a pipe")).lines().map(|line| line.expect("text"));
    // The pipe stays open: the child has more to say at its end.
    let address = lines.find_map(|line| Some(line.split_once("address ")?.1.to_owned()));
    let address: SocketAddr = address.expect("the child serves").parse().expect("an address");
    let new = |request: &str| {
        let mut stream = connect(TcpStream::connect(address).expect("it listens"));
        stream.write_all(request.as_bytes()).expect("sent");
        stream
    };
    let mut stream = new("GET /stream HTTP/1.1\r\nHost: pi\r\n\r\n");
    stream.read_exact(&mut [0; 43]).expect("the stream begins");
    let halves: Vec<TcpStream> = (0..100).map(|_| new("GET /")).collect();
    let start = Instant::now();
    assert_eq!(read_answer(&mut new(HELLO)).1, "hello", "half a request makes room");
    assert!(start.elapsed() < Duration::from_secs(1));
    drop(halves);
    // Streams make no room. Those for which there is no descriptor are told so.
    let mut streams: Vec<TcpStream> =
        (0..80).map(|_| new("GET /stream HTTP/1.1\r\nHost: pi\r\n\r\n")).collect();
    let statuses: Vec<bool> = streams
        .iter_mut()
        .map(|stream| {
            let mut first = [0; 12];
            stream.read_exact(&mut first).expect("an answer");
            assert!([&b"HTTP/1.1 200"[..], b"HTTP/1.1 503"].contains(&&first[..]));
            first.ends_with(b"200")
        })
        .collect();
    let served = statuses.iter().filter(|is_served| **is_served).count();
    assert!((10..60).contains(&served), "{served} of 80");
    drop(streams);
    // And then all is well again. The first stream was never touched.
    wait_for(|| read_all(&mut new("GET /hello HTTP/1.0\r\n\r\n")).ends_with("hello"));
    stream.set_nonblocking(true).expect("a socket");
    let quiet = stream.read(&mut [0]).expect_err("it goes on");
    assert_eq!(quiet.kind(), std::io::ErrorKind::WouldBlock);
    drop(child.stdin.take());
    assert!(child.wait().expect("it ends").success());
}
