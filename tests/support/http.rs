//! An HTTP client that hides nothing: what was sent back, when, and how it ended.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::PATIENCE;

/// Connects, with time limits on everything.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Connects with a receive buffer of at most so many bytes (the kernel doubles that for its own bookkeeping), so
/// that the server soon feels a client that does not read.
pub(crate) fn connect_narrow(address: SocketAddr, receive_buffer: usize) -> TcpStream {
    // Not for the daemons that other tests start meanwhile.
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .expect("a socket");
    // Before it connects: the window that is offered then is never taken back.
    sockopt::set_socket_recv_buffer_size(&socket, receive_buffer).expect("a buffer");
    net::connect(&socket, &address).expect("it listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// The text of a request without a body.
pub(crate) fn request_text(
    address: SocketAddr,
    method: &str,
    target: &str,
    version: &str,
    headers: &[(&str, &str)],
) -> String {
    let mut text = format!("{method} {target} HTTP/{version}\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        text += &format!("Host: {address}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

/// Sends a request and returns once the head of its answer is there.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    version: &str,
    headers: &[(&str, &str)],
) -> Response {
    let mut stream = connect(address);
    let text = request_text(address, method, target, version, headers);
    stream.write_all(text.as_bytes()).expect("the request is sent");
    Response::read(stream, method == "HEAD")
}

/// An answer, whose body is read as it comes.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
}

/// A body without its framing.
pub(crate) struct Body {
    stream: BufReader<TcpStream>,
    framing: Framing,
    /// Whether it ended as its framing says it ends, and not by being cut.
    complete: bool,
}

enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes are left of this chunk.
    Chunked(u64),
    /// Until the connection ends.
    Close,
}

impl Response {
    /// Reads the head of an answer.
    pub(crate) fn read(stream: TcpStream, to_head: bool) -> Response {
        Response::next(BufReader::with_capacity(256 * 1024, stream), to_head)
    }

    /// Reads the head of the next answer on a connection that was used before.
    pub(crate) fn next(mut stream: BufReader<TcpStream>, to_head: bool) -> Response {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a status line");
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {line:?}"));
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).expect("a header");
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
                None => break,
            }
        }
        let mut response =
            Response { status, headers, body: Body { stream, framing: Framing::Close, complete: false } };
        response.body.framing =
            match (to_head, response.header("transfer-encoding"), response.header("content-length")) {
                (true, _, _) => Framing::Length(0),
                (_, Some("chunked"), _) => Framing::Chunked(0),
                (_, _, Some(length)) => Framing::Length(length.parse().expect("a length")),
                _ => Framing::Close,
            };
        response
    }

    /// A header's value; its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Status and headers as they came, but for the Date.
    pub(crate) fn head(&self) -> (u16, Vec<(String, String)>) {
        let headers = self.headers.iter().filter(|(name, _)| name != "date");
        (self.status, headers.cloned().collect())
    }

    /// The rest of the body, and the connection after it.
    pub(crate) fn finish(mut self) -> (String, BufReader<TcpStream>) {
        let mut text = String::new();
        self.body.read_to_string(&mut text).expect("a text");
        (text, self.body.stream)
    }

    /// The whole body as text.
    pub(crate) fn text(mut self) -> String {
        let mut text = String::new();
        self.body.read_to_string(&mut text).expect("a text");
        text
    }

    /// So many bytes of the body.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.body.read_exact(&mut bytes).expect("the stream goes on");
        bytes
    }
}

impl Body {
    /// Whether it ended as its framing says.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The bytes of the next chunk: what one send of the server brought.
    pub(crate) fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 1];
        if self.read(&mut bytes)? == 0 {
            return Ok(Vec::new());
        }
        if let Framing::Chunked(left) = self.framing {
            bytes.resize(1 + left as usize, 0);
            self.read_exact(&mut bytes[1..])?;
        }
        Ok(bytes)
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.complete || out.is_empty() {
            return Ok(0);
        }
        if let Framing::Chunked(0) = self.framing {
            let size = self.line()?;
            let size = u64::from_str_radix(&size, 16)
                .map_err(|_| io::Error::new(io::ErrorKind::UnexpectedEof, format!("chunk size {size:?}")))?;
            if size == 0 {
                self.line()?;
                self.complete = true;
                return Ok(0);
            }
            self.framing = Framing::Chunked(size);
        }
        let most = match self.framing {
            Framing::Length(left) | Framing::Chunked(left) => left.min(out.len() as u64) as usize,
            Framing::Close => out.len(),
        };
        let count = if most == 0 { 0 } else { self.stream.read(&mut out[..most])? };
        match &mut self.framing {
            Framing::Length(left) => {
                *left -= count as u64;
                self.complete = *left == 0;
            }
            Framing::Chunked(left) => {
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= count as u64;
                if *left == 0 {
                    let end = self.line()?;
                    assert_eq!(end, "", "a chunk ends with an empty line");
                }
            }
            Framing::Close => self.complete = count == 0,
        }
        Ok(count)
    }
}
