//! The reasons for which a push is not on the air, in words, with what to do.

use std::io;

use super::backoff::Failure;
use crate::encode::EncodeError;
use crate::pushes::PushPhase;

/// The longest text of a server that is shown, in characters.
const MOST_SAID: usize = 200;

/// The end of a connection, or of the attempt to make one.
#[derive(Debug)]
pub(super) enum End {
    /// The push was asked to end.
    Stopped,
    /// Something went wrong.
    Problem(Problem),
}

/// A reason for which a push is not on the air.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The phase to show.
    pub(super) phase: PushPhase,
    /// The kind of the pause that follows.
    pub(super) failure: Failure,
    /// Reason and remedy.
    pub(super) detail: String,
    /// The server's own words; empty if it has said nothing.
    pub(super) said: String,
}

impl Problem {
    /// The server is out of reach, which passes.
    pub(super) fn unreachable(detail: impl Into<String>) -> Problem {
        Problem::new(PushPhase::Unreachable, Failure::Passing, detail)
    }

    /// Nothing reaches the server, which passes.
    pub(super) fn silent(detail: impl Into<String>) -> Problem {
        Problem::new(PushPhase::Unreachable, Failure::Silent, detail)
    }

    /// The server refuses until somebody changes something.
    pub(super) fn refused(detail: impl Into<String>) -> Problem {
        Problem::new(PushPhase::Refused, Failure::Lasting, detail)
    }

    /// The mount has another source.
    pub(super) fn in_use(detail: impl Into<String>) -> Problem {
        Problem::new(PushPhase::InUse, Failure::InUse, detail)
    }

    /// Something is missing on this machine.
    pub(super) fn failed(detail: impl Into<String>) -> Problem {
        Problem::new(PushPhase::Failed, Failure::Lasting, detail)
    }

    /// The codec's library failed.
    pub(super) fn unencoded(error: &EncodeError) -> Problem {
        Problem::new(PushPhase::Failed, Failure::Passing, format!("the encoder failed: {error}"))
    }

    /// A connection that ends for a reason of this side, and is made again at once.
    pub(super) fn again(detail: impl Into<String>) -> Problem {
        Problem::new(PushPhase::Connecting, Failure::None, detail)
    }

    pub(super) fn new(phase: PushPhase, failure: Failure, detail: impl Into<String>) -> Problem {
        Problem { phase, failure, detail: detail.into(), said: String::new() }
    }

    /// Adds the server's words.
    pub(super) fn with_words(self, said: &str) -> Problem {
        Problem { said: words(said), ..self }
    }
}

impl From<Problem> for End {
    fn from(problem: Problem) -> End {
        End::Problem(problem)
    }
}

/// Returns the problem of a connection that an error of the operating system ended.
pub(super) fn broken(error: &io::Error) -> Problem {
    Problem::unreachable(match error.kind() {
        io::ErrorKind::TimedOut => {
            "the network or the server is gone: nothing was acknowledged for 8 s".to_owned()
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the server reset the connection".to_owned()
        }
        _ => format!("the connection broke: {error}"),
    })
}

/// Returns the words of a server on one short line: without tags, line ends and control characters.
pub(super) fn words(text: &str) -> String {
    let mut shown = String::new();
    let mut depth = 0;
    for char in text.chars() {
        match char {
            '<' => depth = 1,
            '>' if depth == 1 => {
                depth = 0;
                shown.push(' ');
            }
            _ if depth == 1 => {}
            char if char.is_control() => shown.push(' '),
            char => shown.push(char),
        }
    }
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    shown.chars().take(MOST_SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_server_are_one_short_line_without_tags() {
        let html = "<html><head><title>Error 403</title></head>\r\n<body><b>403</b> - too\u{1b}[2J many\n";
        assert_eq!(words(html), "Error 403 403 - too [2J many");
        assert_eq!(words(&"ab ".repeat(500)).chars().count(), MOST_SAID);
        assert_eq!(words(""), "");
    }
}
