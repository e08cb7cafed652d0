//! Dates as HTTP and the names of files have them.

use std::fmt;
use std::time::{Duration, SystemTime};

/// Seconds since 1970 as an IMF-fixdate (RFC 9110 §5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) struct HttpDate(i64);

impl HttpDate {
    /// Returns the time of the clock that people set, which is the one that HTTP wants. Nothing is paced by it.
    pub(crate) fn now() -> HttpDate {
        HttpDate(unix_time_before(Duration::ZERO))
    }
}

impl fmt::Display for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 1 January 1970 was a Thursday.
        const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let Civil { year, month, day, hour, minute, second } = Civil::of(self.0);
        let week_day = DAYS[self.0.div_euclid(86_400).rem_euclid(7) as usize];
        let month = MONTHS[month as usize - 1];
        write!(f, "{week_day}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
    }
}

/// A date and time of the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// 1 to 12
    pub(crate) month: i64,
    /// 1 to 31
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
}

impl Civil {
    /// Returns the date and time of a number of seconds since 1970-01-01 00:00.
    pub(crate) fn of(seconds: i64) -> Civil {
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days to a date, in eras of 400 years that begin on a 1 March, so that the leap day comes last.
        let days = days + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (year, month) = (year + era * 400 + i64::from(month >= 10), (month + 2) % 12 + 1);
        Civil { year, month, day, hour: second / 3600, minute: second / 60 % 60, second: second % 60 }
    }
}

/// Returns the number of seconds from 1970 to now less `age`, by the clock that people set: for a name, never
/// for pacing.
pub(crate) fn unix_time_before(age: Duration) -> i64 {
    #[allow(clippy::disallowed_methods)]
    let then = SystemTime::now().checked_sub(age);
    let since = then.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.unwrap_or_default().as_secs() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_the_standard_says() {
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(HttpDate(seconds).to_string(), date);
        }
    }
}
