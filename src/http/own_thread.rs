//! Threads of handlers and listeners, which the operating system may have none left of.

use std::sync::{Arc, Mutex, PoisonError};

use log::debug;

use crate::threads;

/// Their stack. It holds no buffer; the deepest it goes is formatting a status.
const STACK: usize = 128 * 1024;

/// Does something with `what` in a thread of its own.
///
/// # Errors
///
/// `what` itself, where there is no thread to be had.
pub(super) fn start<T: Send + 'static>(what: T, run: impl FnOnce(T) + Send + 'static) -> Result<(), T> {
    let slot = Arc::new(Mutex::new(Some(what)));
    let take = |slot: &Mutex<Option<T>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    // Left here if there is no thread to take it.
    let same = Arc::clone(&slot);
    let started = threads::start("listener", Some(STACK), move || {
        if let Some(what) = take(&same) {
            drop(same);
            run(what);
        }
    });
    match started {
        Ok(_) => Ok(()),
        Err(error) => {
            debug!("no thread: {error}");
            take(&slot).map_or(Ok(()), Err)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_to_a_thread_is_done_there() {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let name = || std::thread::current().name().map(str::to_owned);
        start(sender, move |sender| sender.send(name()).expect("somebody waits")).expect("a thread");
        assert_eq!(receiver.recv().expect("it was sent").as_deref(), Some("listener"));
    }
}
