//! The place of an input's stream in time: which frames are published, and the silence that stands for lost ones.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::inputs::LiveInput;
use crate::media::meter::Meter;
use crate::media::ring::Writer;
use crate::sys::clock::monotonic_ns;

/// The ring's writer and its place in time.
pub struct Timeline {
    pub(super) writer: Writer,
    levels: Arc<Meter>,
    input: Arc<LiveInput>,
    pub(super) keep: Duration,
    /// The time (CLOCK_MONOTONIC, ns) up to which the stream has been filled: `edge` plus that of the
    /// frames of silence since.
    edge: u64,
    silent: u64,
    /// Whether sound was lost since the last block, so that the next one is preceded by silence.
    pub(super) gap: bool,
    silence: Vec<u8>,
}

impl Timeline {
    pub(super) fn new(writer: Writer, levels: Arc<Meter>, input: Arc<LiveInput>, keep: Duration) -> Timeline {
        let silence = vec![0; writer.block_frames() as usize * writer.format().frame_bytes()];
        Timeline { writer, levels, input, keep, edge: monotonic_ns(), silent: 0, gap: false, silence }
    }

    /// Publishes a block of `frames` frames, the last of which was captured at `captured_at`.
    pub(super) fn sound(&mut self, block: &[u8], frames: u64, captured_at: u64) {
        if self.gap {
            self.gap = false;
            let began = captured_at.saturating_sub(self.nanos(frames));
            let missing = self.missing(began);
            self.publish_silence(missing);
        }
        // Listeners first: nobody hears levels.
        self.writer.publish(block, captured_at);
        self.levels.note(block);
        self.input.counters.frames.fetch_add(frames, Ordering::Relaxed);
        (self.edge, self.silent) = (captured_at, 0);
    }

    /// Publishes as many whole blocks of silence as are due at that time.
    pub(super) fn silence_until(&mut self, now: u64) {
        let block = u64::from(self.writer.block_frames());
        let due = self.missing(now) / block * block;
        self.publish_silence(due);
        self.gap = true;
    }

    /// Publishes silence in blocks.
    fn publish_silence(&mut self, mut frames: u64) {
        let frame_bytes = self.writer.format().frame_bytes();
        while frames > 0 {
            let block = frames.min(u64::from(self.writer.block_frames()));
            self.silent += block;
            let at = self.filled();
            self.writer.publish(&self.silence[..block as usize * frame_bytes], at);
            self.levels.note_silence();
            self.input.counters.silence.fetch_add(block, Ordering::Relaxed);
            frames -= block;
        }
    }

    /// How many frames the stream is behind that time.
    fn missing(&self, time: u64) -> u64 {
        self.writer.format().frames_in(Duration::from_nanos(time.saturating_sub(self.filled())))
    }

    /// The time up to which the stream has been filled.
    fn filled(&self) -> u64 {
        self.edge + self.nanos(self.silent)
    }

    fn nanos(&self, frames: u64) -> u64 {
        self.writer.format().duration_of(frames).as_nanos() as u64
    }

    /// How long until the next whole block of silence is due.
    pub(super) fn until_next_block(&self) -> Duration {
        let due = self.edge + self.nanos(self.silent + u64::from(self.writer.block_frames()));
        Duration::from_nanos(due.saturating_sub(monotonic_ns()))
    }
}
