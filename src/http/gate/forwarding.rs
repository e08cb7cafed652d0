//! Requests on their way to tiny_http and its handlers, and the way back.

use std::io;
use std::time::{Duration, Instant};

use super::connection::{Connection, Phase};
use super::inner_server::InnerServer;
use super::state::{LINK, State};

/// Requests inside tiny_http and handlers at once. More would only wait there, where they have no turns.
const IN_FLIGHT: usize = 16;
/// Bytes of answers that were not taken, of all clients together.
const UNSENT_BYTES: usize = 4 << 20;
/// tiny_http is started at most this often.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

impl State {
    /// Takes a connection back from a handler, whose answer was sent except for `unsent`.
    pub(super) fn on_answered(&mut self, connection: Connection, unsent: Vec<u8>, now: Instant) {
        let id = connection.id();
        let mut client = connection.into_client();
        let place = &mut client.place;
        self.in_flight -= usize::from(std::mem::take(&mut place.is_in_flight));
        self.with_handlers -= usize::from(std::mem::take(&mut place.is_with_handler));
        self.send_rest(id, client, unsent, now);
        while let Some(slowest) = self.table.slowest_beyond(UNSENT_BYTES) {
            self.end_by_id(slowest, now);
        }
    }

    /// Passes requests on to tiny_http, as many as may be in flight, one of each client in turn.
    pub(super) fn pass_on(&mut self, now: Instant) {
        if self.restart_time().is_some_and(|time| now >= time) {
            if let Err(error) = self.start_inner(now) {
                self.log.fault(format!("cannot start the HTTP server, requests wait: {error}"));
            }
        }
        while self.in_flight < IN_FLIGHT {
            let Some(inner) = &mut self.inner else { return };
            let Some(id) = self.shares.next_request(self.policy.rate(), now) else { return };
            let Some(mut client) = self.table.remove(id, &mut self.shares) else { continue };
            let Phase::Queued(head) = std::mem::replace(&mut client.phase, Phase::Reading) else { continue };
            (client.place.is_in_flight, client.place.is_with_handler) = (true, true);
            self.in_flight += 1;
            self.with_handlers += 1;
            // Before it is sent: a worker looks for the connection as soon as the request is parsed.
            self.parsing.put(Connection::new(id, client));
            if inner.send(&head.forwarded).is_err() {
                self.drop_inner();
            }
        }
    }

    /// Goes on after an event of a connection to tiny_http.
    pub(super) fn progress_link(&mut self, token: u64) {
        let (generation, index) = (token >> 8, (token & 0xFF) as usize);
        let Some(inner) = self.inner.as_mut().filter(|_| generation == self.generation) else { return };
        if inner.progress(index).is_err() {
            self.drop_inner();
        }
    }

    /// Gives up a tiny_http that has ended one of its connections. The requests inside end with their
    /// connections.
    fn drop_inner(&mut self) {
        self.log.fault("a connection to the HTTP server inside has ended; another server is started");
        self.inner = None;
        drop(self.parsing.drain());
    }

    /// Returns the time at which tiny_http is to be started again. `None` while it runs.
    pub(super) fn restart_time(&self) -> Option<Instant> {
        self.inner.is_none().then(|| self.inner_started + RESTART_PAUSE)
    }

    /// Starts tiny_http.
    ///
    /// # Errors
    ///
    /// When the operating system has no descriptor or no thread left.
    pub(super) fn start_inner(&mut self, now: Instant) -> io::Result<()> {
        self.generation += 1;
        self.inner_started = now;
        let generation = self.generation;
        let token = |index| LINK | generation << 8 | index as u64;
        self.inner = Some(InnerServer::start(&self.mailbox.epoll, token, &self.on_request)?);
        Ok(())
    }
}
