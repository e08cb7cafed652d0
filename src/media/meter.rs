//! The level meter of a ring: peak, mean square and clipping of every channel, block by block.
//!
//! The capture thread measures each block once; everybody else reads. The readings of the last 1.5 s lie in a small ring
//! of atomics, so that each reader can look at the time span that it needs: the page at the last twentieth of a second,
//! the status at the last third. The writer never waits. A reader that is slower than that ring is long may mix the
//! readings of two blocks; they are figures for eyes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::format::{SampleFormat, StreamFormat};
use super::level_history::LevelHistory;

/// The time span for which block readings are kept.
const KEPT: Duration = Duration::from_millis(1500);
/// Frames whose squares are summed in integers: 2^46 (a square of 24 bits) times 2^16 frames fits into 64 bits. Longer
/// blocks are summed in parts.
const PART_FRAMES: usize = 1 << 16;

/// The meter of one ring.
pub struct Meter {
    format: StreamFormat,
    /// The duration of a block.
    block: Duration,
    /// The number of blocks measured. The capture thread stores it.
    blocks: AtomicU64,
    /// The readings of the blocks kept: for each block one for each channel. The capture thread stores them.
    readings: Box<[BlockReading]>,
    /// Samples at full scale since the ring began, for each channel. The capture thread stores them.
    clipped: Box<[AtomicU64]>,
    /// The peaks of the whole history. The capture thread notes them.
    history: LevelHistory,
}

/// The reading of one channel of one block.
#[derive(Default)]
struct BlockReading {
    /// The largest magnitude; 2^31 is full scale.
    peak: AtomicU32,
    /// The mean square as the bits of an `f32`; 1 is full scale.
    power: AtomicU32,
}

/// The level of one channel over a time span.
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
    /// Returns the peak in dBFS; `None` for digital silence.
    pub fn peak_dbfs(&self) -> Option<f64> {
        (self.peak > 0.0).then(|| 20.0 * self.peak.log10())
    }

    /// Returns the RMS level in dBFS, with 0 for a square wave at full scale; `None` for digital silence.
    pub fn rms_dbfs(&self) -> Option<f64> {
        (self.power > 0.0).then(|| 10.0 * self.power.log10())
    }
}

impl Meter {
    /// Makes a meter for blocks of `block_frames` frames of a ring that keeps `history`.
    pub fn new(format: StreamFormat, block_frames: u32, history: Duration) -> Meter {
        let channels = usize::from(format.channels);
        let block = format.duration_of(block_frames.into());
        let kept = (KEPT.as_nanos() / block.as_nanos().max(1)).max(4) as usize;
        Meter {
            format,
            block,
            blocks: AtomicU64::new(0),
            readings: (0..kept * channels).map(|_| BlockReading::default()).collect(),
            clipped: (0..channels).map(|_| AtomicU64::new(0)).collect(),
            history: LevelHistory::new(format, history),
        }
    }

    /// Returns the peaks of the whole history.
    pub fn history(&self) -> &LevelHistory {
        &self.history
    }

    /// Returns the peak of the last block in dBFS, over all channels; `None` for digital silence. Allocates nothing.
    pub fn last_peak_dbfs(&self) -> Option<f64> {
        let peak = self.peak_of(self.next_block().checked_sub(1)?);
        Reading { peak: f64::from(peak) / 2f64.powi(31), ..Reading::default() }.peak_dbfs()
    }

    /// Measures a block of whole frames. For the capture thread alone; neither allocates nor waits.
    pub fn note(&self, block: &[u8]) {
        match self.format.sample {
            SampleFormat::S16 => self.measure(block, |bytes| i16::from_le_bytes(bytes).into()),
            SampleFormat::S24 => self.measure(block, |[a, b, c]| i32::from_le_bytes([0, a, b, c]) >> 8),
            SampleFormat::S32 => self.measure(block, i32::from_le_bytes),
        }
    }

    /// Notes a block of `frames` frames of silence. For the capture thread alone.
    pub fn note_silence(&self, frames: u64) {
        for channel in 0..self.clipped.len() {
            self.set(channel, 0, 0.0);
        }
        self.history.note(0, frames);
        self.blocks.fetch_add(1, Ordering::Release);
    }

    /// Returns the number of the block that is measured next.
    pub fn next_block(&self) -> u64 {
        self.blocks.load(Ordering::Acquire)
    }

    /// Returns the level of each channel from block number `block` on, as far as blocks are kept.
    pub fn since(&self, block: u64) -> Vec<Reading> {
        let channels = self.clipped.len();
        let kept = self.blocks_kept();
        let next = self.next_block();
        // The oldest block is left out: it may be overwritten at any time.
        let blocks = block.max((next + 1).saturating_sub(kept)).min(next)..next;
        let count = (blocks.end - blocks.start).max(1) as f64;
        let mut levels: Vec<Reading> = self
            .clipped
            .iter()
            .map(|clipped| Reading { clipped: clipped.load(Ordering::Relaxed), ..Reading::default() })
            .collect();
        for block in blocks {
            let at = (block % kept) as usize * channels;
            for (level, reading) in levels.iter_mut().zip(&self.readings[at..at + channels]) {
                let peak = f64::from(reading.peak.load(Ordering::Relaxed)) / 2f64.powi(31);
                level.peak = level.peak.max(peak);
                level.power += f64::from(f32::from_bits(reading.power.load(Ordering::Relaxed))) / count;
            }
        }
        levels
    }

    /// Returns the level of each channel within the last `time`.
    pub fn within(&self, time: Duration) -> Vec<Reading> {
        let blocks = (time.as_nanos() / self.block.as_nanos().max(1)).max(1) as u64;
        self.since(self.next_block().saturating_sub(blocks))
    }

    /// Measures a block. `read` turns a sample of `N` bytes into an integer of `8 * N` bits.
    fn measure<const N: usize>(&self, block: &[u8], read: impl Fn([u8; N]) -> i32 + Copy) {
        let channels = self.clipped.len();
        if block.len() < N * channels {
            return;
        }
        match channels {
            // Nearly all sound is stereo: one pass for both channels.
            2 => {
                let [left, right] = sum(block, 0, channels, read);
                self.set_sums(0, left, block, read);
                self.set_sums(1, right, block, read);
            }
            _ => {
                for channel in 0..channels {
                    let [sums] = sum(block, channel, channels, read);
                    self.set_sums(channel, sums, block, read);
                }
            }
        }
        let peak = self.peak_of(self.blocks.load(Ordering::Relaxed));
        self.history.note(peak, (block.len() / (N * channels)) as u64);
        self.blocks.fetch_add(1, Ordering::Release);
    }

    /// Returns the peak of a block over all channels; 2^31 is full scale.
    fn peak_of(&self, block: u64) -> u32 {
        let channels = self.clipped.len();
        let readings = &self.readings[(block % self.blocks_kept()) as usize * channels..][..channels];
        readings.iter().map(|reading| reading.peak.load(Ordering::Relaxed)).max().unwrap_or_default()
    }

    /// Stores the reading of one channel of the block that is measured now, and counts its samples at full scale.
    fn set_sums<const N: usize>(
        &self,
        channel: usize,
        sums: Sums,
        block: &[u8],
        read: impl Fn([u8; N]) -> i32,
    ) {
        let frames = block.chunks_exact(N * self.clipped.len());
        let peak = sums.min.unsigned_abs().max(sums.max.unsigned_abs());
        let full = full_scale::<N>();
        let power = sums.power / frames.len() as f64;
        if peak >= full {
            let clipped = frames.filter(|frame| read(sample(frame, channel)).unsigned_abs() >= full).count();
            self.clipped[channel].fetch_add(clipped as u64, Ordering::Relaxed);
        }
        self.set(channel, peak << (32 - 8 * N), power as f32);
    }

    /// Stores the reading of one channel of the block that is measured now.
    fn set(&self, channel: usize, peak: u32, power: f32) {
        let channels = self.clipped.len();
        let at = (self.blocks.load(Ordering::Relaxed) % self.blocks_kept()) as usize * channels;
        let reading = &self.readings[at + channel];
        reading.peak.store(peak, Ordering::Relaxed);
        reading.power.store(power.to_bits(), Ordering::Relaxed);
    }

    fn blocks_kept(&self) -> u64 {
        (self.readings.len() / self.clipped.len()) as u64
    }
}

/// The sums over one channel's samples in a block.
#[derive(Clone, Copy, Default)]
struct Sums {
    min: i32,
    max: i32,
    /// The sum of the squares; a sample at full scale adds 1.
    power: f64,
}

/// Sums the samples of the `CHANNELS` neighbouring channels from `first` on, of `channels` in a frame.
fn sum<const N: usize, const CHANNELS: usize>(
    block: &[u8],
    first: usize,
    channels: usize,
    read: impl Fn([u8; N]) -> i32,
) -> [Sums; CHANNELS] {
    // At most 24 bits of a sample are squared.
    let dropped_bits = (8 * N as u32).saturating_sub(24);
    let unit = f64::from(1u32 << (8 * N as u32 - 1 - dropped_bits));
    let mut sums = [Sums::default(); CHANNELS];
    for part in block.chunks(PART_FRAMES * channels * N) {
        let mut squares = [0u64; CHANNELS];
        for frame in part.chunks_exact(channels * N) {
            for (nth, (sums, squares)) in sums.iter_mut().zip(&mut squares).enumerate() {
                let sample = read(sample(frame, first + nth));
                sums.min = sums.min.min(sample);
                sums.max = sums.max.max(sample);
                let short = i64::from(sample >> dropped_bits);
                *squares += (short * short) as u64;
            }
        }
        for (sums, squares) in sums.iter_mut().zip(squares) {
            sums.power += squares as f64 / (unit * unit);
        }
    }
    sums
}

/// Returns the bytes of one channel's sample in a frame.
fn sample<const N: usize>(frame: &[u8], channel: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&frame[channel * N..][..N]);
    bytes
}

/// The largest positive sample of `N` bytes.
const fn full_scale<const N: usize>() -> u32 {
    i32::MAX.unsigned_abs() >> (32 - 8 * N)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(sample: SampleFormat, channels: u16) -> Meter {
        Meter::new(StreamFormat { rate: 48_000, channels, sample }, 480, Duration::from_secs(1))
    }

    /// Returns samples, given as left-justified 32 bits, in the bytes of the format.
    fn block(sample: SampleFormat, samples: &[i32]) -> Vec<u8> {
        samples.iter().flat_map(|value| value.to_le_bytes()[4 - sample.bytes()..].to_vec()).collect()
    }

    #[test]
    fn the_rms_level_of_a_sine_is_3_db_below_its_peak_in_every_format() {
        let sine: Vec<i32> = (0..480)
            .map(|n| (f64::from(n) * std::f64::consts::TAU / 48.0).sin() * 0.5 * 2f64.powi(31))
            .map(|value| value as i32)
            .collect();
        for sample in SampleFormat::ALL {
            let meter = meter(sample, 1);
            meter.note(&block(sample, &sine));
            let level = meter.within(Duration::from_millis(10))[0];
            let (peak, rms) = (level.peak_dbfs().expect("sound"), level.rms_dbfs().expect("sound"));
            assert!((peak + 6.02).abs() < 0.01, "{sample:?}: {peak}");
            assert!((rms + 9.03).abs() < 0.01, "{sample:?}: {rms}");
            assert_eq!(level.clipped, 0);
        }
    }

    #[test]
    fn channels_are_measured_separately() {
        let meter = meter(SampleFormat::S16, 3);
        let frame = [i32::MAX / 2, 0, i32::MIN];
        meter.note(&block(SampleFormat::S16, &frame.repeat(100)));
        let [left, middle, right] = meter.since(0)[..] else { panic!("three channels") };
        assert!((left.peak - 0.5).abs() < 0.001 && (left.power - 0.25).abs() < 0.001, "{left:?}");
        assert_eq!((middle.peak_dbfs(), middle.rms_dbfs()), (None, None));
        assert_eq!((right.peak, right.power, right.clipped), (1.0, 1.0, 100));
        assert_eq!((left.clipped, middle.clipped), (0, 0));
    }

    #[test]
    fn a_block_longer_than_a_second_at_full_scale_does_not_overflow_the_sum() {
        // ALSA may grant a period of a second; 2^18 squares of 24 bits at full scale are 2^64.
        for channels in [1, 2, 3] {
            for sample in [SampleFormat::S16, SampleFormat::S24, SampleFormat::S32] {
                let meter = meter(sample, channels);
                let frames = if cfg!(miri) { 10 } else { 768_000 };
                meter.note(&block(sample, &vec![i32::MIN; frames * usize::from(channels)]));
                for reading in meter.since(0) {
                    assert_eq!((reading.peak, reading.power), (1.0, 1.0), "{channels} channels, {sample}");
                }
            }
        }
    }

    #[test]
    fn samples_at_both_ends_of_the_scale_count_as_clipped_and_samples_just_below_do_not() {
        for sample in SampleFormat::ALL {
            let step = 1i32 << (32 - 8 * sample.bytes());
            let meter = meter(sample, 1);
            let top = i32::MAX / step * step;
            meter.note(&block(sample, &[top, i32::MIN, i32::MIN + step, 0, top - step, i32::MIN + 2 * step]));
            assert_eq!(meter.since(0)[0].clipped, 3, "{sample:?}");
        }
    }

    #[test]
    fn a_reader_gets_the_peak_since_its_last_look_and_silence_has_no_level() {
        let meter = meter(SampleFormat::S16, 1);
        for loud in [1 << 20, 1 << 30, 1 << 25] {
            meter.note(&block(SampleFormat::S16, &[loud; 480]));
        }
        assert_eq!(meter.since(0)[0].peak, 0.5);
        let last = meter.last_peak_dbfs().expect("sound");
        assert!((last - 20.0 * 2f64.powi(-6).log10()).abs() < 0.01, "{last}");
        let seen = meter.next_block();
        meter.note_silence(480);
        assert_eq!((meter.since(seen)[0].peak_dbfs(), meter.last_peak_dbfs()), (None, None));
        // A reader that is late gets the blocks that are kept.
        (0..1000).for_each(|_| meter.note_silence(480));
        assert_eq!(meter.since(seen)[0].peak, 0.0);
        assert_eq!(meter.since(u64::MAX)[0], Reading::default());
    }
}
