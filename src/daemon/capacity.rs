//! How much room there is: limits of the configuration, made to fit those of the operating system.

use std::fs;
use std::path::Path;

use log::warn;
use rustix::process::{Resource, geteuid, getrlimit};

use crate::config::{Limits, Listeners};

/// Descriptors of a connection: two of tiny_http, one of its listener.
const DESCRIPTORS: u64 = 3;
/// Threads of a connection: one of tiny_http, and its handler.
const THREADS: u64 = 2;
/// Descriptors and threads that everything else takes, and those who are about to be refused.
const REST: u64 = 64;

/// How many descriptors and threads this process may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) descriptors: u64,
    pub(super) threads: u64,
}

impl Room {
    /// What there is, with that many descriptors. Threads are limited by the control group (`TasksMax=`), and for
    /// all processes of a user together but root's.
    pub(super) fn with(descriptors: u64) -> Room {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let of_user = match geteuid().is_root() {
            true => u64::MAX,
            false => getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX),
        };
        Room { descriptors, threads: of_user.min(tasks_max(Path::new("/sys/fs/cgroup"), &groups)) }
    }

    /// For how many connections there is room.
    pub(super) fn connections(self) -> u32 {
        let (descriptors, threads) = self.each();
        u32::try_from(descriptors.min(threads)).unwrap_or(u32::MAX)
    }

    /// The same by descriptors and by threads.
    fn each(self) -> (u64, u64) {
        let of = |all: u64, each: u64| (all.saturating_sub(REST) / each).max(1);
        (of(self.descriptors, DESCRIPTORS), of(self.threads, THREADS))
    }

    /// The limits as far as there is room for them; says so where there is not.
    pub(super) fn fit(self, limits: &Limits, listeners: &Listeners) -> (Limits, Listeners) {
        let (mut limits, mut listeners) = (limits.clone(), listeners.clone());
        let most = self.connections();
        if limits.connections > most {
            let (descriptors, threads) = self.each();
            let what = match descriptors < threads {
                true => format!("{} descriptors (LimitNOFILE=)", self.descriptors),
                false => format!("{} threads (TasksMax=)", self.threads),
            };
            warn!(
                "the operating system allows {what}: there can be {most} connections, not {}",
                limits.connections
            );
            limits.connections = most;
        }
        if listeners.max > limits.connections {
            warn!(
                "[limits] connections allows {}, so that no more can listen, not {}",
                limits.connections, listeners.max
            );
            listeners.max = limits.connections;
        }
        (limits, listeners)
    }
}

/// The lowest `pids.max` of a control group and those above it (cgroups(7)), where the file systems are that show
/// it.
fn tasks_max(root: &Path, groups: &str) -> u64 {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => root.to_owned(),
            _ if controllers.split(',').any(|one| one == "pids") => root.join("pids"),
            _ => continue,
        };
        let lowest = root.join(group.trim_start_matches('/'));
        for folder in lowest.ancestors().take_while(|folder| folder.starts_with(&root)) {
            let text = fs::read_to_string(folder.join("pids.max")).unwrap_or_default();
            limits.extend(text.trim().parse::<u64>().ok());
        }
    }
    limits.into_iter().min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_room_for_stays_as_it_is() {
        let room = Room { descriptors: 1 << 19, threads: 8192 };
        let (limits, listeners) = (Limits::default(), Listeners::default());
        assert_eq!(room.fit(&limits, &listeners), (limits, listeners));
    }

    #[test]
    fn connections_fit_the_descriptors_and_the_threads_and_listeners_the_connections() {
        let fit = |descriptors, threads| {
            let (limits, listeners) =
                Room { descriptors, threads }.fit(&Limits::default(), &Listeners::default());
            (limits.connections, listeners.max)
        };
        assert_eq!(fit(1024, u64::MAX), (320, 320));
        assert_eq!(fit(1 << 19, 512), (224, 224));
        assert_eq!(fit(0, 0), (1, 1));
        assert_eq!(fit(3500, 1 << 15), (1145, 1000));
    }

    #[test]
    fn the_lowest_limit_of_a_group_and_its_parents_counts() {
        let root = std::env::temp_dir().join(format!("wavecast-cgroup-{}", std::process::id()));
        let unit = root.join("system.slice/wavecast.service");
        fs::create_dir_all(&unit).expect("a folder");
        fs::create_dir_all(root.join("pids/old")).expect("a folder");
        fs::write(unit.join("pids.max"), "max\n").expect("written");
        fs::write(root.join("system.slice/pids.max"), "5000\n").expect("written");
        fs::write(root.join("pids/old/pids.max"), "700\n").expect("written");
        let max = |groups| tasks_max(&root, groups);
        assert_eq!(max("0::/system.slice/wavecast.service\n"), 5000);
        assert_eq!(max("9:name=systemd:/\n8:pids:/old\n0::/\n"), 700);
        assert_eq!(max("0::/elsewhere\n"), u64::MAX);
        assert_eq!(max(""), u64::MAX);
        fs::remove_dir_all(&root).expect("it is ours");
    }
}
