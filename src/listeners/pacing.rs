//! How often a listener is sent data.
//!
//! The cost of a listener is its sends, not its bytes. All ordinary listeners share a budget of [`SENDS_PER_SECOND`]
//! sends, in steps from [`SHORTEST_INTERVAL`] to [`LONGEST_INTERVAL`]. A low-latency listener gets every block at once.

use std::time::Duration;

use super::Listeners;
use crate::config::Interval;
use crate::media::format::StreamFormat;

/// How many sends all ordinary listeners together make in a second, as long as that leaves none waiting for
/// longer than [`LONGEST_INTERVAL`].
pub const SENDS_PER_SECOND: u32 = 2000;
/// Even a single ordinary listener gets sound in steps of this length. It began with a burst of half a second, so its
/// buffer does not notice; a small board is woken a quarter as often as for every block of 10 ms.
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(40);
/// The longest that an ordinary listener waits for sound.
pub const LONGEST_INTERVAL: Duration = Duration::from_millis(100);

/// How often ordinary listeners are served now.
pub(crate) fn interval(listeners: &Listeners) -> Duration {
    match listeners.settings.interval() {
        Interval::Every(interval) => interval,
        Interval::Auto => {
            let share = Duration::from_secs(1) / SENDS_PER_SECOND;
            (share * listeners.count() as u32).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
        }
    }
}

/// How many whole blocks come in that time; at least 1.
pub(crate) fn blocks_in(interval: Duration, format: StreamFormat, block_frames: u32) -> u64 {
    let block = format.duration_of(block_frames.into());
    (interval.as_nanos() / block.as_nanos().max(1)).max(1) as u64
}
