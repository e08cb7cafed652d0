//! The thread of a push: one connection after another, with pauses between them, until it is stopped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use rustix::rand::{GetRandomFlags, getrandom};

use super::backoff::{Backoff, Failure};
use super::connection::Resolver;
use super::control::Control;
use super::icecast::Verb;
use super::problem::{End, Problem};
use crate::config::{Method, Push};
use crate::inputs::Inputs;
use crate::pushes::{LivePush, PushPhase};

/// The nice value of the thread: the capture and the listeners come first.
const NICE: i32 = 5;

/// The shortest pause between two tries.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// A push as its thread knows it.
pub(super) struct Runner {
    pub(super) config: Push,
    pub(super) inputs: Arc<Inputs>,
    pub(super) live: Arc<LivePush>,
    pub(super) control: Arc<Control>,
    pub(super) resolver: Resolver,
    /// The request for the next connection.
    pub(super) verb: Verb,
    /// True once the other request was refused, as one that the server does not know.
    pub(super) has_other_verb_failed: bool,
    /// Tries in a row that nothing answered. Not all are short, for networks on which an answer takes seconds.
    pub(super) silent_tries: u32,
    /// The time at which the server took the stream of this connection.
    pub(super) accepted_at: Option<Instant>,
    backoff: Backoff,
    /// The problem that was logged last; `None` while the push is on the air.
    logged: Option<Problem>,
    /// The time since which the push is off the air; `None` before it was on the air.
    off_since: Option<Instant>,
    /// The count of dropped packets when it was on the air last.
    dropped_before: u64,
}

impl Runner {
    pub(super) fn new(
        config: Push,
        inputs: Arc<Inputs>,
        live: Arc<LivePush>,
        control: Arc<Control>,
    ) -> Runner {
        let verb = if config.method == Method::Source { Verb::Source } else { Verb::Put };
        Runner {
            config,
            inputs,
            live,
            control,
            resolver: Resolver::default(),
            verb,
            has_other_verb_failed: false,
            silent_tries: 0,
            accepted_at: None,
            backoff: Backoff::default(),
            logged: None,
            off_since: None,
            dropped_before: 0,
        }
    }

    /// Runs until the push is stopped.
    pub(super) fn run(mut self) {
        // Refused where the service may not: the push runs all the same.
        let _ = rustix::process::setpriority_process(None, NICE);
        loop {
            self.accepted_at = None;
            self.control.begin_try();
            let began = Instant::now();
            let end = catch_unwind(AssertUnwindSafe(|| self.connect_and_send()));
            let problem = match end {
                Ok(Err(End::Stopped)) => return self.log_end(),
                Ok(Err(End::Problem(problem))) => problem,
                Ok(Ok(never)) => match never {},
                Err(_) => Problem::failed("a bug in wavecast ended the connection; please report it"),
            };
            self.after(&problem, began);
            if self.control.is_stopped() {
                return self.log_end();
            }
        }
    }

    /// Notes the end of a connection and waits for the next try.
    fn after(&mut self, problem: &Problem, began: Instant) {
        let now = Instant::now();
        self.live.counters.queue_ms.store(0, Ordering::Relaxed);
        if self.live.state().phase == PushPhase::OnTheAir {
            self.off_since = Some(now);
            // A reload while it was on the air says nothing about this failure.
            self.control.begin_try();
        }
        let on_the_air = self.accepted_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let mut pause = self.backoff.pause(problem.failure, on_the_air, now, random());
        self.silent_tries = match problem.failure {
            // The try itself was a pause for those whom it did not reach.
            Failure::Silent => {
                pause = pause.saturating_sub(now.saturating_duration_since(began)).max(LEAST_PAUSE);
                self.silent_tries + 1
            }
            _ => 0,
        };
        self.live.change(|state| {
            state.phase = problem.phase;
            state.detail.clone_from(&problem.detail);
            if !problem.said.is_empty() {
                state.server_says.clone_from(&problem.said);
            }
            state.next_try = Some(now + pause);
        });
        self.log(problem);
        self.control.sleep(pause);
        self.live.change(|state| state.next_try = None);
    }

    /// Logs a problem, unless it is the one that was logged last.
    fn log(&mut self, problem: &Problem) {
        // An outage is one line, whatever its tries meet; each refusal needs another remedy.
        let passes = matches!(problem.phase, PushPhase::Unreachable | PushPhase::InUse);
        let is_known = self.logged.as_ref().is_some_and(|logged| {
            logged.phase == problem.phase && (passes || logged.detail == problem.detail)
        });
        if is_known {
            return;
        }
        let said = match problem.said.is_empty() {
            true => String::new(),
            false => format!(" (it says: {})", problem.said),
        };
        let (name, to, detail) = (&self.config.name, &self.live.to, &problem.detail);
        match problem.failure {
            Failure::None => info!("push {name}: {detail}; it connects again"),
            Failure::Lasting => {
                error!("push {name}: not on the air at {to}: {detail}{said}; it asks every minute")
            }
            Failure::InUse | Failure::Passing | Failure::Silent => {
                warn!("push {name}: not on the air at {to}: {detail}{said}; it tries again")
            }
        }
        self.logged = Some(problem.clone());
    }

    /// Notes that the stream is on the air.
    pub(super) fn on_the_air(&mut self, what: &str) {
        let counters = &self.live.counters;
        let (name, to) = (&self.config.name, &self.live.to);
        let dropped = counters.dropped_packets.load(Ordering::Relaxed);
        match self.off_since.take() {
            None => info!("push {name}: on the air at {to}: {what}"),
            Some(since) => {
                counters.reconnects.fetch_add(1, Ordering::Relaxed);
                let packets = match dropped - self.dropped_before {
                    0 => "no packet was".to_owned(),
                    1 => "1 packet was".to_owned(),
                    count => format!("{count} packets were"),
                };
                info!(
                    "push {name}: on the air again at {to}, after {:.0} s; {packets} dropped meanwhile",
                    self.accepted_at.map_or(0.0, |at| at.saturating_duration_since(since).as_secs_f64())
                );
            }
        }
        self.dropped_before = dropped;
        self.logged = None;
        self.live.change(|state| {
            state.phase = PushPhase::OnTheAir;
            state.detail = String::new();
        });
    }

    fn log_end(&self) {
        info!("push {}: ended", self.config.name);
    }
}

/// Returns a random number.
pub(super) fn random() -> u32 {
    let mut bytes = [0; 4];
    // So short a read is always complete (getrandom(2)).
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(_) => u32::from_le_bytes(bytes),
        Err(_) => crate::sys::clock::monotonic_ns() as u32,
    }
}
