//! How long the machine stood still: a virtual one does now and then, and what it is late for then is nobody's fault.
//!
//! On each core a thread that only the kernel can keep from running sleeps and looks how late it wakes. It can be late
//! because of nothing that is measured here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use wavecast::os;

/// So long it sleeps: what is shorter than a millisecond or two is not of interest.
const NAP: Duration = Duration::from_millis(20);
/// Above those of the programs that are measured.
const PRIORITY: u8 = 80;

/// The threads.
pub(crate) struct Stalls {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<bool>>,
    longest_ns: Arc<AtomicU64>,
}

impl Stalls {
    /// Begins to look.
    pub(crate) fn watch() -> Stalls {
        let (over, longest_ns) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..cores)
            .map(|core| {
                let (over, longest_ns) = (Arc::clone(&over), Arc::clone(&longest_ns));
                thread::spawn(move || {
                    let mut only = CpuSet::new();
                    only.set(core);
                    let may = sched_setaffinity(None, &only).is_ok() && os::realtime(PRIORITY).is_ok();
                    while may && !over.load(Ordering::Relaxed) {
                        let began = Instant::now();
                        thread::sleep(NAP);
                        let late = began.elapsed().saturating_sub(NAP);
                        longest_ns.fetch_max(late.as_nanos() as u64, Ordering::Relaxed);
                    }
                    may
                })
            })
            .collect();
        Stalls { over, threads, longest_ns }
    }

    /// The longest time; `None` where no thread may have such a priority.
    pub(crate) fn longest(self) -> Option<Duration> {
        self.over.store(true, Ordering::Relaxed);
        let all = self.threads.into_iter().all(|thread| thread.join().is_ok_and(|may| may));
        all.then(|| Duration::from_nanos(self.longest_ns.load(Ordering::Relaxed)))
    }
}
