//! The cost of serving sound, measured on the built daemon over the loopback: 44.1 kHz stereo, 16 bit.
//!
//! ```text
//! cargo bench --bench serve -- [--quick] [--seconds N] [--rounds N] [--listeners 1,50,200,1000] [--peers vlc,mpd]
//!                              [--endurance] [--markdown]
//! ```
//!
//! - **Meter**: the time that the capture thread needs to measure the levels of a block for the page's meters.
//! - **Start**: the time from before a player connects to its first byte of sound.
//! - **Serving**: CPU time, memory and threads of the server; lateness of the sound and missing frames, as seen by
//!   the server and by its listeners. After every step the [floor] serves as many listeners at the same interval
//!   with one `send` each and nothing else; the ratio of the two is the figure that holds on another machine.
//! - **Peers**: equal work done by the [peers] that are installed.
//!
//! `--endurance` measures one step only: 1000 listeners at the default interval for ten minutes.
//!
//! The table is printed, and written to `target/bench` with a picture of CPU against listeners.
//!
//! Each step starts a new daemon process; the listeners are one thread of this process ([crowd]). Steps are
//! repeated in rounds, so that a noisy minute affects one repetition of each step and not all of one. The report
//! shows medians, and for CPU the range. The benchmark never fails: it reports which targets of the project are met.

mod crowd;
#[path = "../shared/distribution.rs"]
mod distribution;
mod floor;
mod peers;
mod plot;
mod report;
#[path = "../shared/mod.rs"]
mod shared;
mod stalls;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use serde_json::Value;
use wavecast::media::format::{SampleFormat, StreamFormat};
use wavecast::media::meter::Meter;

use crowd::Crowd;
use floor::Floor;
use peers::Peer;
use shared::command_line::{self, list, number, value};
use shared::process::{self, Ticks};
use stalls::Stalls;
use support::daemon::Daemon;

/// The format that all servers send: the daemon's defaults, repeated in its configuration.
const FORMAT: StreamFormat = StreamFormat { rate: 44_100, channels: 2, sample: SampleFormat::S16 };
const FRAME_BYTES: usize = FORMAT.frame_bytes();
/// Frames in a block: a period of 10 ms.
const PERIOD: usize = 441;
/// Frames after which the ramp repeats itself.
const RAMP_FRAMES: usize = 65_536;
const HISTORY: Duration = Duration::from_secs(30);
/// The configured send intervals: one block of 10 ms, and blocks of 1024, 2048 and 4096 frames, which other servers
/// send. The daemon sends whole periods, and at most the configured interval.
const INTERVALS_MS: [u32; 4] = [10, 23, 46, 93];
/// The number of listeners to which the project's targets apply, unless a target names another number.
const COMPARED: usize = 200;
/// The time until the bursts are sent and all listeners are served at the interval for their number.
const SETTLE: Duration = Duration::from_millis(1500);

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == floor::ARGUMENT) {
        floor::run(&arguments[1..]);
    }
    let arguments = command_line::arguments("measures");
    let options = command_line::options(Options::parse(&arguments), USAGE);
    wavecast::sys::limits::raise_open_files();
    let machine = process::machine();
    eprintln!("{machine}\nAbout {:.0} s.", options.estimate().as_secs_f64());

    let (began, before, stalls) = (Instant::now(), Ticks::now(), Stalls::start());
    let mut results: Vec<report::Row> = options.steps().into_iter().map(report::Row::new).collect();
    let mut others: Vec<report::PeerRow> = options.peer_rows();
    let mut starts = report::Starts::default();
    for round in 1..=options.rounds {
        if options.starts > 0 {
            eprintln!("Round {round} of {}: starts", options.rounds);
            measure_starts(options.starts, &mut starts);
        }
        for row in &mut results {
            eprintln!("Round {round} of {}: {}", options.rounds, row.step);
            let served = row.step.serve(options.time);
            if row.step.listeners > 0 && !options.endurance {
                row.floor.push(row.step.floor(options.time, served.blocks));
            }
            row.served.push(served);
        }
        for row in &mut others {
            eprintln!("Round {round} of {}: {}, {}", options.rounds, row.peer, row.listeners);
            row.served.push(PeerServed::of(row.peer, row.listeners, options.time));
        }
    }
    let busy = Ticks::now().others_since(&before) / began.elapsed().as_secs_f64();
    let stalls = stalls.end();
    let levels = measure_levels();
    let report = report::Report {
        machine,
        began,
        busy,
        stalls,
        options: &options,
        levels,
        starts,
        rows: results,
        others,
    };
    print!("{}", if options.markdown { report.markdown() } else { report.text() });
    if options.endurance {
        return;
    }
    if let Err(error) = keep(&report) {
        eprintln!("The table and the picture are not kept: {error}");
    }
}

/// Writes the table and the picture to the build directory.
fn keep(report: &report::Report<'_>) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("cost.md"), report.markdown())?;
    if let Some(picture) = report.plot() {
        fs::write(folder.join("cost.svg"), picture)?;
    }
    eprintln!("Kept in target/bench: cost.md, cost.svg");
    Ok(())
}

/// Returns the time to measure the levels of a block of noise: the minimum over 20 rounds, since other programs can
/// only add time.
fn measure_levels() -> Duration {
    const BLOCKS: u32 = 2000;
    let levels = Meter::new(FORMAT, PERIOD as u32, HISTORY);
    let noise = |n: usize| (n as u32).wrapping_mul(2_654_435_761) as i16 / 2;
    let block: Vec<u8> = (0..PERIOD * 2).flat_map(|n| noise(n).to_le_bytes()).collect();
    let round = || {
        let began = Instant::now();
        (0..BLOCKS).for_each(|_| levels.note(black_box(&block)));
        began.elapsed() / BLOCKS
    };
    (0..20).map(|_| round()).min().unwrap_or_default()
}

/// The selected measurements and their durations.
struct Options {
    listeners: Vec<usize>,
    /// The duration of each step.
    time: Duration,
    rounds: usize,
    /// The number of player starts in each round.
    starts: usize,
    /// The other servers to measure.
    peers: Vec<Peer>,
    /// Measures only long-term serving.
    endurance: bool,
    markdown: bool,
}

const USAGE: &str = "Options: --quick  --seconds N  --rounds N  --listeners N,N,...  --markdown\n         \
                     --peers icecast,mpd,vlc,flask or none  --endurance";

impl Options {
    fn parse(arguments: &[String]) -> Result<Options, String> {
        let mut options = Options {
            listeners: vec![1, 50, COMPARED, 1000],
            time: Duration::from_secs(8),
            rounds: 3,
            starts: 100,
            peers: Peer::ALL.into_iter().filter(|peer| peer.version().is_some()).collect(),
            endurance: false,
            markdown: false,
        };
        let mut arguments = arguments.iter();
        while let Some(option) = arguments.next() {
            let mut value = || value(option, &mut arguments);
            match option.as_str() {
                "--quick" => (options.time, options.rounds) = (Duration::from_secs(2), 1),
                "--endurance" => {
                    options = Options {
                        listeners: vec![1000],
                        time: Duration::from_secs(600),
                        rounds: 1,
                        starts: 0,
                        peers: Vec::new(),
                        endurance: true,
                        ..options
                    }
                }
                "--seconds" => options.time = Duration::from_secs(number(option, value()?)?),
                "--rounds" => options.rounds = number(option, value()?)?,
                "--listeners" => options.listeners = list(value()?, |count| number(option, count))?,
                "--peers" => {
                    let peer = |word: &str| {
                        let peer = Peer::ALL.into_iter().find(|peer| peer.word() == word);
                        peer.ok_or(format!("{option}: there is no {word}"))
                    };
                    options.peers = match value()? {
                        "none" => Vec::new(),
                        words => list(words, peer)?,
                    };
                }
                "--markdown" => options.markdown = true,
                _ => return Err(format!("{option} is no option")),
            }
        }
        options.listeners.sort_unstable();
        options.listeners.dedup();
        Ok(options)
    }

    /// Returns the number of listeners at which intervals are compared and to which the targets apply: [`COMPARED`], or
    /// the nearest selected number.
    fn compared(&self) -> usize {
        let below = self.listeners.iter().rev().find(|listeners| **listeners <= COMPARED);
        below.or(self.listeners.first()).copied().unwrap_or(1)
    }

    fn steps(&self) -> Vec<Step> {
        let default = |listeners| Step { listeners, low_latency: false, interval_ms: None };
        if self.endurance {
            return self.listeners.iter().copied().map(default).collect();
        }
        let compared = self.compared();
        let mut steps = vec![default(0), Step { low_latency: true, ..default(1) }];
        steps.extend(self.listeners.iter().copied().map(default));
        steps.extend(INTERVALS_MS.map(|ms| Step { interval_ms: Some(ms), ..default(compared) }));
        steps
    }

    fn peer_rows(&self) -> Vec<report::PeerRow> {
        let rows =
            self.peers.iter().flat_map(|peer| self.listeners.iter().map(|listeners| (*peer, *listeners)));
        rows.filter(|(peer, listeners)| *listeners <= peer.most())
            .map(|(peer, listeners)| report::PeerRow { peer, listeners, served: Vec::new() })
            .collect()
    }

    fn estimate(&self) -> Duration {
        // Starts pause for 20 ms on average and have two kinds. Both the daemon and the floor serve each step.
        let starts = Duration::from_millis(45) * self.starts as u32;
        let twice = if self.endurance { 1 } else { 2 };
        let steps = (self.time + SETTLE + Duration::from_millis(500)) * twice * self.steps().len() as u32;
        let peers = (self.time + SETTLE + Duration::from_secs(6)) * self.peer_rows().len() as u32;
        (starts + steps + peers) * self.rounds as u32
    }
}

/// A number of listeners, and the way they are served.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Step {
    listeners: usize,
    low_latency: bool,
    /// The configured interval; `None` is the default, which depends on the number of listeners.
    interval_ms: Option<u32>,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.listeners, self.low_latency, self.interval_ms) {
            (0, ..) => f.write_str("nobody"),
            (n, true, _) => write!(f, "{n}, low latency"),
            (n, false, None) => write!(f, "{n}"),
            (n, false, Some(ms)) => write!(f, "{n}, every {ms} ms"),
        }
    }
}

/// The measurements of the daemon in one step.
struct Served {
    /// CPU time per second of serving; the kernel's share of it; and the CPU time of the capture thread per second.
    cpu: Duration,
    system: f64,
    capture: Duration,
    size: process::Size,
    heard: crowd::Heard,
    /// Periods per send, as the listeners observed.
    blocks: usize,
    status: Status,
}

/// The daemon's own figures after a step.
#[derive(Default)]
struct Status {
    overruns: u64,
    skipped: u64,
    /// For each listener, the latency from capture to the kernel in ms: median and 99th percentile.
    latency: Vec<(f64, f64)>,
}

impl Status {
    fn of(daemon: &Daemon) -> Status {
        let status = daemon.status();
        let all = |key: &str| status[key].as_array().cloned().unwrap_or_default();
        let sum = |list: &[Value], key: &str| list.iter().filter_map(|item| item[key].as_u64()).sum();
        let (inputs, listeners) = (all("inputs"), all("listeners"));
        let latency = |listener: &Value| {
            let latency = &listener["latency_ms"];
            Some((latency["median"].as_f64()?, latency["p99"].as_f64()?))
        };
        Status {
            overruns: sum(&inputs, "overruns"),
            skipped: sum(&listeners, "frames_skipped"),
            latency: listeners.iter().filter_map(latency).collect(),
        }
    }
}

/// The measurements of the floor in one step.
struct FloorServed {
    cpu: Duration,
    heard: crowd::Heard,
}

/// The measurements of one of the other servers.
struct PeerServed {
    cpu: Duration,
    size: process::Size,
    heard: crowd::Heard,
    /// The waiting times of one player, before the other players connect.
    start: crowd::Start,
}

impl PeerServed {
    fn of(peer: Peer, listeners: usize, time: Duration) -> PeerServed {
        let running = peers::Running::start(peer);
        let start = crowd::start(running.address(), peers::Running::TARGET);
        let mut crowd = Crowd::new(running.address(), peers::Running::TARGET, listeners);
        let (cpu, heard) = measure(running.pid(), &mut crowd, time);
        PeerServed { cpu, size: process::size(running.pid()), heard, start }
    }
}

impl Step {
    fn serve(self, time: Duration) -> Served {
        let daemon = daemon(self.interval_ms);
        let target = if self.low_latency { "/live.wav?latency=low" } else { "/live.wav" };
        let mut crowd = Crowd::new(daemon.address(), target, self.listeners);
        crowd.listen(SETTLE);
        let of_capture = || process::threads_time(daemon.pid(), "capture");
        let (before, (system, all)) = (of_capture(), process::system_ticks(daemon.pid()));
        let (cpu, heard) = measure_settled(daemon.pid(), &mut crowd, time);
        let capture = (of_capture() - before).div_f64(time.as_secs_f64());
        let (system_now, all_now) = process::system_ticks(daemon.pid());
        let system = (system_now - system) as f64 / (all_now - all) as f64;
        let size = process::size(daemon.pid());
        let status = Status::of(&daemon);
        let sends = heard.chunks as f64 / self.listeners.max(1) as f64 / time.as_secs_f64();
        let period = FORMAT.duration_of(PERIOD as u64).as_secs_f64();
        let blocks = (1.0 / sends / period).round().clamp(1.0, 1000.0) as usize;
        Served { cpu, system, capture, size, heard, blocks, status }
    }

    fn floor(self, time: Duration, blocks: usize) -> FloorServed {
        let floor = Floor::start(self.listeners, blocks * PERIOD);
        let mut crowd = Crowd::new(floor.address(), "/", self.listeners);
        let (cpu, heard) = measure(floor.pid(), &mut crowd, time);
        FloorServed { cpu, heard }
    }
}

/// Returns the process's CPU time per second while the crowd listens for `time`, and the crowd's measurements.
fn measure(pid: u32, crowd: &mut Crowd, time: Duration) -> (Duration, crowd::Heard) {
    crowd.listen(SETTLE);
    measure_settled(pid, crowd, time)
}

fn measure_settled(pid: u32, crowd: &mut Crowd, time: Duration) -> (Duration, crowd::Heard) {
    let (began, before) = (Instant::now(), process::cpu_time(pid));
    let heard = crowd.listen(time);
    let used = process::cpu_time(pid) - before;
    (used.div_f64(began.elapsed().as_secs_f64()), heard)
}

fn daemon(interval_ms: Option<u32>) -> Daemon {
    let interval = interval_ms.map_or(String::from("\"auto\""), |ms| ms.to_string());
    let daemon = Daemon::start(
        None,
        &format!(
            "[limits]\nconnections = 100000\nconnections_per_address = 100000\nlisteners_per_address = 100000\n\
             [listeners]\nmax = 100000\ninterval_ms = {interval}\n\
             [input.live]\ndevice = \"synth:ramp\"\nperiod_ms = {}\nhistory_seconds = {}\n\
             rate = {}\nchannels = {}\nformat = \"{}\"\n",
            FORMAT.duration_of(PERIOD as u64).as_millis(),
            HISTORY.as_secs(),
            FORMAT.rate,
            FORMAT.channels,
            FORMAT.sample.name()
        ),
    );
    // The format is known as soon as the stream exists.
    support::wait_for("a stream", || daemon.input("live")["format"].is_object().then_some(()));
    daemon
}

/// Starts players one after the other, each at another offset between two blocks.
fn measure_starts(count: usize, starts: &mut report::Starts) {
    let daemon = daemon(None);
    // The burst needs some history.
    daemon.wait_for_edge(FORMAT.rate.into());
    for number in 0..count {
        let pause = || thread::sleep(Duration::from_micros(15_000 + number as u64 * 1_618 % 10_000));
        pause();
        starts.ordinary.push(crowd::start(daemon.address(), "/live.wav"));
        pause();
        starts.low_latency.push(crowd::start(daemon.address(), "/live.wav?latency=low"));
    }
}

/// Returns `frames` frames of the ramp from frame `first` on, as `synth:ramp` sends them.
fn ramp(first: usize, frames: usize) -> Vec<u8> {
    let frame = |number: usize| [(number as u16).to_le_bytes(); FORMAT.channels as usize];
    (first..first + frames).flat_map(frame).flatten().collect()
}
