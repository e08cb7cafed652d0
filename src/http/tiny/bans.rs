//! Who is not let in for a while, and why.
//!
//! Whoever reads what others send cannot be quicker than they are: tiny_http makes requests of whatever comes, and
//! a connection is ended only when there are too many. One that comes again at once has more of them made. So the
//! address of each that is ended for this is kept out by the kernel (a filter on the listening socket), where it
//! costs next to nothing: for ten seconds at first, as others may share the address, and for longer each time.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The longest time, and that for what cannot be an accident.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);
/// The time for those who send too much, when they did not do that lately.
const FIRST: Duration = Duration::from_secs(10);
/// And so many times as long each time that they go on with it.
const FACTOR: u32 = 6;
/// What was so long ago, and as long as it lasted, was not lately.
const REMEMBERED: Duration = Duration::from_secs(60);
/// So many at once are kept out: the kernel goes through all of them for each packet.
const MOST: usize = 256;

/// How often each of many did something lately.
pub(crate) struct Often {
    most: usize,
    within: Duration,
    times: HashMap<IpAddr, VecDeque<Instant>>,
}

impl Often {
    pub(crate) fn new(most: usize, within: Duration) -> Often {
        Often { most, within, times: HashMap::new() }
    }

    /// Notes that somebody did it; whether that was too often.
    pub(crate) fn again(&mut self, who: IpAddr, now: Instant) -> bool {
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
    /// Whether it was in force when that was asked last.
    was_on: bool,
}

impl Ban {
    fn forgotten(&self) -> Instant {
        self.until + self.time.max(REMEMBERED)
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Bans(Vec<Ban>);

impl Bans {
    /// Keeps somebody out for so long; whether that is news.
    pub(crate) fn add(&mut self, who: IpAddr, time: Duration, now: Instant) -> bool {
        if self.has(who, now) {
            return false;
        }
        self.0.retain(|ban| ban.who != who);
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push(Ban { who, until: now + time, time, was_on: false });
        true
    }

    /// Keeps somebody out of whom a connection was ended because it sent too much, unless he is; for how long.
    pub(crate) fn strike(&mut self, who: IpAddr, now: Instant) -> Option<Duration> {
        let before = self.0.iter().find(|ban| ban.who == who).map(|ban| ban.time);
        let time = before.map_or(FIRST, |time| (time * FACTOR).min(LONGEST));
        self.add(who, time, now).then_some(time)
    }

    /// Whether somebody is kept out.
    pub(crate) fn has(&self, who: IpAddr, now: Instant) -> bool {
        self.0.iter().any(|ban| ban.who == who && now < ban.until)
    }

    /// Those who are kept out.
    pub(crate) fn current(&self, now: Instant) -> Vec<IpAddr> {
        self.0.iter().filter(|ban| now < ban.until).map(|ban| ban.who).collect()
    }

    /// Those who are kept out for the longest time.
    pub(crate) fn long(&self, now: Instant) -> Vec<IpAddr> {
        self.0.iter().filter(|ban| now < ban.until && ban.time == LONGEST).map(|ban| ban.who).collect()
    }

    /// When one of those who are kept out may come again.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        self.0.iter().map(|ban| ban.until).filter(|until| now < *until).min()
    }

    /// Whether others are kept out than when this was asked last. Forgets what was long ago.
    pub(crate) fn have_changed(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for ban in &mut self.0 {
            let is_on = now < ban.until;
            changed |= is_on != ban.was_on;
            ban.was_on = is_on;
        }
        self.0.retain(|ban| now < ban.forgotten());
        changed
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

    #[test]
    fn who_sends_too_much_again_and_again_is_kept_out_for_longer_each_time() {
        let (mut bans, mut now) = (Bans::default(), Instant::now());
        for seconds in [10, 60, 360, 2160, 3600, 3600] {
            let time = seconds * SECOND;
            assert_eq!(bans.strike(someone(1), now), Some(time));
            assert!(bans.have_changed(now) && !bans.have_changed(now), "once");
            assert_eq!(bans.current(now), [someone(1)]);
            assert_eq!(bans.next(now), Some(now + time));
            // What still comes in meanwhile does not count twice.
            assert_eq!(bans.strike(someone(1), now + SECOND / 2), None);
            now += time;
            assert!(bans.have_changed(now) && !bans.have_changed(now), "once");
            assert_eq!((bans.current(now), bans.next(now)), (vec![], None));
            now += 10 * SECOND;
        }
    }

    #[test]
    fn who_has_kept_away_begins_anew() {
        let (mut bans, now) = (Bans::default(), Instant::now());
        bans.strike(someone(1), now);
        let later = now + FIRST + REMEMBERED;
        bans.have_changed(later);
        assert_eq!(bans.strike(someone(1), later), Some(FIRST));
        assert_eq!(bans.strike(someone(2), later), Some(FIRST), "and so does everybody else");
    }

    #[test]
    fn of_too_many_the_first_one_is_let_in_again() {
        let (mut bans, now) = (Bans::default(), Instant::now());
        let number = |n: usize| IpAddr::from(Ipv4Addr::from_bits(n as u32));
        assert!((0..=MOST).all(|n| bans.add(number(n), LONGEST, now)));
        assert_eq!((bans.current(now).len(), bans.has(number(0), now)), (MOST, false));
        assert!(!bans.add(number(1), LONGEST, now), "no news");
        bans.strike(number(MOST + 1), now);
        assert_eq!((bans.current(now).len(), bans.long(now).len()), (MOST, MOST - 1));
    }

    #[test]
    fn too_often_is_more_than_so_often_within_that_time() {
        let (mut often, now) = (Often::new(3, 10 * SECOND), Instant::now());
        assert!((0..3).all(|n| !often.again(someone(1), now + n * SECOND)));
        assert!(often.again(someone(1), now + 9 * SECOND));
        assert!(!often.again(someone(2), now + 9 * SECOND));
        assert!(!often.again(someone(1), now + 10 * SECOND));
    }
}
