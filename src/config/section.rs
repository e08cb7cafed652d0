//! A table of the file while it is read: one method for each type of value.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::listen::{ListenAddr, listen_problem};
use super::messages::{choose, join, shown, shown_string, whole};
use super::pick::Pick;
use super::problems::{Problems, Unknown};
use super::{Interval, PerAddress};

/// A table that is being read. A key with a mistake is reported and reads as its default.
pub(super) struct Section<'a, 't> {
    pub(super) problems: &'a mut Problems,
    pub(super) text: &'a str,
    /// The table's name in messages: `input.live`.
    pub(super) path: String,
    /// The table's head in the documentation: `[input.NAME]`.
    pub(super) head: &'static str,
    /// The byte of the file at which the table begins.
    pub(super) at: usize,
    /// `None` if the file does not have the table.
    pub(super) table: Option<&'a DeTable<'t>>,
    /// The keys that were read so far.
    pub(super) read: Vec<&'static str>,
}

impl<'a, 't> Section<'a, 't> {
    pub(super) fn whole<T>(&mut self, key: &'static str, range: RangeInclusive<T>, default: T) -> T
    where
        T: TryFrom<i64> + PartialOrd + fmt::Display,
    {
        let Some(value) = self.find(key) else { return default };
        let written = self.written(value.span());
        let read = match value.get_ref() {
            // A number that needs more than 64 bits is outside every range.
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| format!("{} is outside {} to {}", shown(written), range.start(), range.end()))
                .and_then(|number| whole(number, written, &range)),
            other => Err(format!(
                "must be a whole number from {} to {}, not {}",
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

    /// Reads an integer or a float.
    pub(super) fn number(&mut self, key: &'static str, range: RangeInclusive<i32>) -> Option<f64> {
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
            None => format!("must be a number from {low} to {high}, not {}", kind(value.get_ref())),
        };
        self.complain(value.span().start, key, problem);
        None
    }

    /// Reads one of these numbers; `None` for `auto` and if the key is absent.
    pub(super) fn one_of(&mut self, key: &'static str, choices: &[u32]) -> Option<u32> {
        let value = self.find(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            DeValue::String(text) if text == "auto" => return None,
            _ => None,
        };
        let found = choices.iter().find(|choice| number == Some(i64::from(**choice)));
        if found.is_none() {
            let choices: Vec<String> = choices.iter().map(u32::to_string).collect();
            let written = shown(self.written(value.span()));
            self.complain(
                value.span().start,
                key,
                format!("{written} is not \"auto\" or one of {}", choices.join(", ")),
            );
        }
        found.copied()
    }

    pub(super) fn millis(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i32>,
        default: Duration,
    ) -> Duration {
        self.number(key, range).map_or(default, |number| nanos(number * 1e6))
    }

    pub(super) fn seconds(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i32>,
        default: Duration,
    ) -> Duration {
        self.number(key, range).map_or(default, |number| nanos(number * 1e9))
    }

    pub(super) fn interval(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i32>,
        default: Interval,
    ) -> Interval {
        match self.find(key).map(|value| (value.get_ref(), value.span())) {
            Some((DeValue::String(text), _)) if text == "auto" => Interval::Auto,
            Some((DeValue::String(text), span)) => {
                let (low, high) = (range.start(), range.end());
                let message = format!(
                    "{} must be \"auto\" or a number from {low} to {high}",
                    shown_string(text.as_ref())
                );
                self.complain(span.start, key, message);
                default
            }
            _ => self.number(key, range).map_or(default, |number| Interval::Every(nanos(number * 1e6))),
        }
    }

    pub(super) fn per_address(
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

    pub(super) fn string<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.find(key)?;
        let read = match value.get_ref() {
            DeValue::String(text) => read(text.as_ref()),
            other => Err(format!("must be a text in quotes, not {}", kind(other))),
        };
        read.map_err(|problem| self.complain(value.span().start, key, problem)).ok()
    }

    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
        default: T,
    ) -> T {
        self.string(key, |text| choose(text, choices)).unwrap_or(default)
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.find(key) else { return default };
        match value.get_ref() {
            DeValue::Boolean(flag) => *flag,
            other => {
                self.complain(value.span().start, key, format!("must be true or false, not {}", kind(other)));
                default
            }
        }
    }

    /// Reads a text for people: one line of at most `most` characters. An empty text is none.
    pub(super) fn label(&mut self, key: &'static str, most: usize) -> Option<String> {
        self.string(key, |text| match text.trim() {
            "" => Ok(None),
            text if text.contains(char::is_control) => Err("must be one line of text".to_owned()),
            text if text.chars().count() > most => Err(format!("must have at most {most} characters")),
            text => Ok(Some(text.to_owned())),
        })
        .flatten()
    }

    /// Reads one text or a list of texts.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = self.find(key)?;
        let values: Vec<_> = match value.get_ref() {
            DeValue::Array(values) => values.iter().collect(),
            _ => vec![value],
        };
        let mut list = Vec::new();
        for value in values {
            let read = match value.get_ref() {
                DeValue::String(text) => read(text.as_ref()),
                other => {
                    Err(format!("must be a text in quotes, or a list of such texts, not {}", kind(other)))
                }
            };
            match read {
                Ok(item) => list.push(item),
                Err(problem) => self.complain(value.span().start, key, problem),
            }
        }
        Some(list)
    }

    /// Reads a word, a channel, or a list of at least one channel. A channel is a number of `range`, and a list has at
    /// most as many as the largest.
    pub(super) fn pick(&mut self, key: &'static str, range: &RangeInclusive<u16>) -> Pick {
        let Some(value) = self.find(key) else { return Pick::default() };
        let values: Vec<_> = match value.get_ref() {
            DeValue::Array(values) => values.iter().collect(),
            _ => vec![value],
        };
        let is_word = matches!(value.get_ref(), DeValue::String(_));
        if is_word {
            return self.string(key, Pick::from_word).unwrap_or_default();
        }
        let most = usize::from(*range.end());
        if values.is_empty() || values.len() > most {
            self.complain(value.span().start, key, format!("must name 1 to {most} channels"));
            return Pick::default();
        }
        let mut channels = Vec::new();
        for value in values {
            let written = self.written(value.span());
            let read = match value.get_ref() {
                // A number that needs more than 64 bits is outside every range.
                DeValue::Integer(number) => whole(
                    i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX),
                    written,
                    range,
                ),
                other => {
                    Err(format!("must be channels such as [3] or [1, 2], or a word, not {}", kind(other)))
                }
            };
            match read {
                Ok(channel) => channels.push(channel),
                Err(problem) => self.complain(value.span().start, key, problem),
            }
        }
        Pick::Channels(channels)
    }

    /// Reads one address or a list of addresses. A bare number is a port.
    pub(super) fn listen(&mut self, default: Vec<ListenAddr>) -> Vec<ListenAddr> {
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
                other => Err(format!("must be an address in quotes, not {}", kind(other))),
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

    /// Reports a mistake in the value of `key`. `at` is the byte of the file.
    pub(super) fn complain(&mut self, at: usize, key: &str, message: String) {
        self.problems.complain(at, &join(&self.path, key), message);
    }

    /// Returns the byte at which the value of the first present key of `keys` begins, or else the table.
    pub(super) fn place_of(&self, keys: &[&str]) -> usize {
        let found = keys.iter().find_map(|key| self.table.and_then(|table| find(table, key)));
        found.map_or(self.at, |value| value.span().start)
    }

    /// Reports the keys of the table that were not read.
    pub(super) fn finish(self) {
        for (key, value) in self.table.into_iter().flatten() {
            if !self.read.contains(&key.get_ref().as_ref()) {
                self.problems.unknown.push(Unknown {
                    at: key.span().start,
                    path: self.path.clone(),
                    key: key.get_ref().to_string(),
                    value: self.written(value.span()).to_owned(),
                    known_keys: self.read.clone(),
                });
            }
        }
    }

    fn find(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'t>>> {
        self.read.push(key);
        if !self.problems.known.contains(&(self.head, key)) {
            self.problems.known.push((self.head, key));
        }
        self.table.and_then(|table| find(table, key))
    }

    /// Returns a part of the file as its author wrote it.
    fn written(&self, span: Range<usize>) -> &'a str {
        self.text.get(span).unwrap_or_default()
    }
}

/// Finds a value by comparison: the map's own lookup needs a key with a span.
pub(super) fn find<'a, 't>(table: &'a DeTable<'t>, key: &str) -> Option<&'a Spanned<DeValue<'t>>> {
    table.iter().find(|(found, _)| found.get_ref() == key).map(|(_, value)| value)
}

/// Names the type of a value in messages about a wrong type.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
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

/// Rounds to nanoseconds, since 2.5 ms in binary may be slightly less. The ranges keep `number` far from overflow.
fn nanos(number: f64) -> Duration {
    Duration::from_nanos(number.round() as u64)
}
