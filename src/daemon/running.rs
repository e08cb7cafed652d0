//! The inputs that run, each with its capture thread: the plan for a configuration, start and stop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Sender;
use log::{error, info, warn};

use super::input_log::InputLog;
use super::memory::{Memory, ring_bytes, ring_time, shown_bytes};
use crate::capture::event::CaptureEvent;
use crate::capture::{Capture, Timeline};
use crate::config::{self, Config};
use crate::inputs::{Inputs, LiveInput, Phase};

/// The inputs that run. Owned by the main thread.
pub(super) struct RunningInputs {
    /// In the order of the configuration.
    pub(super) all: Vec<RunningInput>,
    /// The inputs as the rest of the program sees them.
    shared: Arc<Inputs>,
    /// For capture threads.
    events: Sender<CaptureEvent>,
}

impl RunningInputs {
    /// No inputs yet. Those that run are put into `shared`, and their capture threads report to `events`.
    pub(super) fn new(shared: Arc<Inputs>, events: Sender<CaptureEvent>) -> RunningInputs {
        RunningInputs { all: Vec::new(), shared, events }
    }

    /// Takes the inputs off the air that `plan` does not have, and stops those that change. All that end do so before any
    /// starts: two inputs may have exchanged their cards.
    pub(super) fn stop(&mut self, plan: &InputPlan) -> Vec<StoppedInput> {
        let mut stopped = Vec::new();
        let (mut running, mut removed) = (Vec::new(), Vec::new());
        let mut changed = Vec::new();
        for input in std::mem::take(&mut self.all) {
            match plan.step(&input.config, input.keep) {
                Step::Keep => running.push(input),
                Step::Restart => changed.push(input),
                Step::Remove => removed.push(input),
            }
        }
        // Nobody finds a removed input any more, before the wait for its thread.
        let stays = running.iter().chain(&changed).map(|input| Arc::clone(&input.live)).collect();
        self.shared.set(stays);
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
        self.all = running;
        stopped
    }

    /// Starts the inputs of `plan` that do not run.
    pub(super) fn start(&mut self, plan: InputPlan, mut stopped: Vec<StoppedInput>, config: &Config) {
        let mut running = std::mem::take(&mut self.all);
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
            self.all.push(input);
        }
        self.shared.set(self.all.iter().map(|input| Arc::clone(&input.live)).collect());
        self.shared.set_names(config.names());
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
                    state.dead_air_since = None;
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

    /// Returns the memory of the rings that run, in bytes.
    pub(super) fn ring_bytes(&self) -> u64 {
        let bytes = |input: &RunningInput| ring_bytes(&input.config, input.config.history, Duration::ZERO);
        self.all.iter().map(bytes).fold(0, u64::saturating_add)
    }
}

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
}
