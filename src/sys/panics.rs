//! The panic hook: one line in the log in place of Rust's message and backtrace.
//!
//! A panic is a bug of wavecast, or tiny_http's way to report that something failed (a connection that was reset while it
//! was being accepted; no thread to be had). It ends one thread. For the owner of a board a backtrace in the journal is
//! noise. So a bug is one line at level error with reason and place; a panic of tiny_http is one line at level debug.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Mutex, PoisonError};
use std::thread;

use log::{debug, error};

/// Logs panics from now on, in place of printing them to stderr.
pub fn install() {
    panic::set_hook(Box::new(report));
}

/// Logs a panic.
fn report(info: &PanicHookInfo<'_>) {
    if QUIET.get() {
        return;
    }
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let reason = text
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason was given");
    let place =
        info.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
    // All threads of wavecast have names; those of tiny_http have none. But tiny_http also panics in a thread of
    // wavecast when it gets no thread; nothing else starts threads in the way that panics.
    let is_tiny_http = place.contains("tiny_http") || reason.starts_with("failed to spawn thread");
    match thread::current().name().filter(|_| !is_tiny_http) {
        Some(name) => {
            error!("a bug in wavecast ended its thread \"{name}\": {reason}{place}. Please report it");
            // A release build is stripped: its backtrace would have no names, and the code that prints it takes 20 kB.
            if cfg!(debug_assertions) {
                let backtrace = Backtrace::capture();
                if backtrace.status() == BacktraceStatus::Captured {
                    error!("{backtrace}");
                }
            }
        }
        None => {
            debug!("tiny_http gave up: {reason}{place}");
            *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }
}

// The rest goes with src/http/tiny/.

/// The reason of the last panic of a thread of tiny_http.
static LAST: Mutex<Option<String>> = Mutex::new(None);

thread_local! {
    /// Panics of this thread are not logged.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Returns the reason of the last panic of a thread of tiny_http, once.
pub(crate) fn last() -> Option<String> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Runs `run`, which may panic; a panic is not logged.
pub(crate) fn quietly(run: impl FnOnce()) {
    QUIET.set(true);
    let _ = panic::catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
}
