//! Programs that others wrote, which tests run if they are installed.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use super::server::Server;

/// The output of a program that succeeded.
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Notes that something is missing. Fails where nothing may be: with `WAVECAST_ALL_PLAYERS=1`.
pub(crate) fn skip(what: &str) {
    let all = std::env::var_os("WAVECAST_ALL_PLAYERS").is_some_and(|all| all == "1");
    assert!(!all, "{what}; tests/encoders.packages names what is needed");
    // Not through eprintln!, whose output cargo shows of failed tests only; and in one piece, for tests run side by side.
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let _ = std::io::stderr().write_all(format!("\nSKIPPED {test}: {what}\n").as_bytes());
}

/// Returns whether the daemon can encode with that codec: its library is installed.
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
