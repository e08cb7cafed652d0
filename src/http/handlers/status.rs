//! `/status.json` and `/healthz`: the state for programs; and the state of one input for the page.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config::Names;
use crate::encode::{Codec, Encoding, Encodings};
use crate::http::context::Context;
use crate::http::exchange::Exchange;
use crate::http::page_state::{FormatStatus, format_status, tenths};
use crate::http::response::Response;
use crate::inputs::{Inputs, LiveInput, Phase};
use crate::listeners::{Listener, Listeners};
use crate::media::meter::Reading;
use crate::media::ring::Ring;
use crate::pushes::{LivePush, PushCounters, Pushes};

/// Time over which the levels in `/status.json` are measured.
const LEVELS_WINDOW: Duration = Duration::from_millis(300);

#[derive(Serialize)]
struct Status<'a> {
    version: &'a str,
    uptime_seconds: f64,
    station: StationStatus,
    inputs: Vec<InputStatus>,
    listeners: Vec<ListenerStatus>,
    encoders: Vec<EncoderStatus>,
    pushes: Vec<PushStatus>,
}

/// As configured; `null` for what is not.
#[derive(Serialize)]
struct StationStatus {
    title: Option<String>,
    description: Option<String>,
}

#[derive(Serialize)]
struct InputStatus {
    name: String,
    /// The name for people: the configured title, or else the name.
    title: String,
    state: &'static str,
    /// Age of the state.
    state_seconds: f64,
    /// The problem and its remedy; absent while there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    problem: String,
    /// Time for which the source has delivered no sound; `null` while it does.
    dead_air_seconds: Option<f64>,
    /// As configured.
    device: String,
    /// The source that is open, or the last one that was.
    source: Option<SourceStatus>,
    /// The format of the stream.
    format: Option<FormatStatus>,
    /// Frames from the source since the start.
    frames: u64,
    /// Frames of silence inserted in place of lost sound.
    silence_frames: u64,
    overruns: u64,
    losses: u64,
    /// Rate of the card's clock against the machine's, in parts per million; positive is fast.
    drift_ppm: Option<f64>,
    history_seconds: f64,
    /// The codecs in which the input can be heard beside WAV.
    codecs: Vec<&'static str>,
    /// One for each channel.
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

#[derive(Serialize)]
struct ListenerStatus {
    id: u64,
    input: String,
    /// `wav`, `flac`, `mp3` or `opus`.
    codec: &'static str,
    /// In kbit/s; absent for WAV and FLAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    bitrate: Option<u32>,
    address: String,
    player: String,
    seconds: f64,
    frames_sent: u64,
    frames_skipped: u64,
    /// Distance of the client from the live edge: what it was not sent, and what the kernel still holds.
    lag_ms: f64,
    interval_ms: f64,
    /// Time from the capture of a block to its hand-over to the kernel.
    latency_ms: Option<Latency>,
}

/// An encoder that runs for all listeners of its codec and bit rate.
#[derive(Serialize)]
struct EncoderStatus {
    input: String,
    codec: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bitrate: Option<u32>,
    listeners: usize,
    /// Share of one core over the last seconds.
    cpu_percent: f64,
    /// Frames that the encoder was too slow for.
    frames_skipped: u64,
}

#[derive(Serialize)]
struct PushStatus {
    name: String,
    input: String,
    /// The server and the mount, without user and password.
    to: String,
    format: &'static str,
    /// In kbit/s; `null` for FLAC, and before the first try.
    bitrate: Option<u64>,
    /// Words such as "on the air".
    state: &'static str,
    /// Reason and remedy; empty while there is nothing to say.
    detail: String,
    /// Age of the state.
    since_seconds: f64,
    sent_bytes: u64,
    /// Ogg pages or MP3 frames that a slow server did not take in time.
    dropped_packets: u64,
    /// Frames of sound that were overwritten before they were encoded.
    lost_frames: u64,
    reconnects: u64,
    /// The length of the sound that waits for the server.
    queue_ms: u64,
    /// Time to the next try; `null` while none is planned.
    next_try_seconds: Option<f64>,
    /// The last words of the server; empty if it has said nothing.
    server_says: String,
}

#[derive(Serialize)]
struct Latency {
    median: f64,
    p99: f64,
}

/// Answers with the state as JSON.
pub(crate) fn serve(context: &Context, exchange: Exchange) {
    let Context { started, inputs, listeners, encodings, pushes, .. } = context;
    let json = render(*started, inputs, listeners, encodings, pushes);
    exchange.respond(Response::json(json));
}

/// Returns the text of `/status.json` for a daemon that started at that time.
pub fn render(
    started: Instant,
    inputs: &Inputs,
    listeners: &Listeners,
    encodings: &Encodings,
    pushes: &Pushes,
) -> String {
    let names = inputs.names();
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: tenths(started.elapsed().as_secs_f64()),
        station: StationStatus {
            title: names.station.title.clone(),
            description: names.station.description.clone(),
        },
        inputs: inputs.all().iter().map(|input| input_status(input, &names, encodings)).collect(),
        listeners: listeners
            .all()
            .iter()
            .map(|listener| {
                listener_status(listener, inputs.find(&listener.input).and_then(|input| input.ring()))
            })
            .collect(),
        encoders: encodings.all().iter().map(|encoding| encoder_status(encoding)).collect(),
        pushes: pushes.all().iter().map(|push| push_status(push)).collect(),
    };
    // A struct with strings as keys has no way to fail.
    serde_json::to_string_pretty(&status).unwrap_or_default() + "\n"
}

/// The share of inserted silence in the last ten seconds beyond which an input is not healthy.
const TOO_MUCH_SILENCE: f64 = 0.5;

/// Returns status code and text of `/healthz`, or of `/healthz/NAME` with that input's name: 200 while every
/// input of these captures sound, 503 with the reasons otherwise. `None` if there is no such input.
///
/// An input that captures is not healthy while more than half of the last ten seconds is silence in place of lost
/// sound. One with dead air is `degraded`, with 200: nothing shows whether the room is just quiet.
pub fn health(inputs: &Inputs, name: Option<&str>) -> Option<(u16, String)> {
    let asked = match name {
        Some(name) => vec![inputs.find(name)?],
        None => inputs.all(),
    };
    let (mut failed, mut degraded) = (Vec::new(), Vec::new());
    for input in asked {
        let (name, state) = (&input.name, input.state());
        let silence = input.counters.silence_share();
        if state.phase != Phase::Capturing {
            failed.push(format!("{name} is {}: {}", state.phase.name(), state.why()));
        } else if silence > TOO_MUCH_SILENCE {
            failed.push(format!(
                "{name} loses sound: {:.0} % of the last 10 s is silence in place of it",
                silence * 100.0
            ));
        } else if state.dead_air_since.is_some() {
            degraded.push(format!("{name} has dead air: {}", state.problem));
        }
    }
    Some(match (failed.is_empty(), degraded.is_empty()) {
        (true, true) => (200, "ok".to_owned()),
        (true, false) => (200, format!("degraded\n{}", degraded.join("\n"))),
        (false, _) => (503, [failed, degraded].concat().join("\n")),
    })
}

fn input_status(input: &LiveInput, names: &Names, encodings: &Encodings) -> InputStatus {
    let state = input.state();
    let sound = input.sound();
    let counters = &input.counters;
    InputStatus {
        name: input.name.clone(),
        title: names.title(&input.name).to_owned(),
        state: state.phase.name(),
        state_seconds: tenths(state.since.elapsed().as_secs_f64()),
        problem: state.problem,
        dead_air_seconds: state.dead_air_since.map(|since| tenths(since.elapsed().as_secs_f64())),
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
        codecs: encodings
            .codecs(sound.as_ref().map(|(ring, _)| ring.format()))
            .into_iter()
            .map(Codec::name)
            .collect(),
        levels: sound.map_or(Vec::new(), |(_, levels)| {
            let level = |level: Reading| LevelStatus {
                peak_dbfs: level.peak_dbfs().map(tenths),
                rms_dbfs: level.rms_dbfs().map(tenths),
                clipped: level.clipped,
            };
            levels.within(LEVELS_WINDOW).into_iter().map(level).collect()
        }),
    }
}

fn encoder_status(encoding: &Encoding) -> EncoderStatus {
    EncoderStatus {
        input: encoding.input.clone(),
        codec: encoding.kind.codec.name(),
        bitrate: encoding.kind.bitrate,
        listeners: encoding.consumers(),
        cpu_percent: f64::from(encoding.cpu.load(Ordering::Relaxed) / 100) / 100.0,
        frames_skipped: encoding.skipped.load(Ordering::Relaxed),
    }
}

fn listener_status(listener: &Listener, ring: Option<Ring>) -> ListenerStatus {
    // Computed from its position, not from the lag that it measured last: a listener that is blocked in a
    // send measures nothing.
    let lag = ring.map_or(0.0, |ring| {
        let format = ring.format();
        let coding = listener.coding.as_ref();
        let bytes = coding.map_or(format.bytes_per_second(), |coding| coding.kind.bytes_per_second(format));
        let queued = listener.queued_bytes() as f64 / bytes.max(1) as f64;
        let position = listener.position.load(Ordering::Relaxed);
        let shared = coding.and_then(|coding| coding.shared.as_ref());
        let frame = shared.map_or(Some(position), |encoding| Some(encoding.input_frame(position)?.1));
        let behind = ring.frames().saturating_sub(frame.unwrap_or_default());
        format.duration_of(behind).as_secs_f64() + queued
    });
    let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    ListenerStatus {
        id: listener.id,
        input: listener.input.clone(),
        codec: listener.coding.as_ref().map_or("wav", |coding| coding.kind.codec.name()),
        bitrate: listener.coding.as_ref().and_then(|coding| coding.kind.bitrate),
        address: listener.ip().to_string(),
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

fn push_status(push: &LivePush) -> PushStatus {
    let (state, counters, get) = (push.state(), &push.counters, PushCounters::get);
    let until = |at: Instant| tenths(at.saturating_duration_since(Instant::now()).as_secs_f64());
    PushStatus {
        name: push.name.clone(),
        input: push.input.clone(),
        to: push.to.clone(),
        format: push.format,
        bitrate: Some(get(&push.bitrate)).filter(|bitrate| *bitrate > 0),
        state: state.phase.name(),
        detail: state.detail,
        since_seconds: tenths(state.since.elapsed().as_secs_f64()),
        sent_bytes: get(&counters.sent_bytes),
        dropped_packets: get(&counters.dropped_packets),
        lost_frames: get(&counters.lost_frames),
        reconnects: get(&counters.reconnects),
        queue_ms: get(&counters.queue_ms),
        next_try_seconds: state.next_try.map(until),
        server_says: state.server_says,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config;
    use crate::settings::Settings;
    use crate::sys::clock::monotonic_ns;

    fn inputs() -> Inputs {
        let inputs = Inputs::default();
        let (good, bad) = (LiveInput::new("live", "hw:0"), LiveInput::new("bird-box", "hw:1"));
        good.change(|state| state.phase = Phase::Capturing);
        bad.change(|state| state.problem = "the card is missing".to_owned());
        inputs.set(vec![Arc::new(good), Arc::new(bad)]);
        inputs
    }

    fn rendered(inputs: &Inputs) -> serde_json::Value {
        let settings = Settings::new(config::Listeners::default(), config::Limits::default());
        let settings = Arc::new(settings);
        let (listeners, encodings) = (Listeners::new(Arc::clone(&settings)), Encodings::new(settings));
        let json = render(Instant::now(), inputs, &listeners, &encodings, &Pushes::default());
        serde_json::from_str(&json).expect("JSON")
    }

    #[test]
    fn health_is_that_of_all_inputs_or_of_one() {
        let inputs = inputs();
        let bad = (503, "bird-box is waiting: the card is missing".to_owned());
        for (name, expected) in [
            (None, Some(bad.clone())),
            (Some("live"), Some((200, "ok".to_owned()))),
            (Some("bird-box"), Some(bad)),
            (Some("other"), None),
        ] {
            assert_eq!(health(&inputs, name), expected, "{name:?}");
        }
    }

    #[test]
    fn an_input_that_is_mostly_inserted_silence_is_not_healthy() {
        let inputs = inputs();
        let live = inputs.find("live").expect("an input");
        let rate = 48_000;
        live.counters.count_silence(5 * 48_000, rate, monotonic_ns());
        assert_eq!(health(&inputs, Some("live")), Some((200, "ok".to_owned())), "not more than half");
        live.counters.count_silence(13 * 4800, rate, monotonic_ns());
        let text = "live loses sound: 63 % of the last 10 s is silence in place of it";
        assert_eq!(health(&inputs, Some("live")), Some((503, text.to_owned())));
    }

    #[test]
    fn an_input_with_dead_air_is_degraded() {
        let inputs = inputs();
        let live = inputs.find("live").expect("an input");
        live.change(|state| {
            state.problem = "zeros only".to_owned();
            state.dead_air_since = Some(Instant::now());
        });
        let degraded = "live has dead air: zeros only";
        assert_eq!(health(&inputs, Some("live")), Some((200, format!("degraded\n{degraded}"))));
        let both = format!("bird-box is waiting: the card is missing\n{degraded}");
        assert_eq!(health(&inputs, None), Some((503, both)));
        let status = rendered(&inputs);
        assert!(status["inputs"][0]["dead_air_seconds"].is_number());
        assert!(status["inputs"][1]["dead_air_seconds"].is_null());
    }

    #[test]
    fn the_status_names_every_input() {
        let status = rendered(&inputs());
        assert_eq!(status["inputs"][0]["state"], "capturing");
        assert_eq!(status["inputs"][1]["problem"], "the card is missing");
        assert_eq!(status["listeners"].as_array().map(Vec::len), Some(0));
    }
}
