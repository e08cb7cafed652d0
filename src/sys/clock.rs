//! Clocks: CLOCK_MONOTONIC, the CPU time of a thread, the UTC offset of the local time zone.

#![allow(unsafe_code)]

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds: never jumps, stands still in suspend.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How long the calling thread has been running on a processor.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How many seconds this machine's own clock is ahead of UTC at that time (seconds since 1970).
// It has 32 bits on armhf.
#[allow(clippy::useless_conversion)]
pub fn utc_offset(time: i64) -> i64 {
    let time = time as libc::time_t;
    // SAFETY: tm is a struct of integers and a pointer that may be null: all zeros is a value of it.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that live until after the call. It reads TZ from the environment,
    // which nothing in this program changes.
    match unsafe { libc::localtime_r(&raw const time, &raw mut local) }.is_null() {
        true => 0,
        false => local.tm_gmtoff as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_forward() {
        let before = monotonic_ns();
        std::thread::yield_now();
        assert!(monotonic_ns() > before);
    }

    #[test]
    fn the_machines_clock_is_within_a_day_of_utc() {
        // Zones are whole quarters of an hour today; the machine's own is not known here.
        let offset = utc_offset(1_763_640_000);
        assert!(offset.abs() <= 14 * 3600 && offset % 900 == 0, "{offset}");
    }
}
