//! The peers: programs from the distribution that serve the ramp, each configured as its documentation describes,
//! and the prototype of this project.
//!
//! The peers play the ramp from a file, since none of them reads `synth:ramp`. The benchmark counts the CPU time of
//! the serving process only; the ffmpeg that feeds Icecast is not counted.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use wavecast::media::wav::{self, Sizes};

use crate::distribution::Processes;
use crate::support::programs::as_nobody;
use crate::{FORMAT, FRAME_BYTES, RAMP_FRAMES, ramp};

/// Repetitions of the ramp in the file: three minutes, longer than a step.
const TURNS: usize = 121;

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
pub(crate) struct Running(Processes);

impl Running {
    pub(crate) fn start(peer: Peer) -> Running {
        let mut running = Running(Processes::new(peer.word()));
        match peer {
            Peer::Icecast => running.icecast(),
            Peer::Mpd => running.mpd(),
            Peer::Vlc => running.vlc(),
            Peer::Flask => running.flask(),
        }
        running.0.wait_for_stream(Running::TARGET);
        running
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.pids().next().expect("it runs")
    }

    /// The path of the stream, for every peer.
    pub(crate) const TARGET: &str = "/live.wav";

    fn icecast(&mut self) {
        self.0.icecast();
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
        ffmpeg.arg(self.samples()).args(["-c:a", "copy", "-f", "s16le"]);
        ffmpeg.args(["-content_type", "application/octet-stream"]);
        self.0.spawn(ffmpeg.arg(format!("icecast://source:bench@{}{}", self.address(), Running::TARGET)));
    }

    fn mpd(&mut self) {
        let file = self.wav_file();
        self.0.mpd("encoder \"wave\"", "44100:16:2", &file);
    }

    fn vlc(&mut self) {
        let sout = format!("#std{{access=http,mux=wav,dst={}{}}}", self.address(), Running::TARGET);
        let file = self.wav_file();
        let mut vlc = as_nobody("vlc");
        vlc.env("HOME", self.0.folder());
        vlc.args(["--intf", "dummy", "--quiet", "--sout-keep", "--sout", &sout]);
        self.0.spawn(vlc.arg(file));
    }

    fn flask(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/serve/flask_prototype.py");
        let (port, samples) = (self.address().port().to_string(), self.samples());
        self.0.spawn(Command::new("/usr/bin/python3").arg(script).arg(port).arg(samples));
    }

    fn samples(&self) -> PathBuf {
        self.0.write("ramp.raw", ramp(0, RAMP_FRAMES).repeat(TURNS))
    }

    fn wav_file(&self) -> PathBuf {
        let frames = TURNS * RAMP_FRAMES;
        let mut file = wav::header(FORMAT, Sizes::Data(frames as u32 * FRAME_BYTES as u32)).to_vec();
        file.extend(ramp(0, RAMP_FRAMES).repeat(TURNS));
        self.0.write("ramp.wav", file)
    }
}
