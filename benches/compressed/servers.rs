//! The servers: wavecast, and programs of the distribution, each configured as its documentation describes.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use wavecast::encode::Codec;
use wavecast::media::format::{SampleFormat, StreamFormat};
use wavecast::media::wav::{self, Sizes};

use crate::distribution::Processes;
use crate::shared::process;
use crate::support::card::{Card, CardOptions};
use crate::support::daemon::Daemon;
use crate::support::material::Material;
use crate::{BITRATE, CHANNELS, RATE};

/// The length of the sound, which repeats.
const SECONDS: usize = 20;

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

    /// Returns `true` if the server can send that codec to a client that joins late.
    pub(crate) fn can(self, codec: Codec) -> bool {
        // darkice has no FLAC, and Opus only of 48 kHz.
        self != Server::Darkice || codec == Codec::Mp3
    }

    /// Returns `true` if all programs of the server are there.
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
    processes: Processes,
    _card: Option<Card>,
}

impl Running {
    pub(crate) fn start(server: Server, codec: Codec) -> Running {
        let mut running =
            Running { codec, daemon: None, processes: Processes::new("compressed"), _card: None };
        match server {
            Server::Wavecast => running.wavecast(),
            Server::Darkice => running.darkice(),
            Server::Ffmpeg => running.ffmpeg(),
            Server::Mpd => running.mpd(),
        }
        running
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.daemon.as_ref().map_or(self.processes.address(), |daemon| daemon.address())
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
        self.daemon.iter().map(Daemon::pid).chain(self.processes.pids())
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
        self.daemon = Some(daemon);
    }

    fn darkice(&mut self) {
        self.processes.icecast();
        let (key, value, device) = self.card();
        let (port, codec) = (self.processes.address().port(), self.codec.name());
        // darkice gives LAME ten times what is missing to 1 as its quality, 9 without that line. wavecast's is 7.
        let config = self.processes.write(
            "darkice.cfg",
            format!(
                "[general]\nduration = 0\nbufferSecs = 5\nreconnect = yes\n[input]\ndevice = {device}\nsampleRate = {RATE}\n\
                 bitsPerSample = 16\nchannel = {CHANNELS}\n[icecast2-0]\nformat = mp3\nquality = 0.3\nbitrateMode = cbr\n\
                 bitrate = {BITRATE}\nserver = 127.0.0.1\nport = {port}\npassword = bench\nmountPoint = live.{codec}\n"
            ),
        );
        self.processes.spawn(Command::new("darkice").env(key, value).arg("-c").arg(config));
        self.processes.wait_for_stream(&self.target());
    }

    fn ffmpeg(&mut self) {
        self.processes.icecast();
        let (port, sound, target) = (self.processes.address().port(), self.wav_file(), self.target());
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
        self.processes.spawn(&mut ffmpeg);
        self.processes.wait_for_stream(&target);
    }

    fn mpd(&mut self) {
        let encoder = match self.codec {
            Codec::Mp3 => format!("encoder \"lame\"\n bitrate \"{BITRATE}\""),
            Codec::Opus => format!("encoder \"opus\"\n bitrate \"{}\"\n complexity \"5\"", BITRATE * 1000),
            Codec::Flac => "encoder \"flac\"\n compression \"2\"".to_owned(),
        };
        let sound = self.wav_file();
        self.processes.mpd(&encoder, &format!("{RATE}:16:{CHANNELS}"), &sound);
    }

    fn wav_file(&self) -> PathBuf {
        let format = StreamFormat { rate: RATE, channels: CHANNELS as u16, sample: SampleFormat::S16 };
        // As long as a measurement: MPD makes a pause where a file begins again.
        let sound = music().repeat(6);
        let mut file = wav::header(format, Sizes::Data(sound.len() as u32)).to_vec();
        file.extend(sound);
        self.processes.write("music.wav", file)
    }
}

fn music() -> Vec<u8> {
    Material::Music.pcm(RATE, CHANNELS, SECONDS * RATE as usize, 2)
}
