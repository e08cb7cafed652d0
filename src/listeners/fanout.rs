//! The fan-out: one thread sends to all listeners of a ring that keep up.
//!
//! The cost of a listener is not its bytes but the wake-up of its thread, about three times the cost of its send, and the
//! memory of a thread that sleeps. So a listener that has [caught up](super::catch_up) with the live edge joins a fan-out,
//! and its own thread ends. Each ring has a fan-out thread for ordinary and one for low-latency listeners, so that all
//! listeners of a thread have the same interval. The thread starts with the first listener and ends after the last.
//!
//! Whenever a listener is [due](super::rota), the thread sends it all frames that are new, and never waits for it. As
//! nearly all listeners are at the same place in the ring, the thread copies the frames out of the ring once: a batch.
//!
//! A listener whose socket does not accept all of a send leaves: it gets a thread of its own, waits there, catches up or
//! skips, and joins again. So a slow listener costs the time of its own thread and of nobody else.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::batch::Batch;
use super::catch_up::Step;
use super::list::List;
use super::pacing;
use super::rota::Rota;
use super::stream::{End, Stream};
use crate::media::ring::Ring;
use crate::settings::Settings;

/// The stack of a thread in bytes. Buffers are on the heap; formatting a log line goes deepest.
const STACK: usize = 128 * 1024;
/// The longest sleep of a thread whose ring gets no blocks.
const POLL: Duration = Duration::from_secs(1);
/// A thread without listeners waits this long for one before it ends. Otherwise a single listener on a bad network, which
/// leaves and joins all the time, would start a thread each time.
const LINGER: Duration = Duration::from_secs(1);
/// If there is no thread for a listener that leaves, the next attempt is made after this time.
const RETRY: Duration = Duration::from_millis(20);

/// The fan-out threads that run.
#[derive(Default)]
pub(super) struct Fanouts {
    /// Locked to join, and by a thread that ends: a stream that was sent under this lock has a thread that receives it.
    /// No other lock is taken while it is held.
    running: Mutex<Vec<Running>>,
}

/// A fan-out thread, as listeners see it.
struct Running {
    ring: Ring,
    low_latency: bool,
    joining: Sender<Box<Stream>>,
}

impl Fanouts {
    /// Starts the thread "listener", in which the stream catches up before it joins.
    ///
    /// # Errors
    ///
    /// The stream itself, if the operating system gives no thread.
    pub(super) fn start(self: &Arc<Self>, stream: Box<Stream>) -> Result<(), Box<Stream>> {
        let fanouts = Arc::clone(self);
        // The stream goes to the thread after its start: what a closure holds is lost if there is no thread.
        let (sender, receiver) = bounded(1);
        let body = move || {
            if let Ok(stream) = receiver.recv() {
                fanouts.catch_up(stream);
            }
        };
        match thread::Builder::new().name("listener".to_owned()).stack_size(STACK).spawn(body) {
            Ok(_) => sender.send(stream).map_err(|unsent| unsent.0),
            Err(_) => Err(stream),
        }
    }

    /// Body of the thread "listener": sends until the stream is at the live edge or has ended.
    fn catch_up(self: &Arc<Self>, mut stream: Box<Stream>) {
        stream.log_start();
        loop {
            match stream.catch_up() {
                Step::End(end) => return stream.end(end),
                Step::Join => match self.join(stream) {
                    Ok(()) => return,
                    // The operating system has no thread for the fan-out. This one goes on and tries again.
                    Err(back) => stream = back,
                },
            }
            stream.sleep();
        }
    }

    /// Gives a stream that has nothing left to send to the fan-out thread of its ring, which is started if it does not
    /// run.
    ///
    /// # Errors
    ///
    /// The stream itself, if the operating system gives no thread.
    fn join(self: &Arc<Self>, stream: Box<Stream>) -> Result<(), Box<Stream>> {
        self.join_with(stream, FanoutThread::run)
    }

    /// Starts a stream: without a thread of its own, if the kernel takes all sound up to the live edge at once.
    ///
    /// # Errors
    ///
    /// The stream itself, if the operating system gives no thread. Nothing was sent to it.
    pub(super) fn begin(self: &Arc<Self>, mut stream: Box<Stream>) -> Result<(), Box<Stream>> {
        // There must be a thread to join before anything is sent.
        if !stream.can_start_at_once() || !self.has_thread_for(&stream) {
            return self.start(stream);
        }
        stream.log_start();
        let next = match stream.start_at_once() {
            Some(Step::Join) => self.join(stream),
            Some(Step::End(end)) => {
                stream.end(end);
                Ok(())
            }
            None => Err(stream),
        };
        if let Err(stream) = next.or_else(|stream| self.start(stream)) {
            // Without a thread nobody can wait until the client accepts the rest.
            stream.end(End::Stalled);
        }
        Ok(())
    }

    /// Returns whether the fan-out thread for that stream runs, after an attempt to start it.
    fn has_thread_for(self: &Arc<Self>, stream: &Stream) -> bool {
        self.thread_for(&mut self.lock(), stream, FanoutThread::run).is_ok()
    }

    /// Like [`join`](Self::join), with the given body for a new thread.
    fn join_with(
        self: &Arc<Self>,
        stream: Box<Stream>,
        body: fn(&mut FanoutThread),
    ) -> Result<(), Box<Stream>> {
        let mut running = self.lock();
        match self.thread_for(&mut running, &stream, body) {
            Ok(index) => running[index].joining.send(stream).map_err(|unsent| unsent.0),
            Err(_) => Err(stream),
        }
    }

    /// Returns the index of the thread for that stream, which is started with this body if it does not run.
    fn thread_for(
        self: &Arc<Self>,
        running: &mut Vec<Running>,
        stream: &Stream,
        body: fn(&mut FanoutThread),
    ) -> io::Result<usize> {
        if let Some(index) = running.iter().position(|one| one.is_for(&stream.ring, stream.low_latency)) {
            return Ok(index);
        }
        let joining = FanoutThread::start(self, stream, body)?;
        running.push(Running { ring: stream.ring.clone(), low_latency: stream.low_latency, joining });
        Ok(running.len() - 1)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn is_for(&self, ring: &Ring, low_latency: bool) -> bool {
        self.ring.is(ring) && self.low_latency == low_latency
    }
}

/// The state of one fan-out thread.
#[expect(clippy::vec_box, reason = "a stream goes from one thread to the other as one pointer")]
struct FanoutThread {
    fanouts: Arc<Fanouts>,
    settings: Arc<Settings>,
    list: Arc<List>,
    ring: Ring,
    low_latency: bool,
    joining: Receiver<Box<Stream>>,
    /// The streams that the thread sends to.
    streams: Vec<Box<Stream>>,
    /// Index of the stream that is being sent to.
    current: usize,
    /// Streams that leave, and had no thread yet.
    leaving: Vec<Box<Stream>>,
    batch: Batch,
    /// The turns, as of the last round.
    rota: Rota,
    /// Set once the thread is not among those that run any more.
    is_retired: bool,
}

impl FanoutThread {
    /// Starts a thread for listeners like that one. The caller holds the lock and adds the thread to those that run.
    fn start(
        fanouts: &Arc<Fanouts>,
        stream: &Stream,
        body: fn(&mut FanoutThread),
    ) -> io::Result<Sender<Box<Stream>>> {
        let (sender, joining) = unbounded();
        let mut this = FanoutThread::new(fanouts, stream, joining);
        let name = format!("fanout {}", stream.input.name);
        thread::Builder::new().name(name).stack_size(STACK).spawn(move || {
            this.is_retired = false;
            body(&mut this);
        })?;
        Ok(sender)
    }

    fn new(fanouts: &Arc<Fanouts>, stream: &Stream, joining: Receiver<Box<Stream>>) -> FanoutThread {
        FanoutThread {
            fanouts: Arc::clone(fanouts),
            settings: Arc::clone(&stream.settings),
            list: Arc::clone(stream.listener.list()),
            ring: stream.ring.clone(),
            low_latency: stream.low_latency,
            joining,
            streams: Vec::new(),
            current: 0,
            leaving: Vec::new(),
            batch: Batch::new(&stream.ring),
            rota: Rota::new(1, 0),
            // Until the thread runs: if it cannot be started, this is dropped while the lock is held.
            is_retired: true,
        }
    }

    /// Sends to all listeners that are due, until there are none left.
    fn run(&mut self) {
        let clock = self.ring.reader(0);
        // The first block that was in no round, and the first block at which a listener is due. All listeners
        // are in the first round.
        let (mut next, mut due) = (0, 0);
        loop {
            if self.streams.is_empty() && self.leaving.is_empty() {
                let linger = if self.ring.is_closed() { Duration::ZERO } else { LINGER };
                match self.joining.recv_timeout(linger) {
                    Ok(stream) => self.streams.push(stream),
                    Err(_) if self.retire() => return,
                    Err(_) => continue,
                }
                (next, due) = (0, 0);
            }
            // Tells the capture thread before the round for which block the next round waits: it plans its sleep in the
            // meantime.
            clock.register_next_wait(self.rota.next_due(due + 1));
            clock.wait(due, POLL);
            let (published, is_closed) = (clock.next_block(), self.ring.is_closed());
            if published <= due && !is_closed {
                continue;
            }
            self.streams.extend(self.joining.try_iter());
            if is_closed {
                self.leaving.append(&mut self.streams);
            }
            self.release_leaving();
            due = self.send_due(next..published);
            next = published;
            if is_closed && !self.leaving.is_empty() {
                thread::sleep(RETRY);
            }
        }
    }

    /// Removes this thread from those that run, unless a stream has joined meanwhile.
    fn retire(&mut self) -> bool {
        let mut running = self.fanouts.lock();
        self.is_retired = self.joining.is_empty();
        if self.is_retired {
            running.retain(|one| !one.is_for(&self.ring, self.low_latency));
        }
        self.is_retired
    }

    /// Sends to all listeners that were due at one of these blocks. Returns the first block after them at which a
    /// listener is due.
    fn send_due(&mut self, blocks: Range<u64>) -> u64 {
        let interval = pacing::current(&self.settings, self.list.count(), self.low_latency);
        let every = pacing::blocks_in(interval, self.ring.format(), self.ring.block_frames());
        self.rota = Rota::new(every, self.streams.len());
        self.batch.clear();
        let (end, interval_us) = (blocks.end, interval.as_micros() as u32);
        for group in self.rota.due_in(blocks) {
            self.send_group(group, |stream, batch| stream.send_new(batch, interval_us));
        }
        self.rota.next_due(end)
    }

    /// Sends to all listeners of a group with `send_to`, which returns `false` for a listener that leaves.
    fn send_group(&mut self, group: u64, mut send_to: impl FnMut(&mut Stream, &mut Batch) -> bool) {
        self.current = 0;
        while self.current < self.streams.len() {
            // A panic ends the stream that it happens in, and no other.
            let sent = catch_unwind(AssertUnwindSafe(|| {
                while let Some(stream) = self.streams.get_mut(self.current) {
                    if self.rota.group_of(stream.listener.id) != group || send_to(stream, &mut self.batch) {
                        self.current += 1;
                    } else {
                        let stream = self.streams.swap_remove(self.current);
                        self.release(stream);
                    }
                }
            }));
            if sent.is_err() && self.current < self.streams.len() {
                // Some bytes may have been sent to the listener, and the batch may be half filled.
                drop(self.streams.swap_remove(self.current));
                self.batch.clear();
            }
        }
    }

    /// Tries again to give threads to streams that leave.
    fn release_leaving(&mut self) {
        for stream in std::mem::take(&mut self.leaving) {
            self.release(stream);
        }
    }

    /// Gives a stream that leaves a thread of its own.
    fn release(&mut self, stream: Box<Stream>) {
        if let Err(stream) = self.fanouts.start(stream) {
            self.leaving.push(stream);
        }
    }
}

impl Drop for FanoutThread {
    /// After a panic: the listeners of this thread are disconnected by the drop of their streams, and the next ones that
    /// join get another thread.
    fn drop(&mut self) {
        if !self.is_retired {
            self.fanouts.lock().retain(|one| !one.is_for(&self.ring, self.low_latency));
        }
    }
}

#[cfg(test)]
mod tests;
