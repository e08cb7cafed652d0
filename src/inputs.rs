//! The inputs that run, as the rest of the program sees them: ring, meter, state, counters.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::config::Names;
use crate::media::format::SourceSample;
use crate::media::meter::Meter;
use crate::media::ring::Ring;
use crate::sys::clock::monotonic_ns;

/// The inputs that run, in the order of the configuration. The first is the default one.
#[derive(Default)]
pub struct Inputs {
    /// Written by the main thread, read by all.
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

/// A running input.
///
/// | part | written by | read by |
/// |---|---|---|
/// | ring, meter, history | the opener thread, when a source was opened | handlers, listeners, page |
/// | counters | the capture thread | handlers, the main thread |
/// | state | the main thread | handlers |
///
/// The capture thread takes neither of the two locks: a reader that was preempted while it holds one cannot delay it.
pub struct LiveInput {
    /// Name in the configuration and in addresses: `live` is served at `/live.wav`.
    pub name: String,
    /// Counters of the capture thread.
    pub counters: Counters,
    sound: RwLock<Option<Sound>>,
    state: RwLock<State>,
}

/// The sound of an input that has been open.
#[derive(Clone)]
struct Sound {
    ring: Ring,
    meter: Arc<Meter>,
    /// Time before the live edge at which a listener may start at the earliest.
    history: Duration,
}

impl LiveInput {
    /// An input that waits for its source.
    pub fn new(name: &str, device: &str) -> LiveInput {
        LiveInput {
            name: name.to_owned(),
            counters: Counters::default(),
            sound: RwLock::new(None),
            state: RwLock::new(State {
                phase: Phase::Waiting,
                since: Instant::now(),
                device: device.to_owned(),
                source: None,
                problem: String::new(),
                trouble: None,
                dead_air_since: None,
            }),
        }
    }

    /// Returns how far back a listener may start: what the ring holds, at most what the configuration promises. Zero
    /// while the input has never been open.
    pub fn history(&self) -> Duration {
        self.with_sound(|sound| sound.history).unwrap_or_default()
    }

    /// Returns the ring; `None` while the input has never been open.
    pub fn ring(&self) -> Option<Ring> {
        self.with_sound(|sound| sound.ring.clone())
    }

    /// Returns the ring and the meter of its sound; `None` while the input has never been open.
    pub fn sound(&self) -> Option<(Ring, Arc<Meter>)> {
        self.with_sound(|sound| (sound.ring.clone(), Arc::clone(&sound.meter)))
    }

    /// Replaces the ring and its meter. `history` is how far back a listener of this ring may start.
    pub fn set_sound(&self, ring: Ring, meter: Arc<Meter>, history: Duration) {
        let sound = Sound { ring, meter, history };
        *self.sound.write().unwrap_or_else(PoisonError::into_inner) = Some(sound);
    }

    /// Returns a copy of the state.
    pub fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the state. If that changes the phase, [`State::since`] becomes now.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let before = state.phase;
        change(&mut state);
        if state.phase != before {
            state.since = Instant::now();
        }
    }

    fn with_sound<T>(&self, read: impl FnOnce(&Sound) -> T) -> Option<T> {
        self.sound.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(read)
    }
}

/// The counters of a capture thread. Each figure is exact by itself; together they may be a block apart.
pub struct Counters {
    /// Frames that came from the source.
    pub frames: AtomicU64,
    /// Frames of silence in place of sound that was lost or missing.
    pub silence: AtomicU64,
    /// Overruns: the source dropped frames because the capture thread was late.
    pub overruns: AtomicU64,
    /// Losses of the source.
    pub losses: AtomicU64,
    /// Turns of the capture thread's loop. Increases several times a second, with sound or without; if it stands
    /// still, the thread hangs.
    pub heartbeats: AtomicU64,
    /// Drift of the source's clock in thousandths of a ppm, or [`NO_DRIFT`].
    drift: AtomicI64,
    recent_silence: RecentSilence,
}

/// The value of [`Counters::drift`] while there is no estimate.
const NO_DRIFT: i64 = i64::MIN;

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            frames: AtomicU64::default(),
            silence: AtomicU64::default(),
            overruns: AtomicU64::default(),
            losses: AtomicU64::default(),
            heartbeats: AtomicU64::default(),
            drift: AtomicI64::new(NO_DRIFT),
            recent_silence: RecentSilence::default(),
        }
    }
}

impl Counters {
    /// Returns by how many parts per million the source's clock is fast; `None` while there is no estimate.
    pub fn drift_ppm(&self) -> Option<f64> {
        match self.drift.load(Ordering::Relaxed) {
            NO_DRIFT => None,
            thousandths => Some(thousandths as f64 / 1e3),
        }
    }

    /// Sets the value of [`drift_ppm`](Self::drift_ppm).
    pub fn set_drift(&self, ppm: Option<f64>) {
        self.drift.store(ppm.map_or(NO_DRIFT, |ppm| (ppm * 1e3) as i64), Ordering::Relaxed);
    }

    /// Counts frames of silence that are published at `now` (CLOCK_MONOTONIC, ns) at a rate of `rate` frames per
    /// second. For the capture thread only.
    pub fn count_silence(&self, frames: u64, rate: u32, now: u64) {
        self.silence.fetch_add(frames, Ordering::Relaxed);
        let time = Duration::from_micros(frames.saturating_mul(1_000_000) / u64::from(rate.max(1)));
        self.recent_silence.add(time, now);
    }

    /// Returns which share of the last ten seconds is inserted silence, from 0 to 1.
    pub fn silence_share(&self) -> f64 {
        self.recent_silence.share(monotonic_ns())
    }
}

/// The silence that was inserted in each of the last [`SECONDS`](RecentSilence::SECONDS) seconds.
///
/// One writer, any number of readers, no lock. A bucket is one word, so that a reader never sees a second with the
/// silence of another.
#[derive(Default)]
struct RecentSilence {
    /// One bucket per second, by the second modulo their number: the second (modulo 2³²) in the upper 32 bits,
    /// microseconds of silence in the lower.
    buckets: [AtomicU64; Self::SECONDS as usize],
}

impl RecentSilence {
    const SECONDS: u64 = 10;

    /// Adds silence at the time `now` (ns). For one thread only.
    fn add(&self, time: Duration, now: u64) {
        let second = now / 1_000_000_000;
        let bucket = &self.buckets[(second % Self::SECONDS) as usize];
        let before = bucket.load(Ordering::Relaxed);
        let same_second = before >> 32 == second & 0xFFFF_FFFF;
        let micros = if same_second { before & 0xFFFF_FFFF } else { 0 };
        let micros = (micros + time.as_micros() as u64).min(0xFFFF_FFFF);
        bucket.store(second << 32 | micros, Ordering::Relaxed);
    }

    /// Returns the share of silence in the [`SECONDS`](Self::SECONDS) seconds of which that at `now` is the last.
    fn share(&self, now: u64) -> f64 {
        let second = (now / 1_000_000_000) as u32;
        let micros = |bucket: &AtomicU64| {
            let value = bucket.load(Ordering::Relaxed);
            let age = second.wrapping_sub((value >> 32) as u32);
            if u64::from(age) < Self::SECONDS { value & 0xFFFF_FFFF } else { 0 }
        };
        let sum: u64 = self.buckets.iter().map(micros).sum();
        (sum as f64 / (Self::SECONDS as f64 * 1e6)).min(1.0)
    }
}

/// The phase of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not open since the program started or the input's configuration changed.
    Waiting,
    /// Sound comes in.
    Capturing,
    /// The source was open and is lost. Silence is sent until it is open again.
    Lost,
}

impl Phase {
    /// Returns the word in `/status.json`.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Waiting => "waiting",
            Phase::Capturing => "capturing",
            Phase::Lost => "lost",
        }
    }
}

/// The state of an input, for people.
#[derive(Clone, Debug)]
pub struct State {
    /// The phase.
    pub phase: Phase,
    /// Time of the last change of the phase.
    pub since: Instant,
    /// The configured device.
    pub device: String,
    /// The open source, or the last one that was open.
    pub source: Option<SourceInfo>,
    /// Problem and remedy; empty while all is well.
    pub problem: String,
    /// The kind of the problem.
    pub trouble: Option<Trouble>,
    /// The beginning of dead air that is reported: the source is open and delivers no sound.
    pub dead_air_since: Option<Instant>,
}

impl State {
    /// Returns the reason for which there is no sound. There is one before the first attempt to open the source has
    /// ended, too.
    pub fn why(&self) -> &str {
        if self.problem.is_empty() { "it is being opened" } else { &self.problem }
    }
}

/// The kind of a problem, for a page that says it in the words of its language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is simply no device of that name now. For a card that worked before, only waiting helps.
    Absent,
    /// The device is in use.
    Busy,
    /// The device offers nothing that can be captured.
    Format,
    /// Any other.
    Other,
}

impl Trouble {
    /// Returns the word in the events of the page.
    pub const fn name(self) -> &'static str {
        match self {
            Trouble::Absent => "absent",
            Trouble::Busy => "busy",
            Trouble::Format => "format",
            Trouble::Other => "other",
        }
    }
}

/// The properties that a source agreed to when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceInfo {
    /// Name under which the source was opened, as ALSA or the configuration has it.
    pub device: String,
    /// The card's name for people, where there is one.
    pub card: Option<String>,
    /// Frames per second.
    pub rate: u32,
    /// Samples per frame.
    pub channels: u16,
    /// Storage format of a sample.
    pub sample: SourceSample,
    /// Frames of one read at most: the period. Nearly every read brings this many.
    pub block_frames: u32,
    /// Frames that the source keeps for a late reader.
    pub buffer_frames: u32,
}

impl SourceInfo {
    /// Returns the bytes of one frame as the source stores it.
    pub fn frame_bytes(&self) -> usize {
        self.sample.bytes() * usize::from(self.channels)
    }

    /// Returns how long the source keeps sound for a late reader.
    pub fn buffer(&self) -> Duration {
        Duration::from_nanos(u64::from(self.buffer_frames) * 1_000_000_000 / u64::from(self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::format::{SampleFormat, StreamFormat};
    use crate::media::ring;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn history_is_that_of_the_ring_and_zero_without_one() {
        let input = LiveInput::new("live", "test");
        assert_eq!(input.history(), Duration::ZERO);
        let format = StreamFormat { rate: 1000, channels: 1, sample: SampleFormat::S16 };
        let (_writer, ring) = ring::new(format, 10, Duration::from_secs(2)).expect("memory");
        input.set_sound(ring, Arc::new(Meter::new(format, 10, Duration::ZERO)), Duration::from_secs(1));
        assert_eq!(input.history(), Duration::from_secs(1));
    }

    #[test]
    fn silence_share_covers_the_last_ten_seconds() {
        let recent = RecentSilence::default();
        assert_eq!(recent.share(1000 * SECOND), 0.0);
        for second in 1000..1004 {
            recent.add(Duration::from_millis(500), second * SECOND);
            recent.add(Duration::from_millis(500), second * SECOND + SECOND / 2);
        }
        assert_eq!(recent.share(1003 * SECOND), 0.4);
        assert_eq!(recent.share(1009 * SECOND), 0.4);
        assert_eq!(recent.share(1011 * SECOND), 0.2);
        assert_eq!(recent.share(1013 * SECOND), 0.0);
        // A bucket is used again after ten seconds.
        recent.add(Duration::from_secs(1), 1013 * SECOND);
        assert_eq!(recent.share(1013 * SECOND), 0.1);
    }

    #[test]
    fn silence_share_is_at_most_one() {
        let counters = Counters::default();
        counters.count_silence(480_000 * 2, 48_000, monotonic_ns());
        assert_eq!(counters.silence_share(), 1.0);
        assert_eq!(counters.silence.load(Ordering::Relaxed), 960_000);
    }

    #[test]
    fn drift_has_no_value_before_the_first_estimate() {
        let counters = Counters::default();
        assert_eq!(counters.drift_ppm(), None);
        counters.set_drift(Some(-12.5));
        assert_eq!(counters.drift_ppm(), Some(-12.5));
    }
}
