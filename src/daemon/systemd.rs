//! The service manager: the state that systemd is notified of, and the sockets that systemd holds for the daemon.
//!
//! By the protocol of sd_notify(3) the daemon reports that it is ready, its state in one line, and that it is alive. A daemon
//! that a person started has no service manager, and all of this does nothing.
//!
//! # Sockets
//!
//! Listening sockets come from systemd in two ways, both by the protocol of sd_listen_fds(3):
//!
//! - The sockets of a `wavecast.socket` that the owner enabled. They replace `[http] listen`.
//! - The daemon's own, which an earlier run of the service stored with systemd (`FileDescriptorStoreMax=`) before it was
//!   restarted, was upgraded, or died. New connections wait in them, and the next run serves them.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use log::warn;
use rustix::net::sockopt;
use sd_notify::NotifyState;

use crate::config::ListenAddr;
use crate::sys::socket;

/// The beginning of the names under which the daemon's own sockets are stored.
const STORED: &str = "listen ";
/// The time after which the status line follows a change that has no event, such as a new address of the machine.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// The service manager that started this process, if there is one.
pub struct Service {
    managed: bool,
    watchdog: Option<Duration>,
    /// The status line that the service manager has.
    status: String,
}

impl Service {
    /// Finds the service manager by the environment.
    pub fn find() -> Service {
        let managed = std::env::var_os("NOTIFY_SOCKET").is_some();
        let watchdog = sd_notify::watchdog_enabled().filter(|_| managed);
        Service { managed, watchdog, status: String::new() }
    }

    /// Returns `true` if there is a service manager.
    pub fn is_present(&self) -> bool {
        self.managed
    }

    /// Returns the interval at which the service manager expects a report. `None` without a service manager.
    pub fn report_interval(&self) -> Option<Duration> {
        // A third of the watchdog's timeout: one late report is not yet a missed one.
        self.managed
            .then(|| self.watchdog.map_or(STATUS_INTERVAL, |timeout| STATUS_INTERVAL.min(timeout / 3)))
    }

    /// Reports that the daemon serves, or that a reload is over.
    pub fn ready(&self) {
        self.notify(&[NotifyState::Ready]);
    }

    /// Reports that a reload begins. [`ready`](Self::ready) ends it.
    pub fn reloading(&self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.notify(&[NotifyState::Reloading, now]);
        }
    }

    /// Reports that the daemon ends.
    pub fn stopping(&self) {
        self.notify(&[NotifyState::Stopping]);
    }

    /// Reports to the watchdog that the daemon is alive.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.notify(&[NotifyState::Watchdog]);
        }
    }

    /// Reports the status line, unless the service manager has this line already.
    pub fn status(&mut self, line: String) {
        if self.managed && self.status != line {
            self.notify(&[NotifyState::Status(&line)]);
            self.status = line;
        }
    }

    /// Stores a listening socket with the service manager, for the next run.
    pub fn store_socket(&self, address: ListenAddr, listener: &TcpListener) {
        let name = stored_name(address);
        let state = [NotifyState::FdStore, NotifyState::FdName(&name)];
        log_failure(sd_notify::notify_with_fds(&state, &[listener.as_fd()]));
    }

    /// Removes a socket from the service manager's store.
    pub fn remove_socket(&self, address: ListenAddr) {
        self.remove_named(&stored_name(address));
    }

    fn remove_named(&self, name: &str) {
        self.notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    }

    fn notify(&self, state: &[NotifyState<'_>]) {
        log_failure(sd_notify::notify(state));
    }
}

/// Logs a failed notification. The daemon runs as well without it.
fn log_failure(result: io::Result<()>) {
    if let Err(error) = result {
        warn!("the service manager cannot be notified: {error}");
    }
}

/// Returns the name of a listening socket in systemd's store. The name may not contain a colon.
pub(crate) fn stored_name(address: ListenAddr) -> String {
    format!("{STORED}{address}").replace(':', "-")
}

/// The listening sockets that this process was started with.
#[derive(Default)]
pub struct InheritedSockets {
    /// The sockets of a socket unit.
    pub given: Vec<TcpListener>,
    /// The daemon's own sockets from the store, by their names.
    stored: Vec<(String, TcpListener)>,
}

impl InheritedSockets {
    /// Collects the inherited sockets. To be called once, at the start of the program.
    ///
    /// # Errors
    ///
    /// A socket of a socket unit is not a listening TCP socket.
    pub fn collect() -> Result<InheritedSockets, String> {
        let mut inherited = InheritedSockets::default();
        // Other variables without this one are meant for another process.
        if std::env::var_os("LISTEN_PID").is_none() {
            return Ok(inherited);
        }
        let descriptors = sd_notify::listen_fds_with_names()
            .map_err(|error| format!("the list of systemd's sockets cannot be read: {error}"))?;
        for (number, name) in descriptors {
            let listener = listener(number)?;
            let is_stored = name.starts_with(STORED);
            match check_listener(&listener) {
                Ok(()) if is_stored => inherited.stored.push((name, listener)),
                Ok(()) => inherited.given.push(listener),
                // A new socket will do.
                Err(_) if is_stored => {}
                Err(why) => {
                    let number = listener.as_raw_fd();
                    return Err(format!(
                        "systemd handed over {name:?} (descriptor {number}), which is not a TCP socket that \
                         listens: {why}. wavecast needs a socket unit with ListenStream= and a port"
                    ));
                }
            }
        }
        Ok(inherited)
    }

    /// Returns the daemon's own socket for `address`, if an earlier run stored one.
    pub fn take_stored(&mut self, address: ListenAddr) -> Option<TcpListener> {
        let name = stored_name(address);
        let at = self.stored.iter().position(|(stored, _)| *stored == name)?;
        Some(self.stored.swap_remove(at).1)
    }

    /// Releases the stored sockets whose addresses the configuration does not name any more.
    pub fn release_unused(self, service: &Service) {
        for (name, listener) in self.stored {
            service.remove_named(&name);
            // Connections that wait in the socket are reset now, and not when systemd closes its copy.
            let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
        }
    }
}

/// Returns the listening socket that this process inherited under that number.
fn listener(number: RawFd) -> Result<TcpListener, String> {
    socket::inherited(number).map(TcpListener::from).map_err(|error| format!("descriptor {number}: {error}"))
}

/// Checks that the server can accept connections from `listener`, and makes `listener` blocking.
fn check_listener(listener: &TcpListener) -> Result<(), String> {
    let wrong = |error: rustix::io::Errno| error.to_string();
    let family = sockopt::socket_domain(listener).map_err(wrong)?;
    if family != rustix::net::AddressFamily::INET && family != rustix::net::AddressFamily::INET6 {
        return Err("it is of another address family".to_owned());
    }
    if sockopt::socket_type(listener).map_err(wrong)? != rustix::net::SocketType::STREAM {
        return Err("it is for datagrams".to_owned());
    }
    if !sockopt::socket_acceptconn(listener).map_err(wrong)? {
        return Err("it does not listen".to_owned());
    }
    listener.set_nonblocking(false).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_sockets_name_has_no_colon_and_differs_by_address() {
        let name = |address: &str| stored_name(address.parse().expect("an address"));
        assert_eq!(name("4410"), "listen [--]-4410");
        assert_eq!(name("127.0.0.1:80"), "listen 127.0.0.1-80");
        assert_ne!(name("[::1]:80"), name("[::]:80"));
    }

    #[test]
    fn only_a_listening_tcp_socket_passes_the_check() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        assert_eq!(check_listener(&listener), Ok(()));
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let datagrams = TcpListener::from(std::os::fd::OwnedFd::from(datagrams));
        assert_eq!(check_listener(&datagrams), Err("it is for datagrams".to_owned()));
        let file = std::fs::File::open("/dev/null").expect("the device file exists");
        assert!(check_listener(&TcpListener::from(std::os::fd::OwnedFd::from(file))).is_err());
    }
}
