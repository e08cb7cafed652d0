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

pub mod alsa;
pub mod clock_drift;
pub mod convert;
pub mod devices;
pub mod event;
mod open;
mod opener;
pub mod source;
pub mod synth;
mod timeline;
mod wake_schedule;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, select};

use self::clock_drift::ClockDrift;
use self::convert::Converter;
use self::event::{CaptureEvent, CaptureEventKind, report};
use self::opener::{Opener, next_pause};
use self::source::{OpenError, Source, SourceLost, SourceRead};
pub use self::timeline::Timeline;
use self::wake_schedule::WakeSchedule;
use crate::config;
use crate::inputs::{LiveInput, SourceInfo};
use crate::media::format::StreamFormat;
use crate::media::meter::Meter;
use crate::media::ring;
use crate::sys::clock::monotonic_ns;
use crate::sys::{limits, threads};

/// A source that is silent for this long is closed and opened again.
const HUNG: Duration = Duration::from_secs(2);
/// A source that worked this long is opened again after the first pause when it is lost.
const SOUND: Duration = Duration::from_secs(10);

/// A thread that has nothing to do shows so often that it is there.
const TURN: Duration = Duration::from_millis(500);

/// A running capture thread. Dropping it lets the thread end by itself.
pub struct Capture {
    /// Nothing is ever sent: its end is the signal.
    stop: Sender<()>,
    thread: JoinHandle<()>,
    /// What the thread leaves behind. (One that returned it would be 2 kB of code more.)
    feed: Arc<Mutex<Option<Timeline>>>,
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
        events: Sender<CaptureEvent>,
        feed: Option<Timeline>,
    ) -> io::Result<Capture> {
        // One place, though nothing is ever sent: asking a channel without any takes a lock.
        let (stop, stopped) = bounded(1);
        let name = format!("capture {}", input.name);
        let thread = CaptureThread { config, keep, input, events, stopped, feed, pause: Duration::ZERO };
        let feed = Arc::<Mutex<Option<Timeline>>>::default();
        let left = Arc::clone(&feed);
        let thread = threads::start(&name, None, move || {
            let feed = thread.run();
            *left.lock().unwrap_or_else(PoisonError::into_inner) = feed;
        })?;
        Ok(Capture { stop, thread, feed })
    }

    /// Stops the thread and returns what the next capture of this input needs to go on with the same ring.
    pub fn stop(self) -> Option<Timeline> {
        drop(self.stop);
        let _ = self.thread.join();
        self.feed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct CaptureThread {
    config: config::Input,
    keep: Duration,
    input: Arc<LiveInput>,
    events: Sender<CaptureEvent>,
    stopped: Receiver<()>,
    feed: Option<Timeline>,
    /// Before the source is opened again.
    pause: Duration,
}

impl CaptureThread {
    /// Waits for a source, captures it until it is lost, and so on until it is stopped.
    fn run(mut self) -> Option<Timeline> {
        if self.config.realtime_priority > 0 {
            if let Err(error) = limits::realtime(self.config.realtime_priority) {
                self.report(CaptureEventKind::RealtimeRefused(error));
            }
        }
        devices::collect_alsa_messages();
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
                    self.report(CaptureEventKind::Lost(loss));
                    // What it had to say about that; without this it would be kept for ever.
                    devices::take_alsa_messages();
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
            self.report(CaptureEventKind::OpenFailed(OpenError { advice, absent: false }));
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
    fn pump(&self, source: &mut dyn Source, feed: &mut Timeline) -> Option<SourceLost> {
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
        let (mut drift, mut nap, mut frames_in_a_row) =
            (ClockDrift::new(info.rate), WakeSchedule::new(&info), 0);
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
                Ok(SourceRead::Frames { frames, captured_at }) => {
                    let block = &raw[..frames * frame_bytes];
                    let block = match converter.is_identity() {
                        true => block,
                        false => converter.convert(block, &mut converted),
                    };
                    feed.sound(block, frames as u64, captured_at);
                    if let Some(info) = opened.take() {
                        self.report(CaptureEventKind::Opened(info));
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
                Ok(SourceRead::Timeout) => {
                    was_away = false;
                    let silent = Duration::from_nanos(monotonic_ns() - last);
                    if silent > HUNG {
                        return Some(SourceLost::Hung(HUNG));
                    }
                    if silent > quiet {
                        feed.silence_until(monotonic_ns());
                    }
                }
                Ok(SourceRead::Overrun) => {
                    feed.gap = true;
                    let info = source.info();
                    (drift, nap, frames_in_a_row) = (ClockDrift::new(info.rate), WakeSchedule::new(info), 0);
                    counters.overruns.fetch_add(1, Ordering::Relaxed);
                    self.report(CaptureEventKind::Overrun);
                }
                Err(loss) => {
                    if loss == SourceLost::Overrunning {
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
    fn feed_for(&mut self, info: &SourceInfo) -> Timeline {
        let format = StreamFormat { rate: info.rate, channels: info.channels, sample: self.config.format };
        match self.feed.take() {
            // The number of slots was computed for this block length: shorter blocks would waste them.
            Some(mut feed)
                if feed.writer.format() == format
                    && feed.writer.block_frames() == info.block_frames
                    && feed.keep == self.keep =>
            {
                feed.gap = true;
                feed
            }
            old => {
                let (writer, ring) = ring::new(format, info.block_frames, self.keep);
                // In this order: who sees the old ring end finds the new one in place.
                let levels = Arc::new(Meter::new(format, info.block_frames));
                self.input.set_sound(ring, Arc::clone(&levels));
                drop(old);
                Timeline::new(writer, levels, Arc::clone(&self.input), self.keep)
            }
        }
    }

    fn report(&self, kind: CaptureEventKind) {
        report(&self.events, &self.input, kind);
    }
}
