//! The structure of the source: imports run downwards and in no circle, and some things are at one place only.
//!
//! The tests read `src/` as text. A `pub use` is a re-export and no import: a path that goes through it leads to the
//! file that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules at the top of `src/`, from the highest to the lowest, each with the modules that it may import.
///
/// `capture` is beside the consumers of sound, not above them: it knows none of them, and they know no card. Only
/// `daemon` knows both. `config`, `settings` and `metrics` hold values and may be used by everything above `media`.
const LAYERS: [(&str, &[&str]); 17] = [
    (
        "main",
        &[
            "commands",
            "cli",
            "daemon",
            "http",
            "push",
            "record",
            "capture",
            "listeners",
            "encode",
            "inputs",
            "pushes",
            "metrics",
            "settings",
            "config",
            "media",
            "sys",
        ],
    ),
    (
        "commands",
        &[
            "cli",
            "daemon",
            "http",
            "push",
            "record",
            "capture",
            "listeners",
            "encode",
            "inputs",
            "pushes",
            "metrics",
            "settings",
            "config",
            "media",
            "sys",
        ],
    ),
    ("cli", &["config", "sys"]),
    (
        "daemon",
        &[
            "http",
            "push",
            "record",
            "capture",
            "listeners",
            "encode",
            "inputs",
            "pushes",
            "metrics",
            "settings",
            "config",
            "media",
            "sys",
        ],
    ),
    (
        "http",
        &["page", "listeners", "encode", "inputs", "pushes", "metrics", "settings", "config", "media", "sys"],
    ),
    ("push", &["listeners", "encode", "inputs", "pushes", "metrics", "settings", "config", "media", "sys"]),
    ("record", &["listeners", "encode", "inputs", "metrics", "settings", "config", "media", "sys"]),
    ("page", &[]),
    ("capture", &["inputs", "metrics", "settings", "config", "media", "sys"]),
    ("listeners", &["encode", "inputs", "metrics", "settings", "config", "media", "sys"]),
    ("encode", &["inputs", "metrics", "settings", "config", "media", "sys"]),
    ("inputs", &["metrics", "settings", "config", "media", "sys"]),
    ("pushes", &["sys"]),
    ("metrics", &["sys"]),
    ("settings", &["config", "media", "sys"]),
    ("config", &["media", "sys"]),
    ("media", &["sys"]),
];

/// The lowest module. It imports no other module.
const LOWEST: &str = "sys";

/// The crates that only some modules may use.
const CRATES: [(&str, &[&str]); 3] =
    [("tiny_http", &["http", "push"]), ("alsa", &["capture"]), ("signal_hook", &["daemon"])];

/// The words with which no comment begins. A comment begins with a noun phrase or a verb.
const FIRST_WORDS: [&str; 10] =
    ["What", "Who", "Whose", "Whether", "How", "So many", "Those", "It", "The same", "Where"];

#[test]
fn the_layers_are_in_their_order() {
    let order: Vec<&str> = LAYERS.iter().map(|(name, _)| *name).chain([LOWEST]).collect();
    for (place, (name, below)) in LAYERS.iter().enumerate() {
        for module in *below {
            let at = order.iter().position(|one| one == module);
            assert!(
                at.is_some_and(|at| at > place),
                "{name} may import {module}, which does not stand below it"
            );
        }
    }
}

#[test]
fn every_import_runs_downwards() {
    let source = Source::read();
    let mut wrong = Vec::new();
    for (from, to) in source.imports() {
        let (upper, lower) = (from[0].as_str(), to[0].as_str());
        let allowed: &[&str] = match LAYERS.iter().find(|(name, _)| *name == upper) {
            Some((_, allowed)) => allowed,
            None if upper == LOWEST => &[],
            None => panic!("src/{upper} is in no layer: add it to LAYERS"),
        };
        if upper != lower && !allowed.contains(&lower) {
            wrong.push(format!("{} imports {}", source.file(&from), source.file(&to)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let source = Source::read();
    let edges = source.imports();
    // An import is part of a circle if its file can be reached again from the file that it imports.
    let leads_back = |start: &Module, goal: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
        while let Some(module) = next.pop() {
            if module == goal {
                return true;
            }
            if seen.insert(module) {
                next.extend(edges.iter().filter(|(from, _)| from == module).map(|(_, to)| to));
            }
        }
        false
    };
    let circles = edges.iter().filter(|(from, to)| leads_back(to, from));
    let circles: Vec<String> =
        circles.map(|(from, to)| format!("{} imports {}", source.file(from), source.file(to))).collect();
    assert!(circles.is_empty(), "these imports form circles:\n{}", circles.join("\n"));
}

#[test]
fn only_sys_has_unsafe_code() {
    let source = Source::read();
    let unsafe_files = source
        .files_where(|module, tokens| module[0] != LOWEST && tokens.iter().any(|token| token == "unsafe"));
    assert!(unsafe_files.is_empty(), "{unsafe_files:?}");
}

#[test]
fn some_crates_are_used_in_some_modules_only() {
    let source = Source::read();
    for (name, modules) in CRATES {
        let files = source.files_where(|module, tokens| {
            let paths = tokens.windows(2).enumerate();
            let uses = paths.filter(|(at, pair)| {
                // A module of the same name has a path before it, as in `capture::alsa::…`.
                pair[0] == name && pair[1] == "::" && (*at == 0 || tokens[at - 1] != "::")
            });
            !modules.contains(&module[0].as_str()) && uses.count() > 0
        });
        assert!(files.is_empty(), "{name} is used in {files:?}");
    }
}

#[test]
fn media_does_no_io() {
    let source = Source::read();
    for name in ["fs", "net", "process", "rustix"] {
        let files = source.files_where(|module, tokens| {
            let uses_std =
                tokens.windows(3).any(|three| three[0] == "std" && three[1] == "::" && three[2] == name);
            let uses_crate =
                tokens.windows(2).any(|pair| pair[0] == name && pair[1] == "::" && name == "rustix");
            module[0] == "media" && (uses_std || uses_crate)
        });
        assert!(files.is_empty(), "{name} is used in {files:?}");
    }
}

#[test]
fn no_comment_begins_with_a_question_word_or_a_pronoun() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz/fuzz_targets"] {
        for file in rust_files(&root.join(folder)) {
            let text = fs::read_to_string(&file).expect("it can be read");
            let mut inside = false;
            for (number, line) in text.lines().enumerate() {
                let comment =
                    line.trim_start().strip_prefix("//").map(|rest| rest.trim_start_matches(['/', '!']));
                let Some(comment) = comment.map(str::trim_start) else {
                    inside = false;
                    continue;
                };
                // The first line of a comment, and of each of its paragraphs.
                if !inside && FIRST_WORDS.iter().any(|word| begins_with(comment, word)) {
                    let file = file.strip_prefix(root).unwrap_or(&file).display();
                    wrong.push(format!("{file}:{}: {comment}", number + 1));
                }
                inside = !comment.is_empty();
            }
        }
    }
    assert!(wrong.is_empty(), "{} comments:\n{}", wrong.len(), wrong.join("\n"));
}

fn begins_with(text: &str, words: &str) -> bool {
    text.strip_prefix(words).is_some_and(|rest| !rest.starts_with(|letter: char| letter.is_alphanumeric()))
}

/// The path of a module below the crate's root, for example `["http", "gate", "head"]`.
type Module = Vec<String>;

/// The files of `src/` but for tests, as tokens.
struct Source {
    files: BTreeMap<Module, (PathBuf, Vec<String>)>,
}

impl Source {
    fn read() -> Source {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = BTreeMap::new();
        for path in rust_files(&root) {
            let relative = path.strip_prefix(&root).expect("a file of src").with_extension("");
            let mut module: Module =
                relative.iter().map(|part| part.to_str().expect("text").to_owned()).collect();
            if module.last().is_some_and(|last| last == "mod") {
                module.pop();
            }
            let is_test =
                module.iter().any(|part| part == "tests" || part == "loom" || part.ends_with("_tests"));
            if !is_test && module != ["lib"] {
                let text = fs::read_to_string(&path).expect("it can be read");
                files.insert(module, (path, without_tests(tokens(&text))));
            }
        }
        assert!(files.len() > 20, "{} files were found", files.len());
        Source { files }
    }

    /// Returns the path of a module's file for a message.
    fn file(&self, module: &Module) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = &self.files[module].0;
        path.strip_prefix(root).unwrap_or(path).display().to_string()
    }

    /// Returns the files that `is_wrong` finds, for a message.
    fn files_where(&self, is_wrong: impl Fn(&Module, &[String]) -> bool) -> Vec<String> {
        let wrong = self.files.iter().filter(|(module, (_, tokens))| is_wrong(module, tokens));
        wrong.map(|(module, _)| self.file(module)).collect()
    }

    /// Returns all imports of a file by another one.
    fn imports(&self) -> Vec<(Module, Module)> {
        let mut imports = BTreeSet::new();
        for (module, (_, tokens)) in &self.files {
            for path in paths(tokens).into_iter().filter(|path| !path.is_reexport) {
                if let Some(to) = self.resolve(module, &path.segments, 0) {
                    if to != *module {
                        imports.insert((module.clone(), to));
                    }
                }
            }
        }
        imports.into_iter().collect()
    }

    /// Returns the module to whose file a path in the file of `from` leads. `None` for a path to another crate, and to
    /// the root.
    fn resolve(&self, from: &Module, path: &[String], depth: usize) -> Option<Module> {
        assert!(depth < 20, "{path:?} in {from:?} is re-exported in a circle");
        let mut rest = path.iter().peekable();
        let mut base: Module = match rest.peek()?.as_str() {
            // `wavecast` is the crate's name in main.rs.
            "crate" | "wavecast" => {
                rest.next();
                Vec::new()
            }
            "self" => {
                rest.next();
                from.clone()
            }
            "super" => from.clone(),
            child if self.is_module(&[from.as_slice(), &[child.to_owned()]].concat()) => from.clone(),
            _ => return None,
        };
        while rest.next_if(|segment| *segment == "super").is_some() {
            base.pop();
        }
        while let Some(segment) = rest.peek() {
            let below = [base.as_slice(), &[(*segment).clone()]].concat();
            if !self.is_module(&below) {
                break;
            }
            base = below;
            rest.next();
        }
        // A name that the module re-exports is in another file.
        if let (Some(name), Some((_, tokens))) = (rest.peek(), self.files.get(&base)) {
            let reexport = paths(tokens).into_iter().find(|path| path.is_reexport && path.name == **name);
            if let Some(reexport) = reexport {
                return self.resolve(&base, &reexport.segments, depth + 1);
            }
        }
        self.files.contains_key(&base).then_some(base)
    }

    /// Returns `true` for a file, and for a folder without a file of its own.
    fn is_module(&self, module: &[String]) -> bool {
        self.files.keys().any(|known| known.starts_with(module))
    }
}

/// Returns all Rust files below a folder, in their order.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("node_modules") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// A path in the source.
struct SourcePath {
    segments: Vec<String>,
    /// The name that the path has in its file: its last segment, or that behind `as`.
    name: String,
    /// `true` for a path of a `pub use`, with any visibility.
    is_reexport: bool,
}

/// Returns the paths of all `use` items, and all other paths that begin with `crate`, `super`, `wavecast` or the name of
/// a module.
fn paths(tokens: &[String]) -> Vec<SourcePath> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" {
            let before = at.checked_sub(1).map(|at| tokens[at].as_str());
            let is_reexport = matches!(before, Some("pub" | ")"));
            let end = tokens[at..].iter().position(|token| token == ";").map_or(tokens.len(), |end| at + end);
            expand(&tokens[at + 1..end], &[], is_reexport, &mut paths);
            at = end;
        } else if is_name(&tokens[at]) && (at == 0 || tokens[at - 1] != "::") {
            let mut segments = vec![tokens[at].clone()];
            while tokens.get(at + 1).is_some_and(|token| token == "::")
                && tokens.get(at + 2).is_some_and(|token| is_name(token))
            {
                segments.push(tokens[at + 2].clone());
                at += 2;
            }
            if segments.len() > 1 {
                let name = segments[segments.len() - 1].clone();
                paths.push(SourcePath { segments, name, is_reexport: false });
            }
        }
        at += 1;
    }
    paths
}

/// Adds the paths of a tree of `use`, such as `a::{b, c::{self, d as e}}`.
fn expand(tree: &[String], before: &[String], is_reexport: bool, paths: &mut Vec<SourcePath>) {
    let mut depth = 0;
    // The branches of the tree, which commas outside of braces separate.
    for branch in tree.split(|token| {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        token == "," && depth == 0
    }) {
        let mut segments = before.to_vec();
        let mut name = None;
        let mut at = 0;
        while at < branch.len() {
            match branch[at].as_str() {
                "{" => break,
                "as" => {
                    name = branch.get(at + 1).cloned();
                    break;
                }
                "::" | "}" => {}
                "self" if !segments.is_empty() => {}
                segment => segments.push(segment.to_owned()),
            }
            at += 1;
        }
        if branch.get(at).is_some_and(|token| token == "{") {
            expand(&branch[at + 1..branch.len() - 1], &segments, is_reexport, paths);
        } else if let Some(last) = segments.last().cloned() {
            paths.push(SourcePath { name: name.unwrap_or(last), segments, is_reexport });
        }
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

/// Returns the tokens without the items behind `#[cfg(test)]`, whatever stands beside `test`.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_attribute = tokens[at..].iter().take(4).map(String::as_str).eq(["#", "[", "cfg", "("]);
        let end = tokens[at..].iter().position(|token| token == "]").map_or(tokens.len(), |end| at + end);
        let attribute = &tokens[at..end];
        // `not(test)` does not need the test, and `any(test, …)` is there without it too.
        let needs_test = attribute.windows(3).any(|three| three[2] == "test" && three[0] != "not")
            && !attribute.iter().any(|token| token == "any");
        if is_attribute && needs_test {
            at = end_of_item(&tokens, end + 1);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Returns the place behind an item, which ends with a semicolon or with the last of its braces. A variant or a match arm
/// has neither, and ends at the latest with the braces around it.
fn end_of_item(tokens: &[String], from: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token.as_str() {
            "{" => depth += 1,
            "}" if depth == 0 => return at,
            "}" => depth -= 1,
            ";" if depth == 0 => return at + 1,
            _ => continue,
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Splits Rust source into names, `::` and single characters, without comments and the contents of literals.
fn tokens(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let letter = rest.chars().next().expect("a letter");
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else if let Some(length) = raw_text(rest) {
            at += length;
        } else if letter == '"' {
            at += quoted(rest, '"');
        } else if letter == '\'' {
            at += if is_letter_literal(rest) { quoted(rest, '\'') } else { 1 };
        } else if letter.is_alphanumeric() || letter == '_' {
            let length =
                rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            at += length;
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            at += 2;
        } else {
            if !letter.is_whitespace() {
                tokens.push(letter.to_string());
            }
            at += letter.len_utf8();
        }
    }
    tokens
}

/// Returns the length of the raw string at the beginning of the text.
fn raw_text(text: &str) -> Option<usize> {
    let hashes = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let count = hashes.bytes().take_while(|byte| *byte == b'#').count();
    let inside = hashes[count..].strip_prefix('"')?;
    let end = inside.find(&format!("\"{}", "#".repeat(count)))?;
    Some(text.len() - inside.len() + end + 1 + count)
}

/// Returns the length of the literal between quotes at the beginning of the text.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if letter == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Returns `true` for a character literal, and `false` for a lifetime.
fn is_letter_literal(text: &str) -> bool {
    let mut letters = text.chars().skip(1);
    match letters.next() {
        Some('\\') => true,
        Some(_) => letters.next() == Some('\''),
        None => false,
    }
}

#[test]
fn paths_are_read_from_the_source() {
    let text = r##"
        //! use crate::comment::A;
        use crate::media::{format::{self, SampleFormat}, ring::{Reader as Input, *}};
        pub(crate) use thread::start;
        use std::fs;
        const TEXT: &str = "use crate::text::B; \" { ";
        const RAW: &str = r#"crate::raw::C"#;
        fn f<'a>(x: &'a str) -> char { crate::sys::clock::now(); super::g::<u8>(); '"' }
        #[cfg(test)]
        mod tests { use super::*; fn t() { crate::test::only() } }
        #[cfg(all(loom, test))]
        use crate::loom_only::D;
        #[cfg(all(test, not(loom)))]
        mod more_tests { use super::*; }
        #[cfg(not(test))]
        use crate::no_test::E;
        #[cfg(any(test, fuzzing))]
        use crate::fuzz::F;
        enum Message { One, #[cfg(test)] Two }
        #[cfg(test)]
        mod last_tests { use super::*; }
    "##;
    let found: Vec<(String, String, bool)> = paths(&without_tests(tokens(text)))
        .into_iter()
        .map(|path| (path.segments.join("::"), path.name, path.is_reexport))
        .collect();
    let expected = [
        ("crate::media::format", "format", false),
        ("crate::media::format::SampleFormat", "SampleFormat", false),
        ("crate::media::ring::Reader", "Input", false),
        ("crate::media::ring::*", "*", false),
        ("thread::start", "start", true),
        ("std::fs", "fs", false),
        ("crate::sys::clock::now", "now", false),
        ("super::g", "g", false),
        ("crate::no_test::E", "E", false),
        ("crate::fuzz::F", "F", false),
    ];
    let expected: Vec<_> =
        expected.map(|(path, name, is_reexport)| (path.to_owned(), name.to_owned(), is_reexport)).into();
    assert_eq!(found, expected);
}
