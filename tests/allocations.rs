//! Allocations, a program of its own because it counts them by its own allocator: from the card to the socket there is
//! none per block and none per packet, whatever the codec and the number of listeners. (Those of libmp3lame and libopus
//! are not seen.)

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wavecast::capture::{Capture, CaptureInput};
use wavecast::config;
use wavecast::encode::{Codec, Encoder, OpenError, Options, Target};
use wavecast::http::access::Access;
use wavecast::http::context::Context;
use wavecast::http::gate::listen;
use wavecast::http::server::Server;
use wavecast::inputs::LiveInput;
use wavecast::media::format::{SampleFormat, StreamFormat};

mod support;

use support::material::all_materials;
use support::programs::skip;
use support::wait_for;

/// The system's allocator, which counts the allocations of each thread and of all threads.
struct Counting;

static OF_ALL_THREADS: AtomicU64 = AtomicU64::new(0);
thread_local! {
    static OF_THIS_THREAD: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    OF_ALL_THREADS.fetch_add(1, Ordering::Relaxed);
    // While a thread ends, its counter is gone.
    let _ = OF_THIS_THREAD.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: all calls are passed on to the system's allocator as they are. Counting allocates nothing: the counter of a
// thread is a constant at first and has no destructor.
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

#[test]
fn both_counters_count() {
    let _alone = alone();
    let before = (OF_THIS_THREAD.get(), OF_ALL_THREADS.load(Ordering::Relaxed));
    drop(black_box(vec![0u8; 100]));
    assert_eq!(OF_THIS_THREAD.get() - before.0, 1);
    assert!(OF_ALL_THREADS.load(Ordering::Relaxed) > before.1);
}

/// Waits until no other test of this program runs, whose allocations would be counted too.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

const RATE: u32 = 44_100;

/// A server with one input, all of whose threads are in this process, and clients that listen to it.
struct Studio {
    live: Arc<LiveInput>,
    capture: Option<Capture>,
    context: Arc<Context>,
    _server: Server,
    listener_address: std::net::SocketAddr,
    players: Vec<TcpStream>,
    _alone: MutexGuard<'static, ()>,
}

impl Studio {
    fn open(device: &str, input: config::Input) -> Studio {
        let alone = alone();
        let access = Access::new(&config::Access::default()).expect("no file to be read");
        // A machine that stalls makes no listener too slow: that listener would get a thread.
        let late = Duration::from_secs(10);
        let listeners =
            config::Listeners { send_buffer: late, max_lag: late, ..config::Listeners::default() };
        let context = Arc::new(Context::new(listeners, config::Limits::default(), access));
        let live = Arc::new(LiveInput::new("live", device));
        context.inputs.set(vec![Arc::clone(&live)]);
        let (sender, _events) = crossbeam_channel::unbounded();
        let config =
            config::Input { device: device.parse().expect("a device"), rate: RATE, channels: 2, ..input };
        let inputs = vec![CaptureInput { config, keep: late, live: Arc::clone(&live), timeline: None }];
        let capture = Capture::start(inputs, sender).expect("a thread");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listen::prepare(&listener).expect("it listens");
        let address = listener.local_addr().expect("it is bound");
        wait_for("a ring", || live.ring().map(drop));
        let server = Server::start(Arc::clone(&context)).expect("threads");
        server.open(listener).expect("it is served");
        Studio {
            live,
            capture: Some(capture),
            context,
            _server: server,
            listener_address: address,
            players: Vec::new(),
            _alone: alone,
        }
    }

    /// Connects a client. `fields` are more lines of its request.
    fn listen(&mut self, target: &str, fields: &str) {
        let mut player = TcpStream::connect(self.listener_address).expect("it listens");
        let text = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        player.write_all(text.as_bytes()).expect("sent");
        self.players.push(player);
    }

    /// Reads what all clients get until the input has delivered so many blocks of 10 ms, and returns the number of bytes.
    fn hear(&mut self, blocks: u64) -> usize {
        let mut heard = [0; 64 * 1024];
        let frames = || self.live.counters.frames.load(Ordering::Relaxed);
        let (until, mut bytes) = (frames() + blocks * u64::from(RATE) / 100, 0);
        while frames() < until {
            for player in &mut self.players {
                let count = player.read(&mut heard).expect("sound");
                assert!(count > 0, "the stream goes on");
                bytes += count;
            }
        }
        bytes
    }

    /// Checks that nothing is allocated while 300 blocks are heard, of which all clients get at least `bytes`.
    fn allocates_nothing(&mut self, bytes: usize) {
        // Encoders have started, bursts are sent, all listeners have joined, and buffers have their full size.
        self.hear(400);
        // An allocation per block or packet is there each time. A listener that was too slow once, since this machine
        // stalled for longer than its buffers last, has had a thread of its own.
        let mut allocations = Vec::new();
        while allocations.len() < 5 && allocations.last() != Some(&0) {
            let before = OF_ALL_THREADS.load(Ordering::Relaxed);
            let heard = self.hear(300);
            allocations.push(OF_ALL_THREADS.load(Ordering::Relaxed) - before);
            assert!(heard > bytes, "{heard} bytes were heard");
        }
        assert_eq!(allocations.last(), Some(&0), "allocations while 300 blocks were heard: {allocations:?}");
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        // Threads of this test would be counted in the next one.
        self.players.clear();
        if let Some(capture) = self.capture.take() {
            capture.stop();
        }
    }
}

#[test]
fn nothing_is_allocated_per_block() {
    const LISTENERS: usize = 20;
    let mut studio = Studio::open(
        // A card as libasound sees it, with a conversion.
        "null",
        config::Input { pick: config::Pick::Channels(vec![2, 1]), gain_db: -3.0, ..config::Input::default() },
    );
    for number in 0..LISTENERS {
        studio.listen(if number < 15 { "/live.wav" } else { "/live.wav?latency=low" }, "");
    }
    studio.allocates_nothing(LISTENERS * RATE as usize * 4 * 2);
}

#[test]
fn nothing_is_allocated_per_packet_of_a_stream() {
    const STREAMS: [(&str, &str); 5] = [
        ("/live.flac", ""),
        ("/live.mp3", ""),
        ("/live.mp3", "Icy-MetaData: 1\r\n"),
        ("/live.opus", ""),
        ("/live.flac?latency=low", ""),
    ];
    let mut studio = Studio::open("synth:noise", config::Input::default());
    // Without its library there is no stream of a codec, only a refusal that ends.
    let offered: Vec<&str> = studio.context.encodings.codecs(None).into_iter().map(Codec::name).collect();
    for (target, fields) in
        STREAMS.iter().filter(|(target, _)| offered.iter().any(|codec| target.contains(codec)))
    {
        (0..4).for_each(|_| studio.listen(target, fields));
    }
    studio.allocates_nothing(100_000);
}

#[test]
fn nothing_is_allocated_per_packet_of_an_encoder() {
    let _alone = alone();
    let stereo = StreamFormat { rate: 48_000, channels: 2, sample: SampleFormat::S16 };
    let surround = StreamFormat { rate: 44_100, channels: 6, sample: SampleFormat::S32 };
    for codec in Codec::ALL {
        for target in [Target::Listeners, Target::Push] {
            for format in [stereo, surround] {
                let pcm = all_materials(format);
                let mut encoder = match codec.open(format, &Options { target, ..Options::default() }) {
                    Err(OpenError::Library(missing)) => {
                        skip(&missing.to_string());
                        continue;
                    }
                    other => other.expect("an encoder"),
                };
                let mut packets = 0;
                let mut hear = |encoder: &mut dyn Encoder| {
                    for piece in pcm.chunks(441 * format.frame_bytes()) {
                        encoder.encode(piece, &mut |_| packets += 1).expect("no error");
                    }
                };
                // The thread's first use of the counter, and of LAME's lazy tables.
                hear(&mut *encoder);
                let before = OF_THIS_THREAD.get();
                hear(&mut *encoder);
                assert_eq!(OF_THIS_THREAD.get() - before, 0, "{codec} for {target:?}, {format}");
                assert!(packets > 10);
            }
        }
    }
}
