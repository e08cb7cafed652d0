//! The distribution of a latency, kept in a few bytes and updated without a lock.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A time's distribution in steps of a quarter octave, from 1 µs to 1 s.
pub struct Histogram([AtomicU32; Histogram::STEPS]);

impl Histogram {
    const STEPS: usize = 80;

    /// An empty histogram.
    pub(super) fn new() -> Histogram {
        Histogram([const { AtomicU32::new(0) }; Histogram::STEPS])
    }

    /// Counts one time.
    pub fn note(&self, time: Duration) {
        let us = (time.as_nanos() / 1000).clamp(1, u128::from(u32::MAX)) as u32;
        let octave = us.ilog2();
        let quarter = ((u64::from(us) * 4) >> octave) as u32 - 4;
        let step = (octave * 4 + quarter).min(Self::STEPS as u32 - 1);
        self.0[step as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The time that this share of all counted ones did not exceed, to a quarter octave (at most 25 % too
    /// high); `None` before the first.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed).into()).collect();
        let total: u64 = counts.iter().sum();
        let wanted = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let step = counts.iter().position(|count| {
            seen += count;
            *count > 0 && seen >= wanted
        })?;
        let (octave, quarter) = (step as u32 / 4, step as u64 % 4);
        Some(Duration::from_nanos(((5 + quarter) * 1000) << octave >> 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_a_quarter_too_high_and_never_too_low() {
        for us in [1u64, 2, 3, 5, 10, 99, 1000, 12_345, 400_000] {
            let histogram = Histogram::new();
            histogram.note(Duration::from_micros(us));
            let found = histogram.quantile(0.5).expect("one was counted").as_nanos() as f64 / 1000.0;
            assert!(found >= us as f64 && found <= us as f64 * 1.25 + 0.25, "{us} µs: {found}");
        }
        assert_eq!(Histogram::new().quantile(0.5), None);
    }

    #[test]
    fn the_99th_percentile_sees_the_slow_ones() {
        let histogram = Histogram::new();
        for _ in 0..980 {
            histogram.note(Duration::from_micros(50));
        }
        for _ in 0..20 {
            histogram.note(Duration::from_millis(5));
        }
        assert!(histogram.quantile(0.5).expect("counted") < Duration::from_micros(64));
        assert!(histogram.quantile(0.99).expect("counted") >= Duration::from_millis(5));
    }
}
