//! What is said when a thread panics.
//!
//! A panic is a bug of ours, or tiny_http's way to say that something failed (a connection that was reset while
//! it was being accepted; no thread to be had). It ends one thread, which is one listener's or one connection's,
//! and nobody else hears of it. For the owner of a board a backtrace on the journal is only noise; one line says
//! what happened, and for the second kind not even that unless it is asked for.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::{Mutex, PoisonError};
use std::thread;

use log::{debug, error};

/// What the last thread of tiny_http that panicked had to say.
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Has panics logged from now on, in place of what Rust prints by itself.
pub fn install() {
    panic::set_hook(Box::new(note));
}

/// Why a thread of tiny_http panicked, once.
pub(crate) fn last() -> Option<String> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).take()
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Does something that may panic and is known to, and goes on.
pub(crate) fn quietly(dare: impl FnOnce()) {
    QUIET.set(true);
    let _ = panic::catch_unwind(AssertUnwindSafe(dare));
    QUIET.set(false);
}

fn note(info: &PanicHookInfo<'_>) {
    if QUIET.get() {
        return;
    }
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let what = text
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason was given");
    let place =
        info.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
    // All threads of wavecast have names; those of tiny_http have none. It alone starts threads in the way that
    // panics when there is none, and it does that in one of ours too.
    let current = thread::current();
    let theirs = place.contains("tiny_http") || what.starts_with("failed to spawn thread");
    match current.name().filter(|_| !theirs) {
        Some(name) => {
            error!(
                "a bug in wavecast ended its thread \"{name}\", and nothing else: {what}{place}. Please report it"
            );
            // In a release build it would have no names, which are stripped, and what prints it takes 20 kB.
            if cfg!(debug_assertions) {
                let backtrace = Backtrace::capture();
                if backtrace.status() == BacktraceStatus::Captured {
                    error!("{backtrace}");
                }
            }
        }
        None => {
            debug!("tiny_http gave up on something: {what}{place}");
            *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.to_owned());
        }
    }
}
