//! Detection of stalls of the machine. A virtual machine stalls now and then, and no measured program causes the
//! delays during a stall.
//!
//! On each core a realtime thread, which only the kernel can delay, sleeps and measures how late it wakes. No
//! measured program can delay that thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use wavecast::sys::limits;

use crate::crowd::Gap;

/// The sleep of a thread. Stalls shorter than a millisecond or two are not of interest.
const NAP: Duration = Duration::from_millis(20);
/// The shortest stall that is reported.
const LONG: Duration = Duration::from_millis(10);
/// A realtime priority above those of the measured programs.
const PRIORITY: u8 = 80;

/// The running threads, one for each core.
pub(crate) struct Stalls {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Option<Vec<Gap>>>>,
}

impl Stalls {
    /// Starts the threads.
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
                        let due = Instant::now() + NAP;
                        thread::sleep(NAP);
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

    /// Returns all stalls of at least 10 ms on all cores; `None` if a thread cannot get realtime priority.
    pub(crate) fn end(self) -> Option<Vec<Gap>> {
        self.over.store(true, Ordering::Relaxed);
        let each: Option<Vec<Vec<Gap>>> =
            self.threads.into_iter().map(|thread| thread.join().ok().flatten()).collect();
        each.map(|each| each.concat())
    }
}
