//! Sample conversion and gain: from the card's format to the stream's, once, in the capture thread.

use crate::media::format::{SampleFormat, SourceSample};

/// A conversion of samples from one format to another, with an optional gain.
///
/// Every sample is widened to 32 bits, left-justified, then multiplied, then cut to its most significant bits. ALSA's
/// `plug` layer does the same, so that a 16-bit sample in the upper half of a 32-bit card's sample arrives unchanged.
/// A sample that the gain takes beyond full scale stays at full scale.
#[derive(Clone, Copy, Debug)]
pub struct Converter {
    from: SourceSample,
    to: SampleFormat,
    /// Factor; `None` leaves every sample as it is.
    gain: Option<f64>,
}

impl Converter {
    /// A converter that changes the level by `gain_db` decibels. 0 leaves every sample as it is.
    pub fn new(from: SourceSample, to: SampleFormat, gain_db: f64) -> Converter {
        let gain = (gain_db != 0.0).then(|| 10f64.powf(gain_db / 20.0));
        Converter { from, to, gain }
    }

    /// Returns whether the conversion changes no byte.
    pub fn is_identity(&self) -> bool {
        self.gain.is_none() && self.from == SourceSample::from(self.to)
    }

    /// Converts whole samples from `input` into the beginning of `output` and returns the bytes that were written.
    ///
    /// # Panics
    ///
    /// If `output` is too small.
    pub fn convert<'out>(&self, input: &[u8], output: &'out mut [u8]) -> &'out [u8] {
        let samples = input.len() / self.from.bytes();
        let output = &mut output[..samples * self.to.bytes()];
        match self.from {
            SourceSample::S16 => self.narrow(input, output, |[a, b]| i32::from_le_bytes([0, 0, a, b])),
            SourceSample::S24Packed => {
                self.narrow(input, output, |[a, b, c]| i32::from_le_bytes([0, a, b, c]))
            }
            SourceSample::S24 => self.narrow(input, output, |[a, b, c, _]| i32::from_le_bytes([0, a, b, c])),
            SourceSample::S32 => self.narrow(input, output, i32::from_le_bytes),
            SourceSample::F32 => self.narrow(input, output, |bytes| full_scale(f32::from_le_bytes(bytes))),
        }
        output
    }

    /// Selects the function that cuts a sample; `widen` makes 32 bits of it.
    fn narrow<const N: usize>(&self, input: &[u8], output: &mut [u8], widen: impl Fn([u8; N]) -> i32) {
        match self.to {
            SampleFormat::S16 => self.amplify(input, output, widen, |[_, _, a, b]| [a, b]),
            SampleFormat::S24 => self.amplify(input, output, widen, |[_, a, b, c]| [a, b, c]),
            SampleFormat::S32 => self.amplify(input, output, widen, |bytes| bytes),
        }
    }

    /// Selects the loop with or without gain.
    fn amplify<const N: usize, const M: usize>(
        &self,
        input: &[u8],
        output: &mut [u8],
        widen: impl Fn([u8; N]) -> i32,
        cut: impl Fn([u8; 4]) -> [u8; M],
    ) {
        match self.gain {
            None => each(input, output, |bytes| cut(widen(bytes).to_le_bytes())),
            // The cast saturates.
            Some(gain) => {
                each(input, output, |bytes| cut(((f64::from(widen(bytes)) * gain) as i32).to_le_bytes()))
            }
        }
    }
}

/// Returns the sample with full scale at ±2^31. The cast saturates, and makes 0 of what is no number.
fn full_scale(sample: f32) -> i32 {
    (f64::from(sample) * 2_147_483_648.0).round() as i32
}

/// Converts each `N` bytes of `input` into `M` bytes of `output`.
fn each<const N: usize, const M: usize>(
    input: &[u8],
    output: &mut [u8],
    convert: impl Fn([u8; N]) -> [u8; M],
) {
    for (from, to) in input.chunks_exact(N).zip(output.chunks_exact_mut(M)) {
        if let (Some(from), Some(to)) = (from.first_chunk(), to.first_chunk_mut()) {
            *to = convert(*from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(from: SourceSample, to: SampleFormat, gain_db: f64, input: &[u8]) -> Vec<u8> {
        let mut output = vec![0; 64];
        Converter::new(from, to, gain_db).convert(input, &mut output).to_vec()
    }

    #[test]
    fn a_16_bit_sample_is_unchanged_in_every_wider_format_and_back() {
        for value in [i16::MIN, -1, 0, 1, 0x1234, i16::MAX] {
            let [a, b] = value.to_le_bytes();
            for (to, wide) in [(SampleFormat::S24, vec![0, a, b]), (SampleFormat::S32, vec![0, 0, a, b])] {
                assert_eq!(converted(SourceSample::S16, to, 0.0, &[a, b]), wide);
                assert_eq!(converted(SourceSample::from(to), SampleFormat::S16, 0.0, &wide), [a, b]);
            }
            let float = (f32::from(value) / 32768.0).to_le_bytes();
            assert_eq!(converted(SourceSample::F32, SampleFormat::S16, 0.0, &float), [a, b]);
        }
    }

    #[test]
    fn the_upper_byte_of_24_bits_in_32_is_ignored() {
        let junk = [0x56, 0x34, 0x92, 0x77];
        assert_eq!(converted(SourceSample::S24, SampleFormat::S24, 0.0, &junk), [0x56, 0x34, 0x92]);
        assert_eq!(converted(SourceSample::S24, SampleFormat::S32, 0.0, &junk), [0, 0x56, 0x34, 0x92]);
    }

    #[test]
    fn gain_doubles_at_6_db_and_saturates_at_full_scale() {
        let six = 20.0 * 2f64.log10();
        let input: Vec<u8> = [1000i16, -1000, 30_000, -30_000].iter().flat_map(|s| s.to_le_bytes()).collect();
        let output = converted(SourceSample::S16, SampleFormat::S16, six, &input);
        let samples: Vec<i16> =
            output.chunks(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]])).collect();
        assert!((1999..=2000).contains(&samples[0]), "{samples:?}");
        assert!((-2001..=-1999).contains(&samples[1]), "{samples:?}");
        assert_eq!(samples[2..], [i16::MAX, i16::MIN]);
    }

    #[test]
    fn floats_beyond_full_scale_saturate_and_nan_is_silence() {
        for (float, sample) in [
            (1.0, i32::MAX),
            (7.5, i32::MAX),
            (-1.0, i32::MIN),
            (-9.0, i32::MIN),
            (f32::NAN, 0),
            (0.5, 1 << 30),
        ] {
            let output = converted(SourceSample::F32, SampleFormat::S32, 0.0, &float.to_le_bytes());
            assert_eq!(output, sample.to_le_bytes());
        }
    }

    #[test]
    fn only_the_same_format_without_gain_is_the_identity() {
        assert!(Converter::new(SourceSample::S16, SampleFormat::S16, 0.0).is_identity());
        assert!(!Converter::new(SourceSample::S16, SampleFormat::S16, 1.0).is_identity());
        assert!(!Converter::new(SourceSample::S32, SampleFormat::S16, 0.0).is_identity());
    }

    #[test]
    fn the_first_choice_of_source_sample_is_the_stream_format() {
        for output in SampleFormat::ALL {
            assert_eq!(SourceSample::preference(output)[0], SourceSample::from(output));
        }
    }
}
