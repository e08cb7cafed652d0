//! The steps against one daemon each: an attack, and the cost of a thousand listeners when nobody new comes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::attack_process::AttackProcess;
use crate::attacker::Counts;
use crate::attacks::Attack;
use crate::daemon::{Daemon, Settings};
use crate::listeners::{Heard, Listeners};
use crate::newcomers::{Newcomers, Waits};
use crate::shared::process;
use crate::usage::{self, MachineTime, Usage};

/// Listeners during an attack.
const LISTENERS: usize = 20;
/// Listeners of the idle cost.
const MANY_LISTENERS: usize = 1000;
/// Connections that one address may have during an attack. "auto" would exempt the loopback.
const CONNECTIONS_PER_ADDRESS: u32 = 120;
/// Time between two readings of the daemon's resources.
const SAMPLE: Duration = Duration::from_millis(50);

/// The figures of one attack.
pub(crate) struct Siege {
    pub(crate) heard: Heard,
    pub(crate) waits: Waits,
    /// The daemon's resources before the attack, with the listeners and newcomers.
    pub(crate) idle: Usage,
    /// The peaks during the attack.
    pub(crate) peak: Usage,
    /// CPU time of the daemon in a second.
    pub(crate) cpu: Duration,
    pub(crate) counts: Counts,
    /// The duration of the attack.
    pub(crate) time: Duration,
    /// True if the daemon still ran at the end.
    pub(crate) survived: bool,
    pub(crate) noise: Noise,
}

/// The disturbance of a measurement by the machine.
#[derive(Clone, Copy)]
pub(crate) struct Noise {
    /// Cores that other processes kept busy.
    pub(crate) others: f64,
    /// Time that the host gave to others, all cores added up.
    pub(crate) steal: Duration,
}

/// The figures of 1000 listeners when nobody new comes.
pub(crate) struct IdleCost {
    pub(crate) heard: Heard,
    /// The share of a core that each thread of the daemon used, by the thread's name.
    pub(crate) threads: BTreeMap<String, f64>,
    pub(crate) usage: Usage,
    pub(crate) noise: Noise,
}

/// Runs one attack against a new daemon.
pub(crate) fn siege(
    program: &Path,
    attack: &Attack,
    settle: Duration,
    time: Duration,
) -> Result<Siege, String> {
    let (began, machine) = (Instant::now(), MachineTime::now());
    let settings =
        Settings { connections_per_address: Some(CONNECTIONS_PER_ADDRESS), open_files: attack.open_files };
    let mut daemon = Daemon::start(program, attack.name, settings)?;
    let pid = daemon.pid();
    let mut listeners = Listeners::connect(daemon.address(), LISTENERS)?;
    // The newcomers of this time only bring the daemon into its ordinary state; their waits do not count.
    let newcomers = Newcomers::start(daemon.address());
    listeners.listen(settle);
    listeners.listen_while(|| newcomers.stop());
    listeners.take();

    usage::reset_peak_memory(pid);
    let idle = Usage::of(pid);
    let mut peak = idle;
    let newcomers = Newcomers::start(daemon.address());
    let (attack_began, cpu) = (Instant::now(), process::cpu_time(pid));
    let mut attack = AttackProcess::start(attack.name, daemon.address(), time)?;
    while attack.is_running() {
        listeners.listen(SAMPLE);
        peak.raise(Usage::of(pid));
    }
    let attack_time = attack_began.elapsed();
    let cpu = (process::cpu_time(pid) - cpu).div_f64(attack_time.as_secs_f64());
    let counts = attack.finish()?;
    peak.rss = peak.rss.max(usage::peak_memory(pid));
    let waits = listeners.listen_while(|| newcomers.stop());
    listeners.listen(SAMPLE);
    let heard = listeners.take();
    let survived = daemon.is_running();
    // The CPU time of a child counts when the child has been waited for.
    drop(daemon);
    let noise = Noise::since(began, &machine);
    Ok(Siege { heard, waits, idle, peak, cpu, counts, time: attack_time, survived, noise })
}

/// Measures what the daemon's threads use with 1000 listeners and nobody new.
pub(crate) fn idle_cost(program: &Path, settle: Duration, time: Duration) -> Result<IdleCost, String> {
    let (began, machine) = (Instant::now(), MachineTime::now());
    // The listeners have one address, which is exempt from the limits per client.
    let daemon = Daemon::start(program, "idle-cost", Settings::default())?;
    let mut listeners = Listeners::connect(daemon.address(), MANY_LISTENERS)?;
    listeners.listen(settle);
    listeners.take();
    let (measured, before) = (Instant::now(), usage::thread_times(daemon.pid()));
    listeners.listen(time);
    let after = usage::thread_times(daemon.pid());
    let seconds = measured.elapsed().as_secs_f64();
    let share = |(name, time): (String, Duration)| {
        let used = time.saturating_sub(before.get(&name).copied().unwrap_or_default());
        (name, used.as_secs_f64() / seconds)
    };
    let threads = after.into_iter().map(share).collect();
    let (heard, usage) = (listeners.take(), Usage::of(daemon.pid()));
    drop(daemon);
    Ok(IdleCost { heard, threads, usage, noise: Noise::since(began, &machine) })
}

impl Noise {
    fn since(began: Instant, machine: &MachineTime) -> Noise {
        let now = MachineTime::now();
        Noise {
            others: now.others_since(machine).div_f64(began.elapsed().as_secs_f64()).as_secs_f64(),
            steal: now.steal_since(machine),
        }
    }
}
