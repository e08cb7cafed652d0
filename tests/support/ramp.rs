//! A checker for streams of the fake card's ramp, which consist of stretches of the ramp and of silence.

use super::card::{CardFormat, ramp_bytes, ramp16, widen24, widen32};

/// A stretch of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stretch {
    /// A stretch of the ramp, by its first frame and its length in frames.
    Ramp { first: u64, frames: u64 },
    /// A stretch of zeros, by its length in frames.
    Silence { frames: u64 },
}

/// A hole in the ramp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    /// The frames of the ramp that are missing. The ramp repeats itself, so this is the possible number nearest to
    /// `silence`.
    pub(crate) missing: u64,
    /// The frames of silence in place of the missing ones.
    pub(crate) silence: u64,
}

/// A checker that splits a stream into stretches, frame by frame.
#[derive(Clone)]
pub(crate) struct RampReader {
    frame_bytes: usize,
    /// The number of frames after which the ramp begins again.
    period: u64,
    /// The ramp twice, so that each stretch of one period is a slice of it.
    table: Vec<u8>,
    /// The stretches until now.
    pub(crate) stretches: Vec<Stretch>,
    rest: Vec<u8>,
}

impl RampReader {
    /// Returns a checker for a stream with `channels` channels of samples in `format`.
    pub(crate) fn new(format: CardFormat, channels: u32) -> RampReader {
        RampReader::of(ramp_bytes(format, 0, 65_536 / channels as usize, channels), channels)
    }

    /// Returns a checker for a stream in the format `to` of a card with samples in the format `from`. The highest
    /// bits are kept.
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

    /// Splits the next bytes of sound.
    ///
    /// # Panics
    ///
    /// If a frame is neither a frame of the ramp nor silence.
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
                    // The usual case is that the ramp goes on: it is compared as one slice.
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

    /// Begins another stretch with `frame`.
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

    /// Returns the number of frames until now.
    pub(crate) fn frames(&self) -> u64 {
        self.ramp_frames() + self.silence_frames()
    }

    /// Returns the number of frames of the ramp until now.
    pub(crate) fn ramp_frames(&self) -> u64 {
        let frames = |stretch: &Stretch| match stretch {
            Stretch::Ramp { frames, .. } => *frames,
            Stretch::Silence { .. } => 0,
        };
        self.stretches.iter().map(frames).sum()
    }

    /// Returns the number of frames of silence until now.
    pub(crate) fn silence_frames(&self) -> u64 {
        let frames = |stretch: &Stretch| match stretch {
            Stretch::Ramp { .. } => 0,
            Stretch::Silence { frames } => *frames,
        };
        self.stretches.iter().map(frames).sum()
    }

    /// Returns `true` if the stream is one stretch of the ramp, without a hole.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.stretches[..], [Stretch::Ramp { .. }])
    }

    /// Returns the first stretches as text for a message.
    pub(crate) fn shown(&self) -> String {
        format!("{} stretches: {:?}", self.stretches.len(), &self.stretches[..self.stretches.len().min(12)])
    }

    /// Returns the holes between stretches of the ramp.
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
        // A negative number of frames cannot be missing.
        let missing = silence as i64 + beyond;
        Hole { missing: if missing < 0 { missing + period } else { missing } as u64, silence }
    }
}

fn is_silent(frame: &[u8]) -> bool {
    frame.iter().all(|byte| *byte == 0)
}
