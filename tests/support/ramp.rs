//! What a stream of the fake card's ramp consists of: stretches of the ramp, and silence.

use super::card::{CardFormat, ramp_bytes, ramp16, widen24, widen32};

/// A stretch of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stretch {
    /// The ramp from this frame on, so many frames.
    Ramp { first: u64, frames: u64 },
    /// So many frames of zeros.
    Silence { frames: u64 },
}

/// A hole in the ramp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    /// Frames of the ramp that are not there. The ramp repeats itself, so of all the numbers that it could be
    /// this is the one nearest to `silence`.
    pub(crate) missing: u64,
    /// Frames of silence in their place.
    pub(crate) silence: u64,
}

/// Takes a stream apart, frame by frame.
#[derive(Clone)]
pub(crate) struct RampReader {
    frame_bytes: usize,
    /// After so many frames the ramp begins again.
    period: u64,
    /// Twice the whole ramp, so that each stretch of one period is a piece of it.
    table: Vec<u8>,
    /// The stretches until now.
    pub(crate) stretches: Vec<Stretch>,
    rest: Vec<u8>,
}

impl RampReader {
    /// For a stream of so many channels whose samples have that format.
    pub(crate) fn new(format: CardFormat, channels: u32) -> RampReader {
        RampReader::of(ramp_bytes(format, 0, 65_536 / channels as usize, channels), channels)
    }

    /// For a stream of a card with samples of one format that goes out in another, with the highest bits kept.
    pub(crate) fn converted(from: CardFormat, to: CardFormat, channels: u32) -> RampReader {
        let bytes = match to {
            CardFormat::S16 => 2,
            CardFormat::S24Packed => 3,
            CardFormat::S32 => 4,
            CardFormat::S24 | CardFormat::Float => panic!("{} does not go out", to.name()),
        };
        let mut period = Vec::new();
        for frame in 0..65_536 / u64::from(channels) {
            for channel in 0..channels {
                let value = ramp16(frame, channel, channels);
                let full = match from {
                    CardFormat::S16 | CardFormat::Float => i32::from(value as i16) << 16,
                    CardFormat::S24Packed | CardFormat::S24 => widen24(value) << 8,
                    CardFormat::S32 => widen32(value),
                };
                period.extend(&full.to_le_bytes()[4 - bytes..]);
            }
        }
        RampReader::of(period, channels)
    }

    fn of(period: Vec<u8>, channels: u32) -> RampReader {
        assert_eq!(65_536 % channels, 0, "a ramp of {channels} channels does not repeat itself soon");
        let frames = 65_536 / channels as usize;
        RampReader {
            frame_bytes: period.len() / frames,
            period: frames as u64,
            table: [period.as_slice(), &period].concat(),
            stretches: Vec::new(),
            rest: Vec::new(),
        }
    }

    /// Takes in the next bytes of sound.
    ///
    /// # Panics
    ///
    /// When a frame is neither a frame of the ramp nor silence.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let whole = all.len() / self.frame_bytes;
        self.rest = all.split_off(whole * self.frame_bytes);
        let mut at = 0;
        while at < whole {
            let left = &all[at * self.frame_bytes..];
            at += match self.stretches.last_mut() {
                Some(Stretch::Ramp { first, frames }) => {
                    // The usual case, compared as one piece: the ramp goes on.
                    let most = (whole - at).min(self.period as usize) * self.frame_bytes;
                    let place = ((*first + *frames) % self.period) as usize * self.frame_bytes;
                    let expected = &self.table[place..place + most];
                    let same = match left[..most] == *expected {
                        true => most,
                        false => left.iter().zip(expected).take_while(|(a, b)| a == b).count(),
                    };
                    let same = same / self.frame_bytes;
                    *frames += same as u64;
                    if same == 0 { self.begin(&left[..self.frame_bytes]) } else { same }
                }
                Some(Stretch::Silence { frames }) if is_silent(&left[..self.frame_bytes]) => {
                    *frames += 1;
                    1
                }
                _ => self.begin(&left[..self.frame_bytes]),
            };
        }
    }

    /// Begins another stretch with this frame.
    fn begin(&mut self, frame: &[u8]) -> usize {
        if is_silent(frame) {
            self.stretches.push(Stretch::Silence { frames: 1 });
            return 1;
        }
        let first = self.table.chunks_exact(self.frame_bytes).position(|known| known == frame);
        let first = first.unwrap_or_else(|| panic!("{frame:?} is no frame of the ramp")) as u64;
        let zero_before = first == 1 && is_silent(&self.table[..self.frame_bytes]);
        match self.stretches.last_mut() {
            // With one channel, frame 0 of the ramp looks like silence.
            Some(Stretch::Silence { frames }) if zero_before => {
                *frames -= 1;
                if *frames == 0 {
                    self.stretches.pop();
                }
                self.stretches.push(Stretch::Ramp { first: 0, frames: 2 });
            }
            _ => self.stretches.push(Stretch::Ramp { first, frames: 1 }),
        }
        1
    }

    /// Frames until now.
    pub(crate) fn frames(&self) -> u64 {
        self.ramp_frames() + self.silence_frames()
    }

    /// Of those, frames of the ramp.
    pub(crate) fn ramp_frames(&self) -> u64 {
        let frames = |stretch: &Stretch| match stretch {
            Stretch::Ramp { frames, .. } => *frames,
            Stretch::Silence { .. } => 0,
        };
        self.stretches.iter().map(frames).sum()
    }

    /// Of those, frames of silence.
    pub(crate) fn silence_frames(&self) -> u64 {
        let frames = |stretch: &Stretch| match stretch {
            Stretch::Ramp { .. } => 0,
            Stretch::Silence { frames } => *frames,
        };
        self.stretches.iter().map(frames).sum()
    }

    /// Whether it is one stretch of the ramp, without a hole.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.stretches[..], [Stretch::Ramp { .. }])
    }

    /// The stretches for a message, as many as can be read.
    pub(crate) fn shown(&self) -> String {
        format!("{} stretches: {:?}", self.stretches.len(), &self.stretches[..self.stretches.len().min(12)])
    }

    /// The holes between stretches of the ramp.
    pub(crate) fn holes(&self) -> Vec<Hole> {
        let mut holes = Vec::new();
        let (mut end, mut silent) = (None, 0);
        for stretch in &self.stretches {
            match *stretch {
                Stretch::Silence { frames } => silent = frames,
                Stretch::Ramp { first, frames } => {
                    if let Some(end) = end {
                        holes.push(self.hole(end, first, silent));
                    }
                    (end, silent) = (Some(first + frames), 0);
                }
            }
        }
        holes
    }

    fn hole(&self, end: u64, first: u64, silence: u64) -> Hole {
        let period = self.period as i64;
        let beyond = (first as i64 - end as i64 - silence as i64).rem_euclid(period);
        let beyond = if beyond > period / 2 { beyond - period } else { beyond };
        // It cannot be less than none.
        let missing = silence as i64 + beyond;
        Hole { missing: if missing < 0 { missing + period } else { missing } as u64, silence }
    }
}

fn is_silent(frame: &[u8]) -> bool {
    frame.iter().all(|byte| *byte == 0)
}
