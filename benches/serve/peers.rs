//! The peers: programs from the distribution that serve the ramp, each configured as its documentation describes,
//! and the prototype of this project.
//!
//! The peers play the ramp from a file, since none of them reads `synth:ramp`. The benchmark counts the CPU time of
//! the serving process only; the ffmpeg that feeds Icecast is not counted.

use std::env;
use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use wavecast::media::wav::{self, Sizes};

use crate::{FORMAT, FRAME_BYTES, RAMP_FRAMES, ramp};

/// Repetitions of the ramp in the file: three minutes, longer than a step.
const TURNS: usize = 121;
/// The time limit for a peer to start serving.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that is compared with the daemon.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Icecast,
    Mpd,
    Vlc,
    Flask,
}

impl Peer {
    pub(crate) const ALL: [Peer; 4] = [Peer::Icecast, Peer::Mpd, Peer::Vlc, Peer::Flask];

    /// Returns the peer's name on the command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Peer::Icecast => "icecast",
            Peer::Mpd => "mpd",
            Peer::Vlc => "vlc",
            Peer::Flask => "flask",
        }
    }

    /// Returns the largest number of listeners to measure: with more, the peer only falls behind.
    pub(crate) const fn most(self) -> usize {
        match self {
            Peer::Flask => 50,
            _ => usize::MAX,
        }
    }

    /// Returns the version, if the peer is installed.
    pub(crate) fn version(self) -> Option<String> {
        let (program, arguments): (&str, &[&str]) = match self {
            Peer::Icecast => ("icecast2", &["-v"]),
            Peer::Mpd => ("mpd", &["--version"]),
            Peer::Vlc => ("dpkg-query", &["-W", "-f", "VLC ${Version}", "vlc-bin"]),
            Peer::Flask => ("dpkg-query", &["-W", "-f", "Flask ${Version}", "python3-flask"]),
        };
        let output =
            Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8_lossy(&output.stdout).lines().next().map(|line| line.trim().to_owned())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Peer::Icecast => "Icecast",
            Peer::Mpd => "MPD",
            Peer::Vlc => "VLC",
            Peer::Flask => "Flask",
        })
    }
}

/// A running peer.
pub(crate) struct Running {
    /// The serving process first; then the process that feeds it.
    processes: Vec<Child>,
    address: SocketAddr,
    folder: PathBuf,
}

impl Running {
    pub(crate) fn start(peer: Peer) -> Running {
        let folder = env::temp_dir().join(format!("wavecast-bench-{}-{}", std::process::id(), peer.word()));
        fs::create_dir_all(&folder).expect("a folder");
        // Some peers refuse to run as root and need write access as another user.
        let _ = Command::new("chmod").arg("777").arg(&folder).status();
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let mut running = Running { processes: Vec::new(), address: ([127, 0, 0, 1], port).into(), folder };
        match peer {
            Peer::Icecast => running.icecast(),
            Peer::Mpd => running.mpd(),
            Peer::Vlc => running.vlc(),
            Peer::Flask => running.flask(),
        }
        running
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.processes[0].id()
    }

    /// The path of the stream, for every peer.
    pub(crate) const TARGET: &str = "/live.wav";

    fn icecast(&mut self) {
        let (port, folder) = (self.address.port(), self.folder.display());
        let config = self.write(
            "icecast.xml",
            &format!(
                "<icecast><limits><clients>5000</clients><sources>2</sources><burst-on-connect>0</burst-on-connect>\
                 </limits><authentication><source-password>bench</source-password><admin-user>admin</admin-user>\
                 <admin-password>bench</admin-password></authentication><hostname>localhost</hostname>\
                 <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>\
                 <paths><logdir>{folder}</logdir><webroot>/usr/share/icecast2/web</webroot>\
                 <adminroot>/usr/share/icecast2/admin</adminroot></paths>\
                 <logging><accesslog>access</accesslog><errorlog>error</errorlog><loglevel>1</loglevel></logging></icecast>"
            ),
        );
        self.spawn(as_nobody("icecast2").arg("-c").arg(config));
        self.wait();
        let samples = self.samples();
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args([
            "-loglevel",
            "error",
            "-nostdin",
            "-re",
            "-f",
            "s16le",
            "-ar",
            "44100",
            "-ac",
            "2",
            "-i",
        ]);
        ffmpeg.arg(samples).args([
            "-c:a",
            "copy",
            "-f",
            "s16le",
            "-content_type",
            "application/octet-stream",
        ]);
        self.spawn(ffmpeg.arg(format!("icecast://source:bench@127.0.0.1:{port}{}", Running::TARGET)));
        // A mount exists once its source has sent some data.
        thread::sleep(Duration::from_secs(2));
    }

    fn mpd(&mut self) {
        let (port, folder) = (self.address.port(), self.folder.display());
        let file = self.wav_file();
        let config = self.write(
            "mpd.conf",
            &format!(
                "bind_to_address \"{folder}/socket\"\nzeroconf_enabled \"no\"\naudio_output {{\n type \"httpd\"\n name \
                 \"http\"\n encoder \"wave\"\n port \"{port}\"\n bind_to_address \"127.0.0.1\"\n format \"44100:16:2\"\n \
                 max_clients \"0\"\n}}\n"
            ),
        );
        self.spawn(Command::new("mpd").args(["--no-daemon", "--stderr"]).arg(config));
        let socket = self.folder.join("socket");
        let began = Instant::now();
        while !socket.exists() {
            assert!(began.elapsed() < PATIENCE, "MPD does not start");
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_millis(500));
        for arguments in [&["add", &format!("file://{}", file.display())][..], &["repeat", "on"], &["play"]] {
            let done = Command::new("mpc")
                .arg("--quiet")
                .arg(format!("--host={}", socket.display()))
                .args(arguments)
                .status();
            assert!(done.is_ok_and(|done| done.success()), "mpc {arguments:?}");
        }
        self.wait();
        thread::sleep(Duration::from_secs(1));
    }

    fn vlc(&mut self) {
        let sout = format!("#std{{access=http,mux=wav,dst={}{}}}", self.address, Running::TARGET);
        let file = self.wav_file();
        let mut vlc = as_nobody("vlc");
        vlc.env("HOME", &self.folder).args(["--intf", "dummy", "--quiet", "--sout-keep", "--sout", &sout]);
        self.spawn(vlc.arg(file));
        self.wait();
        thread::sleep(Duration::from_secs(1));
    }

    fn flask(&mut self) {
        let samples = self.samples();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/serve/flask_prototype.py");
        let port = self.address.port().to_string();
        self.spawn(Command::new("/usr/bin/python3").arg(script).arg(port).arg(samples));
        self.wait();
    }

    fn spawn(&mut self, command: &mut Command) {
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log")).expect("a log");
        let same = log.try_clone().expect("a descriptor");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(same).spawn();
        self.processes.push(child.expect("it is installed"));
    }

    fn wait(&mut self) {
        let began = Instant::now();
        // Before the peer listens, a connection to a local port may connect to itself.
        let serves = |socket: TcpStream| socket.local_addr().is_ok_and(|own| own != self.address);
        while !TcpStream::connect(self.address).is_ok_and(serves) {
            let ended = self.processes[0].try_wait().expect("our child").is_some();
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(!ended && began.elapsed() < PATIENCE, "it does not serve:\n{}", log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("written");
        path
    }

    fn samples(&self) -> PathBuf {
        let path = self.folder.join("ramp.raw");
        fs::write(&path, ramp(0, RAMP_FRAMES).repeat(TURNS)).expect("written");
        path
    }

    fn wav_file(&self) -> PathBuf {
        let frames = TURNS * RAMP_FRAMES;
        let mut file = wav::header(FORMAT, Sizes::Data(frames as u32 * FRAME_BYTES as u32)).to_vec();
        file.extend(ramp(0, RAMP_FRAMES).repeat(TURNS));
        let path = self.folder.join("ramp.wav");
        fs::write(&path, file).expect("written");
        path
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns a command that runs as `nobody` if this process is root, for programs that refuse to run as root.
fn as_nobody(program: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", program]);
    command
}
