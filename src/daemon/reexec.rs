//! Beginning anew in the same process, with the same listening sockets.
//!
//! It is exec(2) of this program with the arguments that it had. All threads and all other descriptors end with
//! that. Service managers see the same process, which is ready again after a moment.

use std::env;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use super::systemd;
use crate::sys::{clock, tiny};

/// When this was done last, in seconds of the monotonic clock: in the environment of who takes over.
const LAST: &str = "WAVECAST_BEGAN_ANEW";

/// Who is not let in, in the same place.
const BANNED: &str = "WAVECAST_BANNED";

/// What the next one gets.
pub struct Anew {
    /// The listening sockets, by the names that it knows them by.
    pub(super) sockets: Vec<(String, TcpListener)>,
    pub(super) banned: Vec<IpAddr>,
}

impl Anew {
    /// Does it. Returns only what kept it from that.
    pub fn begin(self) -> io::Error {
        match self.exec() {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn exec(self) -> io::Result<std::convert::Infallible> {
        let mut sockets = Vec::new();
        for (name, listener) in &self.sockets {
            rustix::io::fcntl_setfd(listener, rustix::io::FdFlags::empty())?;
            sockets.push(format!("{}={name}", listener.as_raw_fd()));
        }
        // Its handler ends here, and without one it ends the process.
        tiny::ignore_connections()?;
        let mut arguments = env::args_os();
        let mut command = Command::new(env::current_exe()?);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        // What systemd handed over it handed to this one, which hands it on in its own way.
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            command.env_remove(name);
        }
        command.env(systemd::PASSED_ON, sockets.join(","));
        let banned: Vec<String> = self.banned.iter().map(ToString::to_string).collect();
        command.env(BANNED, banned.join(","));
        command.env(LAST, clock::monotonic_ns().div_ceil(1_000_000_000).to_string());
        Err(command.args(arguments).exec())
    }
}

/// Whom the one before did not let in.
pub(super) fn banned() -> Vec<IpAddr> {
    env::var(BANNED).unwrap_or_default().split(',').filter_map(|one| one.parse().ok()).collect()
}

/// How long ago this process did it last, if it did.
pub(super) fn since_last() -> Option<Duration> {
    let last = Duration::from_secs(env::var(LAST).ok()?.parse().ok()?);
    Some(Duration::from_nanos(clock::monotonic_ns()).saturating_sub(last))
}
