//! Programs that others wrote, which tests run if they are installed.

use std::io::{self, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, thread};

use super::server::Server;
use super::wait_for;

/// The output of a program that succeeded.
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Prints that something is missing, for which the test is skipped. Fails with `WAVECAST_ALL_PLAYERS=1`, where nothing
/// may be missing.
pub(crate) fn skip(what: &str) {
    let all = env::var_os("WAVECAST_ALL_PLAYERS").is_some_and(|all| all == "1");
    assert!(!all, "{what}; the files tests/*.packages list what is needed");
    // cargo shows the output of eprintln! of failed tests only. One write, because tests run side by side.
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let _ = io::stderr().write_all(format!("\nSKIPPED {test}: {what}\n").as_bytes());
}

/// Returns `true` if all programs are installed, and otherwise [`skip`]s the test.
pub(crate) fn installed(programs: &[&str]) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |program: &str| env::split_paths(&path).any(|folder| folder.join(program).exists());
    let missing: Vec<_> = programs.iter().filter(|program| !is_there(program)).collect();
    if !missing.is_empty() {
        skip(&format!("not installed: {missing:?}"));
    }
    missing.is_empty()
}

/// Returns a command that runs a program that refuses to run as root: as nobody, if this process is root.
pub(crate) fn as_nobody(program: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", program]);
    command
}

/// Returns `true` if the daemon can encode with that codec, whose library is then installed. Otherwise [`skip`]s the test.
pub(crate) fn offers(server: &Server, codec: &str) -> bool {
    let input = server.input("live");
    let offers = input["codecs"].as_array().expect("codecs").iter().any(|offered| offered == codec);
    if !offers {
        skip(&format!("the library of {codec} is not installed"));
    }
    offers
}

/// Runs a program with that input. Returns `None` where it is not installed.
///
/// # Panics
///
/// If it fails.
pub(crate) fn run(program: &str, arguments: &[&str], input: &[u8]) -> Option<Output> {
    let (success, output) = try_run(program, arguments, input)?;
    assert!(success, "{program} {arguments:?}: {}", output.stderr);
    Some(output)
}

/// Runs a program like [`run`], and returns `true` first if it succeeded.
pub(crate) fn try_run(program: &str, arguments: &[&str], input: &[u8]) -> Option<(bool, Output)> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        skip(&format!("{program} is not installed"));
        return None;
    };
    let (mut stdin, input) = (child.stdin.take().expect("a pipe"), input.to_vec());
    // A program may stop reading when it has failed; its status tells.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("its output");
    writer.join().expect("the writer does not panic");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Some((output.status.success(), Output { stdout: output.stdout, stderr }))
}

/// Runs a program that must not say a word on its standard error. Returns its standard output.
pub(crate) fn run_quietly(program: &str, arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let output = run(program, arguments, input)?;
    assert_eq!(output.stderr, "", "{program} has something to say");
    Some(output.stdout)
}

/// Decodes with ffmpeg, which must not say a word. `samples`: ffmpeg's name of the samples.
pub(crate) fn ffmpeg(input: &[u8], samples: &str) -> Option<Vec<u8>> {
    run_quietly("ffmpeg", &["-v", "warning", "-i", "-", "-f", samples, "-"], input)
}

/// Returns a port that is free together with the next one. It is below the ports that the kernel gives to other sockets, so
/// that it stays free until a server has it.
pub(crate) fn free_ports() -> u16 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    wait_for("two free ports", || {
        let number = LAST.fetch_add(2, Ordering::Relaxed);
        let port = 12_000 + ((std::process::id().wrapping_mul(38) + number) % 18_000) as u16;
        let _first = TcpListener::bind(("127.0.0.1", port)).ok()?;
        let _next = TcpListener::bind(("127.0.0.1", port + 1)).ok()?;
        Some(port)
    })
}
