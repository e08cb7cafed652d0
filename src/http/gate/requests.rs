//! One connection's requests and answers: reads a head, sends the rest of an answer, ends a connection.

use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::connection::{Client, Phase};
use super::head::{self, EndSearch};
use super::limits::REQUEST_COST;
use super::refusal::Refusal;
use super::state::State;

/// An answer that makes no progress for so long is given up.
const SEND_TIME: Duration = Duration::from_secs(10);
/// A connection that was ended stays open for so long, until the client ends it too.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// Bytes that are read and discarded after an answer: a body that the client sends before it reads. No target takes a
/// body, so that only a client by mistake sends one, and then a short one.
const LINGER_BYTES: usize = 256 * 1024;
/// Bytes that are read and discarded after a refusal. With 1 MiB, the 431s of a flood took an eighth of a
/// processor.
const REFUSED_LINGER_BYTES: usize = 16 * 1024;
/// CR and LF bytes that may precede a request.
const LEADING_NEWLINES: usize = 256;

/// The next thing to do on a connection.
enum Step {
    /// Look at the phase again.
    Again,
    /// Wait for an event or the deadline.
    Wait,
    /// Close the connection.
    End,
}

impl State {
    /// Goes on with a connection after an event. Does nothing for one that is elsewhere.
    pub(super) fn on_event(&mut self, id: u64, flags: EventFlags, now: Instant) {
        let Some(client) = self.table.remove(id, &mut self.shares) else { return };
        let is_gone = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        // In the other phases the next recv(2) or send(2) fails. A client that has half-closed its connection
        // is not gone.
        if is_gone && matches!(client.phase, Phase::Queued(_)) {
            self.end(id, client, now);
        } else {
            self.advance(id, client, now);
        }
    }

    /// Takes a connection back whose answer was sent except for `unsent`.
    pub(super) fn send_rest(&mut self, id: u64, mut client: Client, unsent: Vec<u8>, now: Instant) {
        client.quiet_since = now;
        client.unsent = unsent;
        client.phase = Phase::Writing;
        client.deadline = Some(now + SEND_TIME);
        if client.unsent.is_empty() {
            self.after_answer(&mut client, now);
        }
        self.advance(id, client, now);
    }

    /// Ends the connections that take too long.
    pub(super) fn end_overdue(&mut self, now: Instant) {
        while let Some(id) = self.table.expired(now) {
            let Some(mut client) = self.table.remove(id, &mut self.shares) else { return };
            if matches!(client.phase, Phase::Reading) && !client.is_between_requests() {
                self.refuse(&mut client, Refusal::Timeout, now);
                self.advance(id, client, now);
            } else {
                self.end(id, client, now);
            }
        }
    }

    /// Does on a connection all that is possible without waiting.
    fn advance(&mut self, id: u64, mut client: Client, now: Instant) {
        loop {
            let step = match client.phase {
                Phase::Reading => self.read(id, &mut client, now),
                Phase::Queued(_) => Step::Wait,
                Phase::Writing => self.write(&mut client, now),
                Phase::Lingering(_) => self.discard(&mut client),
            };
            match step {
                Step::Again => {}
                Step::Wait => return self.table.insert(id, client, &mut self.shares),
                Step::End => return self.end(id, client, now),
            }
        }
    }

    fn read(&mut self, id: u64, client: &mut Client, now: Instant) -> Step {
        let newlines = head::leading_newlines(&client.unread);
        if newlines > 0 {
            client.unread.drain(..newlines);
            client.skipped += newlines;
        }
        if client.skipped > LEADING_NEWLINES {
            let refusal = Refusal::Malformed("There are too many empty lines in front of the request.");
            return self.refuse(client, refusal, now);
        }
        match client.search.end(&client.unread) {
            Ok(Some(length)) => return self.queue(id, client, length, now),
            Ok(None) => {}
            Err(refusal) => return self.refuse(client, refusal, now),
        }
        let room = (self.policy.limits.header_bytes as usize).saturating_sub(client.unread.len());
        if room == 0 {
            return self.refuse(client, Refusal::HeadTooLong, now);
        }
        let room = room.min(self.scratch.len());
        match recv(&client.socket, &mut self.scratch[..room], RecvFlags::DONTWAIT) {
            // The end, perhaps in the middle of a request.
            Ok((0, _)) => Step::End,
            Ok((count, _)) => {
                if client.is_between_requests() {
                    client.deadline = Some(now + self.policy.limits.request_time);
                }
                client.unread.extend_from_slice(&self.scratch[..count]);
                Step::Again
            }
            Err(Errno::AGAIN) => Step::Wait,
            Err(Errno::INTR) => Step::Again,
            Err(_) => Step::End,
        }
    }

    /// Queues the request at the beginning of what was read.
    fn queue(&mut self, id: u64, client: &mut Client, length: usize, now: Instant) -> Step {
        let head = match head::parse(&client.unread[..length], id) {
            Ok(head) => head,
            Err(refusal) => return self.refuse(client, refusal, now),
        };
        // Waiting connections keep no memory that they do not need.
        client.unread = if head.closes { Vec::new() } else { client.unread.split_off(length) };
        (client.search, client.skipped) = (EndSearch::default(), 0);
        (client.closes, client.is_1_0) = (head.closes, head.is_1_0);
        // The first request was paid for with the connection.
        let is_free = !client.has_asked || self.policy.has_free_requests(client.peer.ip());
        client.has_asked = true;
        client.deadline = None;
        client.phase = Phase::Queued(head);
        self.shares.enqueue(client.place.client, id, if is_free { 0.0 } else { REQUEST_COST });
        Step::Wait
    }

    fn write(&mut self, client: &mut Client, now: Instant) -> Step {
        match send(&client.socket, &client.unsent, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => {
                client.unsent = client.unsent.split_off(sent);
                client.quiet_since = now;
                client.deadline = Some(now + SEND_TIME);
                if client.unsent.is_empty() {
                    self.after_answer(client, now);
                }
                Step::Again
            }
            Err(Errno::AGAIN) => Step::Wait,
            Err(Errno::INTR) => Step::Again,
            Err(_) => Step::End,
        }
    }

    /// Waits for the next request, or for the client's end of the connection.
    fn after_answer(&mut self, client: &mut Client, now: Instant) {
        client.quiet_since = now;
        let is_open = self.listeners.iter().any(|listener| listener.id == client.listener);
        if client.closes || !is_open {
            return linger(client, LINGER_BYTES, now);
        }
        let limits = &self.policy.limits;
        let time = if client.unread.is_empty() { limits.idle_time } else { limits.request_time };
        (client.phase, client.deadline) = (Phase::Reading, Some(now + time));
    }

    fn discard(&mut self, client: &mut Client) -> Step {
        let Phase::Lingering(rest) = &mut client.phase else { return Step::Again };
        if *rest == 0 {
            // A client that still sends is held up by its own full buffer, and has until the deadline to read
            // the answer.
            return Step::Wait;
        }
        let room = (*rest).min(self.scratch.len());
        match recv(&client.socket, &mut self.scratch[..room], RecvFlags::DONTWAIT) {
            Ok((count @ 1.., _)) => {
                *rest -= count;
                // The buffer is empty, and what arrives next is another event. A client that sends as fast as this one
                // reads must not keep the thread: the others have their turns in between.
                if count < room { Step::Wait } else { Step::Again }
            }
            Err(Errno::AGAIN) => Step::Wait,
            Err(Errno::INTR) => Step::Again,
            Ok(_) | Err(_) => Step::End,
        }
    }

    /// Answers in place of a handler, and ends the connection.
    fn refuse(&mut self, client: &mut Client, refusal: Refusal, now: Instant) -> Step {
        let is_limited = !self.policy.has_free_requests(client.peer.ip());
        // Browsers connect ahead and then have nothing to ask: silence costs nothing, and is nothing to warn of.
        let is_silent = client.unread.is_empty() && client.skipped == 0;
        match is_silent {
            true => self.log.debug(client.peer.ip(), "has asked for nothing, and was disconnected"),
            false => self.report(client.peer, refusal),
        }
        if is_limited && !is_silent {
            self.shares.charge_refusal(client.place.client, self.policy.rate(), now);
        }
        let _ = send(&client.socket, &refusal.response(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        client.closes = true;
        client.quiet_since = now;
        linger(client, if is_limited { REFUSED_LINGER_BYTES } else { LINGER_BYTES }, now);
        Step::Again
    }
}

/// Ends the sending direction, so that the client sees the end of the answer, and discards what it still sends.
fn linger(client: &mut Client, bytes: usize, now: Instant) {
    // Fails for a client that is gone, as recv(2) does next.
    let _ = shutdown(&client.socket, Shutdown::Write);
    client.unread = Vec::new();
    (client.phase, client.deadline) = (Phase::Lingering(bytes), Some(now + LINGER_TIME));
}
