//! The lock-free broadcast ring: one writer, many readers, nobody waits for anybody.
//!
//! The capture thread [publishes](Writer::publish) one block of frames after another; every listener
//! [reads](Reader::read) at its own pace. The ring is lossy for the reader only: who falls behind by more
//! than the history finds its block overwritten, is told exactly how many frames it lost, and goes on.
//!
//! ```
//! use std::time::Duration;
//! use wavecast::media::format::{SampleFormat, StreamFormat};
//! use wavecast::media::ring::{self, Read};
//!
//! let format = StreamFormat { rate: 48_000, channels: 1, sample: SampleFormat::S16 };
//! let (mut writer, ring) = ring::new(format, 480, Duration::from_secs(1));
//! let mut reader = ring.reader(0);
//!
//! writer.publish(&[1, 0, 2, 0], 1_000_000);
//!
//! let mut bytes = [0; 960];
//! assert_eq!(reader.read(&mut bytes), Read::Block { frames: 2, captured_at: 1_000_000 });
//! assert_eq!(bytes[..4], [1, 0, 2, 0]);
//! assert_eq!(reader.read(&mut bytes), Read::Nothing);
//! ```
//!
//! # How it works
//!
//! Memory is a fixed number of slots of one block each; block *n* lives in slot *n* mod slots. A slot is a
//! seqlock: the writer marks it as being written, writes, and marks it as holding block *n*; a reader copies
//! the slot out and then checks that the mark is still that of its block. Every word of it, the payload's
//! too, is an atomic, so the race between a copy and an overwrite is not a data race by the language's rules
//! but a wrong value, and the check after the copy discards it. There is no unsafe code here.
//!
//! Readers sleep on a futex. Each says for which block it waits, and the writer's wake-up reaches only those that wait
//! for this block (or one that differs from it by a multiple of 32): a listener that is served at every eighth block is
//! not woken by the seven others. A block that nobody waits for wakes nobody, and takes no system call; the writer can
//! ask which one is waited for next, and take its time until then.
//!
//! # What it does not do
//!
//! It never blocks the writer, and so it cannot hold a block for a slow reader. It does not allocate after
//! it was made. A block is at most as long as was said when it was made; longer ones are cut up.

use std::fmt;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use super::bytes::{take, take_mut};
use super::format::StreamFormat;
use sync::{Arc, AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// Loom's atomics under `--cfg loom`, the standard library's otherwise.
mod sync {
    #[cfg(loom)]
    pub(super) use loom::sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    };
    #[cfg(not(loom))]
    pub(super) use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    };
}

const WORD: usize = size_of::<usize>();

/// Makes a ring for blocks of at most `block_frames` frames that keeps at least `history` of sound (and
/// never less than four blocks).
///
/// # Panics
///
/// If `block_frames` is 0.
pub fn new(format: StreamFormat, block_frames: u32, history: Duration) -> (Writer, Ring) {
    assert!(block_frames > 0, "a block has frames");
    // Two more than the history needs: one that is being written, one for the block that is only partly inside.
    let slots = format.frames_in(history).div_ceil(u64::from(block_frames)) + 2;
    with_slots(format, block_frames, slots.max(4) as usize)
}

fn with_slots(format: StreamFormat, block_frames: u32, slots: usize) -> (Writer, Ring) {
    let words_per_slot = (block_frames as usize * format.frame_bytes()).div_ceil(WORD);
    // Only to be another number than the last time.
    #[allow(clippy::disallowed_methods)]
    let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let shared = Arc::new(Shared {
        id: since_1970.as_millis() as u64,
        format,
        block_frames,
        words_per_slot,
        slots: (0..slots).map(|_| Slot::default()).collect(),
        words: (0..slots * words_per_slot).map(|_| AtomicUsize::new(0)).collect(),
        blocks: AtomicU64::new(0),
        frames: AtomicU64::new(0),
        closed: AtomicBool::new(false),
        wake: AtomicU32::new(0),
        wanted: AtomicU32::new(0),
        awaited: AtomicU64::new(0),
        away: AtomicU32::new(0),
    });
    (Writer { shared: Arc::clone(&shared), blocks: 0, frames: 0 }, Ring { shared })
}

struct Shared {
    id: u64,
    format: StreamFormat,
    block_frames: u32,
    words_per_slot: usize,
    slots: Box<[Slot]>,
    /// The payload of all slots, one after another.
    words: Box<[AtomicUsize]>,
    /// How many blocks were ever published: the number of the next one.
    blocks: AtomicU64,
    /// How many frames were ever published: the index of the next one.
    frames: AtomicU64,
    closed: AtomicBool,
    /// What readers sleep on: changes with every block and when the ring closes.
    wake: AtomicU32,
    /// The blocks that readers wait for, by their numbers modulo 32. A bit is set by a reader before it makes sure that
    /// its block is not there yet, and taken back by the writer after it has published such a block: one of the two
    /// sees what the other did, as both change this same word.
    wanted: AtomicU32,
    /// The last block that a reader has ever waited for.
    awaited: AtomicU64,
    /// While the writer is away: how many blocks there will be when it is back, modulo 2³². 0 while it is not.
    away: AtomicU32,
}

#[derive(Default)]
struct Slot {
    /// 2n + 2 while the slot holds block n, 2n + 1 while block n is being written; 0 at first.
    stamp: AtomicU64,
    /// Index of the block's first frame since the ring began.
    first_frame: AtomicU64,
    /// CLOCK_MONOTONIC in nanoseconds when the block's last frame was captured.
    captured_at: AtomicU64,
    frames: AtomicU32,
}

/// What a slot says of its block.
#[derive(Clone, Copy)]
struct Header {
    first_frame: u64,
    captured_at: u64,
    frames: u32,
}

const fn holds(block: u64) -> u64 {
    2 * block + 2
}

const fn being_written(block: u64) -> u64 {
    2 * block + 1
}

/// Which waiters a block wakes: those that wait for a block with the same number modulo 32.
fn waiters_for(block: u64) -> NonZeroU32 {
    NonZeroU32::new(1 << (block % 32)).unwrap_or(NonZeroU32::MIN)
}

impl Shared {
    fn slot(&self, block: u64) -> (&Slot, &[AtomicUsize]) {
        let index = (block % self.slots.len() as u64) as usize;
        (&self.slots[index], &self.words[index * self.words_per_slot..][..self.words_per_slot])
    }

    /// Runs `copy` on the slot of a block; `None` if the block is not there, or not there any more after
    /// the copy, in which case nothing that was copied may be used.
    fn read_slot<T>(&self, block: u64, copy: impl FnOnce(Header, &[AtomicUsize]) -> T) -> Option<T> {
        let (slot, words) = self.slot(block);
        // Acquire: what is read below was written before the mark was set.
        if slot.stamp.load(Ordering::Acquire) != holds(block) {
            return None;
        }
        let header = Header {
            first_frame: slot.first_frame.load(Ordering::Relaxed),
            captured_at: slot.captured_at.load(Ordering::Relaxed),
            frames: slot.frames.load(Ordering::Relaxed),
        };
        let copied = copy(header, words);
        // If any of the loads above saw a word of a later block, then this fence synchronises with the
        // writer's release fence before that word, and the load below sees the mark of that later block.
        fence(Ordering::Acquire);
        (slot.stamp.load(Ordering::Relaxed) == holds(block)).then_some(copied)
    }

    /// The oldest block that a reader may start from. One less than there are slots: the next publish
    /// overwrites the one before it.
    fn oldest(&self) -> u64 {
        self.blocks.load(Ordering::Acquire).saturating_sub(self.slots.len() as u64 - 1)
    }

    fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        // Every event adds one, so that no event can restore a value that a reader is about to sleep on.
        self.wake.fetch_add(1, Ordering::Release);
        self.wake(NonZeroU32::MAX);
    }

    /// Notes that somebody waits for a block, and tells whether that one or the end is there already: if not, its
    /// publishing wakes who sleeps. A writer that would be away for longer is called back.
    fn want(&self, block: u64) -> bool {
        self.wanted.fetch_or(waiters_for(block).get(), Ordering::AcqRel);
        let is_there = self.is_there(block);
        if !is_there && self.is_called_back(block) {
            self.call_back();
        }
        is_there
    }

    /// Whether the writer is away for too long for that block, which nobody else has noticed yet.
    fn is_called_back(&self, block: u64) -> bool {
        let back = self.away.load(Ordering::Relaxed);
        let spare = back.wrapping_sub(block as u32).wrapping_sub(1) as i32;
        back != 0 && spare > 0 && self.away.swap(0, Ordering::Relaxed) != 0
    }

    /// Notes that the writer is going to be away until there are so many blocks, and returns what is wanted. Who wants
    /// a block earlier than that is either among them, or sees that it is away: here too both change the same word.
    fn go_away(&self, blocks: u64) -> u32 {
        self.away.store(blocks as u32, Ordering::Relaxed);
        self.wanted.fetch_or(0, Ordering::AcqRel)
    }

    fn is_there(&self, block: u64) -> bool {
        self.blocks.load(Ordering::Acquire) > block || self.closed.load(Ordering::Acquire)
    }

    /// Whether somebody has to be woken for that block, which has just been published.
    fn is_wanted(&self, block: u64) -> bool {
        let those = waiters_for(block).get();
        self.wanted.fetch_and(!those, Ordering::AcqRel) & those != 0
    }

    #[cfg(not(any(loom, miri)))]
    fn wake(&self, blocks: NonZeroU32) {
        use rustix::thread::futex;
        // It can only fail on a bad address.
        let _ = futex::wake_bitset(&self.wake, futex::Flags::PRIVATE, i32::MAX as u32, blocks);
    }

    #[cfg(any(loom, miri))]
    fn wake(&self, _: NonZeroU32) {}

    #[cfg(not(any(loom, miri)))]
    fn call_back(&self) {
        use rustix::thread::futex;
        // It can only fail on a bad address.
        let _ = futex::wake(&self.away, futex::Flags::PRIVATE, 1);
    }

    #[cfg(any(loom, miri))]
    fn call_back(&self) {}
}

/// The one who writes. Dropping it closes the ring: readers get what is left, then [`Read::End`].
pub struct Writer {
    shared: Arc<Shared>,
    blocks: u64,
    frames: u64,
}

impl Writer {
    /// The format of what is published.
    pub fn format(&self) -> StreamFormat {
        self.shared.format
    }

    /// Frames that a block holds at most.
    pub fn block_frames(&self) -> u32 {
        self.shared.block_frames
    }

    /// How many blocks were published since the last one that a reader has waited for: few while somebody listens,
    /// however seldom it is served.
    pub fn unawaited(&self) -> u64 {
        self.blocks.saturating_sub(self.shared.awaited.load(Ordering::Relaxed))
    }

    /// How many blocks come before the next one that a reader waits for, at most 31, as far as is known: a reader that
    /// was woken a moment ago may not have said yet for which one it waits now. `None` if nobody waits.
    pub fn unwanted(&self) -> Option<u32> {
        self.first_of(self.shared.wanted.load(Ordering::Relaxed))
    }

    fn first_of(&self, wanted: u32) -> Option<u32> {
        let wanted = wanted.rotate_right((self.blocks % 32) as u32);
        (wanted != 0).then(|| wanted.trailing_zeros())
    }

    /// Sleeps for that long, or until a reader waits for a block that comes before the last one of the next `blocks`.
    #[cfg(not(any(loom, miri)))]
    pub fn nap(&self, blocks: u32, time: Duration) {
        use rustix::thread::futex;
        use rustix::time::Timespec;

        let back = self.blocks + u64::from(blocks);
        let wanted = self.shared.go_away(back);
        if self.first_of(wanted).is_none_or(|others| others + 1 >= blocks) {
            let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos() as _ };
            // If it was called back already, or a signal came: all the same.
            let _ = futex::wait(&self.shared.away, futex::Flags::PRIVATE, back as u32, Some(&time));
        }
        self.shared.away.store(0, Ordering::Relaxed);
    }

    /// Loom and Miri know no futex.
    #[cfg(any(loom, miri))]
    pub fn nap(&self, _: u32, _: Duration) {}

    /// A handle for readers.
    pub fn ring(&self) -> Ring {
        Ring { shared: Arc::clone(&self.shared) }
    }

    /// Publishes whole frames, the last of which was captured at `captured_at` (CLOCK_MONOTONIC, ns), and
    /// wakes the readers that wait for them. Never blocks, never allocates; a trailing part of a frame is
    /// ignored.
    pub fn publish(&mut self, frames: &[u8], captured_at: u64) {
        let format = self.shared.format;
        let frame_bytes = format.frame_bytes();
        let mut left = (frames.len() / frame_bytes) as u64;
        for block in
            frames[..left as usize * frame_bytes].chunks(self.shared.block_frames as usize * frame_bytes)
        {
            let count = (block.len() / frame_bytes) as u32;
            left -= u64::from(count);
            let earlier = format.duration_of(left).as_nanos() as u64;
            self.publish_block(block, count, captured_at.saturating_sub(earlier));
        }
    }

    fn publish_block(&mut self, payload: &[u8], frames: u32, captured_at: u64) {
        let shared = &*self.shared;
        let (slot, words) = shared.slot(self.blocks);
        slot.stamp.store(being_written(self.blocks), Ordering::Relaxed);
        // Release: whoever sees one of the words below also sees the mark above.
        fence(Ordering::Release);
        slot.first_frame.store(self.frames, Ordering::Relaxed);
        slot.captured_at.store(captured_at, Ordering::Relaxed);
        slot.frames.store(frames, Ordering::Relaxed);
        copy_in(words, payload);
        slot.stamp.store(holds(self.blocks), Ordering::Release);

        let block = self.blocks;
        self.blocks += 1;
        self.frames += u64::from(frames);
        shared.frames.store(self.frames, Ordering::Relaxed);
        shared.blocks.store(self.blocks, Ordering::Release);
        shared.wake.fetch_add(1, Ordering::Release);
        if shared.is_wanted(block) {
            shared.wake(waiters_for(block));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("blocks", &self.blocks).field("frames", &self.frames).finish()
    }
}

/// A handle from which readers are made.
#[derive(Clone)]
pub struct Ring {
    shared: Arc<Shared>,
}

impl Ring {
    /// Tells this ring from all others of its input, also from those of an earlier run of the program: the
    /// indices of frames are this ring's own. It is the time when it was made, in ms since 1970.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// The format of what is read.
    pub fn format(&self) -> StreamFormat {
        self.shared.format
    }

    /// Frames that a block holds at most; nearly all blocks are that long.
    pub fn block_frames(&self) -> u32 {
        self.shared.block_frames
    }

    /// How many frames were ever published: the live edge.
    pub fn frames(&self) -> u64 {
        self.shared.frames.load(Ordering::Relaxed)
    }

    /// The index of the last frame that was published and the time at which it was captured
    /// (CLOCK_MONOTONIC, ns); `None` before the first.
    pub fn edge(&self) -> Option<(u64, u64)> {
        loop {
            let last = self.shared.blocks.load(Ordering::Acquire).checked_sub(1)?;
            let edge = self.shared.read_slot(last, |header, _| {
                (header.first_frame + u64::from(header.frames) - 1, header.captured_at)
            });
            if edge.is_some() {
                return edge;
            }
        }
    }

    /// Ends the stream for all readers, as if the writer were gone: for a writer that hangs.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Whether it is the same ring.
    pub fn is(&self, other: &Ring) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Whether the writer is gone.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// A reader that starts so many frames before the live edge, or with the oldest frame that is still
    /// there.
    pub fn reader(&self, back: u64) -> Reader {
        let mut reader = Reader { shared: Arc::clone(&self.shared), block: 0, offset: 0, frame: 0 };
        reader.seek(back);
        reader
    }

    /// A reader that starts with the frame of that index, or with the oldest one that is still there, or at the
    /// live edge if it is not there yet.
    pub fn reader_at(&self, frame: u64) -> Reader {
        let mut reader = self.reader(0);
        reader.go(|_| frame);
        reader
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("format", &self.format()).field("frames", &self.frames()).finish()
    }
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many frames were copied; the last frame of the block they are from was captured at that time
    /// (CLOCK_MONOTONIC, ns).
    Block {
        /// Frames copied, at least 1.
        frames: usize,
        /// When the block was complete.
        captured_at: u64,
    },
    /// Nothing new yet.
    Nothing,
    /// The reader was too slow: so many frames, counted exactly, are gone. The next read goes on with the
    /// oldest ones there are.
    Lapped {
        /// Frames that this reader will never see.
        lost: u64,
    },
    /// The writer is gone and everything was read.
    End,
}

/// A place in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The block to read next.
    pub block: u64,
    /// How many of its frames were read already.
    offset: u32,
    /// Index of the frame to read next.
    pub frame: u64,
}

/// One reader, and its place in the ring.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
    /// The block to read next, and how many of its frames were read already.
    block: u64,
    offset: u32,
    /// Index of the frame to read next.
    frame: u64,
}

impl Reader {
    /// Index of the next frame to be read.
    pub fn frame(&self) -> u64 {
        self.frame
    }

    /// How many frames this reader is behind the live edge.
    pub fn lag(&self) -> u64 {
        self.shared.frames.load(Ordering::Relaxed).saturating_sub(self.frame)
    }

    /// The format of what is read.
    pub fn format(&self) -> StreamFormat {
        self.shared.format
    }

    /// The number of the next block to be published.
    pub fn next_block(&self) -> u64 {
        self.shared.blocks.load(Ordering::Acquire)
    }

    /// Where this reader is.
    pub fn place(&self) -> Place {
        Place { block: self.block, offset: self.offset, frame: self.frame }
    }

    /// Goes to where another reader of the same ring is.
    pub fn go_to(&mut self, place: Place) {
        Place { block: self.block, offset: self.offset, frame: self.frame } = place;
    }

    /// Copies the next frames, at most one block of them and at most as many as fit into `out`.
    pub fn read(&mut self, out: &mut [u8]) -> Read {
        let frame_bytes = self.shared.format.frame_bytes();
        // Before the number of blocks: a ring that is seen as closed then has no more blocks to come.
        let closed = self.shared.closed.load(Ordering::Acquire);
        if self.block >= self.shared.blocks.load(Ordering::Acquire) {
            return if closed { Read::End } else { Read::Nothing };
        }
        let copied = self.shared.read_slot(self.block, |header, words| {
            // Both bounds hold for every block that passes the check after the copy; for one that does not,
            // they keep the copy within the slot.
            let left = header.frames.min(self.shared.block_frames).saturating_sub(self.offset) as usize;
            let frames = left.min(out.len() / frame_bytes);
            copy_out(words, self.offset as usize * frame_bytes, &mut out[..frames * frame_bytes]);
            (frames, frames == left, header.captured_at)
        });
        let Some((frames, finished, captured_at)) = copied else { return self.lapped() };
        self.frame += frames as u64;
        if finished {
            self.block += 1;
            self.offset = 0;
        } else {
            self.offset += frames as u32;
        }
        Read::Block { frames, captured_at }
    }

    /// Goes to so many frames before the live edge, or to the oldest frame that is still there, and returns
    /// how many frames that left out (0 when it went back).
    pub fn seek(&mut self, back: u64) -> u64 {
        let was = self.frame;
        self.go(|edge| edge.saturating_sub(back));
        self.frame.saturating_sub(was)
    }

    /// Goes to the frame that is wanted while that one is the next to be published.
    fn go(&mut self, wanted: impl Fn(u64) -> u64) {
        loop {
            let blocks = self.shared.blocks.load(Ordering::Acquire);
            let Some(edge) = self.edge(blocks) else { continue };
            let wanted = wanted(edge);
            // The last block that begins at or before the wanted frame. A block that is gone counts as one
            // that begins before it: what is gone lies to the left.
            let (mut low, mut high) = (self.shared.oldest(), blocks);
            while low < high {
                let middle = low + (high - low) / 2;
                match self.shared.read_slot(middle, |header, _| header) {
                    Some(header) if header.first_frame + u64::from(header.frames) > wanted => high = middle,
                    _ => low = middle + 1,
                }
            }
            if low == blocks {
                (self.block, self.offset, self.frame) = (blocks, 0, edge);
                return;
            }
            if let Some(header) = self.shared.read_slot(low, |header, _| header) {
                let offset = wanted.saturating_sub(header.first_frame) as u32;
                (self.block, self.offset, self.frame) = (low, offset, header.first_frame + u64::from(offset));
                return;
            }
            // Overwritten meanwhile: the writer is ahead of this search, look again.
        }
    }

    /// Sleeps until that block is published, the ring is closed, or the time is over. Returns whether one of
    /// the first two is so.
    pub fn wait(&self, block: u64, timeout: Duration) -> bool {
        // A hint, whose order nothing depends on.
        #[cfg(not(loom))]
        self.shared.awaited.fetch_max(block, Ordering::Relaxed);
        self.wait_until(block, timeout)
    }

    /// Says that it is going to wait for that block, before it does: the writer may have to know earlier.
    pub fn announce(&self, block: u64) {
        self.shared.want(block);
    }

    #[cfg(not(any(loom, miri)))]
    fn wait_until(&self, block: u64, timeout: Duration) -> bool {
        use rustix::thread::futex;
        use rustix::time::Timespec;

        let shared = &*self.shared;
        if shared.is_there(block) {
            return true;
        }
        // The bitset wait takes an absolute time of CLOCK_MONOTONIC.
        let end = crate::sys::clock::monotonic_ns().saturating_add(timeout.as_nanos() as u64);
        let until = Timespec { tv_sec: (end / 1_000_000_000) as i64, tv_nsec: (end % 1_000_000_000) as _ };
        loop {
            // The value first, then the check: a publish after the check changes the value, and the kernel
            // refuses to sleep on a changed one.
            let seen = shared.wake.load(Ordering::Acquire);
            if shared.want(block) {
                return true;
            }
            let waited = futex::wait_bitset(
                &shared.wake,
                futex::Flags::PRIVATE,
                seen,
                Some(&until),
                waiters_for(block),
            );
            // Before it is wanted again: that would be for the one 32 blocks later.
            let is_there = shared.is_there(block);
            if is_there || waited == Err(rustix::io::Errno::TIMEDOUT) {
                return is_there;
            }
        }
    }

    /// Loom and Miri know no futex: there a wait is a yield.
    #[cfg(any(loom, miri))]
    fn wait_until(&self, block: u64, _: Duration) -> bool {
        #[cfg(loom)]
        loom::thread::yield_now();
        #[cfg(not(loom))]
        std::thread::yield_now();
        self.shared.want(block)
    }

    /// Index of the first frame after so many blocks; `None` if it was overwritten before it could be read.
    fn edge(&self, blocks: u64) -> Option<u64> {
        match blocks.checked_sub(1) {
            None => Some(0),
            Some(last) => {
                self.shared.read_slot(last, |header, _| header.first_frame + u64::from(header.frames))
            }
        }
    }

    /// Moves to the oldest block and tells how many frames lie between.
    fn lapped(&mut self) -> Read {
        loop {
            let oldest = self.shared.oldest();
            if let Some(first_frame) = self.shared.read_slot(oldest, |header, _| header.first_frame) {
                let lost = first_frame - self.frame;
                (self.block, self.offset, self.frame) = (oldest, 0, first_frame);
                return Read::Lapped { lost };
            }
            // The writer overtook this too.
            #[cfg(loom)]
            loom::thread::yield_now();
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("frame", &self.frame).field("lag", &self.lag()).finish()
    }
}

/// Nearly every byte that comes or leaves is copied in turns of four words, each with no other condition than the
/// loop's end.
const TURN: usize = 4 * WORD;

/// Stores the bytes in the words from the first one on.
fn copy_in(words: &[AtomicUsize], bytes: &[u8]) {
    #[inline(always)]
    fn put(word: &AtomicUsize, bytes: &mut &[u8]) {
        if let Some(value) = take(bytes) {
            word.store(usize::from_ne_bytes(*value), Ordering::Relaxed);
        }
    }
    let turns = bytes.len() / TURN;
    let (mut fours, words) = words.split_at(4 * turns);
    let (mut turns, mut bytes) = bytes.split_at(turns * TURN);
    while let ([one, two, three, four, others @ ..], Some(turn)) = (fours, take::<TURN>(&mut turns)) {
        let mut turn = &turn[..];
        put(one, &mut turn);
        put(two, &mut turn);
        put(three, &mut turn);
        put(four, &mut turn);
        fours = others;
    }
    for word in &words[..bytes.len().div_ceil(WORD)] {
        if bytes.len() >= WORD {
            put(word, &mut bytes);
        } else {
            let mut value = [0; WORD];
            value[..bytes.len()].copy_from_slice(bytes);
            word.store(usize::from_ne_bytes(value), Ordering::Relaxed);
        }
    }
}

/// Fills `out` with the bytes that begin at byte `from` of the words.
fn copy_out(words: &[AtomicUsize], from: usize, mut out: &mut [u8]) {
    #[inline(always)]
    fn get(word: &AtomicUsize, out: &mut &mut [u8]) {
        if let Some(bytes) = take_mut(out) {
            *bytes = bytes_of(word);
        }
    }
    let mut words = &words[from / WORD..];
    let inside = from % WORD;
    if inside != 0 && !out.is_empty() {
        let head;
        (head, out) = out.split_at_mut(out.len().min(WORD - inside));
        head.copy_from_slice(&bytes_of(&words[0])[inside..][..head.len()]);
        words = &words[1..];
    }
    let turns = out.len() / TURN;
    let (mut fours, words) = words.split_at(4 * turns);
    let (mut turns, mut out) = out.split_at_mut(turns * TURN);
    while let ([one, two, three, four, others @ ..], Some(turn)) = (fours, take_mut::<TURN>(&mut turns)) {
        let mut turn = &mut turn[..];
        get(one, &mut turn);
        get(two, &mut turn);
        get(three, &mut turn);
        get(four, &mut turn);
        fours = others;
    }
    for word in &words[..out.len().div_ceil(WORD)] {
        if out.len() >= WORD {
            get(word, &mut out);
        } else {
            out.copy_from_slice(&bytes_of(word)[..out.len()]);
        }
    }
}

#[inline(always)]
fn bytes_of(word: &AtomicUsize) -> [u8; WORD] {
    word.load(Ordering::Relaxed).to_ne_bytes()
}

#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
