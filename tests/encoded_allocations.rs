//! Allocations of encoded streams, a program of its own because it counts them by its own allocator: from card to socket
//! there is none per packet, whatever the codec and the number of listeners. (Those of libmp3lame and libopus are not seen.)

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use wavecast::capture::{Capture, CaptureInput};
use wavecast::config;
use wavecast::encode::Codec;
use wavecast::http::access::Access;
use wavecast::http::context::Context;
use wavecast::http::gate::listen;
use wavecast::http::server::Server;
use wavecast::inputs::LiveInput;

struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static COUNTED: AtomicU64 = AtomicU64::new(0);

fn count() {
    if COUNTS.load(Ordering::Relaxed) {
        COUNTED.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: all calls are passed on to the system's allocator as they are. Counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the same.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RATE: u32 = 44_100;
/// The requests of the listeners, each of which is made several times.
const STREAMS: [(&str, &str); 5] = [
    ("/live.flac", ""),
    ("/live.mp3", ""),
    ("/live.mp3", "Icy-MetaData: 1\r\n"),
    ("/live.opus", ""),
    ("/live.flac?latency=low", ""),
];
const TIMES: usize = 4;

#[test]
fn nothing_is_allocated_per_packet() {
    let access = Access::new(&config::Access::default()).expect("no file to be read");
    // A machine that stalls makes no listener too slow: that listener would get a thread.
    let late = Duration::from_secs(10);
    let listeners = config::Listeners { send_buffer: late, max_lag: late, ..config::Listeners::default() };
    let context = Arc::new(Context::new(listeners, config::Limits::default(), access));
    let input = config::Input {
        device: "synth:noise".parse().expect("a device"),
        rate: RATE,
        channels: 2,
        ..config::Input::default()
    };
    let live = Arc::new(LiveInput::new("live", "synth:noise"));
    context.inputs.set(vec![Arc::clone(&live)]);
    let (sender, _events) = crossbeam_channel::unbounded();
    let inputs = vec![CaptureInput { config: input, keep: late, live: Arc::clone(&live), timeline: None }];
    let _capture = Capture::start(inputs, sender).expect("a thread");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listen::prepare(&listener).expect("it listens");
    let address = listener.local_addr().expect("it is bound");
    while live.ring().is_none() {
        thread::sleep(Duration::from_millis(10));
    }
    let server = Server::start(Arc::clone(&context)).expect("threads");
    server.open(listener).expect("it is served");
    // Without its library there is no stream of a codec, only a refusal that ends.
    let offered: Vec<&str> = context.encodings.codecs(None).into_iter().map(Codec::name).collect();
    let mut players: Vec<TcpStream> = STREAMS
        .iter()
        .filter(|(target, _)| offered.iter().any(|codec| target.contains(codec)))
        .flat_map(|stream| [stream; TIMES])
        .map(|(target, fields)| {
            let mut player = TcpStream::connect(address).expect("it listens");
            let text = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
            player.write_all(text.as_bytes()).expect("sent");
            player
        })
        .collect();
    let mut heard = vec![0; 64 * 1024];
    let mut hear = |blocks: u64| {
        let before = live.counters.frames.load(Ordering::Relaxed);
        let mut bytes = 0;
        while live.counters.frames.load(Ordering::Relaxed) < before + blocks * u64::from(RATE) / 100 {
            for player in &mut players {
                let count = player.read(&mut heard).expect("sound");
                assert!(count > 0, "the stream goes on");
                bytes += count;
            }
        }
        bytes
    };
    // Encoders have started, all listeners have joined, and buffers have their full size.
    hear(400);
    // An allocation per packet is seen each time. A listener that was too slow, since this machine stalled for
    // longer than its buffers last, has had a thread of its own.
    let mut allocations = Vec::new();
    while allocations.len() < 5 && allocations.last() != Some(&0) {
        COUNTED.store(0, Ordering::Relaxed);
        COUNTS.store(true, Ordering::Relaxed);
        let bytes = hear(300);
        COUNTS.store(false, Ordering::Relaxed);
        assert!(bytes > 100_000, "{bytes} bytes were heard");
        allocations.push(COUNTED.load(Ordering::Relaxed));
    }
    assert_eq!(allocations.last(), Some(&0), "allocations while 300 blocks were heard: {allocations:?}");
}
