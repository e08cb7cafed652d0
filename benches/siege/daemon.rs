//! The measured program as a child process, with a configuration and a port of its own on 127.0.0.1.

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::http;
use crate::{FRAME_BYTES, RATE};

/// Time within which the daemon must answer after its start.
const START: Duration = Duration::from_secs(10);
/// Time that one try to reach the daemon may take.
const TRY: Duration = Duration::from_secs(1);

/// A running daemon with the input `live` = `synth:ramp`. Killed on drop.
pub(crate) struct Daemon {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

/// The properties in which daemons differ.
#[derive(Clone, Copy, Default)]
pub(crate) struct Settings {
    /// `connections_per_address`; "auto" without a value, which exempts the loopback from limits per client.
    pub(crate) connections_per_address: Option<u32>,
    /// The limit of open files (`ulimit -n`); as inherited without a value.
    pub(crate) open_files: Option<u32>,
}

impl Daemon {
    /// Starts the program and waits until `/healthz` is answered with 200, which says that sound comes in. The
    /// configuration and the log are kept in `target/siege` under `label`.
    ///
    /// # Errors
    ///
    /// A sentence with the last lines of the log: the program cannot be started, or does not answer in time.
    pub(crate) fn start(program: &Path, label: &str, settings: Settings) -> Result<Daemon, String> {
        let failed = |error: io::Error| format!("{} cannot be started: {error}", program.display());
        let folder = crate::folder();
        fs::create_dir_all(&folder).map_err(failed)?;
        let address = free_address().map_err(failed)?;
        let config = folder.join(format!("{label}.toml"));
        fs::write(&config, settings.config(address)).map_err(failed)?;
        let log = folder.join(format!("{label}.log"));
        let mut command = match settings.open_files {
            None => Command::new(program),
            Some(files) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]).arg(program);
                shell
            }
        };
        command.arg("--config").arg(&config).env_remove("RUST_LOG").env_remove("JOURNAL_STREAM");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).map_err(failed)?);
        let child = command.spawn().map_err(failed)?;
        let mut daemon = Daemon { child, address, log };
        daemon.wait_until_healthy()?;
        Ok(daemon)
    }

    /// The address at which it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process ID.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether the process still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn wait_until_healthy(&mut self) -> Result<(), String> {
        let end = Instant::now() + START;
        loop {
            let last = match self.ask_health() {
                Ok(200) => return Ok(()),
                Ok(status) => format!("it answered {status}"),
                Err(error) => error.to_string(),
            };
            if !self.is_running() || Instant::now() > end {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(format!("The daemon is not healthy after its start: {last}\n{log}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask_health(&self) -> io::Result<u16> {
        let mut socket = TcpStream::connect_timeout(&self.address, TRY)?;
        socket.set_read_timeout(Some(TRY))?;
        socket.write_all(http::get(self.address, "/healthz").as_bytes())?;
        http::read_answer(&mut BufReader::new(socket))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Settings {
    fn config(self, address: SocketAddr) -> String {
        let per_address = self.connections_per_address.map_or("\"auto\"".to_owned(), |n| n.to_string());
        // A history of one second is full when an attack begins, so the memory of the ring does not grow during it.
        // A synthetic buffer of 10 s keeps frames that a starved machine would lose in front of the server.
        format!(
            "[http]\nlisten = \"{address}\"\n\
             [limits]\nconnections_per_address = {per_address}\n\
             [input.live]\ndevice = \"synth:ramp\"\nrate = {RATE}\nchannels = {}\nformat = \"s16\"\n\
             history_seconds = 1\nbuffer_ms = 10000\n",
            FRAME_BYTES / 2
        )
    }
}

/// Returns an address of the loopback whose port was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
