//! What the daemon says, and in which dress: plain lines for a person at a terminal, priorities
//! for the journal.
//!
//! Which messages are let through is a filter as `RUST_LOG` has it: `info`, or
//! `warn,wavecast::http=debug`. The flag wins over `RUST_LOG`, `RUST_LOG` over the configuration.
//!
//! Under systemd, stderr is a socket of the journal. The journal keeps time and unit by itself and
//! takes the priority from a `<N>` in front of each line (sd-daemon(3)), so that `journalctl -p
//! warning` and its colours work; a timestamp or a level word there would only be said twice.

use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;

use log::{Level, LevelFilter};

/// The filter where nobody asked for another one.
pub const DEFAULT_FILTER: &str = "info";

/// The crates that log here. A bare word in a filter has to be one of them or a level: env_logger
/// would take `ifno` for the name of a module and then say nothing at all.
const CRATES: [&str; 2] = ["wavecast", "tiny_http"];

/// Which messages are let through; made from the text of a filter with [`str::parse`].
///
/// `LEVEL`, `MODULE` and `MODULE=LEVEL` separated by commas, as env_logger documents for
/// `RUST_LOG`, and at most one `/TEXT` at the end that a message has to contain. The levels are
/// `off`, `error`, `warn`, `info`, `debug` and `trace`.
///
/// tiny_http's own messages are off unless the filter mentions `tiny_http`: what they tell about
/// connections, the daemon says itself, and better.
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
                    Err(_) if is_ours(part) => (Some(part.to_owned()), LevelFilter::Trace),
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

/// Whether that module is the crate itself or inside it.
fn in_crate(module: &str, name: &str) -> bool {
    module.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_ours(module: &str) -> bool {
    CRATES.into_iter().any(|name| in_crate(module, name))
}

/// A filter that cannot be understood.
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

/// Where a filter may come from. The first that is there counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filters<'a> {
    /// From `--log`.
    pub flag: Option<&'a str>,
    /// From the environment variable `RUST_LOG`. An empty one counts as absent.
    pub rust_log: Option<&'a str>,
    /// From the configuration's `log.filter`.
    pub config: Option<&'a str>,
}

impl Filters<'_> {
    /// The filter that counts.
    ///
    /// # Errors
    /// When it cannot be understood; the error names where it came from. Those that do not count
    /// are not looked at.
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

/// Why logging could not be started.
#[derive(Debug)]
pub enum InitError {
    /// The filter that counts cannot be understood.
    Filter {
        /// Where it came from: `--log`, `RUST_LOG` or `log.filter`.
        origin: &'static str,
        /// What is wrong with it.
        error: FilterError,
    },
    /// `RUST_LOG` is not UTF-8 text.
    RustLogNotText,
    /// There is a logger already.
    Again(log::SetLoggerError),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitError::Filter { origin, error } => write!(f, "{origin}: {error}"),
            InitError::RustLogNotText => f.write_str("RUST_LOG: is not UTF-8 text"),
            InitError::Again(error) => write!(f, "logging was started twice: {error}"),
        }
    }
}

impl std::error::Error for InitError {}

/// Starts logging to stderr, for the rest of the process: `flag` is that of `--log`, `config` the
/// configuration's filter, and `RUST_LOG` is read in between.
///
/// # Errors
/// When the filter that counts cannot be understood, or logging was started before.
pub fn init(flag: Option<&str>, config: Option<&str>) -> Result<(), InitError> {
    let rust_log = match std::env::var("RUST_LOG") {
        Ok(text) => Some(text),
        Err(std::env::VarError::NotPresent) => None,
        // It does not count beside a flag, so it may say what it likes.
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
    builder.try_init().map_err(InitError::Again)
}

/// Whether that stream is the journal itself. `JOURNAL_STREAM` alone does not tell: it is inherited
/// by a shell in a unit, whose stderr may be a file or a pipe by then (systemd.exec(5)).
fn is_journal(stream: impl AsFd, journal_stream: Option<&str>) -> bool {
    let Some((device, inode)) = journal_stream.and_then(|pair| pair.split_once(':')) else {
        return false;
    };
    let (Ok(device), Ok(inode)) = (device.parse::<u64>(), inode.parse::<u64>()) else {
        return false;
    };
    // A duplicate, because a File closes what it owns.
    let Ok(duplicate) = stream.as_fd().try_clone_to_owned() else {
        return false;
    };
    std::fs::File::from(duplicate).metadata().is_ok_and(|found| found.dev() == device && found.ino() == inode)
}

/// The syslog priority of a level: syslog(3) has no word for `trace`.
const fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Where a message comes from, for those who read at `debug`; the others want the message.
fn origin(level: Level, target: &str) -> String {
    if level >= Level::Debug { format!("{target}: ") } else { String::new() }
}

/// Every line by itself: the journal reads line by line, and a second line without a priority would
/// be filed under another one.
fn write_for_journal(out: &mut impl Write, level: Level, target: &str, message: &str) -> io::Result<()> {
    let priority = priority(level);
    let origin = origin(level, target);
    for line in printable(message).split('\n') {
        writeln!(out, "<{priority}>{origin}{line}")?;
    }
    Ok(())
}

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

/// The message without a line end at its end, and with control characters escaped: a message may
/// quote what a stranger sent, and that must not move the cursor of the one who reads it.
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

    fn refusal(filter: &str) -> String {
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
    fn from_debug_on_a_message_says_where_it_comes_from() {
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
    fn what_a_stranger_sent_moves_no_cursor_and_forges_no_priority() {
        assert_eq!(person(Level::Info, "from \x1b[2Jx\r"), "12:00 from \\u{1b}[2Jx\n");
        assert_eq!(journal(Level::Info, "from x\n<0>fire"), "<6>from x\n<6><0>fire\n");
    }

    #[test]
    fn the_flag_wins_over_rust_log_and_that_over_the_configuration() {
        let all = Filters { flag: Some("error"), rust_log: Some("warn"), config: Some("debug") };
        let chosen = |filters: Filters| filters.choose().unwrap().directives[0].1;
        assert_eq!(chosen(all), LevelFilter::Error);
        assert_eq!(chosen(Filters { flag: None, ..all }), LevelFilter::Warn);
        assert_eq!(chosen(Filters { flag: None, rust_log: None, ..all }), LevelFilter::Debug);
        assert_eq!(chosen(Filters { flag: None, rust_log: Some(" "), ..all }), LevelFilter::Debug);
        assert_eq!(chosen(Filters::default()), LevelFilter::Info);
    }

    #[test]
    fn a_bad_filter_is_named_by_where_it_came_from() {
        let filters = Filters { flag: None, rust_log: Some("loud"), config: Some("info") };
        assert_eq!(
            filters.choose().unwrap_err().to_string(),
            "RUST_LOG: \"loud\" is not off, error, warn, info, debug, trace or MODULE=LEVEL"
        );
    }

    #[test]
    fn a_filter_is_read_as_rust_log_is() {
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
    fn tiny_http_is_quiet_unless_it_is_asked() {
        assert!(levels("trace").contains(&(Some("tiny_http".to_owned()), LevelFilter::Off)));
        assert_eq!(levels("info,tiny_http=debug").len(), 2);
        assert_eq!(levels("info,tiny_http::client=debug").len(), 2);
        assert_eq!(levels("info,tiny_httpd=debug").len(), 3);
    }

    #[test]
    fn what_is_no_filter_is_refused_instead_of_ignored() {
        assert!(refusal("ifno").starts_with("\"ifno\" is not off, error"));
        assert!(refusal("wavecast=loud").starts_with("\"wavecast=loud\" does not end in one of =off"));
        assert!(refusal("wavecast=").contains("does not end in"));
        assert!(refusal("a=b=info").contains("does not end in"));
        assert!(refusal("=info").contains("has no module"));
        assert!(refusal("info/a/b").contains("more than one `/`"));
        assert!(refusal("").contains("names no level"));
        assert!(refusal(" , ").contains("names no level"));
    }

    #[test]
    fn a_stream_is_the_journal_only_if_device_and_inode_are_those_announced() {
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
