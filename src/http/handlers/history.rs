//! `/NAME/history`: the peaks of the kept history, for the timeline of the page.

use serde::Serialize;

use super::not_found::not_found;
use crate::http::context::Context;
use crate::http::exchange::Exchange;
use crate::http::page_state::tenths;
use crate::http::response::Response;
use crate::inputs::LiveInput;

/// The peaks of an input's history. All zero and empty while the input has never been open.
#[derive(Debug, Default, Serialize)]
struct History {
    /// The ring's ID, as in the events of `/NAME/levels`.
    stream: u64,
    /// Frames per second.
    rate: u32,
    /// Frames of a step.
    step_frames: u64,
    /// The number of the first step, which begins at frame `first * step_frames`.
    first: u64,
    /// The peak of the loudest channel in each step, in dBFS, oldest first; `null` for digital silence.
    peaks: Vec<Option<f64>>,
}

/// Answers with the history of the input `name` as JSON.
pub(crate) fn serve(context: &Context, exchange: Exchange, name: &str) {
    let Some(input) = context.input(name) else { return not_found(context, exchange) };
    // A struct of numbers has no way to fail.
    let json = serde_json::to_string(&history(&input)).unwrap_or_default();
    exchange.respond(Response::json(json));
}

fn history(input: &LiveInput) -> History {
    let Some((ring, meter)) = input.sound() else { return History::default() };
    let peaks = meter.history().peaks();
    History {
        stream: ring.id(),
        rate: ring.format().rate,
        step_frames: peaks.step_frames,
        first: peaks.first,
        peaks: peaks.dbfs.into_iter().map(|peak| peak.map(tenths)).collect(),
    }
}
