//! The connections that the gate's thread holds, with everything that is ordered by time.

use std::collections::{BTreeSet, HashMap};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::ListenerId;
use super::connection::Place;
use super::head::{EndSearch, Head};
use super::limits::Shares;

/// A client's connection.
pub(super) struct Client {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) listener: ListenerId,
    pub(super) place: Place,
    pub(super) phase: Phase,
    /// The time since which the client is quiet: it connected, got its last answer, or took some bytes of an
    /// answer.
    pub(super) quiet_since: Instant,
    /// The time at which the gate stops waiting for the client. `None` while a request waits for its turn.
    pub(super) deadline: Option<Instant>,
    /// Bytes that were read and belong to no request that was passed on. At most `header_bytes`.
    pub(super) unread: Vec<u8>,
    pub(super) search: EndSearch,
    /// CR and LF bytes that were skipped in front of the request.
    pub(super) skipped: usize,
    /// The client has made a request on this connection.
    pub(super) has_asked: bool,
    /// The connection ends after the answer.
    pub(super) closes: bool,
    /// The request has the version HTTP/1.0.
    pub(super) is_1_0: bool,
    /// The rest of the answer.
    pub(super) unsent: Vec<u8>,
}

/// A stage of a connection.
#[derive(Debug)]
pub(super) enum Phase {
    /// The gate reads a request.
    Reading,
    /// The request waits for its turn.
    Queued(Head),
    /// The client has not taken the whole answer. Nothing is read meanwhile.
    Writing,
    /// The answer was sent, with the end of the connection. So many bytes of what the client still sends are
    /// read and discarded: a connection that is closed with unread bytes is reset, and a reset can overtake
    /// the answer.
    Lingering(usize),
}

impl Client {
    pub(super) fn new(
        socket: TcpStream,
        peer: SocketAddr,
        listener: ListenerId,
        place: Place,
        now: Instant,
    ) -> Client {
        Client {
            socket,
            peer,
            listener,
            place,
            phase: Phase::Reading,
            quiet_since: now,
            deadline: None,
            unread: Vec::new(),
            search: EndSearch::default(),
            skipped: 0,
            has_asked: false,
            closes: false,
            is_1_0: false,
            unsent: Vec::new(),
        }
    }

    /// Returns `true` between two requests: nothing of the next one has arrived.
    pub(super) fn is_between_requests(&self) -> bool {
        matches!(self.phase, Phase::Reading) && self.has_asked && self.unread.is_empty()
    }

    /// Returns `true` if the connection may be ended to make room for another one.
    fn is_idle(&self) -> bool {
        !matches!(self.phase, Phase::Queued(_))
    }
}

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
