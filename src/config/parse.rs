//! The parser: from the text of a file to a [`Config`], or to the line and key of every mistake.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::access::{parse_host, parse_net, parse_origin, parse_path};
use super::input::{CHANNELS, RATES};
use super::messages::{join, listed, shown_string};
use super::problems::{Problems, Unknown};
use super::push::{Destination, Method, Password, Protocol, Push, PushFormat, Secret};
use super::push::{MOST_PASSWORD_BYTES, parse_credential, parse_fingerprint};
use super::section::{Section, find, kind};
use super::sources::Sources;
use super::syntax::place;
use super::{
    Access, Config, ConfigError, Encoders, Http, Input, Limits, Listeners, MP3_BITRATES, OPUS_BITRATES,
    Station, WhenBehind,
};
use crate::media::format::SampleFormat;
use crate::sys::logging;

/// The longest name of an input, in characters.
const MAX_NAME: usize = 32;
/// The longest title, in characters: one line of a page, a playlist entry, or a DNS-SD name of 63 bytes in most scripts.
const MAX_TITLE: usize = 60;
/// The longest description of the station, in characters.
const MAX_DESCRIPTION: usize = 300;
/// The longest text about a push, in characters, and the longest mount. The sum is checked too.
const MAX_PUSH_TEXT: usize = 400;
const MAX_MOUNT: usize = 250;
/// First words of paths that the daemon serves itself, or that every browser and crawler requests.
pub(super) const RESERVED_NAMES: [&str; 6] = ["status", "metrics", "healthz", "index", "favicon", "robots"];

impl Config {
    /// Reads the file at `path` and its [drop-ins](super::drop_ins), of which a later one wins. An absent file means the
    /// defaults, unless `explicit` says that the user named this file.
    ///
    /// # Errors
    /// A file cannot be read, is not UTF-8 text, or has mistakes as in [`Config::parse`].
    pub fn load(path: &Path, explicit: bool) -> Result<Config, ConfigError> {
        parse(Sources::read(path, explicit)?)
    }

    /// Returns the line of a key, as `access.passwords`, in the file at `path`. `None` if the file does not have the key.
    pub fn line_of(path: &Path, key: &str) -> Option<usize> {
        let text = fs::read_to_string(path).ok()?;
        let root = DeTable::parse(&text).ok()?;
        let mut names = key.split('.');
        let mut value = find(root.get_ref(), names.next()?)?;
        for name in names {
            let DeValue::Table(table) = value.get_ref() else { return None };
            value = find(table, name)?;
        }
        Some(place(text.as_bytes(), value.span().start).0)
    }

    /// Reads a configuration from its text. `file` is the name of the file in messages.
    ///
    /// # Errors
    /// All mistakes of the text: syntax, unknown keys, values of the wrong type or out of range, two inputs on one device.
    pub fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
        let mut sources = Sources::default();
        sources.add(file, text);
        parse(sources)
    }
}

/// Reads a configuration from the texts of its files.
pub(super) fn parse(sources: Sources) -> Result<Config, ConfigError> {
    let root = sources.parse()?;
    let mut reader = Reader::default();
    let config = reader.config(&root, &sources);
    match reader.problems.finish(&sources) {
        None => Ok(config),
        Some(error) => Err(error),
    }
}

/// Reads the tables of a file.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: Problems,
}

impl Reader {
    pub(super) fn config(&mut self, root: &DeTable<'_>, sources: &Sources) -> Config {
        let text = sources.text();
        let default = Config::default();

        let mut table = self.table(root, text, "station", "[station]");
        let station = Station {
            title: table.label("title", MAX_TITLE),
            description: table.label("description", MAX_DESCRIPTION),
        };
        table.finish();

        let mut http = self.table(root, text, "http", "[http]");
        let listen = http.listen(default.http.listen);
        http.finish();

        let mut table = self.table(root, text, "access", "[access]");
        let access = Access {
            allow: table.list("allow", str::parse).unwrap_or(default.access.allow),
            hosts: table.list("hosts", parse_host).unwrap_or(default.access.hosts),
            passwords: table.string("passwords", parse_path).unwrap_or(default.access.passwords),
            trusted_proxies: table
                .list("trusted_proxies", parse_net)
                .unwrap_or(default.access.trusted_proxies),
            cors: table.list("cors", parse_origin).unwrap_or(default.access.cors),
            frames: table.list("frames", parse_origin).unwrap_or(default.access.frames),
        };
        table.finish();

        let default_listeners = default.listeners;
        let mut table = self.table(root, text, "listeners", "[listeners]");
        let listeners = Listeners {
            max: table.whole("max", 1..=100_000, default_listeners.max),
            interval: table.interval("interval_ms", 1..=1000, default_listeners.interval),
            send_buffer: table.millis("send_buffer_ms", 20..=5000, default_listeners.send_buffer),
            max_lag: table.millis("max_lag_ms", 100..=60_000, default_listeners.max_lag),
            when_behind: table.choice("when_behind", &WhenBehind::NAMES, default_listeners.when_behind),
            stall_timeout: table.seconds("stall_seconds", 1..=3600, default_listeners.stall_timeout),
        };
        table.finish();

        let default_limits = default.limits;
        let mut table = self.table(root, text, "limits", "[limits]");
        let limits = Limits {
            connections: table.whole("connections", 1..=100_000, default_limits.connections),
            connections_per_address: table.per_address(
                "connections_per_address",
                1..=100_000,
                default_limits.connections_per_address,
            ),
            listeners_per_address: table.per_address(
                "listeners_per_address",
                1..=100_000,
                default_limits.listeners_per_address,
            ),
            requests_per_second: table.whole(
                "requests_per_second",
                1..=100_000,
                default_limits.requests_per_second,
            ),
            request_burst: table.whole("request_burst", 20..=100_000, default_limits.request_burst),
            header_bytes: table.whole("header_bytes", 1024..=65_536, default_limits.header_bytes),
            request_time: table.seconds("request_seconds", 1..=300, default_limits.request_time),
            idle_time: table.seconds("idle_seconds", 1..=3600, default_limits.idle_time),
        };
        table.finish();

        let default_encoders = default.encoders;
        let mut table = self.table(root, text, "encoders", "[encoders]");
        let encoders = Encoders {
            max: table.whole("max", 0..=1000, default_encoders.max),
            mp3_bitrate: table.one_of("mp3_bitrate", MP3_BITRATES),
            opus_bitrate: table.one_of("opus_bitrate", OPUS_BITRATES),
        };
        table.finish();

        let mut table = self.table(root, text, "log", "[log]");
        let log = table
            .string("filter", |text| {
                text.parse::<logging::Filter>().map(|_| text.to_owned()).map_err(|error| error.to_string())
            })
            .or(default.log);
        table.finish();

        let inputs = self.inputs(root, sources);

        let pushes = self.pushes(root, sources, &inputs);

        let known_keys =
            ["station", "http", "access", "listeners", "limits", "encoders", "log", "input", "push"];
        for (key, value) in root.iter().filter(|(key, _)| !known_keys.contains(&key.get_ref().as_ref())) {
            self.problems.unknown.push(Unknown {
                at: key.span().start,
                path: String::new(),
                key: key.get_ref().to_string(),
                value: text.get(value.span()).unwrap_or_default().to_owned(),
                known_keys: known_keys.to_vec(),
            });
        }
        Config { station, http: Http { listen }, access, listeners, limits, encoders, log, inputs, pushes }
    }

    fn inputs(&mut self, root: &DeTable<'_>, sources: &Sources) -> Vec<Input> {
        let text = sources.text();
        let found = find(root, "input");
        let tables = match found.map(|value| (value.get_ref(), value.span())) {
            Some((DeValue::Table(tables), _)) if !tables.is_empty() => Some(tables),
            None | Some((DeValue::Table(_), _)) => None,
            Some((_, span)) => {
                self.problems.complain(span.start, "input", "needs a name: [input.NAME]".to_owned());
                None
            }
        };
        let Some(tables) = tables else {
            // Read in any case, so that the reader knows the keys of an input.
            return vec![self.input("live", None, 0, text).input];
        };

        let mut tables: Vec<_> = tables.iter().collect();
        tables.sort_by_key(|(name, _)| name.span().start);
        let mut read: Vec<ReadInput> = Vec::new();
        for (name, value) in tables {
            let (at, name) = (name.span().start, name.get_ref().as_ref());
            let DeValue::Table(table) = value.get_ref() else {
                let message =
                    "an input is a table: [input.NAME], with its keys in the lines below".to_owned();
                self.problems.complain(at, &join("input", name), message);
                continue;
            };
            if let Some(problem) = name_problem(name) {
                self.problems.complain(at, &join("input", name), problem);
            }
            let input = self.input(name, Some(table), at, text);
            let conflict = read.iter().find_map(|other| {
                let line = sources.line_seen_from(other.device_at, input.device_at);
                let owner = format!("{} ({line})", join("input", &other.input.name));
                input.input.conflict(&other.input, &owner)
            });
            if let Some(message) = conflict {
                self.problems.complain(input.device_at, &join(&join("input", name), "device"), message);
            }
            read.push(input);
        }
        self.check_aliases(&read);
        read.into_iter().map(|read| read.input).collect()
    }

    fn input(&mut self, name: &str, table: Option<&DeTable<'_>>, at: usize, text: &str) -> ReadInput {
        let default = Input::default();
        let formats = SampleFormat::ALL.map(|format| (format.name(), format));
        let mut table = Section {
            problems: &mut self.problems,
            text,
            path: join("input", name),
            head: "[input.NAME]",
            at,
            table,
            read: Vec::new(),
        };
        let input = Input {
            name: name.to_owned(),
            title: table.label("title", MAX_TITLE),
            aliases: table
                .list("aliases", |alias| match name_problem(alias) {
                    None => Ok(alias.to_owned()),
                    Some(problem) => Err(format!("{}: {problem}", shown_string(alias))),
                })
                .unwrap_or_default(),
            device: table.string("device", str::parse).unwrap_or(default.device),
            rate: table.whole("rate", RATES, default.rate),
            channels: table.whole("channels", CHANNELS, default.channels),
            pick: table.pick("pick", &CHANNELS),
            format: table.choice("format", &formats, default.format),
            period: table.millis("period_ms", 1..=500, default.period),
            buffer: table.millis("buffer_ms", 20..=10_000, default.buffer),
            history: table.seconds("history_seconds", 0..=3600, default.history),
            gain_db: table.number("gain_db", -60..=60).unwrap_or(default.gain_db),
            quiet_time: table.seconds("quiet_seconds", 0..=86_400, default.quiet_time),
            quiet_dbfs: table.number("quiet_dbfs", -200..=0).unwrap_or(default.quiet_dbfs),
            realtime_priority: table.whole("realtime_priority", 0..=99, default.realtime_priority),
        };
        let buffer_at = table.place_of(&["buffer_ms", "period_ms"]);
        if let Some(problem) = input.buffer_problem() {
            table.complain(buffer_at, "buffer_ms", problem);
        }
        let history_at = table.place_of(&["history_seconds", "rate", "channels", "pick", "format"]);
        if let Some(problem) = input.history_problem() {
            table.complain(history_at, "history_seconds", problem);
        }
        let device_at = table.place_of(&["device"]);
        let aliases_at = table.place_of(&["aliases"]);
        table.finish();
        ReadInput { input, device_at, aliases_at }
    }

    /// Reports aliases that are the name or an alias of another input.
    fn check_aliases(&mut self, read: &[ReadInput]) {
        let mut names: HashSet<&str> = read.iter().map(|read| read.input.name.as_str()).collect();
        for ReadInput { input, aliases_at, .. } in read {
            for alias in &input.aliases {
                if !names.insert(alias) {
                    let key = join(&join("input", &input.name), "aliases");
                    self.problems.complain(
                        *aliases_at,
                        &key,
                        format!("\"{alias}\" is already a name of an input"),
                    );
                }
            }
        }
    }

    fn pushes(&mut self, root: &DeTable<'_>, sources: &Sources, inputs: &[Input]) -> Vec<Push> {
        let text = sources.text();
        let tables = match find(root, "push").map(|value| (value.get_ref(), value.span())) {
            Some((DeValue::Table(tables), _)) if !tables.is_empty() => Some(tables),
            None | Some((DeValue::Table(_), _)) => None,
            Some((_, span)) => {
                self.problems.complain(span.start, "push", "needs a name: [push.NAME]".to_owned());
                None
            }
        };
        let Some(tables) = tables else {
            // Read in any case, so that the reader knows the keys of a push.
            self.push("radio", None, 0, text, inputs);
            return Vec::new();
        };
        let mut tables: Vec<_> = tables.iter().collect();
        tables.sort_by_key(|(name, _)| name.span().start);
        let mut read: Vec<(Push, usize)> = Vec::new();
        for (name, value) in tables {
            let (at, name) = (name.span().start, name.get_ref().as_ref());
            let DeValue::Table(table) = value.get_ref() else {
                let message = "a push is a table: [push.NAME], with its keys in the lines below".to_owned();
                self.problems.complain(at, &join("push", name), message);
                continue;
            };
            if let Some(problem) = table_name_problem(name) {
                self.problems.complain(at, &join("push", name), problem);
            }
            let (push, to_at) = self.push(name, Some(table), at, text, inputs);
            let Some(push) = push else { continue };
            if let Some((other, other_at)) = read.iter().find(|(other, _)| other.to == push.to) {
                let line = sources.line_seen_from(*other_at, to_at);
                let message = format!(
                    "{} ({line}) sends to this mount, which takes one stream",
                    join("push", &other.name)
                );
                self.problems.complain(to_at, &join(&join("push", name), "to"), message);
            }
            read.push((push, to_at));
        }
        read.into_iter().map(|(push, _)| push).collect()
    }

    /// Reads a push. Returns `None` for one without an address, and the byte of the file at which the address stands.
    fn push(
        &mut self,
        name: &str,
        table: Option<&DeTable<'_>>,
        at: usize,
        text: &str,
        inputs: &[Input],
    ) -> (Option<Push>, usize) {
        let mut table = Section {
            problems: &mut self.problems,
            text,
            path: join("push", name),
            head: "[push.NAME]",
            at,
            table,
            read: Vec::new(),
        };
        let place_of_to = table.place_of(&["to"]);
        let is_missing = table.table.is_some_and(|table| find(table, "to").is_none());
        if is_missing {
            let message =
                "is missing: the server and the mount, as in \"icecast://stream.example.org:8000/attic.ogg\"";
            table.complain(place_of_to, "to", message.to_owned());
        }
        let to = table.string("to", |text| {
            let to: Destination = text.parse()?;
            match to.mount.chars().count() > MAX_MOUNT {
                true => Err(format!("has a mount of more than {MAX_MOUNT} characters")),
                false => Ok(to),
            }
        });
        let has_address = to.is_some();
        let placeholder =
            Destination { protocol: Protocol::Icecast, host: String::new(), port: 0, mount: "/".to_owned() };
        let mut push = Push::new(name, to.unwrap_or(placeholder));
        push.input = table
            .string("input", |text| {
                let is_name =
                    |input: &Input| input.name == text || input.aliases.iter().any(|alias| alias == text);
                match text {
                    "" => Ok(None),
                    _ if inputs.iter().any(is_name) || text == "live" => Ok(Some(text.to_owned())),
                    _ => {
                        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
                        let names = listed(&names, "and");
                        Err(format!("there is no input {}; the inputs are {names}", shown_string(text)))
                    }
                }
            })
            .flatten();
        push.format = table.string("format", PushFormat::parse).unwrap_or(push.format);
        push.bitrate = Some(table.whole("bitrate", 0..=320, 0)).filter(|bitrate| *bitrate > 0);
        push.user = table
            .string("user", |text| {
                let is_good =
                    !text.is_empty() && text.len() <= 100 && !text.contains(|c: char| c.is_control());
                // Basic authentication ends the user at the first colon.
                match is_good && !text.contains(':') {
                    true => Ok(text.to_owned()),
                    false => Err("must have 1 to 100 characters, and no colon".to_owned()),
                }
            })
            .unwrap_or(push.user);
        let places: Vec<usize> = ["password_file", "password_credential", "password"]
            .into_iter()
            .map(|key| table.place_of(&[key]))
            .filter(|place| *place != at)
            .collect();
        let file = table.string("password_file", parse_path).flatten().map(Password::File);
        let credential =
            table.string("password_credential", parse_credential).flatten().map(Password::Credential);
        let inline = table
            .string("password", |text| {
                match text.len() > MOST_PASSWORD_BYTES || text.contains(char::is_control) {
                    true => Err(format!("must be one line of at most {MOST_PASSWORD_BYTES} bytes")),
                    false => Ok(Some(text.to_owned()).filter(|text| !text.is_empty())),
                }
            })
            .flatten()
            .map(|password| Password::Inline(Secret(password)));
        let mut passwords: Vec<Password> = [file, credential, inline].into_iter().flatten().collect();
        if passwords.len() > 1 {
            let place = places.last().copied().unwrap_or(at);
            let message =
                "only one of `password_file`, `password_credential` and `password` can be set".to_owned();
            table.complain(place, "password", message);
        }
        push.password = passwords.pop().unwrap_or(Password::None);
        push.stream_name = table.label("name", MAX_PUSH_TEXT);
        push.description = table.label("description", MAX_PUSH_TEXT);
        push.url = table.label("url", MAX_PUSH_TEXT);
        push.genre = table.label("genre", MAX_PUSH_TEXT);
        push.public = table.flag("public", push.public);
        push.title = table.label("title", MAX_PUSH_TEXT);
        push.buffer = table.seconds("buffer_seconds", 1..=60, push.buffer);
        push.method = table.choice("method", &Method::NAMES, push.method);
        push.tls_ca = table.string("tls_ca", parse_path).flatten();
        push.tls_fingerprint = table.string("tls_fingerprint", parse_fingerprint).flatten();
        if has_address {
            for (key, problem) in [
                ("format", push.format_problem()),
                ("bitrate", push.bitrate_problem()),
                ("to", push.head_problem()),
            ] {
                if let Some(problem) = problem {
                    let place = table.place_of(&[key]);
                    table.complain(place, key, problem);
                }
            }
            let is_plain = push.to.protocol != Protocol::IcecastTls;
            for (key, is_set) in
                [("tls_ca", push.tls_ca.is_some()), ("tls_fingerprint", push.tls_fingerprint.is_some())]
            {
                if is_set && is_plain {
                    let place = table.place_of(&[key]);
                    table.complain(place, key, "needs icecasts:// in `to`; this push has no TLS".to_owned());
                }
            }
        }
        table.finish();
        (has_address.then_some(push), place_of_to)
    }

    /// Returns the table of that key. An absent table reads as an empty one.
    fn table<'a, 't>(
        &'a mut self,
        root: &'a DeTable<'t>,
        text: &'a str,
        key: &'static str,
        head: &'static str,
    ) -> Section<'a, 't> {
        let found = find(root, key);
        let at = found.map_or(0, |value| value.span().start);
        let table = match found.map(toml::Spanned::get_ref) {
            Some(DeValue::Table(table)) => Some(table),
            Some(other) => {
                let message = format!("is a table: write {head}, not {}", kind(other));
                self.problems.complain(at, key, message);
                None
            }
            None => None,
        };
        Section {
            problems: &mut self.problems,
            text,
            path: key.to_owned(),
            head,
            at,
            table,
            read: Vec::new(),
        }
    }
}

/// An input, and the bytes of the file to which messages about it point.
struct ReadInput {
    input: Input,
    device_at: usize,
    aliases_at: usize,
}

/// Returns an error text if `name` cannot be the name of a stream.
fn name_problem(name: &str) -> Option<String> {
    if RESERVED_NAMES.contains(&name) {
        return Some("wavecast uses this name for a page of its own; choose another name".to_owned());
    }
    (!is_name(name)).then(|| {
        format!(
            "a name must have 1 to {MAX_NAME} lower-case letters, digits, `-` and `_`, since it becomes /NAME.wav; \
             `title` is for people"
        )
    })
}

/// Returns an error text if `name` cannot be the name of a push.
fn table_name_problem(name: &str) -> Option<String> {
    (!is_name(name)).then(|| {
        format!(
            "a name must have 1 to {MAX_NAME} lower-case letters, digits, `-` and `_`, since it becomes \
             /healthz/push/NAME; `name` is for listeners"
        )
    })
}

fn is_name(name: &str) -> bool {
    let good = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-' || char == '_';
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(good)
}
