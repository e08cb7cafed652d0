//! The head of a request: finds its end, checks every byte, and rewrites the request for tiny_http.
//!
//! tiny_http never sees the bytes of a client. It gets a request line, the header fields that a handler uses,
//! and nothing that makes tiny_http wait, allocate, or end the connection: no body, no `Expect`, no
//! `Upgrade`, no `Connection: close`, no byte above 0x7F.
//!
//! If RFC 9112 lets a server choose, this parser refuses: a bare LF or CR, a folded field, a space before a
//! colon, and two different lengths are 400. A proxy in front may read such bytes in another way than this
//! parser, and what the proxy takes for one value must not become a field of its own here
//! (`X-Forwarded-For`).

use super::refusal::Refusal;

/// The header field that names the connection of a request to the handlers. A client's own field of this name
/// is removed.
pub const CONNECTION_FIELD: &str = "X-Wavecast-Connection";

/// The header fields that a handler reads. All others end here: a cookie of 8 KiB costs
/// nothing behind the gate.
const FORWARDED_FIELDS: [&str; 20] = [
    "Accept-Encoding",
    "Access-Control-Request-Method",
    "Authorization",
    "CF-Connecting-IP",
    "Forwarded",
    "Host",
    "Icy-MetaData",
    "If-None-Match",
    "If-Range",
    "Origin",
    "Range",
    "TE",
    "User-Agent",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Proto",
    "X-Ingress-Path",
    "X-Real-IP",
];

const NOT_HTTP: Refusal = Refusal::Malformed("This is no HTTP request.");
const BARE_LINE_FEED: Refusal = Refusal::Malformed("A line of the request ends with LF instead of CR LF.");
const BAD_TARGET: Refusal =
    Refusal::Malformed("The request's target is neither a path nor an http:// address.");
const BAD_FIELD: Refusal = Refusal::Malformed("A header field of the request is malformed.");
const BAD_HOST: Refusal = Refusal::Malformed("An HTTP/1.1 request has exactly one Host field.");
const BAD_LENGTH: Refusal = Refusal::Malformed("The length of the request's body is ambiguous.");

/// A checked request head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The request for tiny_http: ASCII, without a body.
    pub forwarded: Vec<u8>,
    /// The connection ends after the answer: the client asked for that, or what follows the head is no request.
    pub closes: bool,
    /// The client speaks HTTP/1.0, and knows that a connection is kept only if the answer says so.
    pub is_1_0: bool,
}

/// A search for the end of a head that arrives in pieces. Looks at each byte about once.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndSearch {
    /// The first byte of the line that is not complete yet.
    line: usize,
    /// The first byte that was not looked at yet.
    next: usize,
}

impl EndSearch {
    /// Returns the length of the head at the beginning of `bytes`, its empty line included; `None` while more
    /// is needed.
    ///
    /// `bytes` are those of the call before and what arrived since. Empty lines in front were removed:
    /// see [`leading_newlines`].
    ///
    /// # Errors
    ///
    /// As soon as the bytes cannot become a request: TLS, something that is no method, a first line that is no request
    /// line, a line that ends with a bare LF.
    pub fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        match bytes {
            // The type of a handshake record (RFC 8446 §5.1).
            [0x16, ..] => return Err(Refusal::Tls),
            [first, ..] if !is_token_byte(*first) => return Err(NOT_HTTP),
            _ => {}
        }
        while let Some(offset) = bytes[self.next..].iter().position(|byte| *byte == b'\n') {
            let feed = self.next + offset;
            let line = bytes[self.line..feed].strip_suffix(b"\r").ok_or(BARE_LINE_FEED)?;
            if self.line == 0 {
                RequestLine::parse(line)?;
            }
            (self.line, self.next) = (feed + 1, feed + 1);
            if line.is_empty() {
                return Ok(Some(feed + 1));
            }
        }
        self.next = bytes.len();
        Ok(None)
    }
}

/// Returns the number of CR and LF bytes in front of a request. A server skips empty lines there (RFC 9112
/// §2.2).
pub fn leading_newlines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// Checks a complete head, its empty line included, and rewrites the request for tiny_http.
///
/// `connection` is the value of [`CONNECTION_FIELD`].
///
/// # Errors
///
/// When the head is not a request of HTTP/1.0 or HTTP/1.1 that every server in the world would read in the
/// same way.
pub fn parse(head: &[u8], connection: u64) -> Result<Head, Refusal> {
    let mut lines = head.strip_suffix(b"\r\n\r\n").ok_or(NOT_HTTP)?.split(|byte| *byte == b'\n').peekable();
    let mut next_line = || {
        let line = lines.next()?;
        // The CR of the last line went away with the empty line.
        let is_last = lines.peek().is_none();
        Some(if is_last { Ok(line) } else { line.strip_suffix(b"\r").ok_or(BARE_LINE_FEED) })
    };
    let line = RequestLine::parse(next_line().ok_or(NOT_HTTP)??)?;

    let mut forwarded = Vec::with_capacity(head.len() + 96);
    line.write(&mut forwarded);
    // HTTP/1.0 would otherwise end tiny_http's connection, which is shared by all clients.
    forwarded.extend_from_slice(b"\r\nConnection: keep-alive\r\n");
    forwarded.extend_from_slice(format!("{CONNECTION_FIELD}: {connection}\r\n").as_bytes());
    if let Some(authority) = line.authority {
        write_field(&mut forwarded, "Host", authority);
    }
    let mut fields = Fields::default();
    while let Some(text) = next_line() {
        let (name, value) = split_field(text?)?;
        fields.note(name, value)?;
        let known = FORWARDED_FIELDS.iter().find(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        // The host of an absolute target wins (RFC 9112 §3.2.2).
        if let Some(known) = known.filter(|known| **known != "Host" || line.authority.is_none()) {
            write_field(&mut forwarded, known, value);
        }
    }
    forwarded.extend_from_slice(b"\r\n");
    if fields.hosts > 1 || fields.hosts == 0 && line.is_1_1 {
        return Err(BAD_HOST);
    }
    let has_usual_method = [&b"GET"[..], b"HEAD", b"OPTIONS"].contains(&line.method);
    let is_persistent = if line.is_1_1 { !fields.close } else { fields.keep_alive && !fields.close };
    Ok(Head {
        forwarded,
        closes: !is_persistent || fields.has_body || !has_usual_method,
        is_1_0: !line.is_1_1,
    })
}

/// The first line of a request, with a target that begins with `/` wherever possible.
struct RequestLine<'a> {
    method: &'a [u8],
    /// The host and port of a target in absolute form.
    authority: Option<&'a [u8]>,
    target: &'a [u8],
    is_1_1: bool,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<RequestLine<'a>, Refusal> {
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(NOT_HTTP);
        };
        if !is_token(method) {
            return Err(NOT_HTTP);
        }
        let is_1_1 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ if version.starts_with(b"HTTP/") => return Err(Refusal::Version),
            _ => return Err(NOT_HTTP),
        };
        if target.iter().any(|byte| byte.is_ascii() && !byte.is_ascii_graphic()) {
            return Err(BAD_TARGET);
        }
        let (authority, target) = match target.first() {
            Some(b'/') => (None, target),
            // Asterisk form, for the server as a whole.
            Some(b'*') if method == b"OPTIONS" && target.len() == 1 => (None, target),
            // Authority form, which goes on because its method is refused by name.
            Some(_) if method == b"CONNECT" => (None, target),
            _ => split_absolute(target).map(|(authority, rest)| (Some(authority), rest)).ok_or(BAD_TARGET)?,
        };
        Ok(RequestLine { method, authority, target, is_1_1 })
    }

    fn write(&self, forwarded: &mut Vec<u8>) {
        forwarded.extend_from_slice(self.method);
        forwarded.push(b' ');
        if self.authority.is_some() && !self.target.starts_with(b"/") {
            forwarded.push(b'/');
        }
        for byte in self.target {
            match byte {
                0x80.. => forwarded.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                _ => forwarded.push(*byte),
            }
        }
        forwarded.extend_from_slice(if self.is_1_1 { b" HTTP/1.1" } else { b" HTTP/1.0" });
    }
}

/// The facts about a request that its header fields decide.
#[derive(Default)]
struct Fields<'a> {
    hosts: usize,
    close: bool,
    keep_alive: bool,
    length: Option<&'a [u8]>,
    is_chunked: bool,
    has_body: bool,
}

impl<'a> Fields<'a> {
    fn note(&mut self, name: &[u8], value: &'a [u8]) -> Result<(), Refusal> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("Host") {
            self.hosts += 1;
        } else if is("Connection") {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if is("Content-Length") {
            let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            if !is_number || self.length.is_some_and(|other| other != value) {
                return Err(BAD_LENGTH);
            }
            self.length = Some(value);
            self.has_body |= value.iter().any(|digit| *digit != b'0');
        } else if is("Transfer-Encoding") {
            self.is_chunked = true;
            self.has_body = true;
        }
        // Both together are how a request is smuggled past a proxy (RFC 9112 §6.3).
        if self.is_chunked && self.length.is_some() { Err(BAD_LENGTH) } else { Ok(()) }
    }
}

/// Splits `http://host:port/path` into host with port and the rest, which may be empty.
fn split_absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let after = |scheme: &str| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    };
    let rest = after("http://").or_else(|| after("https://"))?;
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    // A user in front of the host is nothing that this server could use.
    (!authority.is_empty() && !authority.contains(&b'@')).then_some((authority, rest))
}

fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(BAD_FIELD)?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let is_text = value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
    if is_token(name) && is_text { Ok((name, value)) } else { Err(BAD_FIELD) }
}

/// Writes a field. tiny_http ends the connection for a byte above 0x7F, so that such a byte becomes `?`.
fn write_field(forwarded: &mut Vec<u8>, name: &str, value: &[u8]) {
    forwarded.extend_from_slice(name.as_bytes());
    forwarded.extend_from_slice(b": ");
    forwarded.extend(value.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }));
    forwarded.extend_from_slice(b"\r\n");
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// Returns `true` for a byte of a method or of a field's name (`tchar`, RFC 9110 §5.6.2).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
