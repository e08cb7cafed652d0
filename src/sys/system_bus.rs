//! A small client of the system bus (D-Bus): it calls methods and waits for their answers, and no more.
//!
//! The daemon talks to Avahi this way. A complete D-Bus library is larger than the rest of the program; the part of the
//! protocol that is needed here is its header, strings, numbers and lists.
//! <https://dbus.freedesktop.org/doc/dbus-specification.html>

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The socket of the system bus.
pub const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// The longest wait for an answer, per read. The main thread calls, and the watchdog waits for longer.
const TIMEOUT: Duration = Duration::from_millis(1000);
/// The largest message that is read, in bytes. Answers are shorter than 1 KiB.
const MAX_MESSAGE: usize = 1 << 16;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
/// The flag that keeps the bus from starting the called service.
const NO_AUTO_START: u8 = 2;
const LITTLE_ENDIAN: u8 = b'l';

/// A connection to the system bus.
pub struct Bus {
    stream: UnixStream,
    serial: u32,
}

/// The method to call.
pub struct Method<'a> {
    /// The bus name of the service.
    pub service: &'a str,
    /// The path of the object.
    pub object: &'a str,
    /// The interface of the method.
    pub interface: &'a str,
    /// The name of the method.
    pub name: &'a str,
}

impl Bus {
    /// Connects to the bus at `socket`, as the user of this process.
    ///
    /// # Errors
    /// There is no bus, it refuses this user, or it does not answer in time.
    pub fn connect(socket: &Path) -> io::Result<Bus> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 512 {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            line.extend(byte);
        }
        if !line.starts_with(b"OK ") {
            return Err(io::Error::other("the system bus refuses this user"));
        }
        stream.write_all(b"BEGIN\r\n")?;
        let mut bus = Bus { stream, serial: 0 };
        let bus_name = "org.freedesktop.DBus";
        let hello =
            Method { service: bus_name, object: "/org/freedesktop/DBus", interface: bus_name, name: "Hello" };
        bus.call(&hello, Body::default())?;
        Ok(bus)
    }

    /// Calls a method, and returns the body of its answer.
    ///
    /// # Errors
    /// The connection fails, the answer takes too long, or it is an error: its text is that of the error.
    pub fn call(&mut self, method: &Method<'_>, body: Body) -> io::Result<Answer> {
        self.serial += 1;
        self.stream.write_all(&message(method, self.serial, body))?;
        // Signals and answers to earlier calls come between.
        for _ in 0..100 {
            let (kind, answers, answer) = self.read()?;
            match kind {
                METHOD_RETURN if answers == self.serial => return Ok(answer),
                ERROR if answers == self.serial => {
                    return Err(io::Error::other(answer.string().unwrap_or_default().to_owned()));
                }
                _ => {}
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Reads a message. Returns its type, the serial number that it answers, and its body.
    fn read(&mut self) -> io::Result<(u8, u32, Answer)> {
        let mut start = [0; 16];
        self.stream.read_exact(&mut start)?;
        let number = |at: usize| u32_at(&start, at).unwrap_or(u32::MAX) as usize;
        let (body, fields) = (number(4), number(12));
        let padded = fields.saturating_add(7) / 8 * 8;
        if start[0] != LITTLE_ENDIAN || body.saturating_add(padded) > MAX_MESSAGE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut rest = vec![0; padded + body];
        self.stream.read_exact(&mut rest)?;
        let answers = reply_serial(&rest[..fields]).unwrap_or(0);
        Ok((start[1], answers, Answer(rest.split_off(padded))))
    }
}

/// The body of an answer.
pub struct Answer(Vec<u8>);

impl Answer {
    /// Returns the string or object path with which the body begins.
    pub fn string(&self) -> Option<&str> {
        let length = u32_at(&self.0, 0)? as usize;
        std::str::from_utf8(self.0.get(4..4usize.checked_add(length)?)?).ok()
    }

    /// Returns the 32-bit number with which the body begins.
    pub fn int32(&self) -> Option<i32> {
        u32_at(&self.0, 0).map(|value| value as i32)
    }
}

/// The arguments of a call.
#[derive(Default)]
pub struct Body {
    signature: String,
    bytes: Vec<u8>,
}

impl Body {
    /// Adds an `i`.
    pub fn int32(mut self, value: i32) -> Body {
        self.signature.push('i');
        number(&mut self.bytes, value as u32);
        self
    }

    /// Adds a `u`.
    pub fn uint32(mut self, value: u32) -> Body {
        self.signature.push('u');
        number(&mut self.bytes, value);
        self
    }

    /// Adds a `q`.
    pub fn uint16(mut self, value: u16) -> Body {
        self.signature.push('q');
        align(&mut self.bytes, 2);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    /// Adds an `s`.
    pub fn string(mut self, value: &str) -> Body {
        self.signature.push('s');
        string(&mut self.bytes, value);
        self
    }

    /// Adds an `aay`: a list of texts as bytes.
    pub fn texts(mut self, values: &[&str]) -> Body {
        self.signature.push_str("aay");
        let mut list = Vec::new();
        for value in values {
            number(&mut list, value.len() as u32);
            list.extend(value.as_bytes());
        }
        number(&mut self.bytes, list.len() as u32);
        self.bytes.extend(list);
        self
    }
}

/// Returns a method call as it is sent.
fn message(method: &Method<'_>, serial: u32, body: Body) -> Vec<u8> {
    let mut fields = Vec::new();
    let texts = [
        (1, 'o', method.object),
        (2, 's', method.interface),
        (3, 's', method.name),
        (6, 's', method.service),
    ];
    for (code, kind, text) in texts {
        align(&mut fields, 8);
        fields.extend([code, 1, kind as u8, 0]);
        string(&mut fields, text);
    }
    if !body.signature.is_empty() {
        align(&mut fields, 8);
        // Signatures have a length of one byte.
        fields.extend([8, 1, b'g', 0, body.signature.len() as u8]);
        fields.extend(body.signature.as_bytes());
        fields.push(0);
    }
    let mut message = vec![LITTLE_ENDIAN, METHOD_CALL, NO_AUTO_START, 1];
    number(&mut message, body.bytes.len() as u32);
    number(&mut message, serial);
    number(&mut message, fields.len() as u32);
    message.extend(fields);
    align(&mut message, 8);
    message.extend(body.bytes);
    message
}

/// Returns the serial number of the call that a message answers, from its header fields.
fn reply_serial(fields: &[u8]) -> Option<u32> {
    const REPLY_SERIAL: u8 = 5;
    let mut at: usize = 0;
    loop {
        at = at.next_multiple_of(8);
        let (code, kind) = (*fields.get(at)?, *fields.get(at + 2)?);
        at += 4;
        match (code, kind) {
            (REPLY_SERIAL, b'u') => return u32_at(fields, at),
            (_, b'u') => at += 4,
            (_, b's' | b'o') => at += 4 + u32_at(fields, at)? as usize + 1,
            (_, b'g') => at += 1 + usize::from(*fields.get(at)?) + 1,
            _ => return None,
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn number(bytes: &mut Vec<u8>, value: u32) {
    align(bytes, 4);
    bytes.extend(value.to_le_bytes());
}

fn string(bytes: &mut Vec<u8>, value: &str) {
    number(bytes, value.len() as u32);
    bytes.extend(value.as_bytes());
    bytes.push(0);
}
