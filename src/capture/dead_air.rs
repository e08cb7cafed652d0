//! The detector of dead air: a source that delivers frames, but no sound.
//!
//! A converter that has hung, a muted switch or a loose plug delivers zeros, or one value again and again, and no error.
//! No microphone does that: its own noise moves the lowest bit. The detector compares every frame with the one before, by
//! one comparison of memory per block that ends at the first difference, which in sound is among the first frames.

use std::fmt;
use std::time::Duration;

use crate::config::{Device, Input};
use crate::media::format::duration_at;

/// The time after a source was opened in which a difference does not end dead air: some devices crackle when they are
/// opened.
const SETTLING: Duration = Duration::from_secs(1);
/// Sound that comes within this time after the source was opened again came because of that.
const REVIVED: Duration = Duration::from_secs(10);

/// The level of the lowest bit of 32, rounded up: no sample but 0 is below.
const LOWEST_DBFS: f64 = -186.0;

/// The detector of one capture. It outlives the sources.
pub(super) struct DeadAirDetector {
    /// The length of dead air that is reported; `None`: none is.
    after: Option<Duration>,
    /// The peak in dBFS below which everything is dead air; `None`: only what does not change is.
    below_dbfs: Option<f64>,
    /// The last frame of the source; empty before its first one. Never grows beyond the room that it has from the start.
    last_frame: Vec<u8>,
    /// Frames per second and bytes per frame of the source.
    rate: u32,
    frame_bytes: usize,
    /// Frames since the source was opened.
    frames: u64,
    /// Frames of the dead air that goes on.
    dead_frames: u64,
    /// The dead air that goes on was reported.
    is_reported: bool,
    /// The source was opened again because of dead air, and has given no sound since.
    was_reopened: bool,
    /// Dead air lets the source be opened again.
    may_reopen: bool,
}

/// A change that the detector reports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum DeadAirChange {
    /// Dead air has lasted for the configured time.
    Begins(DeadAir),
    /// Sound came after dead air of this length.
    Ends(Duration),
}

/// Dead air that is reported.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeadAir {
    /// The content of the blocks.
    pub content: DeadContent,
    /// The length so far.
    pub time: Duration,
    /// The source is opened again now.
    pub reopens: bool,
}

/// The content of blocks without sound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DeadContent {
    /// Every sample is 0.
    Zeros,
    /// Every frame is the same.
    OneValue,
    /// No sample reaches this level in dBFS.
    Below(f64),
}

impl fmt::Display for DeadContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeadContent::Zeros => f.write_str("zeros only"),
            DeadContent::OneValue => f.write_str("one value only"),
            DeadContent::Below(dbfs) => write!(f, "nothing above {dbfs} dBFS"),
        }
    }
}

impl DeadAirDetector {
    /// A detector for an input. A generated sound is never dead air, whatever it is.
    pub(super) fn new(config: &Input) -> DeadAirDetector {
        let is_on = !config.quiet_time.is_zero() && !matches!(config.device, Device::Synth(_));
        DeadAirDetector {
            after: is_on.then_some(config.quiet_time),
            below_dbfs: (config.quiet_dbfs > LOWEST_DBFS).then_some(config.quiet_dbfs),
            last_frame: Vec::new(),
            rate: 1,
            frame_bytes: 1,
            frames: 0,
            dead_frames: 0,
            is_reported: false,
            was_reopened: false,
            may_reopen: true,
        }
    }

    /// Prepares for the blocks of a source that was opened: its rate and the bytes of a frame of its blocks.
    pub(super) fn start(&mut self, rate: u32, frame_bytes: usize) {
        self.last_frame = Vec::with_capacity(frame_bytes);
        (self.rate, self.frame_bytes, self.frames) = (rate, frame_bytes, 0);
    }

    /// Returns whether dead air was reported that goes on.
    pub(super) fn is_reported(&self) -> bool {
        self.is_reported
    }

    /// Takes in a block of whole frames. `may_reopen` is whether the source may be opened again now. `peak_dbfs` returns the block's peak, `None` for zeros; it is called only where
    /// the configuration has a threshold. Allocates nothing.
    pub(super) fn note(
        &mut self,
        block: &[u8],
        may_reopen: bool,
        peak_dbfs: impl FnOnce() -> Option<f64>,
    ) -> Option<DeadAirChange> {
        let after = self.after?;
        let frames = (block.len() / self.frame_bytes) as u64;
        self.frames += frames;
        let is_constant = self.is_constant(block);
        self.last_frame.clear();
        self.last_frame.extend_from_slice(&block[block.len() - self.frame_bytes.min(block.len())..]);
        let is_below = |dbfs: f64| peak_dbfs().is_none_or(|peak| peak < dbfs);
        if is_constant || self.below_dbfs.is_some_and(is_below) {
            self.dead_frames += frames;
            return (!self.is_reported && self.time(self.dead_frames) >= after).then(|| {
                self.is_reported = true;
                let reopens = may_reopen && std::mem::take(&mut self.may_reopen);
                self.was_reopened = reopens;
                let content = match self.below_dbfs {
                    _ if is_constant && block.iter().all(|byte| *byte == 0) => DeadContent::Zeros,
                    Some(dbfs) if !is_constant => DeadContent::Below(dbfs),
                    _ => DeadContent::OneValue,
                };
                DeadAirChange::Begins(DeadAir { content, time: self.time(self.dead_frames), reopens })
            });
        }
        if !self.is_reported {
            self.dead_frames = 0;
            return None;
        }
        if self.was_reopened && self.time(self.frames) < SETTLING {
            return None;
        }
        // A source that was opened again in vain is not opened again at the next dead air: it may be a digital input, on
        // which silence is zeros.
        self.may_reopen |= self.was_reopened && self.time(self.frames) < REVIVED;
        let time = self.time(self.dead_frames);
        (self.dead_frames, self.is_reported, self.was_reopened) = (0, false, false);
        Some(DeadAirChange::Ends(time))
    }

    /// Returns whether every frame of the block is the one before it.
    fn is_constant(&self, block: &[u8]) -> bool {
        let Some(first) = block.get(..self.frame_bytes) else { return true };
        (self.last_frame.is_empty() || self.last_frame == first)
            && block[self.frame_bytes..] == block[..block.len() - self.frame_bytes]
    }

    fn time(&self, frames: u64) -> Duration {
        duration_at(self.rate, frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of 2 channels of 16 bits in a block of 10 ms.
    const FRAMES: usize = 80;
    const RATE: u32 = 8000;

    fn detector(config: Input) -> DeadAirDetector {
        let mut detector = DeadAirDetector::new(&config);
        detector.start(RATE, 4);
        detector
    }

    fn config(seconds: u64) -> Input {
        Input { quiet_time: Duration::from_secs(seconds), ..Input::default() }
    }

    /// A block of the frame `left`, `right`.
    fn constant(left: i16, right: i16) -> Vec<u8> {
        [left.to_le_bytes(), right.to_le_bytes()].concat().repeat(FRAMES)
    }

    /// A block in which one bit of one sample differs.
    fn noise() -> Vec<u8> {
        let mut block = constant(0, 0);
        block[FRAMES * 2] = 1;
        block
    }

    /// Notes `block` for some seconds, and returns the changes with the times at which they came.
    fn play(detector: &mut DeadAirDetector, block: &[u8], seconds: f64) -> Vec<(f64, DeadAirChange)> {
        let blocks = (seconds * 100.0).round() as u32;
        let note = |n: u32| Some((f64::from(n) / 100.0, detector.note(block, true, || Some(-70.0))?));
        (1..=blocks).filter_map(note).collect()
    }

    fn begins(content: DeadContent, seconds: u64, reopens: bool) -> DeadAirChange {
        DeadAirChange::Begins(DeadAir { content, time: Duration::from_secs(seconds), reopens })
    }

    #[test]
    fn zeros_and_one_value_are_dead_air_after_the_configured_time_and_told_once() {
        for (block, content) in [
            (constant(0, 0), DeadContent::Zeros),
            (constant(-1, -1), DeadContent::OneValue),
            // Each channel has an offset of its own.
            (constant(7, -300), DeadContent::OneValue),
        ] {
            let mut detector = detector(config(60));
            assert_eq!(play(&mut detector, &block, 300.0), [(60.0, begins(content, 60, true))]);
        }
    }

    #[test]
    fn one_bit_of_noise_is_sound() {
        let mut detector = detector(config(1));
        assert!(play(&mut detector, &noise(), 10.0).is_empty());
        assert!(play(&mut detector, &constant(0, 0), 0.9).is_empty());
        assert!(play(&mut detector, &noise(), 0.01).is_empty());
        assert!(play(&mut detector, &constant(0, 0), 0.9).is_empty());
        // A value per block, as of a very slow wave, is sound too.
        for value in 0..500 {
            assert_eq!(detector.note(&constant(value, value), true, || None), None);
        }
    }

    #[test]
    fn a_threshold_makes_quiet_noise_dead_air() {
        for (dbfs, expected) in
            [(-60.0, vec![(2.0, begins(DeadContent::Below(-60.0), 2, true))]), (-80.0, Vec::new())]
        {
            let mut detector = detector(Input { quiet_dbfs: dbfs, ..config(2) });
            assert_eq!(play(&mut detector, &noise(), 5.0), expected, "{dbfs}");
        }
    }

    #[test]
    fn neither_a_generated_sound_nor_a_time_of_zero_is_ever_dead_air() {
        let synth = Input { device: "synth:tone?hz=8000".parse().expect("a device"), ..config(1) };
        for config in [synth, config(0)] {
            assert!(play(&mut detector(config), &constant(0, 0), 10.0).is_empty());
        }
    }

    #[test]
    fn sound_ends_dead_air_but_the_crackle_of_opening_does_not() {
        let mut detector = detector(config(2));
        assert_eq!(play(&mut detector, &constant(0, 0), 2.0).len(), 1);
        detector.start(RATE, 4);
        assert!(play(&mut detector, &noise(), 0.5).is_empty());
        assert!(play(&mut detector, &constant(5, 5), 1.0).is_empty());
        let ends = DeadAirChange::Ends(Duration::from_millis(2990));
        // The step from the crackle to the new value is a difference, and belongs to the crackle.
        assert_eq!(play(&mut detector, &noise(), 1.0), [(0.01, ends)]);
    }

    #[test]
    fn a_source_is_opened_again_once_unless_that_has_helped() {
        let reopens = |detector: &mut DeadAirDetector| match play(detector, &constant(0, 0), 2.0)[..] {
            [(_, DeadAirChange::Begins(dead))] => dead.reopens,
            ref changes => panic!("{changes:?}"),
        };
        let mut detector = detector(config(2));
        assert!(reopens(&mut detector));
        detector.start(RATE, 4);
        play(&mut detector, &noise(), 2.0);
        assert!(reopens(&mut detector), "it has helped");
        detector.start(RATE, 4);
        play(&mut detector, &constant(0, 0), 20.0);
        play(&mut detector, &noise(), 20.0);
        assert!(!reopens(&mut detector), "it has not helped");
    }
}
