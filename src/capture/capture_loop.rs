//! The loop of the capture thread over one source: from its start until it is lost or the capture is stopped.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::clock_drift::ClockDrift;
use super::convert::Converter;
use super::event::{CaptureEventKind, Reporter};
use super::source::{Source, SourceLost, SourceRead};
use super::timeline::Timeline;
use super::wake_schedule::{Frames, MonoNs, ReadTiming, Sleep, WakeSchedule};
use crate::inputs::SourceInfo;
use crate::sys::clock::monotonic_ns;

/// A source that gives no sound for this long counts as lost: it is closed and opened again.
const HUNG: Duration = Duration::from_secs(2);
/// The shortest time without sound that counts as a stall, whatever the source's buffer.
const SHORTEST_STALL: Duration = Duration::from_millis(200);

/// The processing of one source's sound.
///
/// The methods take the time as an argument and do no I/O, so that tests own the clock.
pub(super) struct CaptureLoop {
    timeline: Timeline,
    converter: Converter,
    drift: ClockDrift,
    schedule: WakeSchedule,
    reporter: Reporter,
    info: SourceInfo,
    /// Room for a converted block; empty where no conversion is needed.
    converted: Vec<u8>,
    /// Frames since the start or since frames were last lost: `drift` and `schedule` count from there.
    frames: u64,
    /// Time of the last frame; of the start before the first.
    last_sound: MonoNs,
    /// A time without sound after which silence is published. A card that is read in time cannot be quiet for longer
    /// than its buffer lasts.
    stall_after: Duration,
    /// Frames of silence in the current stall.
    stalled: u64,
    backlog: Backlog,
    /// [`CaptureEventKind::Opened`] was reported.
    is_heard: bool,
    /// A clock that is far off is reported, and has not been reported yet.
    warns_of_drift: bool,
}

/// The sound that the source may hold for a thread that has slept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backlog {
    /// Everything that the source had was read.
    Empty,
    /// The thread slept while the source went on. On a stop request, this is published first: drain, then stop.
    Unread,
}

/// The reason for which a loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The capture was stopped.
    Stopped,
    /// The source is lost.
    Lost(SourceLost),
}

impl CaptureLoop {
    /// A loop for a source that has just been started. `warns_of_drift` is whether a clock that is far off is reported.
    pub(super) fn new(
        timeline: Timeline,
        info: &SourceInfo,
        gain_db: f64,
        reporter: Reporter,
        warns_of_drift: bool,
        now: MonoNs,
    ) -> CaptureLoop {
        let format = timeline.writer().format();
        let converter = Converter::new(info.sample, format.sample, gain_db);
        let converted_bytes = match converter.is_identity() {
            true => 0,
            false => info.block_frames as usize * format.frame_bytes(),
        };
        // The estimate of an earlier source says nothing of this one's clock.
        reporter.input.counters.set_drift(None);
        CaptureLoop {
            timeline,
            converter,
            drift: ClockDrift::new(info.rate),
            schedule: WakeSchedule::new(info),
            reporter,
            info: info.clone(),
            converted: vec![0; converted_bytes],
            frames: 0,
            last_sound: now,
            stall_after: info.buffer().clamp(SHORTEST_STALL, HUNG),
            stalled: 0,
            backlog: Backlog::Empty,
            is_heard: false,
            warns_of_drift,
        }
    }

    /// Moves sound from the source into the ring until the source is lost or the capture is stopped.
    pub(super) fn run(&mut self, source: &mut dyn Source) -> Ended {
        let mut raw = vec![0; self.info.block_frames as usize * self.info.frame_bytes()];
        loop {
            let is_stopping = self.reporter.is_stopped();
            if is_stopping && self.backlog == Backlog::Empty {
                return Ended::Stopped;
            }
            self.reporter.input.counters.heartbeats.fetch_add(1, Ordering::Relaxed);
            let called = MonoNs(monotonic_ns());
            let result = source.read(&mut raw);
            let now = MonoNs(monotonic_ns());
            match result {
                Ok(SourceRead::Frames { frames, captured_at }) => {
                    let block = &raw[..frames * self.info.frame_bytes()];
                    let sleep = self.on_frames(block, called, MonoNs(captured_at), now);
                    if let Some(sleep) = sleep.filter(|_| !is_stopping) {
                        self.sleep(sleep);
                    }
                }
                Ok(SourceRead::Timeout) => {
                    if let Err(lost) = self.on_timeout(now) {
                        return Ended::Lost(lost);
                    }
                }
                Ok(SourceRead::Overrun) => self.on_overrun(),
                Err(lost) => {
                    if lost == SourceLost::Overrunning {
                        // The overrun that made the source give up counts too.
                        self.reporter.input.counters.overruns.fetch_add(1, Ordering::Relaxed);
                    }
                    return Ended::Lost(lost);
                }
            }
        }
    }

    /// Returns the timeline, for the next source.
    pub(super) fn into_timeline(self) -> Timeline {
        self.timeline
    }

    /// Publishes a block of the source, the last frame of which was captured at `captured`. `called` and `now` are the
    /// times at which the read began and ended. Returns the sleep before the next read, if there is one.
    fn on_frames(&mut self, block: &[u8], called: MonoNs, captured: MonoNs, now: MonoNs) -> Option<Sleep> {
        let frames = (block.len() / self.info.frame_bytes()) as u64;
        let block = match self.converter.is_identity() {
            true => block,
            false => self.converter.convert(block, &mut self.converted),
        };
        let filled = self.timeline.publish(block, frames, captured.0);
        self.last_sound = now;
        if !self.is_heard {
            // An open device is not yet one that works: some fail at the first read.
            self.is_heard = true;
            self.reporter.report(CaptureEventKind::Opened(self.info.clone()));
        }
        if self.stalled > 0 {
            let frames = std::mem::take(&mut self.stalled) + filled;
            let time = self.timeline.writer().format().duration_of(frames);
            self.reporter.report(CaptureEventKind::Silence { time });
        }
        self.frames += frames;
        self.note_drift(captured);
        let period = self.timeline.writer().format().duration_of(self.info.block_frames.into());
        if now.since(captured) >= period {
            // The source has more.
            return None;
        }
        self.backlog = Backlog::Empty;
        let read = ReadTiming { frames: Frames(self.frames), called, captured };
        self.schedule.after_read(read, self.timeline.writer())
    }

    /// Publishes silence when the source has given no sound for too long.
    fn on_timeout(&mut self, now: MonoNs) -> Result<(), SourceLost> {
        self.backlog = Backlog::Empty;
        let quiet = now.since(self.last_sound);
        if quiet > HUNG {
            return Err(SourceLost::Hung(HUNG));
        }
        if quiet > self.stall_after {
            self.stalled += self.timeline.fill_with_silence(now.0);
            // The frames that come next do not follow the last ones in time.
            self.restart_timing();
        }
        Ok(())
    }

    fn on_overrun(&mut self) {
        self.timeline.mark_gap();
        self.restart_timing();
        self.reporter.input.counters.overruns.fetch_add(1, Ordering::Relaxed);
        self.reporter.report(CaptureEventKind::Overrun);
    }

    /// Counts frames and time from the next block on: some frames before it are missing.
    fn restart_timing(&mut self) {
        self.frames = 0;
        self.drift = ClockDrift::new(self.info.rate);
        self.schedule = WakeSchedule::new(&self.info);
    }

    fn note_drift(&mut self, captured: MonoNs) {
        if !self.drift.note(self.frames, captured.0) {
            return;
        }
        self.reporter.input.counters.set_drift(self.drift.ppm());
        if let Some(ppm) = self.drift.warning_ppm().filter(|_| self.warns_of_drift) {
            self.warns_of_drift = false;
            self.reporter.report(CaptureEventKind::ClockOff { ppm });
        }
    }

    /// Returns whether a clock that is far off has still to be reported.
    pub(super) fn warns_of_drift(&self) -> bool {
        self.warns_of_drift
    }

    /// Sleeps, or until a reader waits for an earlier block.
    fn sleep(&mut self, sleep: Sleep) {
        self.backlog = Backlog::Unread;
        let time = sleep.until.since(MonoNs(monotonic_ns()));
        self.timeline.writer().sleep_until_waiter(sleep.blocks, time);
    }
}

#[cfg(test)]
mod tests;
