//! The parser: from the text of a file to a [`Config`], or to the line and key of every mistake.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::access::{parse_host, parse_net, parse_origin, parse_path};
use super::input::{CHANNELS, RATES};
use super::messages::{join, shown_string};
use super::problems::{Problems, Unknown};
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

        let known_keys = ["station", "http", "access", "listeners", "limits", "encoders", "log", "input"];
        for (key, value) in root.iter().filter(|(key, _)| !known_keys.contains(&key.get_ref().as_ref())) {
            self.problems.unknown.push(Unknown {
                at: key.span().start,
                path: String::new(),
                key: key.get_ref().to_string(),
                value: text.get(value.span()).unwrap_or_default().to_owned(),
                known_keys: known_keys.to_vec(),
            });
        }
        Config { station, http: Http { listen }, access, listeners, limits, encoders, log, inputs }
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
    let good = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-' || char == '_';
    let fits = (1..=MAX_NAME).contains(&name.len()) && name.chars().all(good);
    (!fits).then(|| {
        format!(
            "a name must have 1 to {MAX_NAME} lower-case letters, digits, `-` and `_`, since it becomes /NAME.wav; \
             `title` is for people"
        )
    })
}
