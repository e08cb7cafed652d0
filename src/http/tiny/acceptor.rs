//! tiny_http, started as often as it takes.
//!
//! tiny_http 0.12 accepts connections in one thread, and that ends for good with the first error of accept()
//! (no descriptors left, a connection that was reset at the wrong moment) and with the first panic inside (no
//! thread to be had). Nobody is told of a panic. But the listening socket that it was given is closed by that,
//! and whether a descriptor is still open can be asked. So it is given a duplicate each time, and started anew on
//! another one when it is dead. What the dead one had accepted goes on: those threads live, and their requests are
//! taken for as long as there may be any.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tiny_http::Request;

use crate::sys::{panics, threads, tiny};

/// Where requests go.
pub(crate) type Take = Arc<dyn Fn(Request) + Send + Sync>;

/// What a dead acceptor had accepted may ask for so long; who idles for longer is disconnected anyway, unless the
/// configuration is generous.
const LAST_REQUEST: Duration = Duration::from_secs(120);
/// As long as there are dead ones, requests are looked for this often.
const ROUND: Duration = Duration::from_millis(20);

/// What tiny_http takes for itself, and some to spare: the thread that accepts, four that wait for connections.
const OWN_THREADS: usize = 6;
const OWN_DESCRIPTORS: usize = 6;
/// tiny_http holds a connection twice, and whoever answers it once more.
const CONNECTION_DESCRIPTORS: usize = 3;
/// Of a thread that only waits.
const PROBE_STACK: usize = 16 * 1024;

/// tiny_http on one listening socket.
pub(crate) struct Acceptor(Arc<Servers>);

struct Servers {
    state: Mutex<State>,
}

struct State {
    /// The one that accepts, and the descriptor that it listens with.
    current: Option<(Arc<tiny_http::Server>, RawFd, u64)>,
    /// Those that do not any more, and since when.
    dead: Vec<(Arc<tiny_http::Server>, Instant)>,
    /// What ended the last one, if it said so.
    problem: Option<String>,
}

impl Acceptor {
    /// Starts it on a duplicate of that socket, and a thread that takes what it receives.
    ///
    /// # Errors
    ///
    /// When the operating system has no descriptor or no thread for it.
    pub(crate) fn start(listener: &TcpListener, take: Take) -> io::Result<Acceptor> {
        let state = Mutex::new(State { current: None, dead: Vec::new(), problem: None });
        let acceptor = Acceptor(Arc::new(Servers { state }));
        acceptor.again(listener)?;
        let servers = Arc::clone(&acceptor.0);
        // Without it nothing is taken, and the acceptor ends with its socket.
        threads::start("http", None, move || servers.receive(&take))?;
        Ok(acceptor)
    }

    /// Starts it again.
    ///
    /// # Errors
    ///
    /// As in [`start`](Self::start).
    pub(crate) fn again(&self, listener: &TcpListener) -> io::Result<()> {
        let own = listener.try_clone()?;
        let (number, cookie) = (own.as_raw_fd(), sockopt::socket_cookie(&own)?);
        // It panics where it gets no thread.
        let http = catch_unwind(AssertUnwindSafe(|| tiny_http::Server::from_listener(own, None)));
        let http = match http {
            Ok(http) => http.map_err(io::Error::other)?,
            Err(_) => return Err(io::Error::other(panics::last().unwrap_or_default())),
        };
        let mut state = self.0.lock();
        state.retire();
        state.current = Some((Arc::new(http), number, cookie));
        Ok(())
    }

    /// Whether it accepts, or will.
    pub(crate) fn lives(&self) -> bool {
        self.0.lock().current.as_ref().is_some_and(|(_, number, cookie)| {
            tiny::with_descriptor(*number, |socket| sockopt::socket_cookie(socket)) == Ok(*cookie)
        })
    }

    /// Why it died, as far as is known.
    pub(crate) fn problem(&self) -> String {
        let told = self.0.lock().problem.take();
        told.or_else(panics::last).unwrap_or_else(|| "it did not say why".to_owned())
    }

    /// Accepts no more, as soon as its socket gives it a reason.
    pub(crate) fn close(&self) {
        self.0.lock().retire();
    }
}

/// Whether there are descriptors and threads for an acceptor that lets so many in. Without them it would only die again,
/// and leave four threads behind for five seconds each time.
///
/// # Errors
///
/// What there is too little of.
pub(crate) fn is_worth_it(connections: usize) -> io::Result<()> {
    let descriptors: io::Result<Vec<OwnedFd>> = (0..OWN_DESCRIPTORS + CONNECTION_DESCRIPTORS * connections)
        .map(|_| rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).map_err(Into::into))
        .collect();
    drop(descriptors?);
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let threads: io::Result<Vec<_>> = (0..OWN_THREADS + connections)
        .map(|_| {
            let held = held.clone();
            let wait = move || {
                let _ = held.recv();
            };
            threads::start("probe", Some(PROBE_STACK), wait)
        })
        .collect();
    drop(hold);
    for thread in threads? {
        let _ = thread.join();
    }
    Ok(())
}

impl State {
    fn retire(&mut self) {
        if let Some((http, ..)) = self.current.take() {
            // Whoever waits in recv() looks up.
            http.unblock();
            self.dead.push((http, Instant::now()));
        }
    }
}

impl Servers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what comes, as long as something can.
    fn receive(&self, take: &Take) {
        let take = |request| {
            // One request's trouble is not the others'.
            let _ = catch_unwind(AssertUnwindSafe(|| take(request)));
        };
        loop {
            let (current, dead) = {
                let mut state = self.lock();
                state.dead.retain(|(_, died)| died.elapsed() < LAST_REQUEST);
                let dead: Vec<_> = state.dead.iter().map(|(http, _)| Arc::clone(http)).collect();
                (state.current.as_ref().map(|(http, ..)| Arc::clone(http)), dead)
            };
            // As long as nothing changes there is one to wait for, and nothing else to look at.
            match current {
                Some(http) if dead.is_empty() => match http.recv() {
                    Ok(request) => take(request),
                    Err(error) => self.note(&http, &error),
                },
                Some(http) => match http.recv_timeout(ROUND) {
                    Ok(request) => request.into_iter().for_each(take),
                    Err(error) => self.note(&http, &error),
                },
                None if dead.is_empty() => return,
                None => thread::sleep(ROUND),
            }
            for http in dead {
                while let Ok(Some(request)) = http.try_recv() {
                    take(request);
                }
            }
        }
    }

    /// Its acceptor has ended; what it has accepted goes on to ask.
    fn note(&self, http: &Arc<tiny_http::Server>, error: &io::Error) {
        let mut state = self.lock();
        let is_current = state.current.as_ref().is_some_and(|(current, ..)| Arc::ptr_eq(current, http));
        if is_current && error.to_string() != "thread unblocked" {
            state.problem = Some(error.to_string());
        }
    }
}
