//! The drift of the card's clock against CLOCK_MONOTONIC.
//!
//! The time of a block is the card's time plus a delay by the scheduler and the bus, which is never negative. Of each
//! window of time only the least delayed block counts. A line through those points (least squares) has the clock's
//! error as its slope. The estimate improves with time: 1 ms of jitter is 17 ppm after a minute and 0.3 ppm after an
//! hour.

/// The error of a card's clock that is worth a warning, in ppm. Crystals are off by 100 ppm at most; a card that is off
/// by more than 1000 ppm (4 s in an hour) has another rate than it reports, and players cannot follow it.
pub const CLOCK_WARNING_PPM: f64 = 1000.0;

/// Number of windows that are kept. When all are full, each two are merged into one of twice the length.
const WINDOWS: usize = 64;
/// Length of a window at first: 1 s.
const FIRST_WINDOW_NS: u64 = 1_000_000_000;
/// Windows that an estimate needs: with fewer, jitter is larger than what is estimated.
const WINDOWS_FOR_ESTIMATE: usize = 10;
/// Windows that a warning needs. A jitter of 10 ms is less than half of [`CLOCK_WARNING_PPM`] after 30 s. Merging
/// leaves more windows than this.
const WINDOWS_FOR_WARNING: usize = 30;

/// A running estimate of the drift. Allocates nothing.
#[derive(Debug)]
pub struct ClockDrift {
    rate: f64,
    /// Time of the first block, in ns.
    start: Option<u64>,
    /// Length of a window, in ns.
    window: u64,
    /// For each window that is full: time since `start` of its least delayed block, and that delay; both in ns.
    points: [(f64, f64); WINDOWS],
    full: usize,
    /// The least delayed block of the window that is being filled.
    least: Option<(f64, f64)>,
}

impl ClockDrift {
    /// An estimate for a card that reports a rate of `rate` frames per second.
    pub fn new(rate: u32) -> ClockDrift {
        ClockDrift {
            rate: f64::from(rate),
            start: None,
            window: FIRST_WINDOW_NS,
            points: [(0.0, 0.0); WINDOWS],
            full: 0,
            least: None,
        }
    }

    /// Notes that `frames` frames since the start were complete at `time` (ns). Returns `true` if that filled a window,
    /// so that there may be a new estimate.
    pub fn note(&mut self, frames: u64, time: u64) -> bool {
        let start = *self.start.get_or_insert(time);
        let elapsed = time.saturating_sub(start) as f64;
        let delay = elapsed - frames as f64 / self.rate * 1e9;
        if self.least.is_none_or(|(_, least)| delay < least) {
            self.least = Some((elapsed, delay));
        }
        if elapsed < (self.full as f64 + 1.0) * self.window as f64 {
            return false;
        }
        if let Some(least) = self.least.take() {
            self.points[self.full] = least;
            self.full += 1;
        }
        if self.full == WINDOWS {
            self.merge_windows();
        }
        true
    }

    /// Returns by how many parts per million the card's clock is fast (negative: slow); `None` in the first ten
    /// seconds.
    pub fn ppm(&self) -> Option<f64> {
        // A fast card's blocks come early: its delay shrinks.
        (self.full >= WINDOWS_FOR_ESTIMATE).then(|| -self.slope() * 1e6)
    }

    /// Returns the drift if it is larger than [`CLOCK_WARNING_PPM`] and certain enough for a warning.
    pub fn warning_ppm(&self) -> Option<f64> {
        let is_certain = self.full >= WINDOWS_FOR_WARNING;
        self.ppm().filter(|ppm| is_certain && ppm.abs() > CLOCK_WARNING_PPM)
    }

    /// Merges each two windows into one. Its point is the less delayed of the two, measured against the line so far.
    fn merge_windows(&mut self) {
        let slope = self.slope();
        let above = |point: (f64, f64)| point.1 - slope * point.0;
        for i in 0..WINDOWS / 2 {
            let (a, b) = (self.points[2 * i], self.points[2 * i + 1]);
            self.points[i] = if above(a) < above(b) { a } else { b };
        }
        self.full = WINDOWS / 2;
        self.window *= 2;
    }

    fn slope(&self) -> f64 {
        let points = &self.points[..self.full];
        let n = points.len() as f64;
        let (mean_x, mean_y) =
            points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
        let (mut xy, mut xx) = (0.0, 0.0);
        for (x, y) in points {
            xy += (x - mean_x) * (y - mean_y);
            xx += (x - mean_x) * (x - mean_x);
        }
        if xx > 0.0 { xy / xx } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the estimate for a card that is off by `ppm`, read every 10 ms with up to 3 ms of lateness, after
    /// `seconds`.
    fn estimate(ppm: f64, seconds: u64) -> ClockDrift {
        let mut drift = ClockDrift::new(48_000);
        let mut noise = 1u64;
        for block in 0..seconds * 100 {
            let frames = block * 480;
            let ideal = frames as f64 / (48_000.0 * (1.0 + ppm / 1e6)) * 1e9;
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let late = (noise >> 40) as f64 / f64::from(1 << 24) * 3e6;
            drift.note(frames, 5_000_000_000 + (ideal + late) as u64);
        }
        drift
    }

    #[test]
    fn the_first_ten_seconds_give_no_estimate() {
        assert_eq!(estimate(100.0, 9).ppm(), None);
        assert!(estimate(100.0, 12).ppm().is_some());
    }

    #[test]
    fn a_minute_gives_the_drift_within_5_ppm_and_an_hour_within_1_ppm() {
        for ppm in [-200.0, -20.0, 0.0, 35.0, 200.0] {
            let minute = estimate(ppm, 60).ppm().expect("an estimate");
            assert!((minute - ppm).abs() < 5.0, "{ppm}: {minute}");
            let hour = estimate(ppm, 3600).ppm().expect("an estimate");
            assert!((hour - ppm).abs() < 1.0, "{ppm}: {hour}");
        }
    }

    #[test]
    fn only_a_certain_drift_of_more_than_1000_ppm_is_worth_a_warning() {
        for (ppm, seconds, warns) in [
            (2000.0, 20, false),
            (2000.0, 40, true),
            (-1500.0, 40, true),
            (1500.0, 70, true),
            (900.0, 600, false),
            (-900.0, 600, false),
        ] {
            assert_eq!(estimate(ppm, seconds).warning_ppm().is_some(), warns, "{ppm} ppm after {seconds} s");
        }
    }
}
