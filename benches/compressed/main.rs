//! The cost of compressed streams beside other servers: the same music from a fake card or a file, encoded at the same bit rate
//! and sent to the same number of listeners.
//!
//! ```text
//! cargo bench --bench compressed -- [--seconds N] [--rounds N] [--listeners 1,50,200] [--codecs mp3,flac,opus]
//! ```
//!
//! CPU time and memory are those of all processes that the way from the sound to the listeners needs: for Icecast these
//! are Icecast and its source. A server that is not installed is left out. The table is printed in Markdown.

#[path = "../shared/distribution.rs"]
mod distribution;
mod players;
mod servers;
#[path = "../shared/mod.rs"]
mod shared;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::thread;
use std::time::{Duration, Instant};

use players::Players;
use servers::{Running, Server};
use shared::command_line::{self, list, number, value};
use shared::process;
use wavecast::encode::Codec;

/// Frames per second and channels of the sound.
const RATE: u32 = 44_100;
const CHANNELS: usize = 2;
/// Bit rate of MP3 and Opus in kbit/s.
const BITRATE: u32 = 128;
/// The time until all players are served evenly.
const SETTLE: Duration = Duration::from_secs(3);
const USAGE: &str = "usage: [--seconds N] [--rounds N] [--listeners 1,50,200] [--codecs mp3,flac,opus]";

struct Options {
    seconds: u64,
    rounds: usize,
    listeners: Vec<usize>,
    codecs: Vec<Codec>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options, String> {
        let mut options =
            Options { seconds: 5, rounds: 3, listeners: vec![1, 50, 200], codecs: Codec::ALL.to_vec() };
        let mut arguments = arguments.iter();
        while let Some(option) = arguments.next() {
            let value = value(option, &mut arguments)?;
            match option.as_str() {
                "--seconds" => options.seconds = number(option, value)?,
                "--rounds" => options.rounds = number(option, value)?,
                "--listeners" => options.listeners = list(value, |count| number(option, count))?,
                "--codecs" => {
                    let codec =
                        |name: &str| Codec::from_name(name).ok_or_else(|| format!("{name} is no codec"));
                    options.codecs = list(value, codec)?;
                }
                _ => return Err(format!("{option} is no option")),
            }
        }
        Ok(options)
    }
}

/// The measurements of one server, codec and number of listeners, one entry for each round.
#[derive(Default)]
struct Figures {
    /// Shares of a core.
    cpu: Vec<f64>,
    /// Megabytes.
    memory: Vec<f64>,
    /// Milliseconds from the request to the first byte after the head.
    first: Vec<f64>,
    /// Kilobits that a listener gets in a second.
    kbits: Vec<f64>,
}

fn main() {
    let arguments = command_line::arguments("measures");
    let options = command_line::options(Options::parse(&arguments), USAGE);
    wavecast::sys::limits::raise_open_files();
    println!("{}\n", process::machine());
    println!("| codec | listeners | server | CPU of a core | memory | first sound | kbit/s |");
    println!("|---|---|---|---|---|---|---|");
    for codec in &options.codecs {
        for listeners in &options.listeners {
            let servers: Vec<Server> = Server::ALL
                .into_iter()
                .filter(|server| server.can(*codec) && server.is_installed())
                .collect();
            let mut figures: Vec<Figures> = servers.iter().map(|_| Figures::default()).collect();
            for _ in 0..options.rounds {
                for (server, figures) in servers.iter().zip(&mut figures) {
                    measure(*server, *codec, *listeners, options.seconds, figures);
                }
            }
            for (server, figures) in servers.iter().zip(&mut figures) {
                println!(
                    "| {codec} | {listeners} | {server} | {:.2} % | {:.1} MB | {:.0} ms | {:.0} |",
                    100.0 * median(&mut figures.cpu),
                    median(&mut figures.memory),
                    median(&mut figures.first),
                    median(&mut figures.kbits),
                );
            }
        }
    }
}

fn measure(server: Server, codec: Codec, listeners: usize, seconds: u64, figures: &mut Figures) {
    let running = Running::start(server, codec);
    let mut players = Players::connect(running.address(), &running.target(), listeners);
    figures.first.push(players.first_sound().as_secs_f64() * 1e3);
    players.listen(SETTLE);
    let (began, before) = (Instant::now(), running.cpu_time());
    let bytes = players.listen(Duration::from_secs(seconds));
    let elapsed = began.elapsed().as_secs_f64();
    figures.cpu.push((running.cpu_time() - before).as_secs_f64() / elapsed);
    figures.memory.push(running.memory() / 1e3);
    figures.kbits.push(bytes as f64 * 8.0 / 1e3 / elapsed / listeners as f64);
    drop(players);
    drop(running);
    // The next server begins when the sockets of this one are gone.
    thread::sleep(Duration::from_millis(300));
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
