//! Injection of errors and delays into system calls, by strace(1).

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

/// Returns `true` if strace can inject here, and prints the reason if it cannot.
pub(crate) fn can_inject() -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-fqq", "-o", "/dev/null", "-e", "inject=accept4:error=EINTR", "true"]);
    match strace.stderr(Stdio::null()).status() {
        Ok(status) if status.success() => true,
        Ok(_) => {
            println!("this machine does not let strace trace: nothing was tried");
            false
        }
        Err(_) => {
            assert!(env::var_os("WAVECAST_ALL_PLAYERS").is_none(), "strace is not installed");
            println!("strace is not installed: nothing was tried");
            false
        }
    }
}

/// Returns the command line to put before that of a program. In the program, `fault` is injected into `calls`, and the
/// calls are written to `notes`. The tracer is a process beside the program, which stops only for these calls.
pub(crate) fn around(notes: &Path, calls: &str, fault: &str) -> Vec<String> {
    let (notes, inject) = (notes.display().to_string(), format!("inject={calls}:{fault}"));
    let words = ["strace", "-D", "-fqq", "--seccomp-bpf", "-o", &notes, "-e", calls, "-e", &inject];
    words.map(str::to_owned).into()
}
