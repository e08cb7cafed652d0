//! The response to a request for a stream, plain or encoded: status, headers, framing, and which bytes.
//!
//! The rules were found with the players themselves:
//!
//! - An endless stream is chunked and has no Content-Length. A cut connection is then an error to the
//!   player, and Chromium reconnects by itself.
//! - There is no Accept-Ranges header, not even `none`: MPD takes any value as a file that it can seek in.
//! - Chromium reconnects with `Range: bytes=N-` and must get 206 and sound without a header, aligned so that
//!   byte N is where its frames expect it. `bytes=0-` is what players send at first: 200, from the header.
//!   A range is never refused: mpv and ffplay give up after a 416.
//! - HTTP/1.0, `TE: identity` and `framing=identity` get the bare bytes until the connection ends.
//! - Apple's players probe with `bytes=0-1` and then want ranges of a file that has an end. So does Firefox:
//!   it reconnects after a cut only when the first response was 206 and said where the end is.
//! - With `latency=low` there is one more header, `Wavecast-Frame: STREAM/FRAME`: the index of the first
//!   frame, for a page that has to know when the frame was captured. The caller adds it.
//!
//! An encoded stream follows the same rules. Its bytes are packets, so a player that reconnects gets them from the live
//! edge on, without a header: decoders find the beginning of the next packet by themselves.
//!
//! Past sound is a file like any other: see [`clip`](super::handlers::clip).

use std::time::Duration;

use super::byte_range::{ByteRange, Bytes, Layout, Slice};
use super::players::Player;
use super::response_head::ResponseHead;
use super::target::{BadRequest, StreamQuery};
use crate::listeners::{Playback, StartAt};
use crate::media::format::StreamFormat;
use crate::media::wav::{self, HEADER_BYTES, Sizes};

/// A request for a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamRequest<'a> {
    /// The input's name.
    pub name: &'a str,
    /// The query.
    pub query: StreamQuery,
    /// The player that asks.
    pub player: Player,
    /// The requested range.
    pub range: Option<ByteRange>,
    /// `false` if the client does not understand the chunked framing.
    pub accepts_chunks: bool,
}

/// The response to a request for a stream: the head, and what follows from the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamResponse {
    /// Status and headers.
    pub head: ResponseHead,
    /// The body.
    pub body: Playback,
}

/// The media type of WAV.
pub(crate) const WAV: &str = "audio/wav";

/// The end of the range that a 206 of an endless stream names: beyond any player's reach, and still an exact
/// integer in JavaScript.
const FAR: u64 = (1 << 53) - 2;

/// Decides about the response to a request for a stream of that format.
///
/// `back` beyond the history is no error: the stream then begins with the oldest frame that the ring holds.
///
/// # Errors
///
/// When `for` asks for more than a WAV file can hold.
pub fn plan(request: &StreamRequest<'_>, format: StreamFormat) -> Result<StreamResponse, BadRequest> {
    let query_back = request.query.back.map(|back| format.frames_in(back));
    if let Some(length) = request.query.length {
        return recording(request.name, format, length, query_back.unwrap_or(0));
    }
    let sizes = request.player.sizes();
    let rendition = Rendition {
        content_type: WAV,
        header: &wav::header(format, sizes),
        // To players that are told how much sound there is, the stream is a file of this size.
        data: sizes.data_bytes(format).map(u64::from),
        frame_bytes: format.frame_bytes(),
        burst: request.player.burst(format),
    };
    Ok(endless(request, &rendition, query_back))
}

/// The bytes of an endless stream.
#[derive(Clone, Copy, Debug)]
pub struct Rendition<'a> {
    /// The media type.
    pub content_type: &'static str,
    /// The bytes before the sound.
    pub header: &'a [u8],
    /// Bytes of sound; `None` without an end.
    pub data: Option<u64>,
    /// Bytes of the unit on whose grid a player expects the sound after a range; 1 for packets.
    pub frame_bytes: usize,
    /// Frames from before the request that are sent at once.
    pub burst: u64,
}

/// Decides about the response to a request for an endless stream. `back`: frames before the live edge, where the client
/// asks for them.
pub fn endless(request: &StreamRequest<'_>, rendition: &Rendition<'_>, back: Option<u64>) -> StreamResponse {
    let layout =
        Layout { header: rendition.header.len(), frame_bytes: rendition.frame_bytes, data: rendition.data };
    let range = request.range.filter(|range| is_plausible(*range)).and_then(|range| layout.resolve(range));
    let part = range.unwrap_or(Bytes::ENDLESS);
    let slice = layout.slice(part);

    // A player that reconnects has its burst already.
    let burst = match request.query.low_latency || part.first > 0 {
        true => 0,
        false => rendition.burst,
    };
    let head = match (part.count(), layout.total()) {
        (None, _) if part.first == 0 => start_head(200, rendition.content_type),
        (None, _) => start_head(206, rendition.content_type)
            .with("Content-Range", format!("bytes {}-{FAR}/*", part.first)),
        (Some(count), total) => {
            let last = part.first + count - 1;
            let total = total.map_or("*".to_owned(), |total| total.to_string());
            start_head(206, rendition.content_type)
                .with("Content-Length", count.to_string())
                .with("Content-Range", format!("bytes {}-{last}/{total}", part.first))
        }
    };
    let chunked = part.last.is_none() && request.accepts_chunks && !request.query.identity;
    let head = if chunked { head.with("Transfer-Encoding", "chunked") } else { head };
    let body = Playback {
        chunked,
        lag_target: Some(back.unwrap_or(0)),
        ..playback(rendition.header, &slice, StartAt::Back(back.unwrap_or(burst)))
    };
    StreamResponse { head, body }
}

/// Returns a head with the headers that all responses with sound have.
pub(crate) fn start_head(status: u16, content_type: &str) -> ResponseHead {
    ResponseHead::new(status)
        .with("Content-Type", content_type)
        .with("Cache-Control", "no-store, no-transform")
        .with("X-Content-Type-Options", "nosniff")
        .with("Connection", "close")
}

/// Returns the body of a slice of a file without holes.
pub(crate) fn playback(header: &[u8], slice: &Slice, begin: StartAt) -> Playback {
    Playback {
        chunked: false,
        prefix: header[slice.header_part.clone()].to_vec(),
        skip: slice.skip_in_frame,
        length: slice.len,
        suffix: &[0; 1][..slice.pad],
        begin,
        icy: None,
        lag_target: None,
    }
}

/// Returns the response with a recording that ends: a file with true sizes, from `back` frames before the
/// live edge on.
fn recording(
    name: &str,
    format: StreamFormat,
    length: Duration,
    back: u64,
) -> Result<StreamResponse, BadRequest> {
    let data = format.frames_in(length).max(1) * format.frame_bytes() as u64;
    let Some(size) = u32::try_from(data).ok().filter(|_| data <= wav::MAX_DATA_BYTES) else {
        let limit = wav::MAX_DATA_BYTES / format.bytes_per_second();
        return Err(BadRequest(format!(
            "for={} is too long: a WAV file ends at 4 GiB, which is {limit} s of this stream.",
            length.as_secs_f64()
        )));
    };
    let layout = Layout { header: HEADER_BYTES, frame_bytes: format.frame_bytes(), data: Some(data) };
    // A range of what is only being recorded makes no sense, so the whole is sent, whatever is asked for.
    let whole = Bytes { first: 0, last: layout.total().map(|total| total - 1) };
    let head = start_head(200, WAV)
        .with("Content-Length", whole.count().unwrap_or_default().to_string())
        .with("Content-Disposition", format!("inline; filename=\"{name}.wav\""));
    let header = wav::header(format, Sizes::Data(size));
    Ok(StreamResponse { head, body: playback(&header, &layout.slice(whole), StartAt::Back(back)) })
}

/// Returns `false` for a range that begins beyond all that a 206 could name. Such a range is ignored.
const fn is_plausible(range: ByteRange) -> bool {
    match range {
        ByteRange::From(first) | ByteRange::Bounded(first, _) => first <= FAR,
        ByteRange::Last(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::players::APPLE_DATA_BYTES;
    use crate::media::format::SampleFormat;

    const APPLE_TOTAL: u64 = APPLE_DATA_BYTES as u64 + HEADER_BYTES as u64;
    const CD: StreamFormat = StreamFormat { rate: 44_100, channels: 2, sample: SampleFormat::S16 };

    fn request(player: Player, range: Option<ByteRange>) -> StreamRequest<'static> {
        StreamRequest { name: "live", query: StreamQuery::default(), player, range, accepts_chunks: true }
    }

    fn planned(request: &StreamRequest<'_>) -> StreamResponse {
        plan(request, CD).expect("it can be served")
    }

    #[test]
    fn an_endless_stream_is_chunked_and_has_no_ranges_and_no_length() {
        for range in [None, Some(ByteRange::From(0))] {
            let StreamResponse { head, body } = planned(&request(Player::Other, range));
            assert_eq!(head.status, 200);
            assert!(body.chunked);
            assert_eq!(head.header("Transfer-Encoding"), Some("chunked"));
            assert_eq!(head.header("Accept-Ranges"), None);
            assert_eq!(head.header("Content-Length"), None);
            assert_eq!(head.header("Content-Type"), Some("audio/wav"));
            assert_eq!(head.header("Cache-Control"), Some("no-store, no-transform"));
            assert!(head.header("Date").is_some());
            assert_eq!((body.prefix.len(), body.skip, body.length, body.suffix.len()), (44, 0, None, 0));
            assert_eq!((body.begin, body.lag_target), (StartAt::Back(22_050), Some(0)));
        }
    }

    #[test]
    fn a_client_without_chunks_gets_the_bare_bytes() {
        let identity = StreamQuery { identity: true, ..StreamQuery::default() };
        for request in [
            StreamRequest { accepts_chunks: false, ..request(Player::Other, None) },
            StreamRequest { query: identity, ..request(Player::Other, None) },
        ] {
            let StreamResponse { head, body } = planned(&request);
            assert!(!body.chunked);
            assert_eq!(head.header("Transfer-Encoding"), None);
            assert_eq!(head.header("Connection"), Some("close"));
        }
    }

    #[test]
    fn a_resumed_stream_has_no_header_no_burst_and_is_on_the_players_frame_grid() {
        for (first, skip) in [(44, 0), (45, 1), (46, 2), (47, 3), (48, 0), (1_000_001, 1)] {
            let StreamResponse { head, body } =
                planned(&request(Player::ChromiumMedia, Some(ByteRange::From(first))));
            assert_eq!(head.status, 206);
            assert!(body.prefix.is_empty());
            assert_eq!((body.skip, body.begin, body.length), (skip, StartAt::Back(0), None), "byte {first}");
            assert_eq!(head.header("Content-Range"), Some(&*format!("bytes {first}-{FAR}/*")));
        }
        let inside = planned(&request(Player::ChromiumMedia, Some(ByteRange::From(40))));
        assert_eq!((inside.body.prefix.len(), inside.body.skip), (4, 0));
    }

    #[test]
    fn a_bounded_range_gets_exactly_its_bytes() {
        for (first, last, prefix, sound) in
            [(0, 1, 2, 0), (0, 43, 44, 0), (0, 44, 44, 1), (40, 47, 4, 4), (44, 45, 0, 2)]
        {
            let range = ByteRange::Bounded(first, last);
            let StreamResponse { head, body } = planned(&request(Player::Other, Some(range)));
            assert_eq!(head.status, 206);
            assert!(!body.chunked);
            assert_eq!((body.prefix.len(), body.length), (prefix, Some(sound)), "{first}-{last}");
            assert_eq!(head.header("Content-Length"), Some(&*(last - first + 1).to_string()));
            assert_eq!(head.header("Content-Range"), Some(&*format!("bytes {first}-{last}/*")));
        }
        let huge = planned(&request(Player::Other, Some(ByteRange::Bounded(0, u64::MAX))));
        assert_eq!(huge.body.length, Some(u64::MAX - 44));
    }

    #[test]
    fn a_range_beyond_all_reach_is_ignored() {
        for range in [
            ByteRange::From(FAR + 1),
            ByteRange::From(u64::MAX),
            ByteRange::Bounded(FAR + 1, u64::MAX),
            ByteRange::Bounded(u64::MAX, u64::MAX),
            ByteRange::Last(500),
        ] {
            let StreamResponse { head, body } = planned(&request(Player::Other, Some(range)));
            assert_eq!((head.status, head.header("Content-Range")), (200, None), "{range:?}");
            assert_eq!((body.prefix.len(), body.length, body.chunked), (44, None, true), "{range:?}");
            assert_eq!(body.begin, StartAt::Back(22_050), "{range:?}");
        }
        let last = planned(&request(Player::Other, Some(ByteRange::From(FAR))));
        assert_eq!(last.head.header("Content-Range"), Some(&*format!("bytes {FAR}-{FAR}/*")));
    }

    #[test]
    fn apple_gets_ranges_of_a_file_with_an_end() {
        let probe = planned(&request(Player::Apple, Some(ByteRange::Bounded(0, 1)))).head;
        assert_eq!(probe.header("Content-Range"), Some("bytes 0-1/2147483436"));
        assert_eq!(probe.header("Content-Length"), Some("2"));
        for range in
            [ByteRange::From(0), ByteRange::Bounded(0, APPLE_TOTAL - 1), ByteRange::Bounded(0, u64::MAX)]
        {
            let StreamResponse { head, body } = planned(&request(Player::Apple, Some(range)));
            assert_eq!(head.status, 206);
            assert!(!body.chunked);
            assert_eq!(head.header("Content-Range"), Some("bytes 0-2147483435/2147483436"));
            assert_eq!(head.header("Content-Length"), Some("2147483436"));
            assert_eq!(body.length, Some(APPLE_DATA_BYTES.into()));
        }
        let beyond = planned(&request(Player::Apple, Some(ByteRange::From(APPLE_TOTAL))));
        assert_eq!(beyond.head.status, 200);
    }

    #[test]
    fn firefox_gets_a_file_with_an_end_so_that_it_reconnects() {
        let StreamResponse { head, body } = planned(&request(Player::Firefox, Some(ByteRange::From(0))));
        assert_eq!(head.status, 206);
        assert!(!body.chunked);
        assert_eq!(head.header("Content-Range"), Some("bytes 0-4294967299/4294967300"));
        assert_eq!(head.header("Content-Length"), Some("4294967300"));
        assert_eq!(
            (body.prefix.len(), body.length, body.begin),
            (44, Some(4_294_967_256), StartAt::Back(22_050))
        );
        let again = planned(&request(Player::Firefox, Some(ByteRange::From(1_000_001))));
        assert_eq!(again.head.status, 206);
        assert_eq!(again.head.header("Content-Range"), Some("bytes 1000001-4294967299/4294967300"));
        assert_eq!((again.body.prefix.len(), again.body.skip, again.body.begin), (0, 1, StartAt::Back(0)));
        // A page's fetch() asks for no range, and gets the stream that never ends.
        let fetch = planned(&request(Player::Firefox, None));
        assert_eq!(fetch.head.status, 200);
        assert!(fetch.body.chunked);
    }

    #[test]
    fn back_replaces_the_burst_and_is_where_a_slow_listener_goes_on() {
        let query = |back| StreamQuery { back: Some(Duration::from_secs(back)), ..StreamQuery::default() };
        let from_start = Some(ByteRange::From(0));
        let plan = planned(&StreamRequest { query: query(20), ..request(Player::ChromiumMedia, from_start) });
        assert_eq!((plan.body.begin, plan.body.lag_target), (StartAt::Back(882_000), Some(882_000)));
        // Beyond the history, the ring gives its oldest frame.
        let plan = planned(&StreamRequest { query: query(86_400), ..request(Player::Other, None) });
        assert_eq!((plan.head.status, plan.body.begin), (200, StartAt::Back(86_400 * 44_100)));
    }

    #[test]
    fn a_recording_is_a_file_with_true_sizes() {
        let query =
            |length| StreamQuery { length: Some(Duration::from_secs(length)), ..StreamQuery::default() };
        let range = Some(ByteRange::From(7));
        let StreamResponse { head, body } =
            planned(&StreamRequest { query: query(2), ..request(Player::Firefox, range) });
        assert_eq!(head.status, 200, "a range of what is only being recorded makes no sense");
        assert_eq!(head.header("Content-Length"), Some("352844"));
        assert_eq!((body.length, body.suffix), (Some(352_800), &[][..]));
        assert_eq!(body.prefix, wav::header(CD, Sizes::Data(352_800)));
        assert_eq!((body.begin, body.lag_target), (StartAt::Back(0), None));
        let BadRequest(text) =
            plan(&StreamRequest { query: query(25_000), ..request(Player::Other, None) }, CD)
                .expect_err("over 4 GiB");
        assert_eq!(text, "for=25000 is too long: a WAV file ends at 4 GiB, which is 24347 s of this stream.");
    }

    #[test]
    fn a_recording_of_an_odd_number_of_bytes_ends_with_a_pad_byte() {
        let mono = StreamFormat { rate: 11_025, channels: 1, sample: SampleFormat::S24 };
        let query = StreamQuery { length: Some(Duration::from_secs(1)), ..StreamQuery::default() };
        let StreamResponse { head, body } =
            plan(&StreamRequest { query, ..request(Player::Other, None) }, mono).expect("it is short");
        assert_eq!(head.header("Content-Length"), Some("33120"));
        assert_eq!((body.prefix.len(), body.length, body.suffix), (44, Some(33_075), &[0][..]));
    }

    #[test]
    fn low_latency_has_no_burst() {
        let query = StreamQuery { low_latency: true, ..StreamQuery::default() };
        let plan = planned(&StreamRequest { query, ..request(Player::Other, None) });
        assert_eq!(plan.body.begin, StartAt::Back(0));
    }
}
