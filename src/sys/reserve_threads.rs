//! Threads of handlers and listeners, which the operating system may have none left of.
//!
//! tiny_http keeps the threads of connections that have ended for five seconds, and for as long as others come. So
//! after a crowd they can be all that there may be; whoever asks for something then is answered by a thread that
//! was started in better days.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::sys::threads;

/// Their stack. It holds no buffer; the deepest it goes is formatting a status.
const STACK: usize = 128 * 1024;
/// So many requests can be answered at once where there are no threads. A stream takes one only until it has caught up
/// with the others.
const RESERVES: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// Those threads. (A channel of its own kind would be 5 kB of code.)
static RESERVE: Mutex<Reserve> = Mutex::new(Reserve { started: false, idle: 0, jobs: Vec::new() });
static JOB_CAME: Condvar = Condvar::new();

struct Reserve {
    started: bool,
    /// So many have nothing to do.
    idle: usize,
    /// What some of these are about to do.
    jobs: Vec<Job>,
}

/// Starts the threads for worse days. Without them there are none.
pub(crate) fn have_reserve() {
    if std::mem::replace(&mut reserve().started, true) {
        return;
    }
    for _ in 0..RESERVES {
        // Whoever needs it and does not find it says so.
        let _ = threads::start("reserve", Some(STACK), serve);
    }
}

fn serve() {
    loop {
        let mut reserve = reserve();
        reserve.idle += 1;
        let job = loop {
            match reserve.jobs.pop() {
                Some(job) => break job,
                None => reserve = JOB_CAME.wait(reserve).unwrap_or_else(PoisonError::into_inner),
            }
        };
        reserve.idle -= 1;
        drop(reserve);
        // A panic has been told of, and is one request's.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

/// What none of them can begin at once is refused at once.
fn to_reserve(job: Job) -> bool {
    let mut reserve = reserve();
    let may = reserve.idle > reserve.jobs.len();
    if may {
        reserve.jobs.push(job);
        JOB_CAME.notify_one();
    }
    may
}

fn reserve() -> MutexGuard<'static, Reserve> {
    RESERVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something with `what` in a thread of its own.
///
/// # Errors
///
/// `what` itself, where there is no thread to be had.
pub(crate) fn start<T: Send + 'static>(what: T, run: fn(T)) -> Result<(), T> {
    give(what, run, to_new)
}

/// The same, in one of the threads that were started before if there is none to be had.
///
/// # Errors
///
/// `what` itself, where those have something to do already.
pub(crate) fn start_in_any_case<T: Send + 'static>(what: T, run: fn(T)) -> Result<(), T> {
    start(what, run).or_else(|what| give(what, run, to_reserve))
}

fn to_new(job: Job) -> bool {
    threads::start("listener", Some(STACK), job).is_ok()
}

/// Makes a job of it for somebody who takes it or does not.
fn give<T: Send + 'static>(what: T, run: fn(T), take: fn(Job) -> bool) -> Result<(), T> {
    // Left here if nobody takes it.
    let slot = Arc::new(Mutex::new(Some(what)));
    let content = |slot: &Mutex<Option<T>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let same = Arc::clone(&slot);
    let job = Box::new(move || {
        if let Some(what) = content(&same) {
            drop(same);
            run(what);
        }
    });
    match take(job) {
        true => Ok(()),
        false => content(&slot).map_or(Ok(()), Err),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crossbeam_channel::Receiver;

    use super::*;

    fn name() -> Option<String> {
        std::thread::current().name().map(str::to_owned)
    }

    #[test]
    fn what_is_given_to_a_thread_is_done_there() {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        start(sender, |sender| sender.send(name()).expect("somebody waits")).expect("a thread");
        assert_eq!(receiver.recv().expect("it was sent").as_deref(), Some("listener"));
    }

    /// Ends as after a panic; another test counts those that are told of.
    fn panic(held: Receiver<()>) {
        let _ = held.recv();
        std::panic::resume_unwind(Box::new("in reserve"));
    }

    #[test]
    fn a_reserve_does_one_thing_at_a_time_and_outlives_a_panic() {
        have_reserve();
        let end = Instant::now() + Duration::from_secs(5);
        let hold_one = |what: Receiver<()>| {
            let mut what = Some(what);
            // They may be on their way to wait for something.
            while let Some(back) = what.take() {
                assert!(Instant::now() < end, "nobody takes it");
                what = give(back, panic, to_reserve).err();
            }
        };
        for _ in 0..3 {
            let (hold, held) = crossbeam_channel::bounded(0);
            (0..RESERVES).for_each(|_| hold_one(held.clone()));
            assert_eq!(give("refused", |_| (), to_reserve), Err("refused"));
            drop(hold);
        }
        let (sender, receiver) = crossbeam_channel::bounded(RESERVES);
        while give(sender.clone(), |sender| sender.send(name()).expect("somebody waits"), to_reserve).is_err()
        {
            assert!(Instant::now() < end, "nobody serves any more");
        }
        assert_eq!(receiver.recv().expect("it was sent").as_deref(), Some("reserve"));
    }
}
