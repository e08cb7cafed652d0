//! The steps from a request to a listener that plain and encoded streams share.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::clip::{self, Last, Refusal};
use crate::http::context::Context;
use crate::http::exchange::Exchange;
use crate::http::players::{self, Player};
use crate::http::response::Response;
use crate::http::response_head::ResponseHead;
use crate::http::stream_response::StreamResponse;
use crate::http::target::{BadRequest, FrameRange, StreamQuery};
use crate::inputs::LiveInput;
use crate::listeners::{ActiveStream, Admission, Full, Seat, StreamSource};
use crate::media::ring::Ring;

/// Answers HEAD with the head that GET would have.
pub(super) fn respond_to_head(exchange: Exchange, mut head: ResponseHead) {
    head.add_cors(exchange.cors());
    exchange.respond_with_head(&head);
}

/// Returns the frames of the clip that the request means, and whether its address means others later; `None` for a stream.
/// `file` is the last part of the address.
pub(super) fn clip_frames(
    exchange: &Exchange,
    input: &LiveInput,
    ring: &Ring,
    file: &str,
    query: StreamQuery,
) -> Result<Option<(FrameRange, bool)>, Response> {
    if query.last.is_none() {
        return Ok(query.frames.map(|frames| (frames, false)));
    }
    match clip::last(ring, file, &query, input.history(), exchange.header("Range")).map_err(bad_request)? {
        Last::Redirect(address) => {
            let token = exchange.token().and_then(|token| token.query());
            let token = token.map(|token| format!("&{token}")).unwrap_or_default();
            Err(Response::redirect(&(address + &token)))
        }
        Last::Whole(frames) => Ok(Some((frames, true))),
        Last::Nothing => Err(Response::unavailable(&format!("{} has no sound yet.", input.name))),
    }
}

/// Returns the player that sends the request.
pub(super) fn player(exchange: &Exchange) -> Player {
    Player::of(exchange.header("User-Agent").unwrap_or_default(), exchange.header("Range").is_some())
}

pub(super) fn bad_request(BadRequest(why): BadRequest) -> Response {
    Response::text(400, &why)
}

pub(super) fn refuse_clip(refusal: Refusal) -> Response {
    let (status, text) = refusal.text();
    let response = Response::text(status, text);
    match refusal {
        Refusal::Range(total) => response.with("Content-Range", &format!("bytes */{total}")),
        _ => response,
    }
}

/// Reserves a place among the listeners.
pub(super) fn admit(context: &Context, exchange: &Exchange, client: IpAddr) -> Result<Seat, Full> {
    let settings = &context.settings;
    let mut addresses = context.access().claims(&exchange.facts());
    addresses.push(client);
    let per_address = |address: &IpAddr| settings.limits().listeners_per_address.of(*address);
    let limits = Admission {
        max: settings.listeners().max,
        max_per_client: addresses.iter().map(per_address).min().unwrap_or(usize::MAX),
    };
    context.listeners.reserve(limits, &addresses, exchange.local_ip())
}

/// Takes the connection out of the gate and starts the stream on it.
pub(super) fn start(
    context: &Arc<Context>,
    exchange: Exchange,
    seat: Seat,
    client: IpAddr,
    source: StreamSource,
    low_latency: bool,
    response: StreamResponse,
) {
    const RULES_CHANGED: &str = "The access rules have changed meanwhile.";
    let Some(access) = context.recheck(&exchange) else {
        return exchange.respond(Response::unavailable(RULES_CHANGED));
    };
    let StreamResponse { mut head, body } = response;
    head.add_cors(exchange.cors());
    let player = players::product(exchange.header("User-Agent").unwrap_or_default());
    let client = SocketAddr::new(client, exchange.peer().port());
    let logged = context.listener_log.is_allowed(client.ip());
    if !logged {
        context
            .refusals
            .warn(client.ip(), "starts to listen again and again; the log does not name each time");
    }
    let (socket, place) = exchange.into_stream();
    let listener =
        seat.occupy(&source.input.name, source.sound.coding(), client, player, socket, Box::new(place));
    let stream = ActiveStream::new(&context.listeners, source, listener, body, low_latency, logged);
    if !context.is_in_force(&access) {
        return stream.refuse(&Response::unavailable(RULES_CHANGED).render_alone());
    }
    if let Some((ring, frame)) = stream.frame().filter(|_| low_latency) {
        // By this the page knows the time of capture of what it plays.
        head.push("Wavecast-Frame", format!("{ring}/{frame}"));
    }
    if let Err(stream) = stream.start(head.render()) {
        stream.refuse(&Response::unavailable("There is no thread left for another listener.").render_alone());
    }
}

/// Answers a request for which there is no room among the listeners.
pub(super) fn refuse(context: &Context, exchange: Exchange, client: IpAddr, full: Full) {
    context.refusals.warn(client, "is refused: there are too many listeners");
    let why = match full {
        Full::All(count) => format!("{count} are listening, no more can."),
        Full::Client(count) => format!("{count} are listening from your address, no more can."),
    };
    exchange.respond(Response::unavailable(&why));
}
