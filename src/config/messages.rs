//! The texts of configuration errors: quoted values on one short line, ranges, choices, and suggestions.

use std::fmt;
use std::ops::RangeInclusive;

/// Reads a whole number from the value of a command-line option.
pub(super) fn parse_whole<T: TryFrom<i64> + PartialOrd + fmt::Display>(
    text: &str,
    range: &RangeInclusive<T>,
) -> Result<T, String> {
    let (low, high) = (range.start(), range.end());
    match text.parse::<i64>() {
        Ok(number) => whole(number, text, range),
        Err(_) => Err(format!("{} must be a whole number from {low} to {high}", shown_string(text))),
    }
}

/// Returns `number` if `range` contains it. `text` is the number as its author wrote it.
pub(super) fn whole<T: TryFrom<i64> + PartialOrd + fmt::Display>(
    number: i64,
    text: &str,
    range: &RangeInclusive<T>,
) -> Result<T, String> {
    let number = T::try_from(number).ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("{} is outside {} to {}", shown(text), range.start(), range.end()))
}

/// Returns `number` if `range` contains it.
pub(super) fn in_range<T: PartialOrd + fmt::Display>(
    number: T,
    range: &RangeInclusive<T>,
) -> Result<T, String> {
    if range.contains(&number) {
        Ok(number)
    } else {
        Err(format!("{number} is outside {} to {}", range.start(), range.end()))
    }
}

/// Returns the value that `text` names. The error lists all names.
pub(super) fn choose<T: Copy>(text: &str, choices: &[(&'static str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        format!("{} must be one of {}", shown_string(text), listed(&names, "or"))
    })
}

/// Joins a table's path and a key with a point, and quotes a key that TOML would quote.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '_';
    let quoted = if !key.is_empty() && key.chars().all(bare) { shown(key) } else { shown_string(key) };
    if path.is_empty() { quoted } else { format!("{path}.{quoted}") }
}

/// Returns a user's text on one line, cut after 60 characters.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 60;
    let mut short = one_line(&text.chars().take(MOST).collect::<String>());
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}

/// Returns a user's text in quotes, on one line, cut after 60 characters.
pub(super) fn shown_string(text: &str) -> String {
    format!("\"{}\"", shown(text))
}

/// Returns `text` with line ends and other control characters escaped.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            line.extend(char.escape_default());
        } else {
            line.push(char);
        }
    }
    line
}

/// Joins names to `a, b and c`, with that word before the last one.
pub(super) fn listed(names: &[&str], word: &str) -> String {
    match names {
        [] => "none".to_owned(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} {word} {last}", most.join(", ")),
    }
}

/// Returns the one of `words` that a mistyped `word` most probably stands for: one with the same beginning, or one
/// that differs in at most a third of its letters.
pub(crate) fn near<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    // A text this long is no mistyped word, and the comparison takes time by the square of its length.
    if word.is_empty() || word.len() > 40 {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let (edits, best) = words
        .iter()
        .map(|known| {
            let compared = known.replace('-', "_");
            let begins = word.len() >= 3 && (compared.starts_with(&word) || word.starts_with(&compared));
            (if begins { 0 } else { distance(&word, &compared) }, *known)
        })
        .min_by_key(|(edits, _)| *edits)?;
    (edits <= (best.len() / 3).max(1)).then_some(best)
}

/// Returns the Levenshtein distance: the number of letters to change, add or leave out.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, from) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (at, to) in other.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[at + 1];
            row[at + 1] = changed.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[other.len()]
}
