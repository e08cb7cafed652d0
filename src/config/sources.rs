//! The files of a configuration: the main file and its drop-ins, merged key by key.
//!
//! The text of all files is kept as one, so that a byte of it names a file and a line, and a mistake is reported where it
//! stands.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::syntax::{place, syntax_error};

/// The largest configuration file, in bytes. Real ones have a few kilobytes; without a limit `--config /dev/zero` would
/// never end.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Returns the drop-ins of the configuration at `path`, in the order of their names: the files `*.toml` in the folder with
/// `.d` in place of `.toml`. Those of `/etc/wavecast.toml` are `/etc/wavecast.d/*.toml`. Hidden files are none, as editors
/// leave them behind.
///
/// # Errors
/// The folder is there and cannot be listed.
pub fn drop_ins(path: &Path) -> io::Result<Vec<PathBuf>> {
    let is_toml = |path: &Path| path.extension().is_some_and(|extension| extension == "toml");
    if !is_toml(path) {
        return Ok(Vec::new());
    }
    let entries = match fs::read_dir(path.with_extension("d")) {
        Ok(entries) => entries,
        // A file of that name, as compilers write it, is no folder of drop-ins.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let file = entry?.path();
        let is_hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if is_toml(&file) && !is_hidden {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// Returns the file that sets `key`, as in `input.live.rate`: the last drop-in that has the key, or else the main file.
pub fn file_of(path: &Path, key: &str) -> PathBuf {
    let sets_key = |file: &PathBuf| {
        let bytes = read(file).unwrap_or_default();
        let Ok(table) = DeTable::parse(std::str::from_utf8(&bytes).unwrap_or_default()) else { return false };
        let mut table = Some(table.get_ref());
        key.split('.').all(|part| {
            let found = table.and_then(|table| table.get(part)).map(Spanned::get_ref);
            table = found.and_then(DeValue::as_table);
            found.is_some()
        })
    };
    let last = drop_ins(path).unwrap_or_default().into_iter().rev().find(sets_key);
    last.unwrap_or_else(|| path.to_owned())
}

/// The text of all files, one behind the other, and the place of each file in it.
#[derive(Default)]
pub(super) struct Sources {
    text: String,
    files: Vec<Source>,
}

/// A file of the configuration.
struct Source {
    /// The name of the file in messages.
    name: String,
    /// The first byte of the file in the text of all files.
    start: usize,
    /// The byte behind the last one.
    end: usize,
}

impl Sources {
    /// Reads the file at `path` and its drop-ins. An absent main file is an empty one, unless `explicit`.
    ///
    /// # Errors
    /// Files that cannot be read or are not UTF-8 text, each with its name.
    pub(super) fn read(path: &Path, explicit: bool) -> Result<Sources, ConfigError> {
        let mut sources = Sources::default();
        let mut lines = Vec::new();
        let drop_ins = drop_ins(path).unwrap_or_else(|error| {
            lines.push(format!("{}: cannot be read: {error}", path.with_extension("d").display()));
            Vec::new()
        });
        for file in std::iter::once(path).chain(drop_ins.iter().map(PathBuf::as_path)) {
            let name = file.display().to_string();
            match read(file) {
                Ok(bytes) => {
                    lines.extend(sources.add_bytes(&name, &bytes).err().map(|error| error.to_string()));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && file == path && !explicit => {}
                Err(error) => lines.push(format!("{name}: cannot be read: {error}")),
            }
        }
        if lines.is_empty() { Ok(sources) } else { Err(ConfigError { lines }) }
    }

    /// Adds a file behind the others.
    pub(super) fn add(&mut self, name: &str, text: &str) {
        let start = self.text.len();
        // TOML allows a byte order mark at the beginning of a file; in the text of all files it may be elsewhere.
        self.text.push_str(text.strip_prefix('\u{feff}').unwrap_or(text));
        let end = self.text.len();
        self.text.push('\n');
        self.files.push(Source { name: name.to_owned(), start, end });
    }

    /// Adds a file whose bytes may not be text.
    pub(super) fn add_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), ConfigError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let at = error.valid_up_to();
            let (line, column) = place(bytes, at);
            let byte = bytes.get(at).copied().unwrap_or_default();
            ConfigError::one(format!(
                "{name}:{line}:{column}: byte 0x{byte:02X} is not UTF-8 text; save the file as UTF-8"
            ))
        })?;
        self.add(name, text);
        Ok(())
    }

    /// Returns the text of all files. The places in the table of [`parse`](Self::parse) are bytes of it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Parses all files and merges them: tables are joined, and of any other value the one in the later file counts.
    ///
    /// # Errors
    /// The first syntax error of each file.
    pub(super) fn parse(&self) -> Result<DeTable<'_>, ConfigError> {
        let mut merged = DeTable::new();
        let mut lines = Vec::new();
        for file in &self.files {
            let text = &self.text[file.start..file.end];
            match DeTable::parse(text) {
                Ok(table) => merge(&mut merged, shifted_table(table.into_inner(), file.start)),
                Err(error) => lines.push(syntax_error(text, &file.name, &error)),
            }
        }
        if lines.is_empty() { Ok(merged) } else { Err(ConfigError { lines }) }
    }

    /// Returns the number of the file that has that byte.
    pub(super) fn file_at(&self, at: usize) -> usize {
        self.files.iter().rposition(|file| file.start <= at).unwrap_or(0)
    }

    /// Returns name and first byte of a file. An absent file has no name and begins at 0.
    pub(super) fn file(&self, number: usize) -> (&str, usize) {
        self.files.get(number).map_or(("", 0), |file| (&file.name, file.start))
    }

    /// Returns the line of that byte, from 1, as in "line 3"; for a byte of another file than that of `from`, with the
    /// file's name.
    pub(super) fn line_seen_from(&self, at: usize, from: usize) -> String {
        let number = self.file_at(at);
        let (name, start) = self.file(number);
        let (line, _) = place(&self.text.as_bytes()[start..], at - start);
        if number == self.file_at(from) { format!("line {line}") } else { format!("{name}:{line}") }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("the file is larger than 1 MiB, which no configuration is"));
    }
    Ok(bytes)
}

fn merge<'t>(into: &mut DeTable<'t>, from: DeTable<'t>) {
    for (key, value) in from {
        match into.get_mut(key.get_ref().as_ref()) {
            None => {
                into.insert(key, value);
            }
            Some(old) => {
                let span = value.span();
                match (old.get_mut(), value.into_inner()) {
                    (DeValue::Table(old), DeValue::Table(new)) => merge(old, new),
                    (_, new) => *old = Spanned::new(span, new),
                }
            }
        }
    }
}

/// Moves all places in a table by so many bytes. The parser limits how deep tables are nested.
fn shifted_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    let entry =
        |(key, value)| (shifted(key, by, |key| key), shifted(value, by, |value| shifted_value(value, by)));
    table.into_iter().map(entry).collect()
}

fn shifted_value(value: DeValue<'_>, by: usize) -> DeValue<'_> {
    match value {
        DeValue::Table(table) => DeValue::Table(shifted_table(table, by)),
        DeValue::Array(mut values) => {
            for value in values.iter_mut() {
                let moved = std::mem::replace(value, Spanned::new(0..0, DeValue::Boolean(false)));
                *value = shifted(moved, by, |value| shifted_value(value, by));
            }
            DeValue::Array(values)
        }
        other => other,
    }
}

fn shifted<T>(value: Spanned<T>, by: usize, inner: impl FnOnce(T) -> T) -> Spanned<T> {
    let span = value.span();
    Spanned::new(span.start + by..span.end + by, inner(value.into_inner()))
}
