//! Futex waits and wake-ups (futex(2)) between the threads of this process.
//!
//! loom and Miri know no futex: there a wait yields once and reports that its time is over, and a wake-up does nothing.

#[cfg(any(loom, miri))]
pub(crate) use model::{Deadline, wait, wait_for_bits, wake_bits, wake_one};
#[cfg(not(any(loom, miri)))]
pub(crate) use system::{Deadline, wait, wait_for_bits, wake_bits, wake_one};

#[cfg(not(any(loom, miri)))]
mod system {
    use std::num::NonZeroU32;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use rustix::io::Errno;
    use rustix::thread::futex::{self, Flags};
    use rustix::time::Timespec;

    use crate::sys::clock;

    /// A time on CLOCK_MONOTONIC at which a wait ends.
    pub(crate) struct Deadline(Timespec);

    impl Deadline {
        /// Returns the time that is `timeout` from now.
        pub(crate) fn after(timeout: Duration) -> Deadline {
            let now = Duration::from_nanos(clock::monotonic_ns());
            Deadline(timespec(now.saturating_add(timeout)))
        }
    }

    /// Sleeps while `word` is `expected`, until [`wake_one`] on the same word or for `timeout`. May return early.
    pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Duration) {
        // All outcomes are the same to the caller: woken, another value, time over, a signal.
        let _ = futex::wait(word, Flags::PRIVATE, expected, Some(&timespec(timeout)));
    }

    /// Wakes one thread that sleeps in [`wait`] on `word`.
    pub(crate) fn wake_one(word: &AtomicU32) {
        // Fails only for a bad address.
        let _ = futex::wake(word, Flags::PRIVATE, 1);
    }

    /// Sleeps while `word` is `expected`, until [`wake_bits`] on the same word with a bit that is set in `bits` (not
    /// 0), or until `deadline`. May return early. Returns `false` if the deadline has passed.
    pub(crate) fn wait_for_bits(word: &AtomicU32, expected: u32, bits: u32, deadline: &Deadline) -> bool {
        let bits = NonZeroU32::new(bits).unwrap_or(NonZeroU32::MAX);
        // FUTEX_WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC.
        let result = futex::wait_bitset(word, Flags::PRIVATE, expected, Some(&deadline.0), bits);
        result != Err(Errno::TIMEDOUT)
    }

    /// Wakes all threads that sleep in [`wait_for_bits`] on `word` with a bit that is set in `bits`.
    pub(crate) fn wake_bits(word: &AtomicU32, bits: u32) {
        let Some(bits) = NonZeroU32::new(bits) else { return };
        // Fails only for a bad address.
        let _ = futex::wake_bitset(word, Flags::PRIVATE, i32::MAX as u32, bits);
    }

    fn timespec(time: Duration) -> Timespec {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Timespec { tv_sec: seconds, tv_nsec: time.subsec_nanos().into() }
    }
}

#[cfg(any(loom, miri))]
mod model {
    use std::time::Duration;

    #[cfg(loom)]
    use loom::{sync::atomic::AtomicU32, thread::yield_now};
    #[cfg(not(loom))]
    use std::{sync::atomic::AtomicU32, thread::yield_now};

    pub(crate) struct Deadline;

    impl Deadline {
        pub(crate) fn after(_: Duration) -> Deadline {
            Deadline
        }
    }

    pub(crate) fn wait(_: &AtomicU32, _: u32, _: Duration) {
        yield_now();
    }

    pub(crate) fn wake_one(_: &AtomicU32) {}

    pub(crate) fn wait_for_bits(_: &AtomicU32, _: u32, _: u32, _: &Deadline) -> bool {
        yield_now();
        false
    }

    pub(crate) fn wake_bits(_: &AtomicU32, _: u32) {}
}

#[cfg(all(test, not(any(loom, miri))))]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_wait_for_another_value_or_a_passed_deadline_returns_at_once() {
        let word = AtomicU32::new(1);
        let began = Instant::now();
        wait(&word, 0, LONG);
        assert!(wait_for_bits(&word, 0, 1, &Deadline::after(LONG)));
        assert!(!wait_for_bits(&word, 1, 1, &Deadline::after(Duration::ZERO)));
        assert!(began.elapsed() < LONG / 2);
    }

    #[test]
    fn a_wake_up_reaches_only_waits_for_one_of_its_bits() {
        let word = AtomicU32::new(0);
        let began = Instant::now();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| wait_for_bits(&word, 0, 0b10, &Deadline::after(LONG)));
            // The other bit wakes nobody. The thread may not sleep yet, so the right bit is sent until it is woken.
            wake_bits(&word, 0b01);
            while !waiter.is_finished() {
                wake_bits(&word, 0b110);
                thread::sleep(Duration::from_millis(1));
            }
            assert!(waiter.join().expect("the waiter does not panic"));
            assert!(!wait_for_bits(&word, 0, 1, &Deadline::after(Duration::from_millis(20))));
        });
        assert!(began.elapsed() < LONG / 2);
    }

    #[test]
    fn a_changed_word_and_a_wake_up_end_a_wait() {
        let word = AtomicU32::new(0);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                while word.load(Ordering::Acquire) == 0 {
                    wait(&word, 0, LONG);
                }
            });
            word.store(1, Ordering::Release);
            wake_one(&word);
            waiter.join().expect("the waiter does not panic");
        });
    }
}
