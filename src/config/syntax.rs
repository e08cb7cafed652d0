//! Places in the text of a file, and the line about a syntax error.

use toml::de::DeTable;

use super::messages::{one_line, shown};

/// Returns line and column of a byte, both from 1. A column is one character.
pub(super) fn place(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    // Bytes 10xxxxxx continue a character.
    let column = before[start..].iter().filter(|byte| **byte & 0xC0 != 0x80).count() + 1;
    (line, column)
}

/// Returns the line about a syntax error in the text of one file.
pub(super) fn syntax_error(text: &str, file: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(text.len(), |span| span.start);
    let (line, column) = place(text.as_bytes(), at);
    let message = missing_quotes(text, line).or_else(|| repeated_table(text, line));
    let message = message.unwrap_or_else(|| one_line(error.message()));
    format!("{file}:{line}:{column}: {message}")
}

/// Returns the message for the head of a table that stands further up already, as where somebody adds `[access]` and its keys
/// at the end of the installed file.
fn repeated_table(text: &str, line: usize) -> Option<String> {
    let head = |line: &str| {
        let (name, _) = line.trim().strip_prefix('[')?.split_once(']')?;
        (!name.starts_with('[')).then(|| name.trim().to_owned())
    };
    let repeated = head(text.lines().nth(line - 1)?)?;
    let first = text.lines().take(line - 1).position(|line| head(line).as_ref() == Some(&repeated))? + 1;
    Some(format!(
        "[{}] stands in line {first} already: the keys of a table stand together, below one head",
        shown(&repeated)
    ))
}

/// Returns the message for a line whose only mistake is a text without quotes, as in `device = hw:CARD=Device`. `None` for
/// every other syntax error.
fn missing_quotes(text: &str, line: usize) -> Option<String> {
    let line = text.lines().nth(line - 1)?;
    let (key, value) = line.split_once('=')?;
    let key = key.trim();
    let is_key =
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let value = value.split(" #").next().unwrap_or_default().trim();
    // `rate = 44 100` is a mistyped number, and quotes would not help.
    let is_number = value.bytes().all(|byte| b"0123456789 _.,+-".contains(&byte));
    let has_syntax = value.starts_with('=') || value.contains(['"', '\'', '[', ']', '{', '}', '\\']);
    if !is_key || is_number || has_syntax {
        return None;
    }
    let corrected = format!("{key} = \"{value}\"");
    // A key on its own line, so that this is the line's only mistake.
    let is_the_mistake = DeTable::parse(line).is_err() && DeTable::parse(&corrected).is_ok();
    is_the_mistake.then(|| match key {
        // Messages go to the journal.
        "password" => "a text needs quotes: password = \"…\"".to_owned(),
        _ => format!("a text needs quotes: {}", shown(&corrected)),
    })
}
