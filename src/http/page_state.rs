//! The state of an input as the page receives it, by the events of `/NAME/levels`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::event_stream::StateEvent;
use crate::encode::{Codec, Encodings};
use crate::inputs::{Inputs, LiveInput, Trouble};
use crate::listeners::Listeners;
use crate::media::format::StreamFormat;
use crate::media::ring::Ring;
use crate::pushes::{LivePush, Pushes};

/// The state of an input as the page receives it, whenever it changes.
#[derive(Serialize)]
struct PageState {
    input: String,
    /// Its title, which is its name where it has none.
    title: String,
    /// All inputs, the default one first.
    inputs: Vec<String>,
    /// The titles of all inputs, in the same order.
    titles: Vec<String>,
    /// The title of the station; absent where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    station: Option<String>,
    phase: &'static str,
    /// Age of the phase.
    seconds: f64,
    #[serde(skip_serializing_if = "String::is_empty")]
    problem: String,
    /// The kind of the problem: `absent`, `busy`, `format` or `other`; `null` while there is none.
    trouble: Option<&'static str>,
    /// As configured.
    device: String,
    /// The card's own name, or the device where it has none.
    card: Option<String>,
    format: Option<FormatStatus>,
    /// The ring's ID. Frames of another ring are counted from 0 again.
    stream: u64,
    history_seconds: f64,
    overruns: u64,
    losses: u64,
    listeners: usize,
    /// The codecs in which the input can be heard beside WAV: `/NAME.flac` and so on.
    codecs: Vec<&'static str>,
    /// The pushes of this input; absent where it has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pushes: Vec<PagePush>,
}

/// The state of a push as the page receives it.
#[derive(Serialize)]
struct PagePush {
    name: String,
    /// Words such as "on the air".
    state: &'static str,
    /// Reason and remedy; empty while there is nothing to say.
    detail: String,
}

/// The format of a stream.
#[derive(Clone, Serialize)]
pub(crate) struct FormatStatus {
    rate: u32,
    channels: u16,
    sample: &'static str,
    bytes_per_second: u64,
}

/// Returns the state of an input for the page.
pub(crate) fn page_state(
    inputs: &Inputs,
    listeners: &Listeners,
    encodings: &Encodings,
    pushes: &Pushes,
    input: &LiveInput,
) -> StateEvent {
    let push = |push: &Arc<LivePush>| {
        let state = push.state();
        PagePush { name: push.name.clone(), state: state.phase.name(), detail: state.detail }
    };
    let state = input.state();
    let ring = input.ring();
    let (names, all) = (inputs.names(), inputs.all());
    let mut page_state = PageState {
        input: input.name.clone(),
        title: names.title(&input.name).to_owned(),
        inputs: all.iter().map(|input| input.name.clone()).collect(),
        titles: all.iter().map(|input| names.title(&input.name).to_owned()).collect(),
        station: names.station.title.clone(),
        phase: state.phase.name(),
        seconds: tenths(state.since.elapsed().as_secs_f64()),
        problem: state.problem,
        trouble: state.trouble.map(Trouble::name),
        device: state.device,
        card: state.source.map(|source| source.card.unwrap_or(source.device)),
        format: ring.as_ref().map(|ring| format_status(ring.format())),
        stream: ring.as_ref().map_or(0, Ring::id),
        history_seconds: input.history().as_secs_f64(),
        overruns: input.counters.overruns.load(Ordering::Relaxed),
        losses: input.counters.losses.load(Ordering::Relaxed),
        listeners: listeners.all().iter().filter(|listener| listener.input == input.name).count(),
        codecs: encodings.codecs(ring.as_ref().map(Ring::format)).into_iter().map(Codec::name).collect(),
        pushes: pushes.all().iter().filter(|push| push.input == input.name).map(push).collect(),
    };
    let json = to_json(&page_state);
    // The page counts the seconds by itself; everything else in it is worth an event.
    page_state.seconds = 0.0;
    StateEvent { fingerprint: to_json(&page_state), json }
}

fn to_json(value: &impl Serialize) -> String {
    // A struct with strings as keys has no way to fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// Returns a format as JSON has it.
pub(crate) fn format_status(format: StreamFormat) -> FormatStatus {
    FormatStatus {
        rate: format.rate,
        channels: format.channels,
        sample: format.sample.name(),
        bytes_per_second: format.bytes_per_second(),
    }
}

/// Rounds to one decimal.
pub(crate) fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config;
    use crate::inputs::Phase;
    use crate::settings::Settings;

    fn listeners() -> (Listeners, Encodings) {
        let settings = Settings::new(config::Listeners::default(), config::Limits::default());
        let settings = Arc::new(settings);
        (Listeners::new(Arc::clone(&settings)), Encodings::new(settings))
    }

    #[test]
    fn the_passing_of_time_is_no_change_of_the_page_state() {
        let (inputs, (listeners, encodings)) = (Inputs::default(), listeners());
        inputs.set(vec![Arc::new(LiveInput::new("live", "hw:0"))]);
        let live = inputs.find("live").expect("an input");
        let before = page_state(&inputs, &listeners, &encodings, &Pushes::default(), &live);
        live.change(|state| state.since = state.since.checked_sub(Duration::from_secs(9)).expect("uptime"));
        let later = page_state(&inputs, &listeners, &encodings, &Pushes::default(), &live);
        assert_eq!(before.fingerprint, later.fingerprint);
        assert_ne!(before.json, later.json);
        live.change(|state| state.phase = Phase::Lost);
        assert_ne!(
            page_state(&inputs, &listeners, &encodings, &Pushes::default(), &live).fingerprint,
            before.fingerprint
        );
    }
}
