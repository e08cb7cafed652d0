//! `wavecast`: reads the command line, and does what it says.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use wavecast::capture::devices::{self, SystemPaths};
use wavecast::cli::{Cli, Command, DEFAULT_CONFIG, HELP};
use wavecast::config::Config;
use wavecast::daemon;
use wavecast::http::access::Access;
use wavecast::sys::{limits, logging};

/// What exit codes mean: those of sysexits.h.
const EX_USAGE: u8 = 64;
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let cli = match Cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return fail(EX_USAGE, &error.to_string()),
    };
    match cli.command {
        Command::Help => print!("{HELP}"),
        Command::Version => println!("wavecast {}", env!("CARGO_PKG_VERSION")),
        Command::Devices => print!("{}", devices::list(&SystemPaths::default())),
        Command::Check => match load(&cli) {
            Ok((config, _)) => print!("{}", summary(&cli, &config)),
            Err(error) => return fail(EX_CONFIG, &error),
        },
        Command::Password(user) => return password(&user),
        Command::Run => return run(cli),
    }
    ExitCode::SUCCESS
}

fn run(cli: Cli) -> ExitCode {
    limits::lean_heap();
    let (config, access) = match load(&cli) {
        Ok(loaded) => loaded,
        Err(error) => return fail(EX_CONFIG, &error),
    };
    if let Err(error) = logging::init(cli.overrides.log.as_deref(), config.log.as_deref()) {
        return fail(EX_CONFIG, &error.to_string());
    }
    match daemon::run(config, access, || load(&cli)) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(anew)) => {
            log::error!("wavecast cannot begin anew, and ends: {}", anew.begin());
            ExitCode::FAILURE
        }
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Asks for a password, and prints the line for the file of them.
fn password(user: &str) -> ExitCode {
    let ask = |prompt: &str| match std::io::stdin().is_terminal() {
        true => rpassword::prompt_password(prompt),
        // From a pipe: one line, once.
        false => std::io::read_to_string(std::io::stdin().lock())
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned()),
    };
    let line = ask(&format!("Password for {user}: "))
        .map_err(|error| format!("no password: {error}"))
        .and_then(|password| {
            if std::io::stdin().is_terminal() && ask("The same again: ").ok().as_ref() != Some(&password) {
                return Err("these were two different ones; nothing was made".to_owned());
            }
            wavecast::http::access::passwords::line(user, &password)
        });
    match line {
        Ok(line) => println!("{line}"),
        Err(problem) => return fail(1, &problem),
    }
    ExitCode::SUCCESS
}

/// The configuration with the command line's changes, and the passwords that it names.
fn load(cli: &Cli) -> Result<(Config, Access), String> {
    let (path, explicit) = path(cli);
    let mut config = Config::load(&path, explicit).map_err(|error| error.to_string())?;
    config.apply(&cli.overrides).map_err(|error| error.to_string())?;
    let access = Access::new(&config.access)?;
    Ok((config, access))
}

fn path(cli: &Cli) -> (PathBuf, bool) {
    match &cli.config {
        Some(path) => (path.clone(), true),
        None => (PathBuf::from(DEFAULT_CONFIG), false),
    }
}

/// What `wavecast check` says of a good configuration.
fn summary(cli: &Cli, config: &Config) -> String {
    let (path, explicit) = path(cli);
    let file = match explicit || Path::new(&path).exists() {
        true => format!("{} is good.", path.display()),
        false => format!("{} is not there; the built-in defaults apply.", path.display()),
    };
    let inputs = config
        .inputs
        .iter()
        .map(|input| format!("/{}.wav  from {}, {}\n", input.name, input.device, input.stream_format()));
    let listen: Vec<String> = config.http.listen.iter().map(ToString::to_string).collect();
    format!("{file}\n{}Listening on {}\n", inputs.collect::<String>(), listen.join(", "))
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("{}", message.trim_end());
    ExitCode::from(code)
}
