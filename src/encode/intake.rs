//! PCM of any format to blocks of 16-bit mono or stereo at the rate of a codec, with their positions in the
//! input.

use super::downmix;
use super::resample::{PIECE_FRAMES, Resampler};
use crate::media::format::StreamFormat;

/// One block for a codec.
pub(super) struct Block<'a> {
    /// Interleaved samples. LAME wants them mutable.
    pub(super) samples: &'a mut [i16],
    /// Position of the block's first frame in the input.
    pub(super) first_frame: u64,
    /// Frames of the input that the block covers.
    pub(super) frames: u32,
}

/// The converter of one stream.
pub(super) struct Intake {
    format: StreamFormat,
    channels: usize,
    block_frames: usize,
    /// `None` where the codec takes the input's rate.
    resampler: Option<Resampler>,
    /// Scratch for samples at the input's rate.
    mixed: Vec<i16>,
    /// Samples at the codec's rate that wait for a complete block.
    ready: Vec<i16>,
    /// Position in the input of the first frame since the start or the last skip.
    origin: u64,
    /// Frames since then: of the input, and of blocks that were handed out.
    received: u64,
    handed_out: u64,
}

impl Intake {
    /// Returns a converter to blocks of `block_frames` frames at `rate` Hz.
    pub(super) fn new(format: StreamFormat, rate: u32, block_frames: usize, first_frame: u64) -> Self {
        let channels = downmix::channels(format);
        let resampler = (rate != format.rate).then(|| Resampler::new(format.rate, rate, channels));
        let piece =
            resampler.as_ref().map_or(PIECE_FRAMES, |resampler| resampler.max_output_frames(PIECE_FRAMES));
        Intake {
            format,
            channels,
            block_frames,
            resampler,
            mixed: Vec::with_capacity(channels * PIECE_FRAMES),
            ready: Vec::with_capacity(channels * (block_frames + piece)),
            origin: first_frame,
            received: 0,
            handed_out: 0,
        }
    }

    /// Converts a whole number of frames and hands every complete block to `each`.
    ///
    /// # Errors
    ///
    /// The first error of `each`. The rest of `pcm` is then dropped.
    pub(super) fn feed<E>(
        &mut self,
        pcm: &[u8],
        mut each: impl FnMut(Block<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let frame_bytes = self.format.frame_bytes();
        for piece in pcm.chunks(PIECE_FRAMES * frame_bytes) {
            self.received += (piece.len() / frame_bytes) as u64;
            match &mut self.resampler {
                None => downmix::mix(self.format, piece, &mut self.ready),
                Some(resampler) => {
                    self.mixed.clear();
                    downmix::mix(self.format, piece, &mut self.mixed);
                    resampler.process(&self.mixed, &mut self.ready);
                }
            }
            let samples = self.block_frames * self.channels;
            while self.ready.len() >= samples {
                let first_frame = self.position(self.handed_out);
                self.handed_out += self.block_frames as u64;
                let frames = (self.position(self.handed_out) - first_frame) as u32;
                each(Block { samples: &mut self.ready[..samples], first_frame, frames })?;
                self.ready.drain(..samples);
            }
        }
        Ok(())
    }

    /// Drops what waits and continues at that position of the input. Returns the number of frames that were dropped.
    pub(super) fn skip_to(&mut self, first_frame: u64) -> u64 {
        let dropped = (self.origin + self.received).saturating_sub(self.position(self.handed_out));
        self.ready.clear();
        if let Some(resampler) = &mut self.resampler {
            resampler.reset();
        }
        (self.origin, self.received, self.handed_out) = (first_frame, 0, 0);
        dropped
    }

    /// Feeds silence until blocks with `frames` frames, at the codec's rate, were handed out.
    ///
    /// # Errors
    ///
    /// The first error of `each`.
    pub(super) fn pad<E>(
        &mut self,
        frames: u64,
        mut each: impl FnMut(Block<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let silence = vec![0; PIECE_FRAMES * self.format.frame_bytes()];
        while self.handed_out < frames {
            self.feed(&silence, &mut each)?;
        }
        Ok(())
    }

    /// Frames at the codec's rate, since the start or the last skip, in blocks that were handed out.
    pub(super) fn handed_out(&self) -> u64 {
        self.handed_out
    }

    /// Returns the number of frames at the codec's rate that the received frames make, rounded up.
    pub(super) fn received_at_codec_rate(&self) -> u64 {
        self.resampler.as_ref().map_or(self.received, |resampler| resampler.output_frames(self.received))
    }

    /// Upper bound of the frames of the input that a block covers.
    pub(super) fn max_block_frames(&self) -> u32 {
        let frames = self.block_frames as u64;
        self.resampler.as_ref().map_or(frames, |resampler| resampler.input_frame(frames) + 1) as u32
    }

    /// Position in the input of that frame at the codec's rate.
    fn position(&self, frame: u64) -> u64 {
        self.origin + self.resampler.as_ref().map_or(frame, |resampler| resampler.input_frame(frame))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::media::format::SampleFormat;

    fn positions(intake: &mut Intake, pcm: &[u8], step: usize) -> Vec<(u64, u32)> {
        let mut seen = Vec::new();
        for piece in pcm.chunks(step) {
            let Ok(()) = intake.feed(piece, |block| {
                assert_eq!(block.samples.len(), 960);
                seen.push((block.first_frame, block.frames));
                Ok::<(), Infallible>(())
            });
        }
        seen
    }

    #[test]
    fn blocks_cover_the_input_without_holes_at_every_rate() {
        for rate in [8_000, 11_025, 44_100, 48_000, 96_000, 192_000] {
            let format = StreamFormat { rate, channels: 1, sample: SampleFormat::S16 };
            let pcm = vec![0; rate as usize * 2];
            for step in [2, 882, 10_000] {
                let mut intake = Intake::new(format, 48_000, 960, 1_000);
                let seen = positions(&mut intake, &pcm, step);
                let mut next = 1_000;
                for (first_frame, frames) in &seen {
                    assert_eq!(*first_frame, next, "{rate} Hz");
                    assert!(*frames <= intake.max_block_frames());
                    next += u64::from(*frames);
                }
                // 50 blocks a second; the filter may keep the last one.
                assert!((49..=50).contains(&seen.len()), "{rate} Hz: {} blocks", seen.len());
                assert_eq!(intake.received, u64::from(rate));
            }
        }
    }

    #[test]
    fn a_skip_moves_the_positions_and_drops_what_waits() {
        let format = StreamFormat { rate: 44_100, channels: 1, sample: SampleFormat::S16 };
        let mut intake = Intake::new(format, 48_000, 960, 0);
        let pcm = vec![0; 2 * 1_000];
        assert_eq!(positions(&mut intake, &pcm, 100), [(0, 882)]);
        assert_eq!(intake.skip_to(50_000), 1_000 - 882);
        assert_eq!(positions(&mut intake, &pcm, 100), [(50_000, 882)]);
        assert_eq!(intake.received, 1_000);
    }
}
