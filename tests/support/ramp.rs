//! What a stream of the fake card's ramp consists of: stretches of the ramp, and silence.

use super::card::{CardFormat, ramp_bytes};

/// A stretch of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stretch {
    /// The ramp from this frame on, so many frames.
    Ramp { first: u64, frames: u64 },
    /// So many frames of zeros.
    Silence { frames: u64 },
}

/// Takes a stream apart, frame by frame.
pub(crate) struct RampReader {
    format: CardFormat,
    channels: u32,
    /// The stretches until now.
    pub(crate) stretches: Vec<Stretch>,
    rest: Vec<u8>,
}

impl RampReader {
    /// For a stream of so many channels whose samples have that format.
    pub(crate) fn new(format: CardFormat, channels: u32) -> RampReader {
        RampReader { format, channels, stretches: Vec::new(), rest: Vec::new() }
    }

    /// Takes in the next bytes of sound.
    ///
    /// # Panics
    ///
    /// When a frame is neither a frame of the ramp nor silence.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let frame_bytes = ramp_bytes(self.format, 0, 1, self.channels).len();
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let whole = all.len() / frame_bytes;
        self.rest = all.split_off(whole * frame_bytes);
        let mut at = 0;
        while at < whole {
            let left = &all[at * frame_bytes..];
            at += match self.stretches.last_mut() {
                // The usual case, checked as one piece: the ramp goes on.
                Some(Stretch::Ramp { first, frames }) => {
                    let expected = ramp_bytes(self.format, *first + *frames, whole - at, self.channels);
                    let same = left.iter().zip(&expected).take_while(|(a, b)| a == b).count() / frame_bytes;
                    *frames += same as u64;
                    if same == 0 { self.begin(&left[..frame_bytes]) } else { same }
                }
                Some(Stretch::Silence { frames }) if left[..frame_bytes].iter().all(|byte| *byte == 0) => {
                    *frames += 1;
                    1
                }
                _ => self.begin(&left[..frame_bytes]),
            };
        }
    }

    /// Begins another stretch with this frame; a frame of zeros is silence, though the ramp has one too.
    fn begin(&mut self, frame: &[u8]) -> usize {
        if frame.iter().all(|byte| *byte == 0) {
            self.stretches.push(Stretch::Silence { frames: 1 });
            return 1;
        }
        let period = 65_536 / u64::from(self.channels);
        let first = (0..period).find(|n| ramp_bytes(self.format, *n, 1, self.channels) == frame);
        let first = first.unwrap_or_else(|| panic!("{frame:?} is no frame of the ramp"));
        self.stretches.push(Stretch::Ramp { first, frames: 1 });
        1
    }

    /// Frames until now.
    pub(crate) fn frames(&self) -> u64 {
        self.stretches
            .iter()
            .map(|stretch| match stretch {
                Stretch::Ramp { frames, .. } | Stretch::Silence { frames } => *frames,
            })
            .sum()
    }

    /// Whether it is one stretch of the ramp, without a hole.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.stretches[..], [Stretch::Ramp { .. }])
    }
}
