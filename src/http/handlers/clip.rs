//! A file of what was heard already: `/NAME.wav?last=30`.
//!
//! It is there when it is asked for, so it can be had like any file: with its true size, in ranges, and again.
//! That takes an address under which it stays the same. `?last=30` only leads to one, which names the frames:
//! `?stream=ID&from=FRAME&to=FRAME`. The indices are those of one ring, and the ID says which; so an address
//! never means other sound than it did at first. What is not kept any more is 410, and a download that the
//! history overtakes is cut: who fetches the rest learns that it is gone.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use crate::http::stream_response::{StreamResponse, start};
use crate::http::target::{BadRequest, Range, Span};
use crate::listeners::catch_up::{Playback, StartAt};
use crate::media::ring::Ring;
use crate::media::wav::{self, HEADER_BYTES, Sizes};
use crate::sys::clock::{self, monotonic_ns};

/// Where `?last=` leads: the address of what was heard within that time. `None` before the first sound.
///
/// # Errors
///
/// When less than that is kept.
pub fn address(
    ring: &Ring,
    name: &str,
    last: Duration,
    history: Duration,
    utc: Option<i32>,
) -> Result<Option<String>, BadRequest> {
    if last > history {
        let (last, history) = (last.as_secs_f64(), history.as_secs_f64());
        return Err(BadRequest(format!("last={last} is too far: the last {history} s are kept.")));
    }
    let Some((edge, _)) = ring.edge() else { return Ok(None) };
    let frames = ring.format().frames_in(last).max(1);
    // At the first frame of a young ring, or of one whose blocks were short.
    let from = ring.reader(frames).frame();
    // Relative to what was asked for, which a reverse proxy may have put below another path.
    let mut address = format!("{name}.wav?stream={}&from={from}&to={}", ring.id(), edge + 1);
    if let Some(utc) = utc {
        let _ = write!(address, "&utc={utc}");
    }
    Ok(Some(address))
}

/// Why there is no such file.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 410: it was there, perhaps.
    Gone,
    /// 404: it is still to be heard.
    NotYet,
    /// 400: more than a WAV file can say that it has.
    TooLong,
    /// 416, with the whole head: the range begins after its end.
    Range(String),
}

impl Refusal {
    /// The status and the text of an answer that has one.
    pub fn text(&self) -> (u16, &'static str) {
        match self {
            Refusal::Gone => (410, "This is not kept any more."),
            Refusal::NotYet => (404, "This is still to be heard."),
            Refusal::TooLong => (400, "A WAV file ends at 4 GiB."),
            Refusal::Range(_) => (416, "It ends before that."),
        }
    }
}

/// What a request for a file of the past says.
#[derive(Clone, Copy, Debug)]
pub struct ClipRequest<'a> {
    /// The input's name.
    pub name: &'a str,
    /// Which part.
    pub span: Span,
    /// Minutes that the listener's clock is ahead of UTC; the machine's own time without.
    pub utc: Option<i32>,
    /// Its Range header.
    pub range: Option<&'a str>,
    /// Its If-Range header.
    pub if_range: Option<&'a str>,
}

/// Decides what goes out for it.
///
/// # Errors
///
/// Why nothing can.
pub fn plan(ask: &ClipRequest<'_>, ring: &Ring) -> Result<StreamResponse, Refusal> {
    let Span { stream, from, to } = ask.span;
    let Some((edge, captured_at)) = ring.edge().filter(|_| ring.id() == stream) else {
        return Err(Refusal::Gone);
    };
    if to > edge + 1 {
        return Err(Refusal::NotYet);
    }
    if ring.reader_at(from).frame() != from {
        return Err(Refusal::Gone);
    }
    let format = ring.format();
    let frame_bytes = format.frame_bytes() as u64;
    let data = (to - from).saturating_mul(frame_bytes);
    let Some(size) = u32::try_from(data).ok().filter(|_| data <= wav::MAX_DATA_BYTES) else {
        return Err(Refusal::TooLong);
    };
    let header = wav::header(format, Sizes::Data(size));
    let total = data + HEADER_BYTES as u64;
    let tag = format!("\"{stream}-{from}-{to}\"");
    // A range of another file than the one that the client has the beginning of is of no use to it.
    let range = ask.range.filter(|_| ask.if_range.is_none_or(|known| known == tag));
    let range = range.and_then(|range| requested(range, total));
    if range.is_some_and(|(first, _)| first >= total) {
        let mut head = start(416);
        let _ = write!(head, "Content-Length: 0\r\nContent-Range: bytes */{total}\r\n\r\n");
        return Err(Refusal::Range(head));
    }
    let (first, last) = range.map_or((0, total - 1), |(first, last)| (first, last.min(total - 1)));

    let mut head = start(if range.is_some() { 206 } else { 200 });
    let age =
        Duration::from_nanos(monotonic_ns().saturating_sub(captured_at)) + format.duration_of(edge - from);
    // The one use of the clock that people set: a name.
    #[allow(clippy::disallowed_methods)]
    let began =
        SystemTime::now().checked_sub(age).and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let began = began.unwrap_or_default().as_secs() as i64;
    let offset = ask.utc.map_or_else(|| clock::utc_offset(began), |minutes| i64::from(minutes) * 60);
    let _ = write!(
        head,
        "Content-Length: {}\r\nAccept-Ranges: bytes\r\nETag: {tag}\r\n\
         Content-Disposition: attachment; filename=\"{}-{}.wav\"\r\n",
        last - first + 1,
        ask.name,
        DateTime(began + offset)
    );
    if range.is_some() {
        let _ = write!(head, "Content-Range: bytes {first}-{last}/{total}\r\n");
    }
    head.push_str("\r\n");

    let in_header = |byte: u64| byte.min(HEADER_BYTES as u64) as usize;
    let prefix = header[in_header(first)..in_header(last + 1)].to_vec();
    let sound = first.saturating_sub(HEADER_BYTES as u64);
    let body = Playback {
        chunked: false,
        skip: (sound % frame_bytes) as usize,
        length: Some(last + 1 - first - prefix.len() as u64),
        prefix,
        begin: StartAt::Frame(from + sound / frame_bytes),
        lag_target: None,
    };
    Ok(StreamResponse { head, body })
}

/// The first and the last byte that a Range header asks for; `None` for one that may be ignored. Unlike a
/// stream, a file has an end to count from.
fn requested(range: &str, total: u64) -> Option<(u64, u64)> {
    match Range::parse(range) {
        Some(Range::From(first)) => Some((first, u64::MAX)),
        Some(Range::Bounded(first, last)) => Some((first, last)),
        None => {
            let suffix: u64 = range.trim().strip_prefix("bytes=-")?.parse().ok()?;
            // No bytes from the end is a range that cannot be had.
            Some((if suffix == 0 { u64::MAX } else { total.saturating_sub(suffix) }, u64::MAX))
        }
    }
}

/// Seconds since 1970 as they stand in a file name.
struct DateTime(i64);

impl std::fmt::Display for DateTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (days, second) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        // Days to a date of the Gregorian calendar, in eras of 400 years that begin on a 1st of March, after
        // which the leap day comes last.
        let days = days + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (year, month) = (year + era * 400 + i64::from(month >= 10), (month + 2) % 12 + 1);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
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

    fn ask(ring: &Ring, from: u64, to: u64) -> ClipRequest<'static> {
        let span = Span { stream: ring.id(), from, to };
        ClipRequest { name: "live", span, utc: Some(0), range: None, if_range: None }
    }

    fn header<'a>(plan: &'a StreamResponse, name: &str) -> Option<&'a str> {
        plan.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    #[test]
    fn a_file_of_the_past_has_its_true_size_and_begins_with_its_first_frame() {
        let (_writer, ring) = ring(500);
        let plan = plan(&ask(&ring, 100, 300), &ring).expect("it is kept");
        assert!(plan.head.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(header(&plan, "Content-Length"), Some("844"));
        assert_eq!(header(&plan, "Accept-Ranges"), Some("bytes"));
        assert_eq!(
            (plan.body.begin, plan.body.length, plan.body.chunked),
            (StartAt::Frame(100), Some(800), false)
        );
        assert_eq!(plan.body.prefix, wav::header(FORMAT, Sizes::Data(800)));
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
            let plan =
                plan(&ClipRequest { range: Some(range), ..ask(&ring, 100, 300) }, &ring).expect("it is kept");
            assert!(plan.head.starts_with("HTTP/1.1 206 "), "{range}: {}", plan.head);
            assert_eq!(header(&plan, "Content-Range"), Some(format!("bytes {expected}").as_str()), "{range}");
            assert_eq!(
                (plan.body.begin, plan.body.skip, plan.body.prefix.len()),
                (StartAt::Frame(begin), skip, prefix),
                "{range}"
            );
        }
        for range in ["bytes=844-", "bytes=9999-", "bytes=-0"] {
            let refused = plan(&ClipRequest { range: Some(range), ..ask(&ring, 100, 300) }, &ring);
            let Err(Refusal::Range(head)) = refused else { panic!("{range}: {refused:?}") };
            assert!(head.contains("Content-Range: bytes */844\r\n"), "{head}");
        }
        for range in ["bytes=0-1,5-9", "items=0-1", "bytes=x"] {
            let plan =
                plan(&ClipRequest { range: Some(range), ..ask(&ring, 100, 300) }, &ring).expect("it is kept");
            assert!(plan.head.starts_with("HTTP/1.1 200 "), "{range}");
        }
    }

    #[test]
    fn a_range_of_another_file_is_not_served() {
        let (_writer, ring) = ring(500);
        let tag = format!("\"{}-100-300\"", ring.id());
        for (known, status) in
            [(tag.as_str(), "206"), ("\"other\"", "200"), ("Fri, 20 Nov 2026 12:00:00 GMT", "200")]
        {
            let ask = ClipRequest { range: Some("bytes=50-"), if_range: Some(known), ..ask(&ring, 100, 300) };
            let plan = plan(&ask, &ring).expect("it is kept");
            assert_eq!(&plan.head[9..12], status, "{known}");
        }
    }

    #[test]
    fn what_is_not_kept_any_more_is_gone_and_so_is_another_runs() {
        let (mut writer, ring) = ring(500);
        assert!(plan(&ask(&ring, 0, 100), &ring).is_ok());
        let other = ClipRequest { span: Span { stream: 1, from: 0, to: 100 }, ..ask(&ring, 0, 100) };
        assert_eq!(plan(&other, &ring), Err(Refusal::Gone));
        assert_eq!(plan(&ask(&ring, 0, 501), &ring), Err(Refusal::NotYet));
        assert!(plan(&ask(&ring, 400, 500), &ring).is_ok());
        writer.publish(&[0; 4000 * 4], monotonic_ns());
        assert_eq!(plan(&ask(&ring, 0, 100), &ring), Err(Refusal::Gone));
    }

    #[test]
    fn last_leads_to_the_frames_that_it_means_now() {
        let (_writer, ring) = ring(500);
        let (id, second) = (ring.id(), Duration::from_secs(1));
        let lead = |last, utc| address(&ring, "live", last, second, utc);
        assert_eq!(
            lead(Duration::from_millis(200), Some(60)),
            Ok(Some(format!("live.wav?stream={id}&from=300&to=500&utc=60")))
        );
        // A young ring has less.
        assert_eq!(lead(second, None), Ok(Some(format!("live.wav?stream={id}&from=0&to=500"))));
        let far = lead(Duration::from_secs(2), None);
        assert_eq!(far, Err(BadRequest("last=2 is too far: the last 1 s are kept.".to_owned())));
    }

    #[test]
    fn the_file_is_named_after_the_time_of_its_first_frame() {
        for (seconds, text) in [
            (0, "1970-01-01-00.00.00"),
            (951_827_696, "2000-02-29-12.34.56"),
            (1_709_251_199, "2024-02-29-23.59.59"),
            (1_735_689_599, "2024-12-31-23.59.59"),
            (4_107_542_400, "2100-03-01-00.00.00"),
        ] {
            assert_eq!(DateTime(seconds).to_string(), text);
        }
        let (_writer, ring) = ring(500);
        #[allow(clippy::disallowed_methods)]
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs() as i64;
        let plan = plan(&ClipRequest { utc: Some(-300), ..ask(&ring, 100, 300) }, &ring).expect("it is kept");
        let name = header(&plan, "Content-Disposition").expect("a name").to_owned();
        let possible = (now - 2..=now)
            .map(|time| format!("attachment; filename=\"live-{}.wav\"", DateTime(time - 18_000)));
        assert!(possible.into_iter().any(|expected| expected == name), "{name}");
    }
}
