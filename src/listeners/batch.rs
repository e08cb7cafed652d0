//! Frames for many listeners: copied out of the ring once, sent without waiting.

use std::sync::atomic::Ordering;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::chunked::Chunk;
use super::icy::framed;
use super::stream::{Stream, Unsent};
use crate::media::ring::{Place, Read, Reader, Ring};
use crate::sys::clock::monotonic_ns;

/// The buffer in bytes: more than the longest interval brings in nearly every format.
const CAPACITY: usize = 64 * 1024;

/// Frames between two places in the ring, ready to be sent to many listeners.
pub(super) struct Batch {
    chunk: Chunk,
    /// The first frame. `None` if the batch has to be filled again.
    from: Option<u64>,
    /// The place behind the last frame.
    to: Place,
    frames: u64,
    /// CLOCK_MONOTONIC in ns when the last block was captured.
    captured_at: u64,
    /// True if the batch reaches to the live edge.
    reaches_edge: bool,
}

impl Batch {
    pub(super) fn new(ring: &Ring) -> Batch {
        Batch {
            chunk: Chunk::new(CAPACITY.max(ring.unit_bytes())),
            from: None,
            to: ring.reader(0).place(),
            frames: 0,
            captured_at: 0,
            reaches_edge: false,
        }
    }

    /// Forgets the frames: the next batch ends at another live edge.
    pub(super) fn clear(&mut self) {
        self.from = None;
    }

    /// Copies all frames from that reader's place on, as far as they fit. Returns `false` if the reader was lapped or its
    /// ring was closed.
    fn fill(&mut self, from: &Reader) -> bool {
        let mut reader = from.clone();
        let unit_bytes = reader.unit_bytes();
        (self.from, self.frames, self.reaches_edge) = (None, 0, false);
        self.chunk.clear();
        while self.chunk.spare().len() >= unit_bytes {
            match reader.read(self.chunk.spare()) {
                Read::Block { frames, bytes, captured_at } => {
                    self.chunk.advance(bytes);
                    self.frames += frames as u64;
                    self.captured_at = captured_at;
                }
                Read::Nothing => {
                    self.reaches_edge = true;
                    break;
                }
                Read::Lapped { .. } | Read::End => return false,
            }
        }
        self.from = Some(from.frame());
        self.to = reader.place();
        true
    }
}

impl Stream {
    /// Sends all frames up to the live edge without waiting. Returns `false` if the listener has to leave the fan-out:
    /// the kernel does not accept all of it, the connection failed, the reader was lapped, or the ring was closed.
    pub(super) fn send_new(&mut self, batch: &mut Batch, interval_us: u32) -> bool {
        let listener = &*self.listener;
        listener.interval_us.store(interval_us, Ordering::Relaxed);
        loop {
            if batch.from != Some(self.reader.frame()) && !batch.fill(&self.reader) {
                return false;
            }
            if batch.frames == 0 {
                return true;
            }
            let bytes = framed(&mut self.icy, &mut batch.chunk, self.playback.chunked);
            let sent = match send(listener.socket(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => sent,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(error) => {
                    self.failure = Some(self.end_of(&error.into()));
                    return false;
                }
            };
            self.reader.go_to(batch.to);
            if sent < bytes.len() {
                self.unsent = Unsent { bytes: bytes[sent..].to_vec(), frames: batch.frames };
                return false;
            }
            listener.sent.fetch_add(batch.frames, Ordering::Relaxed);
            listener.position.store(batch.to.frame, Ordering::Relaxed);
            listener.latency.record(monotonic_ns().saturating_sub(batch.captured_at));
            if batch.reaches_edge {
                return true;
            }
        }
    }
}
