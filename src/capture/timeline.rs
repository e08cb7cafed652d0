//! The place of an input's stream in time: the frames that are published, and silence in place of lost ones.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::inputs::LiveInput;
use crate::media::meter::Meter;
use crate::media::ring::Writer;

/// The writer of an input's ring, and the time up to which the stream is filled.
///
/// A capture that is stopped leaves its timeline, so that the next capture of the same input can go on with the same
/// ring. Dropping a timeline closes the ring.
pub struct Timeline {
    writer: Writer,
    meter: Arc<Meter>,
    input: Arc<LiveInput>,
    history: History,
    /// Time (CLOCK_MONOTONIC, ns) of the last frame that came from the source, or of the ring's beginning.
    edge: u64,
    /// Frames of silence published since `edge`. The stream is filled up to `edge` plus their duration.
    silent: u64,
    /// Frames were lost since the last block: the next one is preceded by as much silence.
    gap: bool,
    /// One block of zeros.
    silence: Vec<u8>,
}

/// The history of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct History {
    /// Duration for which the ring was wanted.
    pub(super) asked: Duration,
    /// Duration for which the ring was made; shorter where memory is short.
    pub(super) kept: Duration,
}

impl Timeline {
    /// A timeline that is filled up to `now`.
    pub(super) fn new(
        writer: Writer,
        meter: Arc<Meter>,
        input: Arc<LiveInput>,
        history: History,
        now: u64,
    ) -> Timeline {
        let silence = vec![0; writer.block_frames() as usize * writer.format().frame_bytes()];
        Timeline { writer, meter, input, history, edge: now, silent: 0, gap: false, silence }
    }

    /// Publishes a block of `frames` frames, the last of which was captured at `captured_at`. After a gap, silence for
    /// the frames that are missing comes first; returns the number of those.
    pub(super) fn publish(&mut self, block: &[u8], frames: u64, captured_at: u64) -> u64 {
        let mut missing = 0;
        if std::mem::take(&mut self.gap) {
            missing = self.missing(captured_at.saturating_sub(self.nanos(frames)));
            self.publish_silence(missing, captured_at);
        }
        // The ring first: listeners wait for the block, meters are read later.
        self.writer.publish(block, captured_at);
        self.meter.note(block);
        self.input.counters.frames.fetch_add(frames, Ordering::Relaxed);
        (self.edge, self.silent) = (captured_at, 0);
        missing
    }

    /// Publishes as many whole blocks of silence as are due at `now`, and returns their frames. The next block from the
    /// source is preceded by the rest.
    pub(super) fn fill_with_silence(&mut self, now: u64) -> u64 {
        let block = u64::from(self.writer.block_frames());
        let due = self.missing(now) / block * block;
        self.publish_silence(due, now);
        self.gap = true;
        due
    }

    /// Notes that frames were lost: silence in their place precedes the next block.
    pub(super) fn mark_gap(&mut self) {
        self.gap = true;
    }

    /// Returns the time from `now` until the next whole block of silence is due.
    pub(super) fn until_next_silence(&self, now: u64) -> Duration {
        let due = self.edge + self.nanos(self.silent + u64::from(self.writer.block_frames()));
        Duration::from_nanos(due.saturating_sub(now))
    }

    /// Returns the ring's writer.
    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Returns the meter of the ring's sound.
    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Returns the ring's history.
    pub(super) fn history(&self) -> History {
        self.history
    }

    /// Replaces the history that counts as asked for, where the ring is kept because a longer one cannot be had.
    pub(super) fn set_asked_history(&mut self, asked: Duration) {
        self.history.asked = asked;
    }

    fn publish_silence(&mut self, mut frames: u64, now: u64) {
        if frames == 0 {
            return;
        }
        let format = self.writer.format();
        self.input.counters.count_silence(frames, format.rate, now);
        while frames > 0 {
            let block = frames.min(u64::from(self.writer.block_frames()));
            self.silent += block;
            let at = self.filled();
            self.writer.publish(&self.silence[..block as usize * format.frame_bytes()], at);
            self.meter.note_silence(block);
            frames -= block;
        }
    }

    /// Returns how many frames the stream is behind `time`.
    fn missing(&self, time: u64) -> u64 {
        self.writer.format().frames_in(Duration::from_nanos(time.saturating_sub(self.filled())))
    }

    /// Returns the time up to which the stream is filled.
    fn filled(&self) -> u64 {
        self.edge + self.nanos(self.silent)
    }

    fn nanos(&self, frames: u64) -> u64 {
        self.writer.format().duration_of(frames).as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::format::{SampleFormat, StreamFormat};
    use crate::media::ring;

    const MS: u64 = 1_000_000;
    const FORMAT: StreamFormat = StreamFormat { rate: 1000, channels: 1, sample: SampleFormat::S16 };

    /// A timeline with blocks of 10 ms, which begins at 1 s, and its input.
    fn timeline() -> (Timeline, Arc<LiveInput>) {
        let input = Arc::new(LiveInput::new("live", "test"));
        let keep = Duration::from_secs(1);
        let (writer, _) = ring::new(FORMAT, 10, keep).expect("memory");
        let history = History { asked: keep, kept: keep };
        let meter = Arc::new(Meter::new(FORMAT, 10, Duration::from_secs(1)));
        (Timeline::new(writer, meter, Arc::clone(&input), history, 1000 * MS), input)
    }

    fn silence(input: &LiveInput) -> u64 {
        input.counters.silence.load(Ordering::Relaxed)
    }

    #[test]
    fn lost_frames_become_as_many_frames_of_silence() {
        let (mut timeline, input) = timeline();
        assert_eq!(timeline.publish(&[1; 20], 10, 1010 * MS), 0, "no gap");
        timeline.mark_gap();
        // This block began 25 ms after the end of the one before.
        assert_eq!(timeline.publish(&[1; 20], 10, 1045 * MS), 25);
        assert_eq!(timeline.publish(&[1; 20], 10, 1055 * MS), 0, "the gap is filled");
        assert_eq!(silence(&input), 25);
        assert_eq!(timeline.writer().ring().frames(), 55);
    }

    #[test]
    fn silence_is_published_in_whole_blocks_and_completed_before_the_next_sound() {
        let (mut timeline, input) = timeline();
        assert_eq!(timeline.until_next_silence(1003 * MS), Duration::from_millis(7));
        assert_eq!(timeline.fill_with_silence(1009 * MS), 0);
        assert_eq!(timeline.fill_with_silence(1037 * MS), 30);
        assert_eq!(timeline.until_next_silence(1037 * MS), Duration::from_millis(3));
        assert_eq!(timeline.publish(&[1; 20], 10, 1048 * MS), 8);
        assert_eq!(silence(&input), 38);
        assert_eq!(timeline.writer().ring().frames(), 48);
    }
}
