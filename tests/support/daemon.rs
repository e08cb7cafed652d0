//! The daemon as a child process, with a configuration and a port of its own.

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
use super::stopwatch::{Span, Stopwatch};
use super::{let_pass, wait_for};

/// A running daemon. It is killed on drop. [`Server`] has the requests to it.
pub(crate) struct Daemon {
    child: Child,
    server: Server,
    log: Arc<Mutex<Vec<String>>>,
    folder: PathBuf,
}

impl Daemon {
    /// Starts the daemon with `config` on a free port of the loopback, and waits until it listens. With `cards` the
    /// daemon sees these cards and no others.
    pub(crate) fn start(cards: Option<&Cards>, config: &str) -> Daemon {
        let env: Vec<_> = cards.map(Cards::env).into_iter().collect();
        let env: Vec<_> = env.iter().map(|(key, value)| (*key, value.as_os_str())).collect();
        let mut daemon = Daemon::launch(config, &[], &env, Stdio::piped());
        daemon.find_address();
        daemon
    }

    /// Starts the daemon with more environment variables, and waits until it listens.
    pub(crate) fn with_env(config: &str, env: &[(&str, &OsStr)], stderr: Stdio) -> Daemon {
        let mut daemon = Daemon::launch(config, &[], env, stderr);
        daemon.find_address();
        daemon
    }

    /// Starts the daemon with more arguments and environment variables, and waits for nothing: the daemon may end
    /// before it listens. [`Daemon::log`] needs `stderr` to be [`Stdio::piped`].
    pub(crate) fn launch(config: &str, arguments: &[&str], env: &[(&str, &OsStr)], stderr: Stdio) -> Daemon {
        Daemon::launch_through(&[], config, arguments, env, stderr)
    }

    /// Starts the daemon like [`Daemon::launch`], through another program (with its arguments) that executes it.
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
        // WAVECAST names another program than the built one, for example that of the package.
        let named = std::env::var("WAVECAST").ok();
        let program = named.as_deref().unwrap_or(env!("CARGO_BIN_EXE_wavecast"));
        let mut words = through.iter().copied().chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command.args(words).arg("--config").arg(&file).env_remove("RUST_LOG").env_remove("JOURNAL_STREAM");
        command.args(arguments).envs(env.iter().copied());
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
        Daemon { child, server: Server::at(([127, 0, 0, 1], 0).into()), log, folder }
    }

    /// Starts the daemon through another program, such as one that puts it into another network, and waits until it
    /// listens. A test can only reach its log then.
    pub(crate) fn through(through: &[&str], config: &str) -> Daemon {
        let mut daemon = Daemon::launch_through(through, config, &[], &[], Stdio::piped());
        daemon.find_address();
        daemon
    }

    /// Starts a daemon with one synthetic input, `live`.
    pub(crate) fn synth(device: &str) -> Daemon {
        Daemon::start(None, &format!("[input.live]\ndevice = \"{device}\"\n"))
    }

    /// Starts a daemon whose input `live` is the synthetic ramp, with more lines for its table, and waits for sound.
    /// Its buffer is 10 s long, and listeners may be as late, so that a machine that stalls for seconds loses no frame.
    pub(crate) fn ramp(options: &str) -> Daemon {
        Daemon::ramp_with("", "synth:ramp", options)
    }

    /// Starts a daemon like [`Daemon::ramp`], from `device`, with more tables before the input's table.
    pub(crate) fn ramp_with(tables: &str, device: &str, options: &str) -> Daemon {
        let daemon = Daemon::start(None, &ramp_config(tables, device, options));
        daemon.wait_for_state("live", "capturing");
        daemon
    }

    /// Starts a daemon like [`Daemon::ramp`], through another program that limits its resources.
    pub(crate) fn ramp_through(through: &[&str], tables: &str, options: &str) -> Daemon {
        let config = ramp_config(tables, "synth:ramp", options);
        let mut daemon = Daemon::launch_through(through, &config, &[], &[], Stdio::piped());
        daemon.find_address();
        daemon.wait_for_state("live", "capturing");
        daemon
    }

    /// Waits until the daemon listens, and reads its address from the log.
    fn find_address(&mut self) {
        let line = self.wait_for_log("open http://");
        let host = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
        self.server = Server::at(host.parse().expect("an address"));
    }

    /// Returns the path of the configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder.join("wavecast.toml")
    }

    /// Returns the process ID.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of the log that contains `text`, and returns the line.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        wait_for(&format!("a log line with {text:?}"), || self.log().into_iter().find(|l| l.contains(text)))
    }

    /// Returns all lines of the log until now.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("no test panics holding it").clone()
    }

    /// Returns the number of lines of the log until now that contain `text`.
    pub(crate) fn count_log(&self, text: &str) -> usize {
        self.log().iter().filter(|line| line.contains(text)).count()
    }

    /// Replaces the configuration and sends SIGHUP. The address in the file stays, and so does the port that the
    /// kernel chose for it.
    pub(crate) fn reload(&self, config: &str) {
        self.reload_whole(&with_listen(config));
    }

    /// Replaces the configuration, addresses included, and sends SIGHUP.
    pub(crate) fn reload_whole(&self, config: &str) {
        // The daemon may be reading it, because of a signal before this one.
        let (file, new) = (self.config_file(), self.config_file().with_extension("new"));
        fs::write(&new, config).and_then(|()| fs::rename(new, file)).expect("the configuration is written");
        self.signal("HUP");
    }

    /// Sends a signal: `TERM`, `INT`, `HUP`, `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Stops the process for `time`, as a machine does that sleeps or is too busy.
    pub(crate) fn stop_for(&self, time: Duration) {
        self.signal("STOP");
        let_pass(time);
        self.signal("CONT");
    }

    /// Waits until the daemon has ended, and returns its exit status and the time that the end took.
    pub(crate) fn wait(&mut self) -> (ExitStatus, Span) {
        let began = Stopwatch::start();
        let status = wait_for("the daemon to end", || self.child.try_wait().expect("it is our child"));
        (status, began.span())
    }
}

/// Returns the configuration of [`Daemon::ramp_with`].
fn ramp_config(tables: &str, device: &str, options: &str) -> String {
    const LATE: &str = "[listeners]\nmax_lag_ms = 10000\n";
    let tables = match (tables.contains("max_lag_ms"), tables.contains("[listeners]\n")) {
        (true, _) => tables.to_owned(),
        (false, true) => tables.replace("[listeners]\n", LATE),
        (false, false) => format!("{tables}\n{LATE}"),
    };
    format!("{tables}\n[input.live]\ndevice = \"{device}\"\nbuffer_ms = 10000\n{options}\n")
}

/// Adds an `[http]` table with a free port of the loopback, unless the configuration has one.
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
