//! How loud it is: measured once for each block by the capture thread, read by everybody.
//!
//! The last blocks' figures lie in a small ring of atomics, so that each reader can look at the time that it
//! wants: the page at the last twentieth of a second, the status at the last third. The writer waits for
//! nobody. A reader that is slower than the ring is long may mix the figures of two blocks; they are figures
//! for eyes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::format::{SampleFormat, StreamFormat};
use crate::media::bytes::take;

/// So much of the past can be looked at.
const KEPT: Duration = Duration::from_millis(1500);

/// The levels of one ring's sound.
pub struct Meter {
    format: StreamFormat,
    block: Duration,
    /// How many blocks were measured.
    blocks: AtomicU64,
    /// One for each channel of each block kept.
    figures: Box<[Figure]>,
    /// One for each channel: samples at full scale since the beginning.
    clipped: Box<[AtomicU64]>,
}

#[derive(Default)]
struct Figure {
    /// The largest magnitude, full scale being 2^31.
    peak: AtomicU32,
    /// The mean square, full scale being 1, as the bits of an `f32`.
    power: AtomicU32,
}

/// What a channel's samples in a block add up to.
#[derive(Default)]
struct Sum {
    least: i32,
    most: i32,
    /// 128 bits: the squares of a block of more than 2^18 frames do not fit into 64.
    power: u128,
}

impl Sum {
    /// Adds the next sample there is.
    #[inline(always)]
    fn add_next<const N: usize>(&mut self, block: &mut &[u8], read: impl Fn([u8; N]) -> i32, low: u32) {
        if let Some(bytes) = take(block) {
            self.add(read(*bytes), low);
        }
    }

    #[inline(always)]
    fn add(&mut self, sample: i32, low: u32) {
        self.least = self.least.min(sample);
        self.most = self.most.max(sample);
        let part = i64::from(sample >> low);
        self.power += (part * part) as u128;
    }

    fn peak(&self) -> u32 {
        self.least.unsigned_abs().max(self.most.unsigned_abs())
    }
}

/// How loud a channel was for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// The largest magnitude; 1 is full scale.
    pub peak: f64,
    /// The mean square; 1 is a square wave at full scale, 0.5 a sine.
    pub power: f64,
    /// Samples at full scale since the ring began.
    pub clipped: u64,
}

impl Reading {
    /// The peak in dBFS; `None` for digital silence.
    pub fn peak_dbfs(&self) -> Option<f64> {
        (self.peak > 0.0).then(|| 20.0 * self.peak.log10())
    }

    /// The RMS level in dBFS, with 0 for a square wave at full scale; `None` for digital silence.
    pub fn rms_dbfs(&self) -> Option<f64> {
        (self.power > 0.0).then(|| 10.0 * self.power.log10())
    }
}

impl Meter {
    /// Meter of blocks of that many frames.
    pub fn new(format: StreamFormat, block_frames: u32) -> Meter {
        let channels = usize::from(format.channels);
        let block = format.duration_of(block_frames.into());
        let kept = (KEPT.as_nanos() / block.as_nanos().max(1)).max(4) as usize;
        Meter {
            format,
            block,
            blocks: AtomicU64::new(0),
            figures: (0..kept * channels).map(|_| Figure::default()).collect(),
            clipped: (0..channels).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Measures a block of whole frames. For the capture thread alone: neither allocates nor waits.
    pub fn note(&self, block: &[u8]) {
        match self.format.sample {
            SampleFormat::S16 => self.measure(block, read_s16),
            SampleFormat::S24 => self.measure(block, read_s24),
            SampleFormat::S32 => self.measure(block, i32::from_le_bytes),
        }
    }

    /// Counts a block of silence.
    pub fn note_silence(&self) {
        for channel in 0..self.clipped.len() {
            self.set(channel, 0, 0.0);
        }
        self.blocks.fetch_add(1, Ordering::Release);
    }

    /// The number of the block that is measured next.
    pub fn next_block(&self) -> u64 {
        self.blocks.load(Ordering::Acquire)
    }

    /// How loud each channel was from that block on, as far as it is kept.
    pub fn since(&self, block: u64) -> Vec<Reading> {
        let channels = self.clipped.len();
        let kept = (self.figures.len() / channels) as u64;
        let next = self.next_block();
        // The oldest one may be overwritten at any time.
        let blocks = block.max((next + 1).saturating_sub(kept)).min(next)..next;
        let count = (blocks.end - blocks.start).max(1) as f64;
        let mut levels: Vec<Reading> = self
            .clipped
            .iter()
            .map(|clipped| Reading { clipped: clipped.load(Ordering::Relaxed), ..Reading::default() })
            .collect();
        for block in blocks {
            let at = (block % kept) as usize * channels;
            for (level, figure) in levels.iter_mut().zip(&self.figures[at..at + channels]) {
                let peak = f64::from(figure.peak.load(Ordering::Relaxed)) / 2f64.powi(31);
                level.peak = level.peak.max(peak);
                level.power += f64::from(f32::from_bits(figure.power.load(Ordering::Relaxed))) / count;
            }
        }
        levels
    }

    /// How loud each channel was within that time.
    pub fn within(&self, time: Duration) -> Vec<Reading> {
        let blocks = (time.as_nanos() / self.block.as_nanos().max(1)).max(1) as u64;
        self.since(self.next_block().saturating_sub(blocks))
    }

    fn measure<const N: usize>(&self, block: &[u8], read: impl Fn([u8; N]) -> i32 + Copy) {
        let channels = self.clipped.len();
        let frames = block.len() / N / channels;
        if frames == 0 {
            return;
        }
        let bits = 8 * N as u32 - 1;
        let full = i32::MAX.unsigned_abs() >> (31 - bits);
        // Squares of 24 bits each, so that all formats cost the same.
        let low = bits.saturating_sub(23);
        let unit = 2f64.powi((bits - low) as i32);
        let note = |channel: usize, sum: Sum| {
            if sum.peak() >= full {
                let mut clipped = 0;
                of_channel(block, channel, channels, |bytes| {
                    clipped += u64::from(read(bytes).unsigned_abs() >= full);
                });
                self.clipped[channel].fetch_add(clipped, Ordering::Relaxed);
            }
            let power = sum.power as f64 / frames as f64 / (unit * unit);
            self.set(channel, sum.peak() << (31 - bits), power as f32);
        };
        if channels == 2 {
            // Nearly all sound is stereo: one pass, with all that it adds up in registers.
            let (mut left, mut right) = (Sum::default(), Sum::default());
            let (mut pairs, mut last) = block.split_at(frames / 2 * 4 * N);
            // Two frames in each turn: half of the loop's own work.
            while pairs.len() >= 4 * N {
                left.add_next(&mut pairs, read, low);
                right.add_next(&mut pairs, read, low);
                left.add_next(&mut pairs, read, low);
                right.add_next(&mut pairs, read, low);
            }
            left.add_next(&mut last, read, low);
            right.add_next(&mut last, read, low);
            note(0, left);
            note(1, right);
        } else {
            for channel in 0..channels {
                let mut sum = Sum::default();
                of_channel(block, channel, channels, |bytes| sum.add(read(bytes), low));
                note(channel, sum);
            }
        }
        self.blocks.fetch_add(1, Ordering::Release);
    }

    /// Sets the figures of the block that is measured now.
    fn set(&self, channel: usize, peak: u32, power: f32) {
        let channels = self.clipped.len();
        let kept = (self.figures.len() / channels) as u64;
        let at = (self.blocks.load(Ordering::Relaxed) % kept) as usize * channels;
        let figure = &self.figures[at + channel];
        figure.peak.store(peak, Ordering::Relaxed);
        figure.power.store(power.to_bits(), Ordering::Relaxed);
    }
}

#[inline(always)]
fn read_s16(bytes: [u8; 2]) -> i32 {
    i16::from_le_bytes(bytes).into()
}

#[inline(always)]
fn read_s24([a, b, c]: [u8; 3]) -> i32 {
    i32::from_le_bytes([0, a, b, c]) >> 8
}

/// Looks at each sample of one channel.
#[inline(always)]
fn of_channel<const N: usize>(block: &[u8], channel: usize, channels: usize, mut look: impl FnMut([u8; N])) {
    let mut at = channel * N;
    while at < block.len() {
        if let Some(bytes) = take(&mut &block[at..]) {
            look(*bytes);
        }
        at += channels * N;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(sample: SampleFormat, channels: u16) -> Meter {
        Meter::new(StreamFormat { rate: 48_000, channels, sample }, 480)
    }

    /// Those samples, left-justified 32 bits, as the format has them.
    fn block(sample: SampleFormat, samples: &[i32]) -> Vec<u8> {
        samples.iter().flat_map(|value| value.to_le_bytes()[4 - sample.bytes()..].to_vec()).collect()
    }

    #[test]
    fn a_sine_is_3_db_below_its_peak_in_every_format() {
        let sine: Vec<i32> = (0..480)
            .map(|n| (f64::from(n) * std::f64::consts::TAU / 48.0).sin() * 0.5 * 2f64.powi(31))
            .map(|value| value as i32)
            .collect();
        for sample in SampleFormat::ALL {
            let levels = levels(sample, 1);
            levels.note(&block(sample, &sine));
            let level = levels.within(Duration::from_millis(10))[0];
            let (peak, rms) = (level.peak_dbfs().expect("sound"), level.rms_dbfs().expect("sound"));
            assert!((peak + 6.02).abs() < 0.01, "{sample:?}: {peak}");
            assert!((rms + 9.03).abs() < 0.01, "{sample:?}: {rms}");
            assert_eq!(level.clipped, 0);
        }
    }

    #[test]
    fn channels_are_kept_apart() {
        let levels = levels(SampleFormat::S16, 3);
        let frame = [i32::MAX / 2, 0, i32::MIN];
        levels.note(&block(SampleFormat::S16, &frame.repeat(100)));
        let [left, middle, right] = levels.since(0)[..] else { panic!("three channels") };
        assert!((left.peak - 0.5).abs() < 0.001 && (left.power - 0.25).abs() < 0.001, "{left:?}");
        assert_eq!((middle.peak_dbfs(), middle.rms_dbfs()), (None, None));
        assert_eq!((right.peak, right.power, right.clipped), (1.0, 1.0, 100));
        assert_eq!((left.clipped, middle.clipped), (0, 0));
    }

    #[test]
    fn a_block_longer_than_a_second_at_full_scale_does_not_overflow_the_sum() {
        // ALSA may grant a period of a second; 2^18 squares of 24 bits at full scale are 2^64.
        for channels in [1, 2, 3] {
            let meter = levels(SampleFormat::S16, channels);
            let frames = if cfg!(miri) { 10 } else { 768_000 };
            meter.note(&block(SampleFormat::S16, &vec![i32::MIN; frames * usize::from(channels)]));
            let meter = levels(SampleFormat::S24, channels);
            meter.note(&block(SampleFormat::S24, &vec![i32::MIN; frames * usize::from(channels)]));
            for reading in meter.since(0) {
                assert_eq!((reading.peak, reading.power), (1.0, 1.0), "{channels} channels");
            }
        }
    }

    #[test]
    fn both_ends_of_the_scale_count_as_clipped_and_what_is_just_below_does_not() {
        for sample in SampleFormat::ALL {
            let step = 1i32 << (32 - 8 * sample.bytes());
            let levels = levels(sample, 1);
            let top = i32::MAX / step * step;
            levels
                .note(&block(sample, &[top, i32::MIN, i32::MIN + step, 0, top - step, i32::MIN + 2 * step]));
            assert_eq!(levels.since(0)[0].clipped, 3, "{sample:?}");
        }
    }

    #[test]
    fn a_reader_sees_the_loudest_since_it_looked_last_and_silence_is_silence() {
        let levels = levels(SampleFormat::S16, 1);
        for loud in [1 << 20, 1 << 30, 1 << 25] {
            levels.note(&block(SampleFormat::S16, &[loud; 480]));
        }
        assert_eq!(levels.since(0)[0].peak, 0.5);
        let seen = levels.next_block();
        levels.note_silence();
        assert_eq!(levels.since(seen)[0].peak_dbfs(), None);
        // Whoever comes a day later looks at what there is.
        for _ in 0..1000 {
            levels.note_silence();
        }
        assert_eq!(levels.since(seen)[0].peak, 0.0);
        assert_eq!(levels.since(u64::MAX)[0], Reading::default());
    }
}
