//! The built program as a child process, with a configuration and a port of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::card::Cards;
use super::server::Server;
use super::stopwatch::{Stopwatch, Witness};
use super::wait_for;

/// A running daemon; killed on drop. What it says over HTTP is [`Server`]'s.
pub(crate) struct Daemon {
    child: Child,
    server: Server,
    log: Arc<Mutex<Vec<String>>>,
    folder: PathBuf,
    _witness: Witness,
}

impl Daemon {
    /// Starts the daemon with that configuration, on a free port of the loopback, and waits until it listens.
    /// With `cards` it sees those and no others.
    pub(crate) fn start(cards: Option<&Cards>, config: &str) -> Daemon {
        let env: Vec<_> = cards.map(Cards::env).into_iter().collect();
        let env: Vec<_> = env.iter().map(|(key, value)| (*key, value.as_os_str())).collect();
        let mut daemon = Daemon::launch(config, &[], &env, Stdio::piped());
        daemon.find_address();
        daemon
    }

    /// Starts the daemon with that environment, on a free port of the loopback, and waits until it listens.
    pub(crate) fn with_env(config: &str, env: &[(&str, &OsStr)], stderr: Stdio) -> Daemon {
        let mut daemon = Daemon::launch(config, &[], env, stderr);
        daemon.find_address();
        daemon
    }

    /// Starts the daemon with more arguments and another environment, and does not wait for anything; it may
    /// not even get to listen. Its log is there if `stderr` is [`Stdio::piped`].
    pub(crate) fn launch(config: &str, arguments: &[&str], env: &[(&str, &OsStr)], stderr: Stdio) -> Daemon {
        Daemon::launch_through(&[], config, arguments, env, stderr)
    }

    /// The same, started by another program (with its arguments) that becomes the daemon.
    fn launch_through(
        through: &[&str],
        config: &str,
        arguments: &[&str],
        env: &[(&str, &OsStr)],
        stderr: Stdio,
    ) -> Daemon {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("daemon-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the configuration");
        let file = folder.join("wavecast.toml");
        fs::write(&file, with_listen(config)).expect("the configuration is written");
        // Another one than was just built, as that of the package.
        let named = std::env::var("WAVECAST").ok();
        let program = named.as_deref().unwrap_or(env!("CARGO_BIN_EXE_wavecast"));
        let mut words = through.iter().copied().chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command.args(words).arg("--config").arg(&file).env_remove("RUST_LOG").env_remove("JOURNAL_STREAM");
        command.args(arguments).envs(env.iter().copied());
        let witness = Witness::start();
        let mut child = command.stderr(stderr).stdin(Stdio::null()).spawn().expect("the daemon starts");
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = Arc::clone(&log);
        if let Some(stderr) = child.stderr.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    lines.lock().expect("no test panics holding it").push(line);
                }
            });
        }
        Daemon { child, server: Server::at(([127, 0, 0, 1], 0).into()), log, folder, _witness: witness }
    }

    /// A daemon with one synthetic input `live`.
    pub(crate) fn synth(device: &str) -> Daemon {
        Daemon::start(None, &format!("[input.live]\ndevice = \"{device}\"\n"))
    }

    /// A daemon whose input `live` is the synthetic ramp, with more lines for its table. A machine that stalls
    /// for seconds loses none of it.
    pub(crate) fn ramp(options: &str) -> Daemon {
        Daemon::ramp_with("", "synth:ramp", options)
    }

    /// The same from that device, and with other tables before that of the input.
    pub(crate) fn ramp_with(tables: &str, device: &str, options: &str) -> Daemon {
        let daemon = Daemon::start(
            None,
            &format!("{tables}\n[input.live]\ndevice = \"{device}\"\nbuffer_ms = 10000\n{options}\n"),
        );
        daemon.wait_for_state("live", "capturing");
        daemon
    }

    /// The same on the ramp, started by another program that lessens what it may have.
    pub(crate) fn ramp_through(through: &[&str], tables: &str, options: &str) -> Daemon {
        let config =
            format!("{tables}\n[input.live]\ndevice = \"synth:ramp\"\nbuffer_ms = 10000\n{options}\n");
        let mut daemon = Daemon::launch_through(through, &config, &[], &[], Stdio::piped());
        daemon.find_address();
        daemon.wait_for_state("live", "capturing");
        daemon
    }

    /// Waits until it listens, and learns where.
    fn find_address(&mut self) {
        let line = self.wait_for_log("open http://");
        let host = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
        self.server = Server::at(host.parse().expect("an address"));
    }

    /// Its configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.join("wavecast.toml")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of the log that contains `text`, and returns it.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        wait_for(&format!("a log line with {text:?}"), || self.log().into_iter().find(|l| l.contains(text)))
    }

    /// All lines of the log until now.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("no test panics holding it").clone()
    }

    /// Replaces the configuration and sends SIGHUP. The address stays as it is in the file, and so the port that
    /// was chosen for it stays too.
    pub(crate) fn reload(&self, config: &str) {
        self.reload_whole(&with_listen(config));
    }

    /// Replaces the whole configuration and sends SIGHUP.
    pub(crate) fn reload_whole(&self, config: &str) {
        fs::write(self.config_file(), config).expect("the configuration is written");
        self.signal("HUP");
    }

    /// Sends a signal: `TERM`, `INT`, `HUP`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits until it has ended and tells how, and how long that took.
    pub(crate) fn wait(&mut self) -> (ExitStatus, Duration) {
        let began = Stopwatch::start();
        let status = wait_for("the daemon to end", || self.child.try_wait().expect("it is our child"));
        (status, began.elapsed())
    }
}

/// Adds the address unless the configuration has one, or takes the place of its `[http]` table's.
fn with_listen(config: &str) -> String {
    match config.contains("[http]") {
        true => config.to_owned(),
        false => format!("[http]\nlisten = \"127.0.0.1:0\"\n{config}"),
    }
}

impl Deref for Daemon {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log:\n{}\n---", self.log().join("\n"));
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
