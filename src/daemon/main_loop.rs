//! The main loop: signals, events of the capture threads, timers, reports to the service manager.
//!
//! The main thread is the only one that changes what runs.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, at, bounded, never, select, tick};
use log::{error, info, log, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::describe::{SourceSummary, pick};
use super::state::Daemon;
use crate::capture::event::CaptureEvent;
use crate::config::Config;
use crate::http::access::Access;
use crate::inputs::Phase;

/// The function that reads the configuration again.
pub type Reload<'a> = dyn Fn() -> Result<(Config, Access), String> + 'a;

/// Starts the thread that forwards SIGTERM, SIGINT and SIGHUP. It ends with the receiver.
///
/// # Errors
///
/// The signal handler cannot be installed, or the operating system has no thread.
pub(super) fn signals() -> io::Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (sender, receiver) = bounded(16);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

impl Daemon {
    /// Runs until a signal ends the daemon. `reload` reads the configuration again.
    pub(super) fn run(
        &mut self,
        signals: &Receiver<i32>,
        events: &Receiver<CaptureEvent>,
        mut config: Config,
        reload: &Reload<'_>,
    ) {
        // Without a service manager there is nothing to report: an idle board is left alone.
        let reports = self.service.report_interval().map_or_else(never, tick);
        loop {
            // Made from a point in time, so that a stream of events cannot put off a timer.
            let timer = self.next_timer().map_or_else(never, at);
            select! {
                recv(signals) -> signal => match signal {
                    Ok(SIGHUP) => match reload() {
                        Ok((new, access)) => {
                            if self.ready {
                                self.service.reloading();
                            }
                            self.reload(&config, &new, access);
                            config = new;
                            self.report(&config);
                            if self.ready {
                                self.service.ready();
                            }
                        }
                        Err(problem) => error!("the configuration stays as it was:\n{problem}"),
                    },
                    Ok(signal) => {
                        info!("ending on {}", if signal == SIGINT { "SIGINT" } else { "SIGTERM" });
                        return;
                    }
                    // The signal thread has ended, which does not happen; without it no signal could end the daemon.
                    Err(_) => return,
                },
                recv(events) -> event => if let Ok(event) = event {
                    self.handle_event(event);
                    let line = self.status_line();
                    self.service.status(line);
                },
                recv(timer) -> _ => self.handle_timers(&config),
                recv(reports) -> _ => {
                    self.report(&config);
                    if self.is_alive() {
                        self.service.alive();
                    }
                }
            }
        }
    }

    /// Reports the state to the service manager, and the first time that a socket is served, that the daemon is ready.
    pub(super) fn report(&mut self, config: &Config) {
        // The network may have come up since the addresses were logged.
        if self.service.is_present() || !self.ready {
            self.listening.log_urls(&config.inputs[0].name);
        }
        if self.service.is_present() {
            let line = self.status_line();
            self.service.status(line);
            // A program that a person tries is nothing to announce.
            self.announcer.update(config.station.title.as_deref(), self.listening.public_port());
        }
        if !self.ready && self.listening.is_served() {
            self.ready = true;
            self.service.ready();
        }
    }

    /// Returns the time of the next timer: the report of a burst, or an attempt to bind a missing address.
    fn next_timer(&self) -> Option<Instant> {
        let bursts = self.inputs.all.iter().filter_map(|input| input.log.next_tick());
        bursts.chain(self.listening.next_retry()).min()
    }

    fn handle_timers(&mut self, config: &Config) {
        let now = Instant::now();
        for input in &mut self.inputs.all {
            for line in input.log.tick(now) {
                log!(line.level, "{}: {}", input.config.name, line.text);
            }
        }
        if self.listening.next_retry().is_some_and(|retry| retry <= now) {
            self.listening.retry(&self.service);
            self.listening.log_urls(&config.inputs[0].name);
            self.report(config);
        }
    }

    /// Takes in an event of a capture thread.
    fn handle_event(&mut self, event: CaptureEvent) {
        // An event of a capture that was stopped meanwhile says nothing about the one that runs now.
        if event.is_stale() {
            return;
        }
        let mut inputs = self.inputs.all.iter_mut();
        let Some(input) = inputs.find(|input| Arc::ptr_eq(&input.live, &event.input)) else { return };
        let (lines, change) = input.log.event(event.kind, Instant::now(), &input.config);
        for line in lines {
            log!(line.level, "{}: {}", input.config.name, line.text);
        }
        if let Some(change) = change {
            input.live.change(|state| change.apply(state));
        }
    }

    /// Returns `true` if every capture thread and the server have made progress since the last call.
    fn is_alive(&mut self) -> bool {
        let mut all = true;
        for input in &mut self.inputs.all {
            if !input.has_moved() {
                warn!("{}: its capture thread does not move", input.config.name);
                all = false;
            }
        }
        let heartbeats = self.listening.heartbeats();
        all && std::mem::replace(&mut self.heartbeats, heartbeats) != heartbeats
    }

    /// Returns the state of the daemon in one line: addresses, listeners, inputs. The package's installation shows it.
    fn status_line(&self) -> String {
        let listeners = match self.context.listeners.count() {
            0 => "nobody listens".to_owned(),
            1 => "1 listener".to_owned(),
            n => format!("{n} listeners"),
        };
        let inputs = self.inputs.all.iter().map(|input| {
            let state = input.live.state();
            let name = &input.config.name;
            match (state.phase, &state.source) {
                (Phase::Capturing, Some(source)) => {
                    format!("{name}: {}{}", SourceSummary(source), pick(&input.config.pick))
                }
                _ => format!("{name}: no sound: {}", state.why()),
            }
        });
        format!("{}; {listeners}; {}", self.listening.summary(), inputs.collect::<Vec<_>>().join("; "))
    }
}
