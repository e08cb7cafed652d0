//! The inputs that run, and the captures of their devices: the plan for a configuration, start and stop.
//!
//! Inputs that share a device have one capture. It goes on over a reload if none of its inputs changes and none joins.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Sender;
use log::{error, info, warn};

use super::input_log::InputLog;
use super::memory::{Memory, ring_bytes, ring_time, shown_bytes};
use crate::capture::event::CaptureEvent;
use crate::capture::{Capture, CaptureInput, Timeline};
use crate::config::{self, Config};
use crate::inputs::{Inputs, LiveInput, Phase};

/// The inputs that run. Owned by the main thread.
pub(super) struct RunningInputs {
    /// In the order of the configuration.
    pub(super) all: Vec<RunningInput>,
    captures: Vec<RunningCapture>,
    /// The inputs as the rest of the program sees them.
    shared: Arc<Inputs>,
    /// For capture threads.
    events: Sender<CaptureEvent>,
    /// The histories that the configuration asks for, by the names of the inputs.
    wanted: Vec<(String, Duration)>,
}

impl RunningInputs {
    /// No inputs yet. Those that run are put into `shared`, and their capture threads report to `events`.
    pub(super) fn new(shared: Arc<Inputs>, events: Sender<CaptureEvent>) -> RunningInputs {
        RunningInputs { all: Vec::new(), captures: Vec::new(), shared, events, wanted: Vec::new() }
    }

    /// Takes the inputs off the air that `plan` does not have, and stops those that change. All that end do so before any
    /// starts: two inputs may have exchanged their cards.
    pub(super) fn stop(&mut self, plan: &InputPlan) -> Vec<StoppedInput> {
        let captures = std::mem::take(&mut self.captures).into_iter();
        let (kept, ended): (Vec<_>, Vec<_>) = captures.partition(|capture| self.is_kept(capture, plan));
        let is_kept = |input: &RunningInput| kept.iter().any(|capture| capture.has(&input.config.name));
        let is_planned = |input: &RunningInput| plan.find(&input.config.name).is_some();
        let (running, ending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.all).into_iter().partition(is_kept);
        let (changed, removed): (Vec<_>, Vec<_>) = ending.into_iter().partition(is_planned);
        // Nobody finds a removed input any more, before the wait for its thread.
        let stays = running.iter().chain(&changed).map(|input| Arc::clone(&input.live)).collect();
        self.shared.set(stays);
        for input in &removed {
            info!("{}: the input was removed", input.config.name);
            if let Some(ring) = input.live.ring() {
                ring.close();
            }
        }
        let mut timelines: Vec<(String, Timeline)> = Vec::new();
        for RunningCapture { names, capture } in ended {
            let left = capture.map(Capture::stop).unwrap_or_default();
            timelines.extend(names.into_iter().zip(left).filter_map(|(name, left)| Some((name, left?))));
        }
        (self.all, self.captures) = (running, kept);
        let stopped = |input: RunningInput| {
            let at = timelines.iter().position(|(name, _)| *name == input.config.name);
            StoppedInput { live: input.live, timeline: at.map(|at| timelines.swap_remove(at).1) }
        };
        changed.into_iter().map(stopped).collect()
    }

    /// Returns `true` if the plan has the inputs of a capture, and no others for its device, as they run.
    fn is_kept(&self, capture: &RunningCapture, plan: &InputPlan) -> bool {
        let is_unchanged = |name: &String| {
            let input = self.all.iter().find(|input| input.config.name == *name);
            input.is_some_and(|input| plan.step(&input.config, input.keep) == Step::Keep)
        };
        // In any order: the tables of the configuration may have changed places.
        let (mut names, mut planned) = (capture.names.clone(), plan.sharing(&capture.names[0]));
        names.sort_unstable();
        planned.sort_unstable();
        capture.names.iter().all(is_unchanged) && planned == names
    }

    /// Starts the inputs of `plan` that do not run.
    pub(super) fn start(&mut self, plan: InputPlan, mut stopped: Vec<StoppedInput>, config: &Config) {
        for (input, _) in &plan.inputs {
            if !self.all.iter().any(|running| running.config.name == input.name) {
                self.start_capture(&plan, plan.sharing(&input.name), &mut stopped);
            }
        }
        self.wanted = config.inputs.iter().map(|input| (input.name.clone(), input.history)).collect();
        let mut running = std::mem::take(&mut self.all);
        for (config, _) in plan.inputs {
            if let Some(at) = running.iter().position(|input| input.config.name == config.name) {
                // Its names for people may have changed.
                self.all.push(RunningInput { config, ..running.swap_remove(at) });
            }
        }
        self.shared.set(self.all.iter().map(|input| Arc::clone(&input.live)).collect());
        self.shared.set_names(config.names());
    }

    /// Starts the capture of the inputs `names`, which share a device.
    fn start_capture(&mut self, plan: &InputPlan, names: Vec<String>, stopped: &mut Vec<StoppedInput>) {
        let mut inputs = Vec::new();
        for (config, keep) in names.iter().filter_map(|name| plan.find(name)).cloned() {
            let at = stopped.iter().position(|input| input.live.name == config.name);
            let (live, timeline) = live_input(&config, at.map(|at| stopped.swap_remove(at)));
            let log = InputLog::default();
            let (running_config, running_live) = (config.clone(), Arc::clone(&live));
            self.all.push(RunningInput {
                config: running_config,
                keep,
                live: running_live,
                heartbeats: u64::MAX,
                log,
            });
            inputs.push(CaptureInput { config, keep, live, timeline });
        }
        let capture = Capture::start(inputs, self.events.clone());
        if let Err(error) = &capture {
            error!("{}: no thread to capture it: {error}", names.join(", "));
        }
        self.captures.push(RunningCapture { names, capture: capture.ok() });
    }

    /// Returns the histories that were shortened.
    pub(super) fn shortened(&self) -> Vec<Shortened> {
        let shortened = |input: &RunningInput| {
            let (name, wanted) = self.wanted.iter().find(|(name, _)| *name == input.config.name)?;
            let kept = input.config.history;
            (kept < *wanted).then(|| Shortened { name: name.clone(), wanted: *wanted, kept })
        };
        self.all.iter().filter_map(shortened).collect()
    }

    /// Returns the memory of the rings that run, in bytes.
    pub(super) fn ring_bytes(&self) -> u64 {
        let bytes = |input: &RunningInput| ring_bytes(&input.config, input.config.history, Duration::ZERO);
        self.all.iter().map(bytes).fold(0, u64::saturating_add)
    }
}

/// A capture that runs.
struct RunningCapture {
    /// The names of its inputs, at least one, in the order of the configuration.
    names: Vec<String>,
    /// `None` where there was no thread for it.
    capture: Option<Capture>,
}

impl RunningCapture {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }
}

/// Returns the input of that configuration for the rest of the program, and the timeline that it goes on with.
fn live_input(config: &config::Input, stopped: Option<StoppedInput>) -> (Arc<LiveInput>, Option<Timeline>) {
    let device = config.device.to_string();
    match stopped {
        Some(StoppedInput { live, timeline }) => {
            live.change(|state| {
                state.phase = Phase::Waiting;
                state.device = device;
                state.problem = String::new();
                state.trouble = None;
                state.dead_air_since = None;
            });
            (live, timeline)
        }
        None => (Arc::new(LiveInput::new(&config.name, &device)), None),
    }
}

/// An input that runs.
pub(super) struct RunningInput {
    /// Its configuration, with the history that fits into the memory.
    pub(super) config: config::Input,
    /// The length of sound that its ring keeps.
    keep: Duration,
    pub(super) live: Arc<LiveInput>,
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

/// A history that was shortened because of the memory.
pub(super) struct Shortened {
    /// The name of the input.
    name: String,
    /// The history that the configuration asks for.
    wanted: Duration,
    kept: Duration,
}

/// The inputs of a configuration with the histories that fit into the memory.
pub(super) struct InputPlan {
    inputs: Vec<(config::Input, Duration)>,
}

impl InputPlan {
    /// Shortens the longest histories until all fit into `memory`, and logs each. One that was `shortened` before stays as it is
    /// while it fits: the free memory differs from one reload to the next, and another length is another ring.
    pub(super) fn new(config: &Config, memory: Memory, shortened: &[Shortened]) -> InputPlan {
        let longest = memory.longest_history(config).unwrap_or(Duration::MAX);
        let plan = |input: &config::Input| {
            let mut input = input.clone();
            let before = shortened.iter().find(|one| one.name == input.name && one.wanted == input.history);
            if let Some(before) = before.filter(|before| before.kept <= longest) {
                input.history = before.kept;
            } else if input.history > longest {
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

    /// Returns the configuration of the input with that name, and the length of sound that its ring keeps.
    fn find(&self, name: &str) -> Option<&(config::Input, Duration)> {
        self.inputs.iter().find(|(input, _)| input.name == name)
    }

    /// Returns the names of the inputs that share the device of the input `name`, with that input, in the order of the
    /// configuration.
    fn sharing(&self, name: &str) -> Vec<String> {
        let own = self.find(name).map(|(input, _)| input);
        let shares =
            |input: &&config::Input| input.name == name || own.is_some_and(|own| own.shares_device(input));
        self.inputs.iter().map(|(input, _)| input).filter(shares).map(|input| input.name.clone()).collect()
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
        InputPlan::new(&config(text), Memory { bytes: u64::MAX, limit: "a test" }, &[])
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
    fn inputs_that_share_a_device_have_one_capture() {
        let text = "[input.a]\ndevice = 'hw:1'\npick = [1]\n[input.b]\ndevice = 'hw:2'\n\
                    [input.c]\ndevice = 'hw:1'\npick = [2]\n[input.d]\ndevice = 'synth:tone'\n\
                    [input.e]\ndevice = 'synth:tone'\npick = [1]";
        let plan = plan(text);
        for (name, expected) in
            [("a", &["a", "c"][..]), ("b", &["b"]), ("c", &["a", "c"]), ("d", &["d"]), ("e", &["e"])]
        {
            assert_eq!(plan.sharing(name), expected, "{name}");
        }
    }

    #[test]
    fn histories_are_shortened_to_the_memory() {
        let config =
            config("[input.a]\nhistory_seconds = 100\n[input.b]\ndevice = 'hw:1'\nhistory_seconds = 20");
        let planned = |bytes, shortened: &[Shortened]| -> Vec<(u64, Duration)> {
            let plan = InputPlan::new(&config, Memory { bytes, limit: "a test" }, shortened);
            plan.inputs.iter().map(|(input, keep)| (input.history.as_secs(), *keep)).collect()
        };
        let seconds = |bytes| planned(bytes, &[]);
        let ms = Duration::from_millis;
        assert_eq!(seconds(u64::MAX), [(100, ms(100_500)), (20, ms(20_500))]);
        assert_eq!(seconds(176_400 * 71), [(50, ms(50_500)), (20, ms(20_500))]);
        assert_eq!(seconds(176_400 * 21), [(10, ms(10_500)), (10, ms(10_500))]);
        assert_eq!(seconds(0), [(0, ms(2_500)), (0, ms(2_500))]);
        // More or less free memory at a reload.
        let shortened = |wanted| Shortened {
            name: "a".to_owned(),
            wanted: Duration::from_secs(wanted),
            kept: Duration::from_secs(50),
        };
        for (bytes, wanted, history) in
            [(u64::MAX, 100, 50), (176_400 * 81, 100, 50), (176_400 * 51, 100, 30), (u64::MAX, 90, 100)]
        {
            assert_eq!(planned(bytes, &[shortened(wanted)])[0].0, history, "{bytes}");
        }
    }
}
