//! Programs of PyPI, each in a virtual environment of its own.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::{env, fs, thread};

/// Returns the interpreter of a virtual environment that has this package of PyPI, as `NAME==VERSION`. The environment is
/// made once on a machine. `None`, with a line that says so, where it cannot be made: without Python, or without a network.
pub(crate) fn with_package(package: &str) -> Option<PathBuf> {
    // Tests that run side by side need the same one.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    let folder = cache.join(format!("wavecast-{}", package.replace("==", "-")));
    let made = folder.join("made");
    if !made.exists() {
        let _ = fs::remove_dir_all(&folder);
        let python = folder.join("bin/python");
        let steps = [
            ("python3", vec!["-m", "venv", folder.to_str()?]),
            (
                python.to_str()?,
                vec!["-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "20", package],
            ),
        ];
        for (program, arguments) in steps {
            // A registry that does not answer must not hold up the tests.
            let mut command = Command::new("timeout");
            command.arg("180").arg(program).args(&arguments).stdin(Stdio::null());
            let is_done = command.output().is_ok_and(|output| output.status.success());
            if !is_done {
                let test = thread::current().name().unwrap_or("a test").to_owned();
                let line =
                    format!("\nSKIPPED {test}: {package} cannot be installed: {program} {arguments:?}\n");
                // Not through eprintln!, whose output cargo shows of failed tests only.
                let _ = std::io::stderr().write_all(line.as_bytes());
                return None;
            }
        }
        fs::write(&made, "").ok()?;
    }
    Some(folder.join("bin/python"))
}
