//! Tests of the two threads of a capture, with sources that the test controls.

use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{bounded, unbounded};

use super::source::{SourceLost, SourceRead};
use super::*;
use crate::config::Input;
use crate::inputs::{SourceInfo, Trouble};
use crate::media::format::{SampleFormat, SourceSample};

const RATE: u32 = 8000;

/// The longest time that a call which does not hang takes on a machine that stalls.
const NO_HANG: Duration = Duration::from_secs(20);

/// A record of what happened to the sources of one test, in order: "open", "start", "read" and what a source adds to
/// it, and "closed by THREAD".
type Diary = Arc<Mutex<Vec<String>>>;

fn note(diary: &Diary, line: &str) {
    diary.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
}

fn lines(diary: &Diary) -> Vec<String> {
    diary.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A source of silence in blocks of 10 ms.
struct TestSource {
    info: SourceInfo,
    diary: Diary,
    /// Reads that give sound before the source is lost.
    reads: u32,
    /// Time that closing takes.
    closing: Duration,
    /// The start fails.
    does_not_start: bool,
    /// The input: at the first read, the diary notes whether it has a ring.
    input: Option<Arc<LiveInput>>,
}

impl TestSource {
    /// Returns the result of an open: a source, after `change`.
    fn open(diary: &Diary, change: impl FnOnce(&mut TestSource)) -> Result<Box<dyn Source>, OpenError> {
        let mut source = TestSource::new(diary);
        change(&mut source);
        Ok(Box::new(source))
    }

    fn new(diary: &Diary) -> TestSource {
        note(diary, "open");
        let info = SourceInfo {
            device: "test".to_owned(),
            card: None,
            rate: RATE,
            channels: 1,
            sample: SourceSample::S16,
            block_frames: RATE / 100,
            buffer_frames: RATE,
        };
        let diary = Arc::clone(diary);
        TestSource {
            info,
            diary,
            reads: u32::MAX,
            closing: Duration::ZERO,
            does_not_start: false,
            input: None,
        }
    }
}

impl Source for TestSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn start(&mut self) -> Result<(), OpenError> {
        note(&self.diary, "start");
        if self.does_not_start { Err(unavailable()) } else { Ok(()) }
    }

    fn read(&mut self, out: &mut [u8]) -> Result<SourceRead, SourceLost> {
        if let Some(input) = self.input.take() {
            note(
                &self.diary,
                if input.ring().is_some() { "read with a ring" } else { "read without a ring" },
            );
        }
        thread::sleep(Duration::from_millis(10));
        self.reads = self.reads.checked_sub(1).ok_or(SourceLost::Unplugged)?;
        out.fill(0);
        Ok(SourceRead::Frames { frames: RATE as usize / 100, captured_at: monotonic_ns() })
    }
}

impl Drop for TestSource {
    fn drop(&mut self) {
        thread::sleep(self.closing);
        let name = thread::current().name().unwrap_or_default().to_owned();
        note(&self.diary, &format!("closed by {name}"));
    }
}

fn config() -> Input {
    Input { rate: RATE, channels: 1, format: SampleFormat::S16, realtime_priority: 0, ..Input::default() }
}

const KEEP: Duration = Duration::from_secs(31);

fn start(
    input: &Arc<LiveInput>,
    timeline: Option<Timeline>,
    open: impl Fn(&Input) -> Result<Box<dyn Source>, OpenError> + Send + 'static,
) -> (Capture, Receiver<CaptureEvent>) {
    let (sender, events) = unbounded();
    let live = Arc::clone(input);
    let inputs = vec![CaptureInput { config: config(), keep: KEEP, live, timeline }];
    let capture = Capture::start_with(Box::new(open), inputs, sender);
    (capture.expect("threads"), events)
}

/// Stops the capture of one input.
fn stop(capture: Capture, timeout: Duration) -> Option<Timeline> {
    capture.stop_within(timeout).pop().flatten()
}

fn new_input() -> Arc<LiveInput> {
    Arc::new(LiveInput::new("live", "test"))
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn unavailable() -> OpenError {
    OpenError { advice: "not now".to_owned(), trouble: Trouble::Other }
}

#[test]
fn a_lost_source_and_a_stopped_one_are_closed_by_the_opener_thread() {
    let (input, diary) = (new_input(), Diary::default());
    let sources = Arc::clone(&diary);
    let (capture, _events) =
        start(&input, None, move |_| TestSource::open(&sources, |source| source.reads = 3));
    wait_for("two losses", || input.counters.losses.load(Ordering::Relaxed) >= 2);
    assert!(stop(capture, NO_HANG).is_some());
    let closed: Vec<String> = lines(&diary).into_iter().filter(|line| line.starts_with("closed")).collect();
    assert!(closed.len() >= 2 && closed.iter().all(|line| line == "closed by open live"), "{closed:?}");
    let opened = lines(&diary).iter().filter(|line| *line == "open").count();
    assert_eq!(closed.len(), opened, "stop() returns after the last close");
}

#[test]
fn an_opener_that_fails_or_panics_goes_on() {
    let (input, diary) = (new_input(), Diary::default());
    let attempts = Arc::<AtomicU32>::default();
    let (sources, count) = (Arc::clone(&diary), Arc::clone(&attempts));
    let (capture, _events) = start(&input, None, move |_| {
        let attempt = count.fetch_add(1, Ordering::Relaxed);
        match attempt {
            // Another reason each time, so that there is only the shortest pause in between.
            0..=5 if attempt % 2 == 1 => panic!("a test's panic"),
            0..=5 => Err(unavailable()),
            _ => TestSource::open(&sources, |_| {}),
        }
    });
    wait_for("sound", || input.counters.frames.load(Ordering::Relaxed) > 0);
    assert_eq!(attempts.load(Ordering::Relaxed), 7);
    assert!(stop(capture, NO_HANG).is_some());
}

#[test]
fn a_close_that_hangs_delays_a_stop_by_the_stop_timeout_only() {
    let (input, diary) = (new_input(), Diary::default());
    let sources = Arc::clone(&diary);
    let closing = Duration::from_secs(60);
    let (capture, _events) =
        start(&input, None, move |_| TestSource::open(&sources, |source| source.closing = closing));
    wait_for("sound", || input.counters.frames.load(Ordering::Relaxed) > 0);
    let began = Instant::now();
    // Long enough for the capture thread of a machine that stalls, and shorter than the close.
    let timeline = stop(capture, Duration::from_secs(6));
    assert!(timeline.is_some(), "the capture thread itself does not hang");
    assert!(began.elapsed() < NO_HANG, "{:?}", began.elapsed());
}

/// A source whose first read hangs until the test ends.
struct HangingSource(TestSource, Receiver<()>);

impl Source for HangingSource {
    fn info(&self) -> &SourceInfo {
        self.0.info()
    }

    fn start(&mut self) -> Result<(), OpenError> {
        self.0.start()
    }

    fn read(&mut self, out: &mut [u8]) -> Result<SourceRead, SourceLost> {
        note(&self.0.diary, "read");
        let _ = self.1.recv();
        self.0.read(out)
    }
}

#[test]
fn a_read_that_hangs_costs_its_ring_and_readers_find_the_next_one() {
    let (input, diary) = (new_input(), Diary::default());
    let (_hold, held) = bounded(0);
    let sources = Arc::clone(&diary);
    let (capture, _events) =
        start(&input, None, move |_| Ok(Box::new(HangingSource(TestSource::new(&sources), held.clone()))));
    wait_for("a ring", || input.ring().is_some());
    let orphan = input.ring().expect("a ring");
    // A capture that is stopped before its read begins does not hang.
    wait_for("the read", || lines(&diary).contains(&"read".to_owned()));
    let began = Instant::now();
    assert!(stop(capture, STOP_TIMEOUT).is_none());
    assert!(began.elapsed() < NO_HANG, "{:?}", began.elapsed());

    let sources = Arc::clone(&diary);
    let (next, _events) = start(&input, None, move |_| TestSource::open(&sources, |_| {}));
    wait_for("sound", || input.counters.frames.load(Ordering::Relaxed) > 0);
    assert!(orphan.is_closed());
    assert!(input.ring().is_some_and(|ring| !ring.is(&orphan) && !ring.is_closed()));
    next.stop();
}

#[test]
fn an_open_that_returns_after_the_stop_is_closed_and_reports_nothing() {
    for succeeds in [false, true] {
        let (input, diary) = (new_input(), Diary::default());
        let (release, released) = bounded::<()>(0);
        let (entered_sender, entered) = bounded(1);
        let sources = Arc::clone(&diary);
        let (capture, events) = start(&input, None, move |_| {
            let _ = entered_sender.send(());
            let _ = released.recv();
            match succeeds {
                true => TestSource::open(&sources, |_| {}),
                false => Err(unavailable()),
            }
        });
        entered.recv().expect("the opener opens");
        assert!(stop(capture, STOP_TIMEOUT).is_none(), "there was no ring yet");
        drop(release);
        // The opener thread ends, and with it the sender of events.
        assert!(events.recv_timeout(Duration::from_secs(20)).is_err(), "no event after the stop");
        assert!(input.ring().is_none());
        let expected: &[&str] = if succeeds { &["open", "closed by open live"] } else { &[] };
        assert_eq!(lines(&diary), expected, "never started");
    }
}

#[test]
fn events_of_a_stopped_capture_are_stale() {
    let input = new_input();
    let (capture, events) = start(&input, None, |_| Err(unavailable()));
    let event = events.recv_timeout(Duration::from_secs(20)).expect("an event");
    assert!(matches!(event.kind, CaptureEventKind::OpenFailed(_)));
    assert!(!event.is_stale());
    capture.stop();
    assert!(event.is_stale());

    let (capture, events) = start(&input, None, |_| Err(unavailable()));
    let event = events.recv_timeout(Duration::from_secs(20)).expect("an event");
    drop(capture);
    assert!(event.is_stale(), "a dropped capture is stopped too");
}

#[test]
fn the_ring_is_made_before_the_source_starts() {
    let (input, diary) = (new_input(), Diary::default());
    let (sources, watched) = (Arc::clone(&diary), Arc::clone(&input));
    let (capture, _events) = start(&input, None, move |_| {
        TestSource::open(&sources, |source| source.input = Some(Arc::clone(&watched)))
    });
    wait_for("a read", || lines(&diary).iter().any(|line| line.starts_with("read")));
    capture.stop();
    assert_eq!(lines(&diary)[..3], ["open", "start", "read with a ring"]);
}

#[test]
fn a_source_that_does_not_start_leaves_the_ring_of_the_readers_alone() {
    let (input, diary) = (new_input(), Diary::default());
    let sources = Arc::clone(&diary);
    let (capture, events) =
        start(&input, None, move |_| TestSource::open(&sources, |source| source.does_not_start = true));
    events.recv_timeout(Duration::from_secs(20)).expect("it failed");
    assert!(input.ring().is_none());
    capture.stop();
}

#[test]
fn the_next_capture_goes_on_with_the_ring_or_replaces_it_for_another_period() {
    let input = new_input();
    let diary = Diary::default();
    let sound = |input: &LiveInput| {
        let frames = input.counters.frames.load(Ordering::Relaxed);
        wait_for("sound", || input.counters.frames.load(Ordering::Relaxed) > frames);
    };
    let sources = Arc::clone(&diary);
    let (capture, _events) = start(&input, None, move |_| TestSource::open(&sources, |_| {}));
    sound(&input);
    let first = input.ring().expect("a ring");
    assert_eq!(input.history(), Duration::from_secs(30));
    let timeline = stop(capture, NO_HANG);

    let sources = Arc::clone(&diary);
    let (capture, _events) = start(&input, timeline, move |_| TestSource::open(&sources, |_| {}));
    sound(&input);
    assert!(input.ring().is_some_and(|ring| ring.is(&first)) && !first.is_closed());
    let timeline = stop(capture, NO_HANG);

    let sources = Arc::clone(&diary);
    let (capture, _events) = start(&input, timeline, move |_| {
        TestSource::open(&sources, |source| source.info.block_frames = RATE / 50)
    });
    wait_for("another ring", || input.ring().is_some_and(|ring| !ring.is(&first)));
    wait_for("the end of the first", || first.is_closed());
    capture.stop();
}

#[test]
fn a_stop_takes_no_longer_than_a_read() {
    let (input, diary) = (new_input(), Diary::default());
    let sources = Arc::clone(&diary);
    let (capture, _events) = start(&input, None, move |_| TestSource::open(&sources, |_| {}));
    wait_for("sound", || input.counters.frames.load(Ordering::Relaxed) > 0);
    let began = Instant::now();
    assert!(stop(capture, NO_HANG).is_some());
    assert!(began.elapsed() < NO_HANG, "{:?}", began.elapsed());
}
