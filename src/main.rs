//! The program `wavecast`: reads the command line and runs one command.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use wavecast::capture::devices::{self, SystemPaths};
use wavecast::cli::{Cli, Command, DEFAULT_CONFIG, HELP};
use wavecast::config::{self, Config};
use wavecast::daemon::{self, AudienceSummary, InputSummary, preflight};
use wavecast::http::access::Access;
use wavecast::sys::{limits, logging};

/// Exit codes of sysexits.h.
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
        Command::Check => match check(&cli) {
            Ok(summary) => print!("{summary}"),
            Err(error) => return fail(EX_CONFIG, &error),
        },
        Command::Password(user) => return password(&user),
        Command::Run => return run(&cli),
    }
    ExitCode::SUCCESS
}

/// Runs the daemon.
fn run(cli: &Cli) -> ExitCode {
    limits::lean_heap();
    let (config, access) = match load(cli) {
        Ok(loaded) => loaded,
        Err(error) => return fail(EX_CONFIG, &error),
    };
    if let Err(error) = logging::init(cli.overrides.log.as_deref(), config.log.as_deref()) {
        return fail(EX_CONFIG, &error.to_string());
    }
    match daemon::run(config, access, &|| load(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Checks the configuration as start and reload do, and this machine as the service sees it. Returns a summary of what would
/// run, or all errors.
fn check(cli: &Cli) -> Result<String, String> {
    let config = load_config(cli)?;
    let report = preflight::check(&config, &SystemPaths::default());
    let (path, explicit) = path(cli);
    // Each line begins with its key.
    let prefix = |line: &String| {
        let key = line.split(": ").next().unwrap_or_default();
        format!("{}: {line}", config::file_of(&path, key).display())
    };
    let mut errors: Vec<String> = report.errors.iter().map(prefix).collect();
    if !report.passwords_unread {
        errors.extend(Access::new(&config.access).err());
    }
    if !errors.is_empty() {
        return Err(errors.join("\n"));
    }
    let mut summary = match explicit || Path::new(&path).exists() {
        true => format!("{} is good.\n", path.display()),
        false => format!("{} does not exist; the built-in defaults apply.\n", path.display()),
    };
    for drop_in in config::drop_ins(&path).unwrap_or_default() {
        summary.push_str(&format!("{} is good, and wins over what is read before it.\n", drop_in.display()));
    }
    for input in &config.inputs {
        summary.push_str(&format!("{}\n", InputSummary(input)));
    }
    if !report.socket_unit {
        let listen: Vec<String> = config.http.listen.iter().map(ToString::to_string).collect();
        summary.push_str(&format!("Listening on {}\n", listen.join(", ")));
    }
    summary.push_str(&format!("{}\n", AudienceSummary { config: &config, socket_unit: report.socket_unit }));
    for note in &report.notes {
        summary.push_str(&format!("Note: {note}\n"));
    }
    Ok(summary)
}

/// Asks for a password, and prints the line for the password file.
fn password(user: &str) -> ExitCode {
    let ask = |prompt: &str| match std::io::stdin().is_terminal() {
        true => rpassword::prompt_password(prompt),
        // From a pipe: one line, without a repetition.
        false => std::io::read_to_string(std::io::stdin().lock())
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned()),
    };
    let line = ask(&format!("Password for {user}: "))
        .map_err(|error| format!("no password: {error}"))
        .and_then(|password| {
            if std::io::stdin().is_terminal() && ask("Repeat password: ").ok().as_ref() != Some(&password) {
                return Err("The passwords do not match; nothing was written.".to_owned());
            }
            wavecast::http::access::passwords::line(user, &password)
        });
    match line {
        Ok(line) => println!("{line}"),
        Err(problem) => return fail(1, &problem),
    }
    ExitCode::SUCCESS
}

/// Reads the configuration, the options of the command line, and the password file.
fn load(cli: &Cli) -> Result<(Config, Access), String> {
    let config = load_config(cli)?;
    let access = Access::new(&config.access)?;
    Ok((config, access))
}

/// Reads the configuration and the options of the command line.
fn load_config(cli: &Cli) -> Result<Config, String> {
    let (path, explicit) = path(cli);
    let mut config = Config::load(&path, explicit).map_err(|error| error.to_string())?;
    config.apply(&cli.overrides).map_err(|error| error.to_string())?;
    Ok(config)
}

/// Returns the path of the configuration, and `true` if the command line names it.
fn path(cli: &Cli) -> (PathBuf, bool) {
    match &cli.config {
        Some(path) => (path.clone(), true),
        None => (PathBuf::from(DEFAULT_CONFIG), false),
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("{}", message.trim_end());
    ExitCode::from(code)
}
