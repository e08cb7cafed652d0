//! Real players as child processes, each of which writes the sound that it would play to its standard output.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, thread};

use rustix::process::{Pid, Signal, geteuid, kill_process_group};

use super::programs::as_nobody;
use super::{PATIENCE, wait_for, wait_within};

/// A player that plays. It is killed on drop.
pub(crate) struct Playing {
    pub(crate) name: String,
    pub(crate) child: Child,
    /// The standard output that no test has read yet.
    pub(crate) heard: Arc<Mutex<Vec<u8>>>,
    /// The standard error.
    pub(crate) errors: Arc<Mutex<Vec<u8>>>,
    /// A folder that is removed in the end.
    pub(crate) folder: Option<PathBuf>,
}

impl Playing {
    /// Starts a player.
    pub(crate) fn start(command: &mut Command) -> Playing {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The player has a process group, so that its children end with it.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let heard = gather(child.stdout.take().expect("it is piped"));
        let errors = gather(child.stderr.take().expect("it is piped"));
        Playing { name, child, heard, errors, folder: None }
    }

    /// Reads the standard output until `enough` returns `true`.
    pub(crate) fn hear(&mut self, event: &str, enough: impl FnMut(&[u8]) -> bool) {
        self.hear_within(PATIENCE, event, enough);
    }

    /// Reads the standard output like [`Playing::hear`], of a player that may take `patience`.
    pub(crate) fn hear_within(
        &mut self,
        patience: Duration,
        event: &str,
        mut enough: impl FnMut(&[u8]) -> bool,
    ) {
        wait_within(patience, Duration::from_millis(5), &format!("{event} from {}", self.name), || {
            let ended = self.child.try_wait().expect("it is our child");
            let bytes = std::mem::take(&mut *self.heard.lock().expect("nobody panics holding it"));
            if enough(&bytes) {
                return Some(());
            }
            assert!(ended.is_none(), "{} ended: {ended:?}", self.name);
            None
        });
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        // MPlayer fills its cache in a second process, which would read on for ever.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
        if thread::panicking() {
            let errors = self.errors.lock().map(|errors| String::from_utf8_lossy(&errors).into_owned());
            eprintln!("--- {}:\n{}\n---", self.name, errors.unwrap_or_default());
        }
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Reads everything from a pipe, so that a player never waits for a test.
pub(crate) fn gather(mut pipe: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let all: Arc<Mutex<Vec<u8>>> = Arc::default();
    let more = Arc::clone(&all);
    thread::spawn(move || {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = pipe.read(&mut bytes) {
            more.lock().expect("nobody panics holding it").extend_from_slice(&bytes[..count]);
        }
    });
    all
}

/// Returns curl.
pub(crate) fn curl(url: &str) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--no-buffer", url]);
    command
}

/// Returns ffmpeg, which writes samples of that name.
pub(crate) fn ffmpeg(url: &str, samples: &str) -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-i", url, "-f", samples, "-"]);
    command
}

/// Returns VLC without a window.
pub(crate) fn vlc(url: &str) -> Command {
    let mut command = as_nobody("vlc");
    if geteuid().is_root() {
        command.env("HOME", "/nonexistent");
    }
    command.args(["--intf=dummy", "--quiet", "--ignore-config", url]);
    command
}

/// Returns VLC with a file as its sound card, which takes 16 bits.
pub(crate) fn vlc_to_card(url: &str) -> Command {
    let mut command = vlc(url);
    command.args(["--aout=afile", "--audiofile-file=-", "--audiofile-format=s16", "--no-audiofile-wav"]);
    command
}

/// Returns mpv, which writes samples without a header.
pub(crate) fn mpv(url: &str) -> Command {
    let mut command = Command::new("mpv");
    command.args(["--no-config", "--no-terminal", "--ao=pcm", "--ao-pcm-waveheader=no"]);
    command.args(["--ao-pcm-file=/dev/stdout", url]);
    command
}

/// Returns mpv, which writes samples of 16 bits.
pub(crate) fn mpv_in_16_bits(url: &str) -> Command {
    let mut command = mpv(url);
    command.arg("--audio-format=s16");
    command
}

/// Returns GStreamer with that pipeline.
pub(crate) fn gstreamer(pipeline: &[&str]) -> Command {
    let mut command = Command::new("gst-launch-1.0");
    command.arg("--quiet").args(pipeline);
    command
}

/// Returns sox, which fetches with wget.
pub(crate) fn sox(url: &str) -> Command {
    let mut command = Command::new("sox");
    command.args([url, "--type", "raw", "-"]);
    command
}

/// Returns MPlayer, which writes samples without a header.
pub(crate) fn mplayer(arguments: &[&str]) -> Command {
    let mut command = Command::new("mplayer");
    command.args(["-really-quiet", "-noconfig", "all", "-nolirc", "-vo", "null"]);
    command.args(["-ao", "pcm:nowaveheader:file=/dev/stdout"]).args(arguments);
    command
}

/// Starts an MPD, and has `mpc` `load` a playlist or `add` an address. Its output is a command that gets samples in
/// `format`, as MPD's configuration has it; `*:*:*` for what the decoder gives.
pub(crate) fn mpd(verb: &str, url: &str, format: &str) -> Playing {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    // The path of a socket may not be as long as that of cargo's folder.
    let folder = env::temp_dir().join(format!("wavecast-mpd-{}-{number}", process::id()));
    fs::create_dir_all(&folder).expect("a folder for MPD");
    let (config, socket) = (folder.join("mpd.conf"), folder.join("socket"));
    let text = format!(
        "bind_to_address \"{}\"\nplaylist_directory \"{}\"\nzeroconf_enabled \"no\"\n\
         audio_output {{\n  type \"pipe\"\n  name \"stdout\"\n  command \"cat\"\n  format \"{format}\"\n}}\n",
        socket.display(),
        folder.display()
    );
    fs::write(&config, text).expect("MPD's configuration is written");
    let mut playing = Playing::start(Command::new("mpd").args(["--no-daemon", "--stderr"]).arg(config));
    playing.folder = Some(folder);
    let mpc = |arguments: &[&str]| {
        let mut host = OsString::from("--host=");
        host.push(&socket);
        let output = Command::new("mpc").arg("--quiet").arg(host).args(arguments).output();
        output.expect("mpc runs").status.success()
    };
    wait_for("MPD", || mpc(&["status"]).then_some(()));
    assert!(mpc(&[verb, url]), "mpc {verb} {url}");
    assert!(mpc(&["play"]));
    playing
}
