//! The siege: measures how the built daemon withstands hostile loads on the loopback.
//!
//! ```text
//! cargo bench --bench siege -- [--quick] [--seconds N] [--attack NAME,NAME,...]
//! ```
//!
//! - **Attacks**: each of the [`attacks`] runs against a new daemon, with 20 listeners that compare every frame
//!   ([`listeners`]) and a newcomer every 0.5 s ([`newcomers`]). The attackers are a child process at nice 19 with
//!   source addresses from 127.0.0.2 on ([`attack_process`], [`attacker`]); the daemon limits them with `connections_per_address = 120`.
//! - **Idle cost** (`--attack idle-cost`): the CPU time of the daemon's threads with 1000 listeners and nobody new.
//! - **Short requests** (`--attack short`): `/healthz`, `/` and the first byte of a stream.
//!
//! The environment variable `WAVECAST` names another program than the built one, or several, separated by commas.
//! Each attack then runs against one program after the other, and short requests alternate between the programs.
//!
//! The tables and the goals are printed as Markdown and kept in `target/siege`, with each daemon's last
//! configuration and log. The exit status is 1 when a goal is missed. A run with the defaults takes less than five
//! minutes for each program.

mod attack_process;
mod attacker;
mod attacks;
mod daemon;
mod http;
mod listeners;
mod measure;
mod newcomers;
mod report;
#[path = "../shared/mod.rs"]
mod shared;
mod short;
mod usage;

use std::path::{Path, PathBuf};
use std::process::exit;
use std::time::Duration;
use std::{env, fs};

use attacks::{ATTACKS, Attack};
use report::{AttackRow, Report};
use shared::{command_line, process};

/// Frames per second of the input.
const RATE: u32 = 44_100;
/// Bytes of a frame: 16 bits, stereo.
const FRAME_BYTES: usize = 4;
/// The steps that are not attacks.
const OTHER_STEPS: [&str; 2] = ["idle-cost", "short"];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some(arguments) = arguments.strip_prefix(&[attack_process::ARGUMENT.to_owned()]) {
        attack_process::run(arguments);
    }
    let arguments = command_line::arguments("measures");
    let options = command_line::options(Options::parse(&arguments), &usage_text());
    let report = options.measure();
    let markdown = report.markdown();
    print!("{markdown}");
    let file = folder().join("siege.md");
    match fs::create_dir_all(folder()).and_then(|()| fs::write(&file, markdown)) {
        Ok(()) => eprintln!("Kept in {}", file.display()),
        Err(error) => eprintln!("{} cannot be written: {error}", file.display()),
    }
    let is_missed = report.goals().iter().any(|goal| !goal.is_met);
    exit(is_missed.into());
}

/// The folder for results, configurations and logs.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/siege")
}

/// The steps of a run and their durations.
struct Options {
    programs: Vec<PathBuf>,
    /// Names of the wanted steps; empty for all.
    steps: Vec<String>,
    /// Duration of an ordinary attack, and of the idle cost.
    time: Duration,
    /// Time before a measurement, in which the daemon fills its history of one second.
    settle: Duration,
    /// Rounds of short requests.
    rounds: usize,
}

fn usage_text() -> String {
    let attacks: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).chain(OTHER_STEPS).collect();
    format!("Options: --quick  --seconds N  --attack NAME,NAME,...\nNames: {}", attacks.join(", "))
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options, String> {
        let programs = env::var("WAVECAST").unwrap_or(env!("CARGO_BIN_EXE_wavecast").to_owned());
        let mut options = Options {
            programs: programs.split(',').map(PathBuf::from).collect(),
            steps: Vec::new(),
            time: Duration::from_secs(10),
            settle: Duration::from_millis(1500),
            rounds: 10,
        };
        let mut arguments = arguments.iter();
        while let Some(option) = arguments.next() {
            let mut value = || command_line::value(option, &mut arguments);
            match option.as_str() {
                "--quick" => {
                    options.time = Duration::from_millis(1500);
                    options.settle = Duration::from_millis(700);
                    options.rounds = 2;
                }
                "--seconds" => {
                    let value = value()?;
                    let seconds = value.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
                    let seconds = seconds.ok_or(format!("--seconds {value}: a number from 1 to 3600"))?;
                    options.time = Duration::from_secs(seconds);
                }
                "--attack" => options.steps.extend(value()?.split(',').map(str::to_owned)),
                _ => return Err(format!("{option} is no option")),
            }
        }
        let is_known =
            |name: &str| ATTACKS.iter().any(|attack| attack.name == name) || OTHER_STEPS.contains(&name);
        match options.steps.iter().find(|name| !is_known(name)) {
            Some(name) => Err(format!("{name} is not an attack")),
            None => Ok(options),
        }
    }

    /// Runs all steps.
    fn measure(&self) -> Report {
        let machine = process::machine();
        eprintln!("{machine}");
        let wanted = |name: &str| self.steps.is_empty() || self.steps.iter().any(|step| step == name);
        let attacks = ATTACKS.iter().filter(|attack| wanted(attack.name));
        let sieges = attacks.map(|attack| self.siege(attack)).collect();
        let idle_costs = match wanted("idle-cost") {
            true => self.programs.iter().map(|program| self.idle_cost(program)).collect(),
            false => Vec::new(),
        };
        let short = wanted("short").then(|| {
            eprintln!("short requests");
            short::measure(&self.programs, self.settle, self.rounds)
        });
        let programs = self.programs.iter().map(|program| program_name(program)).collect();
        Report { machine, programs, sieges, idle_costs, short }
    }

    fn siege(&self, attack: &'static Attack) -> AttackRow {
        // A quick run only shows that an attack works.
        let time = if self.rounds > 2 { self.time * attack.duration } else { self.time };
        let siege = |program: &PathBuf| {
            eprintln!("{}: {} for {time:?}", program_name(program), attack.name);
            measure::siege(program, attack, self.settle, time)
        };
        AttackRow { attack, results: self.programs.iter().map(siege).collect() }
    }

    fn idle_cost(&self, program: &Path) -> Result<measure::IdleCost, String> {
        eprintln!("{}: idle cost for {:?}", program_name(program), self.time);
        measure::idle_cost(program, self.settle, self.time)
    }
}

fn program_name(program: &Path) -> String {
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}
