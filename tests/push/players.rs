//! Listeners of the servers: real players, which join late and write the sound that they would play.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process_group};

use crate::LONG;
use crate::support::wait_within;

/// A player that runs. It is killed on drop.
pub(crate) struct Player {
    name: String,
    child: Child,
    heard: Arc<Mutex<Vec<u8>>>,
    errors: Arc<Mutex<Vec<u8>>>,
}

impl Player {
    /// Starts ffmpeg, which writes samples of 16 bits.
    pub(crate) fn ffmpeg(url: &str) -> Player {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-loglevel", "error", "-i", url, "-f", "s16le", "-"]);
        Player::start(command)
    }

    /// Starts mpv.
    pub(crate) fn mpv(url: &str) -> Player {
        let mut command = Command::new("mpv");
        command.args(["--no-config", "--no-terminal", "--ao=pcm", "--ao-pcm-waveheader=no"]);
        command.args(["--ao-pcm-file=/dev/stdout", "--audio-format=s16", url]);
        Player::start(command)
    }

    /// Starts VLC, which refuses to run as root.
    pub(crate) fn vlc(url: &str) -> Player {
        let mut command = match geteuid().is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "vlc"]);
                command.env("HOME", "/nonexistent");
                command
            }
            false => Command::new("vlc"),
        };
        command.args(["--intf=dummy", "--quiet", "--ignore-config", url]);
        command.args(["--aout=afile", "--audiofile-file=-", "--audiofile-format=s16", "--no-audiofile-wav"]);
        Player::start(command)
    }

    fn start(mut command: Command) -> Player {
        let name = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let heard = gather(child.stdout.take().expect("it is piped"));
        let errors = gather(child.stderr.take().expect("it is piped"));
        Player { name, child, heard, errors }
    }

    /// Waits until it has played `bytes` bytes more, and returns them.
    pub(crate) fn hear(&mut self, bytes: usize) -> Vec<u8> {
        let event = format!("{bytes} bytes of sound from {}", self.name);
        wait_within(LONG, Duration::from_millis(5), &event, || {
            let ended = self.child.try_wait().expect("it is our child");
            let mut heard = self.heard.lock().expect("nobody panics holding it");
            if heard.len() >= bytes {
                return Some(heard.drain(..bytes).collect());
            }
            assert!(ended.is_none(), "{} ended after {} bytes: {ended:?}", self.name, heard.len());
            None
        })
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            let errors = self.errors.lock().map(|errors| String::from_utf8_lossy(&errors).into_owned());
            eprintln!("--- {}:\n{}\n---", self.name, errors.unwrap_or_default());
        }
    }
}

fn gather(mut from: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let all: Arc<Mutex<Vec<u8>>> = Arc::default();
    let shared = Arc::clone(&all);
    std::thread::spawn(move || {
        let mut bytes = [0; 65536];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            shared.lock().expect("nobody panics holding it").extend_from_slice(&bytes[..count]);
        }
    });
    all
}

/// Returns `true` if sound of 16 bits is no silence.
pub(crate) fn is_loud(sound: &[u8]) -> bool {
    let loud = sound
        .chunks_exact(2)
        .filter(|sample| i16::from_le_bytes([sample[0], sample[1]]).unsigned_abs() > 500);
    loud.count() > sound.len() / 2 / 10
}

/// Returns `true` if sound of 16 bits is silence, but for what a decoder leaves of the sound before.
pub(crate) fn is_silent(sound: &[u8]) -> bool {
    sound.chunks_exact(2).all(|sample| i16::from_le_bytes([sample[0], sample[1]]).unsigned_abs() < 10)
}
