//! A histogram of latencies, in a few bytes and without a lock.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The distribution of a latency from 1 µs to 1 s, in steps of a quarter octave.
///
/// One thread records; any thread reads.
pub struct Histogram {
    /// The number of recorded latencies in each step.
    counts: [AtomicU32; STEPS],
}

/// Twenty octaves of four steps each: 1 µs to 2²⁰ µs.
const STEPS: usize = 80;

impl Histogram {
    /// Returns an empty histogram.
    pub(super) fn new() -> Histogram {
        Histogram { counts: [const { AtomicU32::new(0) }; STEPS] }
    }

    /// Counts one latency, in ns. Less than 1 µs counts as 1 µs, more than 1 s as 1 s.
    ///
    /// Every send calls this, so there is no `Duration`, whose arithmetic has 128 bits.
    pub fn record(&self, latency_ns: u64) {
        let us = (latency_ns / 1000).clamp(1, u64::from(u32::MAX)) as u32;
        let octave = us.ilog2();
        let quarter = ((u64::from(us) * 4) >> octave) as u32 - 4;
        let step = (octave * 4 + quarter).min(STEPS as u32 - 1);
        self.counts[step as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the latency that this share (0 to 1) of all recorded ones did not exceed; `None` before the first.
    ///
    /// The result is the upper end of a step, so at most 25 % too high and never too low.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed).into()).collect();
        let total: u64 = counts.iter().sum();
        let rank = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let step = counts.iter().position(|count| {
            seen += count;
            *count > 0 && seen >= rank
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
            histogram.record(us * 1000);
            let found = histogram.quantile(0.5).expect("one is recorded").as_nanos() as f64 / 1000.0;
            assert!(found >= us as f64 && found <= us as f64 * 1.25 + 0.25, "{us} µs: {found}");
        }
        assert_eq!(Histogram::new().quantile(0.5), None);
    }

    #[test]
    fn the_99th_percentile_shows_the_two_slowest_of_a_hundred() {
        let histogram = Histogram::new();
        for _ in 0..980 {
            histogram.record(50_000);
        }
        for _ in 0..20 {
            histogram.record(5_000_000);
        }
        assert!(histogram.quantile(0.5).expect("recorded") < Duration::from_micros(64));
        assert!(histogram.quantile(0.99).expect("recorded") >= Duration::from_millis(5));
    }
}
