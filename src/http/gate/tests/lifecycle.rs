//! Listeners, handlers and threads that come and go.

use super::*;

#[test]
fn a_connection_to_tiny_http_that_ends_is_replaced() {
    let running = start();
    let mut kept = running.connect();
    for round in 0..5 {
        let mut under_way = running.hold();
        running.gate.mailbox.send(Message::BreakLink);
        assert!(!running.gate.is_idle(), "this question comes after the message");
        // The request is parsed: its handler has the connection, and answers.
        running.release();
        assert_eq!(read_answer(&mut under_way).1, "held", "round {round}");
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
    let mut busy = running.hold();
    let mut stream = running.connect();
    stream.write_all(b"GET /stream HTTP/1.1\r\nHost: pi\r\n\r\n").expect("sent");
    stream.read_exact(&mut [0; 43]).expect("the stream begins");
    running.gate.close(running.listener);
    assert!(TcpStream::connect(running.address).is_err());
    let again = listen::bind(ListenAddr::Addr(running.address)).expect("the address is free");
    assert_eq!(read_all(&mut idle), "");
    running.release();
    assert!(read_all(&mut busy).ends_with("held"), "answered, then closed");
    running.wait_for_connections(1);
    running.gate.open(again).expect("a listening socket");
    assert!(running.exchange(LAST_HELLO).ends_with("hello"));
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
    // A client counts for half a second, which a machine can stall for.
    let mut halves = Vec::new();
    wait_for(|| {
        let mut half = running.connect();
        half.write_all(b"GET /hello HTT").expect("sent");
        halves.push(half);
        running.wait_for_connections(halves.len());
        !running.gate.is_idle()
    });
    let mut half = halves.pop().expect("at least one");
    half.write_all(b"P/1.1\r\nHost: pi\r\n\r\n").expect("sent");
    assert_eq!(read_answer(&mut half).1, "hello");
    wait_for(|| running.gate.is_idle());
}

#[test]
fn the_thread_lives_and_sleeps() {
    let running = start();
    let before = running.gate.mailbox.turns();
    running.gate.heartbeats();
    wait_for(|| running.gate.mailbox.turns() > before);
    std::thread::sleep(Duration::from_millis(300));
    let turns = running.gate.mailbox.turns() - before;
    assert!(turns < 20, "a turn for the question, and hardly more: {turns}");
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
    assert!(running.exchange(LAST_HELLO).ends_with("hello"));
    drop(kept);
    running.wait_for_connections(0);
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
    assert!(running.exchange(LAST_HELLO).ends_with("hello"));
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
    assert!(running.exchange(LAST_HELLO).ends_with("hello"));
    drop(streams);
    running.wait_for_connections(0);
}

#[test]
fn handlers_that_wait_do_not_hold_up_the_others() {
    let running = start();
    let waiting: Vec<TcpStream> = (0..30).map(|_| running.hold()).collect();
    let mut stream = running.connect();
    stream.write_all(HELLO.as_bytes()).expect("sent");
    assert_eq!(read_answer(&mut stream).1, "hello");
    assert!(!running.gate.is_idle(), "30 wait for their answers");
    (0..waiting.len()).for_each(|_| running.release());
    for mut stream in waiting {
        assert_eq!(read_answer(&mut stream).1, "held");
    }
    wait_for(|| running.gate.is_idle());
}
