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
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::active_stream::{ActiveStream, Unsent};
use super::chunked::Chunk;
use super::rota::Rota;
use super::{Listeners, pacing};
use crate::media::ring::{Place, Read, Reader, Ring};
use crate::sys::clock::monotonic_ns;

/// The buffer of a thread in bytes: more than the longest interval brings in nearly every format.
const BATCH_BYTES: usize = 64 * 1024;
/// The stack of a thread in bytes. Buffers are on the heap.
const STACK: usize = 128 * 1024;
/// The longest sleep of a thread whose ring gets no blocks.
const POLL: Duration = Duration::from_secs(1);
/// A thread without listeners waits this long for one before it ends. Otherwise a single listener on a bad network, which
/// leaves and joins all the time, would start a thread each time.
const LINGER: Duration = Duration::from_secs(1);
/// If there is no thread for a listener that leaves, the next attempt is made after this time.
const RETRY: Duration = Duration::from_millis(20);

/// The fan-out threads of all rings.
#[derive(Default)]
pub struct Fanouts {
    /// Locked to join, and by a thread that ends: a stream that was sent under this lock has a thread that receives it.
    /// No other lock is taken while it is held.
    running: Mutex<Vec<Running>>,
}

/// A fan-out thread, as listeners see it.
struct Running {
    ring: Ring,
    low_latency: bool,
    joining: Sender<Box<ActiveStream>>,
}

impl Fanouts {
    /// Gives a stream that has nothing left to send to the fan-out thread of its ring, which is started if it does not
    /// run.
    ///
    /// # Errors
    ///
    /// The stream itself, if the operating system gives no thread.
    pub(super) fn join(self: &Arc<Self>, stream: Box<ActiveStream>) -> Result<(), Box<ActiveStream>> {
        self.join_with(stream, FanoutThread::run)
    }

    /// Returns `true` if the fan-out thread of the stream's ring runs.
    pub(super) fn runs_for(&self, stream: &ActiveStream) -> bool {
        let running = self.lock();
        running.iter().any(|one| one.is_for(&stream.ring, stream.low_latency))
    }

    /// Like [`join`](Self::join), with the given body for a new thread.
    fn join_with(
        self: &Arc<Self>,
        stream: Box<ActiveStream>,
        body: fn(&mut FanoutThread),
    ) -> Result<(), Box<ActiveStream>> {
        let mut running = self.lock();
        let found = running.iter().position(|one| one.is_for(&stream.ring, stream.low_latency));
        let index = match found {
            Some(index) => index,
            None => {
                let Ok(joining) = FanoutThread::start(self, &stream, body) else { return Err(stream) };
                let (ring, low_latency) = (stream.ring.clone(), stream.low_latency);
                running.push(Running { ring, low_latency, joining });
                running.len() - 1
            }
        };
        running[index].joining.send(stream).map_err(|unsent| unsent.0)
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
    listeners: Arc<Listeners>,
    ring: Ring,
    low_latency: bool,
    joining: Receiver<Box<ActiveStream>>,
    /// The streams that the thread sends to.
    streams: Vec<Box<ActiveStream>>,
    /// Index of the stream that is being sent to.
    current: usize,
    /// Streams that leave, and had no thread yet.
    leaving: Vec<Box<ActiveStream>>,
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
        stream: &ActiveStream,
        body: fn(&mut FanoutThread),
    ) -> io::Result<Sender<Box<ActiveStream>>> {
        let (sender, joining) = unbounded();
        let mut this = FanoutThread::new(fanouts, stream, joining);
        let name = format!("fanout {}", stream.input.name);
        thread::Builder::new().name(name).stack_size(STACK).spawn(move || {
            this.is_retired = false;
            body(&mut this);
        })?;
        Ok(sender)
    }

    fn new(
        fanouts: &Arc<Fanouts>,
        stream: &ActiveStream,
        joining: Receiver<Box<ActiveStream>>,
    ) -> FanoutThread {
        FanoutThread {
            fanouts: Arc::clone(fanouts),
            listeners: Arc::clone(&stream.listeners),
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
        let interval = match self.low_latency {
            true => Duration::ZERO,
            false => pacing::interval(self.listeners.settings.interval(), self.listeners.count()),
        };
        let every = pacing::blocks_in(interval, self.ring.format(), self.ring.block_frames());
        self.rota = Rota::new(every, self.streams.len());
        // The batch of the last round ends at another live edge.
        self.batch.from = None;
        let (end, interval_us) = (blocks.end, interval.as_micros() as u32);
        for group in self.rota.due_in(blocks) {
            self.send_group(group, |stream, batch| stream.send_new(batch, interval_us));
        }
        self.rota.next_due(end)
    }

    /// Sends to all listeners of a group with `send_to`, which returns `false` for a listener that leaves.
    fn send_group(&mut self, group: u64, mut send_to: impl FnMut(&mut ActiveStream, &mut Batch) -> bool) {
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
                self.batch.from = None;
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
    fn release(&mut self, stream: Box<ActiveStream>) {
        if let Err(stream) = stream.resume(&self.fanouts) {
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

/// Frames between two places in the ring, ready to be sent to many listeners.
struct Batch {
    chunk: Chunk,
    /// The first frame. `None` if the batch has to be filled again.
    from: Option<u64>,
    /// The place behind the last frame.
    to: Place,
    frames: u64,
    /// CLOCK_MONOTONIC in ns when the last block was captured.
    captured_at: u64,
    /// True if the batch reaches to the live edge.
    reaches_edge: bool,
}

impl Batch {
    fn new(ring: &Ring) -> Batch {
        Batch {
            chunk: Chunk::new(BATCH_BYTES.max(ring.format().frame_bytes())),
            from: None,
            to: ring.reader(0).place(),
            frames: 0,
            captured_at: 0,
            reaches_edge: false,
        }
    }

    /// Copies all frames from that reader's place on, as far as they fit. Returns `false` if the reader was lapped or its
    /// ring was closed.
    fn fill(&mut self, from: &Reader) -> bool {
        let mut reader = from.clone();
        let frame_bytes = reader.format().frame_bytes();
        (self.from, self.frames, self.reaches_edge) = (None, 0, false);
        self.chunk.clear();
        while self.chunk.spare().len() >= frame_bytes {
            match reader.read(self.chunk.spare()) {
                Read::Block { frames, captured_at } => {
                    self.chunk.advance(frames * frame_bytes);
                    self.frames += frames as u64;
                    self.captured_at = captured_at;
                }
                Read::Nothing => {
                    self.reaches_edge = true;
                    break;
                }
                Read::Lapped { .. } | Read::End => return false,
            }
        }
        self.from = Some(from.frame());
        self.to = reader.place();
        true
    }
}

impl ActiveStream {
    /// Sends all frames up to the live edge without waiting. Returns `false` if the listener has to leave the fan-out:
    /// the kernel does not accept all of it, the connection failed, the reader was lapped, or the ring was closed.
    fn send_new(&mut self, batch: &mut Batch, interval_us: u32) -> bool {
        let listener = &*self.listener;
        listener.interval_us.store(interval_us, Ordering::Relaxed);
        loop {
            if batch.from != Some(self.reader.frame()) && !batch.fill(&self.reader) {
                return false;
            }
            if batch.frames == 0 {
                return true;
            }
            let bytes = batch.chunk.bytes(self.playback.chunked);
            let sent = match send(listener.socket(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => sent,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(error) => {
                    self.failure = Some(self.end_of(&error.into()));
                    return false;
                }
            };
            self.reader.go_to(batch.to);
            if sent < bytes.len() {
                self.unsent = Unsent { bytes: bytes[sent..].to_vec(), frames: batch.frames };
                return false;
            }
            listener.sent.fetch_add(batch.frames, Ordering::Relaxed);
            listener.position.store(batch.to.frame, Ordering::Relaxed);
            listener.latency.record(monotonic_ns().saturating_sub(batch.captured_at));
            if batch.reaches_edge {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
