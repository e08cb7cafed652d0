//! The daemon: start, the main loop, the end.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | start: who starts in which order; the end: every stream with its last byte |
//! | `main_loop.rs` | signals, events, timers, watchdog |
//! | `reload.rs` | from one configuration to the next: the order, and the listeners that may stay |
//! | `running.rs` | the inputs that run: which start, restart and end |
//! | `pushes.rs` | the pushes that run: which start and end |
//! | `state.rs` | the state of the main thread |
//! | `listening.rs` | the public sockets |
//! | `announce.rs` | the announcement on the local network |
//! | `input_log.rs` | events of a capture thread to state and log lines (pure) |
//! | `capacity.rs`, `memory.rs` | limits of the operating system |
//! | `preflight.rs` | conditions of this machine that `wavecast check` reports |
//! | `describe.rs` | inputs in one line |
//! | `systemd.rs` | the service manager |

mod announce;
mod capacity;
mod describe;
mod input_log;
mod listening;
mod main_loop;
mod memory;
pub mod preflight;
mod pushes;
mod reload;
mod running;
mod start_error;
mod state;
pub mod systemd;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use log::info;

use self::announce::Announcer;
use self::capacity::Capacity;
pub use self::describe::{AudienceSummary, InputSummary, PushSummary};
use self::listening::Listening;
pub use self::main_loop::Reload;
use self::memory::Memory;
use self::pushes::RunningPushes;
use self::running::{InputPlan, RunningInputs};
pub use self::start_error::StartError;
use self::state::Daemon;
use self::systemd::Service;
use crate::capture::devices::SystemPaths;
use crate::config::Config;
use crate::http::access::Access;
use crate::http::context::Context;
use crate::sys::{limits, panics};

/// The time that listeners have to take the end of their streams when the daemon ends.
const DRAIN_TIME: Duration = Duration::from_millis(1200);
/// The time after which the daemon ends in any case, once the remaining listeners were cut.
const CUT_TIME: Duration = Duration::from_millis(300);

/// Runs until a signal ends the daemon. `reload` reads the configuration again.
///
/// # Errors
///
/// No address can be listened on (without a service manager), or the operating system gives no thread or signal handler.
pub fn run(config: Config, access: Access, reload: &Reload<'_>) -> Result<(), StartError> {
    panics::install();
    // Read before there are threads, whose stacks take address space.
    let memory = Memory::for_histories(&SystemPaths::default(), 0);
    let capacity = Capacity::with_descriptors(limits::raise_open_files());
    let signals = main_loop::signals().map_err(|error| StartError(format!("no signal handler: {error}")))?;
    let (sender, events) = bounded(1024);
    let (limits, listeners) = capacity.clamp(&config.limits, &config.listeners);
    let context = Arc::new(Context::new(listeners, limits, access));
    context.settings.set_encoders(config.encoders.clone());
    let service = Service::find();
    let mut listening = Listening::start(&context)?;
    // The sockets are bound before a card is opened, so that a taken port is known early. They are served after it: a player
    // that reconnects after a restart gets sound, and no "not found".
    let bound = listening.bind_first(&config.http.listen, &service)?;
    let inputs = RunningInputs::new(Arc::clone(&context.inputs), sender);
    let pushes = RunningPushes::new(Arc::clone(&context.pushes), Arc::clone(&context.inputs));
    let mut daemon = Daemon {
        context,
        capacity,
        listening,
        announcer: Announcer::default(),
        inputs,
        pushes,
        service,
        ready: false,
        heartbeats: 0,
    };
    daemon.inputs.start(InputPlan::new(&config, memory, &[]), Vec::new(), &config);
    daemon.pushes.start(&config);
    for socket in bound {
        daemon.listening.serve(socket, &daemon.service)?;
    }
    reload::log_warnings(&config);
    daemon.report(&config);
    daemon.run(&signals, &events, config, reload);
    daemon.service.stopping();
    daemon.announcer.update(None, None);
    daemon.listening.stop(&daemon.service);
    daemon.end();
    Ok(())
}

impl Daemon {
    /// Ends every stream with its last byte, as far as its listener takes that in time.
    fn end(mut self) {
        self.pushes.stop_all();
        for input in &self.inputs.all {
            if let Some(ring) = input.live.ring() {
                ring.close();
            }
        }
        self.context.subscribers.end();
        let began = Instant::now();
        let drain_until = |limit: Duration| {
            let busy = || self.context.listeners.count() > 0 || !self.listening.is_idle();
            while busy() && began.elapsed() < limit {
                thread::sleep(Duration::from_millis(5));
            }
        };
        drain_until(DRAIN_TIME);
        for listener in self.context.listeners.all() {
            listener.cut();
        }
        drain_until(DRAIN_TIME + CUT_TIME);
        info!("ended");
    }
}
