//! The time to the next try.

use std::time::{Duration, Instant};

/// The first and the longest pause after a failure.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// The pause between two tries while the mount is in use, and the time for which it is that short. A server holds a
/// connection that has died for its source timeout, which is 10 s by default.
const IN_USE: Duration = Duration::from_secs(2);
const IN_USE_TIME: Duration = Duration::from_secs(30);
/// The pause after a refusal that only a person can end.
const REFUSED: Duration = Duration::from_secs(60);
/// The time for which a server that nothing reaches is tried every second: a network that was away comes back without a word,
/// and packets that reach nobody cost nobody anything.
const SILENT_TIME: Duration = Duration::from_secs(300);
/// The time on the air after which the pauses begin anew.
const GOOD_TIME: Duration = Duration::from_secs(30);

/// The kind of an end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Something that passes.
    Passing,
    /// Nothing reaches the server, or the server's name cannot be looked up.
    Silent,
    /// The mount has another source.
    InUse,
    /// Somebody has to change something.
    Lasting,
    /// The reason is known and gone: another format, another method.
    None,
}

/// The pauses of one push.
#[derive(Default)]
pub(super) struct Backoff {
    /// The last pause of a failure that passes; zero before the first.
    last: Duration,
    in_use_since: Option<Instant>,
    silent_since: Option<Instant>,
}

impl Backoff {
    /// Returns the pause after a failure at `now`, after `on_the_air`. `random` is a number of uniform distribution: ten
    /// boards that lose one server do not come back in step.
    pub(super) fn pause(
        &mut self,
        failure: Failure,
        on_the_air: Duration,
        now: Instant,
        random: u32,
    ) -> Duration {
        if on_the_air >= GOOD_TIME {
            *self = Backoff::default();
        }
        if failure != Failure::InUse {
            self.in_use_since = None;
        }
        if failure != Failure::Silent {
            self.silent_since = None;
        }
        match failure {
            Failure::Silent => {
                let since = *self.silent_since.get_or_insert(now);
                match now.saturating_duration_since(since) < SILENT_TIME {
                    true => FIRST,
                    false => self.longer(random),
                }
            }
            Failure::None => Duration::ZERO,
            Failure::Lasting => spread(REFUSED, random),
            Failure::InUse => {
                let since = *self.in_use_since.get_or_insert(now);
                match now.saturating_duration_since(since) < IN_USE_TIME {
                    true => IN_USE,
                    false => self.longer(random),
                }
            }
            Failure::Passing => self.longer(random),
        }
    }

    fn longer(&mut self, random: u32) -> Duration {
        self.last = (self.last * 2).clamp(FIRST, LONGEST);
        spread(self.last, random)
    }
}

/// Returns 80 to 120 % of a time.
fn spread(time: Duration, random: u32) -> Duration {
    time.mul_f64(0.8 + 0.4 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: u32 = u32::MAX / 2;

    fn seconds(pause: Duration) -> u64 {
        pause.as_secs_f64().round() as u64
    }

    #[test]
    fn pauses_double_up_to_half_a_minute_and_begin_anew_after_a_good_time() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let mut pause = |on_the_air| {
            seconds(backoff.pause(Failure::Passing, Duration::from_secs(on_the_air), now, MIDDLE))
        };
        let pauses: Vec<u64> = (0..7).map(|_| pause(0)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!((pause(29), pause(30), pause(0)), (30, 1, 2));
    }

    #[test]
    fn pauses_differ_by_a_fifth() {
        let pause =
            |random| Backoff::default().pause(Failure::Lasting, Duration::ZERO, Instant::now(), random);
        assert_eq!((seconds(pause(0)), seconds(pause(MIDDLE)), seconds(pause(u32::MAX))), (48, 60, 72));
    }

    #[test]
    fn a_mount_in_use_is_asked_for_every_two_seconds_for_half_a_minute() {
        let (mut backoff, began) = (Backoff::default(), Instant::now());
        let mut pause = |after| {
            let now = began + Duration::from_secs(after);
            seconds(backoff.pause(Failure::InUse, Duration::ZERO, now, MIDDLE))
        };
        assert_eq!((pause(0), pause(2), pause(29)), (2, 2, 2));
        assert_eq!((pause(30), pause(31)), (1, 2));
    }

    #[test]
    fn a_server_that_nothing_reaches_is_tried_every_second_for_five_minutes() {
        let (mut backoff, began) = (Backoff::default(), Instant::now());
        let mut pause = |after| {
            let now = began + Duration::from_secs(after);
            seconds(backoff.pause(Failure::Silent, Duration::ZERO, now, MIDDLE))
        };
        assert_eq!((pause(0), pause(60), pause(299)), (1, 1, 1));
        assert_eq!((pause(300), pause(302), pause(304)), (1, 2, 4));
    }

    #[test]
    fn a_change_of_format_costs_no_pause() {
        let pause = Backoff::default().pause(Failure::None, Duration::ZERO, Instant::now(), 0);
        assert_eq!(pause, Duration::ZERO);
    }
}
