//! The resources that the daemon uses, and those that the machine gives to others, from /proc.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The resources of a process at one moment, or their peaks.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Resident memory in MB of 10⁶ bytes.
    pub(crate) rss: f64,
    /// The anonymous part of it (heap, stacks, rings) in MB of 10⁶ bytes.
    pub(crate) anonymous: f64,
    pub(crate) threads: u64,
    pub(crate) descriptors: u64,
}

impl Usage {
    /// Reads the resources that the process uses now; zeros when the process has ended.
    pub(crate) fn of(pid: u32) -> Usage {
        let status = Status::of(pid);
        Usage {
            rss: status.megabytes("VmRSS"),
            anonymous: status.megabytes("RssAnon"),
            threads: status.number("Threads"),
            descriptors: descriptors(pid),
        }
    }

    /// Raises each figure to the one in `other` where that is larger.
    pub(crate) fn raise(&mut self, other: Usage) {
        self.rss = self.rss.max(other.rss);
        self.anonymous = self.anonymous.max(other.anonymous);
        self.threads = self.threads.max(other.threads);
        self.descriptors = self.descriptors.max(other.descriptors);
    }
}

/// Resets the peak of the resident memory (VmHWM) to the present value. Where that is not permitted, the peak counts
/// from the start of the process.
pub(crate) fn reset_peak_memory(pid: u32) {
    // 5: see proc_pid_clear_refs(5).
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Returns the peak of the resident memory (VmHWM) in MB of 10⁶ bytes.
pub(crate) fn peak_memory(pid: u32) -> f64 {
    Status::of(pid).megabytes("VmHWM")
}

/// Returns the CPU time of the living threads of a process, by name. Threads of one name are added up.
pub(crate) fn thread_times(pid: u32) -> BTreeMap<String, Duration> {
    let mut times = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |file| fs::read_to_string(task.path().join(file)).ok();
        // A thread can end between the two reads.
        let (Some(name), Some(schedstat)) = (read("comm"), read("schedstat")) else { continue };
        let ns = schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
        *times.entry(name.trim().to_owned()).or_default() += Duration::from_nanos(ns);
    }
    times
}

/// Returns the number of open descriptors: the size of the folder since Linux 6.2, its entries before.
fn descriptors(pid: u32) -> u64 {
    let folder = format!("/proc/{pid}/fd");
    match fs::metadata(&folder).map_or(0, |metadata| metadata.len()) {
        0 => fs::read_dir(&folder).map_or(0, |entries| entries.count() as u64),
        size => size,
    }
}

/// The text of /proc/PID/status.
struct Status(String);

impl Status {
    fn of(pid: u32) -> Status {
        Status(fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default())
    }

    fn number(&self, key: &str) -> u64 {
        let mut values = self.0.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        values.next().and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Converts the kernel's kB, which are 1024 bytes.
    fn megabytes(&self, key: &str) -> f64 {
        self.number(key) as f64 * 1024.0 / 1e6
    }
}

/// The CPU time of the machine since its start, all cores added up.
#[derive(Clone, Copy)]
pub(crate) struct MachineTime {
    /// Time of all processes: user, nice and system. Interrupts are left out, since those of the loopback are this
    /// program's own load.
    busy: Duration,
    /// Time that the host of a virtual machine gave to others.
    steal: Duration,
    /// Time of this process and of its children that have ended.
    own: Duration,
}

impl MachineTime {
    pub(crate) fn now() -> MachineTime {
        // Signed, since the process group of the terminal can be -1.
        let ticks = |text: &str| -> Vec<i64> {
            text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
        };
        let hertz = rustix::param::clock_ticks_per_second();
        let sum = |ticks: &[i64], indices: &[usize]| {
            let ticks: i64 = indices.iter().filter_map(|index| ticks.get(*index)).sum();
            Duration::from_millis(ticks.unsigned_abs() * 1000 / hertz)
        };
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let machine = ticks(stat.lines().next().unwrap_or_default());
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // Behind the name, which ends with the last parenthesis. The state, a letter, is not among the numbers.
        let own = ticks(stat.rsplit(')').next().unwrap_or_default());
        MachineTime {
            busy: sum(&machine, &[0, 1, 2]),
            steal: sum(&machine, &[7]),
            own: sum(&own, &[10, 11, 12, 13]),
        }
    }

    /// Returns the CPU time that other processes used since `earlier`.
    pub(crate) fn others_since(&self, earlier: &MachineTime) -> Duration {
        let own = self.own.saturating_sub(earlier.own);
        self.busy.saturating_sub(earlier.busy).saturating_sub(own)
    }

    /// Returns the time that the host gave to others since `earlier`.
    pub(crate) fn steal_since(&self, earlier: &MachineTime) -> Duration {
        self.steal.saturating_sub(earlier.steal)
    }
}
