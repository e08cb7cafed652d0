//! Stalls of the machine: times in which the host gave a virtual machine no processor. Sound that is late at such a time
//! is not the server's fault.
//!
//! A real-time thread on each core sleeps and measures the delay of its wake-up. The measured programs have lower
//! priorities and cannot delay the thread; only the kernel or the host can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use wavecast::sys::limits;

use crate::crowd::Gap;

/// The time of one sleep. A stall that begins and ends during a sleep is not seen.
const SLEEP: Duration = Duration::from_millis(20);
/// The shortest stall that is reported.
const LONG: Duration = Duration::from_millis(10);
/// The real-time priority of the threads, above the priorities of the measured programs.
const PRIORITY: u8 = 80;

/// The threads that measure stalls.
pub(crate) struct Stalls {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Option<Vec<Gap>>>>,
}

impl Stalls {
    /// Starts one thread per core.
    pub(crate) fn start() -> Stalls {
        let over = Arc::<AtomicBool>::default();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..cores)
            .map(|core| {
                let over = Arc::clone(&over);
                thread::spawn(move || {
                    let mut only = CpuSet::new();
                    only.set(core);
                    let may = sched_setaffinity(None, &only).is_ok() && limits::realtime(PRIORITY).is_ok();
                    let mut stalls = Vec::new();
                    while may && !over.load(Ordering::Relaxed) {
                        let due = Instant::now() + SLEEP;
                        thread::sleep(SLEEP);
                        let stall = Gap { began: due, ended: Instant::now() };
                        if stall.length() >= LONG {
                            stalls.push(stall);
                        }
                    }
                    may.then_some(stalls)
                })
            })
            .collect();
        Stalls { over, threads }
    }

    /// Stops the threads, and returns all stalls of at least 10 ms, of all cores. `None` where the process may not have
    /// real-time threads.
    pub(crate) fn end(self) -> Option<Vec<Gap>> {
        self.over.store(true, Ordering::Relaxed);
        let each: Option<Vec<Vec<Gap>>> =
            self.threads.into_iter().map(|thread| thread.join().ok().flatten()).collect();
        each.map(|each| each.concat())
    }
}
