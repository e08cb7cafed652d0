//! Threads of handlers and listeners, which the operating system may have none left of.
//!
//! tiny_http keeps the threads of connections that have ended for five seconds, and for as long as others come. So
//! after a crowd they can be all that there may be; whoever asks for something then is answered by a thread that
//! was started in better days.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_channel::Sender;
use log::debug;

use crate::threads;

/// Their stack. It holds no buffer; the deepest it goes is formatting a status.
const STACK: usize = 128 * 1024;
/// So many requests can be answered at once where there are no threads. A stream takes one only until it has caught up
/// with the others.
const RESERVES: usize = 2;

/// To reserves that have nothing to do.
static RESERVE: OnceLock<Sender<Box<dyn FnOnce() + Send>>> = OnceLock::new();

/// Starts the threads for worse days. Without them there are none, as before.
pub(super) fn have_reserve() {
    RESERVE.get_or_init(|| {
        // Without places to wait in: what none of them can take at once is refused at once.
        let (sender, receiver) = crossbeam_channel::bounded::<Box<dyn FnOnce() + Send>>(0);
        for _ in 0..RESERVES {
            let receiver = receiver.clone();
            let serve = move || {
                for job in receiver {
                    // A panic has been told of, and is one request's.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            };
            if let Err(error) = threads::start("reserve", Some(STACK), serve) {
                debug!("no thread in reserve: {error}");
            }
        }
        sender
    });
}

/// Does something with `what` in a thread of its own.
///
/// # Errors
///
/// `what` itself, where there is no thread to be had.
pub(super) fn start<T: Send + 'static>(what: T, run: impl FnOnce(T) + Send + 'static) -> Result<(), T> {
    let slot = Slot::new(what, run);
    // Left there if there is no thread to take it.
    let same = slot.clone();
    match threads::start("listener", Some(STACK), move || same.run()) {
        Ok(_) => Ok(()),
        Err(error) => {
            debug!("no thread: {error}");
            slot.take().map_or(Ok(()), |(what, _)| Err(what))
        }
    }
}

/// The same, in one of the threads that were started before if there is none to be had.
///
/// # Errors
///
/// `what` itself, where those have something to do already.
pub(super) fn start_in_any_case<T: Send + 'static>(
    what: T,
    run: impl FnOnce(T) + Clone + Send + 'static,
) -> Result<(), T> {
    start(what, run.clone()).or_else(|what| give_to_reserve(what, run))
}

fn give_to_reserve<T: Send + 'static>(what: T, run: impl FnOnce(T) + Send + 'static) -> Result<(), T> {
    let slot = Slot::new(what, run);
    let same = slot.clone();
    match RESERVE.get().is_some_and(|reserve| reserve.try_send(Box::new(move || same.run())).is_ok()) {
        true => Ok(()),
        false => slot.take().map_or(Ok(()), |(what, _)| Err(what)),
    }
}

/// What is to be done by whoever comes to it first.
struct Slot<T, F>(Arc<Mutex<Option<(T, F)>>>);

impl<T, F: FnOnce(T)> Slot<T, F> {
    fn new(what: T, run: F) -> Slot<T, F> {
        Slot(Arc::new(Mutex::new(Some((what, run)))))
    }

    fn clone(&self) -> Slot<T, F> {
        Slot(Arc::clone(&self.0))
    }

    fn take(&self) -> Option<(T, F)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn run(self) {
        if let Some((what, run)) = self.take() {
            drop(self);
            run(what);
        }
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
        start(sender, move |sender| sender.send(name()).expect("somebody waits")).expect("a thread");
        assert_eq!(receiver.recv().expect("it was sent").as_deref(), Some("listener"));
    }

    #[test]
    fn a_reserve_does_one_thing_at_a_time_and_outlives_a_panic() {
        have_reserve();
        let end = Instant::now() + Duration::from_secs(5);
        let give = |what: Receiver<()>| {
            let mut what = Some(what);
            // They may be on their way to wait for something.
            while let Some(back) = what.take() {
                assert!(Instant::now() < end, "nobody takes it");
                // As a panic ends; another test counts those that are told of.
                let panic = |held: Receiver<()>| {
                    let _ = held.recv();
                    std::panic::resume_unwind(Box::new("in reserve"))
                };
                what = give_to_reserve(back, panic).err();
            }
        };
        for _ in 0..3 {
            let (hold, held) = crossbeam_channel::bounded(0);
            (0..RESERVES).for_each(|_| give(held.clone()));
            assert_eq!(give_to_reserve("refused", |_| ()), Err("refused"));
            drop(hold);
        }
        let (sender, receiver) = crossbeam_channel::bounded(RESERVES);
        while give_to_reserve(sender.clone(), |sender| sender.send(name()).expect("somebody waits")).is_err()
        {
            assert!(Instant::now() < end, "nobody serves any more");
        }
        assert_eq!(receiver.recv().expect("it was sent").as_deref(), Some("reserve"));
    }
}
