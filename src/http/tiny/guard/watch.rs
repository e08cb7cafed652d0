//! The guard's thread: looks at every connection when somebody comes or sends, and judges it.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use log::debug;
use rustix::event::epoll::{self, EventData, EventFlags};

use super::door::{AFTERWARDS, CLOSED, Door, OPEN, Opening, nudge};
use super::{CAME, Connection, Guard, Key, MOST_WAITING, SACRIFICED, Table, Why};
use crate::config::Limits;
use crate::http::tiny::sockets::{self, Connected, Traffic};
use crate::sys::{clock, socket, tiny};

/// `GET / HTTP/1.1` and two ends of lines.
const SHORTEST_REQUEST: u64 = 18;
/// What tiny_http may have read ahead of what it has made a request of.
const READ_AHEAD: u64 = 1024;
/// So many times as much as a request may have is no accident, like a browser's many cookies.
const FLOOD: u64 = 4;
/// Between two looks, so that of many who come at once each does not cost one.
const PAUSE: Duration = Duration::from_millis(1);
/// And so many times what a look takes.
const LEISURE: u32 = 10;
/// A request that lies unread for so long is forgotten: a thread that has it would have read it.
const PATIENCE: Duration = Duration::from_millis(10);
/// While there are connections, a look is at most so long ago.
const LONGEST: Duration = Duration::from_secs(5);

/// The guard's thread.
pub(super) struct Watch {
    guard: Arc<Guard>,
    /// A byte for each signal that somebody has connected.
    told: UnixStream,
    connected: Connected,
    /// Tokens of those that sent something since they were last looked at.
    dirty: HashSet<u64>,
    /// When to look again because somebody came.
    afterwards: Option<Instant>,
    /// At the last look somebody took too much.
    has_ended_some: bool,
}

impl Watch {
    /// The thread's, which hears of who comes by `told`.
    pub(super) fn new(guard: Arc<Guard>, told: UnixStream) -> Watch {
        Watch {
            guard,
            told,
            connected: Connected::default(),
            dirty: HashSet::new(),
            afterwards: None,
            has_ended_some: false,
        }
    }

    /// Looks, for ever.
    pub(super) fn keep(mut self) -> ! {
        let mut timeout = None;
        loop {
            // A look that panics is one that was not made. It is made again in a second.
            timeout =
                catch_unwind(AssertUnwindSafe(|| self.turn(timeout))).unwrap_or(Some(Duration::from_secs(1)));
        }
    }

    /// Waits until there is something to look at, at most for so long, and looks at it; how long it can wait
    /// afterwards.
    fn turn(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        let mut events = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 256];
        let timeout = timeout.and_then(|time| rustix::time::Timespec::try_from(time).ok());
        // Interrupted at the worst.
        let count = epoll::wait(&self.guard.epoll, &mut events, timeout.as_ref()).unwrap_or(0);
        let came = events[..count].iter().any(|event| event.data.u64() == CAME);
        while came && self.told.read(&mut [0; 256]).is_ok_and(|count| count > 0) {}
        self.dirty.extend(events[..count].iter().map(|event| event.data.u64()));
        if count > 0 {
            thread::sleep(PAUSE);
        }
        let (began, busy) = (Instant::now(), clock::thread_time());
        let mut next = self.look(began);
        if came {
            self.afterwards = Some(began + AFTERWARDS);
        }
        // Whatever else there is to look at meanwhile does not take its place.
        self.afterwards = self.afterwards.filter(|afterwards| *afterwards > began);
        next = self.afterwards.map_or(next, |afterwards| next.min(afterwards));
        // Its own time, not the clock's: where others take all of the time there is the more to look at. And where some
        // had to be ended there may be more of them soon.
        let took = clock::thread_time().saturating_sub(busy);
        if took * LEISURE > PAUSE && !self.has_ended_some {
            // A machine that stood still meanwhile may count that as its time.
            thread::sleep((took * LEISURE - PAUSE).min(AFTERWARDS));
        }
        let may_sleep = !self.guard.deaf.load(Ordering::Relaxed) && self.guard.lock().connections.is_empty();
        let now = Instant::now();
        // With nobody there and nothing to wait for it sleeps until somebody comes.
        (!may_sleep || next < began + LONGEST).then(|| next.saturating_duration_since(now))
    }

    /// Looks at everything; when to look again at the latest.
    fn look(&mut self, now: Instant) -> Instant {
        let guard = Arc::clone(&self.guard);
        let limits = guard.context.settings.limits();
        let doors = guard.doors().clone();
        let mut next = now + LONGEST;
        let mut sooner = |when: Option<Instant>| next = when.map_or(next, |when| when.min(next));
        let room = (limits.connections.min(guard.context.stuck.room()) as usize)
            .saturating_sub(guard.lock().answered);
        let mut sacrificed = if guard.starved.swap(false, Ordering::Relaxed) { SACRIFICED } else { 0 };
        for door in &doors {
            match door.keep_open(now, room) {
                Opening::Sure => {}
                Opening::Tried(again) => sooner(Some(again)),
                Opening::Starved { again, wanted, excess } => {
                    sooner(Some(again));
                    guard.turn_away(door, excess);
                    sacrificed = sacrificed.max(wanted).max(SACRIFICED);
                }
            }
            // Who is not let in yet has no descriptor to be found by, and will not be heard of again.
            if door.phase() == OPEN && socket::waiting_connections(&door.listener) > 0 {
                sooner(Some(now + PAUSE));
            }
        }

        let look = {
            let mut table = guard.lock();
            table.look += 1;
            table.look
        };
        let connected = self.connected.look();
        let banned = guard.banned();
        let mut table = guard.lock();
        self.meet(&mut table, &doors, connected, look);
        // Those who are gone. One that came meanwhile is of this look, and one that is being answered is known by
        // its thread.
        table.connections.retain(|_, one| {
            if one.look < look {
                one.number = None;
            }
            one.look >= look || one.waiting.is_some()
        });
        let (mut nudges, mut struck) = (Vec::new(), Vec::new());
        self.has_ended_some = false;
        for ((id, peer), one) in &mut table.connections {
            let door = doors.iter().find(|door| door.id == *id);
            // Who is banned now may have been let in before, with much more to say.
            let closed = door.is_none_or(|door| door.phase() == CLOSED)
                || guard.party(*peer).is_some_and(|party| banned.contains(&party));
            match self.judge(one, *peer, closed, &limits, now) {
                Verdict::Fine(again) => sooner(again),
                Verdict::Forgotten => {
                    debug!("{peer}: its request was left lying");
                    nudges.extend(door.map(|door| door.address));
                    sooner(Some(now + PATIENCE));
                }
                Verdict::Ends(why) => {
                    self.has_ended_some = true;
                    guard.end(one, *peer, why);
                    if why == Why::Large && guard.is_too_large_too_often(*peer, now) {
                        struck.push(*peer);
                    }
                }
                Verdict::Floods(why) => {
                    self.has_ended_some = true;
                    guard.end(one, *peer, why);
                    struck.push(*peer);
                }
            }
        }
        self.dirty.clear();
        // What tiny_http has forgotten keeps its descriptors even if it was ended, until the thread of another
        // connection that ends looks for it. Some have to be made to end, as nobody new can be let in for it.
        self.make_room(&mut table, &limits, sacrificed);
        let closed_and_empty = |door: &Arc<Door>| {
            door.phase() == CLOSED && !table.connections.keys().any(|(id, _)| *id == door.id)
        };
        let gone: Vec<u64> = doors.iter().filter(|door| closed_and_empty(door)).map(|door| door.id).collect();
        drop(table);
        if !gone.is_empty() {
            guard.doors().retain(|door| !gone.contains(&door.id));
        }
        for address in nudges {
            nudge(address);
        }
        for peer in struck {
            guard.strike(peer);
        }
        sooner(guard.keep_out(now));
        sooner(guard.end_bursts(now));
        next
    }

    /// Finds each connection in the table, or puts it there.
    fn meet(&self, table: &mut Table, doors: &[Arc<Door>], connected: Vec<(RawFd, SocketAddr)>, look: u64) {
        for (number, peer) in connected {
            let known =
                doors.iter().map(|door| (door.id, peer)).find(|key| table.connections.contains_key(key));
            let key = known.or_else(|| {
                let local = sockets::local_of(number)?;
                // Where one was closed, another one may be open at the same address by now.
                let mut here = doors.iter().filter(|door| door.is_at(local));
                let door = here.clone().find(|door| door.phase() != CLOSED).or_else(|| here.next())?;
                Some((door.id, peer))
            });
            let Some(key) = key else { continue };
            let one = table.of(key);
            if one.look == look && one.number.is_some() {
                // tiny_http holds each of them twice.
                continue;
            }
            one.look = look;
            if one.number != Some(number) {
                one.number = Some(number);
                if let Some(why) = one.to_end.take() {
                    self.guard.end(one, peer, why);
                }
                let token = EventData::new_u64(one.token);
                let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
                // It may be there already, by another number; or be gone. Both is as well.
                let _ = tiny::with_descriptor(number, |socket| {
                    epoll::add(&self.guard.epoll, socket, token, flags)
                });
            }
        }
    }

    /// Whether a connection keeps to the limits.
    fn judge(
        &self,
        one: &mut Connection,
        peer: SocketAddr,
        closed: bool,
        limits: &Limits,
        now: Instant,
    ) -> Verdict {
        let Some(number) = one.number.filter(|_| !one.ended) else { return Verdict::Fine(None) };
        let is_answered = one.waiting.is_some();
        if closed && !is_answered {
            return Verdict::Ends(Why::Closed);
        }
        if is_answered && one.requests == one.requests_seen && !self.dirty.contains(&one.token) {
            return Verdict::Fine(None);
        }
        let Some(Traffic { read, unread }) = sockets::traffic(number, peer) else {
            return Verdict::Fine(None);
        };
        if one.requests != one.requests_seen || read < one.read_before {
            one.requests_seen = one.requests;
            one.read_before = read;
            one.asking = None;
        }
        let head = read - one.read_before;
        let most = u64::from(limits.header_bytes) + READ_AHEAD + one.body;
        if head > most {
            return if head > FLOOD * most { Verdict::Floods(Why::Large) } else { Verdict::Ends(Why::Large) };
        }
        // Where many do so at once, those who count their requests get behind. What is left of a body is none.
        if head >= one.body
            && unread > MOST_WAITING as u64 * SHORTEST_REQUEST
            && sockets::requests_unread(number, peer) > MOST_WAITING + 1
        {
            return Verdict::Floods(Why::Pipelined);
        }
        if is_answered {
            return Verdict::Fine(None);
        }
        if one.requests == 0 {
            one.asking.get_or_insert(one.came);
        } else if head + unread > 0 {
            one.asking.get_or_insert(now);
        }
        let (end, why) = match one.asking {
            Some(since) => (since + limits.request_time, Why::Slow),
            None => (one.quiet + limits.idle_time, Why::Idle),
        };
        if now >= end {
            return Verdict::Ends(why);
        }
        if read > 0 || unread == 0 {
            one.unread = None;
            return Verdict::Fine(Some(end));
        }
        let since = *one.unread.get_or_insert(now);
        match now >= since + PATIENCE {
            true => Verdict::Forgotten,
            false => Verdict::Fine(Some(since + PATIENCE)),
        }
    }

    /// Ends those that have asked for nothing for the longest time, where there are too many, and so many in any case.
    fn make_room(&self, table: &mut Table, limits: &Limits, at_least: usize) {
        let guard = &self.guard;
        let mut of_party: HashMap<IpAddr, usize> = HashMap::new();
        let mut all = 0;
        for ((_, peer), _) in table.connections.iter().filter(|(_, one)| !one.ended) {
            all += 1;
            if let Some(party) = guard.party(*peer) {
                *of_party.entry(party).or_default() += 1;
            }
        }
        let connections = limits.connections.min(guard.context.stuck.room()) as usize;
        of_party.retain(|party, count| *count > limits.connections_per_address.of(*party));
        if all <= connections && of_party.is_empty() && at_least == 0 {
            return;
        }
        let mut quiet: Vec<(&Key, &mut Connection)> = table
            .connections
            .iter_mut()
            .filter(|(_, one)| !one.ended && one.waiting.is_none() && one.number.is_some())
            .collect();
        quiet.sort_by_key(|(_, one)| one.quiet);
        // First those of who has too many, and only then those of all.
        for ((_, peer), one) in &mut quiet {
            let most = limits.connections_per_address.of(peer.ip());
            let count = guard.party(*peer).and_then(|party| of_party.get_mut(&party));
            if let Some(count) = count.filter(|count| **count > most) {
                *count -= 1;
                all -= 1;
                guard.end(one, *peer, Why::Crowded);
            }
        }
        let excess = all.saturating_sub(connections).max(at_least);
        for ((_, peer), one) in quiet.iter_mut().filter(|(_, one)| !one.ended).take(excess) {
            guard.end(one, *peer, Why::Crowded);
        }
    }
}

/// What is found of a connection.
enum Verdict {
    /// It may stay, and has to be looked at again then.
    Fine(Option<Instant>),
    /// tiny_http has forgotten it.
    Forgotten,
    Ends(Why),
    /// It is ended, and who sent that is kept out.
    Floods(Why),
}
