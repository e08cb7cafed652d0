//! Waiting: who waits for which block, and who wakes whom.
//!
//! Two kinds of threads sleep. Readers sleep until a block is published, each until another block if it likes. The
//! writer sleeps between two blocks, for as long as no reader needs one. Nobody takes a lock, and a wake-up is sent only
//! to a thread that waits, so that a ring without listeners costs no system call.
//!
//! # Readers wait for the writer
//!
//! Bit *n* mod 32 of `waiters` says that a reader waits for block *n*. (A reader of another block with the same bit is
//! woken too, looks, and sleeps again.)
//!
//! ```text
//!  reader that waits for block n                  writer that publishes block n
//!  1 seen = events                                1 blocks = n + 1
//!  2 waiters |= bit n       (read-modify-write)   2 events += 1
//!  3 blocks > n, or closed?  yes: done            3 waiters &= !bit n      (read-modify-write)
//!  4 futex wait while events == seen              4 bit n was set?  futex wake for bit n
//! ```
//!
//! No wake-up is lost:
//! - Reader 2 and writer 3 change the same word, so one of them comes first. If reader 2 does, writer 3 finds the bit,
//!   and the writer wakes. If writer 3 does, reader 2 synchronises with it, and reader 3 sees the block.
//! - A wake-up that is sent between reader 3 and reader 4 finds nobody asleep. But `events` has changed since reader 1,
//!   so the kernel refuses to let reader 4 sleep.
//! - Closing the ring sets `closed`, adds one to `events`, and wakes all bits. Each event adds to `events`, so no event
//!   can restore a value that a reader has seen.
//!
//! # The writer waits for readers
//!
//! The writer announces by `return_block` how many blocks there will be when it is back.
//!
//! ```text
//!  writer that sleeps until r blocks are due      reader that waits for block n, n + 1 < r
//!  1 return_block = r                             1 waiters |= bit n       (read-modify-write)
//!  2 waiters |= 0           (read-modify-write)   2 block n is there?  yes: done
//!  3 a bit of a block before r - 1 is set?        3 n + 1 < return_block?
//!    yes: no sleep                                  yes: return_block = 0, futex wake
//!  4 futex wait while return_block == r
//!  5 return_block = 0
//! ```
//!
//! Writer 2 and reader 1 change the same word: either the writer sees the bit and does not sleep, or the reader
//! synchronises with writer 2, sees `return_block`, and wakes the writer.
//!
//! `return_block` is the number of blocks modulo 2^32, and 0 means that the writer does not sleep. Once in 2^32 blocks
//! (16 months of 10 ms) a sleep to block 0 is taken for none: then a reader gets one block late.

use std::time::Duration;

use super::Writer;
use super::reader::Reader;
use super::shared::{Shared, bit_of};
use super::sync::Ordering;
use crate::sys::futex;

impl Reader {
    /// Sleeps until `block` is published, the ring is closed, or `timeout` is over. Returns `true` if one of the first
    /// two is so.
    pub fn wait(&self, block: u64, timeout: Duration) -> bool {
        let (shared, words) = (&*self.shared, &self.shared.wait);
        // A hint for the writer; nothing depends on its order.
        words.last_wait.fetch_max(block, Ordering::Relaxed);
        if shared.is_published_or_closed(block) {
            return true;
        }
        let deadline = futex::Deadline::after(timeout);
        loop {
            let seen = words.events.load(Ordering::Acquire);
            if shared.register_waiter(block) {
                return true;
            }
            let in_time = futex::wait_for_bits(&words.events, seen, bit_of(block), &deadline);
            // Looks before it registers again: after the block is published, the bit stands for the one 32 later.
            let is_over = shared.is_published_or_closed(block);
            if is_over || !in_time {
                return is_over;
            }
        }
    }

    /// Tells the writer that a reader is going to [`wait`](Reader::wait) for `block`, so that the writer does not plan
    /// to sleep beyond it meanwhile.
    pub fn register_next_wait(&self, block: u64) {
        self.shared.register_waiter(block);
    }
}

impl Writer {
    /// Returns the number of blocks that were published since the last one that a reader has waited for. It stays small
    /// while anybody listens, however seldom that listener is served.
    pub fn blocks_since_last_wait(&self) -> u64 {
        self.blocks.saturating_sub(self.shared.wait.last_wait.load(Ordering::Relaxed))
    }

    /// Returns the number of blocks, 0 to 31, to be published before the next one that a reader waits for; `None` if no
    /// reader waits. A hint: a reader that was woken a moment ago may not have registered its next wait yet.
    pub fn blocks_until_waiter(&self) -> Option<u32> {
        self.distance_to_first(self.shared.wait.waiters.load(Ordering::Relaxed))
    }

    /// Sleeps for `time`, after which the next `blocks` blocks are due. Does not sleep, or wakes up early, if a reader
    /// waits for one of these blocks but the last. May wake up early otherwise too.
    pub fn sleep_until_waiter(&self, blocks: u32, time: Duration) {
        let words = &self.shared.wait;
        let return_block = self.blocks + u64::from(blocks);
        let waiters = self.shared.set_return_block(return_block);
        if self.distance_to_first(waiters).is_none_or(|distance| distance + 1 >= blocks) {
            futex::wait(&words.return_block, return_block as u32, time);
        }
        words.return_block.store(0, Ordering::Relaxed);
    }

    /// Returns the distance from the next block to the first one in `waiters`.
    pub(super) fn distance_to_first(&self, waiters: u32) -> Option<u32> {
        let from_next = waiters.rotate_right((self.blocks % 32) as u32);
        (from_next != 0).then(|| from_next.trailing_zeros())
    }
}

impl Shared {
    /// Closes the ring and wakes all readers. Does nothing if it is closed already.
    pub(super) fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.count_event();
            self.wake_readers(u32::MAX);
        }
    }

    /// Registers a waiter for `block`. Returns `true` if the block is already published or the ring is closed.
    /// Otherwise the publishing of the block wakes the waiter; a writer that sleeps beyond the block is woken here.
    pub(super) fn register_waiter(&self, block: u64) -> bool {
        self.wait.waiters.fetch_or(bit_of(block), Ordering::AcqRel);
        let is_over = self.is_published_or_closed(block);
        if !is_over && self.cancel_writer_sleep(block) {
            self.wake_writer();
        }
        is_over
    }

    /// Clears the bit of `block`, which was just published. Returns `true` if a reader may wait for it.
    pub(super) fn take_waiters(&self, block: u64) -> bool {
        let bit = bit_of(block);
        self.wait.waiters.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// Announces that the writer sleeps until there are `blocks` blocks. Returns the waiters that had registered by
    /// then; a reader that registers later sees the announcement.
    pub(super) fn set_return_block(&self, blocks: u64) -> u32 {
        self.wait.return_block.store(blocks as u32, Ordering::Relaxed);
        // Changes nothing, but is ordered among the changes of the other threads.
        self.wait.waiters.fetch_or(0, Ordering::AcqRel)
    }

    /// Withdraws the announcement of a writer that sleeps too long for `block`. Returns `true` if this call did it: then
    /// the writer must be woken.
    pub(super) fn cancel_writer_sleep(&self, block: u64) -> bool {
        let return_block = self.wait.return_block.load(Ordering::Relaxed);
        let blocks_after = return_block.wrapping_sub(block as u32).wrapping_sub(1) as i32;
        return_block != 0 && blocks_after > 0 && self.wait.return_block.swap(0, Ordering::Relaxed) != 0
    }

    fn wake_writer(&self) {
        futex::wake_one(&self.wait.return_block);
    }

    /// Counts an event, before the readers that wait for it are woken. What the calling thread stored before is visible
    /// to a reader that sees the new count.
    pub(super) fn count_event(&self) {
        self.wait.events.fetch_add(1, Ordering::Release);
    }

    /// Wakes the readers that sleep with one of these bits.
    pub(super) fn wake_readers(&self, bits: u32) {
        futex::wake_bits(&self.wait.events, bits);
    }

    fn is_published_or_closed(&self, block: u64) -> bool {
        self.blocks.load(Ordering::Acquire) > block || self.closed.load(Ordering::Acquire)
    }
}
