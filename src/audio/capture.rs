//! The reader thread: source → ring, and what happens when the source is lost.
//!
//! One thread an input. It blocks on its source and on nothing else: it opens and closes no device (a dying
//! USB hub can hold an open or a close for seconds), writes no log and waits for no lock that a listener
//! holds. Per block it allocates nothing and makes no system call but its source's and, where somebody waits for that
//! block, one wake-up. Blocks that nobody waits for it leaves with the source for a while (`nap.rs`), until somebody does.
//!
//! # Time
//!
//! The stream's time is the source's while there is one, and the clock's while there is none: sound that was
//! lost is replaced by as much silence. So players stay connected with their buffers as full as they were,
//! and a recording of an hour is an hour long.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, select};

use super::convert::Converter;
use super::devices;
use super::drift::Drift;
use super::format::StreamFormat;
use super::input::LiveInput;
use super::levels::Levels;
use super::nap::Nap;
use super::source::{self, Got, Info, Loss, OpenError, Source};
use crate::config;
use crate::os::{self, monotonic_ns};
use crate::ring::{self, Writer};
use crate::threads;

/// A source that is silent for this long is closed and opened again.
const HUNG: Duration = Duration::from_secs(2);
/// The pause before a lost source is opened again; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A source that worked this long is opened again after the first pause when it is lost.
const SOUND: Duration = Duration::from_secs(10);

/// A thread that has nothing to do shows so often that it is there.
const TURN: Duration = Duration::from_millis(500);

/// What a capture thread tells the main thread.
pub struct Event {
    /// Whose it is.
    pub input: Arc<LiveInput>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug)]
pub enum What {
    /// The source was opened, and its first sound is in the ring.
    Opened(Info),
    /// It could not be opened; it will be tried again.
    OpenFailed(OpenError),
    /// It was open and is lost. Again and again for one that opens each time but never brings a sound.
    Lost(Loss),
    /// It dropped frames because the capture thread was late.
    Overrun,
    /// The operating system refused the capture thread real-time priority.
    RealtimeRefused(io::Error),
}

/// A running capture thread. Dropping it lets the thread end by itself.
pub struct Capture {
    /// Nothing is ever sent: its end is the signal.
    stop: Sender<()>,
    thread: JoinHandle<()>,
    /// What the thread leaves behind. (One that returned it would be 2 kB of code more.)
    feed: Arc<Mutex<Option<Feed>>>,
}

impl Capture {
    /// Starts to capture what `config` says into `input`'s ring, which keeps `keep` of sound.
    ///
    /// With the `feed` of an earlier capture its ring goes on, as long as the format stays.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub fn start(
        config: config::Input,
        keep: Duration,
        input: Arc<LiveInput>,
        events: Sender<Event>,
        feed: Option<Feed>,
    ) -> io::Result<Capture> {
        // One place, though nothing is ever sent: asking a channel without any takes a lock.
        let (stop, stopped) = bounded(1);
        let name = format!("capture {}", input.name);
        let thread = CaptureThread { config, keep, input, events, stopped, feed, pause: Duration::ZERO };
        let feed = Arc::<Mutex<Option<Feed>>>::default();
        let left = Arc::clone(&feed);
        let thread = threads::start(&name, None, move || {
            let feed = thread.run();
            *left.lock().unwrap_or_else(PoisonError::into_inner) = feed;
        })?;
        Ok(Capture { stop, thread, feed })
    }

    /// Stops the thread and returns what the next capture of this input needs to go on with the same ring.
    pub fn stop(self) -> Option<Feed> {
        drop(self.stop);
        let _ = self.thread.join();
        self.feed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct CaptureThread {
    config: config::Input,
    keep: Duration,
    input: Arc<LiveInput>,
    events: Sender<Event>,
    stopped: Receiver<()>,
    feed: Option<Feed>,
    /// Before the source is opened again.
    pause: Duration,
}

impl CaptureThread {
    /// Waits for a source, captures it until it is lost, and so on until it is stopped.
    fn run(mut self) -> Option<Feed> {
        if self.config.realtime_priority > 0 {
            if let Err(error) = os::realtime(self.config.realtime_priority) {
                self.tell(What::RealtimeRefused(error));
            }
        }
        devices::quiet_alsa();
        let mut lost = None;
        loop {
            let Some(mut source) = self.wait_for_source(lost.take()) else { break };
            let mut feed = self.feed_for(source.info());
            let opened = monotonic_ns();
            let ended = self.pump(&mut *source, &mut feed);
            self.feed = Some(feed);
            match ended {
                Some(loss) => {
                    self.input.counters.losses.fetch_add(1, Ordering::Relaxed);
                    self.tell(What::Lost(loss));
                    // What it had to say about that; without this it would be kept for ever.
                    devices::alsa_said();
                    let worked = Duration::from_nanos(monotonic_ns() - opened);
                    self.pause = next_pause(if worked > SOUND { Duration::ZERO } else { self.pause });
                    lost = Some(source);
                }
                None => break,
            }
        }
        self.feed
    }

    /// Feeds silence, if there is a ring yet, until another thread has closed the old source and opened a
    /// new one. `None` when it is stopped.
    fn wait_for_source(&mut self, lost: Option<Box<dyn Source>>) -> Option<Box<dyn Source>> {
        let (sender, opened) = bounded(1);
        let opener = Opener {
            config: self.config.clone(),
            input: Arc::clone(&self.input),
            events: self.events.clone(),
            stopped: self.stopped.clone(),
            pause: self.pause,
        };
        let name = format!("open {}", self.input.name);
        if let Err(error) = threads::start(&name, None, move || opener.run(lost, &sender)) {
            // Its sender is gone with it: the wait below ends at once, after which it is tried again.
            let advice = format!("no thread to open it: {error}");
            self.tell(What::OpenFailed(OpenError { advice, absent: false }));
        }
        loop {
            self.input.counters.turns.fetch_add(1, Ordering::Relaxed);
            let patience = self.feed.as_mut().map_or(TURN, |feed| {
                feed.silence_until(monotonic_ns());
                feed.until_next_block()
            });
            select! {
                recv(opened) -> source => match source {
                    Ok((source, pause)) => {
                        self.pause = pause;
                        return Some(source);
                    }
                    Err(_) => {
                        // The opener gave no source: it was stopped, or it never started.
                        if self.stopped.recv_timeout(TURN) == Err(crossbeam_channel::RecvTimeoutError::Disconnected) {
                            return None;
                        }
                        return self.wait_for_source(None);
                    }
                },
                recv(self.stopped) -> _ => return None,
                default(patience) => {}
            }
        }
    }

    /// Moves sound from the source into the ring until the source is lost; `None` when it is stopped.
    fn pump(&self, source: &mut dyn Source, feed: &mut Feed) -> Option<Loss> {
        let info = source.info().clone();
        let frame_bytes = info.frame_bytes();
        let format = feed.writer.format();
        let converter = Converter::new(info.sample, format.sample, self.config.gain_db);
        let mut raw = vec![0; info.block_frames as usize * frame_bytes];
        let mut converted = match converter.is_identity() {
            true => Vec::new(),
            false => vec![0; info.block_frames as usize * format.frame_bytes()],
        };
        let counters = &self.input.counters;
        // Frames since the beginning or the last overrun.
        let (mut drift, mut nap, mut frames_in_a_row) = (Drift::new(info.rate), Nap::new(&info), 0);
        // It may be another card's clock now.
        counters.set_drift(None);
        // A card that is read in time cannot be quiet for longer than its buffer lasts.
        let quiet = info.buffer().clamp(Duration::from_millis(200), HUNG);
        let period = format.duration_of(info.block_frames.into());
        let mut last = monotonic_ns();
        // Opening is not yet sound: some devices open as if all were well and then fail at each read.
        let mut opened = Some(info);
        // What came in while it was away is heard even if this is the end.
        let mut was_away = false;
        loop {
            let is_over = self.stopped.try_recv() != Err(TryRecvError::Empty);
            if is_over && !was_away {
                return None;
            }
            counters.turns.fetch_add(1, Ordering::Relaxed);
            let asked = monotonic_ns();
            match source.read(&mut raw) {
                Ok(Got::Frames { frames, captured_at }) => {
                    let block = &raw[..frames * frame_bytes];
                    let block = match converter.is_identity() {
                        true => block,
                        false => converter.convert(block, &mut converted),
                    };
                    feed.sound(block, frames as u64, captured_at);
                    if let Some(info) = opened.take() {
                        self.tell(What::Opened(info));
                    }
                    last = monotonic_ns();
                    frames_in_a_row += frames as u64;
                    // What has come in since is read before the next step.
                    let is_newest = last.saturating_sub(captured_at) < period.as_nanos() as u64;
                    was_away &= !is_newest;
                    if is_newest && !is_over {
                        let away = nap.after(frames_in_a_row, &feed.writer, asked, captured_at, last);
                        if let Some((blocks, time)) = away {
                            was_away = true;
                            feed.writer.nap(blocks, time);
                        }
                    }
                    if drift.note(frames_in_a_row, captured_at) {
                        counters.set_drift(drift.ppm());
                    }
                }
                Ok(Got::Nothing) => {
                    was_away = false;
                    let silent = Duration::from_nanos(monotonic_ns() - last);
                    if silent > HUNG {
                        return Some(Loss::Hung(HUNG));
                    }
                    if silent > quiet {
                        feed.silence_until(monotonic_ns());
                    }
                }
                Ok(Got::Overrun) => {
                    feed.gap = true;
                    let info = source.info();
                    (drift, nap, frames_in_a_row) = (Drift::new(info.rate), Nap::new(info), 0);
                    counters.overruns.fetch_add(1, Ordering::Relaxed);
                    self.tell(What::Overrun);
                }
                Err(loss) => {
                    if loss == Loss::Overrunning {
                        // The last one of them was one too.
                        counters.overruns.fetch_add(1, Ordering::Relaxed);
                    }
                    return Some(loss);
                }
            }
        }
    }

    /// The feed for that source's sound: the one there is, if its format is the same, or a new one with a
    /// new ring.
    fn feed_for(&mut self, info: &Info) -> Feed {
        let format = StreamFormat { rate: info.rate, channels: info.channels, sample: self.config.format };
        match self.feed.take() {
            Some(feed) if feed.writer.format() == format && feed.keep == self.keep => {
                Feed { gap: true, ..feed }
            }
            old => {
                let (writer, ring) = ring::new(format, info.block_frames, self.keep);
                // In this order: who sees the old ring end finds the new one in place.
                let levels = Arc::new(Levels::new(format, info.block_frames));
                self.input.set_sound(ring, Arc::clone(&levels));
                drop(old);
                Feed::new(writer, levels, Arc::clone(&self.input), self.keep)
            }
        }
    }

    fn tell(&self, what: What) {
        tell(&self.events, &self.input, what);
    }
}

/// Never waits: should the main thread be behind by a thousand events, it can do without this one.
fn tell(events: &Sender<Event>, input: &Arc<LiveInput>, what: What) {
    let _ = events.try_send(Event { input: Arc::clone(input), what });
}

fn next_pause(pause: Duration) -> Duration {
    (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
}

/// Closes a lost source and opens it again, as often as it takes. A thread of its own, since drivers can
/// take long over both.
struct Opener {
    config: config::Input,
    input: Arc<LiveInput>,
    events: Sender<Event>,
    stopped: Receiver<()>,
    pause: Duration,
}

impl Opener {
    fn run(mut self, lost: Option<Box<dyn Source>>, opened: &Sender<(Box<dyn Source>, Duration)>) {
        devices::quietly(|| drop(lost));
        let mut refused = String::new();
        loop {
            // At the very start there is no pause.
            if !self.pause.is_zero() {
                select! {
                    recv(self.stopped) -> _ => return,
                    default(self.pause) => {}
                }
            }
            match devices::quietly(|| source::open(&self.config)) {
                Ok(source) => {
                    let _ = opened.send((source, self.pause));
                    // Opening took more than all that comes after it.
                    os::trim_heap();
                    return;
                }
                Err(error) => {
                    // Something moves: a card that has just come may still be waiting for udev to say whose it is.
                    if std::mem::replace(&mut refused, error.advice.clone()) != error.advice {
                        self.pause = Duration::ZERO;
                    }
                    tell(&self.events, &self.input, What::OpenFailed(error));
                }
            }
            self.pause = next_pause(self.pause);
        }
    }
}

/// The ring's writer and its place in time.
pub struct Feed {
    writer: Writer,
    levels: Arc<Levels>,
    input: Arc<LiveInput>,
    keep: Duration,
    /// The time (CLOCK_MONOTONIC, ns) up to which the stream has been filled: `edge` plus that of the
    /// frames of silence since.
    edge: u64,
    silent: u64,
    /// Whether sound was lost since the last block, so that the next one is preceded by silence.
    gap: bool,
    silence: Vec<u8>,
}

impl Feed {
    fn new(writer: Writer, levels: Arc<Levels>, input: Arc<LiveInput>, keep: Duration) -> Feed {
        let silence = vec![0; writer.block_frames() as usize * writer.format().frame_bytes()];
        Feed { writer, levels, input, keep, edge: monotonic_ns(), silent: 0, gap: false, silence }
    }

    /// Publishes a block of `frames` frames, the last of which was captured at `captured_at`.
    fn sound(&mut self, block: &[u8], frames: u64, captured_at: u64) {
        if self.gap {
            self.gap = false;
            let began = captured_at.saturating_sub(self.nanos(frames));
            let missing = self.missing(began);
            self.publish_silence(missing);
        }
        // Listeners first: nobody hears levels.
        self.writer.publish(block, captured_at);
        self.levels.note(block);
        self.input.counters.frames.fetch_add(frames, Ordering::Relaxed);
        (self.edge, self.silent) = (captured_at, 0);
    }

    /// Publishes as many whole blocks of silence as are due at that time.
    fn silence_until(&mut self, now: u64) {
        let block = u64::from(self.writer.block_frames());
        let due = self.missing(now) / block * block;
        self.publish_silence(due);
        self.gap = true;
    }

    /// Publishes silence in blocks.
    fn publish_silence(&mut self, mut frames: u64) {
        let frame_bytes = self.writer.format().frame_bytes();
        while frames > 0 {
            let block = frames.min(u64::from(self.writer.block_frames()));
            self.silent += block;
            let at = self.filled();
            self.writer.publish(&self.silence[..block as usize * frame_bytes], at);
            self.levels.note_silence();
            self.input.counters.silence.fetch_add(block, Ordering::Relaxed);
            frames -= block;
        }
    }

    /// How many frames the stream is behind that time.
    fn missing(&self, time: u64) -> u64 {
        self.writer.format().frames_in(Duration::from_nanos(time.saturating_sub(self.filled())))
    }

    /// The time up to which the stream has been filled.
    fn filled(&self) -> u64 {
        self.edge + self.nanos(self.silent)
    }

    fn nanos(&self, frames: u64) -> u64 {
        self.writer.format().duration_of(frames).as_nanos() as u64
    }

    /// How long until the next whole block of silence is due.
    fn until_next_block(&self) -> Duration {
        let due = self.edge + self.nanos(self.silent + u64::from(self.writer.block_frames()));
        Duration::from_nanos(due.saturating_sub(monotonic_ns()))
    }
}
