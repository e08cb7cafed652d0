//! How long the capture thread can stay away from its source.
//!
//! What a block costs on a small board is mostly the waking for it. Listeners who are served every 40 ms need the sound
//! then and not before; with periods of 10 ms three wake-ups of four are for nothing. So the thread sleeps until the
//! block that somebody waits for is there, and then takes all that has come in.
//!
//! To be back in time it has to know when a block is complete. Some devices tell how much of the next one they have
//! already; others only move on by whole periods, and whoever comes late to one of those cannot see by how much. So the
//! thread goes by the rate for a second, and then comes a little too early once, to be there when it happens.

use std::time::Duration;

/// So much too early.
const EARLY: Duration = Duration::from_millis(1);
/// So long it goes by the rate alone. A card's clock that is wrong by 200 ppm is 0.2 ms off then.
const TRUSTED: Duration = Duration::from_secs(1);

/// The times at which blocks of a source are complete.
pub(super) struct Nap {
    rate: u32,
    block_frames: u32,
    /// So many frames were there at that time (CLOCK_MONOTONIC, ns).
    known: Option<(u64, u64)>,
}

impl Nap {
    pub(super) fn new(rate: u32, block_frames: u32) -> Nap {
        Nap { rate, block_frames, known: None }
    }

    /// How long it is until `blocks` more are there, where `frames` were captured at `captured_at` and it is `now`
    /// (both CLOCK_MONOTONIC, ns). Now and then a little less.
    pub(super) fn until(&mut self, blocks: u32, frames: u64, captured_at: u64, now: u64) -> Duration {
        let (known, at) = match self.known {
            // Sooner than thought is more exact, later is one's own lateness.
            Some(known) if captured_at >= self.time_of(known, frames) => known,
            _ => (frames, captured_at),
        };
        self.known = Some((known, at));
        let wanted = frames + u64::from(blocks) * u64::from(self.block_frames);
        let mut end = self.time_of((known, at), wanted);
        if end.saturating_sub(at) > TRUSTED.as_nanos() as u64 {
            end = end.saturating_sub(EARLY.as_nanos() as u64);
            self.known = None;
        }
        Duration::from_nanos(end.saturating_sub(now))
    }

    fn time_of(&self, (known, at): (u64, u64), frames: u64) -> u64 {
        at + frames.saturating_sub(known) * 1_000_000_000 / u64::from(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Blocks of 10 ms.
    fn nap() -> Nap {
        Nap::new(48_000, 480)
    }

    #[test]
    fn it_is_back_when_the_block_is_complete() {
        let mut nap = nap();
        assert_eq!(nap.until(4, 480, 10 * MS, 10 * MS + 50_000), Duration::from_micros(39_950));
        // It was 0.1 ms late then, and the device does not tell.
        assert_eq!(
            nap.until(4, 5 * 480, 50 * MS + 100_000, 50 * MS + 100_000),
            Duration::from_micros(39_900)
        );
        // This one tells that there was more already.
        assert_eq!(nap.until(4, 9 * 480, 89 * MS, 91 * MS), Duration::from_millis(38));
        // What should be there by now is not waited for.
        assert_eq!(nap.until(1, 10 * 480, 99 * MS, 130 * MS), Duration::ZERO);
    }

    #[test]
    fn now_and_then_it_comes_early_to_see_when_it_happens() {
        let mut nap = nap();
        // A card that is slow by 200 ppm and moves on by periods; the thread is always 0.1 ms late.
        let complete = |block: u64| 10 * MS * block + 2000 * block;
        let (mut block, mut now, mut early, mut latest) = (1, complete(1), 0, 0);
        for _ in 0..1000 {
            let captured_at = now;
            let back = now + nap.until(4, block * 480, captured_at, now).as_nanos() as u64;
            block += 4;
            early += u64::from(back < complete(block) - MS / 2);
            // What is not there yet is waited for.
            now = complete(block).max(back + MS / 10);
            latest = latest.max(now - complete(block));
        }
        assert!((30..=45).contains(&early), "{early} times in 40 s");
        assert!(latest <= MS / 10, "{latest} ns late");
    }
}
