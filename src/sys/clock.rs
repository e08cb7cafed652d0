//! Clocks: CLOCK_MONOTONIC, the CPU time of a thread, and the UTC offset of the local time zone.

#![allow(unsafe_code)]

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Returns CLOCK_MONOTONIC in nanoseconds. It never jumps, and it stops while the machine is suspended.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Returns the CPU time that the calling thread has used.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Returns the seconds by which this machine's local time is ahead of UTC at `time` (seconds since 1970); 0 if the C
/// library cannot tell.
// time_t and tm_gmtoff have 32 bits on armhf.
#[allow(clippy::useless_conversion)]
pub fn utc_offset(time: i64) -> i64 {
    let time = time as libc::time_t;
    // SAFETY: `tm` is a struct of integers and a pointer that may be null, for which all zeros is a valid value.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that outlive the call. localtime_r reads TZ from the environment, which
    // nothing in this program changes.
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
    fn the_local_time_zone_is_a_real_one() {
        // All zones of today are multiples of 15 minutes. The test does not know the zone of this machine.
        let offset = utc_offset(1_763_640_000);
        assert!(offset.abs() <= 14 * 3600 && offset % 900 == 0, "{offset}");
    }
}
