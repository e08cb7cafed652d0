//! Who is not let in for a while, and why.
//!
//! Whoever reads what others send cannot be quicker than they are: tiny_http makes requests of whatever comes, and
//! a connection is ended only when there are too many. One that comes again at once has more of them made. So an
//! address of which that is so again and again is kept out by the kernel (a filter on the listening socket), where
//! it costs next to nothing: for seconds at first, as others may share the address, and for longer each time.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The longest time, and that for what cannot be an accident.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);
/// The time for those who send too much, when they did not do that lately.
const FIRST: Duration = Duration::from_secs(10);
/// And so many times as long each time that they go on with it.
const FACTOR: u32 = 6;
/// Of one address, so many connections may be ended because they sent too much
const MOST_STRIKES: usize = 10;
/// within this.
const STRIKES_WITHIN: Duration = Duration::from_secs(10);
/// So many at once are kept out: the kernel goes through all of them for each packet.
const MOST: usize = 64;

/// How often each of many did something lately.
pub(super) struct Often {
    most: usize,
    within: Duration,
    times: HashMap<IpAddr, VecDeque<Instant>>,
}

impl Often {
    pub(super) fn new(most: usize, within: Duration) -> Often {
        Often { most, within, times: HashMap::new() }
    }

    /// Notes that somebody did it; whether that was too often.
    pub(super) fn again(&mut self, who: IpAddr, now: Instant) -> bool {
        self.times.retain(|_, times| {
            times.retain(|time| now < *time + self.within);
            !times.is_empty()
        });
        let times = self.times.entry(who).or_default();
        let too_often = times.len() >= self.most;
        if !too_often {
            times.push_back(now);
        }
        too_often
    }
}

/// One who is kept out, or was lately.
struct Ban {
    who: IpAddr,
    until: Instant,
    time: Duration,
    /// It is known to be over.
    is_over: bool,
}

impl Ban {
    /// It is remembered for as long again.
    fn forgotten(&self) -> Instant {
        self.until + self.time
    }
}

/// All of them.
pub(super) struct Bans {
    bans: Vec<Ban>,
    strikes: Often,
}

impl Default for Bans {
    fn default() -> Bans {
        Bans { bans: Vec::new(), strikes: Often::new(MOST_STRIKES, STRIKES_WITHIN) }
    }
}

impl Bans {
    /// Keeps somebody out for so long; whether that is news.
    pub(super) fn add(&mut self, who: IpAddr, time: Duration, now: Instant) -> bool {
        if self.bans.iter().any(|ban| ban.who == who && now < ban.until) {
            return false;
        }
        self.bans.retain(|ban| ban.who != who);
        if self.bans.len() == MOST {
            self.bans.remove(0);
        }
        self.bans.push(Ban { who, until: now + time, time, is_over: false });
        true
    }

    /// Notes that a connection of somebody was ended because it sent too much; for how long he is kept out from now
    /// on, if he is.
    pub(super) fn strike(&mut self, who: IpAddr, now: Instant) -> Option<Duration> {
        if !self.strikes.again(who, now) {
            return None;
        }
        let before = self.bans.iter().find(|ban| ban.who == who).map(|ban| ban.time);
        let time = before.map_or(FIRST, |time| (time * FACTOR).min(LONGEST));
        self.add(who, time, now).then_some(time)
    }

    /// Those who are kept out.
    pub(super) fn current(&self, now: Instant) -> Vec<IpAddr> {
        self.bans.iter().filter(|ban| now < ban.until).map(|ban| ban.who).collect()
    }

    /// When one of those who are kept out may come again.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.bans.iter().map(|ban| ban.until).filter(|until| now < *until).min()
    }

    /// Lets those in again whose time is over, and forgets what was long ago; whether there are any.
    pub(super) fn forgive(&mut self, now: Instant) -> bool {
        let mut are_any = false;
        for ban in self.bans.iter_mut().filter(|ban| !ban.is_over && now >= ban.until) {
            (ban.is_over, are_any) = (true, true);
        }
        self.bans.retain(|ban| now < ban.forgotten());
        are_any
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn someone(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    /// As many strikes as it takes, at that moment.
    fn strike_out(bans: &mut Bans, now: Instant) -> Duration {
        assert!((0..MOST_STRIKES).all(|_| bans.strike(someone(1), now).is_none()));
        bans.strike(someone(1), now).expect("one too many")
    }

    #[test]
    fn who_sends_too_much_again_and_again_is_kept_out_for_longer_each_time() {
        let (mut bans, mut now) = (Bans::default(), Instant::now());
        for seconds in [10, 60, 360, 2160, 3600, 3600] {
            let time = strike_out(&mut bans, now);
            assert_eq!(time, seconds * SECOND);
            assert_eq!(bans.current(now), [someone(1)]);
            assert_eq!(bans.next(now), Some(now + time));
            // What still comes in meanwhile does not count twice.
            assert_eq!(bans.strike(someone(1), now + SECOND), None);
            now += time;
            assert!(bans.forgive(now) && !bans.forgive(now), "once");
            assert_eq!((bans.current(now), bans.next(now)), (vec![], None));
            now += 10 * SECOND;
        }
    }

    #[test]
    fn who_keeps_away_for_as_long_again_begins_anew() {
        let (mut bans, now) = (Bans::default(), Instant::now());
        strike_out(&mut bans, now);
        let later = now + 2 * FIRST;
        bans.forgive(later);
        assert_eq!(strike_out(&mut bans, later), FIRST);
    }

    #[test]
    fn a_few_now_and_then_are_an_accident() {
        let (mut bans, now) = (Bans::default(), Instant::now());
        assert!((0..1000).all(|n| bans.strike(someone(1), now + n * SECOND * 11 / 10).is_none()));
        assert!((2..200).all(|n| bans.strike(someone(n), now).is_none()), "of others");
    }

    #[test]
    fn of_too_many_the_first_one_is_let_in_again() {
        let (mut bans, now) = (Bans::default(), Instant::now());
        for number in 0..=MOST as u8 {
            assert!(bans.add(someone(number), LONGEST, now));
        }
        let current = bans.current(now);
        assert_eq!((current.len(), current.contains(&someone(0))), (MOST, false));
        assert!(!bans.add(someone(1), LONGEST, now), "no news");
    }
}
