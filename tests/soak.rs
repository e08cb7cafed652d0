//! A soak test, a program of its own because it can run for hours: the fake card runs at 20 times its speed, a fault
//! happens every few of its minutes, and listeners come and go.
//!
//! `WAVECAST_SOAK_SECONDS` is the length, in real seconds: 4320 are a day of the card. At the end the witness, a
//! listener that was always connected, has heard every frame that the card delivered; silence takes the place of
//! every lost frame, and the daemon has counted it; and the daemon is as large as it was at the beginning.

mod support;

use std::fs;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use support::card::{CardFormat, CardOptions, Cards, Order};
use support::daemon::Daemon;
use support::http;
use support::listening::number;
use support::ramp::{RampReader, Stretch};
use support::{let_pass, wait_for};

const SPEED: f64 = 20.0;
/// The number of listeners beside the witness.
const VISITORS: u64 = 19;
/// The largest growth of the process between the first and the last look, in KB: two pages of a heap here and there.
const GROWTH: u64 = 1024;

/// Times are those of the stream, and so shorter by the factor. No listener may count as slow because this machine
/// stalled for 100 ms.
const CONFIG: &str = "
[listeners]
max_lag_ms = 60000
send_buffer_ms = 5000
[input.live]
device = \"fake\"
period_ms = 100
buffer_ms = 10000
history_seconds = 300
";

/// The faults that can happen.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Overrun,
    Storm,
    Unplug,
    Hang,
    ReadError,
    BadDescriptor,
    BusyAfterReplug,
    AnotherRate,
    AnotherClock,
}

const FAULTS: [Fault; 9] = [
    Fault::Overrun,
    Fault::Storm,
    Fault::Unplug,
    Fault::Hang,
    Fault::ReadError,
    Fault::BadDescriptor,
    Fault::BusyAfterReplug,
    Fault::AnotherRate,
    Fault::AnotherClock,
];

/// A generator of random numbers (SplitMix64). Each run has the same faults at the same times, as far as the machine
/// allows.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % sides
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.roll(to - from))
    }
}

/// A listener that hears everything, from the first frame to the last, and connects again when the format changes.
struct Witness {
    heard: Arc<Mutex<Heard>>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Heard {
    ramp: u64,
    silence: u64,
    streams: u64,
    jumps: u64,
}

impl Witness {
    fn start(daemon: &Daemon) -> Witness {
        let (address, done) = (daemon.address(), Arc::new(AtomicBool::new(false)));
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let (notes, end) = (Arc::clone(&heard), Arc::clone(&done));
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                // A new stream is younger than its history, so this is all of it.
                let mut response = http::request(address, "GET", "/live.wav?back=300", "1.1", &[]);
                assert_eq!(response.status, 200);
                response.bytes(44);
                let mut ramp = RampReader::new(CardFormat::S16, 2);
                let (before_ramp, before_silence) = {
                    let mut heard = notes.lock().expect("nobody panics");
                    heard.streams += 1;
                    (heard.ramp, heard.silence)
                };
                let mut bytes = vec![0; 256 * 1024];
                loop {
                    match response.body.read(&mut bytes) {
                        Ok(0) => break,
                        Ok(count) => ramp.feed(&bytes[..count]),
                        Err(error) => panic!("the witness was cut off: {error}"),
                    }
                    if end.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut heard = notes.lock().expect("nobody panics");
                    (heard.ramp, heard.silence) =
                        (before_ramp + ramp.ramp_frames(), before_silence + ramp.silence_frames());
                }
                notes.lock().expect("nobody panics").jumps += jumps(&ramp);
            }
        });
        Witness { heard, done, thread: Some(thread) }
    }

    fn heard(&self) -> (u64, u64) {
        let heard = self.heard.lock().expect("nobody panics");
        (heard.ramp, heard.silence)
    }
}

/// Returns the number of jumps of the ramp without silence in them. At the card's true speed there is none. At this
/// speed an overrun may be shorter than a block seems to be, and is then not filled.
fn jumps(ramp: &RampReader) -> u64 {
    let pairs = ramp.stretches.windows(2);
    pairs.filter(|pair| matches!(pair, [Stretch::Ramp { .. }, Stretch::Ramp { .. }])).count() as u64
}

/// Starts a visitor, which listens for a while, checks each frame, and leaves, again and again.
fn visit(
    daemon: &Daemon,
    number: u64,
    pause: &Arc<AtomicBool>,
    done: &Arc<AtomicBool>,
    visits: &Arc<AtomicU64>,
    most_jumps: &Arc<AtomicU64>,
) -> JoinHandle<()> {
    let address = daemon.address();
    let (pause, done) = (Arc::clone(pause), Arc::clone(done));
    let (visits, most_jumps) = (Arc::clone(visits), Arc::clone(most_jumps));
    thread::spawn(move || {
        let mut dice = Dice(number);
        while !done.load(Ordering::Relaxed) {
            if pause.load(Ordering::Relaxed) {
                let_pass(Duration::from_millis(20));
                continue;
            }
            let target = ["/live.wav", "/live.wav?latency=low", "/live.wav?back=60", "/live.wav?for=30"]
                [dice.roll(4) as usize];
            let mut response = http::request(address, "GET", target, "1.1", &[]);
            assert_eq!(response.status, 200, "{target}");
            let mut ramp = RampReader::new(CardFormat::S16, 2);
            response.bytes(44);
            let until = Instant::now() + dice.millis(100, 8000);
            let mut bytes = vec![0; 256 * 1024];
            while Instant::now() < until && !pause.load(Ordering::Relaxed) {
                match response.body.read(&mut bytes) {
                    // The format has changed, or the stream was a recording.
                    Ok(0) => break,
                    Ok(count) => ramp.feed(&bytes[..count]),
                    // A recording whose format has changed meanwhile is shorter than its length.
                    Err(error) if target.contains("for=") => {
                        assert!(
                            matches!(error.kind(), std::io::ErrorKind::UnexpectedEof),
                            "{target}: {error}"
                        );
                        break;
                    }
                    Err(error) => panic!("{target}: {error}"),
                }
            }
            most_jumps.fetch_max(jumps(&ramp), Ordering::Relaxed);
            visits.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// The size of the process.
#[derive(Clone, Copy, Debug)]
struct Size {
    kilobytes: u64,
    threads: u64,
    descriptors: usize,
}

impl Size {
    fn of(daemon: &Daemon) -> Size {
        let process = format!("/proc/{}", daemon.pid());
        let status = fs::read_to_string(format!("{process}/status")).expect("it runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says so");
            line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
        };
        let descriptors = fs::read_dir(format!("{process}/fd")).expect("it runs").count();
        Size { kilobytes: field("RssAnon:"), threads: field("Threads:"), descriptors }
    }
}

#[test]
fn a_long_time_with_a_bad_card_loses_nothing_that_is_not_accounted_for_and_leaks_nothing() {
    let seconds =
        std::env::var("WAVECAST_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let began = Instant::now();
    let end = began + Duration::from_secs(seconds);
    let options = || CardOptions { rates: vec![44_100], speed: SPEED, ..CardOptions::default() };
    let mut cards = Cards::with([("fake", options())]);
    let daemon = Daemon::start(Some(&cards), CONFIG);
    daemon.wait_for_state("live", "capturing");
    let witness = Witness::start(&daemon);
    wait_for("the witness", || (daemon.listeners().len() == 1).then_some(()));
    // Its fan-out thread runs then.
    wait_for("the witness to be served", || (witness.heard().0 > 44_100).then_some(()));
    let alone = Size::of(&daemon);
    let (pause, done, visits) = (Arc::new(AtomicBool::new(false)), Arc::clone(&witness.done), Arc::default());
    let most_jumps: Arc<AtomicU64> = Arc::default();
    let visitors: Vec<_> =
        (1..=VISITORS).map(|number| visit(&daemon, number, &pause, &done, &visits, &most_jumps)).collect();

    let mut dice = Dice(2026);
    let (mut first, mut faults, mut last_look) = (None, 0, Instant::now());
    let mut rate = 44_100;
    loop {
        let_pass(dice.millis(1000, 4000));
        let fault = FAULTS[dice.roll(FAULTS.len() as u64) as usize];
        faults += 1;
        let card = cards.card("fake");
        match fault {
            Fault::Overrun => card.command(Order::Overrun),
            Fault::Storm => card.command(Order::Storm),
            Fault::Hang => card.command(Order::Hang),
            Fault::ReadError => card.command(Order::ReadEio),
            Fault::BadDescriptor => card.command(Order::ReadBadFd),
            Fault::Unplug | Fault::BusyAfterReplug | Fault::AnotherRate | Fault::AnotherClock => {
                card.command(Order::Unplug);
                daemon.wait_for_state("live", "lost");
            }
        }
        let_pass(dice.millis(50, 3000));
        match fault {
            Fault::BusyAfterReplug => {
                cards.card("fake").command(Order::Busy);
                let_pass(dice.millis(50, 500));
            }
            Fault::AnotherRate => {
                rate = if rate == 44_100 { 48_000 } else { 44_100 };
                cards.exchange("fake", CardOptions { rates: vec![rate], ..options() });
            }
            Fault::AnotherClock => {
                cards.exchange(
                    "fake",
                    CardOptions {
                        rates: vec![rate],
                        ppm: [200.0, -200.0][dice.roll(2) as usize],
                        ..options()
                    },
                );
            }
            _ => {}
        }
        cards.card("fake").command(Order::Run);
        daemon.wait_for_state("live", "capturing");
        let over = Instant::now() > end;
        if over || last_look.elapsed() > Duration::from_secs(20) {
            last_look = Instant::now();
            pause.store(true, Ordering::Relaxed);
            look(&daemon, &cards, &witness);
            let size = wait_for_quiet(&daemon, alone);
            // The process reaches its full size within the first tenth of the time, in which each thread's heap is
            // used once.
            let settles = began.elapsed().as_secs() < seconds / 10;
            let first = first.get_or_insert(size);
            if settles {
                first.kilobytes = first.kilobytes.max(size.kilobytes);
            }
            assert!(size.kilobytes <= first.kilobytes + GROWTH, "{first:?} at first, {size:?} now");
            let input = daemon.input("live");
            println!(
                "{faults} faults, {} visits, {} frames, {} of silence, {} overruns, {} losses; {size:?}",
                visits.load(Ordering::Relaxed),
                number(&input, "frames"),
                number(&input, "silence_frames"),
                number(&input, "overruns"),
                number(&input, "losses"),
            );
            // Every jump is an overrun, and every overrun is counted.
            let overruns = number(&input, "overruns");
            assert_eq!(overruns, cards.card("fake").position().overruns);
            let jumps =
                most_jumps.load(Ordering::Relaxed).max(witness.heard.lock().expect("nobody panics").jumps);
            assert!(jumps <= overruns, "{jumps} jumps, {overruns} overruns");
            if over {
                break;
            }
            pause.store(false, Ordering::Relaxed);
        }
    }
    done.store(true, Ordering::Relaxed);
    for visitor in visitors {
        visitor.join().expect("every visitor heard the ramp and silence, and nothing else");
    }
}

/// Stops the card for a moment, and checks that the witness has heard all frames that the card has delivered.
fn look(daemon: &Daemon, cards: &Cards, witness: &Witness) {
    let card = cards.card("fake");
    card.command(Order::Unplug);
    daemon.wait_for_state("live", "lost");
    let gave = card.position();
    let heard = wait_for("the witness to hear all that the card gave", || {
        let (ramp, _) = witness.heard();
        (ramp >= gave.delivered).then_some(ramp)
    });
    assert_eq!(heard, gave.delivered);
    let input = daemon.input("live");
    assert_eq!(number(&input, "frames"), gave.delivered);
    let skipped: u64 = daemon.listeners().iter().map(|listener| number(listener, "frames_skipped")).sum();
    assert_eq!(skipped, 0);
    card.command(Order::Run);
    daemon.wait_for_state("live", "capturing");
}

/// Waits until only the witness is connected, and returns the size of the process.
fn wait_for_quiet(daemon: &Daemon, alone: Size) -> Size {
    wait_for("visitors to leave", || (daemon.listeners().len() == 1).then_some(()));
    // The threads and descriptors of the other listeners end a moment after their connections.
    wait_for("as few threads and descriptors as with the witness alone", || {
        let size = Size::of(daemon);
        // The thread that logs who connects again and again runs from its first line on.
        (size.threads <= alone.threads + 1 && size.descriptors <= alone.descriptors).then_some(size)
    })
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(thread::panicking() || result.is_ok(), "the witness heard something else");
        }
    }
}
