//! Time as this machine had it.
//!
//! A virtual machine gets its cores when its host has them to spare: in a bad minute a third of the time, with pauses of
//! hundreds of milliseconds. What was late because of that is nobody's fault. The kernel counts it (`steal` in
//! /proc/stat, see proc_stat(5)); on hardware of its own it is 0, and this a clock like any other.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Measures how long something takes, without the time that the host gave to others meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch {
    began: Instant,
    stolen: [Duration; MOST_CORES],
}

/// More than any machine has that runs these.
const MOST_CORES: usize = 64;

impl Stopwatch {
    /// Begins to measure.
    pub(crate) fn start() -> Stopwatch {
        Stopwatch { began: Instant::now(), stolen: stolen() }
    }

    /// What has passed for this machine: what the clock says, less what was taken of the core that was robbed most.
    pub(crate) fn elapsed(&self) -> Duration {
        Stopwatch::start().since(self)
    }

    /// The same of the time between two that were started.
    pub(crate) fn since(&self, earlier: &Stopwatch) -> Duration {
        self.by_the_clock_since(earlier).saturating_sub(self.stolen_since(earlier))
    }

    /// What the clock says.
    pub(crate) fn by_the_clock(&self) -> Duration {
        self.began.elapsed()
    }

    /// What it said between two that were started; nothing where the other one was not started earlier.
    pub(crate) fn by_the_clock_since(&self, earlier: &Stopwatch) -> Duration {
        self.began.saturating_duration_since(earlier.began)
    }

    /// What was taken of that core since it began.
    pub(crate) fn stolen(&self) -> Duration {
        Stopwatch::start().stolen_since(self)
    }

    fn stolen_since(&self, earlier: &Stopwatch) -> Duration {
        let each = self.stolen.iter().zip(earlier.stolen).map(|(now, then)| now.saturating_sub(then));
        each.max().unwrap_or_default()
    }
}

/// Says in the output of a test that fails how much was taken while this lived, where that was much: `scripts/test`
/// reads it there and makes the test again.
pub(crate) struct Witness(Stopwatch);

/// So much in all may have been one pause, and that makes a test of time fail. On hardware it is always nothing.
const ROBBED: Duration = Duration::from_millis(100);

impl Witness {
    pub(crate) fn start() -> Witness {
        Witness(Stopwatch::start())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let stolen = self.0.stolen();
        if thread::panicking() && stolen >= ROBBED {
            let current = thread::current();
            let test = current.name().unwrap_or("a thread");
            eprintln!(
                "the host took {} ms of {} from {test}",
                stolen.as_millis(),
                self.0.by_the_clock().as_millis()
            );
        }
    }
}

/// What was taken of each core since the machine was switched on.
fn stolen() -> [Duration; MOST_CORES] {
    let mut all = [Duration::ZERO; MOST_CORES];
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    // "cpu0 user nice system idle iowait irq softirq steal ...", in hundredths of a second; before them the sum.
    let cores = text.lines().skip(1).take_while(|line| line.starts_with("cpu"));
    for (one, line) in all.iter_mut().zip(cores) {
        let ticks = line.split(' ').nth(8).and_then(|ticks| ticks.parse().ok());
        *one = Duration::from_millis(10 * ticks.unwrap_or(0));
    }
    all
}
