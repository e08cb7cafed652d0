//! The queue of requests whose password has to be hashed, and the thread that hashes them one after another.
//!
//! A hash takes 12 MiB and some ten milliseconds on purpose. The workers of the gate are few, so that no hash runs on them.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use log::error;

use super::access::cors::Cors;
use super::access::{Access, PendingPassword};
use super::context::Context;
use super::exchange::Exchange;
use super::response::Response;
use super::router;

/// Requests that wait for the thread. A further one gets 429.
const MOST_WAITING: usize = 8;

/// A request that waits for its password to be hashed.
pub(crate) struct Job {
    pub(crate) context: Arc<Context>,
    pub(crate) exchange: Exchange,
    /// The rules that were in force when the request came.
    pub(crate) access: Arc<Access>,
    pub(crate) password: PendingPassword,
    /// The headers of the response, if the password is right.
    pub(crate) cors: Cors,
}

/// The queue. The thread starts with the first request and stays.
#[derive(Default)]
pub(crate) struct PasswordQueue {
    /// `None` before the first request. Written and read by workers.
    sender: Mutex<Option<Sender<Job>>>,
}

impl PasswordQueue {
    /// Queues a request, or answers it with 429.
    pub(crate) fn submit(&self, mut job: Job) {
        let Some(sender) = self.sender() else {
            return job.exchange.respond(Response::unavailable("There is no thread to check the password."));
        };
        job.exchange.release_in_flight();
        match sender.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                job.exchange.respond(Response::too_many("Too many passwords are being checked."));
            }
        }
    }

    fn sender(&self) -> Option<Sender<Job>> {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.is_none() {
            let (new, jobs) = bounded(MOST_WAITING);
            match thread::Builder::new().name("password".to_owned()).spawn(move || run(&jobs)) {
                Ok(_) => *sender = Some(new),
                Err(error) => error!("no thread to check passwords: {error}"),
            }
        }
        sender.clone()
    }
}

fn run(jobs: &Receiver<Job>) {
    for job in jobs {
        // A panic has been logged by the hook. It ends one request, whose connection is closed.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(job)));
    }
}

fn check(job: Job) {
    let Job { context, mut exchange, access, password, cors } = job;
    match access.verify_slow(&password) {
        Ok(client) => {
            exchange.set_cors(cors);
            router::dispatch(&context, exchange, client);
        }
        Err(refusal) => router::refuse(&access, exchange, &refusal, cors),
    }
}
