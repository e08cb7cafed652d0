//! The peaks of a ring's whole history, in at most 2400 steps: what the timeline of the page shows.
//!
//! The capture thread notes each block; everybody else reads. The memory is bounded whatever the length of the history: a
//! longer history has longer steps. A peak is that of the loudest channel.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::format::StreamFormat;

/// The shortest step.
const MIN_STEP: Duration = Duration::from_millis(100);
/// The most steps of a history.
const MAX_STEPS: u64 = 2400;
/// Steps beyond the history: one is being written, one is only partly within the history.
const EXTRA_STEPS: u64 = 2;
/// The largest magnitude, which is full scale.
const FULL_SCALE: f64 = 2_147_483_648.0;

/// The peaks of the steps of a history.
pub struct LevelHistory {
    /// Frames of a step. Step `n` begins at frame `n * step_frames` of the ring.
    step_frames: u64,
    /// Steps that a reader gets.
    steps: u64,
    /// One peak for each step, by its number modulo their count; 2^31 is full scale. The capture thread stores them.
    peaks: Box<[AtomicU32]>,
    /// Frames noted so far. The capture thread stores it.
    frames: AtomicU64,
}

/// A copy of the peaks.
#[derive(Debug, PartialEq)]
pub struct Peaks {
    /// Frames of a step.
    pub step_frames: u64,
    /// The number of the first step; it begins at frame `first * step_frames`.
    pub first: u64,
    /// One for each step, oldest first, in dBFS; `None` for digital silence. The last step is not complete.
    pub dbfs: Vec<Option<f64>>,
}

impl LevelHistory {
    /// Makes an empty history of the length `history`.
    pub(super) fn new(format: StreamFormat, history: Duration) -> LevelHistory {
        let frames = format.frames_in(history);
        let step_frames = format.frames_in(MIN_STEP).max(frames.div_ceil(MAX_STEPS)).max(1);
        let steps = frames.div_ceil(step_frames) + 1;
        LevelHistory {
            step_frames,
            steps,
            peaks: (0..steps + EXTRA_STEPS).map(|_| AtomicU32::new(0)).collect(),
            frames: AtomicU64::new(0),
        }
    }

    /// Notes a block of `frames` frames. A block counts for each step that it touches. For the capture thread alone;
    /// neither allocates nor waits.
    pub(super) fn note(&self, peak: u32, frames: u64) {
        if frames == 0 {
            return;
        }
        let begin = self.frames.load(Ordering::Relaxed);
        let end = begin + frames;
        let count = self.peaks.len() as u64;
        let last = (end - 1) / self.step_frames;
        // Of a block longer than the history, the last steps.
        for step in (begin / self.step_frames).max((last + 1).saturating_sub(count))..=last {
            let slot = &self.peaks[(step % count) as usize];
            let is_begun = step * self.step_frames < begin;
            let before = if is_begun { slot.load(Ordering::Relaxed) } else { 0 };
            slot.store(before.max(peak), Ordering::Relaxed);
        }
        self.frames.store(end, Ordering::Release);
    }

    /// Returns the peaks of the history. A reader that is interrupted for long may get newer peaks for the oldest steps;
    /// they are figures for eyes.
    pub fn peaks(&self) -> Peaks {
        let end = self.frames.load(Ordering::Acquire).div_ceil(self.step_frames);
        let first = end.saturating_sub(self.steps);
        let count = self.peaks.len() as u64;
        let dbfs = (first..end)
            .map(|step| self.peaks[(step % count) as usize].load(Ordering::Relaxed))
            .map(|peak| (peak > 0).then(|| 20.0 * (f64::from(peak) / FULL_SCALE).log10()))
            .collect();
        Peaks { step_frames: self.step_frames, first, dbfs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::format::SampleFormat;

    const FORMAT: StreamFormat = StreamFormat { rate: 1000, channels: 1, sample: SampleFormat::S16 };
    const HALF: u32 = 1 << 30;

    fn history(seconds: u64) -> LevelHistory {
        LevelHistory::new(FORMAT, Duration::from_secs(seconds))
    }

    fn rounded(peaks: &Peaks) -> Vec<Option<i32>> {
        peaks.dbfs.iter().map(|peak| peak.map(|dbfs| dbfs.round() as i32)).collect()
    }

    #[test]
    fn each_step_has_the_peak_of_its_blocks() {
        let history = history(1);
        assert_eq!(history.peaks(), Peaks { step_frames: 100, first: 0, dbfs: Vec::new() });
        for peak in [HALF, HALF >> 1, 0, 0, HALF >> 2] {
            history.note(peak, 50);
        }
        assert_eq!(rounded(&history.peaks()), [Some(-6), None, Some(-18)]);
    }

    #[test]
    fn a_block_counts_for_each_step_that_it_touches() {
        let history = history(1);
        history.note(0, 90);
        history.note(HALF, 120);
        assert_eq!(rounded(&history.peaks()), [Some(-6), Some(-6), Some(-6)]);
        history.note(1 << 31, 5000);
        assert_eq!(rounded(&history.peaks()), [Some(0); 11]);
        history.note(0, 0);
        assert_eq!(history.peaks().first, 42);
    }

    #[test]
    fn old_steps_make_room_for_new_ones() {
        let history = history(1);
        for block in 0..1000u32 {
            history.note(if block % 10 < 5 { HALF } else { 0 }, 10);
        }
        let peaks = history.peaks();
        assert_eq!((peaks.first, peaks.dbfs.len()), (89, 11));
        assert_eq!(rounded(&peaks), [Some(-6); 11]);
        (0..200).for_each(|_| history.note(0, 10));
        assert_eq!(rounded(&history.peaks()), [None; 11]);
    }

    #[test]
    fn the_memory_is_bounded_whatever_the_length_of_the_history() {
        let day = history(86_400);
        assert_eq!((day.step_frames, day.peaks.len()), (36_000, 2403));
        assert_eq!(history(0).peaks.len(), 3);
    }
}
