//! `/NAME.wav`: the endless stream, a recording of the time to come (`for=`), and the clip of the past (`last=`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::clip::{self, ClipRequest, Last, Refusal};
use super::not_found::not_found;
use crate::http::byte_range::ByteRange;
use crate::http::context::Context;
use crate::http::exchange::Exchange;
use crate::http::players::{self, Player};
use crate::http::response::Response;
use crate::http::stream_response::{self, StreamRequest, StreamResponse};
use crate::http::target::{BadRequest, StreamQuery};
use crate::inputs::LiveInput;
use crate::listeners::ActiveStream;
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
pub(crate) fn serve(
    context: &Arc<Context>,
    exchange: Exchange,
    client: IpAddr,
    name: &str,
    query: StreamQuery,
) {
    let Some(input) = context.input(name) else { return not_found(context, exchange) };
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
    // If no thread can be started, the closure is dropped, and with it the exchange: the connection is closed.
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

/// Decides about the response.
fn plan(
    exchange: &Exchange,
    input: &LiveInput,
    ring: &Ring,
    query: StreamQuery,
) -> Result<StreamResponse, Response> {
    let bad_request = |BadRequest(why): BadRequest| Response::text(400, &why);
    let name = input.name.as_str();
    let (range, if_range) = (exchange.header("Range"), exchange.header("If-Range"));
    let mut clip = query.frames.map(|frames| (frames, false));
    if query.last.is_some() {
        match clip::last(ring, name, &query, input.history(), range).map_err(bad_request)? {
            Last::Redirect(address) => {
                let token = exchange.token().and_then(|token| token.query());
                let token = token.map(|token| format!("&{token}")).unwrap_or_default();
                return Err(Response::redirect(&(address + &token)));
            }
            Last::Whole(frames) => clip = Some((frames, true)),
            Last::Nothing => return Err(Response::unavailable(&format!("{name} has no sound yet."))),
        }
    }
    if let Some((frames, is_relative)) = clip {
        let request = ClipRequest { name, frames, utc: query.utc, range, if_range, is_relative };
        return clip::plan(&request, ring).map_err(|refusal| {
            let (status, text) = refusal.text();
            let response = Response::text(status, text);
            match refusal {
                Refusal::Range(total) => response.with("Content-Range", &format!("bytes */{total}")),
                _ => response,
            }
        });
    }
    let request = StreamRequest {
        name,
        query,
        player: Player::of(exchange.header("User-Agent").unwrap_or_default(), range.is_some()),
        range: range.and_then(ByteRange::parse),
        accepts_chunks: exchange.takes_chunks(),
    };
    stream_response::plan(&request, ring.format()).map_err(bad_request)
}

/// Takes the connection out of the gate and starts the stream on it.
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
    head.add_cors(exchange.cors());
    if exchange.is_head() {
        return exchange.respond_with_head(&head);
    }
    let settings = &context.settings;
    let limits = Admission {
        max: settings.listeners().max,
        max_per_client: settings.limits().listeners_per_address.of(client),
    };
    let seat = match context.listeners.reserve(limits, client, exchange.local_ip()) {
        Ok(seat) => seat,
        Err(full) => return refuse(context, exchange, client, full),
    };
    let player = players::product(exchange.header("User-Agent").unwrap_or_default());
    let client = SocketAddr::new(client, exchange.peer().port());
    let logged = context.listener_log.is_allowed(client.ip());
    if !logged {
        context
            .refusals
            .warn(client.ip(), "starts to listen again and again; the log does not name each time");
    }
    let (socket, place) = exchange.into_stream();
    let listener = seat.occupy(&input.name, client, player, socket, Box::new(place));
    let stream =
        ActiveStream::new(&context.listeners, Arc::clone(input), ring, listener, body, low_latency, logged);
    if low_latency {
        // By this the page knows the time of capture of what it plays.
        head.push("Wavecast-Frame", format!("{}/{}", ring.id(), stream.frame()));
    }
    if let Err(stream) = stream.start(head.render()) {
        stream.refuse(&Response::unavailable("There is no thread left for another listener.").render_alone());
    }
}

/// Answers a request for which there is no room among the listeners.
fn refuse(context: &Context, exchange: Exchange, client: IpAddr, full: Full) {
    context.refusals.warn(client, "is refused: there are too many listeners");
    let why = match full {
        Full::All(count) => format!("{count} are listening, no more can."),
        Full::Client(count) => format!("{count} are listening from your address, no more can."),
    };
    exchange.respond(Response::unavailable(&why));
}
