//! Cuts PCM of any length into blocks of a fixed number of frames and keeps their positions.

/// The cutter. Holds the start of an incomplete block between calls.
pub(super) struct Blocks {
    frame_bytes: usize,
    block_bytes: usize,
    /// The start of the next block; shorter than a block.
    pending: Vec<u8>,
    /// Position in the input of the next block's first frame.
    first_frame: u64,
}

impl Blocks {
    /// Returns a cutter for blocks of `block_frames` frames, the first of which begins at `first_frame`.
    pub(super) fn new(frame_bytes: usize, block_frames: usize, first_frame: u64) -> Self {
        let block_bytes = frame_bytes * block_frames;
        Blocks { frame_bytes, block_bytes, pending: Vec::with_capacity(block_bytes), first_frame }
    }

    /// Hands every complete block and its position to `each`. Blocks that lie whole in `pcm` are not copied.
    ///
    /// # Errors
    ///
    /// The first error of `each`. The rest of `pcm` is then dropped.
    pub(super) fn feed<E>(
        &mut self,
        mut pcm: &[u8],
        mut each: impl FnMut(&[u8], u64) -> Result<(), E>,
    ) -> Result<(), E> {
        debug_assert_eq!(pcm.len() % self.frame_bytes, 0, "whole frames");
        let block_frames = (self.block_bytes / self.frame_bytes) as u64;
        if !self.pending.is_empty() {
            let missing = (self.block_bytes - self.pending.len()).min(pcm.len());
            let (now, later) = pcm.split_at(missing);
            self.pending.extend_from_slice(now);
            pcm = later;
            if self.pending.len() < self.block_bytes {
                return Ok(());
            }
            let outcome = each(&self.pending, self.first_frame);
            self.pending.clear();
            self.first_frame += block_frames;
            outcome?;
        }
        let mut blocks = pcm.chunks_exact(self.block_bytes);
        for block in &mut blocks {
            let at = self.first_frame;
            self.first_frame += block_frames;
            each(block, at)?;
        }
        self.pending.extend_from_slice(blocks.remainder());
        Ok(())
    }

    /// Drops an incomplete block; the next one begins at `first_frame`. Returns the number of frames that were dropped.
    pub(super) fn skip_to(&mut self, first_frame: u64) -> u64 {
        debug_assert!(first_frame >= self.first_frame, "positions never go back");
        let dropped = self.pending.len() / self.frame_bytes;
        self.pending.clear();
        self.first_frame = first_frame;
        dropped as u64
    }

    /// Takes out the incomplete block: its bytes and its position. Its bytes are empty if there is none.
    pub(super) fn drain(&mut self) -> (Vec<u8>, u64) {
        let (rest, at) = (std::mem::take(&mut self.pending), self.first_frame);
        self.first_frame += (rest.len() / self.frame_bytes) as u64;
        (rest, at)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn fed(blocks: &mut Blocks, pcm: &[u8]) -> Vec<(Vec<u8>, u64)> {
        let mut seen = Vec::new();
        let Ok(()) = blocks.feed(pcm, |block, at| {
            seen.push((block.to_vec(), at));
            Ok::<(), Infallible>(())
        });
        seen
    }

    #[test]
    fn blocks_are_whole_and_in_order_however_pcm_arrives() {
        let pcm: Vec<u8> = (0..64).collect();
        for step in (2..=64).step_by(2) {
            let mut blocks = Blocks::new(2, 3, 100);
            let seen: Vec<_> = pcm.chunks(step).flat_map(|piece| fed(&mut blocks, piece)).collect();
            assert_eq!(seen.len(), 10, "step {step}");
            for (n, (block, at)) in seen.iter().enumerate() {
                assert_eq!(block[..], pcm[n * 6..n * 6 + 6]);
                assert_eq!(*at, 100 + n as u64 * 3);
            }
            assert_eq!(blocks.drain(), (pcm[60..].to_vec(), 130));
        }
    }

    #[test]
    fn a_skip_drops_the_incomplete_block() {
        let mut blocks = Blocks::new(2, 3, 0);
        assert!(fed(&mut blocks, &[1, 1, 2, 2]).is_empty());
        assert_eq!(blocks.skip_to(50), 2);
        assert_eq!(fed(&mut blocks, &[3, 3, 4, 4, 5, 5, 6, 6]), [(vec![3, 3, 4, 4, 5, 5], 50)]);
        assert_eq!(blocks.drain(), (vec![6, 6], 53));
    }
}
