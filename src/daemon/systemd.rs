//! The service manager: what systemd is told, and the sockets that it holds for us.
//!
//! Told are, by the protocol of sd_notify(3), that it is ready, one line on how it is, and that it lives. Started
//! by hand there is nobody to tell, and all of this does nothing.
//!
//! # Sockets
//!
//! Listening sockets come from systemd in two ways, both by the protocol of sd_listen_fds(3):
//!
//! - Those of a `wavecast.socket`, which somebody enabled: they are where to listen, in place of `[http] listen`.
//! - Our own, which an earlier run of the service left with systemd (`FileDescriptorStoreMax=`) when it was
//!   restarted, upgraded, or died: who connects meanwhile waits in them and is served by the next run.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use log::warn;
use rustix::net::sockopt;
use sd_notify::NotifyState;

use crate::config::ListenAddr;
use crate::sys::socket;

/// In the environment of a program that began anew in the same process: its listening sockets, numbers and names.
pub(crate) const PASSED_ON: &str = "WAVECAST_SOCKETS";
/// Such a socket that came from a socket unit.
pub(crate) const GIVEN: &str = "given";
/// What our own sockets' names begin with, in systemd's hands.
const OURS: &str = "listen ";
/// How often the line on how it is follows what is.
const FOLLOW: Duration = Duration::from_secs(5);

/// The service manager, if there is one.
pub struct Service {
    managed: bool,
    watchdog: Option<Duration>,
    /// The line that it was told last.
    status: String,
}

impl Service {
    /// The one that started this process, as the environment tells.
    pub fn find() -> Service {
        let managed = std::env::var_os("NOTIFY_SOCKET").is_some();
        let watchdog = sd_notify::watchdog_enabled().filter(|_| managed);
        Service { managed, watchdog, status: String::new() }
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.managed
    }

    /// How often it wants to hear something; `None` when nobody does.
    pub fn rhythm(&self) -> Option<Duration> {
        // Three times within the watchdog's patience: one that is late is not yet too late.
        self.managed.then(|| self.watchdog.map_or(FOLLOW, |patience| FOLLOW.min(patience / 3)))
    }

    /// It serves.
    pub fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// It reads its configuration again; [`ready`](Self::ready) ends that.
    pub fn reloading(&self) {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.tell(&[NotifyState::Reloading, now]);
        }
    }

    /// It ends.
    pub fn stopping(&self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// It lives.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// How it is, in one line; what was said already is not said again.
    pub fn status(&mut self, line: String) {
        if self.managed && self.status != line {
            self.tell(&[NotifyState::Status(&line)]);
            self.status = line;
        }
    }

    /// Leaves a listening socket with it, for the next run.
    pub fn keep(&self, address: ListenAddr, listener: &TcpListener) {
        let name = stored_name(address);
        let state = [NotifyState::FdStore, NotifyState::FdName(&name)];
        complain(sd_notify::notify_with_fds(&state, &[listener.as_fd()]));
    }

    /// Takes one away from it.
    pub fn forget(&self, address: ListenAddr) {
        self.forget_named(&stored_name(address));
    }

    fn forget_named(&self, name: &str) {
        self.tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        complain(sd_notify::notify(state));
    }
}

/// Nothing depends on it but what others see of us: not a reason to end.
fn complain(told: io::Result<()>) {
    if let Err(error) = told {
        warn!("the service manager cannot be told: {error}");
    }
}

/// The name of a listening socket in systemd's store. A colon may not be in it.
pub(crate) fn stored_name(address: ListenAddr) -> String {
    format!("{OURS}{address}").replace(':', "-")
}

/// The sockets that systemd handed over.
#[derive(Default)]
pub struct Handed {
    /// Those of a socket unit.
    pub given: Vec<TcpListener>,
    /// Our own, by their names.
    kept: Vec<(String, TcpListener)>,
}

impl Handed {
    /// Takes them. For the beginning of the program: they are there once.
    ///
    /// # Errors
    ///
    /// When one of them is no listening TCP socket.
    pub fn take() -> Result<Handed, String> {
        let mut handed = Handed::default();
        if let Ok(passed) = std::env::var(PASSED_ON) {
            handed.take_passed(&passed);
            return Ok(handed);
        }
        // What else is there in the environment is not for this process.
        if std::env::var_os("LISTEN_PID").is_none() {
            return Ok(handed);
        }
        let descriptors = sd_notify::listen_fds_with_names()
            .map_err(|error| format!("the sockets that systemd hands over cannot be told: {error}"))?;
        for (number, name) in descriptors {
            let listener = TcpListener::from(socket::inherited(number).map_err(|error| error.to_string())?);
            let ours = name.starts_with(OURS);
            match usable(&listener) {
                Ok(()) if ours => handed.kept.push((name, listener)),
                Ok(()) => handed.given.push(listener),
                // Not worth more than a new one.
                Err(_) if ours => {}
                Err(why) => {
                    let number = listener.as_raw_fd();
                    return Err(format!(
                        "systemd handed over {name:?} (descriptor {number}), which is not a TCP socket that \
                         listens: {why}. It takes a socket unit with ListenStream= and a port"
                    ));
                }
            }
        }
        Ok(handed)
    }

    /// Those that this program, before it began anew, kept open for itself. What is of no use is not worth more than
    /// a new one.
    fn take_passed(&mut self, passed: &str) {
        for (number, name) in passed.split(',').filter_map(|one| one.split_once('=')) {
            let Some(listener) = number.parse().ok().and_then(|number| socket::inherited(number).ok()) else { continue };
            let listener = TcpListener::from(listener);
            let _ = rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::CLOEXEC);
            match usable(&listener) {
                Ok(()) if name == GIVEN => self.given.push(listener),
                Ok(()) => self.kept.push((name.to_owned(), listener)),
                Err(why) => warn!("a listening socket is of no use any more: {why}"),
            }
        }
    }

    /// Our own that listens there, if an earlier run left it.
    pub fn reclaim(&mut self, address: ListenAddr) -> Option<TcpListener> {
        let name = stored_name(address);
        let at = self.kept.iter().position(|(kept, _)| *kept == name)?;
        Some(self.kept.swap_remove(at).1)
    }

    /// Gives back what nobody reclaimed: the configuration is another one by now.
    pub fn drop_the_rest(self, service: &Service) {
        for (name, listener) in self.kept {
            service.forget_named(&name);
            // Nobody shall wait in it.
            let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
        }
    }
}

/// Makes sure that it can be accepted from, in the way that the server does.
fn usable(listener: &TcpListener) -> Result<(), String> {
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
    fn only_a_listening_tcp_socket_is_usable() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        assert_eq!(usable(&listener), Ok(()));
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let datagrams = TcpListener::from(std::os::fd::OwnedFd::from(datagrams));
        assert_eq!(usable(&datagrams), Err("it is for datagrams".to_owned()));
        let file = std::fs::File::open("/dev/null").expect("it is there");
        assert!(usable(&TcpListener::from(std::os::fd::OwnedFd::from(file))).is_err());
    }
}
