//! `/NAME/levels`: the levels and the state of an input as server-sent events, for the pages that are open.
//!
//! There are three kinds of events, all JSON:
//!
//! ```text
//! data: {"frame":4410000,"time":98765.43,"now":98767.01,"levels":[[-18.1,-21.2,0],[-18.3,-21.2,0]]}
//!
//! event: state
//! data: {"input":"live","phase":"capturing","seconds":12.3, …}
//!
//! event: inputs
//! data: [["capturing",-18.1],["lost",null]]
//! ```
//!
//! `levels` has peak and RMS (dBFS, `null` for digital silence) of the time since the event before, and the
//! number of samples at full scale since the stream began, for each channel. `frame` is the last frame
//! captured, `time` its time of capture and `now` the time of sending, in ms of the server's clock: by these
//! the page knows how far it is behind the room. `state` is the first event, and is sent again whenever
//! something in it changes. `inputs` has the phase and the peak of every input, in the order of the configuration, where
//! there are several; it comes with the levels.
//!
//! Events come 20 times a second, or as `interval=MS` says: each event wakes a browser, so a page that draws
//! less often asks for fewer. Subscribers of the same topic (input and interval) receive the same bytes.
//!
//! # The thread
//!
//! One thread named "events" sends to all subscribers. It starts with the first subscription and ends after
//! the last, and it never waits for a client: a subscriber that does not accept an event whole is
//! disconnected, and reconnects by itself. With more than a hundred subscribers each gets fewer events.
//!
//! Subscriptions reach the thread through a channel. So the thread holds no lock while it gathers and sends,
//! and [`join`](EventSubscribers::join) waits for no client. A panic while the events of a topic are gathered
//! ends the subscriptions of that topic; a panic anywhere else ends all of them and the thread, and the next
//! subscription starts another thread.

use std::fmt::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, unbounded};
use log::error;
use rustix::net::{SendFlags, send, sockopt};

use crate::inputs::{Inputs, LiveInput};
use crate::listeners::chunked::{self, Chunk};
use crate::media::meter::Reading;
use crate::sys::clock::monotonic_ns;

/// Events per second for all subscribers together. With more of them, the interval of each one grows.
const EVENTS_PER_SECOND: u32 = 2000;
/// Send buffer of a subscriber's socket, in bytes: a second or two of events. The kernel doubles it.
const SEND_BUFFER: usize = 64 * 1024;
/// Size limit of an event, in bytes. Texts in it come from the configuration and from drivers; a longer event
/// is left out.
const MAX_EVENT: usize = 16 * 1024;
/// Stack of the thread, in bytes: it formats short texts.
const STACK: usize = 128 * 1024;
/// Time that [`EventSubscribers::end`] waits for the last bytes to be sent.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of an input as the page receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateEvent {
    /// The data of the event.
    pub json: String,
    /// Equal for two states that differ in nothing that is worth an event.
    pub fingerprint: String,
}

/// A function that returns the state of an input, `None` for an input that no longer runs.
pub type StateSource = Box<dyn Fn(&LiveInput) -> Option<StateEvent> + Send + Sync>;

/// The events that a subscriber wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Name of the input.
    pub input: String,
    /// Smallest time between two events of levels.
    pub interval: Duration,
}

/// The clients that receive events.
pub struct EventSubscribers {
    inputs: Arc<Inputs>,
    state: StateSource,
    /// Number of admissions that are held.
    count: Arc<AtomicUsize>,
    /// Guards the start and the end of the thread. Held for no longer than it takes to start one.
    thread: Mutex<Thread>,
}

/// The state of the sending thread.
#[derive(Default)]
struct Thread {
    /// Leads to the thread that runs; `None` while there is none.
    commands: Option<Sender<Command>>,
    /// The program ends: no subscription is taken any more.
    has_ended: bool,
}

enum Command {
    Join(Subscription),
    /// End all subscriptions, then drop the sender.
    End(Sender<()>),
}

/// A subscriber's place among those that may be open; given back when it is dropped.
pub struct Admission(Arc<AtomicUsize>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl EventSubscribers {
    /// Returns an empty list. `state` is called on the sending thread, at most once per topic and interval.
    pub fn new(inputs: Arc<Inputs>, state: StateSource) -> EventSubscribers {
        EventSubscribers { inputs, state, count: Arc::default(), thread: Mutex::default() }
    }

    /// Returns the number of subscribers.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts one more subscriber, unless there are `max` already.
    pub fn admit(&self, max: u32) -> Option<Admission> {
        let more = |count| (count < max as usize).then_some(count + 1);
        let admitted = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        admitted.ok().map(|_| Admission(Arc::clone(&self.count)))
    }

    /// Sends events to a socket from now on, and returns at once. The thread sends `first` (head of the
    /// response and greeting, framed already), then the state, then the events of the topic.
    ///
    /// `place` is whatever has to live as long as the subscription: the [`Admission`], and the connection's
    /// slot in the gate. It is dropped after the socket was shut down.
    ///
    /// # Errors
    ///
    /// The socket, for another response, if the operating system gives no thread.
    pub fn join(
        self: &Arc<Self>,
        topic: Topic,
        socket: TcpStream,
        place: Box<dyn Send + Sync>,
        chunked: bool,
        first: Vec<u8>,
    ) -> Result<(), TcpStream> {
        // An error is a client that is gone, which the first send finds out.
        let _ = sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER);
        let mut thread = self.lock();
        if thread.has_ended {
            return Ok(());
        }
        if thread.commands.is_none() {
            let (sender, commands) = unbounded();
            let subscribers = Arc::clone(self);
            let builder = thread::Builder::new().name("events".to_owned()).stack_size(STACK);
            match builder.spawn(move || subscribers.run(&commands)) {
                Ok(_) => thread.commands = Some(sender),
                Err(error) => {
                    drop(thread);
                    error!("no thread can be started for the pages' levels: {error}");
                    return Err(socket);
                }
            }
        }
        if let Some(commands) = &thread.commands {
            let subscription = Subscription { topic, socket, chunked, first, seen_version: 0, _place: place };
            // Received, or dropped with the channel by a thread that panicked.
            let _ = commands.send(Command::Join(subscription));
        }
        Ok(())
    }

    /// Ends all subscriptions, each with its last chunk, and takes no more.
    pub fn end(&self) {
        let (done, ended) = unbounded::<()>();
        let commands = {
            let mut thread = self.lock();
            thread.has_ended = true;
            thread.commands.clone()
        };
        if commands.is_some_and(|commands| commands.send(Command::End(done)).is_ok()) {
            // Nothing is ever sent; the end of the sender is the signal.
            let _ = ended.recv_timeout(END_TIMEOUT);
        }
    }

    /// Ends all subscriptions. Clients may subscribe again.
    pub fn disconnect_all(&self) {
        let commands = self.lock().commands.clone();
        // Without a thread there is nobody to disconnect.
        let _ = commands.map(|commands| commands.send(Command::End(unbounded().0)));
    }

    /// The sending thread.
    fn run(&self, commands: &Receiver<Command>) {
        let _guard = ThreadGuard { subscribers: self, commands };
        let mut channels: Vec<Channel> = Vec::new();
        loop {
            let due = channels.iter().map(|channel| channel.due).min();
            let due = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
            match commands.recv_deadline(due) {
                Ok(Command::Join(subscription)) => join_channel(&mut channels, subscription),
                Ok(Command::End(done)) => {
                    channels.drain(..).for_each(Channel::end);
                    drop(done);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Before anything is sent: one round is enough for all that joined meanwhile.
            while let Ok(command) = commands.try_recv() {
                match command {
                    Command::Join(subscription) => join_channel(&mut channels, subscription),
                    Command::End(_done) => channels.drain(..).for_each(Channel::end),
                }
            }
            self.send_round(&mut channels, Instant::now());
            if channels.is_empty() && self.stop_if_idle(commands) {
                return;
            }
        }
    }

    /// Sends to all subscribers that are due, and drops the channels that nobody is subscribed to.
    fn send_round(&self, channels: &mut Vec<Channel>, now: Instant) {
        let subscribers: usize = channels.iter().map(|channel| channel.subscriptions.len()).sum();
        let min_interval = Duration::from_secs(1) / EVENTS_PER_SECOND * subscribers as u32;
        channels.retain_mut(|channel| {
            // The state comes from elsewhere. A bug there must not end the events of other inputs.
            match catch_unwind(AssertUnwindSafe(|| {
                channel.gather(&self.inputs, &self.state, now, min_interval)
            })) {
                Ok(Some(has_levels)) => channel.send(has_levels),
                Ok(None) => channel.subscriptions.drain(..).for_each(Subscription::end),
                // Without the last chunk, so that the clients reconnect. The panic is in the log.
                Err(_) => channel.subscriptions.clear(),
            }
            !channel.subscriptions.is_empty()
        });
    }

    /// Ends the thread's work unless somebody has joined meanwhile. The lock makes the two exclude each
    /// other.
    fn stop_if_idle(&self, commands: &Receiver<Command>) -> bool {
        let mut thread = self.lock();
        let is_idle = commands.is_empty();
        if is_idle {
            thread.commands = None;
        }
        is_idle
    }

    fn lock(&self) -> MutexGuard<'_, Thread> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the next subscription start a new thread, however this one ended, and drops those that are still in
/// the channel.
struct ThreadGuard<'a> {
    subscribers: &'a EventSubscribers,
    commands: &'a Receiver<Command>,
}

impl Drop for ThreadGuard<'_> {
    fn drop(&mut self) {
        // After an orderly end another thread may run already, with a channel of its own.
        if thread::panicking() {
            self.subscribers.lock().commands = None;
            while !matches!(self.commands.try_recv(), Err(TryRecvError::Empty | TryRecvError::Disconnected)) {
            }
        }
    }
}

/// A client that receives the events of one topic.
struct Subscription {
    topic: Topic,
    socket: TcpStream,
    chunked: bool,
    /// Bytes that precede the first event; empty once they are sent.
    first: Vec<u8>,
    /// The state that it was sent last; 0 for none.
    seen_version: u64,
    _place: Box<dyn Send + Sync>,
}

impl Subscription {
    /// Sends all of it at once, or returns `false`: then this subscription is over, since framing that was
    /// cut cannot be mended.
    fn send(&self, bytes: &[u8]) -> bool {
        send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) == Ok(bytes.len())
    }

    /// Ends the response in order.
    fn end(self) {
        if self.chunked {
            self.send(chunked::LAST);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // An error is a client that was faster.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// A topic with its subscribers and the events that are ready to be sent.
struct Channel {
    topic: Topic,
    subscriptions: Vec<Subscription>,
    /// Time of the next levels.
    due: Instant,
    levels: Chunk,
    state: Chunk,
    /// Counts the states, from 1; that of the one in `state`.
    state_version: u64,
    fingerprint: String,
    /// ID of the ring whose levels were sent, and the block that comes next.
    seen_levels: (u64, u64),
}

/// Puts a subscription into the channel of its topic.
fn join_channel(channels: &mut Vec<Channel>, subscription: Subscription) {
    match channels.iter_mut().find(|channel| channel.topic == subscription.topic) {
        Some(channel) => channel.subscriptions.push(subscription),
        None => channels.push(Channel::new(subscription)),
    }
}

impl Channel {
    fn new(subscription: Subscription) -> Channel {
        Channel {
            topic: subscription.topic.clone(),
            subscriptions: vec![subscription],
            due: Instant::now(),
            levels: Chunk::new(MAX_EVENT),
            state: Chunk::new(MAX_EVENT),
            state_version: 0,
            fingerprint: String::new(),
            seen_levels: (0, 0),
        }
    }

    /// Gathers the events that are due. Returns `true` if levels are among them, `None` if there is no such
    /// input any more.
    fn gather(
        &mut self,
        inputs: &Inputs,
        state: &StateSource,
        now: Instant,
        min_interval: Duration,
    ) -> Option<bool> {
        let has_levels = self.due <= now;
        // A new subscriber hears of the state at once, and does not wait for the next levels.
        let has_new = self.subscriptions.iter().any(|subscription| subscription.seen_version == 0);
        if has_levels || has_new {
            let input = inputs.find(&self.topic.input)?;
            self.gather_state(state(&input)?);
            if has_levels {
                let levels = levels_event(&input, &mut self.seen_levels);
                fill(&mut self.levels, &(levels + &inputs_event(inputs)));
                // Events that were missed are not made up for.
                self.due = (self.due + self.topic.interval.max(min_interval)).max(now);
            }
        }
        Some(has_levels)
    }

    fn gather_state(&mut self, event: StateEvent) {
        if self.state_version == 0 || event.fingerprint != self.fingerprint {
            self.state_version += 1;
            self.fingerprint = event.fingerprint;
            fill(&mut self.state, &format!("event: state\ndata: {}\n\n", event.json));
        }
    }

    /// Sends to each subscriber the events that are new to it, and drops the subscribers that do not accept
    /// them.
    fn send(&mut self, has_levels: bool) {
        let Channel { subscriptions, levels, state, state_version, .. } = self;
        subscriptions.retain_mut(|subscription| {
            let first = std::mem::take(&mut subscription.first);
            let has_seen = subscription.seen_version == *state_version;
            subscription.seen_version = *state_version;
            (first.is_empty() || subscription.send(&first))
                && (has_seen || subscription.send(state.bytes(subscription.chunked)))
                && (!has_levels || subscription.send(levels.bytes(subscription.chunked)))
        });
    }

    fn end(self) {
        self.subscriptions.into_iter().for_each(Subscription::end);
    }
}

/// Returns the event with the levels since the block `seen.1` of the ring `seen.0`, and moves `seen` on.
fn levels_event(input: &LiveInput, seen: &mut (u64, u64)) -> String {
    // Without sound there are no levels, but a connection without a byte may be thought dead. A comment keeps
    // it alive.
    const COMMENT: &str = ":\n\n";
    let Some((ring, meter)) = input.sound() else { return COMMENT.to_owned() };
    let Some((frame, captured_at)) = ring.edge() else { return COMMENT.to_owned() };
    let next = meter.next_block();
    if seen.0 != ring.id() {
        *seen = (ring.id(), next.saturating_sub(1));
    }
    // At least one block, where blocks are longer than the interval.
    let readings = meter.since(seen.1.min(next.saturating_sub(1)));
    seen.1 = next;
    let ms = |ns: u64| ns as f64 / 1e6;
    let mut text = format!(
        "data: {{\"frame\":{frame},\"time\":{:.2},\"now\":{:.2},\"levels\":[",
        ms(captured_at),
        ms(monotonic_ns())
    );
    for (channel, reading) in readings.iter().enumerate() {
        let comma = if channel == 0 { "" } else { "," };
        let (peak, rms) = (Decibels(reading.peak_dbfs()), Decibels(reading.rms_dbfs()));
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}[{peak},{rms},{}]", reading.clipped);
    }
    text.push_str("]}\n\n");
    text
}

/// The time over which the peaks of all inputs are measured: their bars fall more slowly than that.
const INPUTS_WINDOW: Duration = Duration::from_millis(200);

/// Returns the event with phase and peak of every input; nothing if there is only one.
fn inputs_event(inputs: &Inputs) -> String {
    let all = inputs.all();
    if all.len() < 2 {
        return String::new();
    }
    let of = |input: &Arc<LiveInput>| {
        let readings = input.sound().map(|(_, meter)| meter.within(INPUTS_WINDOW)).unwrap_or_default();
        let peak = readings.into_iter().map(|reading| reading.peak).fold(0.0, f64::max);
        let peak = Reading { peak, ..Reading::default() }.peak_dbfs();
        format!("[\"{}\",{}]", input.state().phase.name(), Decibels(peak))
    };
    let all: Vec<String> = all.iter().map(of).collect();
    format!("event: inputs\ndata: [{}]\n\n", all.join(","))
}

/// A level in JSON.
struct Decibels(Option<f64>);

impl fmt::Display for Decibels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(level) => write!(f, "{level:.1}"),
            None => f.write_str("null"),
        }
    }
}

fn fill(chunk: &mut Chunk, text: &str) {
    chunk.clear();
    if text.len() <= chunk.capacity() {
        chunk.push(text.as_bytes());
    }
}

#[cfg(test)]
mod tests;
