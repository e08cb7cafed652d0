//! A listener in a thread of its own, which stays connected and records the stretches of its stream.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::card::{Card, Counters, Order};
use super::daemon::Daemon;
use super::http::Response;
use super::ramp::RampReader;
use super::server::Server;
use super::{PATIENCE, wait_for};

/// The largest difference between the length of a stream and the time that has passed.
pub(crate) const CLOSE: Duration = Duration::from_millis(150);

/// The way a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The end that the framing announces.
    Complete,
    /// A cut of the connection.
    Cut,
}

/// A connected listener of the input `live`. It disconnects on drop.
pub(crate) struct Listener {
    heard: Arc<Mutex<Heard>>,
    socket: TcpStream,
    thread: Option<JoinHandle<()>>,
    rate: u32,
    /// The time of the start, and the length of the stream then in frames, if they are known.
    began: Option<(Instant, u64)>,
}

struct Heard {
    ramp: RampReader,
    ending: Option<Ending>,
}

impl Listener {
    /// Listens from the stream's first frame on. The stream must be younger than its history.
    pub(crate) fn from_the_beginning(daemon: &Daemon, ramp: RampReader) -> Listener {
        Listener::start(daemon, "/live.wav?back=30", ramp)
    }

    /// Starts to listen.
    pub(crate) fn start(server: &Server, target: &str, ramp: RampReader) -> Listener {
        // The stream is compared with this time, so the question is repeated if this machine has stalled meanwhile.
        let began = wait_for("a quick answer", || {
            let now = Instant::now();
            let input = server.input("live");
            let frames = number(&input, "frames") + number(&input, "silence_frames");
            (now.elapsed() < CLOSE / 10).then_some((now, frames))
        });
        Listener::to(server.get(target), Some(began), ramp)
    }

    /// Starts to listen to a machine that is too far or too slow to say at once how long its stream is. The stream
    /// cannot be compared with the clock.
    pub(crate) fn from_afar(server: &Server, target: &str, ramp: RampReader) -> Listener {
        Listener::to(server.get(target), None, ramp)
    }

    fn to(mut response: Response, began: Option<(Instant, u64)>, ramp: RampReader) -> Listener {
        assert_eq!(response.status, 200);
        let header = response.bytes(44);
        let rate = u32::from_le_bytes(header[24..28].try_into().expect("four bytes"));
        let socket = response.body.socket().try_clone().expect("a descriptor");
        let heard = Arc::new(Mutex::new(Heard { ramp, ending: None }));
        let shared = Arc::clone(&heard);
        let thread = std::thread::spawn(move || {
            let mut bytes = vec![0; 256 * 1024];
            loop {
                let count = response.body.read(&mut bytes);
                let mut heard = shared.lock().expect("only this thread can panic holding it");
                match count {
                    Ok(0) => break heard.ending = Some(Ending::Complete),
                    Ok(count) => heard.ramp.feed(&bytes[..count]),
                    Err(_) => break heard.ending = Some(Ending::Cut),
                }
            }
        });
        Listener { heard, socket, thread: Some(thread), rate, began }
    }

    /// Returns the stream until now.
    pub(crate) fn heard(&self) -> RampReader {
        self.look(|heard| heard.ramp.clone())
    }

    /// Returns something of the stream until now.
    pub(crate) fn look_at<T>(&self, look: impl FnOnce(&RampReader) -> T) -> T {
        self.look(|heard| look(&heard.ramp))
    }

    /// Returns the rate in frames a second, as the stream's header has it.
    pub(crate) fn rate(&self) -> u32 {
        self.rate
    }

    /// Returns the way the stream ended, if it has ended.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.look(|heard| heard.ending)
    }

    /// Waits until the stream is as a test wants it.
    pub(crate) fn wait_until(&self, event: &str, wanted: impl Fn(&RampReader) -> bool) {
        wait_for(event, || self.look(|heard| wanted(&heard.ramp)).then_some(()));
    }

    /// Waits until `time` more of the ramp has come.
    pub(crate) fn hear_more(&self, time: Duration) {
        let until = self.look(|heard| heard.ramp.ramp_frames()) + self.frames_in(time);
        self.wait_until("more of the ramp", |ramp| ramp.ramp_frames() >= until);
    }

    /// Waits until `time` more of silence has come.
    pub(crate) fn hear_silence(&self, time: Duration) {
        let until = self.look(|heard| heard.ramp.silence_frames()) + self.frames_in(time);
        self.wait_until("more silence", |ramp| ramp.silence_frames() >= until);
    }

    /// Waits until the stream is as long as the time that has passed, neither late nor early.
    ///
    /// # Panics
    ///
    /// If the stream stays late or early, or has ended.
    pub(crate) fn keeps_up_with_the_clock(&self) {
        let end = Instant::now() + PATIENCE;
        let (began, before) = self.began.expect("a listener with a known start");
        loop {
            let heard = self.look_at(RampReader::frames) as f64 / f64::from(self.rate);
            let late = before as f64 / f64::from(self.rate) + began.elapsed().as_secs_f64() - heard;
            if late.abs() < CLOSE.as_secs_f64() {
                break;
            }
            assert!(Instant::now() < end, "{late:.3} s late: {}", self.heard().shown());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(self.ending(), None, "it is connected");
    }

    /// Compares the stream, from the card's first frame on, with the frames that the card has delivered. Unplugs the
    /// card, so that its counters stand still, and returns them.
    ///
    /// # Panics
    ///
    /// If a single frame is missing, or one is too many.
    pub(crate) fn got_all_that_the_card_gave(&self, daemon: &Daemon, card: &Card) -> Counters {
        card.command(Order::Unplug);
        daemon.wait_for_state("live", "lost");
        let gave = card.position();
        self.wait_until("all that the card gave", |ramp| ramp.ramp_frames() >= gave.delivered);
        let heard = self.heard();
        assert_eq!(heard.ramp_frames(), gave.delivered, "{}", heard.shown());
        assert_eq!(number(&daemon.input("live"), "frames"), gave.delivered);
        gave
    }

    /// Compares the stream like [`Listener::got_all_that_the_card_gave`], and the holes with the frames that the card
    /// has lost: their sum exactly, and each with the silence in its place within [`CLOSE`].
    pub(crate) fn missed_what_the_card_lost(&self, daemon: &Daemon, card: &Card) {
        let gave = self.got_all_that_the_card_gave(daemon, card);
        let heard = self.heard();
        let missing: u64 = heard.holes().iter().map(|hole| hole.missing).sum();
        assert_eq!(missing, gave.lost(), "{}", heard.shown());
        for hole in heard.holes() {
            assert!(self.time(hole.missing.abs_diff(hole.silence)) < CLOSE, "{}", heard.shown());
        }
    }

    /// Returns the length of `frames`.
    pub(crate) fn time(&self, frames: u64) -> Duration {
        Duration::from_secs_f64(frames as f64 / f64::from(self.rate))
    }

    fn frames_in(&self, time: Duration) -> u64 {
        (time.as_secs_f64() * f64::from(self.rate)) as u64
    }

    fn look<T>(&self, look: impl FnOnce(&Heard) -> T) -> T {
        look(&self.heard.lock().expect("the stream is not the ramp"))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns a number in an input's status.
pub(crate) fn number(input: &serde_json::Value, key: &str) -> u64 {
    input[key].as_u64().unwrap_or_else(|| panic!("no {key} in {input}"))
}
