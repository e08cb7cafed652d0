//! The answers that the gate gives by itself.

use crate::http::date::HttpDate;

/// A reason to refuse a request or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400: the bytes are no HTTP request, for this reason.
    Malformed(&'static str),
    /// 400: the first bytes of a TLS handshake (`https://`).
    Tls,
    /// 505: an HTTP version other than 1.0 and 1.1, or the preface of HTTP/2.
    Version,
    /// 431: the head is longer than `header_bytes`.
    HeadTooLong,
    /// 408: the head was not complete within `request_seconds`.
    Timeout,
    /// 503: the client has `connections_per_address` connections, and none of them is idle.
    ClientFull,
    /// 503: there are `connections` connections, and none of them can be ended for this one.
    Full,
    /// 503: this connection was idle, and was ended for a new one.
    Evicted,
    /// 503: the process has no free file descriptor.
    NoDescriptor,
}

impl Refusal {
    /// Returns the text for the log's line about a client, or `None` where the log has a line at level debug
    /// only.
    pub(super) fn warning(self) -> Option<&'static str> {
        match self {
            Refusal::Malformed(_) | Refusal::Tls | Refusal::Version => None,
            // A fault of this machine, which has a line of its own.
            Refusal::NoDescriptor => None,
            Refusal::HeadTooLong => Some("sent a request that is too large, and was disconnected"),
            Refusal::Timeout => Some("did not finish its request in time, and was disconnected"),
            Refusal::ClientFull | Refusal::Full => Some("is refused: there are too many connections"),
            Refusal::Evicted => Some("has too many connections, or all together have; idle ones are closed"),
        }
    }

    /// Returns the text for a line at level debug about a client whose refusal is nothing to warn of.
    pub(super) fn debug_text(self) -> &'static str {
        match self {
            Refusal::Tls => "speaks TLS (https://) to a port for HTTP, and was disconnected",
            Refusal::Version => {
                "speaks HTTP/2 or another version than HTTP/1.0 and HTTP/1.1, and was disconnected"
            }
            _ => "sent a malformed request, and was disconnected",
        }
    }

    /// Returns one sentence for the client, which is the answer's body.
    pub(super) fn explanation(self) -> &'static str {
        match self {
            Refusal::Malformed(reason) => reason,
            Refusal::Tls => {
                "This port speaks HTTP without TLS: the address begins with http://, not https://."
            }
            Refusal::Version => "This server speaks HTTP/1.0 and HTTP/1.1 only.",
            Refusal::HeadTooLong => "The request is too large.",
            Refusal::Timeout => "The request was not finished in time.",
            Refusal::ClientFull | Refusal::Full => "Too many connections are being answered.",
            Refusal::Evicted => "Too many connections.",
            Refusal::NoDescriptor => "There is no file descriptor left for this.",
        }
    }

    /// Returns the answer's bytes. They announce the end of the connection.
    pub(super) fn response(self) -> Vec<u8> {
        let body = self.explanation();
        // The field belongs to 503 alone: the other requests will not fare better later.
        let retry = if self.status().starts_with("503") { "Retry-After: 5\r\n" } else { "" };
        format!(
            "HTTP/1.1 {}\r\nDate: {}\r\nServer: {}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nCache-Control: no-store\r\n{retry}Connection: close\r\n\r\n{body}\n",
            self.status(),
            HttpDate::now(),
            crate::http::SERVER,
            body.len() + 1
        )
        .into_bytes()
    }

    fn status(self) -> &'static str {
        match self {
            Refusal::Malformed(_) | Refusal::Tls => "400 Bad Request",
            Refusal::Version => "505 HTTP Version Not Supported",
            Refusal::HeadTooLong => "431 Request Header Fields Too Large",
            Refusal::Timeout => "408 Request Timeout",
            Refusal::ClientFull | Refusal::Full | Refusal::Evicted | Refusal::NoDescriptor => {
                "503 Service Unavailable"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_server_says_when_to_come_again() {
        for (refusal, status, retry) in [
            (Refusal::Malformed("No."), "400", false),
            (Refusal::HeadTooLong, "431", false),
            (Refusal::Timeout, "408", false),
            (Refusal::Full, "503", true),
            (Refusal::Evicted, "503", true),
        ] {
            let text = String::from_utf8(refusal.response()).expect("ASCII");
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert_eq!(text.contains("\r\nRetry-After: 5\r\n"), retry, "{text}");
            let (_, body) = text.split_once("\r\n\r\n").expect("a head and a body");
            assert!(text.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{text}");
            assert!(text.contains("\r\nDate: ") && text.contains(" GMT\r\n"), "{text}");
        }
    }
}
