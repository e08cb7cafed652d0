//! Short responses: status, headers and a body that fits into memory. tiny_http renders those with a body.

use tiny_http::{HTTPVersion, Header, StatusCode};

use super::response_head::ResponseHead;

const TEXT: &str = "text/plain; charset=utf-8";

/// A response that is sent whole.
pub(crate) struct Response {
    status: u16,
    /// Names and values in the order in which they are sent.
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// The parts of a request on which the bytes of a response depend.
pub(crate) struct Rendering<'a> {
    /// The version of the request.
    pub(crate) version: &'a HTTPVersion,
    /// True for HEAD: the headers are those of GET, and the body is left out.
    pub(crate) head_only: bool,
}

impl Response {
    /// Returns a response of that content type.
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Response {
        let headers = vec![
            ("Server", super::SERVER.to_owned()),
            ("Content-Type", content_type.to_owned()),
            ("X-Content-Type-Options", "nosniff".to_owned()),
        ];
        Response { status, headers, body: body.into() }
    }

    /// Returns a response of one line of text.
    pub(crate) fn text(status: u16, line: &str) -> Response {
        Response::new(status, TEXT, format!("{line}\n"))
    }

    /// Returns a 503: the request may succeed in a moment.
    pub(crate) fn unavailable(line: &str) -> Response {
        Response::text(503, line).with("Retry-After", "5")
    }

    /// Returns a 429: the client has made too many requests of this kind in too short a time.
    pub(crate) fn too_many(line: &str) -> Response {
        Response::text(429, line).with("Retry-After", "1")
    }

    /// Returns a 401: a browser asks its user for the password and repeats the request.
    pub(crate) fn unauthorized(line: &str) -> Response {
        Response::text(401, line).with("WWW-Authenticate", "Basic realm=\"wavecast\", charset=\"UTF-8\"")
    }

    /// Returns a 405, with the methods that are allowed.
    pub(crate) fn not_allowed(method: &str) -> Response {
        Response::text(405, &format!("{method} is not allowed here, only GET and HEAD."))
            .with("Allow", "GET, HEAD")
    }

    /// Returns a 204, without a body.
    pub(crate) fn no_content() -> Response {
        Response { status: 204, headers: Vec::new(), body: Vec::new() }
    }

    /// Returns a 304, without a body and without what describes one.
    pub(crate) fn not_modified() -> Response {
        Response { status: 304, headers: Vec::new(), body: Vec::new() }
    }

    /// Returns a 307 to `location`, which may be relative.
    pub(crate) fn redirect(location: &str) -> Response {
        Response::text(307, location).with("Location", location)
    }

    /// Returns a JSON document.
    pub(crate) fn json(json: String) -> Response {
        Response::new(200, "application/json", json)
    }

    /// Returns a playlist of that content type.
    pub(crate) fn playlist(content_type: &str, list: String) -> Response {
        Response::new(200, content_type, list)
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Response {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Adds headers.
    pub(crate) fn with_all(mut self, headers: &[(&'static str, String)]) -> Response {
        self.headers.extend_from_slice(headers);
        self
    }

    /// Returns the bytes of the response to a GET over HTTP/1.1, for a connection that was taken out of the gate and ends
    /// after the response.
    pub(crate) fn render_alone(self) -> Vec<u8> {
        self.render(&Rendering { version: &HTTPVersion(1, 1), head_only: false })
    }

    /// Returns the bytes of the response. The gate adds the header `Connection`.
    pub(crate) fn render(mut self, to: &Rendering<'_>) -> Vec<u8> {
        if matches!(self.status, 204 | 304) {
            // tiny_http would add a Content-Length, which is wrong for both (RFC 9110 §8.6).
            return ResponseHead::new(self.status).with_all(self.headers).render();
        }
        if self.headers.iter().all(|(name, _)| *name != "Cache-Control") {
            self.headers.push(("Cache-Control", "no-store".to_owned()));
        }
        let length = self.body.len();
        // Every value here is ASCII, which is all that from_bytes asks for.
        let headers = self
            .headers
            .iter()
            .filter_map(|(name, value)| Header::from_bytes(name.as_bytes(), value.as_bytes()).ok())
            .collect();
        let body = std::io::Cursor::new(self.body);
        // No chunks, whatever the length: a body that fits into memory has a Content-Length.
        let response = tiny_http::Response::new(StatusCode(self.status), headers, body, Some(length), None)
            .with_chunked_threshold(usize::MAX);
        let mut bytes = Vec::with_capacity(length + 512);
        // Writing to memory does not fail. tiny_http would look for TE among the headers of the request, and send chunks.
        let _ = response.raw_print(&mut bytes, to.version.clone(), &[], to.head_only, None);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(response: Response, head_only: bool) -> String {
        let rendering = Rendering { version: &HTTPVersion(1, 1), head_only };
        let bytes = response.render(&rendering);
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_response_has_a_length_a_date_and_no_chunks_however_long_it_is() {
        let long = render(Response::json("x".repeat(100_000)), false);
        assert!(long.starts_with("HTTP/1.1 200 OK\r\n"), "{long:.100}");
        for field in ["\r\nContent-Length: 100000\r\n", "\r\nDate: ", "\r\nCache-Control: no-store\r\n"] {
            assert!(long.contains(field), "{field}");
        }
        assert!(!long.contains("Transfer-Encoding"));
    }

    #[test]
    fn head_has_the_headers_of_get_and_no_body() {
        let get = render(Response::text(404, "nothing"), false);
        let head = render(Response::text(404, "nothing"), true);
        assert!(get.ends_with("\r\n\r\nnothing\n") && head.ends_with("\r\n\r\n"));
        assert!(head.contains("Content-Length: 8\r\n"));
    }

    #[test]
    fn a_response_without_a_body_has_no_length_and_no_type() {
        for (response, status) in
            [(Response::no_content(), "204 No Content"), (Response::not_modified(), "304 Not Modified")]
        {
            let response = render(response.with("Allow", "GET"), false);
            assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\nDate: ")), "{response}");
            assert!(response.ends_with("\r\nAllow: GET\r\n\r\n"), "{response}");
            assert!(!response.contains("Content-"), "{response}");
        }
    }
}
