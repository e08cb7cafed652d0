//! From the text of a file to a [`Config`], with the place of everything that is wrong.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::messages::{choose, join, listed, near, one_line, shown, shown_string, whole};
use super::{
    Access, CHANNELS, Config, ConfigError, Http, Input, Interval, Limits, ListenAddr, Listeners, PerAddress,
    RATES, WhenBehind, clash, listen_problem, parse_host, parse_net, parse_origin,
};
use crate::media::format::SampleFormat;
use crate::sys::logging;
use crate::sys::sort::sort_few;

const MAX_NAME: usize = 32;
/// First words of paths that the daemon answers itself, or that every browser and crawler asks for.
pub(super) const RESERVED_NAMES: [&str; 6] = ["status", "metrics", "healthz", "index", "favicon", "robots"];

/// Reads a configuration from its text: [`Config::parse`].
pub(super) fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
    let root = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(text.len(), |span| span.start);
        let (line, column) = place(text.as_bytes(), at);
        ConfigError::one(format!("{file}:{line}:{column}: {}", one_line(error.message())))
    })?;
    let mut reader = Reader::default();
    let config = reader.config(root.get_ref(), text);
    match reader.finish(text, file) {
        None => Ok(config),
        Some(error) => Err(error),
    }
}

/// Reads a configuration from the bytes of a file, which may be no text at all.
pub(super) fn parse_bytes(bytes: &[u8], file: &str) -> Result<Config, ConfigError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let (line, column) = place(bytes, at);
        let byte = bytes.get(at).copied().unwrap_or_default();
        ConfigError::one(format!(
            "{file}:{line}:{column}: byte 0x{byte:02X} is not UTF-8 text; save the file as UTF-8"
        ))
    })?;
    parse(text, file)
}

/// Line and column, from 1, of a byte. A column is a character, where the text has such.
fn place(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    // Bytes 10xxxxxx continue a character.
    let column = before[start..].iter().filter(|byte| **byte & 0xC0 != 0x80).count() + 1;
    (line, column)
}

/// Something wrong, at a byte of the file.
struct Problem {
    at: usize,
    key: String,
    message: String,
}

/// A key that nobody asked for, and the keys of its table.
struct Unknown {
    at: usize,
    path: String,
    key: String,
    there_are: Vec<&'static str>,
}

/// Gathers what is wrong while the tables are read, and which keys were asked for: so the reading
/// code is the only list of keys there is.
#[derive(Default)]
pub(super) struct Reader {
    problems: Vec<Problem>,
    unknown: Vec<Unknown>,
    /// Each key that exists, with the head of its table.
    pub(super) known: Vec<(&'static str, &'static str)>,
}

impl Reader {
    pub(super) fn config(&mut self, root: &DeTable<'_>, text: &str) -> Config {
        let default = Config::default();

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

        let mut table = self.table(root, text, "log", "[log]");
        let log = table
            .string("filter", |text| {
                text.parse::<logging::Filter>().map(|_| text.to_owned()).map_err(|error| error.to_string())
            })
            .or(default.log);
        table.finish();

        let inputs = self.inputs(root, text);

        let there_are = ["http", "access", "listeners", "limits", "log", "input"];
        for (key, _) in root.iter().filter(|(key, _)| !there_are.contains(&key.get_ref().as_ref())) {
            self.unknown.push(Unknown {
                at: key.span().start,
                path: String::new(),
                key: key.get_ref().to_string(),
                there_are: there_are.to_vec(),
            });
        }
        Config { http: Http { listen }, access, listeners, limits, log, inputs }
    }

    fn inputs(&mut self, root: &DeTable<'_>, text: &str) -> Vec<Input> {
        let found = find(root, "input");
        let tables = match found.map(|value| (value.get_ref(), value.span())) {
            Some((DeValue::Table(tables), _)) if !tables.is_empty() => Some(tables),
            None | Some((DeValue::Table(_), _)) => None,
            Some((_, span)) => {
                self.complain(span.start, "input", "needs a name: [input.NAME]".to_owned());
                None
            }
        };
        let Some(tables) = tables else {
            // Read all the same, so that its keys are known.
            return vec![self.input("live", None, 0, text).input];
        };

        let mut tables: Vec<_> = tables.iter().collect();
        sort_few(&mut tables, |(name, _)| name.span().start);
        let mut read: Vec<ReadInput> = Vec::new();
        for (name, value) in tables {
            let (at, name) = (name.span().start, name.get_ref().as_ref());
            let DeValue::Table(table) = value.get_ref() else {
                let message = "an input is a table: [input.NAME], and its keys in the lines below".to_owned();
                self.complain(at, &join("input", name), message);
                continue;
            };
            if let Some(problem) = name_problem(name) {
                self.complain(at, &join("input", name), problem);
            }
            let input = self.input(name, Some(table), at, text);
            if let Some(other) = read.iter().find(|other| clash(&other.input.device, &input.input.device)) {
                let (line, _) = place(text.as_bytes(), other.device_at);
                let message = format!(
                    "\"{}\" is the device of {} already (line {line})",
                    input.input.device,
                    join("input", &other.input.name)
                );
                self.complain(input.device_at, &join(&join("input", name), "device"), message);
            }
            read.push(input);
        }
        read.into_iter().map(|read| read.input).collect()
    }

    fn input(&mut self, name: &str, table: Option<&DeTable<'_>>, at: usize, text: &str) -> ReadInput {
        let default = Input::default();
        let formats = SampleFormat::ALL.map(|format| (format.name(), format));
        let mut table = Section {
            reader: self,
            text,
            path: join("input", name),
            head: "[input.NAME]",
            at,
            table,
            asked: Vec::new(),
        };
        let input = Input {
            name: name.to_owned(),
            device: table.string("device", str::parse).unwrap_or(default.device),
            rate: table.whole("rate", RATES, default.rate),
            channels: table.whole("channels", CHANNELS, default.channels),
            format: table.choice("format", &formats, default.format),
            period: table.millis("period_ms", 1..=500, default.period),
            buffer: table.millis("buffer_ms", 20..=10_000, default.buffer),
            history: table.seconds("history_seconds", 0..=3600, default.history),
            gain_db: table.number("gain_db", -60..=60).unwrap_or(default.gain_db),
            realtime_priority: table.whole("realtime_priority", 0..=99, default.realtime_priority),
        };
        let buffer_at = table.place_of(&["buffer_ms", "period_ms"]);
        if let Some(problem) = input.buffer_problem() {
            table.complain(buffer_at, "buffer_ms", problem);
        }
        let history_at = table.place_of(&["history_seconds", "rate", "channels", "format"]);
        if let Some(problem) = input.history_problem() {
            table.complain(history_at, "history_seconds", problem);
        }
        let device_at = table.place_of(&["device"]);
        table.finish();
        ReadInput { input, device_at }
    }

    /// The table of that name. One that is absent reads like an empty one.
    fn table<'a, 't>(
        &'a mut self,
        root: &'a DeTable<'t>,
        text: &'a str,
        key: &'static str,
        head: &'static str,
    ) -> Section<'a, 't> {
        let found = find(root, key);
        let at = found.map_or(0, |value| value.span().start);
        let table = match found.map(Spanned::get_ref) {
            Some(DeValue::Table(table)) => Some(table),
            Some(other) => {
                let message = format!("is a table: write {head}, not {}", kind(other));
                self.complain(at, key, message);
                None
            }
            None => None,
        };
        Section { reader: self, text, path: key.to_owned(), head, at, table, asked: Vec::new() }
    }

    fn complain(&mut self, at: usize, key: &str, message: String) {
        self.problems.push(Problem { at, key: key.to_owned(), message });
    }

    /// All that is wrong, in the order of the file.
    fn finish(mut self, text: &str, file: &str) -> Option<ConfigError> {
        for unknown in std::mem::take(&mut self.unknown) {
            let message = self.explain(&unknown);
            self.complain(unknown.at, &join(&unknown.path, &unknown.key), message);
        }
        if self.problems.is_empty() {
            return None;
        }
        self.problems.sort_by_key(|problem| problem.at);
        // Counted on, not each from the start: a large file may be wrong in every line.
        let (mut line, mut counted) = (1, 0);
        let lines = self.problems.iter().map(|Problem { at, key, message }| {
            line += text.as_bytes()[counted..*at].iter().filter(|byte| **byte == b'\n').count();
            counted = *at;
            format!("{file}:{line}: {key}: {message}")
        });
        Some(ConfigError { lines: lines.collect() })
    }

    fn explain(&self, unknown: &Unknown) -> String {
        let Unknown { key, there_are, .. } = unknown;
        let mut message = "no such key".to_owned();
        // Most often a key that was brought back without the head of its table.
        if let Some((head, _)) = self.known.iter().find(|(_, known)| known == key) {
            message.push_str(&format!(" here; it belongs below {head}"));
        } else if let Some(near) = near(key, there_are) {
            message.push_str(&format!("; did you mean `{near}`?"));
        }
        message.push_str(&format!(" (there are {})", listed(there_are)));
        message
    }
}

/// An input, and where to point if its device is taken.
struct ReadInput {
    input: Input,
    device_at: usize,
}

/// A table that is being read.
struct Section<'a, 't> {
    reader: &'a mut Reader,
    text: &'a str,
    /// As messages name it: `input.live`.
    path: String,
    /// As the file has it: `[input.NAME]`.
    head: &'static str,
    at: usize,
    table: Option<&'a DeTable<'t>>,
    asked: Vec<&'static str>,
}

impl<'a, 't> Section<'a, 't> {
    fn find(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'t>>> {
        self.asked.push(key);
        if !self.reader.known.contains(&(self.head, key)) {
            self.reader.known.push((self.head, key));
        }
        self.table.and_then(|table| find(table, key))
    }

    fn complain(&mut self, at: usize, key: &str, message: String) {
        self.reader.complain(at, &join(&self.path, key), message);
    }

    /// Where the first of these keys is that is there; else the table.
    fn place_of(&self, keys: &[&str]) -> usize {
        let found = keys.iter().find_map(|key| self.table.and_then(|table| find(table, key)));
        found.map_or(self.at, |value| value.span().start)
    }

    /// What the file has at that place, as its author wrote it.
    fn written(&self, span: Range<usize>) -> &'a str {
        self.text.get(span).unwrap_or_default()
    }

    fn whole<T>(&mut self, key: &'static str, range: RangeInclusive<T>, default: T) -> T
    where
        T: TryFrom<i64> + PartialOrd + fmt::Display,
    {
        let Some(value) = self.find(key) else { return default };
        let written = self.written(value.span());
        let read = match value.get_ref() {
            // What is too large for 64 bits is out of every range.
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| format!("{} is outside {} to {}", shown(written), range.start(), range.end()))
                .and_then(|number| whole(number, written, &range)),
            other => Err(format!(
                "needs a whole number from {} to {}, not {}",
                range.start(),
                range.end(),
                kind(other)
            )),
        };
        read.unwrap_or_else(|problem| {
            self.complain(value.span().start, key, problem);
            default
        })
    }

    /// An integer or a float.
    fn number(&mut self, key: &'static str, range: RangeInclusive<i32>) -> Option<f64> {
        let value = self.find(key)?;
        let (low, high) = (*range.start(), *range.end());
        let number = match value.get_ref() {
            DeValue::Integer(number) => {
                Some(i64::from_str_radix(number.as_str(), number.radix()).map_or(f64::INFINITY, |n| n as f64))
            }
            DeValue::Float(number) => Some(number.as_str().parse().unwrap_or(f64::NAN)),
            _ => None,
        };
        let problem = match number {
            Some(number) if (f64::from(low)..=f64::from(high)).contains(&number) => return Some(number),
            Some(_) => format!("{} is outside {low} to {high}", shown(self.written(value.span()))),
            None => format!("needs a number from {low} to {high}, not {}", kind(value.get_ref())),
        };
        self.complain(value.span().start, key, problem);
        None
    }

    fn millis(&mut self, key: &'static str, range: RangeInclusive<i32>, default: Duration) -> Duration {
        self.number(key, range).map_or(default, |number| nanos(number * 1e6))
    }

    fn seconds(&mut self, key: &'static str, range: RangeInclusive<i32>, default: Duration) -> Duration {
        self.number(key, range).map_or(default, |number| nanos(number * 1e9))
    }

    fn interval(&mut self, key: &'static str, range: RangeInclusive<i32>, default: Interval) -> Interval {
        match self.find(key).map(|value| (value.get_ref(), value.span())) {
            Some((DeValue::String(text), _)) if text == "auto" => Interval::Auto,
            Some((DeValue::String(text), span)) => {
                let (low, high) = (range.start(), range.end());
                let message = format!(
                    "{} is neither \"auto\" nor a number from {low} to {high}",
                    shown_string(text.as_ref())
                );
                self.complain(span.start, key, message);
                default
            }
            _ => self.number(key, range).map_or(default, |number| Interval::Every(nanos(number * 1e6))),
        }
    }

    fn per_address(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u32>,
        default: PerAddress,
    ) -> PerAddress {
        let (PerAddress::Auto(usual) | PerAddress::Most(usual)) = default;
        match self.find(key).map(Spanned::get_ref) {
            Some(DeValue::String(text)) if text == "auto" => PerAddress::Auto(usual),
            Some(_) => PerAddress::Most(self.whole(key, range, usual)),
            None => default,
        }
    }

    fn string<T>(&mut self, key: &'static str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let value = self.find(key)?;
        let read = match value.get_ref() {
            DeValue::String(text) => read(text.as_ref()),
            other => Err(format!("needs a text in quotes, not {}", kind(other))),
        };
        read.map_err(|problem| self.complain(value.span().start, key, problem)).ok()
    }

    fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&'static str, T)], default: T) -> T {
        self.string(key, |text| choose(text, choices)).unwrap_or(default)
    }

    /// One text or several.
    fn list<T>(&mut self, key: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let value = self.find(key)?;
        let values: Vec<_> = match value.get_ref() {
            DeValue::Array(values) => values.iter().collect(),
            _ => vec![value],
        };
        let mut list = Vec::new();
        for value in values {
            let read = match value.get_ref() {
                DeValue::String(text) => read(text.as_ref()),
                other => Err(format!("needs a text in quotes, or a list of such, not {}", kind(other))),
            };
            match read {
                Ok(item) => list.push(item),
                Err(problem) => self.complain(value.span().start, key, problem),
            }
        }
        Some(list)
    }

    /// One address or several; a bare number is a port.
    fn listen(&mut self, default: Vec<ListenAddr>) -> Vec<ListenAddr> {
        let key = "listen";
        let Some(value) = self.find(key) else { return default };
        let values: Vec<_> = match value.get_ref() {
            DeValue::Array(values) => values.iter().collect(),
            _ => vec![value],
        };
        let mut listen = Vec::new();
        let mut all_good = true;
        for value in values {
            let read = match value.get_ref() {
                DeValue::String(text) => text.parse(),
                DeValue::Integer(_) => self.written(value.span()).parse(),
                other => Err(format!("needs an address in quotes, not {}", kind(other))),
            };
            match read {
                Ok(address) => listen.push(address),
                Err(problem) => {
                    self.complain(value.span().start, key, problem);
                    all_good = false;
                }
            }
        }
        if let Some(problem) = listen_problem(&listen).filter(|_| all_good) {
            self.complain(value.span().start, key, problem);
        }
        listen
    }

    /// Complains about the keys that were not asked for.
    fn finish(self) {
        for (key, _) in self.table.into_iter().flatten() {
            if !self.asked.contains(&key.get_ref().as_ref()) {
                self.reader.unknown.push(Unknown {
                    at: key.span().start,
                    path: self.path.clone(),
                    key: key.get_ref().to_string(),
                    there_are: self.asked.clone(),
                });
            }
        }
    }
}

/// By comparison: the map's own lookup would want a spanned key.
pub(super) fn find<'a, 't>(table: &'a DeTable<'t>, key: &str) -> Option<&'a Spanned<DeValue<'t>>> {
    table.iter().find(|(found, _)| found.get_ref() == key).map(|(_, value)| value)
}

/// A file; an empty text is none.
fn parse_path(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "" => Ok(None),
        _ if text.starts_with('/') => Ok(Some(PathBuf::from(text))),
        _ => Err(format!(
            "{} does not begin with a slash; a service has no folder of its own",
            shown_string(text)
        )),
    }
}

/// Rounded, because 2.5 ms in binary may be a hair less; the ranges keep it far from overflow.
fn nanos(number: f64) -> Duration {
    Duration::from_nanos(number.round() as u64)
}

fn name_problem(name: &str) -> Option<String> {
    if RESERVED_NAMES.contains(&name) {
        return Some("this name is taken by a page of the daemon; take another one".to_owned());
    }
    let good = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-' || char == '_';
    let fits = (1..=MAX_NAME).contains(&name.len()) && name.chars().all(good);
    (!fits).then(|| {
        format!("a name has 1 to {MAX_NAME} lower-case letters, digits, `-` and `_`: it becomes /NAME.wav")
    })
}

/// What a value is, for one who expected something else.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text in quotes",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
