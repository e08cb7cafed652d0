//! Subscriptions over real sockets, with a state that the test decides.

use std::io::{self, Read};
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;

use super::*;

const INTERVAL: Duration = Duration::from_millis(50);

fn inputs(names: &[&str]) -> Arc<Inputs> {
    let inputs = Inputs::default();
    inputs.set(names.iter().map(|name| Arc::new(LiveInput::new(name, "synth:tone"))).collect());
    Arc::new(inputs)
}

fn subscribers(inputs: &Arc<Inputs>, state: StateSource) -> Arc<EventSubscribers> {
    Arc::new(EventSubscribers::new(Arc::clone(inputs), state))
}

/// A state that is the name of its input.
fn named() -> StateSource {
    Box::new(|input| Some(StateEvent { json: format!("{:?}", input.name), fingerprint: String::new() }))
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    (client, listener.accept().expect("it connected").0)
}

fn join(subscribers: &Arc<EventSubscribers>, input: &str, chunked: bool) -> TcpStream {
    let (client, server) = pair();
    let place = Box::new(subscribers.admit(100));
    let topic = Topic { input: input.to_owned(), interval: INTERVAL };
    subscribers.join(topic, server, place, chunked, b"HEAD\n\n".to_vec()).expect("a thread");
    client
}

/// Reads until the text has come, and returns everything until then. Panics if the connection ends before.
fn read_until(client: &mut TcpStream, text: &str) -> String {
    let mut got = String::new();
    while !got.contains(text) {
        let mut bytes = [0; 512];
        let count = match client.read(&mut bytes) {
            // A process that is stopped and goes on.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.expect("it goes on"),
        };
        assert_ne!(count, 0, "it ended after {got:?}");
        got.push_str(std::str::from_utf8(&bytes[..count]).expect("text"));
    }
    got
}

/// Reads to the end of the connection.
fn read_all(client: &mut TcpStream) -> String {
    let mut got = Vec::new();
    // A reset is an end too.
    let _ = client.read_to_end(&mut got);
    String::from_utf8(got).expect("text")
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn no_more_subscribers_than_allowed_are_admitted() {
    let subscribers = subscribers(&inputs(&[]), named());
    let first = subscribers.admit(2).expect("there is room");
    let second = subscribers.admit(2).expect("there is room");
    assert!(subscribers.admit(2).is_none());
    drop(first);
    assert!(subscribers.admit(2).is_some());
    drop(second);
    assert_eq!(subscribers.count(), 0);
}

#[test]
fn a_subscriber_gets_the_head_the_state_and_then_events() {
    let subscribers = subscribers(&inputs(&["live"]), named());
    let mut plain = join(&subscribers, "live", false);
    let got = read_until(&mut plain, ":\n\n:\n\n");
    assert!(got.starts_with("HEAD\n\nevent: state\ndata: \"live\"\n\n:\n\n"), "{got:?}");
    assert_eq!(got.matches("event: state").count(), 1, "the state did not change");
    let mut chunked = join(&subscribers, "live", true);
    let got = read_until(&mut chunked, "\r\n3\r\n:\n\n\r\n");
    assert!(got.starts_with("HEAD\n\n1b\r\nevent: state\ndata: \"live\"\n\n\r\n"), "{got:?}");
}

#[test]
fn a_changed_state_is_sent_again() {
    let lost = Arc::new(AtomicBool::new(false));
    let source = Arc::clone(&lost);
    let state = move |_: &LiveInput| {
        let text = source.load(Ordering::Relaxed).to_string();
        Some(StateEvent { json: text.clone(), fingerprint: text })
    };
    let subscribers = subscribers(&inputs(&["live"]), Box::new(state));
    let mut client = join(&subscribers, "live", false);
    read_until(&mut client, "data: false");
    lost.store(true, Ordering::Relaxed);
    read_until(&mut client, "event: state\ndata: true");
}

#[test]
fn the_end_is_the_last_chunk_and_places_are_given_back() {
    let subscribers = subscribers(&inputs(&["live"]), named());
    let mut clients: Vec<TcpStream> = (0..3).map(|_| join(&subscribers, "live", true)).collect();
    clients.iter_mut().for_each(|client| drop(read_until(client, "event: state")));
    assert_eq!(subscribers.count(), 3);
    subscribers.end();
    for client in &mut clients {
        let got = read_all(client);
        assert!(got.ends_with("0\r\n\r\n"), "{got:?}");
    }
    assert_eq!(subscribers.count(), 0);
    let mut late = join(&subscribers, "live", true);
    assert_eq!(read_all(&mut late), "", "nobody is served after the end");
}

#[test]
fn subscribers_of_an_input_that_is_removed_are_ended() {
    let inputs = inputs(&["live", "bird-box"]);
    let subscribers = subscribers(&inputs, named());
    let (mut live, mut bird_box) = (join(&subscribers, "live", true), join(&subscribers, "bird-box", true));
    read_until(&mut live, "event: state");
    read_until(&mut bird_box, "event: state");
    inputs.set(inputs.all().into_iter().filter(|input| input.name == "live").collect());
    assert!(read_all(&mut bird_box).ends_with("0\r\n\r\n"));
    read_until(&mut live, ":\n\n");
}

#[test]
fn a_client_that_does_not_read_is_disconnected_and_holds_up_nobody() {
    let text = "x".repeat(10_000);
    let count = AtomicUsize::new(0);
    let state = move |_: &LiveInput| {
        // Another state each time, so that it is sent each time.
        let fingerprint = count.fetch_add(1, Ordering::Relaxed).to_string();
        Some(StateEvent { json: text.clone(), fingerprint })
    };
    let subscribers = subscribers(&inputs(&["live"]), Box::new(state));
    let deaf = join(&subscribers, "live", false);
    let mut other = join(&subscribers, "live", false);
    let began = Instant::now();
    while subscribers.count() == 2 {
        read_until(&mut other, "event: state");
        assert!(began.elapsed() < Duration::from_secs(60), "its buffers are full at last");
    }
    read_until(&mut other, "event: state");
    drop(deaf);
}

#[test]
fn a_panic_ends_the_subscriptions_of_its_input_alone() {
    let broken = Arc::new(AtomicBool::new(false));
    let source = Arc::clone(&broken);
    let state = move |input: &LiveInput| {
        assert!(input.name != "bad" || !source.load(Ordering::Relaxed), "a bug in the state");
        Some(StateEvent { json: "1".to_owned(), fingerprint: String::new() })
    };
    let subscribers = subscribers(&inputs(&["live", "bad"]), Box::new(state));
    let (mut live, mut bad) = (join(&subscribers, "live", true), join(&subscribers, "bad", true));
    read_until(&mut live, "event: state");
    read_until(&mut bad, "event: state");
    broken.store(true, Ordering::Relaxed);
    read_all(&mut bad);
    read_until(&mut live, "event: inputs");
    read_until(&mut live, "event: inputs");
    wait_for("the place", || subscribers.count() == 1);
    broken.store(false, Ordering::Relaxed);
    read_until(&mut join(&subscribers, "bad", true), "event: state");
}

/// A place whose drop panics: on the sending thread, outside of every `catch_unwind`.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(thread::panicking(), "a bug while a subscription ends");
    }
}

#[test]
fn after_a_panic_of_the_thread_the_next_subscriber_is_served() {
    let subscribers = subscribers(&inputs(&["live"]), named());
    let mut neighbour = join(&subscribers, "live", false);
    read_until(&mut neighbour, "event: state");
    let (client, server) = pair();
    let topic = Topic { input: "live".to_owned(), interval: INTERVAL };
    subscribers.join(topic, server, Box::new(Bomb), false, b"HEAD".to_vec()).expect("a thread");
    drop(client);
    read_all(&mut neighbour);
    wait_for("the places", || subscribers.count() == 0);
    read_until(&mut join(&subscribers, "live", false), "event: state");
}

#[test]
fn the_thread_ends_after_the_last_subscriber_and_starts_again() {
    let subscribers = subscribers(&inputs(&["live"]), named());
    for _ in 0..3 {
        read_until(&mut join(&subscribers, "live", false), "event: state");
        wait_for("the thread to end", || subscribers.lock().commands.is_none());
        assert_eq!(subscribers.count(), 0);
    }
}
