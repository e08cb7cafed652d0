//! Requests and answers on one connection.

use std::net::Shutdown;

use super::*;

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
        assert_eq!(
            status(&running.exchange(bytes)),
            expected,
            "{bytes:?}, before the request's time is over"
        );
    }
}

#[test]
fn half_a_request_is_answered_with_408_and_an_idle_connection_is_closed() {
    let (request_time, idle_time) = (Duration::from_secs(2), Duration::from_secs(4));
    let limits = Limits { request_time, idle_time, ..limits() };
    let running = start_with(Policy { limits, trusted_proxies: Vec::new() });
    let start = Instant::now();
    let mut half = running.connect();
    half.write_all(b"GET / HTTP/1.1\r\nHo").expect("sent");
    let mut idle = running.connect();
    idle.write_all(HELLO.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut idle).1, "hello");
    let answer = read_all(&mut half);
    assert_eq!(status(&answer), "408", "{answer}");
    assert!(start.elapsed() >= request_time);
    assert_eq!(read_all(&mut idle), "", "closed without a word");
    assert!(start.elapsed() >= idle_time);
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
            assert!(start.elapsed() < PATIENCE, "the connection ends without the body: {body}");
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
