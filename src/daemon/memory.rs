//! The memory for the histories of all inputs: the amount that is available, and the histories that fit into it.
//!
//! Linux grants more memory than the machine has and kills a process when it uses that memory. So a history that is too long
//! has to be refused or shortened before it is allocated. `wavecast check` refuses it, the daemon shortens it.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::capacity::{group_folders, lowest_limit, own_groups};
use crate::capture::devices::SystemPaths;
use crate::config::{Config, Input};
use crate::sys::memory;

/// A ring keeps this much more than the history promises, for listeners at its very end. A machine that stalls for longer
/// loses sound of the card too.
pub(super) const MARGIN: Duration = Duration::from_millis(500);

/// The available memory of one kind, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) bytes: u64,
    /// The name of the limit in messages.
    pub(super) limit: &'static str,
}

impl Memory {
    /// Returns the memory that all histories together may take. `held` is the memory of histories that the new ones replace,
    /// in bytes.
    pub(super) fn for_histories(paths: &SystemPaths, held: u64) -> Memory {
        let physical = memory::available(&paths.proc, &paths.sys).saturating_add(held);
        let groups = own_groups() + SERVICE_GROUP;
        let folders = group_folders(&paths.sys.join("fs/cgroup"), &groups, "memory");
        let of_group = lowest_limit(&folders, "memory.max").unwrap_or(u64::MAX);
        let address_space = getrlimit(Resource::As)
            .current
            .map_or(u64::MAX, |limit| limit.saturating_sub(address_space_in_use(paths)).saturating_add(held));
        let kinds = [
            // An eighth stays for everything else: listeners, the page cache, other programs.
            Memory { bytes: physical / 8 * 7, limit: "the memory that is available" },
            Memory { bytes: of_group / 8 * 7, limit: "the control group's limit (MemoryMax=)" },
            // Half: the stacks of threads and the heap reserve far more addresses than they use.
            Memory { bytes: address_space / 2, limit: "the process's address space (ulimit -v)" },
        ];
        // The array is not empty.
        kinds.into_iter().min_by_key(|memory| memory.bytes).unwrap_or(kinds[0])
    }

    /// Returns the longest history in whole seconds with which every longer history has to be replaced so that all fit.
    /// `None` if they fit as they are.
    pub(super) fn longest_history(self, config: &Config) -> Option<Duration> {
        let needed = |longest: Duration| -> u64 {
            let ring =
                |input: &Input| ring_bytes(input, input.history.min(longest), config.listeners.max_lag);
            config.inputs.iter().map(ring).fold(0, u64::saturating_add)
        };
        if needed(Duration::MAX) <= self.bytes {
            return None;
        }
        let longest = config.inputs.iter().map(|input| input.history.as_secs()).max().unwrap_or(0);
        let fits = |seconds: &u64| needed(Duration::from_secs(*seconds)) <= self.bytes;
        Some(Duration::from_secs((0..=longest).rev().find(fits).unwrap_or(0)))
    }
}

/// Returns the length of sound that the ring of an input keeps: its history, or the lag that a listener may have.
pub(super) fn ring_time(history: Duration, max_lag: Duration) -> Duration {
    history.max(max_lag) + MARGIN
}

/// Returns the memory of an input's ring in bytes, in the configured format.
pub(super) fn ring_bytes(input: &Input, history: Duration, max_lag: Duration) -> u64 {
    let per_second = u128::from(input.stream_format().bytes_per_second());
    u64::try_from(ring_time(history, max_lag).as_nanos() * per_second / 1_000_000_000).unwrap_or(u64::MAX)
}

/// Returns the memory that running wavecasts other than this process hold, in bytes. A new configuration of the service gets
/// that memory.
pub(super) fn held_by_other_wavecasts(paths: &SystemPaths) -> u64 {
    let own = std::process::id().to_string();
    let processes = fs::read_dir(&paths.proc).into_iter().flatten().flatten();
    let others = processes.filter(|entry| entry.file_name() != *own.as_str());
    let held = others.filter_map(|entry| {
        let is_wavecast = fs::read_to_string(entry.path().join("comm")).ok()?.trim() == "wavecast";
        let status = is_wavecast.then(|| fs::read_to_string(entry.path().join("status")).ok()).flatten()?;
        memory::kilobytes(&status, "RssAnon:")
    });
    held.fold(0, u64::saturating_add)
}

/// Returns bytes in a form for people.
pub(super) fn shown_bytes(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

/// A line for the service's control group, in the form of `/proc/self/cgroup`: `wavecast check` runs in another one.
const SERVICE_GROUP: &str = "0::/system.slice/wavecast.service\n";

/// Returns the address space that this process uses, in bytes.
fn address_space_in_use(paths: &SystemPaths) -> u64 {
    let statm = fs::read_to_string(paths.proc.join("self/statm")).unwrap_or_default();
    let pages: u64 = statm.split(' ').next().and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::testing::Tree;

    fn config(text: &str) -> Config {
        Config::parse(text, "w.toml").expect("a configuration")
    }

    fn memory(bytes: u64) -> Memory {
        Memory { bytes, limit: "the memory that is available" }
    }

    #[test]
    fn histories_that_fit_stay() {
        let config = config("[input.a]\nhistory_seconds = 100");
        // 176,400 bytes per second, and half a second more.
        assert_eq!(memory(17_728_200).longest_history(&config), None);
        assert_eq!(memory(17_728_199).longest_history(&config), Some(Duration::from_secs(99)));
    }

    #[test]
    fn the_longest_histories_are_shortened_first() {
        let config = config(
            "[input.a]\nhistory_seconds = 3600\n[input.b]\ndevice = 'hw:1'\n[input.c]\ndevice = 'hw:2'\nhistory_seconds = 600",
        );
        // Enough for 30 s of b, and 1000 s of a and c together.
        let bytes = 176_400 * 1030 + 3 * 88_200;
        assert_eq!(memory(bytes).longest_history(&config), Some(Duration::from_secs(500)));
    }

    #[test]
    fn a_ring_keeps_the_lag_of_listeners_however_little_memory_there_is() {
        let config = config("[input.a]\nhistory_seconds = 100");
        assert_eq!(memory(0).longest_history(&config), Some(Duration::ZERO));
        assert_eq!(ring_time(Duration::ZERO, Duration::from_secs(2)), Duration::from_millis(2500));
        assert_eq!(ring_time(Duration::from_secs(30), Duration::from_secs(2)), Duration::from_millis(30_500));
    }

    #[test]
    fn an_hour_of_an_input_needs_the_memory_of_an_hour() {
        let input = Input::default();
        let bytes = ring_bytes(&input, Duration::from_secs(3600), Duration::from_secs(2));
        assert_eq!(bytes, 176_400 * 3600 + 88_200);
    }

    #[test]
    fn available_memory_is_what_the_kernel_says() {
        let tree = Tree::new();
        tree.write("proc/meminfo", "MemTotal:  900000 kB\nMemFree:  1 kB\nMemAvailable:   800000 kB\n");
        let of = |held| Memory::for_histories(&tree.paths(), held);
        assert_eq!(of(0), Memory { bytes: 800_000 * 1024 / 8 * 7, limit: "the memory that is available" });
        assert_eq!(of(8192).bytes, 800_008 * 1024 / 8 * 7, "the memory of replaced histories is free");
    }

    #[test]
    fn the_control_group_of_the_service_counts() {
        let tree = Tree::new();
        tree.write("proc/meminfo", "MemAvailable:   800000 kB\n");
        tree.write("sys/fs/cgroup/system.slice/wavecast.service/memory.max", "80000000\n");
        let memory = Memory::for_histories(&tree.paths(), 0);
        assert_eq!((memory.bytes, memory.limit), (70_000_000, "the control group's limit (MemoryMax=)"));
    }

    #[test]
    fn the_memory_of_a_running_wavecast_is_counted() {
        let tree = Tree::new();
        let process = |pid: &str, name: &str, kilobytes: u32| {
            tree.write(&format!("proc/{pid}/comm"), &format!("{name}\n"));
            tree.write(
                &format!("proc/{pid}/status"),
                &format!("Name:\t{name}\nRssAnon:\t  {kilobytes} kB\n"),
            );
        };
        process("7", "wavecast", 1000);
        process("8", "bash", 2000);
        process(&std::process::id().to_string(), "wavecast", 4000);
        assert_eq!(held_by_other_wavecasts(&tree.paths()), 1000 * 1024);
    }
}
