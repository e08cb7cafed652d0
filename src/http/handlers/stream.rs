//! Answers a request for a stream: `/NAME.wav` endless, for a time to come (`for=`) or of the past (`last=`). The streams
//! `/NAME.flac`, `/NAME.mp3` and `/NAME.opus` are checked here and continue in [`encoded`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::clip::{self, ClipRequest};
use super::encoded;
use super::listen::{admit, bad_request, clip_frames, player, refuse, refuse_clip, respond_to_head, start};
use super::not_found::not_found;
use crate::encode::Codec;
use crate::http::byte_range::ByteRange;
use crate::http::context::Context;
use crate::http::exchange::Exchange;
use crate::http::response::Response;
use crate::http::stream_response::{self, StreamRequest, StreamResponse};
use crate::http::target::StreamQuery;
use crate::inputs::LiveInput;
use crate::listeners::{Sound, StreamSource};
use crate::media::ring::Ring;

/// A request waits for this long for a card that is being opened, so that a player that reconnects after a restart
/// hears sound instead of a refusal.
const OPENING: Duration = Duration::from_secs(3);
/// Requests that wait for a card at the same time, each in a thread. Beyond that: 503.
const MOST_WAITING: usize = 64;
/// The stack of a thread that waits for a card: it goes as deep as formatting a response.
const STACK: usize = 128 * 1024;

/// A stream of an input: how it is coded, and which part of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamTarget {
    /// `None` for WAV.
    pub(crate) codec: Option<Codec>,
    pub(crate) query: StreamQuery,
}

/// Answers a request for a stream of the input `name`. `client` is the listener's own address, behind a proxy too.
pub(crate) fn serve(
    context: &Arc<Context>,
    exchange: Exchange,
    client: IpAddr,
    name: &str,
    request: StreamTarget,
) {
    let Some(input) = context.input(name) else { return not_found(context, exchange) };
    match input.ring() {
        Some(ring) => respond(context, exchange, client, &input, ring, request),
        None if !input.state().problem.is_empty() => no_sound(exchange, &input),
        None => wait_for_card(context, exchange, client, input, request),
    }
}

/// Goes on in a thread of its own until the card is open: the workers are few, and must not wait.
fn wait_for_card(
    context: &Arc<Context>,
    mut exchange: Exchange,
    client: IpAddr,
    input: Arc<LiveInput>,
    request: StreamTarget,
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
            Some(ring) => respond(&context, exchange, client, &input, ring, request),
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
    ring: Ring,
    request: StreamTarget,
) {
    if let Some(codec) = request.codec {
        return encoded::respond(context, exchange, client, input, &ring, codec, request.query);
    }
    match plan(&exchange, input, &ring, request.query) {
        Err(response) => exchange.respond(response),
        Ok(response) if exchange.is_head() => respond_to_head(exchange, response.head),
        Ok(response) => match admit(context, &exchange, client) {
            Err(full) => refuse(context, exchange, client, full),
            Ok(seat) => {
                let source = StreamSource { input: Arc::clone(input), ring, sound: Sound::Pcm };
                start(context, exchange, seat, client, source, request.query.low_latency, response);
            }
        },
    }
}

/// Decides about the response.
fn plan(
    exchange: &Exchange,
    input: &LiveInput,
    ring: &Ring,
    query: StreamQuery,
) -> Result<StreamResponse, Response> {
    let name = input.name.as_str();
    let (range, if_range) = (exchange.header("Range"), exchange.header("If-Range"));
    if let Some((frames, is_relative)) = clip_frames(exchange, input, ring, &format!("{name}.wav"), query)? {
        let request = ClipRequest { name, frames, utc: query.utc, range, if_range, is_relative };
        let response = clip::plan(&request, ring).map_err(refuse_clip)?;
        return match response.head.header("ETag").filter(|tag| exchange.has_copy(tag)) {
            Some(tag) => Err(Response::not_modified().with("Cache-Control", "no-store").with("ETag", tag)),
            None => Ok(response),
        };
    }
    let request = StreamRequest {
        name,
        query,
        player: player(exchange),
        range: range.and_then(ByteRange::parse),
        accepts_chunks: exchange.takes_chunks(),
    };
    stream_response::plan(&request, ring.format()).map_err(bad_request)
}
