//! The thread of a listener that is not at the live edge.
//!
//! A listener starts with the head of the response and with past sound: a burst, or what `back=` asks for. Where the kernel
//! takes all of it at once, the listener needs no thread. Otherwise a thread sends until the listener has caught up with the
//! live edge. Then the listener joins the [fan-out](super::fanout) and the thread ends. The listener gets another thread when it leaves the fan-out: because the client accepts data too
//! slowly or is gone, or because the ring was closed. Whatever that thread does costs nobody else anything.
//!
//! # Slow listeners
//!
//! The kernel takes a quarter of a second of sound for a client that reads too slowly; after that the listener's place in
//! the ring falls behind the live edge, and the [policy](super::slow) decides about it. A client that accepts not a single
//! byte for `stall_seconds` is disconnected.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;

use log::error;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::chunked::{self, Chunk};
use super::icy::framed;
use super::own_encoder::Filled;
use super::pacing;
use super::slow::{Action, decide};
use super::stream::{End, Playback, Sound, StartAt, Stream, Unsent};
use crate::media::ring::Read;
use crate::sys::clock::monotonic_ns;

/// The most bytes of sound in one system call.
const MOST_BYTES: usize = 64 * 1024;
/// The longest sleep: so soon a sleeping thread notices that its listener was cut.
const POLL: Duration = Duration::from_secs(1);

/// The next step of a stream that has nothing left to send.
pub(super) enum Step {
    /// Join the fan-out.
    Join,
    /// End.
    End(End),
}

impl Stream {
    /// Sends until the stream is at the live edge or has ended.
    pub(super) fn catch_up(&mut self) -> Step {
        self.send_all().unwrap_or_else(|error| Step::End(self.end_of(&error)))
    }

    /// Sleeps until there is as much new sound as an interval brings.
    pub(super) fn sleep(&self) {
        let interval = pacing::current(&self.settings, self.listener.count(), self.low_latency);
        self.listener.interval_us.store(interval.as_micros() as u32, Ordering::Relaxed);
        let blocks = pacing::blocks_in(interval, self.ring.format(), self.ring.block_frames());
        self.reader.wait(self.reader.place().block + blocks - 1, POLL);
    }

    /// Returns whether the stream can start [at once](Self::start_at_once): it is endless and has no encoder of its own.
    pub(super) fn can_start_at_once(&self) -> bool {
        !self.needs_thread() && matches!(self.playback.begin, StartAt::Back(_))
    }

    /// Sends the head and past sound up to the live edge without waiting: nearly always the kernel takes all of it. `None` if
    /// the stream has to go on in a thread that may wait.
    pub(super) fn start_at_once(&mut self) -> Option<Step> {
        let mut chunk = Chunk::new(self.chunk_bytes());
        chunk.push(&std::mem::take(&mut self.playback.prefix));
        loop {
            let mut frames = 0;
            let read = loop {
                match self.read(&mut chunk) {
                    Read::Block { frames: read, .. } => frames += read as u64,
                    other => break other,
                }
            };
            if chunk.len() == 0 && self.head.is_empty() {
                return matches!(read, Read::Nothing).then_some(Step::Join);
            }
            let mut bytes = std::mem::take(&mut self.head);
            bytes.extend_from_slice(framed(&mut self.icy, &mut chunk, self.playback.chunked));
            let sent = match send(self.listener.socket(), &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => sent,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(error) => return Some(Step::End(self.end_of(&error.into()))),
            };
            if sent < bytes.len() {
                // A new buffer of just these bytes: a client that never reads keeps it for `stall_seconds`.
                self.unsent = Unsent { bytes: bytes.split_off(sent), frames };
                return None;
            }
            chunk.clear();
            self.listener.sent.fetch_add(frames, Ordering::Relaxed);
            self.listener.position.store(self.reader.frame(), Ordering::Relaxed);
            if !matches!(read, Read::Nothing) {
                return None;
            }
        }
    }

    fn send_all(&mut self) -> io::Result<Step> {
        if let Some(end) = self.failure.take() {
            return Ok(Step::End(end));
        }
        if matches!(self.playback.begin, StartAt::Frame(frame) if frame != self.reader.frame()) {
            return Ok(Step::End(End::TooSlow));
        }
        if let Some(end) = self.send_unsent()? {
            return Ok(Step::End(end));
        }
        if let Sound::Encoded(encoder) = &mut self.sound {
            // This thread keeps the stream to its end, so the encoder begins once.
            if let Err(lost) = encoder.begin(&self.reader) {
                self.record_skip(lost);
                return Ok(Step::End(End::TooSlow));
            }
        }
        let mut chunk = Chunk::new(self.chunk_bytes());
        chunk.push(&std::mem::take(&mut self.playback.prefix));
        let (started, mut frames, mut captured_at) = (monotonic_ns(), 0, None);
        loop {
            if self.listener.is_cut() {
                return Ok(Step::End(End::Cut));
            }
            match self.read(&mut chunk) {
                Read::Block { frames: read, captured_at: at, .. } => {
                    frames += read as u64;
                    captured_at = Some(at);
                    continue;
                }
                Read::Lapped { lost } => {
                    self.record_skip(lost);
                    if self.is_clip() {
                        // A file with a hole would look whole. A client fetches a file that was cut again.
                        return Ok(Step::End(End::TooSlow));
                    }
                }
                Read::Nothing if chunk.len() > 0 || !self.head.is_empty() => {
                    self.send(&mut chunk, std::mem::take(&mut frames))?;
                    // Only sound from after the start: a burst is old on purpose.
                    if let Some(at) = captured_at.take().filter(|at| *at > started) {
                        self.listener.latency.record(monotonic_ns().saturating_sub(at));
                    }
                }
                Read::Nothing if self.playback.length == Some(0) => return self.finish(),
                // A finite stream needs its thread to its end, a frame has to be cut here, and so has an own encoder to run.
                Read::Nothing if self.needs_thread() => {
                    self.sleep();
                    continue;
                }
                Read::Nothing => return Ok(Step::Join),
                Read::End => {
                    self.send(&mut chunk, std::mem::take(&mut frames))?;
                    if !self.switch_ring() {
                        return self.finish();
                    }
                }
            }
            if let Some(end) = self.apply_slow_policy() {
                return Ok(Step::End(end));
            }
        }
    }

    /// Returns whether the stream cannot join the fan-out.
    fn needs_thread(&self) -> bool {
        let Playback { length, skip, .. } = &self.playback;
        length.is_some() || *skip > 0 || matches!(self.sound, Sound::Encoded(_))
    }

    /// Returns whether the body is a part of the past, which was complete before the request.
    fn is_clip(&self) -> bool {
        matches!(self.playback.begin, StartAt::Frame(_))
    }

    /// Returns the size of the buffer: what 100 ms bring, or a block, if that is more.
    fn chunk_bytes(&self) -> usize {
        let format = self.ring.format();
        let interval_bytes = (format.bytes_per_second() / 10) as usize;
        let block_bytes = self.ring.block_frames() as usize * format.frame_bytes();
        let bytes = interval_bytes.max(block_bytes).min(MOST_BYTES);
        bytes.max(self.ring.unit_bytes()).max(self.playback.prefix.len())
    }

    /// Reads the next frames into the chunk. `Nothing` also if the chunk or the body is full.
    fn read(&mut self, chunk: &mut Chunk) -> Read {
        if let Sound::Encoded(encoder) = &mut self.sound {
            let filled = encoder.fill(&mut self.reader, chunk);
            let dropped = encoder.take_dropped();
            if dropped > 0 {
                self.record_skip(dropped);
            }
            return match filled {
                Filled::Read(read) => read,
                Filled::Full => Read::Nothing,
                Filled::Finished | Filled::Failed => {
                    self.playback.length = Some(0);
                    Read::Nothing
                }
            };
        }
        let unit_bytes = self.ring.unit_bytes();
        let spare = chunk.spare();
        // Up to the end of the last frame of the body; the part of it that is not wanted is left out below.
        let most = self.playback.length.map_or(usize::MAX, |length| {
            let units = usize::try_from(length.div_ceil(unit_bytes as u64)).unwrap_or(usize::MAX);
            units.saturating_mul(unit_bytes)
        });
        let most = most.min(spare.len());
        if most < unit_bytes {
            return Read::Nothing;
        }
        let read = self.reader.read(&mut spare[..most]);
        if let Read::Block { mut bytes, .. } = read {
            if self.playback.skip > 0 {
                spare[..bytes].copy_within(self.playback.skip.., 0);
                bytes -= std::mem::take(&mut self.playback.skip);
            }
            if let Some(length) = &mut self.playback.length {
                bytes = bytes.min(usize::try_from(*length).unwrap_or(usize::MAX));
                *length -= bytes as u64;
            }
            chunk.advance(bytes);
        }
        read
    }

    /// Sends the head, if it was not sent yet, with the chunk of that many frames, and empties both.
    ///
    /// A send that makes no progress for `stall_seconds` fails: that is the time limit of the socket.
    fn send(&mut self, chunk: &mut Chunk, frames: u64) -> io::Result<()> {
        let bytes = framed(&mut self.icy, chunk, self.playback.chunked);
        if self.head.is_empty() {
            self.listener.socket().write_all(bytes)?;
        } else {
            let mut first = std::mem::take(&mut self.head);
            first.extend_from_slice(bytes);
            self.listener.socket().write_all(&first)?;
        }
        self.listener.sent.fetch_add(frames, Ordering::Relaxed);
        chunk.clear();
        Ok(())
    }

    /// Sends the rest of the last send of the fan-out.
    fn send_unsent(&mut self) -> io::Result<Option<End>> {
        let unsent = std::mem::take(&mut self.unsent);
        if unsent.bytes.is_empty() {
            return Ok(None);
        }
        self.listener.socket().write_all(&unsent.bytes)?;
        self.listener.sent.fetch_add(unsent.frames, Ordering::Relaxed);
        Ok(self.apply_slow_policy())
    }

    /// Sends the end of the body. A file whose input has ended before it was complete has none.
    fn finish(&mut self) -> io::Result<Step> {
        let failure = match &self.sound {
            Sound::Encoded(encoder) => encoder.failure(),
            _ => None,
        };
        if let Some(error) = failure {
            error!("{}: the encoder of {} failed: {error}", self.input.name, self.listener.ip());
            return Ok(Step::End(End::EncoderFailed));
        }
        if self.playback.chunked {
            self.listener.socket().write_all(chunked::LAST)?;
        } else if self.playback.length == Some(0) {
            self.listener.socket().write_all(self.playback.suffix)?;
        }
        Ok(Step::End(End::Complete))
    }

    /// Notes the place of the listener and applies the policy for slow listeners.
    fn apply_slow_policy(&mut self) -> Option<End> {
        self.listener.position.store(self.reader.frame(), Ordering::Relaxed);
        let resume_at = self.playback.lag_target?;
        let settings = self.settings.listeners();
        let limit = self.initial_lag + self.ring.format().frames_in(settings.max_lag);
        match decide(self.reader.lag(), limit, settings.when_behind, resume_at) {
            Action::Continue => None,
            Action::Disconnect => Some(End::TooSlow),
            Action::SkipTo(back) => {
                let skipped = self.reader.seek(back);
                self.listener.position.store(self.reader.frame(), Ordering::Relaxed);
                self.record_skip(skipped);
                None
            }
        }
    }

    /// Continues with the next ring of the input, if there is one with the same format: after a reload of the
    /// configuration, or a restart of the capture thread.
    fn switch_ring(&mut self) -> bool {
        let next = self.input.ring().filter(|next| !next.is_closed() && next.format() == self.ring.format());
        // An encoding goes on with the next ring by itself, or ends.
        if matches!(self.sound, Sound::Packets(_)) {
            return false;
        }
        // The frames of a clip are numbered in its own ring.
        let Some(ring) = next.filter(|_| !self.is_clip()) else { return false };
        // The next frame of the stream is the first one of the new ring, however long ago it was published.
        self.reader = ring.reader_at(0);
        self.ring = ring;
        let overwritten = self.reader.frame();
        if overwritten > 0 {
            self.record_skip(overwritten);
        }
        true
    }
}

#[cfg(test)]
mod tests;
