//! The log: plain lines for a person at a terminal, lines with priorities for the journal.
//!
//! A filter with the syntax of `RUST_LOG` selects the messages: `info`, or `warn,wavecast::http=debug`. The flag `--log`
//! wins over `RUST_LOG`, and `RUST_LOG` over the configuration.
//!
//! Under systemd, stderr is a socket of the journal. The journal stores time and unit itself and reads the priority from
//! a `<N>` in front of each line (sd-daemon(3)), so that `journalctl -p warning` and its colours work. A timestamp or a
//! level in the text would repeat them.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;

use log::{Level, LevelFilter};

/// The filter if neither flag, environment nor configuration has one.
pub const DEFAULT_FILTER: &str = "info";

/// The crates that log here. A word without `=` in a filter must be one of them or a level: env_logger would take `ifno`
/// for the name of a module, and then log nothing at all.
const CRATES: [&str; 2] = ["wavecast", "tiny_http"];

/// A filter of log messages, parsed from its text by [`str::parse`].
///
/// The text is a list of `LEVEL`, `MODULE` and `MODULE=LEVEL`, separated by commas, as env_logger documents for
/// `RUST_LOG`, and at most one `/TEXT` at the end, which a message has to contain. The levels are `off`, `error`,
/// `warn`, `info`, `debug` and `trace`.
///
/// tiny_http's own messages are off unless the filter mentions `tiny_http`: the daemon logs the same events itself, in
/// its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    directives: Vec<(Option<String>, LevelFilter)>,
    text: Option<String>,
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(filter: &str) -> Result<Filter, FilterError> {
        let wrong = |part: &str, why| Err(FilterError { part: part.to_owned(), why });
        let (modules, text) = match filter.split_once('/') {
            Some((_, text)) if text.contains('/') => {
                return wrong(filter, "has more than one `/`");
            }
            Some((modules, text)) => (modules, Some(text.to_owned())),
            None => (filter, None),
        };

        let mut directives = Vec::new();
        for part in modules.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            directives.push(match part.split_once('=') {
                None => match part.parse() {
                    Ok(level) => (None, level),
                    Err(_) if logs_here(part) => (Some(part.to_owned()), LevelFilter::Trace),
                    Err(_) => {
                        return wrong(part, "is not off, error, warn, info, debug, trace or MODULE=LEVEL");
                    }
                },
                Some((module, level)) => match (module.trim(), level.trim().parse()) {
                    ("", _) => return wrong(part, "has no module before its `=`"),
                    (module, Ok(level)) => (Some(module.to_owned()), level),
                    (_, Err(_)) => {
                        return wrong(
                            part,
                            "does not end in one of =off, =error, =warn, =info, =debug and =trace",
                        );
                    }
                },
            });
        }
        if directives.is_empty() {
            return wrong(filter, "names no level; the usual one is `info`");
        }
        if !directives.iter().flat_map(|(module, _)| module).any(|module| in_crate(module, "tiny_http")) {
            directives.push((Some("tiny_http".to_owned()), LevelFilter::Off));
        }
        Ok(Filter { directives, text })
    }
}

/// Returns whether `module` is the crate `name` or a module in it.
fn in_crate(module: &str, name: &str) -> bool {
    module.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn logs_here(module: &str) -> bool {
    CRATES.into_iter().any(|name| in_crate(module, name))
}

/// The error for a filter with wrong syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    part: String,
    why: &'static str,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.part, self.why)
    }
}

impl std::error::Error for FilterError {}

/// The sources of a filter. The first one that has a filter is used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filters<'a> {
    /// From `--log`.
    pub flag: Option<&'a str>,
    /// From the environment variable `RUST_LOG`. An empty value counts as none.
    pub rust_log: Option<&'a str>,
    /// From the configuration's `log.filter`.
    pub config: Option<&'a str>,
}

impl Filters<'_> {
    /// Parses the filter of the first source that has one.
    ///
    /// # Errors
    ///
    /// When that filter has wrong syntax; the error names its source. The other filters are not parsed.
    pub fn choose(&self) -> Result<Filter, InitError> {
        let (origin, text) = if let Some(text) = self.flag {
            ("--log", text)
        } else if let Some(text) = self.rust_log.filter(|text| !text.trim().is_empty()) {
            ("RUST_LOG", text)
        } else if let Some(text) = self.config {
            ("log.filter", text)
        } else {
            ("the built-in filter", DEFAULT_FILTER)
        };
        text.parse().map_err(|error| InitError::Filter { origin, error })
    }
}

/// The error for a log that cannot be started.
#[derive(Debug)]
pub enum InitError {
    /// The filter has wrong syntax.
    Filter {
        /// The source of the filter: `--log`, `RUST_LOG` or `log.filter`.
        origin: &'static str,
        /// The error in it.
        error: FilterError,
    },
    /// `RUST_LOG` is not UTF-8 text.
    RustLogNotText,
    /// The log was started before.
    StartedTwice(log::SetLoggerError),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitError::Filter { origin, error } => write!(f, "{origin}: {error}"),
            InitError::RustLogNotText => f.write_str("RUST_LOG: is not UTF-8 text"),
            InitError::StartedTwice(error) => write!(f, "logging was started twice: {error}"),
        }
    }
}

impl std::error::Error for InitError {}

/// Starts logging to stderr for the rest of the process. `flag` is the filter of `--log`, `config` that of the
/// configuration; `RUST_LOG` is read from the environment.
///
/// # Errors
///
/// When the filter has wrong syntax, or the log was started before.
pub fn init(flag: Option<&str>, config: Option<&str>) -> Result<(), InitError> {
    let rust_log = match std::env::var("RUST_LOG") {
        Ok(text) => Some(text),
        Err(std::env::VarError::NotPresent) => None,
        // A flag wins over it, so its value does not matter.
        Err(std::env::VarError::NotUnicode(_)) if flag.is_some() => None,
        Err(std::env::VarError::NotUnicode(_)) => return Err(InitError::RustLogNotText),
    };
    let filter = Filters { flag, rust_log: rust_log.as_deref(), config }.choose()?;

    let mut builder = env_logger::Builder::new();
    if let Some(text) = &filter.text {
        builder.parse_filters(&format!("/{text}"));
    }
    for (module, level) in &filter.directives {
        builder.filter(module.as_deref(), *level);
    }
    if let Ok(style) = std::env::var("RUST_LOG_STYLE") {
        builder.parse_write_style(&style);
    }
    if is_journal(io::stderr().as_fd(), std::env::var("JOURNAL_STREAM").ok().as_deref()) {
        builder.write_style(env_logger::WriteStyle::Never);
        builder.format(|out, record| {
            write_for_journal(out, record.level(), record.target(), &record.args().to_string())
        });
    } else {
        builder.format(|out, record| {
            let style = out.default_level_style(record.level());
            let level = format!("{style}{:<5}{style:#}", record.level());
            let head = format!("{} {level} ", out.timestamp_seconds());
            write_for_person(out, &head, record.level(), record.target(), &record.args().to_string())
        });
    }
    builder.try_init().map_err(InitError::StartedTwice)
}

/// Returns whether `stream` is the journal. The variable `JOURNAL_STREAM` alone does not prove it: a shell in a unit
/// inherits it, and its stderr may be a file or a pipe (systemd.exec(5)). So device and inode must match.
fn is_journal(stream: impl AsFd, journal_stream: Option<&str>) -> bool {
    let Some((device, inode)) = journal_stream.and_then(|pair| pair.split_once(':')) else {
        return false;
    };
    let (Ok(device), Ok(inode)) = (device.parse::<u64>(), inode.parse::<u64>()) else {
        return false;
    };
    // A duplicate, because a File closes the descriptor that it owns.
    let Ok(duplicate) = stream.as_fd().try_clone_to_owned() else {
        return false;
    };
    std::fs::File::from(duplicate).metadata().is_ok_and(|found| found.dev() == device && found.ino() == inode)
}

/// Returns the syslog priority of a level. syslog(3) has none for `trace`.
const fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Returns the module of a message as a prefix; empty for messages above `debug`, which users read.
fn origin(level: Level, target: &str) -> String {
    if level >= Level::Debug { format!("{target}: ") } else { String::new() }
}

/// Writes a message with a priority in front of every line: the journal reads line by line, and would store a second line
/// without a priority under the default one.
fn write_for_journal(out: &mut impl Write, level: Level, target: &str, message: &str) -> io::Result<()> {
    let priority = priority(level);
    let origin = origin(level, target);
    for line in printable(message).split('\n') {
        writeln!(out, "<{priority}>{origin}{line}")?;
    }
    Ok(())
}

/// Writes a message with `head` in front and its further lines indented.
fn write_for_person(
    out: &mut impl Write,
    head: &str,
    level: Level,
    target: &str,
    message: &str,
) -> io::Result<()> {
    let message = printable(message).replace('\n', "\n    ");
    writeln!(out, "{head}{}{message}", origin(level, target))
}

/// Returns the message without a line end at its end and with control characters escaped: a message may quote bytes that
/// a client sent, and these must not control the reader's terminal.
fn printable(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    for char in message.trim_end_matches(['\n', '\r']).chars() {
        if char.is_control() && char != '\n' && char != '\t' {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn journal(level: Level, message: &str) -> String {
        let mut out = Vec::new();
        write_for_journal(&mut out, level, "wavecast::media::ring", message).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn person(level: Level, message: &str) -> String {
        let mut out = Vec::new();
        write_for_person(&mut out, "12:00 ", level, "wavecast::media::ring", message).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn error(filter: &str) -> String {
        filter.parse::<Filter>().unwrap_err().to_string()
    }

    fn levels(filter: &str) -> Vec<(Option<String>, LevelFilter)> {
        filter.parse::<Filter>().unwrap().directives
    }

    #[test]
    fn the_journal_gets_a_priority_and_the_message_alone() {
        assert_eq!(journal(Level::Error, "no card"), "<3>no card\n");
        assert_eq!(journal(Level::Warn, "overrun"), "<4>overrun\n");
        assert_eq!(journal(Level::Info, "listening"), "<6>listening\n");
    }

    #[test]
    fn debug_and_trace_messages_name_their_module() {
        assert_eq!(journal(Level::Debug, "lapped"), "<7>wavecast::media::ring: lapped\n");
        assert_eq!(journal(Level::Trace, "woken"), "<7>wavecast::media::ring: woken\n");
        assert_eq!(person(Level::Debug, "lapped"), "12:00 wavecast::media::ring: lapped\n");
        assert_eq!(person(Level::Info, "lapped"), "12:00 lapped\n");
    }

    #[test]
    fn every_line_in_the_journal_has_its_own_priority() {
        assert_eq!(journal(Level::Warn, "one\ntwo\n"), "<4>one\n<4>two\n");
        assert_eq!(journal(Level::Info, ""), "<6>\n");
    }

    #[test]
    fn a_second_line_is_indented_for_a_person() {
        assert_eq!(person(Level::Info, "one\ntwo\r\n"), "12:00 one\n    two\n");
    }

    #[test]
    fn quoted_bytes_of_a_client_move_no_cursor_and_forge_no_priority() {
        assert_eq!(person(Level::Info, "from \x1b[2Jx\r"), "12:00 from \\u{1b}[2Jx\n");
        assert_eq!(journal(Level::Info, "from x\n<0>fire"), "<6>from x\n<6><0>fire\n");
    }

    #[test]
    fn the_flag_wins_over_rust_log_and_rust_log_over_the_configuration() {
        let all = Filters { flag: Some("error"), rust_log: Some("warn"), config: Some("debug") };
        let chosen = |filters: Filters| filters.choose().unwrap().directives[0].1;
        assert_eq!(chosen(all), LevelFilter::Error);
        assert_eq!(chosen(Filters { flag: None, ..all }), LevelFilter::Warn);
        assert_eq!(chosen(Filters { flag: None, rust_log: None, ..all }), LevelFilter::Debug);
        assert_eq!(chosen(Filters { flag: None, rust_log: Some(" "), ..all }), LevelFilter::Debug);
        assert_eq!(chosen(Filters::default()), LevelFilter::Info);
    }

    #[test]
    fn an_error_names_the_source_of_the_filter() {
        let filters = Filters { flag: None, rust_log: Some("loud"), config: Some("info") };
        assert_eq!(
            filters.choose().unwrap_err().to_string(),
            "RUST_LOG: \"loud\" is not off, error, warn, info, debug, trace or MODULE=LEVEL"
        );
    }

    #[test]
    fn a_filter_has_the_syntax_of_rust_log() {
        assert_eq!(
            levels(" warn, wavecast::http = debug,wavecast::media::ring"),
            [
                (None, LevelFilter::Warn),
                (Some("wavecast::http".to_owned()), LevelFilter::Debug),
                (Some("wavecast::media::ring".to_owned()), LevelFilter::Trace),
                (Some("tiny_http".to_owned()), LevelFilter::Off),
            ]
        );
        assert_eq!("INFO/card".parse::<Filter>().unwrap().text.as_deref(), Some("card"));
    }

    #[test]
    fn tiny_http_is_off_unless_the_filter_mentions_it() {
        assert!(levels("trace").contains(&(Some("tiny_http".to_owned()), LevelFilter::Off)));
        assert_eq!(levels("info,tiny_http=debug").len(), 2);
        assert_eq!(levels("info,tiny_http::client=debug").len(), 2);
        assert_eq!(levels("info,tiny_httpd=debug").len(), 3);
    }

    #[test]
    fn a_filter_with_wrong_syntax_is_an_error() {
        assert!(error("ifno").starts_with("\"ifno\" is not off, error"));
        assert!(error("wavecast=loud").starts_with("\"wavecast=loud\" does not end in one of =off"));
        assert!(error("wavecast=").contains("does not end in"));
        assert!(error("a=b=info").contains("does not end in"));
        assert!(error("=info").contains("has no module"));
        assert!(error("info/a/b").contains("more than one `/`"));
        assert!(error("").contains("names no level"));
        assert!(error(" , ").contains("names no level"));
    }

    #[test]
    fn a_stream_is_the_journal_only_if_device_and_inode_match() {
        let (stream, _other_end) = std::os::unix::net::UnixStream::pair().unwrap();
        let duplicate = std::os::fd::OwnedFd::from(stream.try_clone().unwrap());
        let found = std::fs::File::from(duplicate).metadata().unwrap();
        let (device, inode) = (found.dev(), found.ino());
        assert!(is_journal(&stream, Some(&format!("{device}:{inode}"))));
        assert!(!is_journal(&stream, Some(&format!("{device}:{}", inode + 1))));
        assert!(!is_journal(&stream, Some(&format!("{}:{inode}", device + 1))));
        assert!(!is_journal(&stream, Some("nonsense")));
        assert!(!is_journal(&stream, Some(":")));
        assert!(!is_journal(&stream, None));
    }
}
