//! The target of a request: path and query. Everything that a stranger sends is parsed here, and nothing is
//! done.

use std::time::Duration;

use super::access::tokens::Token;
use crate::encode::Codec;

/// The target of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// `/`
    Page,
    /// `/@page/FILE`: a part of the page, also its icon under the names that browsers ask for unasked. No input's name has an @.
    Asset(String),
    /// `/NAME/levels`; `None` for `/levels`, which is the default input's. The time is the smallest interval
    /// between events, from `interval=MS`.
    Levels(Option<String>, Duration),
    /// `/NAME/history`
    History(String),
    /// `/NAME/bands?stream=ID&from=COLUMN`
    Bands(String, BandsQuery),
    /// `/NAME.wav`, or with a codec `/NAME.flac`, `/NAME.mp3`, `/NAME.opus`
    Stream(String, Option<Codec>, StreamQuery),
    /// `/NAME.m3u`, for the stream with that codec
    M3u(String, Option<Codec>),
    /// `/NAME.pls`, for the stream with that codec
    Pls(String, Option<Codec>),
    /// `/status.json`
    Status,
    /// `/healthz/NAME`; `None` for `/healthz`, which is all inputs'.
    Health(Option<String>),
    /// `/healthz/push/NAME`
    PushHealth(String),
    /// Anything else.
    Unknown,
}

/// Returns the first `token=` in the query of a target, decoded.
pub(crate) fn token(target: &str) -> Option<Token> {
    let (_, query) = target.split('#').next()?.split_once('?')?;
    let (_, value) = split(query).find(|(key, _)| key == TOKEN)?;
    Some(Token::of(decode(value).unwrap_or_default()))
}

/// The query of a stream: which part of it, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamQuery {
    /// `back=S`: begin that long ago, instead of with the player's burst.
    pub back: Option<Duration>,
    /// `for=S`: end after that long, as a file with true sizes.
    pub length: Option<Duration>,
    /// `latency=low`: every block at once, and no burst.
    pub low_latency: bool,
    /// `bitrate=K`: kbit/s of an MP3 or Opus stream.
    pub bitrate: Option<u32>,
    /// `framing=identity`: no chunks.
    pub identity: bool,
    /// `last=S`: the last seconds, as a file that exists already.
    pub last: Option<Duration>,
    /// `stream=ID&from=FRAME&to=FRAME`: exactly these frames.
    pub frames: Option<FrameRange>,
    /// `utc=M`: how many minutes the listener's clock is ahead of UTC.
    pub utc: Option<i32>,
    /// `true` for `/NAME.wav/`: a relative reference in the response has to go up by one.
    pub has_trailing_slash: bool,
}

/// A part of the past. It stays the same for as long as the ring holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRange {
    /// ID of the ring that counts the frames.
    pub stream: u64,
    /// Index of the first frame.
    pub from: u64,
    /// Index of the frame after the last; greater than `from`.
    pub to: u64,
}

/// The columns of a spectrogram that a page wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BandsQuery {
    /// ID of the ring.
    pub stream: u64,
    /// Index of the first column.
    pub from: u64,
}

/// The text of a 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest(pub String);

/// Interval between events of the levels, if the query says none.
pub const LEVELS_INTERVAL: Duration = Duration::from_millis(50);

/// All intervals in ms, longest first. A short list, since each interval that somebody uses costs work of its
/// own.
const LEVELS_INTERVALS: [u64; 5] = [1000, 500, 200, 100, 50];

/// The key of a token, which any address may have. The access rules check it; no target depends on it.
const TOKEN: &str = "token";

/// Longest time in a query, in seconds: a year. More than any history or file holds, and far from an
/// overflow.
const MAX_SECONDS: f64 = 365.0 * 86_400.0;

/// Largest distance of a local time from UTC, in minutes: no place on earth is further away than 14 hours.
const MAX_UTC_OFFSET: i32 = 14 * 60;

impl Target {
    /// Parses the target of a request.
    ///
    /// Players and playlists write paths in strange ways: `//live.wav`, `/live.wav/` and `/live.wav;` are all
    /// the stream. Query keys that are not known are ignored (`?t=123` gets around caches), unless a known
    /// one is so near that it must be a slip: `?fro=60` would otherwise be an endless file instead of a
    /// minute.
    ///
    /// # Errors
    ///
    /// A sentence about a key or a value in the query that makes no sense.
    pub fn parse(target: &str) -> Result<Target, BadRequest> {
        // The absolute form that a proxy sends (RFC 9112 §3.2.2) names the host first.
        let target = match target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
            Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => target,
        };
        let target = target.split('#').next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Some(path) = decode(path) else { return Ok(Target::Unknown) };
        let Some(name) = path.strip_prefix('/') else { return Ok(Target::Unknown) };
        // Path parameters (RFC 3986 §3.3) mean nothing here; SHOUTcast's players append `;` to any address.
        let name = name.split(';').next().unwrap_or_default().trim_start_matches('/');
        let trimmed = name.trim_end_matches('/');
        let has_trailing_slash = trimmed.len() < name.len();
        Ok(match trimmed {
            "" => Target::Page,
            // With a slash behind it, the page would look for its parts below this name.
            // `/embed` is the page too, which then shows its player alone.
            "index.html" | "embed" if !has_trailing_slash => Target::Page,
            "status.json" => Target::Status,
            "favicon.ico" | "apple-touch-icon.png" | "apple-touch-icon-precomposed.png" => {
                Target::Asset("icon-192.png".to_owned())
            }
            "healthz" => Target::Health(None),
            "levels" => Target::Levels(None, levels_interval(query)?),
            _ => Target::named(trimmed, query, has_trailing_slash)?,
        })
    }

    /// Parses a target that names an input or a file.
    fn named(path: &str, query: &str, has_trailing_slash: bool) -> Result<Target, BadRequest> {
        let name = |name: &str| Some(name.to_owned());
        if let Some(file) = path.strip_prefix("@page/") {
            return Ok(Target::Asset(file.to_owned()));
        }
        if let Some(push) = path.strip_prefix("healthz/push/") {
            return Ok(Target::PushHealth(push.to_owned()));
        }
        if let Some(input) = path.strip_prefix("healthz/") {
            return Ok(Target::Health(name(input)));
        }
        if let Some(input) = path.strip_suffix("/levels") {
            return Ok(Target::Levels(name(input), levels_interval(query)?));
        }
        if let Some(input) = path.strip_suffix("/history") {
            return Ok(Target::History(input.to_owned()));
        }
        if let Some(input) = path.strip_suffix("/bands") {
            return Ok(Target::Bands(input.to_owned(), BandsQuery::parse(query)?));
        }
        Ok(match path.rsplit_once('.') {
            Some((name, "m3u")) if !has_trailing_slash => {
                Target::M3u(name.to_owned(), playlist_codec(query)?)
            }
            Some((name, "pls")) => Target::Pls(name.to_owned(), playlist_codec(query)?),
            Some((name, extension)) if extension == "wav" || Codec::from_name(extension).is_some() => {
                let codec = Codec::from_name(extension);
                let query = StreamQuery { has_trailing_slash, ..StreamQuery::parse(query, codec)? };
                Target::Stream(name.to_owned(), codec, query)
            }
            _ => Target::Unknown,
        })
    }
}

impl BandsQuery {
    fn parse(query: &str) -> Result<BandsQuery, BadRequest> {
        let mut parsed = BandsQuery::default();
        for (key, value) in pairs(query, &["stream", "from", TOKEN])? {
            match key {
                "stream" => parsed.stream = whole(key, &value)?,
                "from" => parsed.from = whole(key, &value)?,
                _ => {}
            }
        }
        Ok(parsed)
    }
}

impl StreamQuery {
    const KEYS: [&'static str; 11] =
        ["back", "for", "latency", "framing", "last", "stream", "from", "to", "utc", "bitrate", TOKEN];

    fn parse(query: &str, codec: Option<Codec>) -> Result<StreamQuery, BadRequest> {
        let mut parsed = StreamQuery::default();
        let (mut stream, mut from, mut to) = (None, None, None);
        for (key, value) in pairs(query, &Self::KEYS)? {
            let value = &*value;
            match key {
                "back" => parsed.back = Some(seconds(key, value)?),
                "for" => parsed.length = Some(some_seconds(key, value)?),
                "last" => parsed.last = Some(some_seconds(key, value)?),
                "latency" if value == "low" => parsed.low_latency = true,
                "latency" => return Err(BadRequest("latency can only be low: latency=low.".to_owned())),
                "framing" if value == "identity" => parsed.identity = true,
                "framing" => {
                    return Err(BadRequest("framing can only be identity: framing=identity.".to_owned()));
                }
                "stream" => stream = Some(whole(key, value)?),
                "from" => from = Some(whole(key, value)?),
                "to" => to = Some(whole(key, value)?),
                "utc" => parsed.utc = Some(minutes(value)?),
                "bitrate" => parsed.bitrate = Some(bitrate(value, codec)?),
                _ => {}
            }
        }
        parsed.frames = match (stream, from, to) {
            (None, None, None) => None,
            (Some(stream), Some(from), Some(to)) if from < to => Some(FrameRange { stream, from, to }),
            _ => {
                let all = "stream, from and to are used together, and to is greater than from: ?last=10 leads to \
                           such an address.";
                return Err(BadRequest(all.to_owned()));
            }
        };
        Ok(parsed)
    }
}

fn levels_interval(query: &str) -> Result<Duration, BadRequest> {
    let mut interval = LEVELS_INTERVAL;
    for (key, value) in pairs(query, &["interval", TOKEN])? {
        if key == TOKEN {
            continue;
        }
        match whole(key, &value)? {
            // The next one below, so that no event is missed.
            ms @ 50..=1000 => {
                let served = LEVELS_INTERVALS.into_iter().find(|served| *served <= ms);
                interval = served.map_or(LEVELS_INTERVAL, Duration::from_millis);
            }
            _ => return Err(BadRequest("interval is milliseconds, 50 to 1000.".to_owned())),
        }
    }
    Ok(interval)
}

/// Splits a query into its known keys and their decoded values.
///
/// # Errors
///
/// When a key is not known but near a known one.
fn pairs<'k>(query: &str, known: &[&'k str]) -> Result<Vec<(&'k str, String)>, BadRequest> {
    let mut pairs = Vec::new();
    for (key, value) in split(query) {
        match known.iter().find(|known| **known == key) {
            // A value that is no UTF-8 makes no sense for any key, as the percent sign does not.
            Some(known) => pairs.push((*known, decode(value).unwrap_or_else(|| value.to_owned()))),
            None => refuse_slip(&key, value, known)?,
        }
    }
    Ok(pairs)
}

/// Splits a query into its decoded keys and its values.
fn split(query: &str) -> impl Iterator<Item = (String, &str)> {
    // A link that was copied from the source of an HTML page has `&amp;` for `&`.
    let pairs = query.split('&').map(|pair| pair.strip_prefix("amp;").unwrap_or(pair));
    // A key that is no UTF-8 is not known.
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter_map(|(key, value)| Some((decode(key)?, value)))
}

/// Refuses a key that somebody must have mistyped.
fn refuse_slip(key: &str, value: &str, known: &[&str]) -> Result<(), BadRequest> {
    let near: Vec<String> =
        known.iter().filter(|known| is_slip(key, known)).map(|known| format!("{known}={value}")).collect();
    if near.is_empty() {
        return Ok(());
    }
    // Only letters and digits of what a stranger sent come back.
    let shown = |text: &str| -> String {
        text.chars().filter(|char| char.is_ascii_alphanumeric() || "=._-".contains(*char)).take(40).collect()
    };
    let near: Vec<String> = near.iter().map(|near| shown(near)).collect();
    Err(BadRequest(format!("There is no key {}. Did you mean {}?", shown(key), near.join(" or "))))
}

/// Returns `true` if `key` is `known` with a slip: other capitals, one letter too many, missing, wrong or
/// swapped with its neighbour, or only the beginning of it. A known key of two letters is near to everything,
/// so it has no slips.
fn is_slip(key: &str, known: &str) -> bool {
    let key = key.to_ascii_lowercase();
    if known.len() < 3 || key.len() > known.len() + 1 {
        return false;
    }
    let is_beginning = key.len() >= 3 && known.starts_with(&key);
    is_beginning || is_one_edit(key.as_bytes(), known.as_bytes())
}

/// Returns `true` if at most one insertion, deletion, replacement or swap of neighbours makes one of the
/// other.
fn is_one_edit(one: &[u8], other: &[u8]) -> bool {
    let same_start = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[same_start..], &other[same_start..]);
    let same_end = one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    match (&one[..one.len() - same_end], &other[..other.len() - same_end]) {
        ([], [] | [_]) | ([_], [] | [_]) => true,
        ([a, b], [c, d]) => a == d && b == c,
        _ => false,
    }
}

/// Returns the codec that a playlist is for; `None` for WAV.
fn playlist_codec(query: &str) -> Result<Option<Codec>, BadRequest> {
    let mut codec = None;
    for (key, value) in pairs(query, &["codec", TOKEN])? {
        if key == TOKEN || value == "wav" {
            continue;
        }
        codec = Some(
            Codec::from_name(&value)
                .ok_or_else(|| BadRequest("codec is wav, flac, mp3 or opus, as in codec=mp3.".to_owned()))?,
        );
    }
    Ok(codec)
}

fn bitrate(value: &str, codec: Option<Codec>) -> Result<u32, BadRequest> {
    let rates = codec.map_or(&[][..], Codec::bitrates);
    let wanted = value.parse().ok().filter(|wanted| rates.contains(wanted));
    wanted.ok_or_else(|| match rates {
        [] => BadRequest("bitrate is for MP3 and Opus.".to_owned()),
        _ => {
            let rates: Vec<String> = rates.iter().map(u32::to_string).collect();
            BadRequest(format!("bitrate is one of {}.", rates.join(", ")))
        }
    })
}

fn seconds(key: &str, value: &str) -> Result<Duration, BadRequest> {
    // Rust's parser would also take inf, nan and 1e3.
    let is_plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match value.parse::<f64>() {
        Ok(seconds) if is_plain && seconds <= MAX_SECONDS => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(BadRequest(format!("{key} is a number of seconds, as in {key}=10 or {key}=2.5."))),
    }
}

fn some_seconds(key: &str, value: &str) -> Result<Duration, BadRequest> {
    match seconds(key, value)? {
        Duration::ZERO => Err(BadRequest(format!("{key}=0 would be an empty recording."))),
        time => Ok(time),
    }
}

fn whole(key: &str, value: &str) -> Result<u64, BadRequest> {
    let is_plain = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| is_plain);
    number.ok_or_else(|| BadRequest(format!("{key} is a whole number.")))
}

fn minutes(value: &str) -> Result<i32, BadRequest> {
    let number = value.parse().ok().filter(|minutes| (-MAX_UTC_OFFSET..=MAX_UTC_OFFSET).contains(minutes));
    number.ok_or_else(|| BadRequest("utc is minutes ahead of UTC, as in utc=60 or utc=-300.".to_owned()))
}

/// Undoes percent-encoding (RFC 3986 §2.1); `None` if the text has a bad escape or is no UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
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

#[cfg(test)]
mod tests;
