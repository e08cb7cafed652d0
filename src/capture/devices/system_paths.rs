//! The places of the system's file trees.

use std::fs;
use std::path::{Path, PathBuf};

use super::printable::printable;

/// The roots of the trees that describe this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemPaths {
    /// `/proc`: processes that hold a card, memory.
    pub proc: PathBuf,
    /// `/sys`: identity of USB cards, control groups.
    pub sys: PathBuf,
    /// `/dev`: device nodes and their owners.
    pub dev: PathBuf,
    /// `/etc`: names of users and groups.
    pub etc: PathBuf,
}

impl Default for SystemPaths {
    fn default() -> SystemPaths {
        SystemPaths { proc: "/proc".into(), sys: "/sys".into(), dev: "/dev".into(), etc: "/etc".into() }
    }
}

/// Returns the text of a file in `/proc` or `/sys` that has one line; `None` if the file is missing or empty.
pub(super) fn read_line(file: &Path) -> Option<String> {
    let bytes = fs::read(file).ok()?;
    Some(printable(&String::from_utf8_lossy(&bytes))).filter(|text| !text.is_empty())
}

/// Returns the entries of a directory, sorted by name; none if it cannot be read.
pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}
