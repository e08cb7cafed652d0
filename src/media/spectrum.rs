//! Levels of bands of frequencies, for the spectrogram of a page that does not see the sound itself.

use std::f32::consts::PI;

use super::format::{SampleFormat, StreamFormat};
use super::ring::{Read, Ring};

/// Number of bands. They are equally wide on a logarithmic scale.
pub const BANDS: usize = 120;
/// The lower end of the lowest band and the upper end of the highest one, in hertz.
const RANGE: [f32; 2] = [50.0, 20_000.0];
/// Columns per second.
const PER_SECOND: u64 = 10;
/// Frames that a column is measured over: 93 ms at 44.1 kHz.
const WINDOW: usize = 4096;
/// The level of silence in dB.
const SILENCE: f32 = -100.0;

/// Returns the levels of the columns `from` and later, at most `most` of them, as far as the ring has their frames. Column `n` is
/// the tenth of a second from frame `n * rate / 10` on. A level is in dB as the analyser of a browser has it, from -100 to 0.
pub fn columns(ring: &Ring, from: u64, most: usize) -> Vec<[i8; BANDS]> {
    let format = ring.format();
    let rate = u64::from(format.rate);
    let first_frame = |column: u64| {
        let middle = (u128::from(column) * 2 + 1) * u128::from(rate) / u128::from(2 * PER_SECOND);
        u64::try_from(middle).unwrap_or(u64::MAX).saturating_sub(WINDOW as u64 / 2)
    };
    let mut columns = Vec::new();
    let fourier = Fourier::new();
    // Frames of the window that were read already, mixed to mono.
    let mut sound: Vec<f32> = Vec::new();
    let mut reader = ring.reader_at(first_frame(from));
    let mut begin = reader.frame();
    let mut block = vec![0; ring.unit_bytes() * WINDOW];
    for column in (from..u64::MAX).take(most) {
        let first = first_frame(column);
        if first < begin {
            break;
        }
        sound.drain(..((first - begin) as usize).min(sound.len()));
        begin = first;
        while sound.len() < WINDOW {
            match reader.read(&mut block) {
                Read::Block { bytes, .. } => mix(format, &block[..bytes], &mut sound),
                // Not captured yet, or gone.
                Read::Nothing | Read::End | Read::Lapped { .. } => return columns,
            }
        }
        columns.push(fourier.levels(&sound[..WINDOW], format.rate));
    }
    columns
}

/// Appends the mean of all channels of each frame; 1 is full scale.
fn mix(format: StreamFormat, frames: &[u8], sound: &mut Vec<f32>) {
    let bytes = format.sample.bytes();
    let sample = |sample: &[u8]| match format.sample {
        SampleFormat::S16 => f32::from(i16::from_le_bytes([sample[0], sample[1]])) / 32_768.0,
        SampleFormat::S24 => {
            i32::from_le_bytes([0, sample[0], sample[1], sample[2]]) as f32 / 2_147_483_648.0
        }
        SampleFormat::S32 => {
            i32::from_le_bytes([sample[0], sample[1], sample[2], sample[3]]) as f32 / 2_147_483_648.0
        }
    };
    sound.extend(
        frames
            .chunks_exact(format.frame_bytes())
            .map(|frame| frame.chunks_exact(bytes).map(sample).sum::<f32>() / f32::from(format.channels)),
    );
}

/// A Fourier transform of [`WINDOW`] samples.
struct Fourier {
    /// The Blackman window that the browsers' analysers have.
    window: Vec<f32>,
    /// Cosine and negative sine of each step of the circle.
    circle: Vec<[f32; 2]>,
}

impl Fourier {
    fn new() -> Fourier {
        let angle = |n: usize| 2.0 * PI * n as f32 / WINDOW as f32;
        let window = |n| 0.42 - 0.5 * angle(n).cos() + 0.08 * (2.0 * angle(n)).cos();
        Fourier {
            window: (0..WINDOW).map(window).collect(),
            circle: (0..WINDOW / 2).map(|n| [angle(n).cos(), -angle(n).sin()]).collect(),
        }
    }

    /// Returns the levels of the bands of [`WINDOW`] samples.
    fn levels(&self, sound: &[f32], rate: u32) -> [i8; BANDS] {
        let levels = self.transform(sound);
        let bin = |band: usize| {
            let [low, high] = RANGE;
            low * (high / low).powf(band as f32 / BANDS as f32) * WINDOW as f32 / rate as f32
        };
        std::array::from_fn(|band| {
            let (from, to) = (bin(band), bin(band + 1));
            // The strongest of the bins in the band, or what lies between the two nearest.
            let level = if to - from < 1.0 {
                let at = |bin: usize| levels.get(bin).copied().unwrap_or(SILENCE);
                let (low, part) = (from as usize, from.fract());
                at(low) * (1.0 - part) + at(low + 1) * part
            } else {
                let bins = levels.get(from as usize..(to.ceil() as usize).min(levels.len()));
                bins.unwrap_or_default().iter().copied().fold(SILENCE, f32::max)
            };
            level.clamp(SILENCE, 0.0).round() as i8
        })
    }

    /// Returns the level in dB of each frequency.
    fn transform(&self, sound: &[f32]) -> Vec<f32> {
        const BITS: u32 = WINDOW.trailing_zeros();
        let mut values = vec![[0.0; 2]; WINDOW];
        for (n, (sample, window)) in sound.iter().zip(&self.window).enumerate() {
            values[n.reverse_bits() >> (usize::BITS - BITS)] = [sample * window, 0.0];
        }
        let mut half = 1;
        while half < WINDOW {
            for part in values.chunks_exact_mut(2 * half) {
                let (low, high) = part.split_at_mut(half);
                let turns = self.circle.iter().step_by(WINDOW / 2 / half);
                for ((a, b), [cos, sin]) in low.iter_mut().zip(high).zip(turns) {
                    let turned = [b[0] * cos - b[1] * sin, b[0] * sin + b[1] * cos];
                    *b = [a[0] - turned[0], a[1] - turned[1]];
                    *a = [a[0] + turned[0], a[1] + turned[1]];
                }
            }
            half *= 2;
        }
        let level = |[re, im]: &[f32; 2]| 20.0 * (re.hypot(*im) / WINDOW as f32).max(1e-6).log10();
        values[..WINDOW / 2].iter().map(level).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::media::ring;

    const RATE: u32 = 44_100;

    /// Returns a ring with `seconds` of a sine of full scale in 24 bits, in both channels.
    fn sine(hertz: f32, seconds: f32) -> (ring::Writer, Ring) {
        let format = StreamFormat { rate: RATE, channels: 2, sample: SampleFormat::S24 };
        let (mut writer, ring) = ring::new(format, 441, Duration::from_secs(2)).expect("memory");
        let frames = (seconds * RATE as f32) as usize;
        let sample = |n: usize| ((2.0 * PI * hertz * n as f32 / RATE as f32).sin() * 8_388_607.0) as i32;
        let bytes: Vec<u8> = (0..frames)
            .flat_map(|n| [sample(n), sample(n)])
            .flat_map(|s| s.to_le_bytes()[..3].to_vec())
            .collect();
        for block in bytes.chunks(441 * 6) {
            writer.publish(block, 1);
        }
        (writer, ring)
    }

    /// The band of a frequency.
    fn band(hertz: f32) -> usize {
        ((hertz / RANGE[0]).ln() / (RANGE[1] / RANGE[0]).ln() * BANDS as f32) as usize
    }

    #[test]
    fn a_tone_is_in_its_band_and_nowhere_else() {
        for hertz in [60.0, 440.0, 3000.0, 15_000.0] {
            let (_writer, ring) = sine(hertz, 0.5);
            let column = columns(&ring, 2, 1)[0];
            let loudest = (0..BANDS).max_by_key(|band| column[*band]).expect("bands");
            assert!(loudest.abs_diff(band(hertz)) <= 2, "{hertz} Hz: band {loudest}");
            // Half of full scale, less the window's 7.5 dB.
            assert!((-15..=-12).contains(&column[loudest]), "{hertz} Hz: {} dB", column[loudest]);
            let far = column
                .iter()
                .enumerate()
                .filter(|(band, _)| band.abs_diff(loudest) > 40)
                .map(|(_, level)| *level);
            assert!(far.max().expect("bands") < -70, "{hertz} Hz: {column:?}");
        }
    }

    #[test]
    fn columns_are_those_whose_frames_are_there() {
        let (mut writer, ring) = sine(440.0, 1.0);
        // The window reaches beyond the middle of its column.
        assert_eq!(columns(&ring, 2, 20).len(), 8);
        assert_eq!(columns(&ring, 2, 3).len(), 3);
        assert_eq!(columns(&ring, 10, 20).len(), 0);
        assert_eq!(columns(&ring, u64::MAX / 2, 20).len(), 0);
        for _ in 0..400 {
            writer.publish(&[0; 441 * 6], 1);
        }
        assert_eq!(columns(&ring, 2, 20).len(), 0, "gone");
        assert_eq!(columns(&ring, 40, 1)[0], [-100; BANDS]);
    }
}
