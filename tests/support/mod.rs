//! The parts that the integration tests share: daemons, cards, clients, stopwatches.
//!
//! Each test program uses some of them.
#![allow(dead_code)]

pub(crate) mod card;
pub(crate) mod collecting;
pub(crate) mod daemon;
pub(crate) mod flac;
pub(crate) mod http;
pub(crate) mod listening;
pub(crate) mod machine;
pub(crate) mod material;
pub(crate) mod mp3;
pub(crate) mod ogg;
pub(crate) mod players;
pub(crate) mod programs;
pub(crate) mod python;
pub(crate) mod ramp;
pub(crate) mod server;
pub(crate) mod stopwatch;
pub(crate) mod strace;
pub(crate) mod synth;

use std::time::Duration;

use stopwatch::Stopwatch;

/// The length of the WAV header before the first sample, in bytes.
pub(crate) const HEADER_BYTES: usize = 44;

/// The time that a test waits for an event that must happen, on a machine that stalls at times.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `look` finds something, and returns it.
///
/// # Panics
///
/// After [`PATIENCE`], with the name of the event.
pub(crate) fn wait_for<T>(event: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, Duration::from_millis(5), event, look)
}

/// Waits like [`wait_for`], for at most `patience`, with `pause` between two looks.
pub(crate) fn wait_within<T>(
    patience: Duration,
    pause: Duration,
    event: &str,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let began = Stopwatch::start();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < patience, "waited {patience:?} in vain for {event}");
        std::thread::sleep(pause);
    }
}

/// Lets `time` pass where the time itself is the input of a test: the length of a stop or of a stall, the pace of a
/// client, or the time in which something must not happen. Tests wait for an event by [`wait_for`].
pub(crate) fn let_pass(time: Duration) {
    std::thread::sleep(time);
}
