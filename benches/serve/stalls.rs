//! How long the machine stood still: a virtual one does now and then, and what it is late for then is nobody's fault.
//!
//! On each core a thread that only the kernel can keep from running sleeps and looks how late it wakes. It can be late
//! because of nothing that is measured here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use wavecast::sys::limits;

use crate::crowd::Gap;

/// So long it sleeps: what is shorter than a millisecond or two is not of interest.
const NAP: Duration = Duration::from_millis(20);
/// What is told.
const LONG: Duration = Duration::from_millis(10);
/// Above those of the programs that are measured.
const PRIORITY: u8 = 80;

/// The threads.
pub(crate) struct Stalls {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Option<Vec<Gap>>>>,
}

impl Stalls {
    /// Begins to look.
    pub(crate) fn watch() -> Stalls {
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

    /// All of more than 10 ms, of all cores; `None` where no thread may have such a priority.
    pub(crate) fn end(self) -> Option<Vec<Gap>> {
        self.over.store(true, Ordering::Relaxed);
        let each: Option<Vec<Vec<Gap>>> =
            self.threads.into_iter().map(|thread| thread.join().ok().flatten()).collect();
        each.map(|each| each.concat())
    }
}
