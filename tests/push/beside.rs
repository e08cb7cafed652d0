//! wavecast beside darkice, ffmpeg and Liquidsoap as a source of an Icecast: the CPU time of capture, encoder and push, and the
//! time until each is back on the air after a network that has swallowed everything for 60 s.
//!
//! Only on request, by `scripts/bench --push`, on a machine that does nothing else. All run at once, each with a card of its own
//! (Liquidsoap: a file), on the board of [`Network`]. The table is printed in Markdown.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use wavecast::media::format::{SampleFormat, StreamFormat};
use wavecast::media::wav::{self, Sizes};

use crate::network::{Network, SERVER};
use crate::servers::{Extra, Icecast, PASSWORD, folder, installed};
use crate::support::card::{CardOptions, Cards};
use crate::support::daemon::Daemon;
use crate::support::material::Material;
use crate::support::stopwatch::Stopwatch;
use crate::wait_within;

const FORMAT: StreamFormat = StreamFormat { rate: 48_000, channels: 2, sample: SampleFormat::S16 };
const SOURCES: [&str; 4] = ["wavecast", "darkice", "ffmpeg", "liquidsoap"];
/// The streams of each source, with their bit rates in kbit/s.
const STREAMS: [(&str, u32); 2] = [("mp3", 128), ("opus", 96)];
/// The length of the sound, which repeats.
const SOUND: Duration = Duration::from_secs(20);
/// The time until all are on the air. Liquidsoap compiles its library first.
const START: Duration = Duration::from_secs(90);
/// The time over which CPU time is measured, after a time in which everything settles.
const MEASURED: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(5);
const HOLE: Duration = Duration::from_secs(60);
/// The time after the hole for which a source that is not back is watched.
const WATCHED: Duration = Duration::from_secs(120);

/// A source that runs.
enum Running {
    Wavecast(Daemon),
    Other(Child),
}

impl Running {
    fn pid(&self) -> u32 {
        match self {
            Running::Wavecast(daemon) => daemon.pid(),
            Running::Other(child) => child.id(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Running::Other(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The ends of a source: the card that it captures, or the file that it plays, and the mount that it feeds.
struct Ends<'a> {
    cards: &'a Cards,
    card: &'a str,
    file: &'a Path,
    icecast: &'a Icecast,
    mount: String,
}

#[test]
#[ignore = "takes five minutes: scripts/bench --push"]
fn a_push_beside_other_sources() {
    if !installed(&["icecast2", "ip", "darkice", "ffmpeg", "liquidsoap"]) {
        return;
    }
    let Some(network) = Network::new() else { return };
    let icecast = network.icecast(Extra::default());
    let folder = folder("beside");
    let pcm = Material::Music.pcm(FORMAT.rate, FORMAT.channels.into(), FORMAT.frames_in(SOUND) as usize, 2);
    let file = folder.join("music.wav");
    let header = wav::header(FORMAT, Sizes::Data(pcm.len() as u32));
    fs::write(&file, [&header[..], &pcm[..]].concat()).expect("written");
    let samples: Vec<i16> = pcm.chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]])).collect();
    let names: Vec<String> =
        (0..SOURCES.len() * STREAMS.len()).map(|number| format!("card{number}")).collect();
    let options = || CardOptions { raw: Some(samples.clone()), ..CardOptions::default() };
    let cards = Cards::with(names.iter().map(|name| (name.as_str(), options())));

    let pairs = SOURCES.iter().flat_map(|source| STREAMS.map(|stream| (*source, stream)));
    let running: Vec<(&str, String, Running)> = pairs
        .zip(&names)
        .map(|((source, (codec, bitrate)), card)| {
            let mount = format!("/{source}.{}", if codec == "mp3" { "mp3" } else { "ogg" });
            let ends = Ends { cards: &cards, card, file: &file, icecast: &icecast, mount: mount.clone() };
            (source, mount, start(source, codec, bitrate, &network, &ends, &folder))
        })
        .collect();
    for (_, mount, _) in &running {
        wait_within(START, Duration::from_millis(50), &format!("{mount} on the air"), || {
            (logins(&icecast, mount) > 0).then_some(())
        });
    }
    thread::sleep(SETTLE);
    let watch = Stopwatch::start();
    let before: Vec<Duration> = running.iter().map(|(_, _, one)| cpu_time(one.pid())).collect();
    thread::sleep(MEASURED);
    let elapsed = watch.elapsed().as_secs_f64();
    let shares: Vec<f64> = running
        .iter()
        .zip(before)
        .map(|((_, _, one), before)| (cpu_time(one.pid()) - before).as_secs_f64() / elapsed)
        .collect();

    network.forward(false);
    thread::sleep(HOLE);
    let before: Vec<usize> = running.iter().map(|(_, mount, _)| logins(&icecast, mount)).collect();
    network.forward(true);
    let ended = Stopwatch::start();
    let mut back: Vec<Option<Duration>> = vec![None; running.len()];
    while back.contains(&None) && ended.elapsed() < WATCHED {
        for (((_, mount, _), before), back) in running.iter().zip(&before).zip(&mut back) {
            if back.is_none() && logins(&icecast, mount) > *before {
                *back = Some(ended.elapsed());
            }
        }
        thread::sleep(Duration::from_millis(20));
    }

    println!("| source | stream | CPU of a core | back after a hole of {} s |", HOLE.as_secs());
    println!("|---|---|---|---|");
    for ((((source, _, _), (codec, bitrate)), share), back) in
        running.iter().zip(STREAMS.iter().cycle()).zip(&shares).zip(&back)
    {
        let back = match back {
            Some(time) => format!("{:.1} s", time.as_secs_f64()),
            None => format!("not within {} s", WATCHED.as_secs()),
        };
        println!("| {source} | {codec}, {bitrate} kbit/s | {:.2} % | {back} |", 100.0 * share);
    }
    let _ = fs::remove_dir_all(&folder);
    for (back, (source, mount, _)) in back.iter().zip(&running) {
        assert!(back.is_some() || *source != "wavecast", "{mount} is not back");
    }
}

fn start(
    source: &str,
    codec: &str,
    bitrate: u32,
    network: &Network,
    ends: &Ends<'_>,
    folder: &Path,
) -> Running {
    let Ends { cards, card, file, icecast, mount } = ends;
    let (key, value) = cards.env();
    let mut words = network.on_the_board();
    words.extend(["env".to_owned(), format!("{key}={}", value.display())]);
    let port = icecast.address.port();
    let to = format!("icecast://source:{PASSWORD}@{SERVER}:{port}{mount}");
    if source == "wavecast" {
        let config = format!(
            "[input.live]\ndevice = \"{card}\"\nrate = {}\nchannels = {}\n[push.radio]\nto = \"icecast://{SERVER}:{port}{mount}\"\n\
             password = \"{PASSWORD}\"\nformat = \"{codec}\"\nbitrate = {bitrate}\n",
            FORMAT.rate, FORMAT.channels
        );
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        return Running::Wavecast(Daemon::through(&words, &config));
    }
    let write = |ending: &str, text: String| -> PathBuf {
        let path = folder.join(format!("{source}-{codec}.{ending}"));
        fs::write(&path, text).expect("written");
        path
    };
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("HOME", folder);
    match source {
        "darkice" => {
            let name = mount.trim_start_matches('/');
            let text = format!(
                "[general]\nduration = 0\nbufferSecs = 5\nreconnect = yes\n[input]\ndevice = {card}\nsampleRate = {}\n\
                 bitsPerSample = 16\nchannel = {}\n[icecast2-0]\nformat = {codec}\nbitrateMode = cbr\nbitrate = {bitrate}\n\
                 server = {SERVER}\nport = {port}\npassword = {PASSWORD}\nmountPoint = {name}\n",
                FORMAT.rate, FORMAT.channels
            );
            command.args(["darkice", "-c"]).arg(write("cfg", text));
        }
        "ffmpeg" => {
            let (rate, channels) = (FORMAT.rate.to_string(), FORMAT.channels.to_string());
            command.args(["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "alsa", "-sample_rate", &rate]);
            command.args(["-channels", &channels, "-i", card, "-b:a", &format!("{bitrate}k")]);
            match codec {
                "mp3" => command.args(["-c:a", "libmp3lame", "-f", "mp3", "-content_type", "audio/mpeg"]),
                _ => command.args(["-c:a", "libopus", "-f", "ogg", "-content_type", "application/ogg"]),
            };
            command.arg(to);
        }
        _ => {
            let encoder = match codec {
                "mp3" => format!("%mp3(bitrate = {bitrate}, samplerate = {})", FORMAT.rate),
                _ => format!("%opus(bitrate = {bitrate}, vbr = \"none\", samplerate = {})", FORMAT.rate),
            };
            let text = format!(
                "settings.init.allow_root.set(true)\nsettings.frame.audio.samplerate.set({})\n\
                 s = mksafe(single(\"{}\"))\noutput.icecast({encoder}, host = \"{SERVER}\", port = {port}, \
                 password = \"{PASSWORD}\", mount = \"{}\", s)\n",
                FORMAT.rate,
                file.display(),
                mount.trim_start_matches('/')
            );
            command.arg("liquidsoap").arg(write("liq", text));
        }
    }
    let log = fs::File::create(folder.join(format!("{source}-{codec}.log"))).expect("a file");
    let same = log.try_clone().expect("a descriptor");
    command.stdin(Stdio::null()).stdout(log).stderr(same);
    Running::Other(command.spawn().expect("it is installed"))
}

/// Returns the number of sources that have come to a mount until now.
fn logins(icecast: &Icecast, mount: &str) -> usize {
    icecast.log().matches(&format!("logging in at mountpoint \"{mount}\"")).count()
}

/// Returns the CPU time of a process over all its threads that have not ended.
fn cpu_time(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = threads.filter_map(|thread| {
        // The first number is the time on a core in ns, up to the last tick or sleep.
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    });
    times.sum()
}
