//! The gate: one thread that owns the public sockets, in front of tiny_http.
//!
//! ```text
//!            gate thread (epoll)                  tiny_http (4 threads, sealed socket)   workers (4)
//!  client ──▶ accept, limits, read a head ──▶ checked head ──▶ parse ──▶ Request ──▶ handler ─┬─▶ answer()
//!               ▲                                                                            └─▶ into_stream()
//!               └───────────────── connection and unsent bytes, or a free place ◀────────────┘
//! ```
//!
//! A client costs one descriptor and at most `header_bytes`, and no thread, until its request is complete.
//! tiny_http gets complete, checked heads only ([`head`]), over four connections that are made once
//! (`inner_server`). So the bytes of a client reach none of the ways in which tiny_http waits, allocates or
//! ends.
//!
//! A connection is one value that moves: gate, then handler ([`Connection`]), then gate again, or a stream
//! for good. Nothing looks a connection up that another thread uses. A handler that panics gives everything
//! back, because the value is dropped.
//!
//! # The thread
//!
//! The gate's thread waits for epoll_wait(2) and for nothing else: each send and receive is non-blocking,
//! other threads talk to it through a mailbox whose lock is held for single operations, and a thread of its
//! own writes its log lines. Each event and message has its own `catch_unwind`. [`Gate::heartbeats`] counts
//! turns for the watchdog.
//!
//! Listeners are level-triggered, connections edge-triggered: one epoll_ctl(2) per connection, none per
//! request. After a connection comes back, the gate sends or reads before it waits, because the edge may have
//! passed meanwhile.
//!
//! # The limits
//!
//! | limit | set by | beyond it |
//! |---|---|---|
//! | connections of all clients | `connections` | the client with the most loses its oldest idle one, or its last queued request: 503 |
//! | connections of one client | `connections_per_address` | its oldest idle one is ended with 503, or else the new one |
//! | requests of one client | `requests_per_second`, `request_burst` | new connections are reset, requests wait |
//! | requests inside tiny_http and handlers | 16 | requests wait, clients take turns |
//! | length of a head | `header_bytes` | 431 |
//! | time for a head | `request_seconds` | 408 |
//! | time between two requests | `idle_seconds` | closed |
//! | time without progress of an answer | 10 s | closed |
//! | bytes of answers that nobody takes | 4 MB | the client without progress for the longest time is closed |
//! | descriptors of the process | | an idle connection is ended; or else 503, and a pause of 20 ms |
//!
//! A client is a [`ClientKey`](crate::sys::client_key::ClientKey). Trusted proxies have no limit per client,
//! since all the world comes through them; neither have clients on this machine, unless the configuration
//! gives a number.

mod admission;
mod connection;
mod event_loop;
mod forwarding;
pub mod head;
mod inner_server;
mod limits;
pub mod listen;
mod mailbox;
mod parsing;
mod policy;
mod refusal;
mod requests;
mod state;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};

pub use connection::{Connection, Place};
pub use inner_server::Request;
pub use listen::ListenerId;
pub use policy::Policy;
pub use refusal::Refusal;

use crate::http::refusal_log::RefusalLog;
use connection::Message;
use event_loop::EventLoop;
use inner_server::OnRequest;
use mailbox::Mailbox;
use parsing::Parsing;
use state::{State, WAKE};

/// The time in which the gate's thread answers a question. It needs microseconds, but a starved machine runs
/// no thread for seconds.
const REPLY_TIME: Duration = Duration::from_secs(10);

/// A handle to a running gate.
#[derive(Clone)]
pub struct Gate {
    mailbox: Arc<Mailbox<Message>>,
}

impl Gate {
    /// Starts the gate's thread, tiny_http behind it, and four workers that call `handle` with each request.
    ///
    /// A worker that waits is missing to all others: `handle` does nothing slow by itself. It moves the
    /// connection into a thread for that, after [`Connection::release_in_flight`]. All threads live as long
    /// as the process.
    ///
    /// # Errors
    ///
    /// When the operating system has no thread or no descriptor left.
    pub(crate) fn start(
        policy: Policy,
        log: RefusalLog,
        handle: impl Fn(Request, Connection) + Send + Sync + 'static,
    ) -> io::Result<Gate> {
        let mailbox = Mailbox::new(WAKE)?;
        let parsing = Arc::<Parsing>::default();
        let parsed = Arc::clone(&parsing);
        let on_request: OnRequest = Arc::new(move |request: Request| {
            let field = request.headers().iter().find(|header| header.field.equiv(head::CONNECTION_FIELD));
            let id = field.and_then(|field| field.value.as_str().parse().ok());
            // None for a request that was inside a tiny_http which has ended: its connection was closed.
            if let Some(connection) = id.and_then(|id| parsed.claim(id)) {
                handle(request, connection);
            }
        });
        let event_loop = EventLoop::new(State::new(&mailbox, &parsing, policy, &log, on_request))?;
        thread::Builder::new().name("gate".to_owned()).spawn(move || event_loop.run())?;
        Ok(Gate { mailbox })
    }

    /// Accepts clients on a listening socket that [`listen::bind`] or [`listen::prepare`] made.
    ///
    /// # Errors
    ///
    /// When the socket cannot be waited for.
    pub fn open(&self, listener: TcpListener) -> io::Result<ListenerId> {
        self.ask(|reply| Message::Open(listener, reply))
            .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Closes a listening socket, and ends its connections that are between two requests.
    ///
    /// The other connections end after their answers; streams go on. On return the gate's descriptor is
    /// closed: the address is free, unless there is a duplicate elsewhere.
    pub fn close(&self, id: ListenerId) {
        self.ask(|reply| Message::Close(id, reply));
    }

    /// Stops accepting on a listening socket, which stays open.
    ///
    /// From the return on, new connections wait in the socket for the next process that has it. Those that
    /// were accepted are served.
    pub fn hand_over(&self, id: ListenerId) {
        self.ask(|reply| Message::HandOver(id, reply));
    }

    /// Returns `true` if no client waits for an answer, and no client that connected within the last 500 ms
    /// is about to ask.
    ///
    /// Streams do not count, nor does anything else that was taken out of the gate.
    pub fn is_idle(&self) -> bool {
        self.ask(Message::IsIdle).unwrap_or(false)
    }

    /// Replaces the rules. They hold for all that happens from the return on.
    pub fn set_policy(&self, policy: Policy) {
        self.ask(|reply| Message::SetPolicy(policy, reply));
    }

    /// Returns the number of turns of the gate's thread, and has it make one.
    ///
    /// A thread that lives has made another one by the next call, some milliseconds later. Without this it
    /// would sleep while nobody comes.
    pub fn heartbeats(&self) -> u64 {
        self.mailbox.send(Message::Ping);
        self.mailbox.turns()
    }

    /// Returns the number of connections that have a place, streams included.
    pub fn connections(&self) -> usize {
        self.mailbox.connections.load(Ordering::Relaxed)
    }

    /// Sends a question to the gate's thread, and waits for the reply. `None` if the thread did not reply.
    fn ask<T>(&self, question: impl FnOnce(Sender<T>) -> Message) -> Option<T> {
        let (sender, receiver) = bounded(1);
        self.mailbox.send(question(sender));
        receiver.recv_timeout(REPLY_TIME).ok()
    }
}
