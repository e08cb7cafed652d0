//! The lock-free broadcast ring: one writer, many readers, lossy for a slow reader only.
//!
//! The capture thread [publishes](Writer::publish) one block of frames after another. Every consumer has a [`Reader`],
//! which [reads](Reader::read) at its own pace. A reader that falls behind by more than the ring's history finds its
//! next block overwritten, gets the exact number of frames that it lost, and goes on with the oldest block.
//!
//! ```
//! use std::time::Duration;
//! use wavecast::media::format::{SampleFormat, StreamFormat};
//! use wavecast::media::ring::{self, Read};
//!
//! let format = StreamFormat { rate: 48_000, channels: 1, sample: SampleFormat::S16 };
//! let (mut writer, ring) = ring::new(format, 480, Duration::from_secs(1))?;
//! let mut reader = ring.reader(0);
//!
//! writer.publish(&[1, 0, 2, 0], 1_000_000);
//!
//! let mut bytes = [0; 960];
//! assert_eq!(reader.read(&mut bytes), Read::Block { frames: 2, bytes: 4, captured_at: 1_000_000 });
//! assert_eq!(bytes[..4], [1, 0, 2, 0]);
//! assert_eq!(reader.read(&mut bytes), Read::Nothing);
//! # Ok::<(), ring::OutOfMemory>(())
//! ```
//!
//! # Guarantees
//!
//! - The writer never waits for a reader, never blocks, and never allocates: publishing is a copy and at most one
//!   system call, which is made only if a reader sleeps.
//! - A reader gets every frame in order, bit for bit, or a count of the frames that it missed.
//! - Readers do not disturb each other: each has only its own position.
//!
//! The ring does not hold a block for a slow reader, and it does not resample or convert. A block has at most as many
//! frames as the ring was made for; a longer publish is cut into several blocks.
//!
//! A ring of [`packets`] has encoded sound in its blocks. Each is read whole, and positions are counted in frames of the
//! PCM that was encoded, so that lag, `back=` and latency have one arithmetic.
//!
//! # Design
//!
//! | file | |
//! |---|---|
//! | slot.rs | the memory: a fixed number of slots, a seqlock each, so that a copy that raced with an overwrite is discarded |
//! | shared.rs | the words that the writer and all readers share |
//! | copy.rs | bytes ↔ the atomic words of a slot |
//! | reader.rs | reading, seeking, the count of lost frames |
//! | wait.rs | sleeping and waking: readers wait for blocks, the writer for readers |
//!
//! Every word of a slot is an atomic, the payload's too. So a read beside a write is not a data race by the rules of the
//! language but a wrong value, and the check after the copy discards it. There is no unsafe code here. loom_tests.rs
//! explores the interleavings of small rings; Miri runs tests.rs.

mod copy;
mod reader;
mod shared;
mod slot;
mod sync;
mod wait;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::time::{Duration, SystemTime};

use super::format::StreamFormat;
pub use reader::{Place, Read, Reader};
use shared::{Shared, WaitWords, bit_of};
pub use slot::OutOfMemory;
use slot::{Header, Slots};
use sync::{Arc, AtomicBool, AtomicU64, Ordering};

/// The fewest slots of a ring.
const MIN_SLOTS: u64 = 4;

/// Makes a ring for blocks of at most `block_frames` frames that keeps at least `history` of sound.
///
/// # Errors
///
/// When there is no memory for that history. Linux may promise more memory than the machine has: a caller that accepts
/// long histories compares them with the available memory first.
///
/// # Panics
///
/// If `block_frames` is 0.
pub fn new(
    format: StreamFormat,
    block_frames: u32,
    history: Duration,
) -> Result<(Writer, Ring), OutOfMemory> {
    assert!(block_frames > 0, "a block has at least one frame");
    // Two more slots than the history has blocks: one is being written, one is only partly within the history.
    let slots = format.frames_in(history).div_ceil(block_frames.into()).saturating_add(2).max(MIN_SLOTS);
    with_slots(format, block_frames, usize::try_from(slots).unwrap_or(usize::MAX))
}

/// The shape of a ring of packets.
#[derive(Clone, Copy, Debug)]
pub struct PacketLayout {
    /// The most frames of the input that a packet covers; not 0.
    pub max_frames: u32,
    /// The most bytes of a packet.
    pub max_bytes: usize,
    /// The index of the first frame.
    pub first_frame: u64,
}

/// Makes a ring for packets of encoded sound that keeps at least `history` of it. `format` is that of the PCM that is
/// encoded: frames are counted in it.
///
/// # Errors
///
/// When there is no memory for that history.
pub fn packets(
    format: StreamFormat,
    layout: PacketLayout,
    history: Duration,
) -> Result<(Writer, Ring), OutOfMemory> {
    let slots = format.frames_in(history).div_ceil(layout.max_frames.max(1).into()).saturating_add(2);
    let slots = usize::try_from(slots.max(MIN_SLOTS)).unwrap_or(usize::MAX);
    with_layout(format, layout, slots, layout.max_bytes, true)
}

fn with_slots(format: StreamFormat, block_frames: u32, slots: usize) -> Result<(Writer, Ring), OutOfMemory> {
    let max_bytes = (block_frames as usize).saturating_mul(format.frame_bytes());
    let layout = PacketLayout { max_frames: block_frames, max_bytes, first_frame: 0 };
    with_layout(format, layout, slots, format.frame_bytes(), false)
}

fn with_layout(
    format: StreamFormat,
    layout: PacketLayout,
    slots: usize,
    unit_bytes: usize,
    has_packets: bool,
) -> Result<(Writer, Ring), OutOfMemory> {
    let PacketLayout { max_frames: block_frames, max_bytes: slot_bytes, first_frame } = layout;
    // Only needs to differ from the last one's.
    #[allow(clippy::disallowed_methods)]
    let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let shared = Arc::new(Shared {
        id: since_1970.as_millis() as u64,
        format,
        block_frames,
        unit_bytes,
        has_packets,
        first_frame,
        slots: Slots::new(slots, slot_bytes)?,
        blocks: AtomicU64::new(0),
        frames: AtomicU64::new(first_frame),
        closed: AtomicBool::new(false),
        wait: WaitWords::default(),
    });
    Ok((Writer { shared: Arc::clone(&shared), blocks: 0, frames: first_frame }, Ring { shared }))
}

/// The writer of a ring. Dropping it closes the ring: readers get the frames that are left, then [`Read::End`].
pub struct Writer {
    shared: Arc<Shared>,
    /// The values of [`Shared::blocks`] and [`Shared::frames`].
    blocks: u64,
    frames: u64,
}

impl Writer {
    /// Returns the format of the frames.
    pub fn format(&self) -> StreamFormat {
        self.shared.format
    }

    /// Returns the most frames that a block can have.
    pub fn block_frames(&self) -> u32 {
        self.shared.block_frames
    }

    /// Returns a handle for readers.
    pub fn ring(&self) -> Ring {
        Ring { shared: Arc::clone(&self.shared) }
    }

    /// Publishes whole frames, the last of which was captured at `captured_at` (CLOCK_MONOTONIC, ns), and wakes the
    /// readers that wait for them. An incomplete frame at the end is ignored.
    pub fn publish(&mut self, frames: &[u8], captured_at: u64) {
        let format = self.shared.format;
        let frame_bytes = format.frame_bytes();
        let mut left = (frames.len() / frame_bytes) as u64;
        let whole = &frames[..left as usize * frame_bytes];
        for block in whole.chunks(self.shared.block_frames as usize * frame_bytes) {
            let count = (block.len() / frame_bytes) as u32;
            left -= u64::from(count);
            // A block was complete before the blocks after it were captured.
            let earlier = format.duration_of(left).as_nanos() as u64;
            self.publish_block(block, count, captured_at.saturating_sub(earlier));
        }
    }

    /// Publishes a packet that covers `frames` frames from `first_frame` on, the last of which was captured at
    /// `captured_at` (CLOCK_MONOTONIC, ns), and wakes the readers that wait for it. Frames may be missing between two
    /// packets, but a packet begins not before the end of the last one.
    ///
    /// # Panics
    ///
    /// If the packet has more bytes than the ring was made for.
    pub fn publish_packet(&mut self, packet: &[u8], first_frame: u64, frames: u32, captured_at: u64) {
        assert!(packet.len() <= self.shared.unit_bytes, "a packet of {} bytes", packet.len());
        self.frames = self.frames.max(first_frame);
        self.publish_block(packet, frames, captured_at);
    }

    fn publish_block(&mut self, payload: &[u8], frames: u32, captured_at: u64) {
        let (shared, block) = (&*self.shared, self.blocks);
        let header = Header { first_frame: self.frames, captured_at, frames, bytes: payload.len() as u32 };
        shared.slots.write(block, header, payload);
        self.blocks += 1;
        self.frames += u64::from(frames);
        shared.frames.store(self.frames, Ordering::Relaxed);
        shared.blocks.store(self.blocks, Ordering::Release);
        shared.count_event();
        if shared.take_waiters(block) {
            shared.wake_readers(bit_of(block));
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

/// A handle to a ring, from which readers are made.
#[derive(Clone)]
pub struct Ring {
    shared: Arc<Shared>,
}

impl Ring {
    /// Returns a number that tells this ring from all other rings of its input, of earlier runs of the program too:
    /// frame indices are valid for one ring only. It is the time in ms since 1970 at which the ring was made.
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// Returns the format of the frames.
    pub fn format(&self) -> StreamFormat {
        self.shared.format
    }

    /// Returns the most frames that a block can have; nearly all blocks have that many.
    pub fn block_frames(&self) -> u32 {
        self.shared.block_frames
    }

    /// Returns the size in bytes of the smallest piece that can be read: a frame, or a packet of the largest size.
    pub fn unit_bytes(&self) -> usize {
        self.shared.unit_bytes
    }

    /// Returns whether each block is a packet of encoded sound, which is read whole.
    pub fn has_packets(&self) -> bool {
        self.shared.has_packets
    }

    /// Returns the index of the live edge: of a ring of PCM, the number of frames that were ever published.
    pub fn frames(&self) -> u64 {
        self.shared.frames.load(Ordering::Relaxed)
    }

    /// Returns the index of the last frame that was published, and the time at which it was captured (CLOCK_MONOTONIC,
    /// ns). `None` before the first frame.
    pub fn edge(&self) -> Option<(u64, u64)> {
        loop {
            let last = self.shared.blocks.load(Ordering::Acquire).checked_sub(1)?;
            let edge = self.shared.slots.read(last, |header, _| (header.end() - 1, header.captured_at));
            if edge.is_some() {
                return edge;
            }
        }
    }

    /// Ends the stream for all readers, as if the writer were dropped: for a writer that hangs.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Returns whether `other` is a handle to the same ring.
    pub fn is(&self, other: &Ring) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Returns whether the ring is closed.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    /// Returns a reader that starts `back` frames before the live edge, or with the oldest frame if there are fewer.
    pub fn reader(&self, back: u64) -> Reader {
        let mut reader = Reader { shared: Arc::clone(&self.shared), place: Place::default() };
        reader.seek(back);
        reader
    }

    /// Returns a reader that starts with the frame of index `frame`; with the oldest frame if that one is gone, at the
    /// live edge if it is not published yet.
    pub fn reader_at(&self, frame: u64) -> Reader {
        let mut reader = self.reader(0);
        reader.seek_with(|_| frame);
        reader
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("format", &self.format()).field("frames", &self.frames()).finish()
    }
}
