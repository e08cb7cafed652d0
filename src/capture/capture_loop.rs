//! The loop of the capture thread over one source: from its start until it is lost or the capture is stopped.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::clock_drift::ClockDrift;
use super::dead_air::DeadAirChange;
use super::event::{CaptureEventKind, Reporter};
use super::source::{Source, SourceLost, SourceRead};
use super::track::Track;
use super::wake_schedule::{Frames, MonoNs, ReadTiming, Sleep, WakeSchedule};
use crate::inputs::SourceInfo;
use crate::media::ring::Writer;
use crate::sys::clock::monotonic_ns;

/// A source that gives no sound for this long counts as lost: it is closed and opened again.
const HUNG: Duration = Duration::from_secs(2);
/// The shortest time without sound that counts as a stall, whatever the source's buffer.
const SHORTEST_STALL: Duration = Duration::from_millis(200);

/// The processing of one source's sound.
///
/// The methods take the time as an argument and do no I/O, so that tests own the clock.
pub(super) struct CaptureLoop {
    /// One for each input, at least one. Their streams are equally long at any time.
    tracks: Vec<Track>,
    drift: ClockDrift,
    schedule: WakeSchedule,
    reporter: Reporter,
    info: SourceInfo,
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
    /// The source is to be opened again because of dead air.
    reopens: bool,
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
    /// The source is to be opened again: it works and gives no sound.
    DeadAir,
}

impl CaptureLoop {
    /// A loop for a source that has just been started. `warns_of_drift` is whether a clock that is far off is reported.
    pub(super) fn new(
        tracks: Vec<Track>,
        info: &SourceInfo,
        reporter: Reporter,
        warns_of_drift: bool,
        now: MonoNs,
    ) -> CaptureLoop {
        // The estimate of an earlier source says nothing of this one's clock.
        reporter.count(|counters| counters.set_drift(None));
        CaptureLoop {
            tracks,
            drift: ClockDrift::new(info.rate),
            schedule: WakeSchedule::new(info),
            reporter,
            info: info.clone(),
            frames: 0,
            last_sound: now,
            stall_after: info.buffer().clamp(SHORTEST_STALL, HUNG),
            stalled: 0,
            backlog: Backlog::Empty,
            is_heard: false,
            warns_of_drift,
            reopens: false,
        }
    }

    /// Moves sound from the source into the rings until the source is lost or the capture is stopped.
    pub(super) fn run(&mut self, source: &mut dyn Source) -> Ended {
        let mut raw = vec![0; self.info.block_frames as usize * self.info.frame_bytes()];
        loop {
            let is_stopping = self.reporter.is_stopped();
            if is_stopping && self.backlog == Backlog::Empty {
                return Ended::Stopped;
            }
            self.reporter.count(|counters| _ = counters.heartbeats.fetch_add(1, Ordering::Relaxed));
            let called = MonoNs(monotonic_ns());
            let result = source.read(&mut raw);
            let now = MonoNs(monotonic_ns());
            match result {
                Ok(SourceRead::Frames { frames, captured_at }) => {
                    let block = &raw[..frames * self.info.frame_bytes()];
                    let sleep = self.on_frames(block, called, MonoNs(captured_at), now);
                    if self.reopens && !is_stopping {
                        return Ended::DeadAir;
                    }
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
                        self.count_overrun();
                    }
                    return Ended::Lost(lost);
                }
            }
        }
    }

    /// Returns the tracks, for the next source.
    pub(super) fn into_tracks(self) -> Vec<Track> {
        self.tracks
    }

    /// Publishes a block of the source, the last frame of which was captured at `captured`. `called` and `now` are the
    /// times at which the read began and ended. Returns the sleep before the next read, if there is one.
    fn on_frames(&mut self, block: &[u8], called: MonoNs, captured: MonoNs, now: MonoNs) -> Option<Sleep> {
        let frames = (block.len() / self.info.frame_bytes()) as u64;
        let mut filled = 0;
        for track in 0..self.tracks.len() {
            // A device that gives sound to another input works.
            let may_reopen = self.tracks.iter().enumerate().all(|(at, other)| at == track || other.is_dead());
            let (silence, change) = self.tracks[track].publish(block, frames, captured.0, may_reopen);
            filled = silence;
            if let Some(change) = change {
                self.report_dead_air(track, change);
            }
        }
        self.last_sound = now;
        if !self.is_heard {
            // An open device is not yet one that works: some fail at the first read.
            self.is_heard = true;
            self.reporter.report(CaptureEventKind::Opened(self.info.clone()));
        }
        if self.stalled > 0 {
            let frames = std::mem::take(&mut self.stalled) + filled;
            let time = self.writer().format().duration_of(frames);
            self.reporter.report(CaptureEventKind::Silence { time });
        }
        self.frames += frames;
        self.note_drift(captured);
        let period = self.writer().format().duration_of(self.info.block_frames.into());
        if now.since(captured) >= period {
            // The source has more.
            return None;
        }
        self.backlog = Backlog::Empty;
        let [track] = &self.tracks[..] else {
            // Readers of another ring would not wake the thread from a sleep.
            return None;
        };
        let read = ReadTiming { frames: Frames(self.frames), called, captured };
        self.schedule.after_read(read, track.timeline().writer())
    }

    /// Publishes silence when the source has given no sound for too long.
    fn on_timeout(&mut self, now: MonoNs) -> Result<(), SourceLost> {
        self.backlog = Backlog::Empty;
        let quiet = now.since(self.last_sound);
        if quiet > HUNG {
            return Err(SourceLost::Hung(HUNG));
        }
        if quiet > self.stall_after {
            let mut filled = 0;
            for track in &mut self.tracks {
                filled = track.timeline_mut().fill_with_silence(now.0);
            }
            self.stalled += filled;
            // The frames that come next do not follow the last ones in time.
            self.restart_timing();
        }
        Ok(())
    }

    fn on_overrun(&mut self) {
        self.tracks.iter_mut().for_each(|track| track.timeline_mut().mark_gap());
        self.restart_timing();
        self.count_overrun();
        self.reporter.report(CaptureEventKind::Overrun);
    }

    fn count_overrun(&self) {
        self.reporter.count(|counters| _ = counters.overruns.fetch_add(1, Ordering::Relaxed));
    }

    /// Counts frames and time from the next block on: some frames before it are missing.
    fn restart_timing(&mut self) {
        self.frames = 0;
        self.drift = ClockDrift::new(self.info.rate);
        self.schedule = WakeSchedule::new(&self.info);
    }

    fn report_dead_air(&mut self, track: usize, change: DeadAirChange) {
        match change {
            DeadAirChange::Begins(dead_air) => {
                self.reporter.report_of(track, CaptureEventKind::DeadAir(dead_air));
                if dead_air.reopens {
                    self.reopens = true;
                    self.reporter.report(CaptureEventKind::Reopening);
                }
            }
            DeadAirChange::Ends(time) => {
                self.reporter.report_of(track, CaptureEventKind::SoundAgain { time });
            }
        }
    }

    /// Returns the writer of the first ring: format and block length of the others differ in channels and samples only.
    fn writer(&self) -> &Writer {
        self.tracks[0].timeline().writer()
    }

    fn note_drift(&mut self, captured: MonoNs) {
        if !self.drift.note(self.frames, captured.0) {
            return;
        }
        self.reporter.count(|counters| counters.set_drift(self.drift.ppm()));
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
        self.writer().sleep_until_waiter(sleep.blocks, time);
    }
}

#[cfg(test)]
mod tests;
