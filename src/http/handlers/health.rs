//! `/healthz`: 200 while every input brings sound, 503 with the reasons otherwise.

use crate::http::context::Context;
use crate::http::exchange::Exchange;
use crate::http::response::Response;
use crate::inputs::Phase;

/// Answers with the health of all inputs.
pub(crate) fn serve(context: &Context, exchange: Exchange) {
    let (status, text) = health(context);
    exchange.respond(Response::text(status, &text));
}

/// Returns the status code and the text.
fn health(context: &Context) -> (u16, String) {
    let problems: Vec<String> = context
        .inputs
        .all()
        .iter()
        .map(|input| (input.name.clone(), input.state()))
        .filter(|(_, state)| state.phase != Phase::Capturing)
        .map(|(name, state)| format!("{name} is {}: {}", state.phase.name(), state.why()))
        .collect();
    match problems.is_empty() {
        true => (200, "ok".to_owned()),
        false => (503, problems.join("\n")),
    }
}
