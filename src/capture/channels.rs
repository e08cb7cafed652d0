//! The channels of a stream: those of the card that the configuration picks, once, in the capture thread.

use crate::config::Pick;
use crate::media::format::SourceSample;

/// Takes the picked channels out of blocks of a source.
///
/// A picked sample is bit for bit the source's. The mean of all channels is rounded to the nearest value, halves upwards.
#[derive(Clone, Debug)]
pub struct ChannelPicker {
    sample: SourceSample,
    /// Channels of the source.
    channels: usize,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Every block stays as it is.
    Identity,
    /// These channels, counted from 0; each is one of the source's.
    Channels(Vec<usize>),
    Mean,
}

impl ChannelPicker {
    /// A picker for blocks of a source with that sample format and number of channels. A channel that the source does not
    /// have is left out; opening such a source fails before.
    pub fn new(pick: &Pick, sample: SourceSample, channels: u16) -> ChannelPicker {
        let all = usize::from(channels.max(1));
        let kind = match pick {
            Pick::All => Kind::Identity,
            Pick::Mean if all == 1 => Kind::Identity,
            Pick::Mean => Kind::Mean,
            Pick::Channels(picked) => {
                let picked = picked.iter().map(|channel| usize::from(*channel).saturating_sub(1));
                let picked: Vec<usize> = picked.filter(|channel| *channel < all).collect();
                if picked.iter().copied().eq(0..all) { Kind::Identity } else { Kind::Channels(picked) }
            }
        };
        ChannelPicker { sample, channels: all, kind }
    }

    /// Returns whether every block stays as it is.
    pub fn is_identity(&self) -> bool {
        matches!(self.kind, Kind::Identity)
    }

    /// Returns the bytes of a frame of picked channels, in the sample format of the source.
    pub fn frame_bytes(&self) -> usize {
        let channels = match &self.kind {
            Kind::Identity => self.channels,
            Kind::Channels(channels) => channels.len(),
            Kind::Mean => 1,
        };
        channels * self.sample.bytes()
    }

    /// Picks from whole frames into the beginning of `output`, and returns the bytes that were written. Allocates nothing.
    ///
    /// # Panics
    ///
    /// If `output` is too small.
    pub fn pick<'out>(&self, input: &[u8], output: &'out mut [u8]) -> &'out [u8] {
        let frames = input.len() / (self.channels * self.sample.bytes());
        let output = &mut output[..frames * self.frame_bytes()];
        match (&self.kind, self.sample) {
            (Kind::Identity, _) => output.copy_from_slice(input),
            (Kind::Channels(picked), SourceSample::S16) => self.copy::<2>(picked, input, output),
            (Kind::Channels(picked), SourceSample::S24Packed) => self.copy::<3>(picked, input, output),
            (Kind::Channels(picked), SourceSample::S24 | SourceSample::S32 | SourceSample::F32) => {
                self.copy::<4>(picked, input, output);
            }
            (Kind::Mean, SourceSample::S16) => {
                self.average(
                    input,
                    output,
                    |bytes| i16::from_le_bytes(bytes).into(),
                    |mean| (mean as i16).to_le_bytes(),
                );
            }
            (Kind::Mean, SourceSample::S24Packed) => {
                self.average(
                    input,
                    output,
                    |[a, b, c]| widen24([a, b, c]),
                    |mean| {
                        let [a, b, c, _] = (mean as i32).to_le_bytes();
                        [a, b, c]
                    },
                );
            }
            (Kind::Mean, SourceSample::S24) => {
                // The upper byte of the source means nothing.
                self.average(
                    input,
                    output,
                    |[a, b, c, _]| widen24([a, b, c]),
                    |mean| (mean as i32).to_le_bytes(),
                );
            }
            (Kind::Mean, SourceSample::S32) => {
                self.average(
                    input,
                    output,
                    |bytes| i32::from_le_bytes(bytes).into(),
                    |mean| (mean as i32).to_le_bytes(),
                );
            }
            (Kind::Mean, SourceSample::F32) => self.average_floats(input, output),
        }
        output
    }

    /// Copies the samples of `N` bytes of the picked channels.
    fn copy<const N: usize>(&self, picked: &[usize], input: &[u8], output: &mut [u8]) {
        let frames = input.chunks_exact(N * self.channels);
        for (from, to) in frames.zip(output.chunks_exact_mut(N * picked.len())) {
            for (channel, to) in picked.iter().zip(to.chunks_exact_mut(N)) {
                to.copy_from_slice(&from[channel * N..][..N]);
            }
        }
    }

    /// Writes the mean of each frame of integers. It fits into the sample format, as each sample does.
    fn average<const N: usize>(
        &self,
        input: &[u8],
        output: &mut [u8],
        read: impl Fn([u8; N]) -> i64,
        write: impl Fn(i64) -> [u8; N],
    ) {
        let channels = self.channels as i64;
        let frames = input.chunks_exact(N * self.channels);
        for (from, to) in frames.zip(output.chunks_exact_mut(N)) {
            let sum: i64 =
                from.chunks_exact(N).filter_map(|bytes| bytes.first_chunk()).map(|b| read(*b)).sum();
            to.copy_from_slice(&write((2 * sum + channels).div_euclid(2 * channels)));
        }
    }

    fn average_floats(&self, input: &[u8], output: &mut [u8]) {
        let frames = input.chunks_exact(4 * self.channels);
        for (from, to) in frames.zip(output.chunks_exact_mut(4)) {
            let samples = from.chunks_exact(4).filter_map(|bytes| bytes.first_chunk());
            let sum: f64 = samples.map(|bytes| f64::from(f32::from_le_bytes(*bytes))).sum();
            to.copy_from_slice(&((sum / self.channels as f64) as f32).to_le_bytes());
        }
    }
}

fn widen24([a, b, c]: [u8; 3]) -> i64 {
    i64::from(i32::from_le_bytes([0, a, b, c]) >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(pick: &Pick, sample: SourceSample, channels: u16, input: &[u8]) -> Vec<u8> {
        let picker = ChannelPicker::new(pick, sample, channels);
        let mut output = vec![0; 256];
        let output = picker.pick(input, &mut output);
        let frames = input.len() / (usize::from(channels) * sample.bytes());
        assert_eq!(output.len(), frames * picker.frame_bytes());
        output.to_vec()
    }

    fn channels(list: &[u16]) -> Pick {
        Pick::Channels(list.to_vec())
    }

    #[test]
    fn picked_channels_are_bit_for_bit_the_sources_in_every_format() {
        for sample in [
            SourceSample::S16,
            SourceSample::S24Packed,
            SourceSample::S24,
            SourceSample::S32,
            SourceSample::F32,
        ] {
            let bytes = sample.bytes();
            // Every byte of these two frames of four channels is another one.
            let input: Vec<u8> = (0..2 * 4 * bytes as u8).collect();
            let of = |frame: usize, channel: usize| &input[(frame * 4 + channel) * bytes..][..bytes];
            for list in [&[3][..], &[1, 2], &[2, 1], &[4, 1, 4], &[1, 2, 3]] {
                let expected: Vec<u8> = (0..2)
                    .flat_map(|frame| list.iter().map(move |channel| (frame, usize::from(*channel) - 1)))
                    .flat_map(|(frame, channel)| of(frame, channel).to_vec())
                    .collect();
                assert_eq!(picked(&channels(list), sample, 4, &input), expected, "{sample:?} {list:?}");
            }
        }
    }

    #[test]
    fn mono_is_the_mean_rounded_to_the_nearest_value() {
        let mean = |samples: &[i16]| {
            let input: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            let output = picked(&Pick::Mean, SourceSample::S16, samples.len() as u16, &input);
            i16::from_le_bytes([output[0], output[1]])
        };
        for (samples, expected) in [
            (&[7][..], 7),
            (&[1, 3], 2),
            (&[1, 2], 2),
            (&[-1, -2], -1),
            (&[-1, -1, -2], -1),
            (&[i16::MAX; 32], i16::MAX),
            (&[i16::MIN; 32], i16::MIN),
            (&[i16::MIN, i16::MAX], 0),
        ] {
            assert_eq!(mean(samples), expected, "{samples:?}");
        }
    }

    #[test]
    fn mono_works_in_every_format() {
        let wide = [i32::MIN.to_le_bytes(), (-2i32).to_le_bytes()].concat();
        assert_eq!(picked(&Pick::Mean, SourceSample::S32, 2, &wide), (-1_073_741_825i32).to_le_bytes());
        let packed = [[0xFE, 0xFF, 0xFF], [0xFC, 0xFF, 0xFF]].concat();
        assert_eq!(picked(&Pick::Mean, SourceSample::S24Packed, 2, &packed), [0xFD, 0xFF, 0xFF]);
        let junk = [[0xFE, 0xFF, 0xFF, 0x12], [0xFC, 0xFF, 0xFF, 0x34]].concat();
        assert_eq!(picked(&Pick::Mean, SourceSample::S24, 2, &junk), [0xFD, 0xFF, 0xFF, 0xFF]);
        let floats = [1.0f32.to_le_bytes(), (-0.5f32).to_le_bytes()].concat();
        assert_eq!(picked(&Pick::Mean, SourceSample::F32, 2, &floats), 0.25f32.to_le_bytes());
    }

    #[test]
    fn only_all_channels_in_their_order_are_the_identity() {
        for (pick, card, expected) in [
            (Pick::All, 8, true),
            (Pick::Mean, 1, true),
            (Pick::Mean, 2, false),
            (channels(&[1, 2]), 2, true),
            (channels(&[1, 2]), 3, false),
            (channels(&[2, 1]), 2, false),
            (channels(&[1]), 1, true),
        ] {
            let picker = ChannelPicker::new(&pick, SourceSample::S16, card);
            assert_eq!(picker.is_identity(), expected, "{pick:?} {card}");
        }
    }
}
