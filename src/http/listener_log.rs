//! The limit of log lines about new listeners: a client that connects again and again does not fill the journal.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Listeners of one client that the log names within [`WINDOW`]. A player that reconnects every few seconds stays below.
const MOST: usize = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// Clients that are remembered. Beyond that the log names no listener of a further client until an old entry ends, which
/// takes at most [`WINDOW`].
const MOST_CLIENTS: usize = 4096;

/// The listeners that the log has named lately.
#[derive(Default)]
pub(crate) struct ListenerLog {
    /// The times of the lines about each client. Written and read by handlers, for single operations.
    times: Mutex<HashMap<IpAddr, VecDeque<Instant>>>,
}

impl ListenerLog {
    /// Returns `true` if the log may name another listener of that client, and counts it.
    pub(crate) fn is_allowed(&self, client: IpAddr) -> bool {
        self.count(client.to_canonical(), Instant::now())
    }

    fn count(&self, client: IpAddr, now: Instant) -> bool {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.retain(|_, times| {
            times.retain(|time| now.saturating_duration_since(*time) < WINDOW);
            !times.is_empty()
        });
        if times.len() >= MOST_CLIENTS && !times.contains_key(&client) {
            return false;
        }
        let times = times.entry(client).or_default();
        let is_allowed = times.len() < MOST;
        if is_allowed {
            times.push_back(now);
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_20_lines_a_minute_and_others_have_theirs() {
        let log = ListenerLog::default();
        let (client, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Instant::now();
        let allowed = (0..100).filter(|_| log.count(client, start)).count();
        assert_eq!(allowed, 20);
        assert!(log.count(other, start));
        assert!(!log.count(client, start + Duration::from_secs(59)));
        assert!(log.count(client, start + WINDOW));
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_memory() {
        let log = ListenerLog::default();
        let start = Instant::now();
        for address in 0..5000_u32 {
            log.count(IpAddr::from(address.to_be_bytes()), start);
        }
        assert!(log.times.lock().expect("no panic").len() <= MOST_CLIENTS);
    }
}
