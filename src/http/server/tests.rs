//! What a bug in one listener's or one request's thread does to the others: nothing.

use std::io::{Read, Write};
use std::time::Instant;

use super::*;
use crate::capture::Capture;
use crate::capture::event::CaptureEvent;
use crate::config::{self, Limits};
use crate::http::access::Access;
use crate::inputs::LiveInput;

/// The log of all tests in this program.
static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}", record.level(), record.args());
        // What another test says by its panic is still seen.
        eprintln!("{line}");
        LOG.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn flush(&self) {}
}

/// A server with an input whose sound goes on as long as this lives.
struct Room {
    server: Server,
    context: Arc<Context>,
    _capture: (Capture, crossbeam_channel::Receiver<CaptureEvent>),
}

impl Room {
    fn new() -> Room {
        static LOGGER: Logger = Logger;
        if log::set_logger(&LOGGER).is_ok() {
            log::set_max_level(log::LevelFilter::Info);
            panics::install();
        }
        let access = Access::new(&config::Access::default()).expect("no file to be read");
        let context = Arc::new(Context::new(config::Listeners::default(), Limits::default(), access));
        let input = config::Input {
            device: "synth:noise".parse().expect("a device"),
            rate: 8000,
            channels: 1,
            ..config::Input::default()
        };
        let live = Arc::new(LiveInput::new("live", "synth:noise"));
        context.inputs.set(vec![Arc::clone(&live)]);
        let (sender, events) = crossbeam_channel::unbounded();
        let keep = Duration::from_secs(1);
        let capture = Capture::start(input, keep, Arc::clone(&live), sender, None).expect("a thread");
        wait_for("sound", || live.ring().is_some());
        let guard = Guard::start(Arc::clone(&context)).expect("a thread");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        prepare(&listener).expect("it listens");
        let server = Server::start(listener, Arc::clone(&context), &guard).expect("threads");
        Room { server, context, _capture: (capture, events) }
    }

    fn ask(&self, target: &str, player: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.server.address()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        let text = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {player}\r\n\r\n");
        stream.write_all(text.as_bytes()).expect("sent");
        stream
    }
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads so many bytes; false if the stream ended before.
fn hears(stream: &mut TcpStream, bytes: usize) -> bool {
    stream.read_exact(&mut vec![0; bytes]).is_ok()
}

#[test]
fn a_panic_ends_the_thread_it_happens_in_is_logged_once_and_gives_its_place_back() {
    let room = Room::new();
    let mut others: Vec<TcpStream> = (0..5).map(|_| room.ask("/live.wav", "fine/1")).collect();
    assert!(others.iter_mut().all(|one| hears(one, 2000)));
    assert!(others.iter_mut().all(|one| hears(one, 16_000)), "the others hear on");

    // And a request that never gets to listen.
    let mut broken = room.ask("/panic", "any/1");
    let mut answer = String::new();
    let _ = broken.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 500 "), "{answer}");
    let mut healthy = room.ask("/status.json", "fine/1");
    assert!(hears(&mut healthy, 100));
    drop((others, healthy));
    wait_for("all places to be free", || room.context.listeners.count() == 0 && room.server.is_idle());

    // Not held any more when this test fails, which is logged too.
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let bugs: Vec<&String> = log.iter().filter(|line| line.contains("a bug in wavecast")).collect();
    assert_eq!(bugs.len(), 1, "{bugs:?}");
    for (bug, what) in bugs.iter().zip(["while answering"]) {
        assert!(bug.starts_with("ERROR ") && bug.contains(what) && bug.contains("\"listener\""), "{bug}");
    }
}
