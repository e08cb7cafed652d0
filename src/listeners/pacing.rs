//! The interval at which listeners are sent data.
//!
//! The cost of a listener is its sends, not its bytes. All ordinary listeners share a budget of [`SENDS_PER_SECOND`]
//! sends, in steps from [`SHORTEST_INTERVAL`] to [`LONGEST_INTERVAL`]. A low-latency listener gets every block at once.

use std::time::Duration;

use crate::config::Interval;
use crate::media::format::StreamFormat;
use crate::settings::Settings;

/// Sends per second to all ordinary listeners together, as long as no listener has to wait for longer than
/// [`LONGEST_INTERVAL`].
pub const SENDS_PER_SECOND: u32 = 2000;
/// The shortest interval, which a single ordinary listener gets. A listener starts with a burst of half a second, so
/// the buffer of a player does not notice the steps, and a small board wakes a quarter as often as for every block of
/// 10 ms.
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(40);
/// The longest interval, however many listeners there are.
pub const LONGEST_INTERVAL: Duration = Duration::from_millis(100);

/// Returns the interval of a listener now, among that many.
pub(super) fn current(settings: &Settings, listeners: usize, low_latency: bool) -> Duration {
    match low_latency {
        true => Duration::ZERO,
        false => interval(settings.interval(), listeners),
    }
}

/// Returns the interval of ordinary listeners for `[listeners] interval` and the number of all listeners.
fn interval(configured: Interval, listeners: usize) -> Duration {
    match configured {
        Interval::Every(interval) => interval,
        Interval::Auto => {
            let share = Duration::from_secs(1) / SENDS_PER_SECOND;
            (share * listeners as u32).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
        }
    }
}

/// Returns the number of whole blocks of `block_frames` frames that fit into `interval`, at least 1.
pub(super) fn blocks_in(interval: Duration, format: StreamFormat, block_frames: u32) -> u64 {
    let block = format.duration_of(block_frames.into());
    (interval.as_nanos() / block.as_nanos().max(1)).max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::format::SampleFormat;

    #[test]
    fn all_listeners_share_a_budget_of_sends() {
        for (listeners, ms) in [(0, 40), (1, 40), (80, 40), (100, 50), (150, 75), (200, 100), (1000, 100)] {
            assert_eq!(interval(Interval::Auto, listeners), Duration::from_millis(ms), "{listeners}");
            let configured = Duration::from_millis(7);
            assert_eq!(interval(Interval::Every(configured), listeners), configured);
        }
    }

    #[test]
    fn an_interval_is_a_whole_number_of_blocks() {
        let format = StreamFormat { rate: 48_000, channels: 2, sample: SampleFormat::S16 };
        for (ms, block_frames, blocks) in
            [(0, 480, 1), (9, 480, 1), (40, 480, 4), (49, 480, 4), (40, 4800, 1)]
        {
            assert_eq!(blocks_in(Duration::from_millis(ms), format, block_frames), blocks, "{ms} ms");
        }
    }
}
