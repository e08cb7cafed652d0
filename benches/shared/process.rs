//! Figures of the kernel about a process and about the machine.

use std::fs;
use std::process::Command;
use std::time::Duration;

/// Returns the CPU time that a process has used so far: user and system, over all threads, including ended threads.
///
/// The source is the scheduler's clock of the process (clock_getcpuclockid(3)), in nanoseconds. `/proc/PID/stat`
/// counts in steps of 10 ms, which is a listener's cost of half a minute. `/proc/PID/task/*/schedstat` forgets ended
/// threads, does not count a running thread's time since the last tick, and needs one file per thread.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls only write to `clock` and `time`, which outlive the calls.
    let failed = unsafe {
        libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) != 0
            || libc::clock_gettime(clock, &mut time) != 0
    };
    assert!(!failed, "process {pid} is gone");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Returns a process's CPU time in the kernel and its total CPU time, in the scheduler's ticks.
pub(crate) fn system_ticks(pid: u32) -> (u64, u64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The fields after the name, which ends with the last parenthesis: utime and stime (proc(5)).
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<u64> = rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
    match ticks[..] {
        [user, system] => (system, user + system),
        _ => (0, 0),
    }
}

/// Returns the CPU time of the process's threads whose names begin with `name`; zero without such a thread. The
/// time is current to the scheduler's last tick, or to the thread's last sleep.
pub(crate) fn threads_time(pid: u32, name: &str) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let times = tasks.filter_map(|task| {
        let read = |file| fs::read_to_string(task.path().join(file)).ok();
        let ns = read("comm")?.starts_with(name).then(|| read("schedstat"))??;
        ns.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    });
    times.sum()
}

/// A process's memory and threads.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// Resident memory in KB of 1000 bytes: VmRSS, which includes the libraries' pages.
    pub(crate) rss: f64,
    pub(crate) threads: f64,
}

/// Returns the current memory and threads of a process.
pub(crate) fn size(pid: u32) -> Size {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
    let number = |key| field(&status, key).and_then(|value| value.split(' ').next()?.parse().ok());
    Size {
        // The kernel counts in units of 1024 bytes.
        rss: number("VmRSS").expect("Linux says VmRSS") * 1.024,
        threads: number("Threads").expect("Linux says Threads"),
    }
}

/// Returns the value of a line `key : value`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// Describes the machine and the date, for the head of the report.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    // Boards name their model; the CPU of an arm64 board has no name.
    let board = read("/proc/device-tree/model");
    let cpu = match board.trim_end_matches('\0') {
        "" => field(&cpuinfo, "model name").unwrap_or("unknown CPU").to_owned(),
        board => board.to_owned(),
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|value| value.split(' ').next()?.parse::<f64>().ok())
        .unwrap_or_default();
    let date = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    let date = date.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!(
        "{cpu}, {cores} cores, {:.1} GB, Linux {}, {}",
        memory / 1e6,
        read("/proc/sys/kernel/osrelease").trim(),
        date.unwrap_or_default()
    )
}

/// CPU times in seconds, from two files of /proc that count in the scheduler's ticks.
pub(crate) struct Ticks {
    /// The time of all processes on the machine.
    all: f64,
    /// The time of this process and of its children that have ended.
    own: f64,
}

impl Ticks {
    /// Reads the current times.
    pub(crate) fn now() -> Ticks {
        let numbers = |text: &str| -> Vec<f64> {
            text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
        };
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let all = numbers(stat.lines().next().unwrap_or_default());
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The fields after the name, which ends with the last parenthesis: utime, stime, cutime, cstime (proc(5)).
        let own = numbers(stat.rsplit(')').next().unwrap_or_default());
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        Ticks {
            // user, nice, system, -, -, irq, softirq, steal
            all: [0, 1, 2, 5, 6, 7].iter().filter_map(|i| all.get(*i)).sum::<f64>() / per_second,
            own: own.iter().skip(10).take(4).sum::<f64>() / per_second,
        }
    }

    /// Returns the CPU time of all other processes between `earlier` and `self`.
    pub(crate) fn others_since(&self, earlier: &Ticks) -> f64 {
        (self.all - earlier.all) - (self.own - earlier.own)
    }
}
