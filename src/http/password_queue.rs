//! The queue of requests whose password has to be hashed, and the thread that hashes them one after another.
//!
//! A hash takes 12 MiB and 50 ms to a second on purpose. The workers of the gate are few, so that no hash runs on them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use log::error;

use super::exchange::Exchange;
use super::response::Response;

/// Requests that wait for the thread. A further one gets 429.
const MOST_WAITING: usize = 8;

/// A request, and the function that checks its password and answers it.
type Job = (Exchange, Box<dyn FnOnce(Exchange) + Send>);

/// The queue. The thread starts with the first request and stays.
#[derive(Default)]
pub(crate) struct PasswordQueue {
    /// `None` before the first request. Written and read by workers.
    sender: Mutex<Option<Sender<Job>>>,
}

impl PasswordQueue {
    /// Has `check` called with the request on the thread that hashes passwords; or answers 429 where too many wait.
    pub(crate) fn submit(&self, mut exchange: Exchange, check: impl FnOnce(Exchange) + Send + 'static) {
        let Some(sender) = self.sender() else {
            return exchange.respond(Response::unavailable("There is no thread to check the password."));
        };
        exchange.release_in_flight();
        match sender.try_send((exchange, Box::new(check))) {
            Ok(()) => {}
            Err(TrySendError::Full((exchange, _)) | TrySendError::Disconnected((exchange, _))) => {
                exchange.respond(Response::too_many("Too many passwords are being checked."));
            }
        }
    }

    fn sender(&self) -> Option<Sender<Job>> {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.is_none() {
            let (new, jobs) = bounded(MOST_WAITING);
            match thread::Builder::new().name("password".to_owned()).spawn(move || run(&jobs)) {
                Ok(_) => *sender = Some(new),
                Err(error) => error!("no thread can be started to check passwords: {error}"),
            }
        }
        sender.clone()
    }
}

fn run(jobs: &Receiver<Job>) {
    for (exchange, check) in jobs {
        // The hook has logged a panic. The panic ends one request, whose connection is closed.
        let _ = catch_unwind(AssertUnwindSafe(|| check(exchange)));
    }
}
