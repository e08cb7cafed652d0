//! What a request asks for. Everything a stranger sends is taken apart here, and nothing is done.

use std::time::Duration;

/// The target of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// `/`
    Page,
    /// `/@page/FILE`: what the page is made of. No input's name has an @.
    Asset(String),
    /// `/NAME/levels`; `/levels` is the default input's. With `interval=MS`: how often an event at the most.
    Levels(Option<String>, Duration),
    /// `/NAME.wav`
    Wav(String, Wanted),
    /// `/NAME.m3u`
    M3u(String),
    /// `/NAME.pls`
    Pls(String),
    /// `/status.json`
    Status,
    /// `/healthz`
    Health,
    /// Anything else.
    Unknown,
}

/// Which part of the stream, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wanted {
    /// `back=S`: begin so long ago, instead of with the player's burst.
    pub back: Option<Duration>,
    /// `for=S`: end after so long, as a file with true sizes.
    pub length: Option<Duration>,
    /// `latency=low`: every block at once, and no burst.
    pub low_latency: bool,
    /// `last=S`: the last seconds, as a file that is there already.
    pub last: Option<Duration>,
    /// `stream=ID&from=FRAME&to=FRAME`: exactly these frames.
    pub span: Option<Span>,
    /// `utc=M`: how many minutes the listener's clock is ahead of UTC.
    pub utc: Option<i32>,
}

/// A part of the past that stays the same for as long as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which ring counts the frames.
    pub stream: u64,
    /// Index of the first frame.
    pub from: u64,
    /// Index of the frame after the last; greater than `from`.
    pub to: u64,
}

/// Why a request cannot be served as it is: the text of a 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest(pub String);

impl Target {
    /// Reads the request's target, its path and query. Queries that mean nothing here (`?t=123` to get
    /// around a cache) are left alone.
    ///
    /// # Errors
    ///
    /// When the value of a key that means something makes no sense.
    pub fn parse(target: &str) -> Result<Target, BadRequest> {
        // A proxy's absolute form (RFC 9112 §3.2.2) names the host first.
        let target = match target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
            Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => target,
        };
        let target = target.split('#').next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Some(path) = decode(path) else { return Ok(Target::Unknown) };
        let Some(name) = path.strip_prefix('/') else { return Ok(Target::Unknown) };
        Ok(match name {
            "" | "index.html" => Target::Page,
            "status.json" => Target::Status,
            "healthz" => Target::Health,
            _ if name.starts_with("@page/") => Target::Asset(name["@page/".len()..].to_owned()),
            "levels" => Target::Levels(None, levels_interval(query)?),
            _ if name.ends_with("/levels") => {
                let name = &name[..name.len() - "/levels".len()];
                Target::Levels(Some(name.to_owned()), levels_interval(query)?)
            }
            _ => match name.rsplit_once('.') {
                Some((name, "wav")) => Target::Wav(name.to_owned(), Wanted::parse(query)?),
                Some((name, "m3u")) => Target::M3u(name.to_owned()),
                Some((name, "pls")) => Target::Pls(name.to_owned()),
                _ => Target::Unknown,
            },
        })
    }
}

impl Wanted {
    fn parse(query: &str) -> Result<Wanted, BadRequest> {
        let mut wanted = Wanted::default();
        let (mut stream, mut from, mut to) = (None, None, None);
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "back" => wanted.back = Some(seconds(key, value)?),
                "for" => {
                    let length = seconds(key, value)?;
                    if length.is_zero() {
                        return Err(BadRequest("for=0 would be a recording of nothing.".to_owned()));
                    }
                    wanted.length = Some(length);
                }
                "latency" if value == "low" => wanted.low_latency = true,
                "latency" => return Err(BadRequest("latency is low, or is not said.".to_owned())),
                "last" => {
                    let last = seconds(key, value)?;
                    if last.is_zero() {
                        return Err(BadRequest("last=0 would be a recording of nothing.".to_owned()));
                    }
                    wanted.last = Some(last);
                }
                "stream" => stream = Some(whole(key, value)?),
                "from" => from = Some(whole(key, value)?),
                "to" => to = Some(whole(key, value)?),
                "utc" => wanted.utc = Some(minutes(value)?),
                _ => {}
            }
        }
        wanted.span = match (stream, from, to) {
            (None, None, None) => None,
            (Some(stream), Some(from), Some(to)) if from < to => Some(Span { stream, from, to }),
            _ => {
                let all =
                    "stream, from and to go together, and to is greater than from: ?last=10 leads to them.";
                return Err(BadRequest(all.to_owned()));
            }
        };
        Ok(wanted)
    }
}

/// How often who follows the levels gets an event, if nothing else is said.
pub const LEVELS_INTERVAL: Duration = Duration::from_millis(50);

/// What else it may be. Only a few, since everybody who asks for another one costs work of its own.
const LEVELS_INTERVALS: [u64; 5] = [1000, 500, 200, 100, 50];

fn levels_interval(query: &str) -> Result<Duration, BadRequest> {
    let mut interval = LEVELS_INTERVAL;
    for value in query.split('&').filter_map(|pair| pair.strip_prefix("interval=")) {
        match whole("interval", value)? {
            // The next one below, which misses nothing.
            ms @ 50..=1000 => {
                let served = LEVELS_INTERVALS.into_iter().find(|served| *served <= ms);
                interval = served.map_or(LEVELS_INTERVAL, Duration::from_millis);
            }
            _ => return Err(BadRequest("interval is milliseconds, 50 to 1000.".to_owned())),
        }
    }
    Ok(interval)
}

/// A year: more than any history or file holds, and far from where arithmetic ends.
const MOST_SECONDS: f64 = 365.0 * 86_400.0;

fn seconds(key: &str, value: &str) -> Result<Duration, BadRequest> {
    // Rust's parser would also take inf, nan and 1e3.
    let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match value.parse::<f64>() {
        Ok(seconds) if plain && seconds <= MOST_SECONDS => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(BadRequest(format!("{key} is a number of seconds, as in {key}=10 or {key}=2.5."))),
    }
}

fn whole(key: &str, value: &str) -> Result<u64, BadRequest> {
    let plain = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| plain);
    number.ok_or_else(|| BadRequest(format!("{key} is a whole number.")))
}

/// No place on earth is more than 14 hours away from UTC.
fn minutes(value: &str) -> Result<i32, BadRequest> {
    let number = value.parse().ok().filter(|minutes: &i32| minutes.abs() <= 14 * 60);
    number.ok_or_else(|| BadRequest("utc is minutes ahead of UTC, as in utc=60 or utc=-300.".to_owned()))
}

/// Undoes percent-encoding (RFC 3986 §2.1); `None` where it is none, or no UTF-8.
fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A range of bytes, as far as a live stream can serve one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// From this byte on.
    From(u64),
    /// From the first to the last of these, both included.
    Bounded(u64, u64),
}

impl Range {
    /// Reads a Range header (RFC 9110 §14.2). What cannot be served from a stream without an end (suffixes,
    /// several ranges) or makes no sense counts as no range, as the RFC has it; refusing it with 416 makes
    /// mpv and ffplay give up.
    pub fn parse(value: &str) -> Option<Range> {
        let (unit, range) = value.trim().split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = range.trim().split_once('-')?;
        let number = |text: &str| {
            let text = text.trim();
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
        };
        let first = number(first)?;
        match last.trim() {
            "" => Some(Range::From(first)),
            last => number(last).filter(|last| *last >= first).map(|last| Range::Bounded(first, last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wav(query: &str) -> Result<Wanted, BadRequest> {
        match Target::parse(&format!("/live.wav{query}")) {
            Ok(Target::Wav(name, wanted)) if name == "live" => Ok(wanted),
            Ok(other) => panic!("{other:?}"),
            Err(bad) => Err(bad),
        }
    }

    #[test]
    fn paths_lead_where_the_readme_says() {
        for (target, meaning) in [
            ("/", Target::Page),
            ("/?x=1", Target::Page),
            ("/index.html", Target::Page),
            ("/status.json", Target::Status),
            ("/healthz", Target::Health),
            ("/live.m3u", Target::M3u("live".to_owned())),
            ("/bird-box.pls", Target::Pls("bird-box".to_owned())),
            ("/live.wav", Target::Wav("live".to_owned(), Wanted::default())),
            ("/%6Cive.wav?t=1699", Target::Wav("live".to_owned(), Wanted::default())),
            ("http://pi:4410/live.wav", Target::Wav("live".to_owned(), Wanted::default())),
            ("http://pi:4410", Target::Page),
            ("/@page/app.js", Target::Asset("app.js".to_owned())),
            ("/@page/app.js?x", Target::Asset("app.js".to_owned())),
            ("/@page/levels", Target::Asset("levels".to_owned())),
            ("/live/levels", Target::Levels(Some("live".to_owned()), LEVELS_INTERVAL)),
            ("/a/b/levels", Target::Levels(Some("a/b".to_owned()), LEVELS_INTERVAL)),
            ("/levels", Target::Levels(None, LEVELS_INTERVAL)),
            ("/levels?interval=100", Target::Levels(None, 2 * LEVELS_INTERVAL)),
            ("/live", Target::Unknown),
            ("/live.mp3", Target::Unknown),
            ("/%zz", Target::Unknown),
            ("/%ff.wav", Target::Unknown),
            ("*", Target::Unknown),
            ("", Target::Unknown),
        ] {
            assert_eq!(Target::parse(target), Ok(meaning), "{target}");
        }
    }

    #[test]
    fn back_and_for_are_seconds() {
        let wanted = wav("?back=2.5&for=10").expect("it makes sense");
        assert_eq!(wanted.back, Some(Duration::from_millis(2500)));
        assert_eq!(wanted.length, Some(Duration::from_secs(10)));
        assert!(wav("?latency=low").expect("it makes sense").low_latency);
    }

    #[test]
    fn levels_come_as_often_as_is_asked_but_not_at_any_rate() {
        for (query, ms) in [
            ("interval=50", 50),
            ("interval=199", 100),
            ("interval=999", 500),
            ("t=1&interval=1000", 1000),
            ("t=1", 50),
            ("", 50),
        ] {
            let target = Target::parse(&format!("/levels?{query}"));
            assert_eq!(target, Ok(Target::Levels(None, Duration::from_millis(ms))), "{query}");
        }
        for wrong in ["", "49", "1001", "-50", "5e1", "x", "18446744073709551616"] {
            let bad = Target::parse(&format!("/live/levels?interval={wrong}")).expect_err(wrong);
            assert!(bad.0.contains("50 to 1000") || bad.0.contains("whole number"), "{bad:?}");
        }
    }

    #[test]
    fn a_part_of_the_past_is_named_by_its_frames() {
        let wanted = wav("?stream=1763640000123&from=10&to=20&utc=-300").expect("it makes sense");
        assert_eq!(wanted.span, Some(Span { stream: 1_763_640_000_123, from: 10, to: 20 }));
        assert_eq!(wanted.utc, Some(-300));
        assert_eq!(wav("?last=30").expect("it makes sense").last, Some(Duration::from_secs(30)));
    }

    #[test]
    fn what_is_no_number_of_seconds_is_refused_with_a_hint() {
        for query in [
            "back=",
            "back",
            "back=-1",
            "back=x",
            "back=inf",
            "back=NaN",
            "back=1e3",
            "back=1.2.3",
            "for=0",
            "for=99999999999",
            "for=0x10",
            "latency=high",
            "last=0",
            "last=-5",
            "stream=1&from=2",
            "stream=1&from=2&to=2",
            "stream=1&from=+1&to=2",
            "stream=&from=1&to=2",
            "utc=900",
            "utc=x",
        ] {
            assert!(wav(&format!("?{query}")).is_err(), "{query}");
        }
        let BadRequest(text) = wav("?back=soon").expect_err("soon is no number");
        assert_eq!(text, "back is a number of seconds, as in back=10 or back=2.5.");
    }

    #[test]
    fn ranges_that_a_stream_can_serve_are_read_and_all_others_ignored() {
        for (value, range) in [
            ("bytes=0-", Some(Range::From(0))),
            ("bytes=1234-", Some(Range::From(1234))),
            ("Bytes = 5 - 9 ", Some(Range::Bounded(5, 9))),
            ("bytes=0-1", Some(Range::Bounded(0, 1))),
            ("bytes=9-5", None),
            ("bytes=-500", None),
            ("bytes=0-1,5-9", None),
            ("items=0-1", None),
            ("bytes=+1-", None),
            ("bytes=99999999999999999999-", None),
            ("", None),
        ] {
            assert_eq!(Range::parse(value), range, "{value}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_that_a_stranger_sends_panics(target in ".{0,60}", range in ".{0,40}") {
            let _ = Target::parse(&target);
            let _ = Target::parse(&format!("/live.wav?{target}"));
            let _ = Range::parse(&range);
            let _ = Range::parse(&format!("bytes={range}"));
            let _ = crate::http::players::product(&target);
        }
    }
}
