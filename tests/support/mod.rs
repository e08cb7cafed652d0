//! What the integration tests share.
//!
//! Each test binary uses a part of it.
#![allow(dead_code)]

pub(crate) mod card;
pub(crate) mod daemon;
pub(crate) mod http;
pub(crate) mod listening;
pub(crate) mod machine;
pub(crate) mod ramp;
pub(crate) mod server;
pub(crate) mod stopwatch;
pub(crate) mod strace;
pub(crate) mod synth;

use std::time::Duration;

use stopwatch::Stopwatch;

/// How long a test waits for something that must happen, on a machine that stalls at times.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `look` finds what it looks for.
///
/// # Panics
///
/// After [`PATIENCE`], saying what was waited for.
pub(crate) fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, Duration::from_millis(5), what, look)
}

/// The same with another patience, and with another pause between two looks.
pub(crate) fn wait_within<T>(
    patience: Duration,
    pause: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let began = Stopwatch::start();
    loop {
        if let Some(found) = look() {
            return found;
        }
        let has_time = began.by_the_clock() < patience || began.elapsed() < patience;
        assert!(has_time, "waited {patience:?} in vain for {what}");
        std::thread::sleep(pause);
    }
}
