//! A clip: a file of past sound, `/NAME.wav?last=30`.
//!
//! A clip exists already when it is asked for, so it is served like any file: with its true size, in ranges,
//! and again. That takes an address under which it stays the same. `?last=30` only leads to one, which names
//! the frames: `?stream=ID&from=FRAME&to=FRAME`. The indices are those of one ring, and the ID says which; so
//! an address never means other sound than it did at first. A clip that the ring no longer holds is 410, and
//! a download that the history overtakes is cut: the client that fetches the rest learns that it is gone.
//!
//! A client that resumes a download of `?last=30` would put two moments together if it was led to the frames
//! of now. So a range of `?last=30` gets 200 and the whole, with nothing to resume by; see [`Last`].

use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use crate::http::byte_range::{ByteRange, Bytes, Layout};
use crate::http::date::{Civil, unix_time_before};
use crate::http::stream_response::{StreamResponse, WAV, playback, start_head};
use crate::http::target::{BadRequest, FrameRange, StreamQuery};
use crate::listeners::StartAt;
use crate::media::ring::Ring;
use crate::media::wav::{self, HEADER_BYTES, Sizes};
use crate::sys::clock::{self, monotonic_ns};

/// The answer to `?last=S`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// 307 to this relative address, with `Cache-Control: no-store`.
    Redirect(String),
    /// The request has a range: 200 with all of these frames, by a [`ClipRequest`] that is
    /// [relative](ClipRequest::is_relative).
    Whole(FrameRange),
    /// There is no sound yet.
    Nothing,
}

/// Decides about a request for the last seconds of a ring that holds `history`. `file` is the last part of the address.
///
/// # Errors
///
/// When the ring holds less than that.
pub fn last(
    ring: &Ring,
    file: &str,
    query: &StreamQuery,
    history: Duration,
    range: Option<&str>,
) -> Result<Last, BadRequest> {
    let Some(last) = query.last else { return Ok(Last::Nothing) };
    if last > history {
        let (last, history) = (last.as_secs_f64(), history.as_secs_f64());
        return Err(BadRequest(format!("last={last} is too far: the last {history} s are kept.")));
    }
    let Some((edge, _)) = ring.edge() else { return Ok(Last::Nothing) };
    let (to, count) = (edge + 1, ring.format().frames_in(last).max(1));
    // The oldest frame of a young ring, or of one whose blocks were short. Counted from the same edge, since blocks come in
    // meanwhile. The thread may have stood still until the ring has lost all of it.
    let from = ring.reader_at(to.saturating_sub(count)).frame();
    if from >= to {
        return Ok(Last::Nothing);
    }
    let frames = FrameRange { stream: ring.id(), from, to };
    // Players send `bytes=0-` at first. That is the whole, and they want to seek in it later.
    if range.is_some_and(|range| ByteRange::parse(range) != Some(ByteRange::From(0))) {
        return Ok(Last::Whole(frames));
    }
    // Relative to the requested address, which a reverse proxy may have put below another path.
    let up = if query.has_trailing_slash { "../" } else { "" };
    let FrameRange { stream, from, to } = frames;
    let mut address = format!("{up}{file}?stream={stream}&from={from}&to={to}");
    if let Some(utc) = query.utc {
        // Writing to a String cannot fail.
        let _ = write!(address, "&utc={utc}");
    }
    if let Some(bitrate) = query.bitrate {
        let _ = write!(address, "&bitrate={bitrate}");
    }
    if query.identity {
        address.push_str("&framing=identity");
    }
    Ok(Last::Redirect(address))
}

/// The reason why there is no such clip.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 410: the ring no longer holds the frames, or another ring did.
    Gone,
    /// 404: the frames are not captured yet.
    NotYet,
    /// 400: more than a WAV file can hold.
    TooLong,
    /// 416: the range begins after the end of a clip of this many bytes.
    Range(u64),
}

impl Refusal {
    /// Returns the status and the text of the response. A 416 has the length too.
    pub fn text(&self) -> (u16, &'static str) {
        match self {
            Refusal::Gone => (410, "This is not kept any more."),
            Refusal::NotYet => (404, "This has not been captured yet."),
            Refusal::TooLong => (400, "A WAV file ends at 4 GiB."),
            Refusal::Range(_) => (416, "The file ends before that."),
        }
    }
}

/// A request for a clip.
#[derive(Clone, Copy, Debug)]
pub struct ClipRequest<'a> {
    /// The input's name.
    pub name: &'a str,
    /// The frames.
    pub frames: FrameRange,
    /// Minutes that the listener's clock is ahead of UTC; `None` takes the machine's own time zone.
    pub utc: Option<i32>,
    /// The Range header.
    pub range: Option<&'a str>,
    /// The If-Range header.
    pub if_range: Option<&'a str>,
    /// `true` if the address means other frames later (`?last=`): no range is served, and none is offered.
    pub is_relative: bool,
}

/// Decides about the response to a request for a clip.
///
/// # Errors
///
/// The reason why there is none.
pub fn plan(request: &ClipRequest<'_>, ring: &Ring) -> Result<StreamResponse, Refusal> {
    let FrameRange { stream, from, to } = request.frames;
    let began = locate(request.frames, ring)?;
    let format = ring.format();
    let data = (to - from).saturating_mul(format.frame_bytes() as u64);
    let Some(size) = u32::try_from(data).ok().filter(|_| data <= wav::MAX_DATA_BYTES) else {
        return Err(Refusal::TooLong);
    };
    let layout = Layout { header: HEADER_BYTES, frame_bytes: format.frame_bytes(), data: Some(data) };
    let total = layout.total().unwrap_or(u64::MAX);
    let tag = format!("\"{stream}-{from}-{to}\"");

    // A range of another file than the one of which the client has the beginning is of no use to the client.
    let range =
        request.range.filter(|_| !request.is_relative && request.if_range.is_none_or(|known| known == tag));
    let range = match range.and_then(ByteRange::parse) {
        Some(range) => Some(layout.resolve(range).ok_or(Refusal::Range(total))?),
        None => None,
    };
    let part = range.unwrap_or(Bytes { first: 0, last: Some(total - 1) });
    let slice = layout.slice(part);

    let mut head = start_head(if range.is_some() { 206 } else { 200 }, WAV)
        .with("Content-Length", part.count().unwrap_or_default().to_string())
        .with("Content-Disposition", disposition(request.name, began, request.utc, "wav"));
    if !request.is_relative {
        head.push("Accept-Ranges", "bytes");
        head.push("ETag", tag);
    }
    if range.is_some() {
        let last = part.last.unwrap_or_default();
        head.push("Content-Range", format!("bytes {}-{last}/{total}", part.first));
    }
    // A part that holds only the pad byte begins behind the last frame, which the ring may not hold yet.
    let first_frame = (from + slice.first_frame).min(to - 1);
    let header = wav::header(format, Sizes::Data(size));
    Ok(StreamResponse { head, body: playback(&header, &slice, StartAt::Frame(first_frame)) })
}

/// Checks that a ring holds these frames. Returns the time at which the first was captured, in seconds since 1970.
///
/// # Errors
///
/// [`Refusal::Gone`] and [`Refusal::NotYet`].
pub fn locate(frames: FrameRange, ring: &Ring) -> Result<i64, Refusal> {
    let FrameRange { stream, from, to } = frames;
    let Some((edge, captured_at)) = ring.edge().filter(|_| ring.id() == stream) else {
        return Err(Refusal::Gone);
    };
    if to > edge + 1 {
        return Err(Refusal::NotYet);
    }
    if ring.reader_at(from).frame() != from {
        return Err(Refusal::Gone);
    }
    let since_edge = Duration::from_nanos(monotonic_ns().saturating_sub(captured_at));
    Ok(unix_time_before(since_edge + ring.format().duration_of(edge - from)))
}

/// Returns the Content-Disposition of a clip whose first frame was captured at `began` (seconds since 1970). `utc`: minutes
/// that the listener's clock is ahead of UTC; `None` takes the machine's own time zone.
pub fn disposition(name: &str, began: i64, utc: Option<i32>, extension: &str) -> String {
    let offset = utc.map_or_else(|| clock::utc_offset(began), |minutes| i64::from(minutes) * 60);
    format!("attachment; filename=\"{name}-{}.{extension}\"", FileTime(began + offset))
}

/// Seconds since 1970 as they stand in a file name: `2026-11-20-12.34.56`.
struct FileTime(i64);

impl fmt::Display for FileTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second } = Civil::of(self.0);
        write!(f, "{year:04}-{month:02}-{day:02}-{hour:02}.{minute:02}.{second:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::format::{SampleFormat, StreamFormat};
    use crate::media::ring::{self, Writer};

    const FORMAT: StreamFormat = StreamFormat { rate: 1000, channels: 2, sample: SampleFormat::S16 };

    fn ring(frames: usize) -> (Writer, Ring) {
        let (mut writer, ring) = ring::new(FORMAT, 10, Duration::from_secs(1)).expect("memory");
        writer.publish(&vec![0; frames * 4], monotonic_ns());
        (writer, ring)
    }

    fn request(ring: &Ring, from: u64, to: u64) -> ClipRequest<'static> {
        let frames = FrameRange { stream: ring.id(), from, to };
        ClipRequest { name: "live", frames, utc: Some(0), range: None, if_range: None, is_relative: false }
    }

    #[test]
    fn a_clip_has_its_true_size_and_begins_with_its_first_frame() {
        let (_writer, ring) = ring(500);
        let StreamResponse { head, body } = plan(&request(&ring, 100, 300), &ring).expect("it is kept");
        assert_eq!(head.status, 200);
        assert_eq!(head.header("Content-Length"), Some("844"));
        assert_eq!(head.header("Accept-Ranges"), Some("bytes"));
        assert_eq!(head.header("ETag"), Some(&*format!("\"{}-100-300\"", ring.id())));
        assert!(head.header("Date").is_some());
        assert_eq!((body.begin, body.length, body.chunked), (StartAt::Frame(100), Some(800), false));
        assert_eq!(body.prefix, wav::header(FORMAT, Sizes::Data(800)));
    }

    #[test]
    fn ranges_are_those_of_a_file() {
        let (_writer, ring) = ring(500);
        for (range, expected, begin, skip, prefix) in [
            ("bytes=0-", "0-843/844", 100, 0, 44),
            ("bytes=0-9", "0-9/844", 100, 0, 10),
            ("bytes=44-", "44-843/844", 100, 0, 0),
            ("bytes=50-52", "50-52/844", 101, 2, 0),
            ("bytes=-4", "840-843/844", 299, 0, 0),
            ("bytes=-9999", "0-843/844", 100, 0, 44),
            ("bytes=800-9999", "800-843/844", 289, 0, 0),
        ] {
            let request = ClipRequest { range: Some(range), ..request(&ring, 100, 300) };
            let StreamResponse { head, body } = plan(&request, &ring).expect("it is kept");
            assert_eq!(head.status, 206, "{range}");
            assert_eq!(head.header("Content-Range"), Some(&*format!("bytes {expected}")), "{range}");
            assert_eq!(
                (body.begin, body.skip, body.prefix.len()),
                (StartAt::Frame(begin), skip, prefix),
                "{range}"
            );
        }
        for range in ["bytes=844-", "bytes=9999-", "bytes=-0"] {
            let request = ClipRequest { range: Some(range), ..request(&ring, 100, 300) };
            assert_eq!(plan(&request, &ring), Err(Refusal::Range(844)), "{range}");
        }
        for range in ["bytes=0-1,5-9", "items=0-1", "bytes=x"] {
            let request = ClipRequest { range: Some(range), ..request(&ring, 100, 300) };
            assert_eq!(plan(&request, &ring).expect("it is kept").head.status, 200, "{range}");
        }
    }

    #[test]
    fn a_range_of_another_file_is_not_served() {
        let (_writer, ring) = ring(500);
        let tag = format!("\"{}-100-300\"", ring.id());
        for (known, status) in
            [(tag.as_str(), 206), ("\"other\"", 200), ("Fri, 20 Nov 2026 12:00:00 GMT", 200)]
        {
            let request =
                ClipRequest { range: Some("bytes=50-"), if_range: Some(known), ..request(&ring, 100, 300) };
            assert_eq!(plan(&request, &ring).expect("it is kept").head.status, status, "{known}");
        }
    }

    #[test]
    fn an_odd_number_of_bytes_is_padded() {
        let mono = StreamFormat { rate: 1000, channels: 1, sample: SampleFormat::S24 };
        let (mut writer, ring) = ring::new(mono, 10, Duration::from_secs(1)).expect("memory");
        writer.publish(&[0; 33], monotonic_ns());
        let whole = plan(&request(&ring, 0, 11), &ring).expect("it is kept");
        assert_eq!(whole.head.header("Content-Length"), Some("78"));
        assert_eq!((whole.body.length, whole.body.suffix), (Some(33), &[0][..]));
        let last = ClipRequest { range: Some("bytes=-1"), ..request(&ring, 0, 11) };
        let last = plan(&last, &ring).expect("it is kept");
        assert_eq!(last.head.header("Content-Range"), Some("bytes 77-77/78"));
        assert_eq!(
            (last.body.begin, last.body.length, last.body.suffix),
            (StartAt::Frame(10), Some(0), &[0][..])
        );
        let even = plan(&request(&ring, 0, 10), &ring).expect("it is kept");
        assert_eq!((even.body.length, even.body.suffix), (Some(30), &[][..]));
    }

    #[test]
    fn a_clip_that_is_not_kept_any_more_is_gone_and_so_is_another_rings() {
        let (mut writer, ring) = ring(500);
        assert!(plan(&request(&ring, 0, 100), &ring).is_ok());
        let frames = FrameRange { stream: 1, from: 0, to: 100 };
        let other = ClipRequest { frames, ..request(&ring, 0, 100) };
        assert_eq!(plan(&other, &ring), Err(Refusal::Gone));
        assert_eq!(plan(&request(&ring, 0, 501), &ring), Err(Refusal::NotYet));
        assert!(plan(&request(&ring, 400, 500), &ring).is_ok());
        writer.publish(&[0; 4000 * 4], monotonic_ns());
        assert_eq!(plan(&request(&ring, 0, 100), &ring), Err(Refusal::Gone));
    }

    #[test]
    fn last_leads_to_the_frames_that_it_means_now() {
        let (_writer, ring) = ring(500);
        let (id, second) = (ring.id(), Duration::from_secs(1));
        let lead = |time, utc, has_trailing_slash| {
            let query = StreamQuery { last: Some(time), utc, has_trailing_slash, ..StreamQuery::default() };
            last(&ring, "live.wav", &query, second, None)
        };
        let redirect = |address: String| Ok(Last::Redirect(address));
        assert_eq!(
            lead(Duration::from_millis(200), Some(60), false),
            redirect(format!("live.wav?stream={id}&from=300&to=500&utc=60"))
        );
        // A young ring has less.
        assert_eq!(lead(second, None, false), redirect(format!("live.wav?stream={id}&from=0&to=500")));
        assert_eq!(lead(second, None, true), redirect(format!("../live.wav?stream={id}&from=0&to=500")));
        let all =
            StreamQuery { bitrate: Some(64), identity: true, last: Some(second), ..StreamQuery::default() };
        assert_eq!(
            last(&ring, "live.mp3", &all, second, None),
            redirect(format!("live.mp3?stream={id}&from=0&to=500&bitrate=64&framing=identity"))
        );
        let far = lead(Duration::from_secs(2), None, false);
        assert_eq!(far, Err(BadRequest("last=2 is too far: the last 1 s are kept.".to_owned())));
    }

    #[test]
    fn a_resumed_download_of_the_last_seconds_begins_anew() {
        let (_writer, ring) = ring(500);
        let query = StreamQuery { last: Some(Duration::from_millis(200)), ..StreamQuery::default() };
        let lead = |range| last(&ring, "live.wav", &query, Duration::from_secs(1), Some(range));
        assert!(matches!(lead("bytes=0-"), Ok(Last::Redirect(_))), "players ask so for the whole");
        for range in ["bytes=100-", "bytes=0-99", "bytes=-5", "nonsense"] {
            let Ok(Last::Whole(frames)) = lead(range) else { panic!("{range}") };
            assert_eq!(frames, FrameRange { stream: ring.id(), from: 300, to: 500 });
            let relative =
                ClipRequest { frames, range: Some(range), is_relative: true, ..request(&ring, 0, 1) };
            let StreamResponse { head, body } = plan(&relative, &ring).expect("it is kept");
            assert_eq!((head.status, head.header("Content-Length")), (200, Some("844")), "{range}");
            assert_eq!((head.header("ETag"), head.header("Accept-Ranges")), (None, None), "{range}");
            assert_eq!((body.begin, body.prefix.len()), (StartAt::Frame(300), 44), "{range}");
        }
    }

    #[test]
    fn the_file_is_named_after_the_time_of_its_first_frame() {
        for (seconds, text) in [(0, "1970-01-01-00.00.00"), (951_827_696, "2000-02-29-12.34.56")] {
            assert_eq!(FileTime(seconds).to_string(), text);
        }
        let (_writer, ring) = ring(500);
        let now = unix_time_before(Duration::ZERO);
        let request = ClipRequest { utc: Some(-300), ..request(&ring, 100, 300) };
        let head = plan(&request, &ring).expect("it is kept").head;
        let name = head.header("Content-Disposition").expect("a name").to_owned();
        let possible = (now - 2..=now)
            .map(|time| format!("attachment; filename=\"live-{}.wav\"", FileTime(time - 18_000)));
        assert!(possible.into_iter().any(|expected| expected == name), "{name}");
    }
}
