//! From one configuration to the next: the order of the steps, and which inputs stay, restart, end and start.
//!
//! # Order
//!
//! At no time may a client hear what neither the old nor the new configuration lets it hear. So the steps of a reload are:
//!
//! 1. Inputs that are removed are taken off the air, and inputs that change are stopped.
//! 2. The new access rules apply, and listeners that they do not allow are disconnected.
//! 3. New and changed inputs start.
//!
//! The rules of the old configuration thus only ever meet its own inputs, and those of the new one theirs. The ring of an
//! input that keeps its name stays, with its history, since its listeners stay.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::{error, info, warn};

use super::input_log::InputLog;
use super::memory::{Memory, ring_bytes, ring_time, shown_bytes};
use super::{Daemon, preflight};
use crate::capture::devices::SystemPaths;
use crate::capture::{Capture, Timeline};
use crate::config::{self, Config, Network};
use crate::http::access::Access;
use crate::inputs::{LiveInput, Phase};
use crate::listeners::Listener;

/// The time from a reload to a second check of all listeners: a request that was admitted by the old rules may wait for a
/// card or for a password check before its listener is known.
const RECHECK_DELAY: Duration = Duration::from_secs(10);

/// An input that runs, and its capture thread.
pub(super) struct RunningInput {
    /// Its configuration, with the history that fits into the memory.
    pub(super) config: config::Input,
    /// The length of sound that its ring keeps.
    keep: Duration,
    pub(super) live: Arc<LiveInput>,
    capture: Option<Capture>,
    /// The capture thread's heartbeats at the last check.
    heartbeats: u64,
    pub(super) log: InputLog,
}

impl RunningInput {
    /// Returns `true` if the capture thread has made progress since the last call.
    pub(super) fn has_moved(&mut self) -> bool {
        let heartbeats = self.live.counters.heartbeats.load(Ordering::Relaxed);
        std::mem::replace(&mut self.heartbeats, heartbeats) != heartbeats
    }
}

/// An input that was stopped to start again with another configuration: it keeps its listeners, its counters, and its ring
/// as long as the format stays.
pub(super) struct StoppedInput {
    live: Arc<LiveInput>,
    timeline: Option<Timeline>,
}

/// The inputs of a configuration with the histories that fit into the memory.
pub(super) struct InputPlan {
    inputs: Vec<(config::Input, Duration)>,
}

impl InputPlan {
    /// Shortens the longest histories until all fit into `memory`, and logs each.
    pub(super) fn new(config: &Config, memory: Memory) -> InputPlan {
        let longest = memory.longest_history(config).unwrap_or(Duration::MAX);
        let plan = |input: &config::Input| {
            let mut input = input.clone();
            if input.history > longest {
                warn!(
                    "{}: history shortened from {} s to {} s: {} leaves {} for the histories of all inputs",
                    input.name,
                    input.history.as_secs_f64(),
                    longest.as_secs(),
                    memory.limit,
                    shown_bytes(memory.bytes)
                );
                input.history = longest;
            }
            let keep = ring_time(input.history, config.listeners.max_lag);
            (input, keep)
        };
        InputPlan { inputs: config.inputs.iter().map(plan).collect() }
    }

    /// Returns the step for a running input of that configuration.
    fn step(&self, running: &config::Input, keep: Duration) -> Step {
        match self.inputs.iter().find(|(planned, _)| planned.name == running.name) {
            None => Step::Remove,
            Some((planned, planned_keep)) if *planned_keep == keep && is_same_capture(planned, running) => {
                Step::Keep
            }
            Some(_) => Step::Restart,
        }
    }
}

/// The step of a reload for a running input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Keep,
    Restart,
    Remove,
}

/// Returns `true` if both capture the same: only the names for people differ.
fn is_same_capture(one: &config::Input, other: &config::Input) -> bool {
    let names = config::Input { title: other.title.clone(), aliases: other.aliases.clone(), ..one.clone() };
    names == *other
}

impl Daemon {
    /// Changes to a new configuration. Only what differs is changed; inputs and sockets that stay are not touched.
    pub(super) fn reload(&mut self, old: &Config, new: &Config, access: Access) {
        let plan = InputPlan::new(new, Memory::for_histories(&SystemPaths::default(), self.held_by_rings()));
        let (limits, listeners) = self.capacity.clamp(&new.limits, &new.listeners);
        let stopped = self.stop_inputs(&plan);
        self.context.settings.set_limits(limits);
        self.context.settings.set_listeners(listeners);
        self.set_access(access, new);
        self.listening.apply_settings();
        self.start_inputs(plan, stopped, new);
        self.listening.reload(&new.http.listen, &self.service);
        self.listening.log_urls(&new.inputs[0].name);
        if old.log != new.log {
            warn!("the log filter changes at the next start");
        }
        info!("the configuration was read again");
        log_warnings(new);
    }

    /// Takes the inputs off the air that `plan` does not have, and stops those that change. All that end do so before any
    /// starts: two inputs may have exchanged their cards.
    fn stop_inputs(&mut self, plan: &InputPlan) -> Vec<StoppedInput> {
        let mut stopped = Vec::new();
        let (mut running, mut removed) = (Vec::new(), Vec::new());
        let mut changed = Vec::new();
        for input in std::mem::take(&mut self.inputs) {
            match plan.step(&input.config, input.keep) {
                Step::Keep => running.push(input),
                Step::Restart => changed.push(input),
                Step::Remove => removed.push(input),
            }
        }
        // Nobody finds a removed input any more, before the wait for its thread.
        let stays = running.iter().chain(&changed).map(|input| Arc::clone(&input.live)).collect();
        self.context.inputs.set(stays);
        for input in &removed {
            info!("{}: the input was removed", input.config.name);
            if let Some(ring) = input.live.ring() {
                ring.close();
            }
        }
        for mut input in changed {
            let timeline = input.capture.take().and_then(Capture::stop);
            stopped.push(StoppedInput { live: input.live, timeline });
        }
        for mut input in removed {
            input.capture.take().map(Capture::stop);
        }
        self.inputs = running;
        stopped
    }

    /// Starts the inputs of `plan` that do not run.
    pub(super) fn start_inputs(&mut self, plan: InputPlan, mut stopped: Vec<StoppedInput>, config: &Config) {
        let mut running = std::mem::take(&mut self.inputs);
        for (config, keep) in plan.inputs {
            let at = running.iter().position(|input| input.config.name == config.name);
            let input = match at {
                // Its names for people may have changed.
                Some(at) => RunningInput { config, ..running.swap_remove(at) },
                None => {
                    let at = stopped.iter().position(|input| input.live.name == config.name);
                    self.start_input(config, keep, at.map(|at| stopped.swap_remove(at)))
                }
            };
            self.inputs.push(input);
        }
        self.context.inputs.set(self.inputs.iter().map(|input| Arc::clone(&input.live)).collect());
        self.context.inputs.set_names(config.names());
    }

    fn start_input(
        &self,
        config: config::Input,
        keep: Duration,
        stopped: Option<StoppedInput>,
    ) -> RunningInput {
        let device = config.device.to_string();
        let (live, timeline) = match stopped {
            Some(StoppedInput { live, timeline }) => {
                live.change(|state| {
                    state.phase = Phase::Waiting;
                    state.device = device;
                    state.problem = String::new();
                });
                (live, timeline)
            }
            None => (Arc::new(LiveInput::new(&config.name, &device)), None),
        };
        let capture = Capture::start(config.clone(), keep, Arc::clone(&live), self.events.clone(), timeline);
        if let Err(error) = &capture {
            error!("{}: no thread to capture it: {error}", config.name);
        }
        let log = InputLog::default();
        RunningInput { config, keep, live, capture: capture.ok(), heartbeats: u64::MAX, log }
    }

    /// Applies the access rules of `config`, and disconnects the listeners that they do not allow.
    fn set_access(&mut self, access: Access, config: &Config) {
        self.context.set_access(access);
        let access = self.context.access();
        let credentials = Credentials::read(config);
        let passwords_changed = credentials.narrows(&self.credentials);
        self.credentials = credentials;
        let (mut cut, mut count) = (Vec::new(), 0);
        for listener in self.context.listeners.all() {
            if passwords_changed || !may_listen(&access, &listener) {
                listener.cut();
                count += 1;
                cut.push(listener.address.ip().to_canonical().to_string());
            }
        }
        cut.sort();
        cut.dedup();
        if count > 0 {
            let reason = match passwords_changed {
                true => "since the passwords have changed",
                false => "since [access] allow does not name them",
            };
            let listeners = if count == 1 { "1 listener was" } else { &format!("{count} listeners were") };
            info!("{listeners} disconnected, {reason}: {}", cut.join(", "));
        }
        self.recheck_at = Some(Instant::now() + RECHECK_DELAY);
    }

    /// Disconnects listeners that were admitted by the rules before the last reload: their requests were under way.
    pub(super) fn recheck_listeners(&mut self) {
        self.recheck_at = None;
        let access = self.context.access();
        let listeners = self.context.listeners.all();
        listeners
            .iter()
            .filter(|listener| !may_listen(&access, listener))
            .for_each(|listener| listener.cut());
    }

    /// Returns the memory of the rings that run, in bytes.
    fn held_by_rings(&self) -> u64 {
        let bytes = |input: &RunningInput| ring_bytes(&input.config, input.config.history, Duration::ZERO);
        self.inputs.iter().map(bytes).fold(0, u64::saturating_add)
    }
}

/// Returns `true` if the address rules of `access` allow a connected listener.
fn may_listen(access: &Access, listener: &Listener) -> bool {
    let local = listener.socket().local_addr().ok().map(|address| address.ip());
    access.recheck(listener.ip(), local)
}

/// Logs conditions of a configuration that its owner should know of.
pub(super) fn log_warnings(config: &Config) {
    if config.access.passwords.is_none() && config.access.allow.contains(&Network::Any) {
        warn!("everybody who can reach this machine may listen, from anywhere: [access] allow has \"any\"");
    }
    for problem in preflight::shared_cards(&config.inputs, &SystemPaths::default()) {
        warn!("{problem}");
    }
}

/// The lines of the password file. Listeners are not known by their users, so a line that is gone or another one ends all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials(Option<BTreeSet<String>>);

impl Credentials {
    /// Reads the password file of `config`, which [`Access::new`] has checked.
    pub(super) fn read(config: &Config) -> Credentials {
        let Some(file) = &config.access.passwords else { return Credentials(None) };
        let text = fs::read_to_string(file).unwrap_or_default();
        Credentials(Some(text.lines().map(|line| line.trim().to_owned()).collect()))
    }

    /// Returns `true` if a listener that `old` let in might not be let in now: passwords are new, or one is gone.
    fn narrows(&self, old: &Credentials) -> bool {
        match (&self.0, &old.0) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(new), Some(old)) => {
                old.difference(new).any(|line| !line.is_empty() && !line.starts_with('#'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, "w.toml").expect("a configuration")
    }

    fn plan(text: &str) -> InputPlan {
        InputPlan::new(&config(text), Memory { bytes: u64::MAX, limit: "a test" })
    }

    #[test]
    fn an_input_restarts_only_if_its_capture_changes() {
        let before = "[input.a]\ndevice = 'hw:1'\nrate = 48000";
        let (running, keep) = plan(before).inputs.swap_remove(0);
        for (after, expected) in [
            (before.to_owned(), Step::Keep),
            (format!("{before}\ntitle = 'Roof'\naliases = 'live'"), Step::Keep),
            (format!("[input.b]\n{before}"), Step::Keep),
            (format!("{before}\nperiod_ms = 20"), Step::Restart),
            (format!("{before}\ngain_db = 3"), Step::Restart),
            (format!("{before}\nhistory_seconds = 31"), Step::Restart),
            (format!("[listeners]\nmax_lag_ms = 40000\n{before}"), Step::Restart),
            (before.replace("hw:1", "hw:2"), Step::Restart),
            (before.replace("[input.a]", "[input.b]"), Step::Remove),
        ] {
            assert_eq!(plan(&after).step(&running, keep), expected, "{after}");
        }
    }

    #[test]
    fn histories_are_shortened_to_the_memory() {
        let config =
            config("[input.a]\nhistory_seconds = 100\n[input.b]\ndevice = 'hw:1'\nhistory_seconds = 20");
        let seconds = |bytes| -> Vec<(u64, Duration)> {
            let plan = InputPlan::new(&config, Memory { bytes, limit: "a test" });
            plan.inputs.iter().map(|(input, keep)| (input.history.as_secs(), *keep)).collect()
        };
        let ms = Duration::from_millis;
        assert_eq!(seconds(u64::MAX), [(100, ms(100_500)), (20, ms(20_500))]);
        assert_eq!(seconds(176_400 * 71), [(50, ms(50_500)), (20, ms(20_500))]);
        assert_eq!(seconds(176_400 * 21), [(10, ms(10_500)), (10, ms(10_500))]);
        assert_eq!(seconds(0), [(0, ms(2_500)), (0, ms(2_500))]);
    }

    #[test]
    fn listeners_are_cut_when_a_password_is_new_or_gone() {
        let file = |lines: &[&str]| Credentials(Some(lines.iter().map(|line| (*line).to_owned()).collect()));
        let open = Credentials(None);
        for (old, new, expected) in [
            (&open, &open, false),
            (&open, &file(&["anna:x"]), true),
            (&file(&["anna:x"]), &open, false),
            (&file(&["anna:x"]), &file(&["anna:x", "ben:y"]), false),
            (&file(&["anna:x", "# a comment", ""]), &file(&["anna:x"]), false),
            (&file(&["anna:x", "ben:y"]), &file(&["anna:x"]), true),
            (&file(&["anna:x"]), &file(&["anna:z"]), true),
        ] {
            assert_eq!(new.narrows(old), expected, "{old:?} to {new:?}");
        }
    }
}
