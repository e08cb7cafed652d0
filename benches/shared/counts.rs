//! Counts of instructions beside those that were stored before.
//!
//! A count depends on the compiler and the architecture, so only counts of the same compiler and architecture are
//! compared. A count more than 5 % above the stored one is a failure, unless the same commit stores the new count and
//! gives the reason.

use std::process::Command;
use std::{env, fs};

/// The largest allowed ratio of a count to the stored one.
const TOLERANCE: f64 = 1.05;

/// The counts of this run and those of a file, whose lines have the machine, the item and the count.
pub(crate) struct Counts {
    file: String,
    machine: String,
    stored: String,
    noted: Vec<(String, u64)>,
    worse: usize,
}

impl Counts {
    /// Reads the stored counts from a file in `benches/`.
    pub(crate) fn in_file(name: &str) -> Counts {
        let file = format!("{}/benches/{name}", env!("CARGO_MANIFEST_DIR"));
        let output = Command::new("rustc").arg("--version").output().expect("rustc runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split(' ').nth(1).unwrap_or_default().trim();
        let machine = format!("{} rustc {version}", env::consts::ARCH);
        let stored = fs::read_to_string(&file).unwrap_or_default();
        Counts { file, machine, stored, noted: Vec::new(), worse: 0 }
    }

    /// Returns the architecture and the version of the compiler.
    pub(crate) fn machine(&self) -> &str {
        &self.machine
    }

    /// Notes a count, and returns the comparison with the stored one as text.
    pub(crate) fn note(&mut self, item: &str, count: u64) -> String {
        let prefix = format!("{}\t{item}\t", self.machine);
        let before = self.stored.lines().find_map(|line| line.strip_prefix(&prefix)?.parse::<u64>().ok());
        self.noted.push((item.to_owned(), count));
        let Some(before) = before else { return "no count is stored for this compiler".to_owned() };
        let ratio = count as f64 / before as f64;
        let is_worse = ratio > TOLERANCE;
        self.worse += usize::from(is_worse);
        let verdict = if is_worse { "  TOO MANY" } else { "" };
        format!("{:+.1} % of the stored {before}{verdict}", (ratio - 1.0) * 100.0)
    }

    /// Writes the counts to the file if `--store` is among the arguments. Returns `true` if then no count is too high.
    pub(crate) fn finish(self, arguments: &[String]) -> bool {
        if !arguments.iter().any(|argument| argument == "--store") {
            return self.worse == 0;
        }
        let own = self.noted.iter().map(|(item, count)| format!("{}\t{item}\t{count}", self.machine));
        let others = self.stored.lines().filter(|line| !line.starts_with(&self.machine)).map(str::to_owned);
        let mut lines: Vec<String> = others.chain(own).collect();
        lines.sort();
        fs::write(&self.file, lines.join("\n") + "\n").expect("the file can be written");
        true
    }
}

/// Runs a command under callgrind, and returns the number of instructions that it took outside the kernel.
pub(crate) fn instructions(command: &Command) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(command.get_program()).args(command.get_args());
    let output = valgrind.output().expect("valgrind is installed");
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text.lines().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse().ok());
    count.unwrap_or_else(|| panic!("valgrind printed no count:\n{text}"))
}
