//! tiny_http, started as often as it takes.
//!
//! tiny_http 0.12 accepts connections in one thread, and that ends for good with the first error of accept()
//! (no descriptors left, a connection that was reset at the wrong moment) and with the first panic inside (no
//! thread to be had). Nobody is told of a panic. But the listening socket that it was given is closed by that,
//! and whether a descriptor is still open can be asked. So it is given a duplicate each time, and started anew on
//! another one when it is dead. What the dead one had accepted goes on: those threads live, and what they
//! receive is taken from it for as long as there may be something.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt;
use tiny_http::Request;

use crate::{os, panics};

/// Where requests go.
pub(super) type Take = Arc<dyn Fn(Request) + Send + Sync>;

/// So long does a connection wait for its next request at the most (`idle_seconds` is at most an hour, but a
/// connection that idles so long through the death of its acceptor is closed anyway, as idle).
const LAST_REQUEST: Duration = Duration::from_secs(60);

/// tiny_http on one listening socket.
pub(super) struct Acceptor {
    http: Arc<tiny_http::Server>,
    /// The descriptor that it listens with, and which socket that is.
    number: RawFd,
    cookie: u64,
    receiver: JoinHandle<()>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    retired: AtomicBool,
    /// What ended it, if it said so.
    problem: Mutex<Option<String>>,
}

impl Acceptor {
    /// Starts it on a duplicate of that socket.
    ///
    /// # Errors
    ///
    /// When the operating system has no descriptor or no thread for it.
    pub(super) fn start(listener: &TcpListener, take: Take) -> io::Result<Acceptor> {
        let own = listener.try_clone()?;
        let (number, cookie) = (own.as_raw_fd(), sockopt::socket_cookie(&own)?);
        // It panics where it gets no thread.
        let http = catch_unwind(AssertUnwindSafe(|| tiny_http::Server::from_listener(own, None)));
        let http = match http {
            Ok(http) => Arc::new(http.map_err(io::Error::other)?),
            Err(_) => return Err(io::Error::other(panics::last().unwrap_or_default())),
        };
        let shared = Arc::new(Shared::default());
        let (receiving, told) = (Arc::clone(&http), Arc::clone(&shared));
        let receiver = thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || receive(&receiving, &take, &told))
            .inspect_err(|_| http.unblock())?;
        Ok(Acceptor { http, number, cookie, receiver, shared })
    }

    /// Whether it accepts, or will.
    pub(super) fn lives(&self) -> bool {
        let cookie = os::with_descriptor(self.number, |socket| sockopt::socket_cookie(socket));
        cookie == Ok(self.cookie) && !self.receiver.is_finished()
    }

    /// Why it died, as far as is known.
    pub(super) fn problem(&self) -> String {
        let told = self.shared.problem.lock().unwrap_or_else(PoisonError::into_inner).take();
        told.or_else(panics::last).unwrap_or_else(|| "it did not say why".to_owned())
    }

    /// Accepts no more, as soon as its socket gives it a reason; takes what still comes from those that it has
    /// accepted, until there is nothing any more.
    pub(super) fn retire(self) {
        self.shared.retired.store(true, Ordering::Relaxed);
        self.http.unblock();
    }
}

/// Takes what comes, as long as something can.
fn receive(http: &tiny_http::Server, take: &Take, shared: &Shared) {
    let take = |request| {
        // One request's trouble is not the others'.
        let _ = catch_unwind(AssertUnwindSafe(|| take(request)));
    };
    while !shared.retired.load(Ordering::Relaxed) {
        match http.recv() {
            Ok(request) => take(request),
            Err(error) if error.to_string() == "thread unblocked" => {}
            // The acceptor's end; what it has accepted goes on to ask.
            Err(error) => {
                *shared.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
        }
    }
    loop {
        match http.recv_timeout(LAST_REQUEST) {
            Ok(Some(request)) => take(request),
            Ok(None) => return,
            Err(_) => {}
        }
    }
}
