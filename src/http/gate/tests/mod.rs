//! The gate as clients see it, on the loopback interface, with handlers of a few lines.

mod lifecycle;
mod limits;
mod requests;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tiny_http::{Method, Response};

use super::*;
use crate::config::{Limits, ListenAddr, PerAddress};

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: pi\r\n\r\n";
const LAST_HELLO: &str = "GET /hello HTTP/1.1\r\nHost: pi\r\nConnection: close\r\n\r\n";

/// The time that a test waits for what must happen, on a machine that stalls at times.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gate on a port of its own.
struct Running {
    gate: Gate,
    /// A message for each request of `/hold` that has a handler.
    holding: Receiver<()>,
    /// A message lets a handler of `/hold` answer.
    release: Sender<()>,
    listener: ListenerId,
    address: SocketAddr,
}

/// Limits whose times nothing exceeds but a test of these.
fn limits() -> Limits {
    Limits {
        connections: 100,
        connections_per_address: PerAddress::Most(50),
        header_bytes: 2048,
        request_time: 5 * PATIENCE,
        idle_time: 5 * PATIENCE,
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
    let ((held, holding), (release, released)) = (unbounded(), unbounded());
    let handle = move |request: Request, connection: Connection| match request.url() {
        "/hold" => {
            let _ = held.send(());
            hold(request, connection, released.clone());
        }
        _ => handle(request, connection),
    };
    let gate = Gate::start(policy, RefusalLog::default(), handle).expect("threads and descriptors");
    let address = ListenAddr::Addr(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let listener = listen::bind(address).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let listener = gate.open(listener).expect("a listening socket");
    Running { gate, holding, release, listener, address }
}

/// Answers in a thread of its own, when the test wants it. The worker goes on.
fn hold(request: Request, mut connection: Connection, released: Receiver<()>) {
    connection.release_in_flight();
    std::thread::spawn(move || {
        let _ = released.recv();
        answer(&request, connection, "held");
    });
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

    /// Asks for `/hold` on a new connection, and returns when the request has a handler.
    fn hold(&self) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(b"GET /hold HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
        self.holding.recv_timeout(PATIENCE).expect("it gets a handler");
        stream
    }

    /// Lets the handler of one `/hold` answer.
    fn release(&self) {
        self.release.send(()).expect("a handler waits");
    }

    /// Waits until that many connections have a place.
    fn wait_for_connections(&self, count: usize) {
        wait_for(|| self.gate.connections() == count);
    }
}

fn connect(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

fn wait_for(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "it does not happen");
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
