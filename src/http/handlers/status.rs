//! `/status.json` and `/healthz`: the state, for programs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use crate::http::context::Context;
use crate::inputs::{LiveInput, Phase};
use crate::listeners::Listener;
use crate::listeners::active_stream::shown;
use crate::media::format::StreamFormat;
use crate::media::meter::Reading;
use crate::media::ring::Ring;

/// Meter in the status are those of this time.
const MOMENT: Duration = Duration::from_millis(300);

#[derive(Serialize)]
struct Status<'a> {
    version: &'a str,
    uptime_seconds: f64,
    /// Requests that hold a thread and two descriptors for ever; absent while there is none.
    #[serde(skip_serializing_if = "is_none")]
    stuck_requests: u32,
    inputs: Vec<InputStatus>,
    listeners: Vec<ListenerStatus>,
}

#[derive(Serialize)]
struct InputStatus {
    name: String,
    state: &'static str,
    /// Since when, in seconds.
    state_seconds: f64,
    /// What is wrong and what to do; absent while all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    problem: String,
    /// As configured.
    device: String,
    /// The source that is open, or was last.
    source: Option<SourceStatus>,
    /// What listeners get.
    format: Option<FormatStatus>,
    /// Frames from the source since the start.
    frames: u64,
    /// Frames of silence put in place of lost sound.
    silence_frames: u64,
    overruns: u64,
    losses: u64,
    /// How fast the card's clock runs against the machine's, in parts per million.
    drift_ppm: Option<f64>,
    history_seconds: f64,
    /// One for each channel, of the last moment.
    levels: Vec<LevelStatus>,
}

/// In dBFS; `null` for digital silence.
#[derive(Serialize)]
struct LevelStatus {
    peak_dbfs: Option<f64>,
    rms_dbfs: Option<f64>,
    /// Samples at full scale since the stream began.
    clipped: u64,
}

/// What the page is told of an input, whenever it changes.
#[derive(Clone, Serialize)]
pub(crate) struct PageState {
    input: String,
    /// All there are, the default one first.
    inputs: Vec<String>,
    phase: &'static str,
    /// Since when, in seconds.
    seconds: f64,
    #[serde(skip_serializing_if = "String::is_empty")]
    problem: String,
    /// As configured.
    device: String,
    /// What the card calls itself, or the device if that does not.
    card: Option<String>,
    format: Option<FormatStatus>,
    /// The ring's ID: where another one is, frames count anew.
    stream: u64,
    history_seconds: f64,
    overruns: u64,
    losses: u64,
    listeners: usize,
}

impl PageState {
    /// The same after so many seconds.
    pub(crate) fn at(&self, seconds: f64) -> PageState {
        PageState { seconds, ..self.clone() }
    }
}

#[derive(Serialize)]
struct SourceStatus {
    device: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<String>,
    sample: &'static str,
    rate: u32,
    channels: u16,
    period_frames: u32,
    buffer_frames: u32,
}

#[derive(Clone, Serialize)]
struct FormatStatus {
    rate: u32,
    channels: u16,
    sample: &'static str,
    bytes_per_second: u64,
}

#[derive(Serialize)]
struct ListenerStatus {
    id: u64,
    input: String,
    address: String,
    player: String,
    seconds: f64,
    frames_sent: u64,
    frames_skipped: u64,
    /// How far what it has is behind the live edge: what it was not sent, and what the kernel still holds.
    lag_ms: f64,
    interval_ms: f64,
    /// From capture to the kernel.
    latency_ms: Option<Latency>,
}

#[derive(Serialize)]
struct Latency {
    median: f64,
    p99: f64,
}

/// The state as JSON.
pub fn render(context: &Context) -> String {
    let inputs = context.inputs.all();
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: tenths(context.started.elapsed().as_secs_f64()),
        stuck_requests: context.stuck.count(),
        inputs: inputs.iter().map(|input| input_status(input)).collect(),
        listeners: context
            .listeners
            .all()
            .iter()
            .map(|listener| listener_status(listener, context.input(&listener.input).and_then(|i| i.ring())))
            .collect(),
    };
    // It has only strings as keys and no other way to fail.
    serde_json::to_string_pretty(&status).unwrap_or_default() + "\n"
}

/// Status code and text of `/healthz`: 200 while every input brings sound.
pub fn health(context: &Context) -> (u16, String) {
    let troubles: Vec<String> = context
        .inputs
        .all()
        .iter()
        .map(|input| (input.name.clone(), input.state()))
        .filter(|(_, state)| state.phase != Phase::Capturing)
        .map(|(name, state)| format!("{name} is {}: {}", state.phase.name(), state.why()))
        .collect();
    match troubles.is_empty() {
        true => (200, "ok".to_owned()),
        false => (503, troubles.join("\n")),
    }
}

/// How an input is, for the page.
pub(crate) fn page_state(context: &Context, input: &LiveInput) -> PageState {
    let state = input.state();
    let ring = input.ring();
    let listeners = context.listeners.all();
    PageState {
        input: input.name.clone(),
        inputs: context.inputs.all().iter().map(|input| input.name.clone()).collect(),
        phase: state.phase.name(),
        seconds: tenths(state.since.elapsed().as_secs_f64()),
        problem: state.problem,
        device: state.device,
        card: state.source.map(|source| source.card.unwrap_or(source.device)),
        format: ring.as_ref().map(|ring| format_status(ring.format())),
        stream: ring.map_or(0, |ring| ring.id()),
        history_seconds: input.history().as_secs_f64(),
        overruns: input.counters.overruns.load(Ordering::Relaxed),
        losses: input.counters.losses.load(Ordering::Relaxed),
        listeners: listeners.iter().filter(|listener| listener.input == input.name).count(),
    }
}

fn format_status(format: StreamFormat) -> FormatStatus {
    FormatStatus {
        rate: format.rate,
        channels: format.channels,
        sample: format.sample.name(),
        bytes_per_second: format.bytes_per_second(),
    }
}

fn input_status(input: &LiveInput) -> InputStatus {
    let state = input.state();
    let sound = input.sound();
    let counters = &input.counters;
    InputStatus {
        name: input.name.clone(),
        state: state.phase.name(),
        state_seconds: tenths(state.since.elapsed().as_secs_f64()),
        problem: state.problem,
        device: state.device,
        source: state.source.map(|source| SourceStatus {
            device: source.device,
            card: source.card,
            sample: source.sample.name(),
            rate: source.rate,
            channels: source.channels,
            period_frames: source.block_frames,
            buffer_frames: source.buffer_frames,
        }),
        format: sound.as_ref().map(|(ring, _)| format_status(ring.format())),
        frames: counters.frames.load(Ordering::Relaxed),
        silence_frames: counters.silence.load(Ordering::Relaxed),
        overruns: counters.overruns.load(Ordering::Relaxed),
        losses: counters.losses.load(Ordering::Relaxed),
        drift_ppm: counters.drift_ppm().map(tenths),
        history_seconds: input.history().as_secs_f64(),
        levels: sound.map_or(Vec::new(), |(_, levels)| {
            let level = |level: Reading| LevelStatus {
                peak_dbfs: level.peak_dbfs().map(tenths),
                rms_dbfs: level.rms_dbfs().map(tenths),
                clipped: level.clipped,
            };
            levels.within(MOMENT).into_iter().map(level).collect()
        }),
    }
}

fn listener_status(listener: &Listener, ring: Option<Ring>) -> ListenerStatus {
    // From where it is, and not from how far behind it last knew itself to be: one that is stuck in a send
    // knows nothing.
    let lag = ring.map_or(0.0, |ring| {
        let format = ring.format();
        let queued = listener.queued_bytes() as f64 / format.bytes_per_second() as f64;
        let behind = ring.frames().saturating_sub(listener.position.load(Ordering::Relaxed));
        format.duration_of(behind).as_secs_f64() + queued
    });
    let ms = |time: std::time::Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    ListenerStatus {
        id: listener.id,
        input: listener.input.clone(),
        address: shown(listener.address).to_string(),
        player: listener.player.clone(),
        seconds: tenths(listener.since.elapsed().as_secs_f64()),
        frames_sent: listener.sent.load(Ordering::Relaxed),
        frames_skipped: listener.skipped.load(Ordering::Relaxed),
        lag_ms: tenths(lag * 1e3),
        interval_ms: tenths(f64::from(listener.interval_us.load(Ordering::Relaxed)) / 1e3),
        latency_ms: listener
            .latency
            .quantile(0.5)
            .zip(listener.latency.quantile(0.99))
            .map(|(median, p99)| Latency { median: ms(median), p99: ms(p99) }),
    }
}

// A reference is what serde has.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_none(count: &u32) -> bool {
    *count == 0
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
