//! An HTTP client that hides nothing: it shows heads, framing, the time of each piece, and the way a body ended.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::PATIENCE;

/// Connects, with [`PATIENCE`] as the timeout of every call.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Connects from the address `from`, with `patience` as the timeout of the connect and of each send. Returns `None` if
/// the connection is refused or takes longer.
pub(crate) fn connect_from(from: IpAddr, address: SocketAddr, patience: Duration) -> Option<TcpStream> {
    connect_with(Some(from), None, address, patience)
}

/// Connects with a receive buffer of at most `receive_buffer` bytes (the kernel doubles that for its own bookkeeping),
/// so that the server soon feels a client that does not read.
pub(crate) fn connect_narrow(address: SocketAddr, receive_buffer: usize) -> TcpStream {
    connect_with(None, Some(receive_buffer), address, PATIENCE).expect("it listens")
}

/// Connects like [`connect_from`] and [`connect_narrow`] together.
pub(crate) fn connect_with(
    from: Option<IpAddr>,
    receive_buffer: Option<usize>,
    address: SocketAddr,
    patience: Duration,
) -> Option<TcpStream> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    // CLOEXEC: the daemons that other tests start meanwhile must not inherit the socket.
    let socket: OwnedFd = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).ok()?;
    // The buffer is set before the connect, because a window that was offered is never taken back.
    if let Some(bytes) = receive_buffer {
        sockopt::set_socket_recv_buffer_size(&socket, bytes).ok()?;
    }
    if let Some(from) = from {
        net::bind(&socket, &SocketAddr::new(from, 0)).ok()?;
    }
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience)).ok()?;
    net::connect(&socket, &address).ok()?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

/// Returns the text of a request without a body.
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

/// Sends a request and returns once the head of its answer has come.
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

/// Ends a connection by a reset.
pub(crate) fn reset(stream: TcpStream) {
    // SO_LINGER with a time of zero makes close() send a reset.
    let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    drop(stream);
}

/// Sends bytes as they are and returns all that comes until the connection ends, as text.
pub(crate) fn answer_to(mut stream: TcpStream, bytes: &[u8]) -> String {
    // The server may end the connection before it has read all.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// An answer. Its body is read as it comes.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
}

/// The body of an answer, without its framing.
pub(crate) struct Body {
    stream: BufReader<TcpStream>,
    framing: Framing,
    /// `true` once the body has ended as its framing says, not by a cut.
    complete: bool,
}

enum Framing {
    /// A Content-Length, with the bytes that are left.
    Length(u64),
    /// Chunks, with the bytes that are left of the current one.
    Chunked(u64),
    /// A body that ends with the connection.
    Close,
}

impl Response {
    /// Reads the head of the first answer on a connection.
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

    /// Returns the value of a header field. `name` is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Returns the status and all header fields but the Date, in their order.
    pub(crate) fn head(&self) -> (u16, Vec<(String, String)>) {
        let headers = self.headers.iter().filter(|(name, _)| name != "date");
        (self.status, headers.cloned().collect())
    }

    /// Returns the rest of the body, and the connection after it.
    pub(crate) fn finish(mut self) -> (String, BufReader<TcpStream>) {
        let mut text = String::new();
        self.body.read_to_string(&mut text).expect("a text");
        (text, self.body.stream)
    }

    /// Returns the whole body as text.
    pub(crate) fn text(mut self) -> String {
        let mut text = String::new();
        self.body.read_to_string(&mut text).expect("a text");
        text
    }

    /// Returns the next `count` bytes of the body.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.body.read_exact(&mut bytes).expect("the stream goes on");
        bytes
    }
}

impl Body {
    /// Returns `true` once the body has ended as its framing says.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns the bytes of the next chunk, which is one send of the server; no bytes at the end of the body.
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

    /// Returns the socket.
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
