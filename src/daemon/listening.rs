//! The public sockets: bind, serve, replace on reload, try again, hand over to the next process.
//!
//! A reload never takes the daemon off the air. The new sockets are bound first; an old one is closed when every new one is
//! there. Where an old and a new address share a port, so that both cannot be bound at once, the old one is closed, and bound
//! again if the new one cannot be had. An address that cannot be had is logged once and tried again every few seconds.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::{error, info};

use super::preflight::PORT_ADVICE;
use super::start_error::StartError;
use super::systemd::{InheritedSockets, Service};
use crate::config::ListenAddr;
use crate::http::context::Context;
use crate::http::gate::{ListenerId, listen};
use crate::http::server::Server;
use crate::sys::host;

/// The time between two attempts to bind an address that cannot be had: short enough for a network that comes up, long
/// enough to cost nothing.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);
/// The longest time between two attempts to close old sockets for a new one: clients that wait in them are disconnected.
const MOST_ROOM_INTERVAL: Duration = Duration::from_secs(60);

/// The public sockets of the daemon, and the addresses that it should have.
pub(super) struct Listening {
    context: Arc<Context>,
    server: Server,
    sockets: Vec<PublicSocket>,
    missing: Vec<Missing>,
    /// The time of the next attempt to bind the missing addresses.
    retry_at: Option<Instant>,
    /// The time of the next attempt for which old sockets are closed, and the interval to the one after it. `None` before the
    /// first one since a reload.
    make_room: Option<(Instant, Duration)>,
}

/// A socket that is served.
struct PublicSocket {
    origin: Origin,
    id: ListenerId,
    address: SocketAddr,
    /// The addresses for people that were logged last.
    urls: Vec<String>,
    /// `true` if the configuration does not name it any more; it stays until the new sockets are there.
    leaving: bool,
}

/// The source of a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The configuration names its address.
    Configured(ListenAddr),
    /// A socket unit of systemd.
    Given,
}

/// A configured address that could not be had.
struct Missing {
    address: ListenAddr,
    /// `true` if sockets that are leaving stay until this one is there.
    holds_old: bool,
}

/// A listening socket that is not served yet. New connections wait in it.
pub(super) struct BoundSocket {
    origin: Origin,
    listener: TcpListener,
}

/// The error of an address that cannot be listened on, with advice.
pub(super) struct BindError {
    address: ListenAddr,
    error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.error)?;
        match self.error.kind() {
            io::ErrorKind::AddrInUse => {
                f.write_str(": another program listens there (is wavecast running already?)")
            }
            io::ErrorKind::AddrNotAvailable => f.write_str(": this machine does not have that address"),
            io::ErrorKind::PermissionDenied => write!(f, ": {PORT_ADVICE}"),
            _ => Ok(()),
        }
    }
}

impl Listening {
    /// Starts the server, without a socket.
    ///
    /// # Errors
    ///
    /// The operating system gives no thread or descriptor.
    pub(super) fn start(context: &Arc<Context>) -> Result<Listening, StartError> {
        let server = Server::start(Arc::clone(context))
            .map_err(|error| StartError(format!("cannot start the server: {error}")))?;
        let context = Arc::clone(context);
        let (sockets, missing) = (Vec::new(), Vec::new());
        Ok(Listening { context, server, sockets, missing, retry_at: None, make_room: None })
    }

    /// Binds the sockets of the start: systemd's, or else those of the configuration. An address that cannot be had is
    /// logged, and tried again while the others are served.
    ///
    /// # Errors
    ///
    /// systemd handed over a socket that is not a listening TCP socket; or no address can be had and no service manager
    /// waits for the daemon: a person at a terminal reads the reason at once.
    pub(super) fn bind_first(
        &mut self,
        listen: &[ListenAddr],
        service: &Service,
    ) -> Result<Vec<BoundSocket>, StartError> {
        let mut inherited = InheritedSockets::collect().map_err(StartError)?;
        let given = std::mem::take(&mut inherited.given);
        let mut bound: Vec<BoundSocket> =
            given.into_iter().map(|listener| BoundSocket { origin: Origin::Given, listener }).collect();
        if bound.is_empty() {
            let mut failures = Vec::new();
            for address in listen {
                match inherited.take_stored(*address).map_or_else(|| bind(*address), Ok) {
                    Ok(listener) => {
                        bound.push(BoundSocket { origin: Origin::Configured(*address), listener })
                    }
                    Err(error) => failures.push(error),
                }
            }
            if bound.is_empty() && !service.is_present() {
                let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
                return Err(StartError(texts.join("\n")));
            }
            for failure in failures {
                error!("{failure}; trying again every {} s", RETRY_INTERVAL.as_secs());
                self.missing.push(Missing { address: failure.address, holds_old: false });
            }
            self.schedule_retry();
        } else {
            info!("listening on the sockets of systemd, in place of [http] listen");
        }
        inherited.release_unused(service);
        Ok(bound)
    }

    /// Serves a socket: new connections are accepted from now on.
    ///
    /// # Errors
    ///
    /// The socket cannot be prepared, or the operating system has no resources for it.
    pub(super) fn serve(&mut self, socket: BoundSocket, service: &Service) -> Result<(), StartError> {
        let BoundSocket { origin, listener } = socket;
        let address = listener.local_addr();
        let shown = address.as_ref().map_or_else(|_| "a socket".to_owned(), ToString::to_string);
        let failed = |error| StartError(format!("cannot serve on {shown}: {error}"));
        let address = address.map_err(failed)?;
        listen::prepare(&listener).map_err(failed)?;
        if let Origin::Configured(configured) = origin {
            service.store_socket(configured, &listener);
        }
        let id = self.server.open(listener).map_err(failed)?;
        self.sockets.push(PublicSocket { origin, id, address, urls: Vec::new(), leaving: false });
        self.note_reachable();
        Ok(())
    }

    /// Listens on the addresses of a new configuration. Sockets of a socket unit stay, since the configuration does not name
    /// them.
    pub(super) fn reload(&mut self, listen: &[ListenAddr], service: &Service) {
        if self.sockets.iter().any(|socket| socket.origin == Origin::Given) {
            return;
        }
        for socket in &mut self.sockets {
            socket.leaving = true;
        }
        let mut new = Vec::new();
        for address in listen {
            let same =
                |socket: &&mut PublicSocket| socket.leaving && socket.origin == Origin::Configured(*address);
            match self.sockets.iter_mut().find(same) {
                Some(socket) => socket.leaving = false,
                None => new.push(*address),
            }
        }
        self.make_room = None;
        let failures: Vec<_> =
            new.into_iter().filter_map(|address| self.add(address, service).err()).collect();
        let missing_before = std::mem::take(&mut self.missing);
        let is_last = self.sockets.iter().all(|socket| socket.leaving);
        for failure in failures {
            let address = failure.address;
            let before = missing_before.iter().find(|missing| missing.address == address);
            // An address that was missing before waits for its network. Old ones do not wait with it, unless nothing else is left.
            let waits = is_last || before.is_none_or(|missing| missing.holds_old);
            let holds_old = self.is_leaving() && waits;
            let old = if holds_old { "; the old addresses stay until then" } else { "" };
            error!("{failure}; trying again every {} s{old}", RETRY_INTERVAL.as_secs());
            self.missing.push(Missing { address, holds_old });
        }
        self.close_leaving(service);
        self.schedule_retry();
    }

    /// Tries to bind the missing addresses again.
    pub(super) fn retry(&mut self, service: &Service) {
        for missing in std::mem::take(&mut self.missing) {
            // Logged when it failed first.
            if self.add(missing.address, service).is_err() {
                self.missing.push(missing);
            }
        }
        self.close_leaving(service);
        self.schedule_retry();
    }

    /// Returns the time at which [`retry`](Self::retry) has to be called. `None` while no address is missing.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Returns `true` if at least one socket is served.
    pub(super) fn is_served(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// Logs the addresses that a person can open, if they have changed since they were logged. `input` is the name of the
    /// default input.
    pub(super) fn log_urls(&mut self, input: &str) {
        for socket in &mut self.sockets {
            let urls = host::urls(socket.address);
            if socket.urls == urls {
                continue;
            }
            let also = match &urls[1..] {
                [] => String::new(),
                others => format!("; also at {}/", others.join("/, ")),
            };
            info!("open {0}/ in a browser, or {0}/{input}.wav in a player{also}", urls[0]);
            socket.urls = urls;
        }
    }

    /// Returns the addresses that a person can open, or the reason why there is none.
    pub(super) fn summary(&self) -> String {
        let urls: Vec<String> =
            self.sockets.iter().flat_map(|socket| &socket.urls).map(|url| format!("{url}/")).collect();
        if urls.is_empty() {
            let missing: Vec<String> =
                self.missing.iter().map(|missing| missing.address.to_string()).collect();
            return format!("cannot listen on {}", missing.join(" or "));
        }
        urls.join(" or ")
    }

    /// Returns the port at which other machines reach the daemon. `None` if only this machine can.
    pub(super) fn public_port(&self) -> Option<u16> {
        let is_public =
            |socket: &&PublicSocket| !socket.leaving && !socket.address.ip().to_canonical().is_loopback();
        self.sockets.iter().find(is_public).map(|socket| socket.address.port())
    }

    /// Returns a number that grows while the server runs, for the watchdog.
    pub(super) fn heartbeats(&self) -> u64 {
        self.server.heartbeats()
    }

    /// Applies the reloaded settings to the server.
    pub(super) fn apply_settings(&self) {
        self.server.apply_settings();
    }

    /// Stops accepting connections. New connections wait in the sockets that another process has too: those of a socket
    /// unit, and those in the service manager's store. The other sockets are closed.
    pub(super) fn stop(&mut self, service: &Service) {
        for socket in &self.sockets {
            if socket.origin == Origin::Given || service.is_present() {
                self.server.hand_over(socket.id);
            } else {
                self.server.close(socket.id);
            }
        }
    }

    /// Returns `true` if no request is being answered and none is about to come.
    pub(super) fn is_idle(&self) -> bool {
        self.server.is_idle()
    }

    /// Binds and serves an address. Sockets that are leaving and share its port make room for it, and are bound again if it
    /// cannot be had.
    fn add(&mut self, address: ListenAddr, service: &Service) -> Result<(), BindError> {
        let mut removed = Vec::new();
        let mut bound = bind(address);
        let is_in_use = bound.as_ref().is_err_and(|failure| failure.error.kind() == io::ErrorKind::AddrInUse);
        if is_in_use && self.may_make_room() {
            removed = self.remove_overlapping(address, service);
            if !removed.is_empty() {
                bound = bind(address);
            }
        }
        let served = bound.and_then(|listener| {
            let socket = BoundSocket { origin: Origin::Configured(address), listener };
            self.serve(socket, service)
                .map_err(|error| BindError { address, error: io::Error::other(error.0) })
        });
        if served.is_err() && !removed.is_empty() {
            let interval = self.make_room.map_or(RETRY_INTERVAL, |(_, interval)| interval);
            self.make_room = Some((Instant::now() + interval, (2 * interval).min(MOST_ROOM_INTERVAL)));
            for (old, urls) in removed {
                let restored = bind(old).map_err(|error| error.to_string()).and_then(|listener| {
                    let socket = BoundSocket { origin: Origin::Configured(old), listener };
                    self.serve(socket, service).map_err(|error| error.0)
                });
                match restored {
                    Ok(()) => {
                        if let Some(socket) = self.sockets.last_mut() {
                            socket.leaving = true;
                            socket.urls = urls;
                        }
                    }
                    Err(error) => error!("{error}"),
                }
            }
        }
        served
    }

    /// Returns `true` if an attempt may close old sockets.
    fn may_make_room(&self) -> bool {
        self.make_room.is_none_or(|(at, _)| at <= Instant::now())
    }

    /// Closes the leaving sockets that share a port with `address`. Returns their addresses, and the URLs that were logged.
    fn remove_overlapping(
        &mut self,
        address: ListenAddr,
        service: &Service,
    ) -> Vec<(ListenAddr, Vec<String>)> {
        let mut removed = Vec::new();
        self.sockets.retain_mut(|socket| match socket.origin {
            Origin::Configured(old) if socket.leaving && old.overlaps(address) => {
                service.remove_socket(old);
                self.server.close(socket.id);
                removed.push((old, std::mem::take(&mut socket.urls)));
                false
            }
            _ => true,
        });
        removed
    }

    /// Closes the sockets that the configuration does not name any more, unless they have to stay for a missing address.
    fn close_leaving(&mut self, service: &Service) {
        if !self.missing.iter().any(|missing| missing.holds_old) {
            self.sockets.retain(|socket| {
                if let (true, Origin::Configured(address)) = (socket.leaving, socket.origin) {
                    service.remove_socket(address);
                    self.server.close(socket.id);
                    info!("not listening on {} any more", socket.address);
                }
                !socket.leaving
            });
        }
        self.note_reachable();
    }

    /// Tells the handlers if other machines reach the daemon.
    fn note_reachable(&self) {
        self.context.reachable.store(self.public_port().is_some(), Ordering::Relaxed);
    }

    fn is_leaving(&self) -> bool {
        self.sockets.iter().any(|socket| socket.leaving)
    }

    fn schedule_retry(&mut self) {
        self.retry_at = (!self.missing.is_empty()).then(|| Instant::now() + RETRY_INTERVAL);
    }
}

fn bind(address: ListenAddr) -> Result<TcpListener, BindError> {
    listen::bind(address).map_err(|error| BindError { address, error })
}
