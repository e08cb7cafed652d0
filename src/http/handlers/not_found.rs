//! 404, with the addresses of the streams.

use crate::http::context::Context;
use crate::http::exchange::Exchange;
use crate::http::response::Response;

/// Answers a request for something that does not exist.
pub(crate) fn not_found(context: &Context, exchange: Exchange) {
    let streams: Vec<String> =
        context.inputs.all().iter().map(|input| format!("/{}.wav", input.name)).collect();
    exchange
        .respond(Response::text(404, &format!("There is nothing here. To listen: {}", streams.join("  "))));
}
