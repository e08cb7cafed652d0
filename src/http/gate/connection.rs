//! A client's connection, its place among all connections, and the message by which both return to the gate.
//!
//! A handler has a [`Connection`]: the right and the duty to answer one request. The gate's thread has the same
//! connection as a [`Client`].

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::head::{EndSearch, Head};
use super::listen::ListenerId;
use super::mailbox::Mailbox;
use super::policy::Policy;
use crate::sys::client_key::ClientKey;

/// A client's connection that waits for the answer to its request.
///
/// The connection is owned by one at a time: the gate, then the handler, then the gate again or a stream. A
/// connection that is dropped without an answer, by a handler that panics for example, is closed, and its
/// place is free.
pub struct Connection {
    id: u64,
    client: Client,
}

impl Connection {
    pub(super) fn new(id: u64, client: Client) -> Connection {
        Connection { id, client }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn into_client(self) -> Client {
        self.client
    }

    /// The client's address and port.
    pub fn peer(&self) -> SocketAddr {
        self.client.peer
    }

    /// Returns the server's own address of this connection.
    ///
    /// # Errors
    ///
    /// When the operating system does not know it any more.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.client.socket.local_addr()
    }

    /// Returns `true` if the connection ends after this answer. [`answer`](Connection::answer) says so to the
    /// client.
    pub fn closes(&self) -> bool {
        self.client.closes
    }

    /// Sends a whole answer, head included, and returns the connection to the gate.
    ///
    /// The answer gets the field `Connection` that it needs, unless the handler wrote one: tiny_http writes
    /// none.
    ///
    /// Never waits. The gate sends the bytes that the kernel has no room for, for up to 10 s without progress.
    /// An answer is short (below 1 MiB): the gate keeps 4 MB of unsent bytes for all clients together.
    pub fn answer(self, bytes: Vec<u8>) {
        let mut unsent = with_connection_field(bytes, self.connection_option());
        match send(&self.client.socket, &unsent, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            // With the memory of the rest alone: the rest may wait, and an idle connection keeps nothing.
            Ok(sent) => unsent = unsent.split_off(sent),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The client is gone. Dropping the connection gives its place back.
            Err(_) => return,
        }
        let mailbox = Arc::clone(&self.client.place.mailbox);
        mailbox.send(Message::Answered(self, unsent));
    }

    /// Sends a whole answer that says `Connection: close`, and has the gate end the connection after it.
    pub fn answer_and_close(mut self, bytes: Vec<u8>) {
        self.client.closes = true;
        self.answer(bytes);
    }

    /// Returns the value of the answer's `Connection` field, if it needs one.
    fn connection_option(&self) -> Option<&'static str> {
        match (self.client.closes, self.client.is_1_0) {
            (true, _) => Some("close"),
            (false, true) => Some("keep-alive"),
            (false, false) => None,
        }
    }

    /// Takes the socket out of the gate, for an answer without an end or of any length.
    ///
    /// The socket blocks, as [`TcpStream`] usually does. The connection keeps its place among those that
    /// there may be until [`Place`] is dropped. What the client sends on the socket is not read any more.
    pub fn into_stream(self) -> (TcpStream, Place) {
        let Client { socket, mut place, .. } = self.client;
        // Otherwise each packet of the client would wake the gate's thread.
        let _ = epoll::delete(&place.mailbox.epoll, &socket);
        // Can only fail for a descriptor that is none.
        let _ = socket.set_nonblocking(false);
        let handler = Released { client: None, ..place.released() };
        (place.is_in_flight, place.is_with_handler) = (false, false);
        place.mailbox.send(Message::Released(handler));
        (socket, place)
    }

    /// Lets the gate pass on another request in place of this one, although this one has no answer yet.
    ///
    /// For a handler that waits: for a password to be checked, for a card to be opened.
    pub fn release_in_flight(&mut self) {
        let place = &mut self.client.place;
        if std::mem::replace(&mut place.is_in_flight, false) {
            let released = Released { client: None, in_flight: true, with_handler: false };
            place.mailbox.send(Message::Released(released));
        }
    }
}

/// Adds a `Connection` field to an answer that has none, as the first field.
fn with_connection_field(answer: Vec<u8>, option: Option<&str>) -> Vec<u8> {
    const LINE_END: &[u8] = b"\r\n";
    let Some(option) = option else { return answer };
    let mut lines = answer.split_inclusive(|byte| *byte == b'\n').take_while(|line| *line != LINE_END);
    let Some(first) = lines.next().filter(|line| line.ends_with(LINE_END)) else { return answer };
    let name = b"connection:";
    if lines.any(|line| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))) {
        return answer;
    }
    [first, format!("Connection: {option}\r\n").as_bytes(), &answer[first.len()..]].concat()
}

/// The place of a connection among those that there may be. It is free again when this is dropped.
pub struct Place {
    pub(super) mailbox: Arc<Mailbox<Message>>,
    pub(super) client: ClientKey,
    /// The request counts as one of those inside tiny_http and its handlers at once.
    pub(super) is_in_flight: bool,
    /// The request has no answer yet.
    pub(super) is_with_handler: bool,
    /// The gate's thread has counted the place as free already.
    is_counted: bool,
}

/// The counts that a place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Released {
    /// The client that has one connection less.
    pub(super) client: Option<ClientKey>,
    pub(super) in_flight: bool,
    pub(super) with_handler: bool,
}

impl Place {
    pub(super) fn new(mailbox: &Arc<Mailbox<Message>>, client: ClientKey) -> Place {
        Place {
            mailbox: Arc::clone(mailbox),
            client,
            is_in_flight: false,
            is_with_handler: false,
            is_counted: false,
        }
    }

    /// Gives up the place, and returns the counts for the gate's thread to subtract at once.
    pub(super) fn release(mut self) -> Released {
        self.is_counted = true;
        self.released()
    }

    fn released(&self) -> Released {
        Released {
            client: Some(self.client),
            in_flight: self.is_in_flight,
            with_handler: self.is_with_handler,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_counted {
            self.mailbox.send(Message::Released(self.released()));
        }
    }
}

/// A client's connection.
pub(super) struct Client {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) listener: ListenerId,
    pub(super) place: Place,
    pub(super) phase: Phase,
    /// The time since which the client is quiet: it connected, got its last answer, or took some bytes of an
    /// answer.
    pub(super) quiet_since: Instant,
    /// The time at which the gate stops waiting for the client. `None` while a request waits for its turn.
    pub(super) deadline: Option<Instant>,
    /// Bytes that were read and belong to no request that was passed on. At most `header_bytes`.
    pub(super) unread: Vec<u8>,
    pub(super) search: EndSearch,
    /// CR and LF bytes that were skipped in front of the request.
    pub(super) skipped: usize,
    /// The client has made a request on this connection.
    pub(super) has_asked: bool,
    /// The connection ends after the answer.
    pub(super) closes: bool,
    /// The request has the version HTTP/1.0.
    pub(super) is_1_0: bool,
    /// The rest of the answer.
    pub(super) unsent: Vec<u8>,
}

/// A stage of a connection.
#[derive(Debug)]
pub(super) enum Phase {
    /// The gate reads a request.
    Reading,
    /// The request waits for its turn.
    Queued(Head),
    /// The client has not taken the whole answer. Nothing is read meanwhile.
    Writing,
    /// The answer was sent, with the end of the connection. So many bytes of what the client still sends are
    /// read and discarded: a connection that is closed with unread bytes is reset, and a reset can overtake
    /// the answer.
    Lingering(usize),
}

impl Client {
    pub(super) fn new(
        socket: TcpStream,
        peer: SocketAddr,
        listener: ListenerId,
        place: Place,
        now: Instant,
    ) -> Client {
        Client {
            socket,
            peer,
            listener,
            place,
            phase: Phase::Reading,
            quiet_since: now,
            deadline: None,
            unread: Vec::new(),
            search: EndSearch::default(),
            skipped: 0,
            has_asked: false,
            closes: false,
            is_1_0: false,
            unsent: Vec::new(),
        }
    }

    /// Returns `true` between two requests: nothing of the next one has arrived.
    pub(super) fn is_between_requests(&self) -> bool {
        matches!(self.phase, Phase::Reading) && self.has_asked && self.unread.is_empty()
    }

    /// Returns `true` if the connection may be ended to make room for another one.
    pub(super) fn is_idle(&self) -> bool {
        !matches!(self.phase, Phase::Queued(_))
    }
}

/// A message to the gate's thread.
pub(super) enum Message {
    /// A connection whose answer was sent except for these bytes.
    Answered(Connection, Vec<u8>),
    /// Something that a handler or a listener held and gives back.
    Released(Released),
    Open(TcpListener, Sender<io::Result<ListenerId>>),
    Close(ListenerId, Sender<()>),
    HandOver(ListenerId, Sender<()>),
    IsIdle(Sender<bool>),
    SetPolicy(Policy, Sender<()>),
    /// Nothing but a turn of the thread.
    Ping,
    /// Ends a connection to tiny_http, as a bug there would.
    #[cfg(test)]
    BreakLink,
    /// Panics in the gate's thread.
    #[cfg(test)]
    Panic,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_one_connection_field_at_the_most() {
        for (answer, option, expected) in [
            ("HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody", None, "HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"),
            (
                "HTTP/1.1 200 OK\r\nA: b\r\n\r\nconnection: x",
                Some("close"),
                "HTTP/1.1 200 OK\r\nConnection: close\r\nA: b\r\n\r\nconnection: x",
            ),
            (
                "HTTP/1.1 204 No Content\r\n\r\n",
                Some("close"),
                "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
            ),
            (
                "HTTP/1.0 200 OK\r\nA: b\r\nconnection: close\r\n\r\n",
                Some("keep-alive"),
                "HTTP/1.0 200 OK\r\nA: b\r\nconnection: close\r\n\r\n",
            ),
            ("", Some("close"), ""),
        ] {
            let found = with_connection_field(answer.as_bytes().to_vec(), option);
            assert_eq!(String::from_utf8_lossy(&found), expected);
        }
    }
}
