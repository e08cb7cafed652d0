//! The log line about a panic.
//!
//! A panic is a bug. It ends one thread or one request, and nothing else notices. For the owner of a board a backtrace
//! in the journal is noise: one line names the thread, the reason and the place. A thread of tiny_http panics where the
//! operating system has no thread left, which is no bug of wavecast, and is logged at level debug.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::thread;

use log::{debug, error};

/// Has panics logged from now on, instead of printed by Rust.
pub fn install() {
    panic::set_hook(Box::new(log_panic));
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let reason = text
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason was given");
    let place =
        info.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
    // All threads of wavecast have names, those of tiny_http have none.
    let current = thread::current();
    let is_of_tiny_http = place.contains("tiny_http") || reason.starts_with("failed to spawn thread");
    match current.name().filter(|_| !is_of_tiny_http) {
        Some(name) => {
            error!(
                "a bug in wavecast ended its thread \"{name}\", and nothing else: {reason}{place}. Please report it"
            );
            // A release build is stripped: its backtrace has no names, and the code that prints it takes 20 kB.
            if cfg!(debug_assertions) {
                let backtrace = Backtrace::capture();
                if backtrace.status() == BacktraceStatus::Captured {
                    error!("{backtrace}");
                }
            }
        }
        None => debug!("a thread of tiny_http panicked: {reason}{place}"),
    }
}
