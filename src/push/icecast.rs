//! Icecast's protocol, as Icecast, its relatives and Liquidsoap's harbor speak it: requests to texts, answers to problems.
//!
//! One way works with all of them: PUT with `Expect: 100-continue`, a head of less than 4 KB, no chunks, and on with the
//! stream at 100 or at 200, whichever comes first. Icecast 2.4 sends both, 2.5 sends 100 only, harbor 200 only; without
//! `Expect` 2.5 answers nothing at all. Servers before 2.4 know SOURCE only. SOURCE gets 200.

use std::fmt;

use base64ct::{Base64, Encoding};

use super::backoff::Failure;
use super::format::codec;
use super::problem::Problem;
use crate::config::{Destination, Push, PushFormat};
use crate::encode::mp3;
use crate::media::format::StreamFormat;
use crate::pushes::PushPhase;

/// The request with which a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Put,
    Source,
}

impl Verb {
    /// Returns the other one.
    pub(super) fn other(self) -> Verb {
        match self {
            Verb::Put => Verb::Source,
            Verb::Source => Verb::Put,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Put => "PUT",
            Verb::Source => "SOURCE",
        })
    }
}

/// The properties of the encoded stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Audio {
    /// Frames per second.
    pub(super) rate: u32,
    pub(super) channels: u16,
    /// In kbit/s; `None` for FLAC.
    pub(super) bitrate: Option<u32>,
}

impl Audio {
    /// Returns the properties of a push of sound in that format.
    pub(super) fn of(push: &Push, format: StreamFormat) -> Audio {
        let channels = if push.format == PushFormat::Flac { format.channels } else { format.channels.min(2) };
        let bitrate = push.bitrate.or(codec(push.format).default_bitrate(format.channels));
        match (push.format, bitrate) {
            (PushFormat::Mp3, Some(bitrate)) => {
                let nearest = mp3::Settings::nearest(format.rate, bitrate);
                Audio { rate: nearest.rate, channels, bitrate: Some(nearest.bitrate) }
            }
            (PushFormat::Opus, bitrate) => Audio { rate: 48_000, channels, bitrate },
            _ => Audio { rate: format.rate, channels, bitrate },
        }
    }
}

/// Returns the head of the request that begins a stream.
pub(super) fn head(push: &Push, verb: Verb, password: &str, audio: Audio) -> String {
    let to = &push.to;
    let version = match verb {
        Verb::Put => "1.1",
        Verb::Source => "1.0",
    };
    let mut head = format!("{verb} {} HTTP/{version}\r\n", to.mount);
    let mut add = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
    add("Host", &host(to));
    add("Authorization", &authorization(&push.user, password));
    add("User-Agent", concat!("wavecast/", env!("CARGO_PKG_VERSION")));
    add("Content-Type", codec(push.format).push_content_type());
    add("Ice-Public", if push.public { "1" } else { "0" });
    for (name, value) in [
        ("Ice-Name", &push.stream_name),
        ("Ice-Description", &push.description),
        ("Ice-URL", &push.url),
        ("Ice-Genre", &push.genre),
    ] {
        if let Some(value) = value {
            add(name, value);
        }
    }
    let mut info = format!("samplerate={};channels={}", audio.rate, audio.channels);
    if let Some(bitrate) = audio.bitrate {
        info.push_str(&format!(";bitrate={bitrate}"));
        add("Ice-Bitrate", &bitrate.to_string());
    }
    add("Ice-Audio-Info", &info);
    if verb == Verb::Put {
        add("Expect", "100-continue");
    }
    head + "\r\n"
}

/// Returns the request that sets the title of a stream that is no Ogg.
pub(super) fn title_request(push: &Push, title: &str, password: &str) -> String {
    format!(
        "GET /admin/metadata?mode=updinfo&mount={}&song={}&charset=UTF-8 HTTP/1.0\r\nHost: {}\r\n\
         Authorization: {}\r\nUser-Agent: wavecast/{}\r\n\r\n",
        escaped(&push.to.mount),
        escaped(title),
        host(&push.to),
        authorization(&push.user, password),
        env!("CARGO_PKG_VERSION"),
    )
}

/// Returns the status code of an answer that begins with `text`; `None` if it is no answer of HTTP.
pub(super) fn status(text: &str) -> Option<u16> {
    let mut line = text.lines().next()?.split_whitespace();
    let protocol = line.next()?;
    let code = line.next()?.parse().ok()?;
    (protocol.starts_with("HTTP/") || protocol.starts_with("ICE/") || protocol == "ICY").then_some(code)
}

/// Returns the body of an answer, or all of a text that is none.
pub(super) fn body(text: &str) -> &str {
    match (status(text), text.split_once("\r\n\r\n")) {
        (Some(_), Some((_, body))) => body,
        (Some(_), None) => "",
        (None, _) => text,
    }
}

/// Returns `true` for an answer after which the other verb may work: the server does not know this one.
pub(super) fn wants_other_verb(status: Option<u16>) -> bool {
    // An end without a word is what old servers have for requests that they do not know.
    matches!(status, None | Some(400 | 405 | 501))
}

/// Returns the problem that an answer with this status, 400 or more, and this whole text means.
pub(super) fn refusal(push: &Push, status: u16, text: &str, has_password: bool) -> Problem {
    let body = body(text).to_ascii_lowercase();
    let mount = &push.to.mount;
    let problem = match status {
        409 => in_use(mount),
        403 if body.contains("in use") => in_use(mount),
        401 | 407 if !has_password => Problem::refused(
            "the server wants a password: write it into a file and name that in `password_file`",
        ),
        401 | 407 => Problem::refused(format!(
            "the server does not accept user \"{}\" with this password: correct `user` or the password",
            push.user
        )),
        403 | 429 | 503 if body.contains("too many") || status == 429 => Problem::new(
            PushPhase::Refused,
            Failure::Passing,
            "the server takes no more sources: end another one, or raise <sources> in its configuration",
        ),
        403 if body.contains("content") || body.contains("type") => wrong_type(push),
        403 => Problem::refused("the server forbids it: ask its owner, and check `user` and the mount"),
        404 => Problem::refused(format!(
            "the server does not know the mount {mount}: correct `to`, or create the mount there"
        )),
        415 => wrong_type(push),
        400 | 405 | 501 => Problem::refused(format!(
            "the server does not understand the request ({status}): is this port for sources? `method` can be \"source\""
        )),
        _ => Problem::unreachable(format!("the server has a problem ({status})")),
    };
    let said = super::problem::words(text.split_once("\r\n\r\n").map_or("", |(_, body)| body));
    problem.with_words(if said.is_empty() { text.lines().next().unwrap_or_default() } else { &said })
}

/// Returns the problem of a mount that has another source.
fn in_use(mount: &str) -> Problem {
    Problem::in_use(format!(
        "the server still has a source on {mount}: often our last connection, which it holds up to its source-timeout; or \
         somebody else sends there"
    ))
}

fn wrong_type(push: &Push) -> Problem {
    Problem::refused(format!("the server does not take {}: choose another `format`", push.format.name()))
}

/// Returns the problem of a stream that the server accepted, and whose connection it ended within two seconds.
pub(super) fn closed_at_once(push: &Push) -> Problem {
    Problem::in_use(format!(
        "the server took the stream and ended it at once: {} has another source, or the server cannot use {}",
        push.to.mount,
        push.format.name()
    ))
}

fn host(to: &Destination) -> String {
    match to.host.contains(':') {
        true => format!("[{}]:{}", to.host, to.port),
        false => format!("{}:{}", to.host, to.port),
    }
}

fn authorization(user: &str, password: &str) -> String {
    format!("Basic {}", Base64::encode_string(format!("{user}:{password}").as_bytes()))
}

/// Percent-encodes a value of a query (RFC 3986 §2.3).
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte))
            }
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MOST_PASSWORD_BYTES, Password, Secret};
    use crate::media::format::SampleFormat;

    const STEREO: StreamFormat = StreamFormat { rate: 48_000, channels: 2, sample: SampleFormat::S16 };

    fn push(format: PushFormat) -> Push {
        let to = "icecast://a:8000/b.ogg".parse().expect("an address");
        Push { format, ..Push::new("radio", to) }
    }

    #[test]
    fn a_put_has_what_every_server_wants() {
        let push = Push { stream_name: Some("Dächer".to_owned()), public: true, ..push(PushFormat::Opus) };
        let head = head(&push, Verb::Put, "hackme", Audio::of(&push, STEREO));
        assert_eq!(
            head,
            format!(
                "PUT /b.ogg HTTP/1.1\r\nHost: a:8000\r\nAuthorization: Basic c291cmNlOmhhY2ttZQ==\r\n\
                 User-Agent: wavecast/{}\r\nContent-Type: application/ogg\r\nIce-Public: 1\r\nIce-Name: Dächer\r\n\
                 Ice-Bitrate: 96\r\nIce-Audio-Info: samplerate=48000;channels=2;bitrate=96\r\n\
                 Expect: 100-continue\r\n\r\n",
                env!("CARGO_PKG_VERSION")
            )
        );
    }

    #[test]
    fn source_is_http_1_0_without_expect() {
        let push = push(PushFormat::Mp3);
        let head = head(&push, Verb::Source, "x", Audio::of(&push, STEREO));
        assert!(head.starts_with("SOURCE /b.ogg HTTP/1.0\r\n") && !head.contains("Expect"), "{head}");
        assert!(head.contains("Content-Type: audio/mpeg\r\n"));
    }

    #[test]
    fn no_head_is_longer_than_the_configuration_assumes() {
        let text = |n: usize| Some("x".repeat(n));
        let push = Push {
            stream_name: text(400),
            description: text(400),
            url: text(400),
            genre: text(400),
            password: Password::Inline(Secret("p".repeat(MOST_PASSWORD_BYTES))),
            user: "u".repeat(100),
            bitrate: Some(320),
            ..push(PushFormat::Mp3)
        };
        let head = head(&push, Verb::Put, &"p".repeat(MOST_PASSWORD_BYTES), Audio::of(&push, STEREO));
        assert!(head.len() <= push.most_head_bytes(), "{} of {}", head.len(), push.most_head_bytes());
    }

    #[test]
    fn every_face_of_a_mount_in_use_is_known() {
        let push = push(PushFormat::Flac);
        for (status, body) in [(403, "Mountpoint in use"), (409, "")] {
            let text = format!("HTTP/1.0 {status} X\r\n\r\n{body}");
            assert_eq!(refusal(&push, status, &text, true).failure, Failure::InUse, "{status}");
        }
        assert_eq!(closed_at_once(&push).failure, Failure::InUse);
    }

    #[test]
    fn refusals_say_what_to_do_and_what_the_server_said() {
        let push = push(PushFormat::Flac);
        for (status, body, has_password, expected, said) in [
            (401, "<b>You need to authenticate</b>", true, "correct `user` or the password", "You need to"),
            (401, "", false, "name that in `password_file`", "HTTP/1.0 401 Words"),
            (403, "too many sources connected", true, "raise <sources>", "too many"),
            (403, "content type not supported", true, "choose another `format`", "content"),
            (403, "no", true, "the server forbids it", "no"),
            (404, "", true, "correct `to`", "HTTP/1.0 404"),
            (415, "", true, "choose another `format`", "HTTP/1.0 415"),
            (405, "", true, "`method`", "HTTP/1.0 405"),
            (503, "", true, "(503)", "HTTP/1.0 503"),
        ] {
            let text = format!("HTTP/1.0 {status} Words\r\nA: b\r\n\r\n{body}");
            let problem = refusal(&push, status, &text, has_password);
            assert!(problem.detail.contains(expected), "{status}: {problem:?}");
            assert!(problem.said.starts_with(said), "{status}: {problem:?}");
        }
    }

    #[test]
    fn the_status_is_that_of_each_protocol() {
        assert_eq!(status("HTTP/1.1 100 Continue\r\n"), Some(100));
        assert_eq!(status("HTTP/1.0 200 OK"), Some(200));
        assert_eq!(status("ICE/1.0 401 X"), Some(401));
        assert_eq!(status("OK2"), None);
        assert_eq!(status(""), None);
    }

    #[test]
    fn titles_are_escaped() {
        let request = title_request(&push(PushFormat::Mp3), "Tür & Tor\r\nX: y", "p");
        assert!(
            request.contains(
                "mount=%2Fb.ogg&song=T%C3%BCr%20%26%20Tor%0D%0AX%3A%20y&charset=UTF-8 HTTP/1.0\r\n"
            )
        );
    }
}
