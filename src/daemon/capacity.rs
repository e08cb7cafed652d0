//! The limits of the configuration, lowered to what the operating system allows.

use std::fs;
use std::path::{Path, PathBuf};

use log::warn;
use rustix::process::{Resource, geteuid, getrlimit};

use crate::config::{Limits, Listeners};

/// File descriptors per connection: its socket, which a listener takes over.
const DESCRIPTORS: u64 = 1;
/// Threads per listener: the one in which it catches up. A connection that does not listen needs none.
const THREADS: u64 = 1;
/// File descriptors and threads of everything else, including connections that are about to be refused.
const REST: u64 = 64;
/// The mount point of the control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The number of file descriptors and threads that this process may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    pub(super) descriptors: u64,
    pub(super) threads: u64,
}

impl Capacity {
    /// Reads the limit of threads, for a process with that limit of file descriptors. Threads are limited by the control
    /// group (`TasksMax=`), and by RLIMIT_NPROC for all processes of a user other than root together.
    pub(super) fn with_descriptors(descriptors: u64) -> Capacity {
        let of_user = match geteuid().is_root() {
            true => u64::MAX,
            false => getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX),
        };
        let folders = group_folders(Path::new(CGROUPS), &own_groups(), "pids");
        Capacity { descriptors, threads: of_user.min(lowest_limit(&folders, "pids.max").unwrap_or(u64::MAX)) }
    }

    /// Returns the configured limits, lowered where the operating system allows less. Logs each lowered limit.
    pub(super) fn clamp(self, limits: &Limits, listeners: &Listeners) -> (Limits, Listeners) {
        let (mut limits, mut listeners) = (limits.clone(), listeners.clone());
        let possible =
            |all: u64, each: u64| u32::try_from((all.saturating_sub(REST) / each).max(1)).unwrap_or(u32::MAX);
        let connections = possible(self.descriptors, DESCRIPTORS);
        if limits.connections > connections {
            warn!(
                "the operating system allows {} descriptors (LimitNOFILE=): there can be {connections} connections, \
                 not {}",
                self.descriptors, limits.connections
            );
            limits.connections = connections;
        }
        let threads = possible(self.threads, THREADS);
        if listeners.max > threads {
            warn!(
                "the operating system allows {} threads (TasksMax=): there can be {threads} listeners, not {}",
                self.threads, listeners.max
            );
            listeners.max = threads;
        }
        if listeners.max > limits.connections {
            warn!(
                "[limits] connections allows {0} connections, so there can be {0} listeners, not {1}",
                limits.connections, listeners.max
            );
            listeners.max = limits.connections;
        }
        (limits, listeners)
    }
}

/// Returns the text of `/proc/self/cgroup`. Empty where it cannot be read.
pub(super) fn own_groups() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap_or_default()
}

/// Returns the folders of the control groups in `groups` (the text of `/proc/self/cgroup`) that have `controller`, with
/// their parents. See cgroups(7); `root` is the mount point.
pub(super) fn group_folders(root: &Path, groups: &str, controller: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => root.to_owned(),
            _ if controllers.split(',').any(|one| one == controller) => root.join(controller),
            _ => continue,
        };
        let lowest = root.join(group.trim_start_matches('/'));
        folders.extend(lowest.ancestors().take_while(|folder| folder.starts_with(&root)).map(Path::to_owned));
    }
    folders
}

/// Returns the lowest number in the files of that name. `None` where no folder has a limit.
pub(super) fn lowest_limit(folders: &[PathBuf], file: &str) -> Option<u64> {
    let read = |folder: &PathBuf| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok();
    folders.iter().filter_map(read).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_within_the_capacity_stay() {
        let capacity = Capacity { descriptors: 1 << 19, threads: 8192 };
        let (limits, listeners) = (Limits::default(), Listeners::default());
        assert_eq!(capacity.clamp(&limits, &listeners), (limits, listeners));
    }

    #[test]
    fn descriptors_limit_connections_and_threads_and_connections_limit_listeners() {
        let clamp = |descriptors, threads| {
            let (limits, listeners) =
                Capacity { descriptors, threads }.clamp(&Limits::default(), &Listeners::default());
            (limits.connections, listeners.max)
        };
        assert_eq!(clamp(1024, u64::MAX), (960, 960));
        assert_eq!(clamp(1 << 19, 512), (1200, 448));
        assert_eq!(clamp(0, 0), (1, 1));
        assert_eq!(clamp(1164, 1 << 15), (1100, 1000));
    }

    #[test]
    fn the_lowest_limit_of_a_group_and_its_parents_counts() {
        let root = std::env::temp_dir().join(format!("wavecast-cgroup-{}", std::process::id()));
        let unit = root.join("system.slice/wavecast.service");
        fs::create_dir_all(&unit).expect("a folder");
        fs::create_dir_all(root.join("pids/old")).expect("a folder");
        fs::write(unit.join("pids.max"), "max\n").expect("a written file");
        fs::write(root.join("system.slice/pids.max"), "5000\n").expect("a written file");
        fs::write(root.join("pids/old/pids.max"), "700\n").expect("a written file");
        let lowest = |groups| lowest_limit(&group_folders(&root, groups, "pids"), "pids.max");
        assert_eq!(lowest("0::/system.slice/wavecast.service\n"), Some(5000));
        assert_eq!(lowest("9:name=systemd:/\n8:pids:/old\n0::/\n"), Some(700));
        assert_eq!(lowest("0::/elsewhere\n"), None);
        assert_eq!(lowest(""), None);
        fs::remove_dir_all(&root).expect("the test's own folder");
    }
}
