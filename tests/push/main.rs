//! Pushes to real servers, a program of its own because of what they need: Debian's Icecast and Liquidsoap, and players
//! that listen to them.
//!
//! `push.packages` lists the packages. A test whose server or player is missing says so and passes, unless
//! `WAVECAST_ALL_PLAYERS=1`. All addresses are those of the loopback.

mod beside;
mod faults;
mod heard;
mod network;
mod players;
mod servers;
mod soak;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tls")]
mod tls;

use std::time::Duration;

use serde_json::Value;
use support::daemon::Daemon;
use support::wait_within;

/// The time that a test waits for a push: three pauses between two tries.
const LONG: Duration = Duration::from_secs(60);

/// Returns the lines of a push to `to`.
fn push(name: &str, to: &str, lines: &str) -> String {
    format!("[push.{name}]\nto = \"{to}\"\npassword = \"{}\"\n{lines}\n", servers::PASSWORD)
}

/// Returns the status of a push.
fn push_status(daemon: &Daemon, name: &str) -> Value {
    find_push(daemon, name).unwrap_or_else(|| panic!("no push {name}"))
}

fn find_push(daemon: &Daemon, name: &str) -> Option<Value> {
    let status = daemon.status();
    status["pushes"].as_array().expect("pushes").iter().find(|push| push["name"] == name).cloned()
}

/// Waits until the push `radio` is in that state, and returns its status.
fn wait_for_push(daemon: &Daemon, state: &str) -> Value {
    wait_for_named(daemon, "radio", state)
}

fn wait_for_named(daemon: &Daemon, name: &str, state: &str) -> Value {
    let mut last = Value::Null;
    wait_within(LONG, Duration::from_millis(20), &format!("push {name} to be {state:?}"), || {
        // A reload may not have come to it yet.
        last = find_push(daemon, name)?;
        (last["state"] == state).then(|| last.clone())
    })
}

/// Returns a number of a status.
fn number(status: &Value, key: &str) -> u64 {
    status[key].as_u64().unwrap_or_else(|| panic!("no {key} in {status}"))
}
