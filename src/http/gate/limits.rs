//! The share of each client: connections, request rate, and turns. Pure: no socket, no clock.
//!
//! - **Places.** A client has at most `connections_per_address` connections, all clients together `connections`. A
//!   client at its own limit loses its oldest idle connection. When all places are taken, the client with the most
//!   loses one: its oldest idle connection, or else the request that it queued last.
//! - **Rate.** A token bucket per client: a connection with its first request costs one token, a further
//!   request one, a refused request ten. An empty bucket resets new connections, and lets requests on open
//!   connections wait.
//! - **Turns.** Clients take turns, one request each: an address with 300 queued requests does not delay the others by 300.
//!   Every second turn is of a client with a single connection: a newcomer does not wait for all who have many.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::sys::client_key::ClientKey;

/// Tokens for a connection with its first request, and for each further request.
pub(super) const REQUEST_COST: f64 = 1.0;
/// Tokens for a request that is refused as malformed, too large or too slow. No browser sends such in a row.
pub(super) const REFUSAL_COST: f64 = 10.0;
/// Clients that are remembered before those with a full bucket are dropped from memory.
const REMEMBERED: usize = 4096;

/// The parameters of a token bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Tokens that flow in per second.
    pub(super) per_second: f64,
    /// Tokens in a full bucket.
    pub(super) burst: f64,
}

/// The limits that a new connection meets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    /// Connections of all clients.
    pub(super) total: usize,
    /// Connections of this client; `usize::MAX` for a client without a limit.
    pub(super) per_client: usize,
    /// The bucket that this client pays from; `None` for a client without a limit.
    pub(super) rate: Option<Rate>,
}

/// The decision about a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Let it in, after this connection was ended to make room.
    Admit { evict: Option<u64> },
    /// Refuse it: its client has too many connections, and none of them is idle.
    ClientFull,
    /// Refuse it: there are too many connections, and no other client has one to spare.
    Full,
    /// Reset it: its client connects too often.
    TooOften,
}

/// The connections and requests of all clients.
#[derive(Default)]
pub(super) struct Shares {
    shares: HashMap<ClientKey, Share>,
    /// The clients that have connections, by number of connections.
    by_size: BTreeSet<(usize, ClientKey)>,
    /// The clients that have a queued request and tokens, in the order of their turns.
    turns: VecDeque<ClientKey>,
    /// As `turns`, for those that have a single connection.
    single_turns: VecDeque<ClientKey>,
    /// The next turn is of a client with a single connection, if there is one.
    is_single_turn: bool,
    /// The clients that have a queued request and an empty bucket, by the time of the next token.
    throttled: BTreeSet<(Instant, ClientKey)>,
    /// Connections of all clients.
    total: usize,
    /// Queued requests of all clients.
    queued: usize,
    /// The number of remembered clients at which full buckets are looked for.
    forget_at: usize,
}

/// The connections, tokens and requests of one client.
struct Share {
    connections: usize,
    bucket: Bucket,
    /// Connections that may be ended for others, by the time since which they are quiet.
    idle: BTreeSet<(Instant, u64)>,
    /// Requests that wait for their turn, each with its cost.
    queue: VecDeque<(u64, f64)>,
    /// The client is in `turns`, in `single_turns` or in `throttled`.
    has_turn: bool,
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Shares {
    /// Decides about a new connection of a client, and takes its token.
    pub(super) fn admit(&mut self, key: ClientKey, places: &Places, now: Instant) -> Admission {
        let share = self.share(key, now, places.rate);
        if places.rate.is_some_and(|rate| !share.bucket.pay(REQUEST_COST, rate, now)) {
            return Admission::TooOften;
        }
        if share.connections >= places.per_client {
            let oldest = share.oldest_idle();
            return oldest.map_or(Admission::ClientFull, |id| Admission::Admit { evict: Some(id) });
        }
        if self.total >= places.total {
            let spare = self.spare(key);
            return spare.map_or(Admission::Full, |id| Admission::Admit { evict: Some(id) });
        }
        Admission::Admit { evict: None }
    }

    /// Counts a connection that was let in.
    pub(super) fn add(&mut self, key: ClientKey, now: Instant) {
        self.resize(key, now, |connections| connections + 1);
        self.total += 1;
    }

    /// Counts a connection that has ended.
    pub(super) fn remove(&mut self, key: ClientKey, rate: Rate, now: Instant) {
        self.resize(key, now, |connections| connections.saturating_sub(1));
        self.total = self.total.saturating_sub(1);
        // A bucket is kept until it is full: otherwise a client that connects again and again would always
        // have a new one.
        if let Entry::Occupied(mut share) = self.shares.entry(key) {
            if share.get_mut().is_forgettable(rate, now) {
                share.remove();
            }
        }
    }

    /// Takes tokens of a client for a request that was refused.
    pub(super) fn charge_refusal(&mut self, key: ClientKey, rate: Rate, now: Instant) {
        self.share(key, now, Some(rate)).bucket.charge(REFUSAL_COST, rate, now);
    }

    /// Returns the connections of all clients.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Returns the requests that wait for their turn.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Marks a connection as one that may be ended for others. It has been quiet since `since`.
    pub(super) fn set_idle(&mut self, key: ClientKey, since: Instant, id: u64) {
        if let Some(share) = self.shares.get_mut(&key) {
            share.idle.insert((since, id));
        }
    }

    /// Takes back [`set_idle`](Shares::set_idle).
    pub(super) fn clear_idle(&mut self, key: ClientKey, since: Instant, id: u64) {
        if let Some(share) = self.shares.get_mut(&key) {
            share.idle.remove(&(since, id));
        }
    }

    /// Returns an idle connection for which a file descriptor can be had: the oldest one of the client with
    /// the most connections.
    pub(super) fn oldest_idle(&self) -> Option<u64> {
        self.by_size.iter().rev().find_map(|(_, key)| self.shares.get(key)?.oldest_idle())
    }

    /// Queues a request. `cost` is in tokens: 0 for one that was paid for, or whose client has no limit.
    pub(super) fn enqueue(&mut self, key: ClientKey, id: u64, cost: f64) {
        let Some(share) = self.shares.get_mut(&key) else { return };
        share.queue.push_back((id, cost));
        self.queued += 1;
        if !std::mem::replace(&mut share.has_turn, true) {
            self.queue_turn(key);
        }
    }

    /// Removes a request from the queue: its connection has ended.
    pub(super) fn dequeue(&mut self, key: ClientKey, id: u64) {
        let Some(share) = self.shares.get_mut(&key) else { return };
        let before = share.queue.len();
        share.queue.retain(|(queued, _)| *queued != id);
        self.queued -= before - share.queue.len();
    }

    /// Takes the next request out of the queue: one of the client whose turn it is.
    pub(super) fn next_request(&mut self, rate: Rate, now: Instant) -> Option<u64> {
        loop {
            let key = self.next_turn()?;
            let Some(share) = self.shares.get_mut(&key) else { continue };
            let Some(&(id, cost)) = share.queue.front() else {
                share.has_turn = false;
                continue;
            };
            if cost > 0.0 && !share.bucket.pay(cost, rate, now) {
                self.throttled.insert((share.bucket.next_token(rate), key));
                continue;
            }
            share.queue.pop_front();
            self.queued -= 1;
            share.has_turn = !share.queue.is_empty();
            if share.has_turn {
                self.queue_turn(key);
            }
            return Some(id);
        }
    }

    /// Returns the time at which the next throttled client has a token again.
    pub(super) fn next_token(&self) -> Option<Instant> {
        self.throttled.first().map(|(time, _)| *time)
    }

    /// Gives turns to the throttled clients that have a token again.
    pub(super) fn resume(&mut self, now: Instant) {
        while let Some(&(time, key)) = self.throttled.first().filter(|(time, _)| *time <= now) {
            self.throttled.remove(&(time, key));
            self.queue_turn(key);
        }
    }

    /// Gives a client a turn, behind the others of its kind.
    fn queue_turn(&mut self, key: ClientKey) {
        let is_single = self.shares.get(&key).is_some_and(|share| share.connections <= 1);
        if is_single { &mut self.single_turns } else { &mut self.turns }.push_back(key);
    }

    /// Takes out the client whose turn it is.
    fn next_turn(&mut self) -> Option<ClientKey> {
        self.is_single_turn = !self.is_single_turn;
        let (first, second) = match self.is_single_turn {
            true => (&mut self.single_turns, &mut self.turns),
            false => (&mut self.turns, &mut self.single_turns),
        };
        first.pop_front().or_else(|| second.pop_front())
    }

    fn share(&mut self, key: ClientKey, now: Instant, rate: Option<Rate>) -> &mut Share {
        if let Some(rate) = rate.filter(|_| self.shares.len() >= self.forget_at.max(REMEMBERED)) {
            self.shares.retain(|_, share| !share.is_forgettable(rate, now));
            // A search costs the more the more there are, so that the next one is due when there are twice as
            // many.
            self.forget_at = 2 * self.shares.len();
        }
        self.shares.entry(key).or_insert_with(|| Share {
            connections: 0,
            bucket: Bucket::full(rate.map_or(f64::MAX, |rate| rate.burst), now),
            idle: BTreeSet::new(),
            queue: VecDeque::new(),
            has_turn: false,
        })
    }

    fn resize(&mut self, key: ClientKey, now: Instant, change: impl Fn(usize) -> usize) {
        let share = self.share(key, now, None);
        let (before, after) = (share.connections, change(share.connections));
        share.connections = after;
        self.by_size.remove(&(before, key));
        if after > 0 {
            self.by_size.insert((after, key));
        }
    }

    /// Returns the connection that makes room for a new one of `newcomer` when all places are taken.
    ///
    /// A client that would have fewer connections than the newcomer's client loses none: the share of the
    /// newcomer's client, the new connection included, is the larger one then. A client waits for the answer
    /// to a queued request, so that only a client with a larger share loses one.
    fn spare(&self, newcomer: ClientKey) -> Option<u64> {
        let own = self.shares.get(&newcomer).map_or(0, |share| share.connections) + 1;
        let others = self.by_size.iter().rev().take_while(|(size, _)| *size >= own);
        let spare = others.filter(|(_, key)| *key != newcomer).find_map(|(size, key)| {
            let share = self.shares.get(key)?;
            share.oldest_idle().or_else(|| share.last_queued().filter(|_| *size > own))
        });
        spare.or_else(|| {
            let share = self.shares.get(&newcomer)?;
            share.oldest_idle().or_else(|| share.last_queued())
        })
    }
}

impl Share {
    fn oldest_idle(&self) -> Option<u64> {
        self.idle.first().map(|(_, id)| *id)
    }

    fn last_queued(&self) -> Option<u64> {
        self.queue.back().map(|(id, _)| *id)
    }

    fn is_forgettable(&mut self, rate: Rate, now: Instant) -> bool {
        self.bucket.fill(rate, now);
        self.connections == 0 && !self.has_turn && self.bucket.tokens >= rate.burst
    }
}

impl Bucket {
    fn full(burst: f64, now: Instant) -> Bucket {
        Bucket { tokens: burst, filled: now }
    }

    /// Takes tokens out if there is at least one. Returns `false` for an empty bucket.
    fn pay(&mut self, tokens: f64, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        let has_one = self.tokens >= 1.0;
        if has_one {
            self.tokens -= tokens;
        }
        has_one
    }

    /// Takes tokens out, also those that are not there. The debt is at most `tokens`.
    fn charge(&mut self, tokens: f64, rate: Rate, now: Instant) {
        self.fill(rate, now);
        self.tokens = (self.tokens - tokens).max(-tokens);
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let fresh = now.saturating_duration_since(self.filled).as_secs_f64() * rate.per_second;
        self.tokens = (self.tokens + fresh).min(rate.burst);
        self.filled = now;
    }

    /// Returns the time at which there is one token.
    fn next_token(&self, rate: Rate) -> Instant {
        self.filled + Duration::from_secs_f64(((1.0 - self.tokens) / rate.per_second).max(0.0))
    }
}

#[cfg(test)]
mod tests;
