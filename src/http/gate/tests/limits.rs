//! The limits, as several clients meet them.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rustix::net::sockopt;

use super::*;

#[test]
fn a_client_beyond_its_limit_loses_its_own_oldest_idle_connection() {
    let running = start_for_eight();
    let mut other = running.connect_from(2);
    other.write_all(b"GET /").expect("sent");
    let mut halves: Vec<TcpStream> = (0..8)
        .map(|n| {
            let mut half = running.connect_from(1);
            half.write_all(b"GET /").expect("sent");
            running.wait_for_connections(n + 2);
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
        halves.push(half);
        running.wait_for_connections(halves.len());
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
    let limits = Limits { requests_per_second: 1, request_burst: 20, ..limits() };
    let running = start_with(Policy { limits, trusted_proxies: Vec::new() });
    let start = Instant::now();
    let mut flood = running.connect_from(1);
    flood.write_all(HELLO.repeat(100).as_bytes()).expect("sent");
    // Of 100 requests 20 are served at once, the others one a second.
    for _ in 0..20 {
        assert_eq!(read_answer(&mut flood).1, "hello");
    }
    let mut other = running.connect_from(2);
    for _ in 0..10 {
        other.write_all(HELLO.as_bytes()).expect("sent");
        assert_eq!(read_answer(&mut other).1, "hello");
    }
    assert!(start.elapsed() < 2 * PATIENCE, "long before the end of the flood");
    for _ in 0..2 {
        assert_eq!(read_answer(&mut flood).1, "hello");
    }
    assert!(start.elapsed() >= Duration::from_millis(1900), "{:?}", start.elapsed());
    // Its connections beyond that are reset.
    let answers = (0..20).map(|_| {
        let mut stream = running.connect_from(1);
        let _ = stream.write_all(LAST_HELLO.as_bytes());
        read_all(&mut stream)
    });
    let served = answers.filter(|answer| !answer.is_empty()).count();
    assert!(served < 20 && served as u64 <= start.elapsed().as_secs(), "{served} of 20");
}

#[test]
fn an_answer_that_nobody_takes_is_given_up() {
    let running = start();
    // 4 MB are kept in all. The kernel takes 3 MB of each answer; of the five rests, those without progress for the longest
    // time go.
    let mut readers: Vec<TcpStream> = (0..5)
        .map(|_| {
            let mut stream = running.connect();
            stream.write_all(b"GET /large?5000000 HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
            // The next one begins when this one has made its last progress.
            stream.peek(&mut [0]).expect("its answer begins");
            stream
        })
        .collect();
    wait_for(|| running.gate.connections() < 5);
    assert!(!running.gate.is_idle(), "the others are still being sent");
    // The last one is still there, and gets everything.
    let mut last = readers.pop().expect("five");
    assert_eq!(read_answer(&mut last).1.len(), 5_000_000);
    drop(readers);
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
            stream.write_all(b"GET /slow?100 HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
            if n % 2 == 0 {
                let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            }
        }
    }
    let mut newcomer = running.connect_from(99);
    let start = Instant::now();
    newcomer.write_all(HELLO.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut newcomer).1, "hello");
    // A turn of 12 others, 100 ms each, four at a time; and what is inside already. All of them would take 30 s.
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
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

/// Runs in a process of its own: the limit of descriptors is the process's.
#[test]
#[ignore = "started by the test below"]
fn serve_with_few_descriptors() {
    let running = start_with(Policy {
        limits: Limits { connections_per_address: PerAddress::Most(1000), connections: 1000, ..limits() },
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
    let name = "http::gate::tests::limits::serve_with_few_descriptors";
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
    assert_eq!(read_answer(&mut new(HELLO)).1, "hello", "half a request makes room");
    drop(halves);
    // Streams make no room. Without a descriptor a newcomer gets 503.
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
