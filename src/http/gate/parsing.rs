//! The connections whose request is inside tiny_http, on their way from the gate's thread to a handler.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::connection::Connection;

/// The connections whose request is inside tiny_http, by their number.
///
/// The gate's thread adds, workers remove. The lock is held for single operations, and no other lock is taken
/// meanwhile.
#[derive(Default)]
pub(super) struct Parsing {
    connections: Mutex<HashMap<u64, Connection>>,
}

impl Parsing {
    /// Keeps a connection while tiny_http parses its request.
    pub(super) fn put(&self, connection: Connection) {
        self.lock().insert(connection.id(), connection);
    }

    /// Takes the connection of a parsed request out. `None` after tiny_http was started again.
    pub(super) fn claim(&self, id: u64) -> Option<Connection> {
        self.lock().remove(&id)
    }

    /// Takes all connections out.
    pub(super) fn drain(&self) -> Vec<Connection> {
        self.lock().drain().map(|(_, connection)| connection).collect()
    }

    /// Locks, also after a panic of another thread: each operation on the map is complete or did not happen.
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
