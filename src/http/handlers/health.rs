//! `/healthz` and `/healthz/NAME`: 200 while the inputs deliver sound, 503 with the reasons otherwise. `/healthz/push/NAME`
//! is the health of a push, which is no part of the others.

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

/// Answers with the health of the push `name`.
pub(crate) fn serve_push(context: &Context, exchange: Exchange, name: &str) {
    match context.pushes.find(name).map(|push| push.health()) {
        Some((code, text)) => exchange.respond(Response::text(code, &text)),
        None => not_found(context, exchange),
    }
}
