//! The child process at nice 19 that runs one attack and reports its counts.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio, exit};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::attacker::{Attacker, Counts};
use crate::attacks::ATTACKS;

/// First argument of the child process.
pub(crate) const ARGUMENT: &str = "--attacker";
/// Time by which the child process may outlast its attack before it is ended.
const OVERTIME: Duration = Duration::from_secs(5);

/// A running attack in its child process. Killed on drop.
pub(crate) struct AttackProcess {
    child: Child,
    /// The child process is killed at this time.
    end: Instant,
}

impl AttackProcess {
    /// Starts the attack with this name in a child process.
    pub(crate) fn start(name: &str, target: SocketAddr, time: Duration) -> Result<AttackProcess, String> {
        let failed = |error: io::Error| format!("The attacker cannot be started: {error}");
        let program = std::env::current_exe().map_err(failed)?;
        let child = Command::new(Path::new(&program))
            .args([ARGUMENT, name, &target.to_string(), &time.as_millis().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        Ok(AttackProcess { child, end: Instant::now() + time + 2 * OVERTIME })
    }

    /// Returns whether the child process still runs, and kills it when its time is over.
    pub(crate) fn is_running(&mut self) -> bool {
        if Instant::now() > self.end {
            let _ = self.child.kill();
        }
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end and returns the counts.
    pub(crate) fn finish(mut self) -> Result<Counts, String> {
        let mut text = String::new();
        let stdout = self.child.stdout.as_mut().ok_or("The attacker has no output")?;
        stdout.read_to_string(&mut text).map_err(|error| format!("The attacker's output: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("The attacker reported {text:?}: {error}"))
    }
}

impl Drop for AttackProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the attack that the arguments name (the attack's name, the target, milliseconds) and ends the process.
pub(crate) fn run(arguments: &[String]) -> ! {
    let [name, target, time] = arguments else { exit(2) };
    let attack = ATTACKS.iter().find(|attack| attack.name == name);
    let (Some(attack), Ok(target), Ok(time)) = (attack, target.parse(), time.parse()) else { exit(2) };
    // The attackers stand for other machines: they take only the CPU time that nobody else wants.
    let _ = rustix::process::nice(19);
    let attacker = Arc::new(Attacker::new(target, Duration::from_millis(time)));
    let overdue = Arc::clone(&attacker);
    thread::spawn(move || {
        thread::sleep(overdue.end.saturating_duration_since(Instant::now()) + OVERTIME);
        overdue.report_and_exit();
    });
    (attack.run)(&attacker);
    attacker.report_and_exit()
}
