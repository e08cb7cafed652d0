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
pub(crate) mod synth;

use std::time::{Duration, Instant};

/// How long a test waits for something that must happen, on a machine that stalls at times.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `look` finds what it looks for.
///
/// # Panics
///
/// After [`PATIENCE`], saying what was waited for.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
