//! How fast the card's clock runs against CLOCK_MONOTONIC.
//!
//! A block's time is the card's plus a delay that is never negative: the scheduler's, the bus's. So of each
//! stretch of time only the least delayed block counts, and a line through those, least squares, has the
//! clock's error as its slope. The longer it runs the better it gets: one ms of jitter is 17 ppm after a
//! minute and 0.3 ppm after an hour.

/// Stretches that are kept; when all are full, each two become one of twice the length.
const STRETCHES: usize = 64;
/// Length of a stretch at first: 1 s.
const FIRST_STRETCH: u64 = 1_000_000_000;
/// Below so many stretches there is no figure.
const ENOUGH: usize = 10;

/// A running estimate; allocates nothing.
#[derive(Debug)]
pub struct ClockDrift {
    rate: f64,
    began: Option<u64>,
    stretch: u64,
    /// Time since the beginning and the delay then, both in ns.
    points: [(f64, f64); STRETCHES],
    full: usize,
    least: Option<(f64, f64)>,
}

impl ClockDrift {
    /// An estimate for a card that says it runs at so many frames a second.
    pub fn new(rate: u32) -> ClockDrift {
        ClockDrift {
            rate: f64::from(rate),
            began: None,
            stretch: FIRST_STRETCH,
            points: [(0.0, 0.0); STRETCHES],
            full: 0,
            least: None,
        }
    }

    /// Notes that `frames` frames since the beginning were complete at `time` (ns). Returns whether that
    /// ended a stretch, so that there may be a new figure.
    pub fn note(&mut self, frames: u64, time: u64) -> bool {
        let began = *self.began.get_or_insert(time);
        let elapsed = time.saturating_sub(began) as f64;
        let delay = elapsed - frames as f64 / self.rate * 1e9;
        if self.least.is_none_or(|(_, least)| delay < least) {
            self.least = Some((elapsed, delay));
        }
        if elapsed < (self.full as f64 + 1.0) * self.stretch as f64 {
            return false;
        }
        if let Some(least) = self.least.take() {
            self.points[self.full] = least;
            self.full += 1;
        }
        if self.full == STRETCHES {
            self.halve();
        }
        true
    }

    /// Each two stretches become one, whose point is the less delayed of the two against the line so far.
    fn halve(&mut self) {
        let slope = self.slope();
        let above = |point: (f64, f64)| point.1 - slope * point.0;
        for i in 0..STRETCHES / 2 {
            let (a, b) = (self.points[2 * i], self.points[2 * i + 1]);
            self.points[i] = if above(a) < above(b) { a } else { b };
        }
        self.full = STRETCHES / 2;
        self.stretch *= 2;
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

    /// How many parts in a million the card's clock is fast (negative: slow), once ten seconds have passed.
    pub fn ppm(&self) -> Option<f64> {
        // A fast card's blocks come early: its delay shrinks.
        (self.full >= ENOUGH).then(|| -self.slope() * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A card that is off by `ppm`, read every 10 ms with up to 3 ms of lateness, for `seconds`.
    fn estimate(ppm: f64, seconds: u64) -> Option<f64> {
        let mut drift = ClockDrift::new(48_000);
        let mut noise = 1u64;
        for block in 0..seconds * 100 {
            let frames = block * 480;
            let ideal = frames as f64 / (48_000.0 * (1.0 + ppm / 1e6)) * 1e9;
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let late = (noise >> 40) as f64 / f64::from(1 << 24) * 3e6;
            drift.note(frames, 5_000_000_000 + (ideal + late) as u64);
        }
        drift.ppm()
    }

    #[test]
    fn there_is_no_figure_in_the_first_ten_seconds() {
        assert_eq!(estimate(100.0, 9), None);
        assert!(estimate(100.0, 12).is_some());
    }

    #[test]
    fn a_minute_gives_it_to_some_ppm_and_an_hour_to_less_than_one() {
        for ppm in [-200.0, -20.0, 0.0, 35.0, 200.0] {
            let minute = estimate(ppm, 60).expect("a figure");
            assert!((minute - ppm).abs() < 5.0, "{ppm}: {minute}");
            let hour = estimate(ppm, 3600).expect("a figure");
            assert!((hour - ppm).abs() < 1.0, "{ppm}: {hour}");
        }
    }
}
