//! The slots of a ring: a seqlock for each block.
//!
//! Block *n* lives in slot *n* mod *slots*. The slot's mark says which block it holds, or that one is being written:
//!
//! ```text
//!  writer                                        reader
//!  1 mark = writing(n)     (relaxed)             1 mark == holds(n)?  (acquire)   no: the block is not there
//!  2 release fence                               2 load header and payload (relaxed)
//!  3 store header and payload (relaxed)          3 acquire fence
//!  4 mark = holds(n)       (release)             4 mark == holds(n)?  (relaxed)   no: discard the copy
//! ```
//!
//! Reader 1 with writer 4: the loads of reader 2 see block *n* or something later. If one of them sees a word of a later
//! block *m*, then the fences synchronise (writer 2 of *m* with reader 3), so reader 4 sees the mark of *m* or a later
//! one, and the copy is discarded. This is Boehm's seqlock ("Can seqlocks get along with programming language memory
//! models?", MSPC 2012).
//!
//! A block of encoded sound, a packet, is nearly always shorter than its slot; the header has its size.

use std::fmt;

use super::copy::{WORD, copy_in};
use super::sync::{AtomicU64, AtomicUsize, Ordering, fence};

/// The error for a history that does not fit into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Bytes that the ring would have taken.
    pub bytes: u64,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no memory for a history of {} MB", self.bytes.div_ceil(1_000_000))
    }
}

impl std::error::Error for OutOfMemory {}

/// All slots of a ring, with their payload.
pub(super) struct Slots {
    slots: Box<[Slot]>,
    words_per_slot: usize,
    /// The payload of all slots, one after another.
    words: Box<[AtomicUsize]>,
}

/// The description of a block.
#[derive(Clone, Copy)]
pub(super) struct Header {
    /// The index of the block's first frame; frame 0 is the first of the ring.
    pub(super) first_frame: u64,
    /// CLOCK_MONOTONIC in nanoseconds at which the block's last frame was captured.
    pub(super) captured_at: u64,
    /// Frames in the block.
    pub(super) frames: u32,
    /// Bytes of the payload.
    pub(super) bytes: u32,
}

impl Header {
    /// Returns the index of the first frame after the block.
    pub(super) fn end(&self) -> u64 {
        self.first_frame + u64::from(self.frames)
    }
}

/// The mark and the header of one slot. The writer stores, readers load.
#[derive(Default)]
struct Slot {
    /// 0 at first, then [`writing`] or [`holds`] of a block.
    mark: AtomicU64,
    first_frame: AtomicU64,
    captured_at: AtomicU64,
    /// Frames in the lower 32 bits, bytes in the upper: one word less to store, to load and to explore.
    size: AtomicU64,
}

/// The mark of a slot that holds `block`.
const fn holds(block: u64) -> u64 {
    2 * block + 2
}

/// The mark of a slot into which `block` is being written.
const fn writing(block: u64) -> u64 {
    2 * block + 1
}

impl Slots {
    /// Allocates `count` slots of `slot_bytes` bytes each.
    ///
    /// All memory is written once here, so that the capture thread never waits for the kernel to find a page. That takes
    /// 0.6 ms of CPU time for each MB (x86 virtual machine; the default history has 5.3 MB), nearly all of it page
    /// faults. The capture thread would have them otherwise, one for each 4 KB that it publishes in the first round.
    pub(super) fn new(count: usize, slot_bytes: usize) -> Result<Slots, OutOfMemory> {
        let words_per_slot = slot_bytes.div_ceil(WORD);
        let bytes = (count as u64).saturating_mul((words_per_slot * WORD + size_of::<Slot>()) as u64);
        let out_of_memory = || OutOfMemory { bytes };
        let words = count.checked_mul(words_per_slot).ok_or_else(out_of_memory)?;
        Ok(Slots {
            slots: allocate(count).ok_or_else(out_of_memory)?,
            words_per_slot,
            words: allocate(words).ok_or_else(out_of_memory)?,
        })
    }

    /// Returns the number of slots.
    pub(super) fn count(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Writes `block` into its slot, over the block that was there. For the writer alone. `payload` must fit into a
    /// slot.
    pub(super) fn write(&self, block: u64, header: Header, payload: &[u8]) {
        let (slot, words) = self.slot(block);
        slot.mark.store(writing(block), Ordering::Relaxed);
        fence(Ordering::Release);
        slot.first_frame.store(header.first_frame, Ordering::Relaxed);
        slot.captured_at.store(header.captured_at, Ordering::Relaxed);
        slot.size.store(u64::from(header.bytes) << 32 | u64::from(header.frames), Ordering::Relaxed);
        copy_in(words, payload);
        slot.mark.store(holds(block), Ordering::Release);
    }

    /// Calls `copy` with the header and the payload of `block`, and returns its result. `None` if the block is not in
    /// its slot, or was overwritten before `copy` returned: then `copy` may have seen parts of different blocks, and
    /// nothing that it copied may be used.
    pub(super) fn read<T>(&self, block: u64, copy: impl FnOnce(Header, &[AtomicUsize]) -> T) -> Option<T> {
        let (slot, words) = self.slot(block);
        if slot.mark.load(Ordering::Acquire) != holds(block) {
            return None;
        }
        let (first_frame, captured_at) =
            (slot.first_frame.load(Ordering::Relaxed), slot.captured_at.load(Ordering::Relaxed));
        let size = slot.size.load(Ordering::Relaxed);
        let header = Header { first_frame, captured_at, frames: size as u32, bytes: (size >> 32) as u32 };
        let copied = copy(header, words);
        fence(Ordering::Acquire);
        (slot.mark.load(Ordering::Relaxed) == holds(block)).then_some(copied)
    }

    fn slot(&self, block: u64) -> (&Slot, &[AtomicUsize]) {
        let index = (block % self.count()) as usize;
        (&self.slots[index], &self.words[index * self.words_per_slot..][..self.words_per_slot])
    }
}

/// Allocates `count` zeros; `None` if there is no memory for them.
fn allocate<T: Default>(count: usize) -> Option<Box<[T]>> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).ok()?;
    list.resize_with(count, T::default);
    Some(list.into_boxed_slice())
}
