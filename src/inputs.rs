//! One input that runs, as the rest of the program sees it: its ring, its state, its counters.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::config::Names;
use crate::media::format::SourceSample;
use crate::media::meter::Meter;
use crate::media::ring::Ring;

/// A running input. Its capture thread writes the ring and the counters, the main thread the state,
/// everybody reads.
pub struct LiveInput {
    /// The name in the configuration and in the addresses: `live` is heard at `/live.wav`.
    pub name: String,
    /// What the capture thread counts.
    pub counters: Counters,
    /// In ms.
    history: AtomicU64,
    sound: RwLock<Option<(Ring, Arc<Meter>)>>,
    state: RwLock<State>,
}

/// What the capture thread counts. Each figure is right by itself; together they may be a block apart.
#[derive(Default)]
pub struct Counters {
    /// Frames that came from the source.
    pub frames: AtomicU64,
    /// Frames of silence that stand for sound that was lost or not there.
    pub silence: AtomicU64,
    /// Times that the source dropped frames because the capture thread was late.
    pub overruns: AtomicU64,
    /// Times that the source was lost.
    pub losses: AtomicU64,
    /// Turns of the capture thread's loop: it moves several times a second, with sound or without.
    pub turns: AtomicU64,
    drift: AtomicI64,
}

/// In [`Counters::drift`]: no figure yet.
const NO_DRIFT: i64 = i64::MIN;

impl Counters {
    /// How many parts in a million the source's clock is fast, if that is known yet.
    pub fn drift_ppm(&self) -> Option<f64> {
        match self.drift.load(Ordering::Relaxed) {
            NO_DRIFT => None,
            thousandths => Some(thousandths as f64 / 1e3),
        }
    }

    /// Sets what [`drift_ppm`](Self::drift_ppm) says.
    pub fn set_drift(&self, ppm: Option<f64>) {
        self.drift.store(ppm.map_or(NO_DRIFT, |ppm| (ppm * 1e3) as i64), Ordering::Relaxed);
    }
}

/// What an input is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not open since the program or this device's configuration began.
    Waiting,
    /// Sound comes in.
    Capturing,
    /// Was open, is not now: silence is sent until it is again.
    Lost,
}

impl Phase {
    /// The word in `/status.json`.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Waiting => "waiting",
            Phase::Capturing => "capturing",
            Phase::Lost => "lost",
        }
    }
}

/// An input's state in words.
#[derive(Clone, Debug)]
pub struct State {
    /// What it is doing.
    pub phase: Phase,
    /// Since when.
    pub since: Instant,
    /// The configured device.
    pub device: String,
    /// The open source, or the last one that was.
    pub source: Option<SourceInfo>,
    /// What is wrong and what to do about it; empty while all is well.
    pub problem: String,
}

impl State {
    /// Why there is no sound, in words also before the first attempt to open it has ended.
    pub fn why(&self) -> &str {
        if self.problem.is_empty() { "it is being opened" } else { &self.problem }
    }
}

/// The inputs that run, in the order of the configuration; the first is the default one.
#[derive(Default)]
pub struct Inputs {
    /// Written by the main thread, read by everybody.
    all: RwLock<Vec<Arc<LiveInput>>>,
    /// Titles and aliases. Written by the main thread, read by everybody.
    names: RwLock<Arc<Names>>,
}

impl Inputs {
    /// Returns all inputs.
    pub fn all(&self) -> Vec<Arc<LiveInput>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns titles and aliases of the inputs, and the title of the station.
    pub fn names(&self) -> Arc<Names> {
        Arc::clone(&self.names.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces titles and aliases.
    pub fn set_names(&self, names: Names) {
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(names);
    }

    /// Returns the input that has this name or alias.
    pub fn find(&self, name: &str) -> Option<Arc<LiveInput>> {
        let names = self.names();
        let name = names.resolve(name);
        self.all
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .find(|input| input.name == name)
            .cloned()
    }

    /// Replaces all inputs.
    pub fn set(&self, inputs: Vec<Arc<LiveInput>>) {
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = inputs;
    }
}

/// What a source and its user agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// The name under which it was opened, as ALSA or the configuration has it.
    pub device: String,
    /// The name on the box, where there is one.
    pub card: Option<String>,
    /// Frames a second.
    pub rate: u32,
    /// Samples in a frame.
    pub channels: u16,
    /// How each sample is stored.
    pub sample: SourceSample,
    /// The most frames that one read brings; nearly always it brings so many.
    pub block_frames: u32,
    /// Frames that the source keeps for a late reader.
    pub buffer_frames: u32,
}

impl SourceInfo {
    /// Bytes of one frame as the source stores it.
    pub fn frame_bytes(&self) -> usize {
        self.sample.bytes() * usize::from(self.channels)
    }

    /// How long the source keeps sound for a late reader.
    pub fn buffer(&self) -> Duration {
        Duration::from_nanos(u64::from(self.buffer_frames) * 1_000_000_000 / u64::from(self.rate))
    }
}

impl LiveInput {
    /// An input that waits for its source.
    pub fn new(name: &str, device: &str) -> LiveInput {
        let counters = Counters::default();
        counters.set_drift(None);
        LiveInput {
            name: name.to_owned(),
            counters,
            history: AtomicU64::new(0),
            sound: RwLock::new(None),
            state: RwLock::new(State {
                phase: Phase::Waiting,
                since: Instant::now(),
                device: device.to_owned(),
                source: None,
                problem: String::new(),
            }),
        }
    }

    /// How far back a listener may begin.
    pub fn history(&self) -> Duration {
        Duration::from_millis(self.history.load(Ordering::Relaxed))
    }

    /// Sets what [`history`](Self::history) says.
    pub fn set_history(&self, history: Duration) {
        self.history.store(history.as_millis() as u64, Ordering::Relaxed);
    }

    /// The ring to listen to; `None` while the input has never been open.
    pub fn ring(&self) -> Option<Ring> {
        self.sound().map(|(ring, _)| ring)
    }

    /// The ring, and how loud it is; `None` while the input has never been open.
    pub fn sound(&self) -> Option<(Ring, Arc<Meter>)> {
        self.sound.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another ring in place.
    pub fn set_sound(&self, ring: Ring, levels: Arc<Meter>) {
        *self.sound.write().unwrap_or_else(PoisonError::into_inner) = Some((ring, levels));
    }

    /// A copy of the state.
    pub fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the state; when that changes the phase, it counts from now.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = state.phase;
        change(&mut state);
        if state.phase != before {
            state.since = Instant::now();
        }
    }
}
