//! The table `[push.NAME]`: a server to which an input is sent, and that passes it on to many.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::access::parse_host;
use super::messages::shown_string;
use super::{MP3_BITRATES, OPUS_BITRATES};

/// The longest head of a request in bytes. Icecast's buffer has 4096, and a server that gets more resets the connection
/// without a word.
const MOST_HEAD_BYTES: usize = 3500;
/// The bytes of a head beside the texts of the configuration: method, names of headers, product, format.
const FIXED_HEAD_BYTES: usize = 500;
/// The text about a push with TLS in a program without it.
pub const NO_TLS: &str =
    "this wavecast was built without TLS: use icecast:// through stunnel, as docs/many-listeners.md shows";
/// The longest password in bytes.
pub const MOST_PASSWORD_BYTES: usize = 256;

/// One table `[push.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// The name of the table, in the log, in `/status.json` and in `/healthz/push/NAME`.
    pub name: String,
    /// `to`: the server.
    pub to: Destination,
    /// `input`: the name or an alias of the input. `None` is the first one.
    pub input: Option<String>,
    /// `format`: the format of the stream.
    pub format: PushFormat,
    /// `bitrate` in kbit/s; `None` for the codec's default.
    pub bitrate: Option<u32>,
    /// `user`: the user at the server.
    pub user: String,
    /// `password_file`, `password_credential` or `password`.
    pub password: Password,
    /// `name`: the stream's name, as the server's listeners see it.
    pub stream_name: Option<String>,
    /// `description`: one or two sentences for them.
    pub description: Option<String>,
    /// `url`: the address of a page about the stream.
    pub url: Option<String>,
    /// `genre`: words by which directories sort streams.
    pub genre: Option<String>,
    /// `public`: whether the server lists the stream in public directories.
    pub public: bool,
    /// `title`: the title, which is set once after connecting.
    pub title: Option<String>,
    /// `buffer_seconds`: the length of the sound that waits for a slow server. More is dropped, the oldest first.
    pub buffer: Duration,
    /// `method`: the request with which a stream begins.
    pub method: Method,
    /// `tls_ca`: a file of certificates that are trusted in place of the system's.
    pub tls_ca: Option<PathBuf>,
    /// `tls_fingerprint`: SHA-256 of the one certificate that is trusted.
    pub tls_fingerprint: Option<Fingerprint>,
}

impl Push {
    /// A push with the defaults to that address.
    pub fn new(name: &str, to: Destination) -> Push {
        Push {
            name: name.to_owned(),
            to,
            input: None,
            format: PushFormat::Flac,
            bitrate: None,
            user: "source".to_owned(),
            password: Password::None,
            stream_name: None,
            description: None,
            url: None,
            genre: None,
            public: false,
            title: None,
            buffer: Duration::from_secs(8),
            method: Method::Auto,
            tls_ca: None,
            tls_fingerprint: None,
        }
    }

    /// Returns an upper bound for the bytes of the request's head.
    pub fn most_head_bytes(&self) -> usize {
        let password = match &self.password {
            Password::Inline(Secret(password)) => password.len(),
            _ => 64,
        };
        let texts = [&self.stream_name, &self.description, &self.url, &self.genre];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        // Base64 makes four bytes of three.
        let login = (self.user.len() + password + 3) * 4 / 3;
        FIXED_HEAD_BYTES + self.to.mount.len() + self.to.host.len() + login + texts
    }

    /// Returns an error text if the server would not take the head of the request.
    pub(super) fn head_problem(&self) -> Option<String> {
        let bytes = self.most_head_bytes();
        (bytes > MOST_HEAD_BYTES).then(|| {
            format!(
                "mount, user, name, description, url and genre make a request of {bytes} bytes, and servers take \
                 {MOST_HEAD_BYTES}: shorten them by {} bytes",
                bytes - MOST_HEAD_BYTES
            )
        })
    }

    /// Returns an error text if the server's protocol cannot carry the format.
    pub(super) fn format_problem(&self) -> Option<String> {
        let is_wrong = self.to.protocol == Protocol::Shoutcast && self.format != PushFormat::Mp3;
        is_wrong.then(|| {
            format!(
                "SHOUTcast servers carry no Ogg, in which {} is sent: format = \"mp3\"",
                self.format.name()
            )
        })
    }

    /// Returns an error text if the format does not have the bit rate.
    pub(super) fn bitrate_problem(&self) -> Option<String> {
        let bitrate = self.bitrate?;
        let rates = match self.format {
            PushFormat::Flac => {
                return Some(
                    "the bit rate of FLAC follows the sound; the key is for mp3 and opus".to_owned(),
                );
            }
            PushFormat::Opus => OPUS_BITRATES,
            PushFormat::Mp3 => MP3_BITRATES,
        };
        (!rates.contains(&bitrate)).then(|| {
            let rates: Vec<String> = rates.iter().map(u32::to_string).collect();
            format!(
                "{bitrate} is none of the bit rates of {} in kbit/s: {}",
                self.format.name(),
                rates.join(", ")
            )
        })
    }

    /// Returns a warning if the ending of the mount promises another format than that of the stream: players that go
    /// by the name do not play it.
    pub fn ending_problem(&self) -> Option<String> {
        let (_, ending) = self.to.mount.rsplit_once('.')?;
        let known = ["ogg", "oga", "opus", "mp3", "flac", "wav", "aac", "m4a", "webm"];
        let good: &[&str] = match self.format {
            PushFormat::Flac => &["ogg", "oga"],
            PushFormat::Opus => &["ogg", "oga", "opus"],
            PushFormat::Mp3 => &["mp3"],
        };
        let ending = ending.to_ascii_lowercase();
        (known.contains(&&*ending) && !good.contains(&&*ending)).then(|| {
            let what = match self.format {
                PushFormat::Flac => "FLAC in Ogg",
                PushFormat::Opus => "Opus in Ogg",
                PushFormat::Mp3 => "MP3",
            };
            format!(
                "the stream is {what}, and players that go by the ending .{ending} do not play it: end the mount with .{}",
                good[0]
            )
        })
    }
}

/// The address of a server and the mount on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The protocol of the connection.
    pub protocol: Protocol,
    /// Host name or IP address, an IPv6 address without brackets.
    pub host: String,
    /// The port in the address. SHOUTcast sources connect to the next one.
    pub port: u16,
    /// The mount with its leading slash. `/` for SHOUTcast.
    pub mount: String,
}

/// The protocol of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `icecast://`
    Icecast,
    /// `icecasts://`: Icecast over TLS.
    IcecastTls,
    /// `shoutcast://`: SHOUTcast, version 1.
    Shoutcast,
}

impl Protocol {
    const SCHEMES: [(&'static str, Protocol); 3] = [
        ("icecast", Protocol::Icecast),
        ("icecasts", Protocol::IcecastTls),
        ("shoutcast", Protocol::Shoutcast),
    ];

    fn scheme(self) -> &'static str {
        Self::SCHEMES.iter().find(|(_, protocol)| *protocol == self).map_or("", |(scheme, _)| scheme)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.protocol.scheme();
        let mount = if self.protocol == Protocol::Shoutcast { "" } else { &self.mount };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}{mount}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}{mount}", self.host, self.port),
        }
    }
}

impl std::str::FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Destination, String> {
        const EXAMPLE: &str = "icecast://stream.example.org:8000/attic.ogg";
        let wrong = |why: &str| format!("{} {why}; an address is written {EXAMPLE}", shown_string(text));
        // First, since no other message may show a password, with or without slashes in it.
        if text.contains('@') {
            return Err(
                "an address with a password would be shown in the log and on the page: write the user into \
                        `user` and the password into the file that `password_file` names; an @ in a mount is written %40"
                    .to_owned(),
            );
        }
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| wrong("has no scheme such as icecast://"))?;
        let host_end = rest.find('/').unwrap_or(rest.len());
        let known = Protocol::SCHEMES.iter().find(|(known, _)| *known == scheme);
        let protocol = match (known, scheme) {
            (Some((_, protocol)), _) => *protocol,
            (None, "http") => return Err(wrong("is a listener's address: write icecast:// for http://")),
            (None, "https") => return Err(wrong("is a listener's address: write icecasts:// for https://")),
            _ => return Err(wrong("begins with none of icecast://, icecasts:// and shoutcast://")),
        };
        let (authority, mount) = rest.split_at(host_end);
        let (host, port) = authority
            .rsplit_once(':')
            .filter(|(_, port)| !port.ends_with(']'))
            .ok_or_else(|| wrong("has no port, and servers differ in it"))?;
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let most = if protocol == Protocol::Shoutcast { u16::MAX - 1 } else { u16::MAX };
        let port: u16 = port
            .parse()
            .ok()
            .filter(|port| digits && (1..=most).contains(port))
            .ok_or_else(|| wrong("has no valid port"))?;
        let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match v6 {
            Some(ip) => ip
                .parse::<std::net::Ipv6Addr>()
                .map(|ip| ip.to_string())
                .map_err(|_| wrong("has no valid host"))?,
            None => parse_host(host).map_err(|_| wrong("has no valid host"))?,
        };
        let mount = match (protocol, mount) {
            (Protocol::Shoutcast, "" | "/") => "/",
            (Protocol::Shoutcast, _) => return Err(wrong("has a mount, which SHOUTcast does not know")),
            (_, "") => return Err(wrong("has no mount, which begins with a slash")),
            (_, mount) => mount,
        };
        if !mount.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\".contains(&byte)) {
            return Err(wrong("has a mount with other characters than those of an address"));
        }
        Ok(Destination { protocol, host, port, mount: mount.to_owned() })
    }
}

/// The format of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushFormat {
    /// FLAC in Ogg.
    Flac,
    /// Opus in Ogg.
    Opus,
    /// MP3.
    Mp3,
}

impl PushFormat {
    const NAMES: [(&'static str, PushFormat); 3] =
        [("flac", PushFormat::Flac), ("opus", PushFormat::Opus), ("mp3", PushFormat::Mp3)];

    /// Returns the name in the configuration.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }

    pub(super) fn parse(text: &str) -> Result<PushFormat, String> {
        let late =
            "a server hands listeners who join later no header of it, so that nobody but the first hears it";
        match text {
            "wav" | "pcm" | "l16" => {
                Err(format!("WAV cannot be pushed: {late}. \"flac\" has the same samples"))
            }
            "native-flac" | "flac-native" | "audio/flac" => {
                Err(format!("native FLAC cannot be pushed: {late}. \"flac\" is FLAC in Ogg"))
            }
            "aac" | "vorbis" => {
                Err(format!("{} is not encoded here; write \"opus\" or \"mp3\"", shown_string(text)))
            }
            _ => super::messages::choose(text, &Self::NAMES),
        }
    }
}

/// The request with which a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// PUT, and SOURCE where the server does not know it.
    Auto,
    /// PUT.
    Put,
    /// SOURCE, for servers before Icecast 2.4.
    Source,
}

impl Method {
    pub(super) const NAMES: [(&'static str, Method); 3] =
        [("auto", Method::Auto), ("put", Method::Put), ("source", Method::Source)];
}

/// The place of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// The server needs none.
    None,
    /// `password_file`: a file whose first line it is.
    File(PathBuf),
    /// `password_credential`: a credential that systemd passes to the service (`LoadCredential=`).
    Credential(String),
    /// `password`: the configuration itself.
    Inline(Secret),
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at > 0 { ":" } else { "" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

/// Reads a fingerprint as `openssl x509 -fingerprint -sha256` prints it, with or without colons. An empty text is none.
pub(super) fn parse_fingerprint(text: &str) -> Result<Option<Fingerprint>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.rsplit('=').next().unwrap_or_default().replace(':', "");
    let mut bytes = [0; 32];
    let is_good = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (at, byte) in bytes.iter_mut().enumerate().filter(|_| is_good) {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap_or_default();
    }
    match is_good {
        true => Ok(Some(Fingerprint(bytes))),
        false => Err(format!(
            "{} is not a SHA-256 fingerprint of 32 bytes, as this prints it: openssl s_client -connect HOST:PORT \
             </dev/null | openssl x509 -noout -fingerprint -sha256",
            shown_string(text)
        )),
    }
}

/// Reads the name of a credential. An empty text is none.
pub(super) fn parse_credential(text: &str) -> Result<Option<String>, String> {
    match text {
        "" => Ok(None),
        "." | ".." => Err("is not the name of a credential".to_owned()),
        _ if text.contains('/') => Err(format!(
            "{} has a slash; the name of a credential is the part of LoadCredential= before the colon",
            shown_string(text)
        )),
        _ => Ok(Some(text.to_owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Config;
    use super::*;

    fn push(text: &str) -> Push {
        Config::parse(&format!("[push.radio]\n{text}"), "w.toml").unwrap().pushes.remove(0)
    }

    fn error(text: &str) -> String {
        Config::parse(&format!("[push.radio]\n{text}"), "w.toml").unwrap_err().to_string()
    }

    #[test]
    fn addresses_are_read_and_shown() {
        for text in [
            "icecast://stream.example.org:8000/attic.ogg",
            "icecasts://[fd00::1]:8443/a",
            "icecast://127.0.0.1:8005/",
            "shoutcast://radio.example.org:8000",
        ] {
            let to: Destination = text.parse().unwrap();
            assert_eq!(to.to_string(), text);
        }
        for (text, why) in [
            ("stream.example.org:8000/a", "no scheme"),
            ("http://a:8000/b", "write icecast:// for http://"),
            ("ftp://a:8000/b", "none of"),
            ("icecast://a/b", "no port"),
            ("icecast://[::1]/b", "no port"),
            ("icecast://a:0/b", "no valid port"),
            ("shoutcast://a:65535", "no valid port"),
            ("icecast://a b:8000/c", "no valid host"),
            ("icecast://a:8000", "no mount"),
            ("icecast://a:8000/b c", "other characters"),
            ("icecast://a:8000/b\r\nX: y", "other characters"),
            ("shoutcast://a:8000/b", "has a mount"),
        ] {
            let problem = text.parse::<Destination>().unwrap_err();
            assert!(problem.contains(why), "{text}: {problem}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_shown() {
        for to in [
            "icecast://source:hackme@a:8000/b",
            "http://hackme@a:8000/b",
            "what://x:hackme@y",
            "source:hackme@a:8000/b",
            "icecast://source:hack/me@a:8000/b",
            "icecast://source:80/hackme@a:8000/b",
        ] {
            let text = error(&format!("to = '{to}'"));
            assert!(
                text.starts_with("w.toml:2: push.radio.to: ") && text.contains("password_file"),
                "{text}"
            );
            assert!(!text.contains("hack"), "{text}");
        }
    }

    #[test]
    fn mistakes_name_the_line_and_the_remedy() {
        let to = "to = 'icecast://a:8000/b'\n";
        for (lines, expected) in [
            ("format = 'wav'", "w.toml:3: push.radio.format: WAV cannot be pushed: a server hands"),
            ("format = 'native-flac'", "w.toml:3: push.radio.format: native FLAC cannot be pushed"),
            ("format = 'ogg'", "must be one of flac, opus or mp3"),
            ("bitrate = 128", "w.toml:3: push.radio.bitrate: the bit rate of FLAC follows"),
            ("format = 'opus'\nbitrate = 320", "w.toml:4: push.radio.bitrate: 320 is none of"),
            ("format = 'mp3'\nbitrate = 100", "none of the bit rates of mp3 in kbit/s: 16, 24"),
            ("input = 'roof'", "w.toml:3: push.radio.input: there is no input \"roof\""),
            ("buffer_seconds = 0", "0 is outside 1 to 60"),
            ("method = 'post'", "must be one of auto, put or source"),
            ("password_file = 'x'", "must begin with a slash"),
            ("password = 'x'\npassword_file = '/x'", "only one of"),
            ("tls_fingerprint = 'ab'", "is not a SHA-256 fingerprint"),
            ("tls_ca = '/x'", "w.toml:3: push.radio.tls_ca: needs icecasts://"),
            ("passwd = 'x'", "no such key; did you mean `password`?"),
        ] {
            let text = error(&format!("{to}{lines}"));
            assert!(text.contains(expected), "{lines}: {text}");
        }
        assert!(error("format = 'mp3'").contains("w.toml:1: push.radio.to: is missing"), "{}", error(""));
        assert!(error("to = 'shoutcast://a:8000'").contains("carry no Ogg"));
        let twice = Config::parse(
            "[push.a]\nto = 'icecast://a:8000/b'\n[push.b]\nto = 'icecast://A:8000/b'",
            "w.toml",
        );
        let text = twice.unwrap_err().to_string();
        assert!(text.contains("w.toml:4: push.b.to: push.a (line 2) sends to this mount"), "{text}");
        let bad = Config::parse("[push.'a b']\nto = 'icecast://a:8000/b'", "w.toml").unwrap_err().to_string();
        assert!(bad.contains("a name must have"), "{bad}");
    }

    #[test]
    fn a_head_that_is_too_long_for_servers_is_refused() {
        let long = "x".repeat(1500);
        let text = error(&format!("to = 'icecast://a:8000/{long}'\ngenre = '{}'", "y".repeat(90)));
        assert!(text.contains("has a mount of more than 250 characters"), "{text}");
        let texts = ["name", "description", "url", "genre"];
        let lines: Vec<String> = texts.iter().map(|key| format!("{key} = '{}'", "日".repeat(390))).collect();
        let text = error(&format!("to = 'icecast://a:8000/b'\n{}", lines.join("\n")));
        assert!(text.contains("and servers take 3500"), "{text}");
    }

    #[test]
    fn an_ending_that_lies_about_the_format_is_known() {
        let problem = |mount: &str, format: &str| {
            push(&format!("to = 'icecast://a:8000{mount}'\nformat = '{format}'")).ending_problem()
        };
        for (mount, format) in
            [("/a.ogg", "flac"), ("/a.opus", "opus"), ("/a.mp3", "mp3"), ("/a", "mp3"), ("/a.b", "opus")]
        {
            assert_eq!(problem(mount, format), None, "{mount} {format}");
        }
        for (mount, format) in
            [("/a.flac", "flac"), ("/a.mp3", "opus"), ("/a.OGG", "mp3"), ("/a.wav", "flac")]
        {
            assert!(problem(mount, format).unwrap().contains("end the mount with"), "{mount} {format}");
        }
    }

    #[test]
    fn the_examples_of_the_documentation_are_good() {
        let text = include_str!("../../docs/many-listeners.md");
        let examples: Vec<&str> =
            text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert!(examples.len() > 5);
        for example in examples {
            for push in Config::parse(example, "w.toml").unwrap_or_else(|error| panic!("{error}")).pushes {
                assert_eq!(push.ending_problem(), None, "{example}");
            }
        }
    }

    #[test]
    fn secrets_do_not_appear_in_debug_output() {
        let push = push("to = 'icecast://a:8000/b'\npassword = 'hackme'");
        assert_eq!(push.password, Password::Inline(Secret("hackme".to_owned())));
        assert!(!format!("{push:?}").contains("hackme"));
    }

    #[test]
    fn fingerprints_are_read_as_openssl_prints_them() {
        let digits = "AB".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        for text in
            [digits.clone(), digits.to_lowercase(), colons.clone(), format!("sha256 Fingerprint={colons}")]
        {
            let read = parse_fingerprint(&text).unwrap().unwrap();
            assert_eq!(read, Fingerprint([0xab; 32]));
            assert_eq!(read.to_string(), colons);
        }
        assert_eq!(parse_fingerprint("").unwrap(), None);
    }
}
