//! When the capture thread reads its source next.
//!
//! On a small board a block costs mostly the wake-up for it. Listeners that are served every 40 ms need the sound then
//! and not before: with periods of 10 ms, three wake-ups of four serve no listener. The thread therefore sleeps until the
//! block for which a reader waits is complete, and then reads everything that the source has gathered.
//!
//! Three cases decide how long it sleeps ([`Waiters`]):
//!
//! | readers | the thread sleeps for |
//! |---|---|
//! | [`Nobody`](Waiters::Nobody) listens | as long as it may, [`LONGEST_SLEEP`] |
//! | one waits, or may wait, for the [`NextBlock`](Waiters::NextBlock) | no time: the read itself waits |
//! | the earliest waits for a block that is [`Later`](Waiters::Later) | the blocks up to that one, at most [`LONGEST_SLEEP`] |
//!
//! # When a block is complete
//!
//! To wake in time, the thread has to know when a block will be complete. Some devices report how much of the next
//! block they have already. Others report whole periods only: a thread that wakes late cannot see how late it is. The
//! [`PeriodClock`] extrapolates from the last block end that a read waited for:
//!
//! ```text
//!             a read waited for the end of its block
//!   unknown ─────────────────────────────────────────▶ known: block ends follow from the rate
//!      ▲                                                │
//!      └────────────────────────────────────────────────┘
//!        after TRUSTED, wake `early` before the block end, so that the read waits for it
//! ```
//!
//! The estimate of the card's clock drift uses the same moments: only a read that waited has an exact time.

use std::time::Duration;

use crate::inputs::SourceInfo;
use crate::media::format::duration_at;
use crate::media::ring::Writer;

/// The longest sleep, unless a quarter of the source's buffer is shorter. Longer sleeps save hardly any power, and a
/// new listener would wait for its first block.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);
/// A ring for whose blocks no reader has waited for this long has no listeners. The longest interval at which a
/// listener can be served is half of this.
const NO_LISTENER_AFTER: Duration = Duration::from_secs(2);
/// Time by which the thread wakes early to see a block end. Doubles each time that the thread was late all the same.
const FIRST_EARLY: Duration = Duration::from_millis(1);
/// Time for which block ends are extrapolated from the rate alone. A card whose clock is off by 200 ppm is 0.2 ms off
/// then.
const TRUSTED: Duration = Duration::from_secs(1);
/// A read that takes longer than this has waited for the end of its block; a copy alone takes less.
const WAITED: Duration = Duration::from_micros(150);

/// A position in the source's sound: frames since the timing was (re)started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Frames(pub(super) u64);

/// A point in time: nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MonoNs(pub(super) u64);

impl MonoNs {
    pub(super) fn plus(self, time: Duration) -> MonoNs {
        MonoNs(self.0 + time.as_nanos() as u64)
    }

    fn minus(self, time: Duration) -> MonoNs {
        MonoNs(self.0.saturating_sub(time.as_nanos() as u64))
    }

    /// Returns the time since `earlier`; zero if that is later.
    pub(super) fn since(self, earlier: MonoNs) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The times of one read that returned frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadTiming {
    /// Frames since the timing was (re)started, with those of this read.
    pub(super) frames: Frames,
    /// When the read was called.
    pub(super) called: MonoNs,
    /// When the last frame was captured, as the source reports it.
    pub(super) captured: MonoNs,
}

/// The readers for which the next sleep has to end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiters {
    /// No reader has waited for a block for [`NO_LISTENER_AFTER`].
    Nobody,
    /// A reader waits for the next block. Or no reader has registered yet: one that was served a moment ago may not
    /// have said which block it waits for.
    NextBlock,
    /// The earliest waiting reader waits for the block that comes as number `blocks` from now; at least 2.
    Later {
        /// Blocks until then, with the one that is waited for.
        blocks: u32,
    },
}

impl Waiters {
    /// Returns which block of `writer`'s ring is waited for. Readers count as gone after `silent_blocks` blocks without a
    /// wait.
    fn of(writer: &Writer, silent_blocks: u64) -> Waiters {
        if writer.blocks_since_last_wait() > silent_blocks {
            return Waiters::Nobody;
        }
        match writer.blocks_until_waiter() {
            None | Some(0) => Waiters::NextBlock,
            Some(blocks_between) => Waiters::Later { blocks: blocks_between + 1 },
        }
    }
}

/// A sleep of the capture thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sleep {
    /// Blocks that will be complete at its end.
    pub(super) blocks: u32,
    /// Its end.
    pub(super) until: MonoNs,
}

/// The times at which blocks of a source are complete, and the blocks for which readers wait.
pub(super) struct WakeSchedule {
    clock: PeriodClock,
    /// [`LONGEST_SLEEP`] in blocks.
    longest: u32,
    /// [`NO_LISTENER_AFTER`] in blocks.
    silent_blocks: u64,
    /// The position that has to be reached before readers are looked at again: until then the last decision holds.
    decided_until: Frames,
}

impl WakeSchedule {
    /// A schedule for a source whose frames are counted from now on: at its start, or after frames were lost.
    pub(super) fn new(info: &SourceInfo) -> WakeSchedule {
        let (rate, block_frames) = (info.rate, info.block_frames.max(1));
        let blocks = |time: Duration| {
            time.as_nanos() as u64 * u64::from(rate) / 1_000_000_000 / u64::from(block_frames)
        };
        WakeSchedule {
            clock: PeriodClock { rate, block_frames, reference: None, early: FIRST_EARLY },
            longest: blocks(LONGEST_SLEEP.min(info.buffer() / 4)) as u32,
            silent_blocks: blocks(NO_LISTENER_AFTER),
            decided_until: Frames(0),
        }
    }

    /// Decides after a read how long to sleep; `None` to read at once.
    pub(super) fn after_read(&mut self, read: ReadTiming, writer: &Writer) -> Option<Sleep> {
        if read.frames < self.decided_until {
            return None;
        }
        self.next_wake(read, Waiters::of(writer, self.silent_blocks))
    }

    fn next_wake(&mut self, read: ReadTiming, waiters: Waiters) -> Option<Sleep> {
        let blocks = match waiters {
            Waiters::Nobody => self.longest,
            Waiters::NextBlock => 1,
            Waiters::Later { blocks } => self.longest.min(blocks),
        };
        self.decided_until = self.clock.after_blocks(read.frames, blocks);
        (blocks > 1).then(|| Sleep { blocks, until: self.clock.wake_time(read, blocks) })
    }
}

/// An extrapolation of the times at which blocks end.
struct PeriodClock {
    rate: u32,
    block_frames: u32,
    /// A position and the time at which it was complete, from which block ends are extrapolated.
    reference: Option<(Frames, MonoNs)>,
    /// Time by which the thread wakes early the next time that it has to see a block end.
    early: Duration,
}

impl PeriodClock {
    /// Returns when to wake so that `blocks` more blocks are complete; now and then a little earlier.
    fn wake_time(&mut self, read: ReadTiming, blocks: u32) -> MonoNs {
        let waited = read.captured > read.called.plus(WAITED);
        let reference = match self.reference {
            // Earlier than extrapolated is more exact. Later is the thread's own lateness.
            Some(known) if !waited && read.captured >= self.time_of(known, read.frames) => known,
            _ => (read.frames, read.captured),
        };
        if waited {
            (self.reference, self.early) = (Some(reference), FIRST_EARLY);
        }
        let end = self.time_of(reference, self.after_blocks(read.frames, blocks));
        if self.reference.is_some() && end.since(reference.1) <= TRUSTED {
            self.reference = Some(reference);
            return end;
        }
        let wake = end.minus(self.early);
        self.early = (self.early * 2).min(self.duration_of(self.block_frames.into()));
        self.reference = None;
        wake
    }

    fn time_of(&self, (known, at): (Frames, MonoNs), frames: Frames) -> MonoNs {
        at.plus(self.duration_of(frames.0.saturating_sub(known.0)))
    }

    fn after_blocks(&self, frames: Frames, blocks: u32) -> Frames {
        Frames(frames.0 + u64::from(blocks) * u64::from(self.block_frames))
    }

    fn duration_of(&self, frames: u64) -> Duration {
        duration_at(self.rate, frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::format::{SampleFormat, SourceSample, StreamFormat};
    use crate::media::ring;

    const MS: u64 = 1_000_000;

    /// A schedule for blocks of 10 ms.
    fn schedule() -> WakeSchedule {
        WakeSchedule::new(&SourceInfo {
            device: String::new(),
            card: None,
            rate: 48_000,
            channels: 2,
            sample: SourceSample::S16,
            block_frames: 480,
            buffer_frames: 24_000,
        })
    }

    fn read(block: u64, called: u64, captured: u64) -> ReadTiming {
        ReadTiming { frames: Frames(block * 480), called: MonoNs(called), captured: MonoNs(captured) }
    }

    #[test]
    fn each_case_of_waiters_has_its_sleep() {
        for (waiters, blocks) in [
            (Waiters::Nobody, Some(5)),
            (Waiters::NextBlock, None),
            (Waiters::Later { blocks: 2 }, Some(2)),
            (Waiters::Later { blocks: 5 }, Some(5)),
            (Waiters::Later { blocks: 31 }, Some(5)),
        ] {
            let slept = schedule().next_wake(read(1, 0, 10 * MS), waiters).map(|sleep| sleep.blocks);
            assert_eq!(slept, blocks, "{waiters:?}");
        }
    }

    #[test]
    fn the_thread_sleeps_until_the_block_for_which_a_reader_waits() {
        let format = StreamFormat { rate: 48_000, channels: 2, sample: SampleFormat::S16 };
        let (mut writer, ring) = ring::new(format, 480, Duration::from_secs(1)).expect("memory");
        let mut schedule = schedule();
        let mut after = |block: u64, writer: &Writer| {
            schedule
                .after_read(read(block, block * 10 * MS, block * 10 * MS), writer)
                .map(|sleep| sleep.blocks)
        };
        fn published(writer: &mut Writer, blocks: u64) -> &Writer {
            (0..blocks).for_each(|_| writer.publish(&[0; 480 * 4], 0));
            writer
        }
        // A reader that was served a moment ago has not registered its next wait yet.
        assert_eq!(after(1, published(&mut writer, 1)), None);
        ring.reader(0).register_next_wait(5);
        assert_eq!(after(2, published(&mut writer, 1)), Some(4));
        // The decision holds until that block is there.
        assert_eq!(after(3, published(&mut writer, 1)), None);
        ring.reader(0).register_next_wait(6);
        assert_eq!(after(6, published(&mut writer, 3)), None, "a reader waits for the next block");
        // The longest sleep is shorter than a seldom served listener's wait, and is used without listeners too.
        ring.reader(0).wait(20, Duration::ZERO);
        assert_eq!(after(7, published(&mut writer, 1)), Some(5));
        assert_eq!(after(221, published(&mut writer, 214)), Some(5));
    }

    #[test]
    fn the_thread_wakes_when_the_block_is_complete() {
        let mut clock = schedule().clock;
        // The read waited for the end of this block.
        assert_eq!(clock.wake_time(read(1, 0, 10 * MS), 4), MonoNs(50 * MS));
        // The read was 0.1 ms late, which the device does not report.
        let late = 50 * MS + 100_000;
        assert_eq!(clock.wake_time(read(5, late, late), 4), MonoNs(90 * MS));
        // This device reports that it had more already.
        assert_eq!(clock.wake_time(read(9, 91 * MS, 89 * MS), 4), MonoNs(129 * MS));
        // A block that should be complete already is not waited for.
        assert_eq!(clock.wake_time(read(10, 130 * MS, 99 * MS), 1), MonoNs(109 * MS));
    }

    /// Simulates a card that reports periods of 10 ms and is fast by `ppm`, and a thread that reads it in steps of 4
    /// and wakes late by `late(turn)` nanoseconds. Returns how many times the thread saw a period end, the median
    /// lateness of its blocks, and the longest run of blocks that were late by more than 0.5 ms.
    fn simulate(ppm: i64, mut late: impl FnMut(u64) -> u64) -> (u64, u64, u64) {
        let mut clock = schedule().clock;
        let complete = |block: u64| (block as i64 * (10_000_000 - 10 * ppm)) as u64;
        let (mut block, mut called, mut now) = (1, 0, complete(1));
        let (mut seen, mut delays, mut run, mut longest) = (0, Vec::new(), 0, 0);
        for turn in 0..1000 {
            let wake = clock.wake_time(read(block, called, now), 4).0.max(now) + late(turn);
            block += 4;
            seen += u64::from(wake < complete(block));
            // A read waits for a block that is not complete.
            (called, now) = (wake, complete(block).max(wake) + 30_000);
            let delay = now - complete(block);
            delays.push(delay);
            run = if delay > MS / 2 { run + 1 } else { 0 };
            longest = longest.max(run);
        }
        delays.sort_unstable();
        (seen, delays[500], longest)
    }

    #[test]
    fn the_thread_wakes_early_once_a_second_to_see_a_block_end() {
        // A fast card's blocks are complete when the thread wakes, but for once a second.
        let (seen, median, longest) = simulate(200, |_| 100_000);
        assert!((30..=45).contains(&seen), "{seen} times in 40 s");
        assert!(median < MS * 3 / 10 && longest == 0, "{median} ns, {longest} in a row");
        // A slow card's blocks are waited for.
        let (seen, median, _) = simulate(-300, |_| 0);
        assert!(seen > 800 && median < MS / 10, "{seen} times in 40 s, {median} ns");
    }

    #[test]
    fn a_thread_that_misses_block_ends_wakes_earlier_until_it_sees_one() {
        // One wake-up of 20 is 7 ms late, also when the thread wants to see a block end.
        let mut random = 1u64;
        let (seen, median, longest) = simulate(200, |_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if (random >> 40) % 20 == 0 { 7 * MS } else { 100_000 }
        });
        assert!((30..=80).contains(&seen), "{seen} times in 40 s");
        assert!(median < MS * 3 / 10, "{median} ns");
        assert!(longest <= 5, "{longest} in a row");
    }
}
