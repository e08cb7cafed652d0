//! The state that the writer and the readers of a ring share.

use super::slot::Slots;
use super::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::media::format::StreamFormat;

/// The state that the writer and all readers share.
pub(super) struct Shared {
    pub(super) id: u64,
    pub(super) format: StreamFormat,
    /// The most frames of a block.
    pub(super) block_frames: u32,
    /// The size in bytes of the smallest piece that can be read: a frame, or a packet of the largest size.
    pub(super) unit_bytes: usize,
    /// True for a ring of packets, each of which is read whole.
    pub(super) has_packets: bool,
    /// The index of the first frame of the ring.
    pub(super) first_frame: u64,
    pub(super) slots: Slots,
    /// The number of blocks published, which is the number of the next one. The writer stores it.
    pub(super) blocks: AtomicU64,
    /// The index of the frame after the last one published. The writer stores it.
    pub(super) frames: AtomicU64,
    /// Set once, by the writer when it is dropped or by `Ring::close`.
    pub(super) closed: AtomicBool,
    pub(super) wait: WaitWords,
}

impl Shared {
    /// Returns the number of the oldest block that a reader may start from: the next publish overwrites the block before
    /// it.
    pub(super) fn oldest_block(&self) -> u64 {
        self.blocks.load(Ordering::Acquire).saturating_sub(self.slots.count() - 1)
    }
}

/// The words on which readers and the writer of a ring wait.
#[derive(Default)]
pub(super) struct WaitWords {
    /// The number of events: one for each block published, one for the close. The writer and whoever closes the ring
    /// add to it; readers sleep on it.
    pub(super) events: AtomicU32,
    /// The blocks that readers wait for, by their numbers modulo 32. Readers set bits; the writer clears the bit of the
    /// block that it has just published.
    pub(super) waiters: AtomicU32,
    /// The highest number of a block that a reader has waited for. Readers raise it; the writer reads it as a hint.
    pub(super) last_wait: AtomicU64,
    /// The number of blocks (modulo 2^32) that there will be when the writer wakes; 0 while it is awake. The writer sets
    /// it and sleeps on it; a reader that cannot wait that long sets it to 0.
    pub(super) return_block: AtomicU32,
}

/// The bit of `waiters` for a block.
pub(super) const fn bit_of(block: u64) -> u32 {
    1 << (block % 32)
}
