//! Bursts of events of one kind, for the log: one line for the first event, and one with the number of them when the burst
//! is over.
//!
//! Pure: the caller passes the time and writes the lines.

use std::time::{Duration, Instant};

/// Events that follow each other within this time are one burst.
pub const PAUSE: Duration = Duration::from_secs(10);
/// A burst that goes on is reported this often, so that a fault that never pauses does not vanish from the log.
pub const LONG: Duration = Duration::from_secs(60);

/// A burst of events. Its first event was reported when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burst {
    began: Instant,
    last: Instant,
    count: u64,
    /// Events of the count that were reported when they came: the first of a burst.
    reported: u64,
}

/// The state of a burst at some time, and the report that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The burst goes on, and no report is due.
    Ongoing,
    /// The burst goes on, and a report is due.
    Long(Summary),
    /// The burst is over. Its report is `None` if no event came since the last one.
    Over(Option<Summary>),
}

/// The number of events since the last report, and the time that they took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The number of events.
    pub count: u64,
    /// The time from the first of them to the last.
    pub time: Duration,
}

impl Burst {
    /// A burst with its first event at `now`.
    pub fn new(now: Instant) -> Burst {
        Burst { began: now, last: now, count: 1, reported: 1 }
    }

    /// Counts an event at `now`.
    pub fn add(&mut self, now: Instant) {
        self.last = now;
        self.count += 1;
    }

    /// Returns the report that is due at `now`. To be called at [`next_report`](Self::next_report).
    pub fn progress(&mut self, now: Instant) -> Progress {
        let summary = Summary { count: self.count, time: self.last.duration_since(self.began) };
        let summary = (self.count > self.reported).then_some(summary);
        if now >= self.last + PAUSE {
            return Progress::Over(summary);
        }
        if now < self.began + LONG {
            return Progress::Ongoing;
        }
        (self.began, self.count, self.reported) = (now, 0, 0);
        summary.map_or(Progress::Ongoing, Progress::Long)
    }

    /// Returns the earliest time at which a report may be due.
    pub fn next_report(&self) -> Instant {
        (self.last + PAUSE).min(self.began + LONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_single_event_has_no_report_of_its_own() {
        let start = Instant::now();
        let mut burst = Burst::new(start);
        assert_eq!(burst.next_report(), start + PAUSE);
        assert_eq!(burst.progress(start + seconds(9.9)), Progress::Ongoing);
        assert_eq!(burst.progress(start + PAUSE), Progress::Over(None));
    }

    #[test]
    fn a_burst_is_reported_when_it_is_over() {
        let start = Instant::now();
        let mut burst = Burst::new(start);
        for second in 1..=4 {
            burst.add(start + seconds(second.into()));
            assert_eq!(burst.progress(start + seconds(second.into())), Progress::Ongoing);
        }
        let summary = Summary { count: 5, time: seconds(4.0) };
        assert_eq!(burst.progress(burst.next_report()), Progress::Over(Some(summary)));
    }

    #[test]
    fn a_single_event_after_a_report_has_a_report() {
        let start = Instant::now();
        let mut burst = Burst::new(start);
        (1..=7).for_each(|event| burst.add(start + seconds(9.0 * f64::from(event))));
        assert!(matches!(burst.progress(start + seconds(63.0)), Progress::Long(_)));
        burst.add(start + seconds(70.0));
        let summary = Summary { count: 1, time: seconds(7.0) };
        assert_eq!(burst.progress(start + seconds(80.0)), Progress::Over(Some(summary)));
        // None came since the report.
        let mut burst = Burst::new(start);
        (1..=7).for_each(|event| burst.add(start + seconds(9.0 * f64::from(event))));
        assert!(matches!(burst.progress(start + seconds(63.0)), Progress::Long(_)));
        assert_eq!(burst.progress(start + seconds(73.0)), Progress::Over(None));
    }

    #[test]
    fn a_burst_that_never_pauses_is_reported_every_minute() {
        let start = Instant::now();
        let mut burst = Burst::new(start);
        let mut counts = Vec::new();
        // An event every 0.9 s for 200 s.
        for event in 1..=222 {
            let now = start + seconds(0.9 * f64::from(event));
            burst.add(now);
            match burst.progress(now) {
                Progress::Ongoing => {}
                Progress::Long(summary) => counts.push(summary.count),
                Progress::Over(_) => panic!("the burst has not paused"),
            }
        }
        assert_eq!(counts, [68, 67, 67]);
    }
}
