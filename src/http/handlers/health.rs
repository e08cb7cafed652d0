//! `/healthz` and `/healthz/NAME`: 200 while the inputs deliver sound, 503 with the reasons otherwise.

use super::not_found::not_found;
use super::status;
use crate::http::context::Context;
use crate::http::exchange::Exchange;
use crate::http::response::Response;

/// Answers with the health of the input `name`, or of all inputs.
pub(crate) fn serve(context: &Context, exchange: Exchange, name: Option<&str>) {
    match status::health(&context.inputs, name) {
        Some((code, text)) => exchange.respond(Response::text(code, &text)),
        None => not_found(context, exchange),
    }
}
