//! A stopwatch that knows how much time the host of a virtual machine took away, and assertions about time.
//!
//! A virtual machine runs when its host has a core to spare. In a bad minute the host takes a third of the time, in
//! pauses of hundreds of milliseconds. The kernel counts that time: `steal` in /proc/stat, see proc_stat(5). On
//! hardware `steal` is 0, and the stopwatch is an ordinary clock.
//!
//! [`assert_within`] and [`assert_span_within`] are the only assertions that `scripts/test` may retry, and only where
//! the host took at least as much time as the bound was missed by. A lost frame, a wrong count and every other panic
//! are final.

use std::fmt;
use std::fs;
use std::panic;
use std::thread;
use std::time::{Duration, Instant};

/// A running measurement.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch {
    began: Instant,
    stolen: [Duration; MOST_CORES],
}

/// The number of cores whose stolen time is read. More than any machine has that runs the tests.
const MOST_CORES: usize = 64;

impl Stopwatch {
    /// Starts a measurement.
    pub(crate) fn start() -> Stopwatch {
        Stopwatch { began: Instant::now(), stolen: stolen() }
    }

    /// Returns the time from the start until now.
    pub(crate) fn span(&self) -> Span {
        Stopwatch::start().span_since(self)
    }

    /// Returns the time between the starts of two stopwatches. It is zero if `earlier` was not started earlier.
    pub(crate) fn span_since(&self, earlier: &Stopwatch) -> Span {
        let each = self.stolen.iter().zip(earlier.stolen).map(|(now, then)| now.saturating_sub(then));
        Span {
            clock: self.began.saturating_duration_since(earlier.began),
            stolen: each.max().unwrap_or_default(),
        }
    }

    /// Returns the time from the start until now, without the time that the host took.
    pub(crate) fn elapsed(&self) -> Duration {
        self.span().net()
    }

    /// Returns the time from the start until now, as the clock has it.
    pub(crate) fn by_the_clock(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns the time that the host took since the start.
    pub(crate) fn stolen(&self) -> Duration {
        self.span().stolen
    }
}

/// A measured length of time. Spans are ordered by [`Span::net`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// The length as the clock has it.
    pub(crate) clock: Duration,
    /// The time that the host took meanwhile, of the core from which it took most.
    pub(crate) stolen: Duration,
}

impl Span {
    /// Returns the length without the time that the host took.
    pub(crate) fn net(&self) -> Duration {
        self.clock.saturating_sub(self.stolen)
    }
}

impl PartialOrd for Span {
    fn partial_cmp(&self, other: &Span) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Span {
    fn cmp(&self, other: &Span) -> std::cmp::Ordering {
        (self.net(), self.clock, self.stolen).cmp(&(other.net(), other.clock, other.stolen))
    }
}

/// The payload of the panic of a time bound that was missed.
#[derive(Clone, Debug)]
pub(crate) struct TimeBoundMissed {
    /// The name of the test.
    pub(crate) test: String,
    /// The thing that was measured.
    pub(crate) measured: String,
    /// The longest time that was allowed.
    pub(crate) limit: Duration,
    /// The time that was measured, longer than `limit` even without the time that the host took.
    pub(crate) took: Span,
}

impl TimeBoundMissed {
    /// Returns by how much the bound was missed, after the time that the host took was subtracted.
    pub(crate) fn missed_by(&self) -> Duration {
        self.took.net().saturating_sub(self.limit)
    }
}

/// Writes the line by which `scripts/test` decides about a retry. `missed_ms` is rounded up and `stolen_ms` down, so that
/// rounding never allows a retry.
impl fmt::Display for TimeBoundMissed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "time bound missed: {} missed_ms={} stolen_ms={} {}: {} ms by the clock, {} ms without stolen time, at \
             most {} ms",
            self.test,
            self.missed_by().as_micros().div_ceil(1000),
            self.took.stolen.as_millis(),
            self.measured,
            self.took.clock.as_millis(),
            self.took.net().as_millis(),
            self.limit.as_millis(),
        )
    }
}

/// Asserts that at most `limit` has passed since `stopwatch` was started, the time that the host took not counted.
///
/// Call this on the test's own thread, whose name is the test's name.
///
/// # Panics
///
/// With a [`TimeBoundMissed`] if more has passed. Its line is written to the test's output before that.
#[track_caller]
pub(crate) fn assert_within(stopwatch: &Stopwatch, limit: Duration, measured: &str) {
    assert_span_within(stopwatch.span(), limit, measured);
}

/// Asserts that `took` is at most `limit`, like [`assert_within`].
#[track_caller]
pub(crate) fn assert_span_within(took: Span, limit: Duration, measured: &str) {
    if took.net() <= limit {
        return;
    }
    let test = thread::current().name().unwrap_or("unnamed").to_owned();
    let missed = TimeBoundMissed { test, measured: measured.to_owned(), limit, took };
    eprintln!("{missed}");
    panic::panic_any(missed);
}

/// Returns the time that the host took from each core since the machine was started.
fn stolen() -> [Duration; MOST_CORES] {
    let mut all = [Duration::ZERO; MOST_CORES];
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    // "cpu0 user nice system idle iowait irq softirq steal ...", in hundredths of a second. The first line is the sum.
    let cores = text.lines().skip(1).take_while(|line| line.starts_with("cpu"));
    for (one, line) in all.iter_mut().zip(cores) {
        let ticks = line.split(' ').nth(8).and_then(|ticks| ticks.parse().ok());
        *one = Duration::from_millis(10 * ticks.unwrap_or(0));
    }
    all
}
