//! Readers of a ring: reading, seeking, and the count of frames that a slow reader loses.

use std::fmt;

use super::copy::copy_out;
use super::shared::Shared;
use super::sync::{Arc, Ordering};
use crate::media::format::StreamFormat;

/// A reader with a position of its own. A clone reads on from the same position.
#[derive(Clone)]
pub struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) place: Place,
}

/// A position in a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The number of the block to read next.
    pub block: u64,
    /// Frames of this block that were read already.
    pub(super) offset: u32,
    /// The index of the frame to read next.
    pub frame: u64,
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Frames of one block were copied.
    Block {
        /// Frames copied, at least 1 if the buffer has room for [`Reader::unit_bytes`].
        frames: usize,
        /// Bytes copied.
        bytes: usize,
        /// CLOCK_MONOTONIC in nanoseconds at which the last frame of the block was captured.
        captured_at: u64,
    },
    /// No frame was published since the last read.
    Nothing,
    /// The reader was too slow, and the frames that it wanted were overwritten. The next read goes on with the oldest
    /// frames that are left.
    Lapped {
        /// Frames that this reader will never get: an exact count.
        lost: u64,
    },
    /// The ring is closed, and every frame was read.
    End,
}

impl Reader {
    /// Returns the index of the frame to read next.
    pub fn frame(&self) -> u64 {
        self.place.frame
    }

    /// Returns the number of frames between this reader and the live edge.
    pub fn lag(&self) -> u64 {
        self.shared.frames.load(Ordering::Relaxed).saturating_sub(self.place.frame)
    }

    /// Returns the format of the frames.
    pub fn format(&self) -> StreamFormat {
        self.shared.format
    }

    /// Returns the most frames that a block can have.
    pub fn block_frames(&self) -> u32 {
        self.shared.block_frames
    }

    /// Returns the size in bytes of the smallest piece that can be read: a frame, or a packet of the largest size.
    pub fn unit_bytes(&self) -> usize {
        self.shared.unit_bytes
    }

    /// Returns the number of the block that will be published next.
    pub fn next_block(&self) -> u64 {
        self.shared.blocks.load(Ordering::Acquire)
    }

    /// Returns this reader's position.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Moves to a position that [`Reader::place`] of a reader of the same ring returned.
    pub fn go_to(&mut self, place: Place) {
        self.place = place;
    }

    /// Copies the next frames into `out`: whole frames of at most one block, as many as fit. Of a ring of packets, it copies
    /// one whole packet; `out` must have room for [`unit_bytes`](Self::unit_bytes).
    pub fn read(&mut self, out: &mut [u8]) -> Read {
        let shared = &*self.shared;
        debug_assert!(!shared.has_packets || out.len() >= shared.unit_bytes, "a packet is read whole");
        let Place { block, offset, .. } = self.place;
        // Loaded before the number of blocks: a writer that has closed the ring publishes nothing more.
        let closed = shared.closed.load(Ordering::Acquire);
        if block >= shared.blocks.load(Ordering::Acquire) {
            return if closed { Read::End } else { Read::Nothing };
        }
        let copied = shared.slots.read(block, |header, words| {
            // The bounds hold for every copy that is not discarded. For one that is, they keep it within the slot.
            let left = header.frames.min(shared.block_frames).saturating_sub(offset);
            let (frames, from, bytes) = if shared.has_packets {
                (left, 0, (header.bytes as usize).min(shared.unit_bytes).min(out.len()))
            } else {
                let frames = left.min(u32::try_from(out.len() / shared.unit_bytes).unwrap_or(u32::MAX));
                (frames, offset as usize * shared.unit_bytes, frames as usize * shared.unit_bytes)
            };
            copy_out(words, from, &mut out[..bytes]);
            (header, frames, frames == left, bytes)
        });
        let Some((header, frames, is_whole_block, bytes)) = copied else { return self.skip_to_oldest() };
        self.place = match is_whole_block {
            true => Place { block: block + 1, offset: 0, frame: header.end() },
            false => Place { block, offset: offset + frames, frame: self.place.frame + u64::from(frames) },
        };
        Read::Block { frames: frames as usize, bytes, captured_at: header.captured_at }
    }

    /// Moves to `back` frames before the live edge, or to the oldest frame if there are fewer. Returns the number of
    /// frames between the old position and the new one; 0 if the new one is earlier.
    pub fn seek(&mut self, back: u64) -> u64 {
        let before = self.place.frame;
        self.seek_with(|edge| edge.saturating_sub(back));
        self.place.frame.saturating_sub(before)
    }

    /// Moves to the frame that `wanted` returns for the index of the next frame to be published; to the oldest frame
    /// if the wanted one is gone, to the live edge if it is not published yet.
    pub(super) fn seek_with(&mut self, wanted: impl Fn(u64) -> u64) {
        let shared = &*self.shared;
        loop {
            let blocks = shared.blocks.load(Ordering::Acquire);
            let edge = match blocks.checked_sub(1) {
                None => shared.first_frame,
                Some(last) => match shared.slots.read(last, |header, _| header.end()) {
                    Some(edge) => edge,
                    // The writer has gone round the ring since the line above.
                    None => continue,
                },
            };
            let wanted = wanted(edge);
            // Finds the first block that ends after the wanted frame. A block that was overwritten during the search
            // counts as one that ends before it: every later step looks at later blocks.
            let (mut low, mut high) = (shared.oldest_block(), blocks);
            while low < high {
                let middle = low + (high - low) / 2;
                match shared.slots.read(middle, |header, _| header) {
                    Some(header) if header.end() > wanted => high = middle,
                    _ => low = middle + 1,
                }
            }
            if low == blocks {
                self.place = Place { block: blocks, offset: 0, frame: edge };
                return;
            }
            if let Some(header) = shared.slots.read(low, |header, _| header) {
                // A packet is read whole.
                let offset =
                    if shared.has_packets { 0 } else { wanted.saturating_sub(header.first_frame) as u32 };
                self.place = Place { block: low, offset, frame: header.first_frame + u64::from(offset) };
                return;
            }
            // The block was overwritten after the search: search again.
        }
    }

    /// Moves to the oldest block after the block of this reader was found overwritten.
    ///
    /// The count of lost frames cannot be negative, because every block `o` whose slot can be read here comes after the
    /// reader's block `b`:
    ///
    /// - The reader has seen the mark of a block `n` in the slot of `b`, with `n >= b + slots`, and either `writing(n)`
    ///   or `holds(n)`. Both were stored after the release fence in the writing of block `n - 1`.
    /// - The acquire fence at the end of [`Slots::read`](super::slot::Slots::read) below synchronises with that fence.
    ///   So its last load sees in every slot the mark of a block up to `n - 1`, as far as there is one: all blocks up
    ///   to `n - 1 - slots` are refused.
    /// - Block `n - slots` lies in the slot of `b`, whose mark of `n` the reader has seen already; a later load of the
    ///   same atomic sees no earlier mark. It is refused too.
    /// - What is left is `o > n - slots >= b`.
    ///
    /// loom checks this in `a_block_in_the_middle_of_the_stream_is_overwritten_while_it_is_read`.
    fn skip_to_oldest(&mut self) -> Read {
        loop {
            let oldest = self.shared.oldest_block();
            if let Some(first_frame) = self.shared.slots.read(oldest, |header, _| header.first_frame) {
                let lost = first_frame - self.place.frame;
                self.place = Place { block: oldest, offset: 0, frame: first_frame };
                return Read::Lapped { lost };
            }
            // The writer has overwritten this block too.
            #[cfg(loom)]
            loom::thread::yield_now();
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("frame", &self.frame()).field("lag", &self.lag()).finish()
    }
}
