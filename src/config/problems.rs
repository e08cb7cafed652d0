//! The mistakes of a configuration: collected while its tables are read, and reported in the order of the files.

use super::ConfigError;
use super::messages::{join, listed, near, shown};
use super::sources::Sources;

/// Collects mistakes and unknown keys, and the keys that were read: the reading code is the only list of keys.
#[derive(Default)]
pub(super) struct Problems {
    problems: Vec<Problem>,
    pub(super) unknown: Vec<Unknown>,
    /// Every known key with the head of its table.
    pub(super) known: Vec<(&'static str, &'static str)>,
}

impl Problems {
    /// Reports a mistake at a byte of the file.
    pub(super) fn complain(&mut self, at: usize, key: &str, message: String) {
        self.problems.push(Problem { at, key: key.to_owned(), message });
    }

    /// Returns all mistakes in the order of the files. `None` if there is none.
    pub(super) fn finish(mut self, sources: &Sources) -> Option<ConfigError> {
        for unknown in std::mem::take(&mut self.unknown) {
            let message = self.explain(&unknown);
            self.complain(unknown.at, &join(&unknown.path, &unknown.key), message);
        }
        if self.problems.is_empty() {
            return None;
        }
        self.problems.sort_by_key(|problem| problem.at);
        // Lines are counted from the mistake before, since a large file may have a mistake in every line.
        let (mut number, mut line, mut counted) = (None, 1, 0);
        let lines = self.problems.iter().map(|Problem { at, key, message }| {
            let this = sources.file_at(*at);
            let (file, start) = sources.file(this);
            if number.replace(this) != Some(this) {
                (line, counted) = (1, start);
            }
            let between = &sources.text().as_bytes()[counted..*at];
            line += between.iter().filter(|byte| **byte == b'\n').count();
            counted = *at;
            format!("{file}:{line}: {key}: {message}")
        });
        Some(ConfigError { lines: lines.collect() })
    }

    /// Returns the message for an unknown key, with the key that its author probably meant.
    fn explain(&self, unknown: &Unknown) -> String {
        let Unknown { key, path, value, known_keys, .. } = unknown;
        if matches!(key.as_str(), "port" | "address" | "bind" | "host")
            && matches!(path.as_str(), "" | "http")
        {
            let address = shown(value.trim_matches(['"', '\'']));
            let below = if path.is_empty() { ", below [http]" } else { "" };
            return format!(
                "no such key; the key for addresses and ports is `listen`: listen = \"{address}\"{below}"
            );
        }
        let mut message = "no such key".to_owned();
        // The usual cause is a key whose comment sign was removed, but not that of its table's head.
        if let Some((head, _)) = self.known.iter().find(|(_, known)| known == key) {
            message.push_str(&format!(" here; it belongs below {head}"));
        } else if let Some(near) = near(key, known_keys) {
            message.push_str(&format!("; did you mean `{near}`?"));
        }
        message.push_str(&format!(" (the keys are {})", listed(known_keys, "and")));
        message
    }
}

/// A mistake at a byte of the file.
struct Problem {
    at: usize,
    key: String,
    message: String,
}

/// A key that the program does not know, and the known keys of its table.
pub(super) struct Unknown {
    pub(super) at: usize,
    pub(super) path: String,
    pub(super) key: String,
    /// The value as its author wrote it.
    pub(super) value: String,
    pub(super) known_keys: Vec<&'static str>,
}
