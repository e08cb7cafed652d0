//! The program `wavecast`: reads the command line and runs one command.

mod commands;

use std::process::ExitCode;

use wavecast::capture::devices::{self, SystemPaths};
use wavecast::cli::{Cli, Command, HELP};
use wavecast::daemon;
use wavecast::sys::{limits, logging};

use self::commands::{Failure, check, load};

/// Exit codes of sysexits.h.
const EX_USAGE: u8 = 64;
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let cli = match Cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return fail(EX_USAGE, &error.to_string()),
    };
    match &cli.command {
        Command::Help => print!("{HELP}"),
        Command::Version => println!("wavecast {}", env!("CARGO_PKG_VERSION")),
        Command::Devices => print!("{}", devices::list(&SystemPaths::default())),
        Command::Check => match check(&cli) {
            Ok(summary) => print!("{summary}"),
            Err(error) => return fail(EX_CONFIG, &error),
        },
        Command::Password(edit) => return end(commands::password(&cli, edit)),
        Command::Token(edit) => return end(commands::token(&cli, edit)),
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

fn end(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(error)) => fail(EX_CONFIG, &error),
        Err(Failure::Other(error)) => fail(1, &error),
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("{}", message.trim_end());
    ExitCode::from(code)
}
