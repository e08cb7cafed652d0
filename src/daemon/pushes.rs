//! The pushes that run: which start and end at a reload. A push whose table stays goes on.

use std::sync::Arc;
use std::time::Duration;

use log::{error, info};

use crate::config::{self, Config};
use crate::inputs::Inputs;
use crate::push::Push;
use crate::pushes::Pushes;

/// The time that the threads of pushes have to end. They notice within a tenth of it.
const END_TIME: Duration = Duration::from_secs(1);

/// The pushes that run. Owned by the main thread.
pub(super) struct RunningPushes {
    all: Vec<Push>,
    /// The pushes as the rest of the program sees them.
    shared: Arc<Pushes>,
    inputs: Arc<Inputs>,
}

impl RunningPushes {
    /// No pushes yet. Those that run are put into `shared`, and read `inputs`.
    pub(super) fn new(shared: Arc<Pushes>, inputs: Arc<Inputs>) -> RunningPushes {
        RunningPushes { all: Vec::new(), shared, inputs }
    }

    /// Ends the pushes that `config` does not have as they run.
    pub(super) fn stop(&mut self, config: &Config) {
        let is_kept =
            |push: &Push| config.pushes.iter().any(|planned| push.is(planned, &input_of(planned, config)));
        let (kept, ended) = std::mem::take(&mut self.all).into_iter().partition(is_kept);
        self.all = kept;
        end(ended);
        self.publish();
    }

    /// Starts the pushes of `config` that do not run. Those that wait for their next try make it now.
    pub(super) fn start(&mut self, config: &Config) {
        let mut running = std::mem::take(&mut self.all);
        for planned in &config.pushes {
            let input = input_of(planned, config);
            if let Some(at) = running.iter().position(|push| push.is(planned, &input)) {
                let push = running.swap_remove(at);
                push.retry_now();
                self.all.push(push);
                continue;
            }
            info!("push {}: sends {input} to {}", planned.name, planned.to);
            match Push::start(planned, &input, &self.inputs) {
                Ok(push) => self.all.push(push),
                Err(error) => error!("push {}: no thread for it: {error}", planned.name),
            }
        }
        self.publish();
    }

    /// Ends all pushes.
    pub(super) fn stop_all(&mut self) {
        end(std::mem::take(&mut self.all));
        self.publish();
    }

    fn publish(&self) {
        self.shared.set(self.all.iter().map(|push| Arc::clone(&push.live)).collect());
    }
}

/// Returns the name of the input that a push sends.
fn input_of(push: &config::Push, config: &Config) -> String {
    let first = || config.inputs.first().map_or("live", |input| &input.name);
    let named = push.input.as_deref().unwrap_or_else(first);
    config.names().resolve(named).to_owned()
}

/// Ends pushes, all at once, and waits for their threads.
fn end(pushes: Vec<Push>) {
    pushes.iter().for_each(Push::stop);
    for push in pushes {
        push.wait(END_TIME);
    }
}
