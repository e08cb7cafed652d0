//! The announcement on the local network (DNS-SD, RFC 6763): programs that browse for services list this station.
//!
//! The service announces itself while it runs and with the port that it has: as `_http._tcp` for browsers, and as
//! `_vlc-http._tcp` with the path of the stream, which VLC lists under *Local Network*. A daemon that only this machine can
//! reach announces nothing.
//!
//! Each announcement is a child process, `avahi-publish` of the package avahi-utils. Avahi withdraws an announcement when the
//! connection of its owner closes, however the daemon ends; systemd ends the children with the service. The alternatives were
//! worse: Avahi reads files only in /etc/avahi/services, in a chroot, so that a file has to be written by root, stays behind a
//! power cut, and has a fixed port; a D-Bus client of our own would have to follow restarts of Avahi and conflicts of names,
//! which avahi-publish does already.

use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use log::info;

use crate::sys::host;

/// The program, of the package avahi-utils.
const PROGRAM: &str = "avahi-publish";
/// The time between two attempts to start a program that has ended, or that is not installed.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// The longest name of a service, in bytes (RFC 6763, section 4.1.1).
const MAX_NAME_BYTES: usize = 63;

/// The contents of the announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Announcement {
    name: String,
    port: u16,
}

impl Announcement {
    /// Returns the arguments of one process for each type of service.
    fn commands(&self) -> [Vec<String>; 2] {
        let command = |kind: &str, path: &str| {
            let words = ["--no-fail", "--service", "--", &self.name, kind, &self.port.to_string(), path];
            words.map(str::to_owned).to_vec()
        };
        [command("_http._tcp", "path=/"), command("_vlc-http._tcp", "path=/live.wav")]
    }
}

/// Returns the name of the service: the station's title, or else one that says what and where it is.
fn service_name(title: Option<&str>) -> String {
    let name = title.map_or_else(
        || format!("wavecast on {}", host::names().into_iter().next().unwrap_or_default()),
        str::to_owned,
    );
    let mut end = name.len().min(MAX_NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

/// The running announcement. It is withdrawn on drop.
#[derive(Default)]
pub(super) struct Announcer {
    current: Option<Announcement>,
    processes: Vec<Child>,
    /// The time of the next attempt, while a process is missing.
    retry_at: Option<Instant>,
    /// `true` once a failure was logged.
    logged: bool,
}

impl Announcer {
    /// Announces the station at `port`, or withdraws the announcement. Does nothing while nothing has changed; a process that
    /// has ended is started again at the next call that comes late enough.
    pub(super) fn update(&mut self, title: Option<&str>, port: Option<u16>) {
        let wanted = port.map(|port| Announcement { name: service_name(title), port });
        let has_ended = self.processes.iter_mut().any(|process| !matches!(process.try_wait(), Ok(None)));
        if wanted != self.current {
            self.withdraw();
            self.retry_at = None;
            self.current = wanted;
        } else if has_ended {
            self.withdraw();
            self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
            self.log_failure(format!("{PROGRAM} has ended"));
        }
        let Some(announcement) = self.current.as_ref().filter(|_| self.processes.is_empty()) else { return };
        if self.retry_at.is_some_and(|retry| Instant::now() < retry) {
            return;
        }
        for arguments in announcement.commands() {
            match start(&arguments) {
                Ok(process) => self.processes.push(process),
                Err(error) => {
                    self.withdraw();
                    self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
                    self.log_failure(match error.kind() {
                        io::ErrorKind::NotFound => {
                            format!("{PROGRAM} (package avahi-utils) is not installed")
                        }
                        _ => format!("{PROGRAM} cannot be started: {error}"),
                    });
                    return;
                }
            }
        }
    }

    /// Ends the processes. Avahi withdraws what they announced.
    fn withdraw(&mut self) {
        for mut process in self.processes.drain(..) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Logs the first failure. wavecast is heard as well without an announcement.
    fn log_failure(&mut self, reason: String) {
        if !std::mem::replace(&mut self.logged, true) {
            info!("not announced on the local network: {reason}; trying again");
        }
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.withdraw();
    }
}

fn start(arguments: &[String]) -> io::Result<Child> {
    let mut command = Command::new(PROGRAM);
    // The log of the service is wavecast's.
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_and_vlc_get_a_service_each() {
        let announcement = Announcement { name: "-Bird box".to_owned(), port: 80 };
        let commands = announcement.commands().map(|words| words.join(" "));
        assert_eq!(
            commands,
            [
                "--no-fail --service -- -Bird box _http._tcp 80 path=/",
                "--no-fail --service -- -Bird box _vlc-http._tcp 80 path=/live.wav",
            ]
        );
    }

    #[test]
    fn the_name_is_the_title_cut_to_what_dns_allows() {
        assert_eq!(service_name(Some("Bird box")), "Bird box");
        let long = service_name(Some(&"ß–".repeat(30)));
        assert!((60..=63).contains(&long.len()), "{long}");
        assert!(service_name(None).starts_with("wavecast on "));
    }
}
