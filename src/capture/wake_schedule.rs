//! How long the capture thread can stay away from its source.
//!
//! What a block costs on a small board is mostly the waking for it. Listeners who are served every 40 ms need the sound
//! then and not before; with periods of 10 ms three wake-ups of four are for nothing. So the thread sleeps until the
//! block that somebody waits for is there, and then takes all that has come in.
//!
//! To be back in time it has to know when a block is complete. Some devices tell how much of the next one they have
//! already; others only move on by whole periods, and whoever comes late to one of those cannot see by how much. So the
//! thread goes by the rate for a second, and then comes a little too early once, to be there when it happens. The
//! figure for the drift of the card's clock lives on these moments too.

use std::time::Duration;

use crate::inputs::SourceInfo;
use crate::media::ring::Writer;

/// The longest that it is away, or a quarter of what the source keeps for a late reader.
const LONGEST: Duration = Duration::from_millis(50);
/// Who has not waited for sound for so long does not listen any more. The longest interval at which a listener
/// can be served is half of this.
const UNHEARD: Duration = Duration::from_secs(2);
/// So much too early, and twice as much each time that it was too late all the same.
const EARLY: Duration = Duration::from_millis(1);
/// So long it goes by the rate alone. A card's clock that is wrong by 200 ppm is 0.2 ms off then.
const TRUSTED: Duration = Duration::from_secs(1);
/// A read that takes longer than this has waited for the end of its block.
const WAITED: Duration = Duration::from_micros(150);

/// The times at which blocks of a source are complete, and who waits for them.
pub(super) struct WakeSchedule {
    rate: u32,
    block_frames: u32,
    /// The longest nap and [`UNHEARD`], in blocks.
    longest: u32,
    unheard: u64,
    /// There must be so many frames before it looks again who waits.
    due: u64,
    /// So many frames were complete at that time (CLOCK_MONOTONIC, ns).
    known: Option<(u64, u64)>,
    /// How much too early it comes the next time that it wants to see a block end.
    early: Duration,
}

impl WakeSchedule {
    /// For a source from its beginning or after an overrun, from where on its frames are counted.
    pub(super) fn new(info: &SourceInfo) -> WakeSchedule {
        let (rate, block_frames) = (info.rate, info.block_frames);
        let blocks = |time: Duration| {
            time.as_nanos() as u64 * u64::from(rate) / 1_000_000_000 / u64::from(block_frames.max(1))
        };
        WakeSchedule {
            rate,
            block_frames,
            longest: blocks(LONGEST.min(info.buffer() / 4)) as u32,
            unheard: blocks(UNHEARD),
            due: 0,
            known: None,
            early: EARLY,
        }
    }

    /// For how many blocks to stay away and how long that is, after `frames` frames, where the last of them were asked
    /// for at `asked` and captured at `captured_at`, and it is `now` (all CLOCK_MONOTONIC, ns).
    pub(super) fn after(
        &mut self,
        frames: u64,
        writer: &Writer,
        asked: u64,
        captured_at: u64,
        now: u64,
    ) -> Option<(u32, Duration)> {
        if frames < self.due {
            return None;
        }
        let blocks = match writer.blocks_until_waiter() {
            _ if writer.blocks_since_last_wait() > self.unheard => self.longest,
            // It is waited for in read(), or may be.
            None | Some(0) => 1,
            Some(others) => self.longest.min(others + 1),
        };
        self.due = frames + u64::from(blocks) * u64::from(self.block_frames);
        (blocks > 1).then(|| (blocks, self.until(blocks, frames, asked, captured_at, now)))
    }

    /// How long it is until `blocks` more are there. Now and then a little less.
    fn until(&mut self, blocks: u32, frames: u64, asked: u64, captured_at: u64, now: u64) -> Duration {
        let block = Duration::from_nanos(self.nanos(self.block_frames.into()));
        let waited = captured_at > asked + WAITED.as_nanos() as u64;
        let (known, at) = match self.known {
            // Sooner than thought is more exact, later is one's own lateness.
            Some(known) if !waited && captured_at >= self.time_of(known, frames) => known,
            _ => (frames, captured_at),
        };
        if waited {
            (self.known, self.early) = (Some((known, at)), EARLY);
        }
        let wanted = frames + u64::from(blocks) * u64::from(self.block_frames);
        let mut end = self.time_of((known, at), wanted);
        if self.known.is_none() || end.saturating_sub(at) > TRUSTED.as_nanos() as u64 {
            end = end.saturating_sub(self.early.as_nanos() as u64);
            self.early = (self.early * 2).min(block);
            self.known = None;
        } else {
            self.known = Some((known, at));
        }
        Duration::from_nanos(end.saturating_sub(now))
    }

    fn time_of(&self, (known, at): (u64, u64), frames: u64) -> u64 {
        at + self.nanos(frames.saturating_sub(known))
    }

    fn nanos(&self, frames: u64) -> u64 {
        frames * 1_000_000_000 / u64::from(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::format::SourceSample;
    use crate::media::format::{SampleFormat, StreamFormat};
    use crate::media::ring;

    const MS: u64 = 1_000_000;

    /// Blocks of 10 ms.
    fn nap() -> WakeSchedule {
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

    #[test]
    fn it_stays_away_until_the_block_that_somebody_waits_for() {
        let format = StreamFormat { rate: 48_000, channels: 2, sample: SampleFormat::S16 };
        let (mut writer, ring) = ring::new(format, 480, Duration::from_secs(1)).expect("memory");
        let mut nap = nap();
        let mut after = |block: u64, writer: &Writer| {
            nap.after(block * 480, writer, 0, block * 10 * MS, block * 10 * MS).map(|(blocks, _)| blocks)
        };
        fn published(writer: &mut Writer, blocks: u64) -> &Writer {
            (0..blocks).for_each(|_| writer.publish(&[0; 480 * 4], 0));
            writer
        }
        // Who was served a moment ago has not said yet when it wants to be served again.
        assert_eq!(after(1, published(&mut writer, 1)), None);
        ring.reader(0).register_next_wait(5);
        assert_eq!(after(2, published(&mut writer, 1)), Some(4));
        // Until it is there it does not look again.
        assert_eq!(after(3, published(&mut writer, 1)), None);
        ring.reader(0).register_next_wait(6);
        assert_eq!(after(6, published(&mut writer, 3)), None, "the next one is wanted");
        // For one who is served seldom it comes in between, and for nobody too.
        ring.reader(0).wait(20, Duration::ZERO);
        assert_eq!(after(7, published(&mut writer, 1)), Some(5));
        assert_eq!(after(221, published(&mut writer, 214)), Some(5));
    }

    #[test]
    fn it_is_back_when_the_block_is_complete() {
        let mut nap = nap();
        // It saw this block end.
        assert_eq!(nap.until(4, 480, 0, 10 * MS, 10 * MS + 50_000), Duration::from_micros(39_950));
        // It was 0.1 ms late then, and the device does not tell.
        let late = 50 * MS + 100_000;
        assert_eq!(nap.until(4, 5 * 480, late, late, late), Duration::from_micros(39_900));
        // This one tells that there was more already.
        assert_eq!(nap.until(4, 9 * 480, 91 * MS, 89 * MS, 91 * MS), Duration::from_millis(38));
        // What should be there by now is not waited for.
        assert_eq!(nap.until(1, 10 * 480, 130 * MS, 99 * MS, 130 * MS), Duration::ZERO);
    }

    /// A card that moves on by periods of 10 ms and is fast by so many ppm; a thread that reads it in steps of 4 and is
    /// late each time by what `late` says. How often it came early enough to see a period end, the median lateness of
    /// the blocks that it takes, and the longest row of those that were late by more than 0.5 ms; all in ns.
    fn taken(ppm: i64, mut late: impl FnMut(u64) -> u64) -> (u64, u64, u64) {
        let mut nap = nap();
        let complete = |block: u64| (block as i64 * (10_000_000 - 10 * ppm)) as u64;
        let (mut block, mut asked, mut now) = (1, 0, complete(1));
        let (mut seen, mut delays, mut row, mut longest) = (0, Vec::new(), 0, 0);
        for turn in 0..1000 {
            let back = now + nap.until(4, block * 480, asked, now, now).as_nanos() as u64 + late(turn);
            block += 4;
            seen += u64::from(back < complete(block));
            // What is not there yet is waited for.
            (asked, now) = (back, complete(block).max(back) + 30_000);
            let delay = now - complete(block);
            delays.push(delay);
            row = if delay > MS / 2 { row + 1 } else { 0 };
            longest = longest.max(row);
        }
        delays.sort_unstable();
        (seen, delays[500], longest)
    }

    #[test]
    fn now_and_then_it_comes_early_to_see_when_it_happens() {
        // A fast card's blocks are there when it comes back, but for once a second.
        let (seen, median, longest) = taken(200, |_| 100_000);
        assert!((30..=45).contains(&seen), "{seen} times in 40 s");
        assert!(median < MS * 3 / 10 && longest == 0, "{median} ns, {longest} in a row");
        // A slow card's are waited for.
        let (seen, median, _) = taken(-300, |_| 0);
        assert!(seen > 800 && median < MS / 10, "{seen} times in 40 s, {median} ns");
    }

    #[test]
    fn who_is_late_when_it_matters_comes_earlier_until_it_sees_a_block_end() {
        // It is 7 ms late one time of 20, and so at times when it wanted to see one end.
        let mut random = 1u64;
        let (seen, median, longest) = taken(200, |_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if (random >> 40) % 20 == 0 { 7 * MS } else { 100_000 }
        });
        assert!((30..=80).contains(&seen), "{seen} times in 40 s");
        assert!(median < MS * 3 / 10, "{median} ns");
        assert!(longest <= 5, "{longest} in a row");
    }
}
