//! The head of a response that this daemon writes by itself: a stream, a clip, an event stream, a response without a body.
//!
//! tiny_http writes the heads of the other short responses, see [`response`](super::response).

use super::SERVER;
use super::access::cors::Cors;
use super::date::HttpDate;

/// Status and headers of a response. Written once, by [`render`](Self::render).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// Names and values in the order in which they are sent.
    pub headers: Vec<(&'static str, String)>,
}

impl ResponseHead {
    /// Returns a head with `Date` (RFC 9110 §6.6.1) and `Server`.
    pub(crate) fn new(status: u16) -> ResponseHead {
        let headers = vec![("Date", HttpDate::now().to_string()), ("Server", SERVER.to_owned())];
        ResponseHead { status, headers }
    }

    /// Returns the head with one more header.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> ResponseHead {
        self.push(name, value);
        self
    }

    /// Adds a header.
    pub(crate) fn push(&mut self, name: &'static str, value: impl Into<String>) {
        self.headers.push((name, value.into()));
    }

    /// Returns the head with more headers.
    #[must_use]
    pub(crate) fn with_all(
        mut self,
        headers: impl IntoIterator<Item = (&'static str, String)>,
    ) -> ResponseHead {
        self.headers.extend(headers);
        self
    }

    /// Adds the CORS headers.
    pub(crate) fn add_cors(&mut self, cors: &Cors) {
        self.headers.extend_from_slice(cors.pairs());
    }

    /// Returns the value of the first header of that name, as it was added.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the bytes on the wire, up to and including the empty line.
    pub(crate) fn render(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            // All values are this program's own or were checked. A line break would begin another header.
            debug_assert!(!value.contains(['\r', '\n']), "{name}: {value:?}");
            text.extend([*name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// Returns the reason phrase of the status codes that these responses have (RFC 9110 §15).
const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        416 => "Range Not Satisfiable",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_a_status_line_headers_and_an_empty_line() {
        let mut head = ResponseHead { status: 206, headers: vec![("A", "b".to_owned())] }.with("C", "d");
        head.add_cors(&Cors::of(&["*".to_owned()], Some("http://a")));
        let text = String::from_utf8(head.render()).expect("text");
        assert!(text.starts_with(
            "HTTP/1.1 206 Partial Content\r\nA: b\r\nC: d\r\nAccess-Control-Allow-Origin: *\r\n"
        ));
        assert!(text.ends_with("\r\n\r\n") && text.matches("\r\n\r\n").count() == 1, "{text}");
    }

    #[test]
    fn every_head_has_a_date_and_a_server() {
        let head = ResponseHead::new(200);
        assert_eq!(head.header("Server"), Some(SERVER));
        let date = head.header("Date").expect("a date");
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    }
}
