//! The servers: wavecast, and programs of the distribution, each configured as its documentation describes.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use wavecast::encode::Codec;
use wavecast::media::format::{SampleFormat, StreamFormat};
use wavecast::media::wav::{self, Sizes};

use crate::material::Material;
use crate::support::card::{Card, CardOptions};
use crate::support::daemon::Daemon;
use crate::{BITRATE, CHANNELS, RATE, process};

/// The length of the sound, which repeats.
const SECONDS: usize = 20;
/// The time limit for a server to start serving.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server to measure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Wavecast,
    /// darkice captures and encodes, Icecast serves.
    Darkice,
    /// ffmpeg reads a file in real time and encodes, Icecast serves.
    Ffmpeg,
    /// MPD plays a file into its own HTTP server.
    Mpd,
}

impl Server {
    pub(crate) const ALL: [Server; 4] = [Server::Wavecast, Server::Darkice, Server::Ffmpeg, Server::Mpd];

    /// Returns whether the server can send that codec to whoever comes later.
    pub(crate) fn can(self, codec: Codec) -> bool {
        // darkice has no FLAC; FLAC goes through Icecast in Ogg.
        self != Server::Darkice || codec != Codec::Flac
    }

    /// Returns whether all programs of the server are there.
    pub(crate) fn is_installed(self) -> bool {
        let programs: &[&str] = match self {
            Server::Wavecast => &[],
            Server::Darkice => &["darkice", "icecast2"],
            Server::Ffmpeg => &["ffmpeg", "icecast2"],
            Server::Mpd => &["mpd", "mpc"],
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        programs
            .iter()
            .all(|program| std::env::split_paths(&path).any(|folder| folder.join(program).exists()))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Server::Wavecast => "wavecast",
            Server::Darkice => "darkice + Icecast",
            Server::Ffmpeg => "ffmpeg + Icecast",
            Server::Mpd => "MPD",
        })
    }
}

/// A running server. Its processes end when it is dropped.
pub(crate) struct Running {
    codec: Codec,
    daemon: Option<Daemon>,
    processes: Vec<Child>,
    address: SocketAddr,
    folder: PathBuf,
    _card: Option<Card>,
}

impl Running {
    pub(crate) fn start(server: Server, codec: Codec) -> Running {
        let folder = std::env::temp_dir().join(format!("wavecast-compressed-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let _ = Command::new("chmod").arg("777").arg(&folder).status();
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let address = ([127, 0, 0, 1], port).into();
        let mut running =
            Running { codec, daemon: None, processes: Vec::new(), address, folder, _card: None };
        match server {
            Server::Wavecast => running.wavecast(),
            Server::Darkice => running.darkice(),
            Server::Ffmpeg => running.ffmpeg(),
            Server::Mpd => running.mpd(),
        }
        running
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the target of the stream.
    pub(crate) fn target(&self) -> String {
        match self.codec {
            Codec::Flac => "/live.flac".to_owned(),
            // At the bit rate of the other servers.
            codec => format!("/live.{}?bitrate={BITRATE}", codec.name()),
        }
    }

    /// Returns the CPU time of all processes.
    pub(crate) fn cpu_time(&self) -> Duration {
        self.pids().map(process::cpu_time).sum()
    }

    /// Returns the memory of all processes in KB.
    pub(crate) fn memory(&self) -> f64 {
        self.pids().map(|pid| process::size(pid).rss).sum()
    }

    fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.daemon.iter().map(Daemon::pid).chain(self.processes.iter().map(Child::id))
    }

    fn card(&mut self) -> (&'static str, PathBuf, String) {
        let raw = music().chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]])).collect();
        let card = Card::new("music", CardOptions { raw: Some(raw), ..CardOptions::default() });
        let ((key, value), device) = (card.env(), card.device().to_owned());
        self._card = Some(card);
        (key, value, device)
    }

    fn wavecast(&mut self) {
        let (key, value, device) = self.card();
        let config = format!(
            "[input.live]\ndevice = \"{device}\"\nrate = {RATE}\nchannels = {CHANNELS}\n\
             period_ms = 10\nbuffer_ms = 500\n"
        );
        let daemon = Daemon::with_env(&config, &[(key, value.as_os_str())], Stdio::piped());
        daemon.wait_for_edge(u64::from(RATE));
        self.address = daemon.address();
        self.daemon = Some(daemon);
    }

    fn darkice(&mut self) {
        self.icecast();
        let (key, value, device) = self.card();
        let format = match self.codec {
            Codec::Mp3 => "mp3",
            _ => "opus",
        };
        let (port, codec) = (self.address.port(), self.codec.name());
        let config = self.write(
            "darkice.cfg",
            &format!(
                "[general]\nduration = 0\nbufferSecs = 5\nreconnect = yes\n[input]\ndevice = {device}\nsampleRate = {RATE}\n\
                 bitsPerSample = 16\nchannel = {CHANNELS}\n[icecast2-0]\nformat = {format}\nbitrateMode = cbr\n\
                 bitrate = {BITRATE}\nserver = 127.0.0.1\nport = {port}\npassword = bench\nmountPoint = live.{codec}\n"
            ),
        );
        self.spawn(Command::new("darkice").env(key, value).arg("-c").arg(config));
        self.wait_for_stream();
    }

    fn ffmpeg(&mut self) {
        self.icecast();
        let (port, sound, target) = (self.address.port(), self.wav_file(), self.target());
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-loglevel", "error", "-nostdin", "-re", "-stream_loop", "-1", "-i"]).arg(sound);
        let bits = format!("{BITRATE}k");
        match self.codec {
            Codec::Mp3 => {
                ffmpeg.args(["-c:a", "libmp3lame", "-compression_level", "7", "-b:a", &bits, "-f", "mp3"])
            }
            Codec::Opus => ffmpeg
                .args(["-c:a", "libopus", "-compression_level", "5", "-vbr", "off", "-b:a", &bits])
                .args(["-ar", "48000", "-page_duration", "20000", "-f", "ogg"]),
            Codec::Flac => ffmpeg
                .args(["-c:a", "flac", "-compression_level", "2", "-frame_size", "1152"])
                .args(["-page_duration", "24000", "-f", "ogg"]),
        };
        let kind = if self.codec == Codec::Mp3 { "audio/mpeg" } else { "application/ogg" };
        let mount = target.split('?').next().unwrap_or(&target);
        ffmpeg.args(["-content_type", kind]).arg(format!("icecast://source:bench@127.0.0.1:{port}{mount}"));
        self.spawn(&mut ffmpeg);
        self.wait_for_stream();
    }

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
        let mut icecast = Command::new("icecast2");
        if rustix::process::geteuid().is_root() {
            icecast = Command::new("setpriv");
            icecast.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "icecast2"]);
        }
        self.spawn(icecast.arg("-c").arg(config));
        self.wait();
    }

    fn mpd(&mut self) {
        let (port, folder) = (self.address.port(), self.folder.display());
        let encoder = match self.codec {
            Codec::Mp3 => format!("encoder \"lame\"\n bitrate \"{BITRATE}\""),
            Codec::Opus => format!("encoder \"opus\"\n bitrate \"{}\"\n complexity \"5\"", BITRATE * 1000),
            Codec::Flac => "encoder \"flac\"\n compression \"2\"".to_owned(),
        };
        let sound = self.wav_file();
        let config = self.write(
            "mpd.conf",
            &format!(
                "bind_to_address \"{folder}/socket\"\nzeroconf_enabled \"no\"\naudio_output {{\n type \"httpd\"\n \
                 name \"http\"\n {encoder}\n port \"{port}\"\n bind_to_address \"127.0.0.1\"\n \
                 format \"{RATE}:16:{CHANNELS}\"\n max_clients \"0\"\n}}\n"
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
        for arguments in [&["add", &format!("file://{}", sound.display())][..], &["repeat", "on"], &["play"]]
        {
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

    fn spawn(&mut self, command: &mut Command) {
        let log = fs::File::options().create(true).append(true).open(self.folder.join("log")).expect("a log");
        let same = log.try_clone().expect("a descriptor");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(same).spawn();
        self.processes.push(child.expect("it is installed"));
    }

    fn wait(&mut self) {
        let began = Instant::now();
        // Before the server listens, a connection to a local port may connect to itself.
        let serves = |socket: TcpStream| socket.local_addr().is_ok_and(|own| own != self.address);
        while !TcpStream::connect(self.address).is_ok_and(serves) {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let has_ended = self.processes[0].try_wait().expect("our child").is_some();
            assert!(!has_ended && began.elapsed() < PATIENCE, "it does not serve:\n{}", log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the mount exists.
    fn wait_for_stream(&mut self) {
        let (began, target) = (Instant::now(), self.target());
        let server = crate::support::server::Server::at(self.address);
        while TcpStream::connect(self.address).is_err() || server.get(&target).status != 200 {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "there is no stream:\n{}", log());
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("written");
        path
    }

    fn wav_file(&self) -> PathBuf {
        let path: &Path = &self.folder.join("music.wav");
        let format = StreamFormat { rate: RATE, channels: CHANNELS as u16, sample: SampleFormat::S16 };
        let sound = music();
        // As long as a measurement: MPD makes a pause where a file begins again.
        let all = sound.repeat(6);
        let mut file = wav::header(format, Sizes::Data(all.len() as u32)).to_vec();
        file.extend(all);
        fs::write(path, file).expect("written");
        path.to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
        self.daemon = None;
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn music() -> Vec<u8> {
    Material::Music.pcm(RATE, CHANNELS, SECONDS * RATE as usize, 2)
}
