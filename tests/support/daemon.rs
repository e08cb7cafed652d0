//! The built program as a child process, with a configuration and a port of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::card::Cards;
use super::http::{self, Response};
use super::wait_for;

/// A running daemon; killed on drop.
pub(crate) struct Daemon {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    folder: PathBuf,
}

impl Daemon {
    /// Starts the daemon with that configuration, on a free port of the loopback, and waits until it listens.
    /// With `cards` it sees those and no others.
    pub(crate) fn start(cards: Option<&Cards>, config: &str) -> Daemon {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("daemon-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the configuration");
        let file = folder.join("wavecast.toml");
        fs::write(&file, with_listen(config)).expect("the configuration is written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_wavecast"));
        command.arg("--config").arg(&file).env_remove("RUST_LOG").env_remove("JOURNAL_STREAM");
        if let Some(cards) = cards {
            let (key, value) = cards.env();
            command.env(key, value);
        }
        let mut child =
            command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().expect("the daemon starts");
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = Arc::clone(&log);
        let stderr = child.stderr.take().expect("it is piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().expect("no test panics holding it").push(line);
            }
        });
        let mut daemon = Daemon { child, address: ([127, 0, 0, 1], 0).into(), log, folder };
        let line = daemon.wait_for_log("open http://");
        let host = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
        daemon.address = host.parse().expect("an address");
        daemon
    }

    /// A daemon with one synthetic input `live`.
    pub(crate) fn synth(device: &str) -> Daemon {
        Daemon::start(None, &format!("[input.live]\ndevice = \"{device}\"\n"))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `http://127.0.0.1:PORT` and that target.
    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    /// Sends a GET and returns once the head of the answer is there.
    pub(crate) fn get(&self, target: &str) -> Response {
        http::request(self.address, "GET", target, "1.1", &[])
    }

    /// The same with more headers.
    pub(crate) fn get_with(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        http::request(self.address, "GET", target, "1.1", headers)
    }

    /// `/status.json`.
    pub(crate) fn status(&self) -> Value {
        let text = self.get("/status.json").text();
        serde_json::from_str(&text).expect("the status is JSON")
    }

    /// The state of an input.
    pub(crate) fn input(&self, name: &str) -> Value {
        let status = self.status();
        let inputs = status["inputs"].as_array().expect("inputs");
        inputs.iter().find(|input| input["name"] == name).unwrap_or_else(|| panic!("no input {name}")).clone()
    }

    /// Waits until an input is in that state (`waiting`, `capturing`, `lost`), and returns its status.
    pub(crate) fn wait_for_state(&self, name: &str, state: &str) -> Value {
        wait_for(&format!("{name} to be {state}"), || {
            Some(self.input(name)).filter(|input| input["state"] == state)
        })
    }

    /// Waits for a line of the log that contains `text`, and returns it.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        wait_for(&format!("a log line with {text:?}"), || self.log().into_iter().find(|l| l.contains(text)))
    }

    /// All lines of the log until now.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("no test panics holding it").clone()
    }

    /// Replaces the configuration and sends SIGHUP.
    pub(crate) fn reload(&self, config: &str) {
        // The port stays the one it chose.
        let config = format!("[http]\nlisten = \"{}\"\n{config}", self.address);
        fs::write(self.folder.join("wavecast.toml"), config).expect("the configuration is written");
        self.signal("HUP");
    }

    /// Sends a signal: `TERM`, `INT`, `HUP`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits until it has ended and tells how, and how long that took.
    pub(crate) fn wait(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
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
