//! What exactly goes out for a request of a stream: status, headers, framing, and which bytes.
//!
//! The rules were found with the players themselves:
//!
//! - An endless stream is chunked and has no Content-Length: a cut connection is then an error to the
//!   player, and Chromium comes back by itself.
//! - There is no Accept-Ranges header, not even `none`: MPD takes any for a file that it can seek in.
//! - Chromium comes back with `Range: bytes=N-` and must get 206 and sound without a header, so aligned that
//!   byte N is where its frames expect it. `bytes=0-` is what players send at first: 200, from the header.
//!   A range is never refused: mpv and ffplay die of a 416.
//! - HTTP/1.0, and who says `TE: identity`, gets the bare bytes until the connection ends.
//! - Apple's players probe with `bytes=0-1` and then want ranges of a file that has an end. So does Firefox:
//!   only when the first answer is 206 and says where the end is does it come back after a cut connection.
//! - With `latency=low` there is one more header, `Wavecast-Frame: STREAM/FRAME`: the first frame by its index, for a
//!   page that wants to know when it was captured.
//!
//! What was heard already is a file like any other: [`past`](super::past).

use std::fmt::Write as _;
use std::time::Duration;

use super::players::Player;
use super::target::{BadRequest, Range, Wanted};
use crate::listeners::catch_up::{Playback, StartAt};
use crate::media::format::StreamFormat;
use crate::media::wav::{self, HEADER_BYTES, Sizes};

/// What is known of a request for a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamRequest<'a> {
    /// The input's name.
    pub name: &'a str,
    /// Which part of the stream.
    pub wanted: Wanted,
    /// Who asks.
    pub player: Player,
    /// The range it asks for.
    pub range: Option<Range>,
    /// Whether it understands chunks.
    pub chunks: bool,
}

/// The response to a request for a stream: the head, and what follows from the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamResponse {
    /// Status line and headers, up to and with the empty line.
    pub head: String,
    /// The body.
    pub body: Playback,
}

/// The end of the range that a 206 of an endless stream names: beyond any player's reach, and still a whole
/// number in JavaScript.
const FAR: u64 = (1 << 53) - 2;

/// Decides what goes out for a request of a stream of that format, of which so much is kept.
///
/// # Errors
///
/// When `back` or `for` ask for more than there can be.
pub fn plan(
    ask: &StreamRequest<'_>,
    format: StreamFormat,
    history: Duration,
) -> Result<StreamResponse, BadRequest> {
    if let Some(back) = ask.wanted.back.filter(|back| *back > history) {
        let (back, history) = (back.as_secs_f64(), history.as_secs_f64());
        return Err(BadRequest(format!("back={back} is too far: the last {history} s are kept.")));
    }
    let asked_back = ask.wanted.back.map(|back| format.frames_in(back));
    if let Some(length) = ask.wanted.length {
        return file(ask, format, length, asked_back);
    }
    let resumes = matches!(ask.range, Some(Range::From(first) | Range::Bounded(first, _)) if first > 0);
    let burst = match ask.wanted.low_latency || resumes {
        true => 0,
        false => ask.player.burst(format),
    };
    let back = asked_back.unwrap_or(burst);
    let lag_target = Some(asked_back.unwrap_or(0));

    // For players that are told how much sound there is, the stream is a file of this size.
    let total = ask.player.sizes().data_bytes(format).map(|data| u64::from(data) + HEADER_BYTES as u64);
    let end = total.map(|total| total - 1);
    let (first, last) = match ask.range {
        Some(Range::From(first)) => (first, end),
        Some(Range::Bounded(first, last)) => (first, Some(end.map_or(last, |end| last.min(end)))),
        None => (0, None),
    };
    // What lies beyond the end of the file cannot be had; like every range that cannot, it is ignored.
    let (first, last) = match last {
        Some(last) if first > last => (0, None),
        _ => (first, last),
    };

    let header = wav::header(format, ask.player.sizes());
    let in_header = |byte: u64| byte.min(HEADER_BYTES as u64) as usize;
    let prefix =
        header[in_header(first)..in_header(last.map_or(u64::MAX, |last| last.saturating_add(1)))].to_vec();
    let skip = (first.saturating_sub(HEADER_BYTES as u64) % format.frame_bytes() as u64) as usize;
    let bytes = last.map(|last| (last - first).saturating_add(1));
    let chunked = bytes.is_none() && ask.chunks;

    let mut head = match (bytes, first) {
        (None, 0) => start(200),
        _ => start(206),
    };
    if let Some(bytes) = bytes {
        let _ = write!(head, "Content-Length: {bytes}\r\n");
    }
    if bytes.is_some() || first > 0 {
        let last = last.unwrap_or(FAR);
        let total = total.map_or("*".to_owned(), |total| total.to_string());
        let _ = write!(head, "Content-Range: bytes {first}-{last}/{total}\r\n");
    }
    if chunked {
        head.push_str("Transfer-Encoding: chunked\r\n");
    }
    head.push_str("\r\n");
    let length = bytes.map(|bytes| bytes - prefix.len() as u64);
    let begin = StartAt::Back(back);
    Ok(StreamResponse { head, body: Playback { chunked, prefix, skip, length, begin, lag_target } })
}

/// A recording that ends: a file with true sizes.
fn file(
    ask: &StreamRequest<'_>,
    format: StreamFormat,
    length: Duration,
    back: Option<u64>,
) -> Result<StreamResponse, BadRequest> {
    let frame_bytes = format.frame_bytes() as u64;
    let data = format.frames_in(length).max(1) * frame_bytes;
    let Some(size) = u32::try_from(data).ok().filter(|_| data <= wav::MAX_DATA_BYTES) else {
        let most = wav::MAX_DATA_BYTES / format.bytes_per_second();
        return Err(BadRequest(format!(
            "for={} is too long: a WAV file ends at 4 GiB, which is {most} s of this stream.",
            length.as_secs_f64()
        )));
    };
    let mut head = start(200);
    let _ = write!(
        head,
        "Content-Length: {}\r\nContent-Disposition: inline; filename=\"{}.wav\"\r\n\r\n",
        data + HEADER_BYTES as u64,
        ask.name
    );
    let body = Playback {
        chunked: false,
        prefix: wav::header(format, Sizes::Data(size)).to_vec(),
        skip: 0,
        length: Some(data),
        begin: StartAt::Back(back.unwrap_or(0)),
        lag_target: None,
    };
    Ok(StreamResponse { head, body })
}

pub(crate) fn start(status: u16) -> String {
    let reason = match status {
        206 => "Partial Content",
        416 => "Range Not Satisfiable",
        _ => "OK",
    };
    format!(
        "HTTP/1.1 {status} {reason}\r\n\
         Server: {}\r\n\
         Content-Type: audio/wav\r\n\
         Cache-Control: no-store, no-transform\r\n\
         X-Content-Type-Options: nosniff\r\n\
         Connection: close\r\n",
        super::SERVER
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::players::APPLE_DATA_BYTES;
    use crate::media::format::SampleFormat;

    const APPLE_TOTAL: u64 = APPLE_DATA_BYTES as u64 + HEADER_BYTES as u64;
    const CD: StreamFormat = StreamFormat { rate: 44_100, channels: 2, sample: SampleFormat::S16 };
    const HISTORY: Duration = Duration::from_secs(30);

    fn ask(player: Player, range: Option<Range>) -> StreamRequest<'static> {
        StreamRequest { name: "live", wanted: Wanted::default(), player, range, chunks: true }
    }

    fn planned(ask: &StreamRequest<'_>) -> StreamResponse {
        plan(ask, CD, HISTORY).expect("it can be served")
    }

    fn header<'a>(plan: &'a StreamResponse, name: &str) -> Option<&'a str> {
        plan.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    #[test]
    fn an_endless_stream_is_chunked_and_says_nothing_of_ranges_or_length() {
        for range in [None, Some(Range::From(0))] {
            let plan = planned(&ask(Player::Other, range));
            assert!(plan.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", plan.head);
            assert!(plan.body.chunked);
            assert_eq!(header(&plan, "Transfer-Encoding"), Some("chunked"));
            assert_eq!(header(&plan, "Accept-Ranges"), None);
            assert_eq!(header(&plan, "Content-Length"), None);
            assert_eq!(header(&plan, "Content-Type"), Some("audio/wav"));
            assert_eq!(header(&plan, "Cache-Control"), Some("no-store, no-transform"));
            assert_eq!((plan.body.prefix.len(), plan.body.skip, plan.body.length), (44, 0, None));
            assert_eq!(plan.body.begin, StartAt::Back(22_050));
        }
    }

    #[test]
    fn who_understands_no_chunks_gets_the_bare_bytes() {
        let plan = planned(&StreamRequest { chunks: false, ..ask(Player::Other, None) });
        assert!(!plan.body.chunked);
        assert_eq!(header(&plan, "Transfer-Encoding"), None);
        assert_eq!(header(&plan, "Connection"), Some("close"));
    }

    #[test]
    fn a_resumed_stream_has_no_header_no_burst_and_is_on_the_players_frame_grid() {
        for (first, skip) in [(44, 0), (45, 1), (46, 2), (47, 3), (48, 0), (1_000_001, 1)] {
            let plan = planned(&ask(Player::ChromiumMedia, Some(Range::From(first))));
            assert!(plan.head.starts_with("HTTP/1.1 206 "), "{}", plan.head);
            assert!(plan.body.prefix.is_empty());
            assert_eq!(
                (plan.body.skip, plan.body.begin, plan.body.length),
                (skip, StartAt::Back(0), None),
                "byte {first}"
            );
            let range = format!("bytes {first}-{FAR}/*");
            assert_eq!(header(&plan, "Content-Range"), Some(range.as_str()));
        }
        let inside = planned(&ask(Player::ChromiumMedia, Some(Range::From(40))));
        assert_eq!((inside.body.prefix.len(), inside.body.skip), (4, 0));
    }

    #[test]
    fn a_bounded_range_gets_exactly_its_bytes() {
        for (first, last, prefix, sound) in
            [(0, 1, 2, 0), (0, 43, 44, 0), (0, 44, 44, 1), (40, 47, 4, 4), (44, 45, 0, 2)]
        {
            let plan = planned(&ask(Player::Other, Some(Range::Bounded(first, last))));
            assert!(plan.head.starts_with("HTTP/1.1 206 "));
            assert!(!plan.body.chunked);
            assert_eq!((plan.body.prefix.len(), plan.body.length), (prefix, Some(sound)), "{first}-{last}");
            let length = (last - first + 1).to_string();
            assert_eq!(header(&plan, "Content-Length"), Some(length.as_str()));
        }
        let huge = planned(&ask(Player::Other, Some(Range::Bounded(0, u64::MAX))));
        assert_eq!(huge.body.length, Some(u64::MAX - 44));
    }

    #[test]
    fn apple_gets_ranges_of_a_file_with_an_end() {
        let probe = planned(&ask(Player::Apple, Some(Range::Bounded(0, 1))));
        assert_eq!(header(&probe, "Content-Range"), Some("bytes 0-1/2147483436"));
        assert_eq!(header(&probe, "Content-Length"), Some("2"));
        for range in [Range::From(0), Range::Bounded(0, APPLE_TOTAL - 1), Range::Bounded(0, u64::MAX)] {
            let all = planned(&ask(Player::Apple, Some(range)));
            assert!(all.head.starts_with("HTTP/1.1 206 "));
            assert!(!all.body.chunked);
            assert_eq!(header(&all, "Content-Range"), Some("bytes 0-2147483435/2147483436"));
            assert_eq!(header(&all, "Content-Length"), Some("2147483436"));
            assert_eq!(all.body.length, Some(APPLE_DATA_BYTES.into()));
        }
        let beyond = planned(&ask(Player::Apple, Some(Range::From(APPLE_TOTAL))));
        assert!(beyond.head.starts_with("HTTP/1.1 200 "));
    }

    #[test]
    fn firefox_is_told_where_the_end_is_so_that_it_comes_back() {
        let all = planned(&ask(Player::Firefox, Some(Range::From(0))));
        assert!(all.head.starts_with("HTTP/1.1 206 "), "{}", all.head);
        assert!(!all.body.chunked);
        assert_eq!(header(&all, "Content-Range"), Some("bytes 0-4294967299/4294967300"));
        assert_eq!(header(&all, "Content-Length"), Some("4294967300"));
        assert_eq!(
            (all.body.prefix.len(), all.body.length, all.body.begin),
            (44, Some(4_294_967_256), StartAt::Back(22_050))
        );
        let again = planned(&ask(Player::Firefox, Some(Range::From(1_000_001))));
        assert!(again.head.starts_with("HTTP/1.1 206 "));
        assert_eq!(header(&again, "Content-Range"), Some("bytes 1000001-4294967299/4294967300"));
        assert_eq!((again.body.prefix.len(), again.body.skip, again.body.begin), (0, 1, StartAt::Back(0)));
        // A page's fetch() asks for no range, and gets the stream that never ends.
        let fetch = planned(&ask(Player::Firefox, None));
        assert!(fetch.head.starts_with("HTTP/1.1 200 "));
        assert!(fetch.body.chunked);
    }

    #[test]
    fn back_replaces_the_burst_and_is_where_a_slow_listener_goes_on() {
        let wanted = Wanted { back: Some(Duration::from_secs(20)), ..Wanted::default() };
        let plan = planned(&StreamRequest { wanted, ..ask(Player::ChromiumMedia, Some(Range::From(0))) });
        assert_eq!((plan.body.begin, plan.body.lag_target), (StartAt::Back(882_000), Some(882_000)));
        let wanted = Wanted { back: Some(Duration::from_secs(31)), ..Wanted::default() };
        let refused = super::plan(&StreamRequest { wanted, ..ask(Player::Other, None) }, CD, HISTORY);
        assert_eq!(refused, Err(BadRequest("back=31 is too far: the last 30 s are kept.".to_owned())));
    }

    #[test]
    fn a_recording_is_a_file_with_true_sizes() {
        let wanted = Wanted { length: Some(Duration::from_secs(2)), ..Wanted::default() };
        let plan = planned(&StreamRequest { wanted, ..ask(Player::Firefox, Some(Range::From(7))) });
        assert!(
            plan.head.starts_with("HTTP/1.1 200 "),
            "a range of what is recorded only now makes no sense"
        );
        assert_eq!(header(&plan, "Content-Length"), Some("352844"));
        assert_eq!(plan.body.length, Some(352_800));
        assert_eq!(plan.body.prefix, wav::header(CD, Sizes::Data(352_800)));
        assert_eq!((plan.body.begin, plan.body.lag_target), (StartAt::Back(0), None));
        let wanted = Wanted { length: Some(Duration::from_secs(25_000)), ..Wanted::default() };
        let BadRequest(text) =
            super::plan(&StreamRequest { wanted, ..ask(Player::Other, None) }, CD, HISTORY)
                .expect_err("over 4 GiB");
        assert_eq!(text, "for=25000 is too long: a WAV file ends at 4 GiB, which is 24347 s of this stream.");
    }

    #[test]
    fn low_latency_has_no_burst() {
        let wanted = Wanted { low_latency: true, ..Wanted::default() };
        assert_eq!(
            planned(&StreamRequest { wanted, ..ask(Player::Other, None) }).body.begin,
            StartAt::Back(0)
        );
    }
}
