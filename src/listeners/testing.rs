//! An input and its listeners for the tests of this module, without a card and without a server.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{ActiveStream, Admission, Admitted, Listeners, Place, Playback, Sound, StartAt, StreamSource};
use crate::config::{self, Interval, Limits};
use crate::inputs::LiveInput;
use crate::media::format::{SampleFormat, StreamFormat};
use crate::media::meter::Meter;
use crate::media::ring::{self, Ring, Writer};
use crate::settings::Settings;

pub(super) const FORMAT: StreamFormat = StreamFormat { rate: 8000, channels: 1, sample: SampleFormat::S16 };
/// Frames in a block of 10 ms.
pub(super) const BLOCK: u64 = 80;
pub(super) const UNLIMITED: Admission = Admission { max: u32::MAX, max_per_client: usize::MAX };
/// An endless stream from the live edge, as bare bytes.
pub(super) const LIVE: Playback = Playback {
    chunked: false,
    prefix: Vec::new(),
    skip: 0,
    length: None,
    suffix: b"",
    icy: None,
    begin: StartAt::Back(0),
    lag_target: Some(0),
};

/// An input whose frames count: the sample of frame n is n modulo 2¹⁶.
pub(super) struct Ramp {
    pub(super) input: Arc<LiveInput>,
    pub(super) ring: Ring,
    writer: Writer,
    published: u64,
}

impl Ramp {
    pub(super) fn new(name: &str, history: Duration) -> Ramp {
        let input = Arc::new(LiveInput::new(name, "test"));
        let (writer, ring) = new_ring(&input, history);
        Ramp { input, ring, writer, published: 0 }
    }

    /// Publishes blocks, the last of which is captured now.
    pub(super) fn publish(&mut self, blocks: u64) {
        for _ in 0..blocks {
            let bytes = samples(self.published..self.published + BLOCK);
            self.writer.publish(&bytes, crate::sys::clock::monotonic_ns());
            self.published += BLOCK;
        }
    }

    /// Puts another ring in the place of this one, which is closed only when the returned writer is dropped. The frames
    /// of the new ring count on, though their indices begin at 0.
    pub(super) fn replace_ring(&mut self, history: Duration) -> Writer {
        let (writer, ring) = new_ring(&self.input, history);
        self.ring = ring;
        std::mem::replace(&mut self.writer, writer)
    }
}

fn new_ring(input: &LiveInput, history: Duration) -> (Writer, Ring) {
    let (writer, ring) = ring::new(FORMAT, BLOCK as u32, history).expect("memory");
    input.set_sound(ring.clone(), Arc::new(Meter::new(FORMAT, BLOCK as u32, history)), history);
    (writer, ring)
}

/// The bytes of the ramp's frames.
pub(super) fn samples(frames: std::ops::Range<u64>) -> Vec<u8> {
    frames.flat_map(|frame| (frame as u16).to_le_bytes()).collect()
}

pub(super) fn listeners(settings: config::Listeners) -> Arc<Listeners> {
    Arc::new(Listeners::new(Arc::new(Settings::new(settings, Limits::default()))))
}

/// Settings by which all listeners get every block.
pub(super) fn every_block() -> config::Listeners {
    config::Listeners { interval: Interval::Every(Duration::from_millis(10)), ..config::Listeners::default() }
}

/// A connection on the loopback: the server's end, its peer, and the client's end.
pub(super) fn connection() -> (TcpStream, SocketAddr, TcpStream) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let client = TcpStream::connect(server.local_addr().expect("it is bound")).expect("it listens");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("it is set");
    let (socket, peer) = server.accept().expect("the client is connected");
    (socket, peer, client)
}

/// A listener of `live` and the client's end of its connection.
pub(super) fn admit(listeners: &Arc<Listeners>) -> (Admitted, TcpStream) {
    let (socket, peer, client) = connection();
    let place: Place = Box::new(());
    let seat =
        listeners.reserve(UNLIMITED, &[peer.ip()], None).unwrap_or_else(|_| panic!("there is no limit"));
    (seat.occupy("live", None, peer, "test/1".to_owned(), socket, place), client)
}

/// A stream that has not started, and the client's end of its connection.
pub(super) fn stream(listeners: &Arc<Listeners>, ramp: &Ramp, body: Playback) -> (ActiveStream, TcpStream) {
    let (listener, client) = admit(listeners);
    let source = StreamSource { input: Arc::clone(&ramp.input), ring: ramp.ring.clone(), sound: Sound::Pcm };
    (ActiveStream::new(listeners, source, listener, body, false, false), client)
}

/// Reads that many bytes.
pub(super) fn read(client: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    client.read_exact(&mut read).expect("the stream goes on");
    read
}

/// Reads to the end of the connection.
pub(super) fn read_to_end(client: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    client.read_to_end(&mut read).expect("the connection ends without a reset");
    read
}

/// Reads what a client that read too slowly still gets. The kernel resets a connection that was closed with data that the
/// client has no room for, if the client waits for long.
pub(super) fn read_rest(client: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let _ = client.read_to_end(&mut read);
    read
}

pub(super) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
