//! PCM of any format to mono or stereo of 16 bits, as MP3 and Opus take it.
//!
//! Mono and stereo stay as they are. Of more channels, the left one is the mean of the first, third, fifth …,
//! the right one that of the second, fourth …; an odd last channel goes to both. So no channel is lost,
//! nothing can exceed full scale, and the pairs of ALSA's surround orders keep their sides. Wider samples are
//! rounded.

use crate::media::format::{SampleFormat, StreamFormat};

/// Returns the number of channels that come out: 1 or 2.
pub const fn channels(format: StreamFormat) -> usize {
    if format.channels == 1 { 1 } else { 2 }
}

/// Appends the frames of `pcm` to `out`, interleaved.
pub fn mix(format: StreamFormat, pcm: &[u8], out: &mut Vec<i16>) {
    match format.sample {
        SampleFormat::S16 if format.channels <= 2 => {
            out.extend(pcm.chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]])));
        }
        SampleFormat::S16 => {
            each(format, pcm, out, |bytes: [u8; 2]| i32::from(i16::from_le_bytes(bytes)) << 16)
        }
        SampleFormat::S24 => each(format, pcm, out, |[a, b, c]| i32::from_le_bytes([0, a, b, c])),
        SampleFormat::S32 => each(format, pcm, out, i32::from_le_bytes),
    }
}

/// `read` returns a sample in 32 bits.
#[inline(always)]
fn each<const N: usize>(format: StreamFormat, pcm: &[u8], out: &mut Vec<i16>, read: impl Fn([u8; N]) -> i32) {
    let samples = pcm.chunks_exact(N).map(|bytes| {
        let mut sample = [0; N];
        sample.copy_from_slice(bytes);
        read(sample)
    });
    if format.channels <= 2 {
        out.extend(samples.map(|sample| rounded(sample.into(), 1)));
        return;
    }
    let channels = usize::from(format.channels);
    let odd = channels % 2;
    let (mut sums, mut channel) = ([0i64; 2], 0);
    for sample in samples {
        sums[channel % 2] += i64::from(sample);
        if odd == 1 && channel == channels - 1 {
            sums[1] += i64::from(sample);
        }
        channel += 1;
        if channel == channels {
            let count = channels.div_ceil(2) as i64;
            out.extend(sums.map(|sum| rounded(sum, count)));
            (sums, channel) = ([0; 2], 0);
        }
    }
}

/// Returns the mean of `count` samples of 32 bits in 16 bits, rounded to the nearest.
#[inline(always)]
fn rounded(sum: i64, count: i64) -> i16 {
    let unit = count << 16;
    // Only the upper end can exceed the range, by the rounding.
    (sum + unit / 2).div_euclid(unit).min(i16::MAX.into()) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(channels: u16, sample: SampleFormat, samples: &[i32]) -> Vec<i16> {
        let format = StreamFormat { rate: 48_000, channels, sample };
        let pcm: Vec<u8> =
            samples.iter().flat_map(|value| value.to_le_bytes()[..sample.bytes()].to_vec()).collect();
        let mut out = vec![99];
        mix(format, &pcm, &mut out);
        assert_eq!(out.remove(0), 99, "it appends");
        out
    }

    #[test]
    fn mono_and_stereo_of_16_bits_stay_as_they_are() {
        for value in [i16::MIN, -1, 0, 1, 12_345, i16::MAX] {
            let wide = i32::from(value);
            assert_eq!(mixed(1, SampleFormat::S16, &[wide, 7]), [value, 7]);
            assert_eq!(mixed(2, SampleFormat::S16, &[wide, 7]), [value, 7]);
            assert_eq!(mixed(1, SampleFormat::S24, &[wide << 8]), [value]);
            assert_eq!(mixed(2, SampleFormat::S32, &[wide << 16, 0]), [value, 0]);
        }
    }

    #[test]
    fn wider_samples_are_rounded_and_stay_in_range() {
        assert_eq!(mixed(1, SampleFormat::S24, &[127, 128, -128, -129]), [0, 1, 0, -1]);
        assert_eq!(
            mixed(1, SampleFormat::S32, &[0x7fff, 0x8000, i32::MAX, i32::MIN]),
            [0, 1, i16::MAX, i16::MIN]
        );
    }

    #[test]
    fn more_channels_go_to_their_sides() {
        assert_eq!(mixed(3, SampleFormat::S16, &[100, 20, 6]), [53, 13]);
        assert_eq!(mixed(4, SampleFormat::S16, &[100, 20, 6, 4]), [53, 12]);
        assert_eq!(mixed(6, SampleFormat::S16, &[3, 30, 6, 60, 9, 90]), [6, 60]);
        assert_eq!(
            mixed(8, SampleFormat::S16, &[1, 10, 1, 10, 1, 10, 1, 10, 8, 0, 0, 4, 0, 0, 0, 0]),
            [1, 10, 2, 1]
        );
    }

    #[test]
    fn full_scale_in_every_channel_is_full_scale() {
        for channels in 1..=9 {
            for (value, wide) in [(i16::MAX, i32::MAX), (i16::MIN, i32::MIN)] {
                let out = mixed(channels, SampleFormat::S32, &vec![wide; channels.into()]);
                assert!(out.iter().all(|sample| *sample == value), "{channels} channels: {out:?}");
            }
        }
    }
}
