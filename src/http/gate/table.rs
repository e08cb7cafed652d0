//! The connections that the gate's thread holds, with everything that is ordered by time.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use super::connection::{Client, Phase};
use super::limits::Shares;

/// The connections, and the sets that are derived from them. A connection is changed only while it is
/// outside: [`remove`](Table::remove), change, [`insert`](Table::insert).
#[derive(Default)]
pub(super) struct Table {
    clients: HashMap<u64, Client>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Connections in [`Phase::Writing`], by the time of their last progress.
    writing: BTreeSet<(Instant, u64)>,
    /// Bytes of all answers that were not taken.
    unsent: usize,
}

impl Table {
    pub(super) fn insert(&mut self, id: u64, client: Client, shares: &mut Shares) {
        self.unsent += client.unsent.len();
        if let Some(deadline) = client.deadline {
            self.deadlines.insert((deadline, id));
        }
        if client.is_idle() {
            shares.set_idle(client.place.client, client.quiet_since, id);
        }
        if matches!(client.phase, Phase::Writing) {
            self.writing.insert((client.quiet_since, id));
        }
        self.clients.insert(id, client);
    }

    pub(super) fn remove(&mut self, id: u64, shares: &mut Shares) -> Option<Client> {
        let client = self.clients.remove(&id)?;
        self.unsent -= client.unsent.len();
        if let Some(deadline) = client.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        shares.clear_idle(client.place.client, client.quiet_since, id);
        self.writing.remove(&(client.quiet_since, id));
        Some(client)
    }

    /// Returns the earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Returns a connection whose deadline is over.
    pub(super) fn expired(&self, now: Instant) -> Option<u64> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| *id)
    }

    /// Returns the number of connections that have not taken their whole answer.
    pub(super) fn writing(&self) -> usize {
        self.writing.len()
    }

    /// Returns the connection that has taken nothing of its answer for the longest time, if the unsent bytes
    /// of all together are more than `limit`.
    pub(super) fn slowest_beyond(&self, limit: usize) -> Option<u64> {
        self.writing.first().filter(|_| self.unsent > limit).map(|(_, id)| *id)
    }

    /// Returns the connections for which `is_wanted` is true.
    pub(super) fn find(&self, is_wanted: impl Fn(&Client) -> bool) -> Vec<u64> {
        self.clients.iter().filter(|(_, client)| is_wanted(client)).map(|(id, _)| *id).collect()
    }
}
