//! `/NAME.wav`: the endless stream, a recording of the time to come (`for=`), and the clip of the past (`last=`).

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::clip::{self, ClipRequest};
use crate::http::context::Context;
use crate::http::exchange::Exchange;
use crate::http::players::{self, Player};
use crate::http::response::Response;
use crate::http::router;
use crate::http::stream_response::{self, StreamRequest, StreamResponse};
use crate::http::target::{BadRequest, Range, StreamQuery};
use crate::inputs::LiveInput;
use crate::listeners::active_stream::ActiveStream;
use crate::listeners::{Admission, Full};
use crate::media::ring::Ring;

/// A request waits for this long for a card that is being opened, so that a player that reconnects after a restart
/// hears sound instead of a refusal.
const OPENING: Duration = Duration::from_secs(3);
/// Requests that wait for a card at the same time, each in a thread. Beyond that: 503.
const MOST_WAITING: usize = 64;
/// The stack of a thread that waits for a card: it goes as deep as formatting a response.
const STACK: usize = 128 * 1024;

/// Answers a request for a stream of the input `name`. `client` is the listener's own address, behind a proxy too.
pub(crate) fn serve(context: &Arc<Context>, exchange: Exchange, client: IpAddr, name: &str, query: StreamQuery) {
    let Some(input) = context.input(name) else { return router::not_found(context, exchange) };
    match input.ring() {
        Some(ring) => respond(context, exchange, client, &input, &ring, query),
        None if !input.state().problem.is_empty() => no_sound(exchange, &input),
        None => wait_for_card(context, exchange, client, input, query),
    }
}

/// Goes on in a thread of its own until the card is open: the workers are few, and must not wait.
fn wait_for_card(
    context: &Arc<Context>,
    mut exchange: Exchange,
    client: IpAddr,
    input: Arc<LiveInput>,
    query: StreamQuery,
) {
    static WAITING: AtomicUsize = AtomicUsize::new(0);
    /// Counts one waiting request less when it is dropped.
    struct Waiting;
    impl Drop for Waiting {
        fn drop(&mut self) {
            WAITING.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let before = WAITING.fetch_add(1, Ordering::Relaxed);
    let waiting = Waiting;
    if before >= MOST_WAITING {
        return no_sound(exchange, &input);
    }
    exchange.release_in_flight();
    let context = Arc::clone(context);
    let wait = move || {
        let _waiting = waiting;
        match soon_a_ring(&input) {
            Some(ring) => respond(&context, exchange, client, &input, &ring, query),
            None => no_sound(exchange, &input),
        }
    };
    // Where there is no thread, the closure is dropped, and with it the exchange: the connection is closed.
    let _ = thread::Builder::new().name("waits for card".to_owned()).stack_size(STACK).spawn(wait);
}

/// Waits until the input has a ring, a problem, or [`OPENING`] is over.
fn soon_a_ring(input: &LiveInput) -> Option<Ring> {
    let began = Instant::now();
    loop {
        let ring = input.ring();
        if ring.is_some() || !input.state().problem.is_empty() || began.elapsed() > OPENING {
            return ring;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn no_sound(exchange: Exchange, input: &LiveInput) {
    let why = format!("{} has no sound yet: {}", input.name, input.state().why());
    exchange.respond(Response::unavailable(&why));
}

/// Answers from an input that has a ring.
fn respond(
    context: &Arc<Context>,
    exchange: Exchange,
    client: IpAddr,
    input: &Arc<LiveInput>,
    ring: &Ring,
    query: StreamQuery,
) {
    match plan(&exchange, input, ring, query) {
        Err(response) => exchange.respond(response),
        Ok(response) => start(context, exchange, client, input, ring, query.low_latency, response),
    }
}

/// Decides what the client gets.
fn plan(
    exchange: &Exchange,
    input: &LiveInput,
    ring: &Ring,
    query: StreamQuery,
) -> Result<StreamResponse, Response> {
    let bad_request = |BadRequest(why): BadRequest| Response::text(400, &why);
    let (name, history) = (input.name.as_str(), input.history());
    let range = exchange.header("Range");
    if let Some(last) = query.last {
        return match clip::address(ring, name, last, history, query.utc) {
            Ok(Some(address)) => Err(Response::redirect(&address)),
            Ok(None) => Err(Response::unavailable(&format!("{name} has no sound yet."))),
            Err(error) => Err(bad_request(error)),
        };
    }
    if let Some(span) = query.span {
        let if_range = exchange.header("If-Range");
        return clip::plan(&ClipRequest { name, span, utc: query.utc, range, if_range }, ring)
            .map_err(clip::Refusal::into_response);
    }
    let request = StreamRequest {
        name,
        wanted: query,
        player: Player::of(exchange.header("User-Agent").unwrap_or_default(), range.is_some()),
        range: range.and_then(Range::parse),
        chunks: exchange.takes_chunks(),
    };
    stream_response::plan(&request, ring.format(), history).map_err(bad_request)
}

/// Takes the connection and starts the stream on it.
fn start(
    context: &Arc<Context>,
    exchange: Exchange,
    client: IpAddr,
    input: &Arc<LiveInput>,
    ring: &Ring,
    low_latency: bool,
    response: StreamResponse,
) {
    let StreamResponse { mut head, body } = response;
    head.add_all(exchange.cors().headers());
    if exchange.is_head() {
        return exchange.respond_with_head(head.render());
    }
    let admission = Admission {
        max: context.settings.listeners().max as usize,
        max_of_client: context.settings.limits().listeners_per_address.of(client),
    };
    if let Err(full) = context.listeners.has_room(&admission, client, exchange.local_ip()) {
        return refuse(context, exchange, client, full);
    }
    let player = players::product(exchange.header("User-Agent").unwrap_or_default());
    let client = SocketAddr::new(client, exchange.peer().port());
    let Some((socket, place)) = exchange.take() else { return };
    let _ = (socket, place, player, client, admission, head, body, low_latency, ring, input);
}
