//! `/NAME.flac`, `/NAME.mp3` and `/NAME.opus`: encoded streams.
//!
//! | request | encoder |
//! |---|---|
//! | the live stream | one for all listeners of the same codec and bit rate |
//! | `back=S`, `for=S`, `last=S` | one for this listener, since no other listener hears the same |
//!
//! Recordings and past sound have no Content-Length and no ranges: their size is known only when they are encoded.

use std::net::IpAddr;
use std::sync::Arc;

use super::clip;
use super::listen::{admit, clip_frames, player, refuse, refuse_clip, respond_to_head, start};
use crate::encode::{Codec, Kind, Target, Unavailable};
use crate::http::byte_range::ByteRange;
use crate::http::context::Context;
use crate::http::exchange::Exchange;
use crate::http::response::Response;
use crate::http::response_head::ResponseHead;
use crate::http::stream_response::{self, Rendition, StreamRequest, StreamResponse, start_head};
use crate::http::target::StreamQuery;
use crate::inputs::LiveInput;
use crate::listeners::{OwnEncoder, Playback, Sound, StartAt, StreamSource, icy};
use crate::media::ring::Ring;

/// Answers a request for an encoded stream of an input that has a ring.
pub(super) fn respond(
    context: &Arc<Context>,
    exchange: Exchange,
    client: IpAddr,
    input: &Arc<LiveInput>,
    ring: &Ring,
    codec: Codec,
    query: StreamQuery,
) {
    let kind = context.encodings.kind(codec, query.bitrate, ring.format());
    if let Err(error) = context.encodings.check(codec, ring.format()) {
        return exchange.respond(unavailable(&error));
    }
    let plan = match plan(&exchange, input, ring, kind, query) {
        Ok(plan) => plan,
        Err(response) => return exchange.respond(response),
    };
    let shared_kind = Kind { in_ogg: player(&exchange).wants_ogg(codec), ..kind };
    let title = context.inputs.names().title(&input.name).to_owned();
    if exchange.is_head() {
        let head = match plan {
            Plan::Own { head, .. } => head,
            Plan::Shared => live(&exchange, ring, shared_kind, query, &[], &title).head,
        };
        return respond_to_head(exchange, head);
    }
    let seat = match admit(context, &exchange, client) {
        Ok(seat) => seat,
        Err(full) => return refuse(context, exchange, client, full),
    };
    let source = match plan {
        Plan::Shared => shared(context, &exchange, input, ring, shared_kind, query, &title),
        Plan::Own { head, frames, is_past, begin } => {
            let target = if frames.is_some() { Target::File } else { Target::Listeners };
            let format = ring.format();
            context.encodings.open_private(format, kind, target, &title).map(|encoder| {
                let encoder = Box::new(OwnEncoder::new(encoder, frames, is_past));
                let body = Playback {
                    chunked: chunked(&exchange, query),
                    lag_target: match begin {
                        StartAt::Back(back) if frames.is_none() => Some(back),
                        _ => None,
                    },
                    begin,
                    ..Playback::default()
                };
                let sound = Sound::Encoded(encoder);
                let source = StreamSource { input: Arc::clone(input), ring: ring.clone(), sound };
                (source, StreamResponse { head, body })
            })
        }
    };
    match source {
        Ok((source, response)) => {
            start(context, exchange, seat, client, source, query.low_latency, response);
        }
        Err(error) => exchange.respond(unavailable(&error)),
    }
}

/// Which encoder a request needs.
enum Plan {
    /// That of all listeners.
    Shared,
    /// One of its own.
    Own {
        head: ResponseHead,
        /// Frames to encode; `None` for an endless stream.
        frames: Option<u64>,
        /// True for a part of the past.
        is_past: bool,
        begin: StartAt,
    },
}

/// Decides which encoder the request needs, or answers at once.
fn plan(
    exchange: &Exchange,
    input: &LiveInput,
    ring: &Ring,
    kind: Kind,
    query: StreamQuery,
) -> Result<Plan, Response> {
    let (name, extension) = (&input.name, kind.codec.name());
    let format = ring.format();
    let head = |status| {
        let head = start_head(status, kind.codec.content_type());
        match chunked(exchange, query) {
            true => head.with("Transfer-Encoding", "chunked"),
            false => head,
        }
    };
    if let Some((frames, _)) = clip_frames(exchange, input, ring, &format!("{name}.{extension}"), query)? {
        let began = clip::locate(frames, ring).map_err(refuse_clip)?;
        let disposition = clip::disposition(name, began, query.utc, extension);
        return Ok(Plan::Own {
            head: head(200).with("Content-Disposition", disposition),
            frames: Some(frames.to - frames.from),
            is_past: true,
            begin: StartAt::Frame(frames.from),
        });
    }
    let back = query.back.map(|back| format.frames_in(back));
    if let Some(length) = query.length {
        return Ok(Plan::Own {
            head: head(200).with("Content-Disposition", format!("inline; filename=\"{name}.{extension}\"")),
            frames: Some(format.frames_in(length).max(1)),
            is_past: false,
            begin: StartAt::Back(back.unwrap_or(0)),
        });
    }
    Ok(match back {
        Some(back) => Plan::Own { head: head(200), frames: None, is_past: false, begin: StartAt::Back(back) },
        None => Plan::Shared,
    })
}

/// Opens the encoding that all listeners share.
fn shared(
    context: &Context,
    exchange: &Exchange,
    input: &Arc<LiveInput>,
    ring: &Ring,
    kind: Kind,
    query: StreamQuery,
    title: &str,
) -> Result<(StreamSource, StreamResponse), Unavailable> {
    // The first listener's burst is encoded when it asks.
    let burst = if query.low_latency { 0 } else { player(exchange).encoded_burst(kind, ring.format()) };
    let consumer = context.encodings.open(input, ring, kind, burst)?;
    let encoding = consumer.encoding();
    let response = live(exchange, ring, kind, query, &encoding.header, title);
    let ring = encoding.ring.clone();
    Ok((StreamSource { input: Arc::clone(input), ring, sound: Sound::Packets(consumer) }, response))
}

/// Returns the response with the live stream, whose header is `header`.
fn live(
    exchange: &Exchange,
    ring: &Ring,
    kind: Kind,
    query: StreamQuery,
    header: &[u8],
    title: &str,
) -> StreamResponse {
    let player = player(exchange);
    let request = StreamRequest {
        name: "",
        query,
        player,
        range: exchange.header("Range").and_then(ByteRange::parse),
        accepts_chunks: exchange.takes_chunks(),
    };
    let rendition = Rendition {
        content_type: kind.content_type(),
        header,
        data: player.encoded_bytes(kind.codec).map(|bytes| bytes - header.len() as u64),
        frame_bytes: 1,
        burst: player.encoded_burst(kind, ring.format()),
    };
    let mut response = stream_response::endless(&request, &rendition, None);
    let asks = exchange.header("Icy-MetaData").is_some_and(|value| value.trim() == "1");
    // A part of a file with an end has nothing else in it. A player that goes on after a cut (`bytes=N-`) begins to count anew:
    // GStreamer would take sound for metadata otherwise.
    if asks && kind.codec == Codec::Mp3 && response.body.length.is_none() {
        response.head.push("icy-name", title.to_owned());
        response.head.push("icy-br", kind.bitrate.unwrap_or_default().to_string());
        response.head.push("icy-metaint", icy::INTERVAL.to_string());
        response.body.icy = Some(title.to_owned());
    }
    response
}

/// Returns whether a stream without a length is sent in chunks.
fn chunked(exchange: &Exchange, query: StreamQuery) -> bool {
    exchange.takes_chunks() && !query.identity
}

/// Returns the response for an encoder that cannot be used.
fn unavailable(why: &Unavailable) -> Response {
    match why {
        Unavailable::Off | Unavailable::Codec(..) => Response::text(501, &why.to_string()),
        Unavailable::Full(_) | Unavailable::Reserved(_) | Unavailable::Memory(_) | Unavailable::Thread(_) => {
            Response::unavailable(&why.to_string())
        }
    }
}
