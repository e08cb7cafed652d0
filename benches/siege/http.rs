//! A small HTTP client: requests as text, the status of a short answer, and a decoder for endless WAV streams.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

/// Bytes of the WAV header of a 16-bit stereo stream.
const WAV_HEADER_BYTES: usize = 44;
/// Bytes of the longest head that [`StreamDecoder`] accepts.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Returns a GET request without a body, as text.
pub(crate) fn get(address: SocketAddr, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: siege\r\n\r\n")
}

/// Reads one whole answer and returns its status. An answer without a Content-Length ends with the connection.
pub(crate) fn read_answer(stream: &mut impl BufRead) -> io::Result<u16> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(malformed)?;
    let mut length = u64::MAX;
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(|_| malformed())?;
        }
    }
    let body = io::copy(&mut stream.take(length), &mut io::sink())?;
    if length != u64::MAX && body < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(status)
}

/// Returns the status in the first bytes of an answer.
pub(crate) fn status_of(answer: &[u8]) -> Option<u16> {
    let code = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?;
    std::str::from_utf8(code.get(..3)?).ok()?.parse().ok()
}

/// The reason why a client got no sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NoSound {
    /// An answer with this status, which is not 200.
    Status(u16),
    /// The connection was refused, reset or closed.
    Closed,
    /// No sound came within the timeout.
    Timeout,
}

impl fmt::Display for NoSound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoSound::Status(status) => status.fmt(f),
            NoSound::Closed => f.write_str("closed"),
            NoSound::Timeout => f.write_str("timeout"),
        }
    }
}

impl From<io::Error> for NoSound {
    fn from(error: io::Error) -> NoSound {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => NoSound::Timeout,
            _ => NoSound::Closed,
        }
    }
}

/// Connects from that address of the loopback, asks for a stream, and returns the time from before the connect to the given number of bytes of sound
/// behind the WAV header.
pub(crate) fn time_to_sound(
    source: Ipv4Addr,
    address: SocketAddr,
    sound_bytes: usize,
    timeout: Duration,
) -> Result<Duration, NoSound> {
    let began = Instant::now();
    let mut stream = connect_from(source, address, None, timeout)?;
    stream.set_nodelay(true)?;
    stream.write_all(get(address, "/live.wav").as_bytes())?;
    let (mut decoder, mut sound, mut buffer) = (StreamDecoder::default(), 0, [0; 4096]);
    while sound < sound_bytes {
        let left = timeout.checked_sub(began.elapsed()).filter(|left| !left.is_zero());
        stream.set_read_timeout(Some(left.ok_or(NoSound::Timeout)?))?;
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(NoSound::Closed);
        }
        decoder.decode(&buffer[..count], |bytes| sound += bytes.len())?;
    }
    Ok(began.elapsed())
}

/// Connects from that address. `receive_buffer`: its size in bytes, `None` for the system's own choice. `timeout` holds for
/// the connect and for each read and write.
pub(crate) fn connect_from(
    source: Ipv4Addr,
    target: SocketAddr,
    receive_buffer: Option<usize>,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if let Some(bytes) = receive_buffer {
        // Before the connect, which announces the window.
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    }
    net::bind(&socket, &SocketAddr::from((source, 0)))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(timeout))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(timeout))?;
    net::connect(&socket, &target)?;
    Ok(TcpStream::from(socket))
}

/// Removes the head, the chunked framing and the WAV header from a stream.
pub(crate) struct StreamDecoder {
    part: Part,
    /// The head as far as it was received.
    head: Vec<u8>,
    /// Bytes of the WAV header that are still to come.
    wav_header_left: usize,
}

/// The part of the stream that the next byte belongs to.
enum Part {
    Head,
    /// A chunk's size line: the value of its digits until now.
    ChunkSize(usize),
    /// A chunk's data: bytes left.
    ChunkData(usize),
    /// The line end after a chunk's data.
    ChunkEnd,
    /// A body without framing.
    Unframed,
}

impl Default for StreamDecoder {
    fn default() -> StreamDecoder {
        StreamDecoder { part: Part::Head, head: Vec::new(), wav_header_left: WAV_HEADER_BYTES }
    }
}

impl StreamDecoder {
    /// Takes received bytes and passes the bytes of sound in them to `sound`.
    ///
    /// # Errors
    ///
    /// When the answer's status is not 200, or the head is malformed.
    pub(crate) fn decode(&mut self, mut bytes: &[u8], mut sound: impl FnMut(&[u8])) -> Result<(), NoSound> {
        while let [first, rest @ ..] = bytes {
            match &mut self.part {
                Part::Head => {
                    self.head.push(*first);
                    bytes = rest;
                    if self.head.ends_with(b"\r\n\r\n") {
                        self.part = self.body_part()?;
                    } else if self.head.len() > MAX_HEAD_BYTES {
                        return Err(NoSound::Closed);
                    }
                }
                Part::ChunkSize(size) => {
                    bytes = rest;
                    match char::from(*first).to_digit(16) {
                        Some(digit) => *size = *size * 16 + digit as usize,
                        None if *first == b'\n' => self.part = Part::ChunkData(*size),
                        None => {}
                    }
                }
                Part::ChunkData(left) => {
                    let (data, rest) = bytes.split_at(bytes.len().min(*left));
                    bytes = rest;
                    *left -= data.len();
                    if *left == 0 {
                        self.part = Part::ChunkEnd;
                    }
                    self.pass_on(data, &mut sound);
                }
                Part::ChunkEnd => {
                    bytes = rest;
                    if *first == b'\n' {
                        self.part = Part::ChunkSize(0);
                    }
                }
                Part::Unframed => {
                    self.pass_on(bytes, &mut sound);
                    bytes = &[];
                }
            }
        }
        Ok(())
    }

    /// Reads the complete head and returns the part that follows.
    fn body_part(&self) -> Result<Part, NoSound> {
        match status_of(&self.head) {
            Some(200) => {}
            Some(status) => return Err(NoSound::Status(status)),
            None => return Err(NoSound::Closed),
        }
        let head = self.head.to_ascii_lowercase();
        let is_chunked = head.windows(26).any(|field| field == b"transfer-encoding: chunked");
        Ok(if is_chunked { Part::ChunkSize(0) } else { Part::Unframed })
    }

    fn pass_on(&mut self, data: &[u8], sound: &mut impl FnMut(&[u8])) {
        let header = data.len().min(self.wav_header_left);
        self.wav_header_left -= header;
        if header < data.len() {
            sound(&data[header..]);
        }
    }
}
