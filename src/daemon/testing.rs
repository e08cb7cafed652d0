//! A folder tree that stands for the machine's `/proc`, `/sys`, `/dev` and `/etc` in tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::capture::devices::SystemPaths;

/// A temporary folder that is removed when this is dropped.
pub(super) struct Tree(PathBuf);

impl Tree {
    pub(super) fn new() -> Tree {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("wavecast-daemon-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        Tree(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn paths(&self) -> SystemPaths {
        let at = |name| self.0.join(name);
        SystemPaths { proc: at("proc"), sys: at("sys"), dev: at("dev"), etc: at("etc") }
    }

    pub(super) fn write(&self, path: &str, text: &str) -> PathBuf {
        let file = self.0.join(path);
        fs::create_dir_all(file.parent().expect("a file in the tree")).expect("a folder");
        fs::write(&file, text).expect("a written file");
        file
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
