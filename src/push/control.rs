//! The requests of the main thread to a push's thread: stop, and try again now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The longest sleep of a push's thread: so soon it notices a request.
pub(super) const POLL: Duration = Duration::from_millis(100);

/// The requests to one push.
#[derive(Default)]
pub(super) struct Control {
    stop: AtomicBool,
    retry: AtomicBool,
}

impl Control {
    /// Asks the push to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Returns `true` if the push shall end.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Asks a push that waits for its next try not to wait.
    pub(super) fn retry_now(&self) {
        self.retry.store(true, Ordering::Relaxed);
    }

    /// Forgets a request for a try that has begun meanwhile.
    pub(super) fn begin_try(&self) {
        self.retry.store(false, Ordering::Relaxed);
    }

    /// Sleeps for `time`, or until a request comes.
    pub(super) fn sleep(&self, time: Duration) {
        let began = Instant::now();
        while !self.is_stopped() && !self.retry.load(Ordering::Relaxed) {
            let left = time.saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(POLL));
        }
    }
}
