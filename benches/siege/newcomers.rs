//! Newcomers: at a fixed interval a client connects, from an address of its own, asks for `/live.wav`, and leaves after the first sound.
//!
//! Each newcomer has a thread of its own, so that one who waits does not delay the next one.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::http::{self, NoSound};

/// Time between two newcomers.
const INTERVAL: Duration = Duration::from_millis(500);
/// Bytes of sound that a newcomer waits for: 15 frames.
const SOUND_BYTES: usize = 60;
/// Time after which a newcomer gives up.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The thread that starts newcomers.
pub(crate) struct Newcomers {
    stop: Sender<()>,
    thread: JoinHandle<Waits>,
}

/// The waiting times of all newcomers.
#[derive(Default)]
pub(crate) struct Waits {
    served: Vec<Wait>,
    /// Newcomers that got no sound, by the reason.
    pub(crate) not_served: BTreeMap<NoSound, u64>,
}

/// The time that one newcomer waited for sound.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Wait {
    pub(crate) total: Duration,
    /// The part of it in which the newcomer's own thread waited for a processor.
    pub(crate) own: Duration,
}

impl Newcomers {
    /// Starts the thread; the first newcomer comes at once.
    pub(crate) fn start(address: SocketAddr) -> Newcomers {
        let (stop, stopped) = mpsc::channel();
        Newcomers { stop, thread: thread::spawn(move || send_newcomers(address, &stopped)) }
    }

    /// Stops the thread, waits for the newcomers that still wait, and returns all waiting times.
    pub(crate) fn stop(self) -> Waits {
        drop(self.stop);
        let mut waits = self.thread.join().expect("the thread does not panic");
        waits.served.sort_unstable();
        waits
    }
}

impl Waits {
    /// The number of newcomers.
    pub(crate) fn count(&self) -> u64 {
        self.served.len() as u64 + self.not_served.values().sum::<u64>()
    }

    /// The time within which this share of the served newcomers had sound.
    pub(crate) fn quantile(&self, share: f64) -> Option<Wait> {
        let rank = (self.served.len() as f64 * share).ceil().max(1.0) as usize;
        self.served.get(rank - 1).copied()
    }

    /// The longest wait of a served newcomer.
    pub(crate) fn worst(&self) -> Option<Wait> {
        self.served.last().copied()
    }
}

fn send_newcomers(address: SocketAddr, stopped: &Receiver<()>) -> Waits {
    let (mut due, mut newcomers) = (Instant::now(), Vec::new());
    // 127.100.0.0 on: the attackers come from 127.0.0.2 on, the listeners from 127.0.0.1.
    for source in u32::from(Ipv4Addr::new(127, 100, 0, 0)).. {
        newcomers.push(thread::spawn(move || wait_for_sound(source.into(), address)));
        due += INTERVAL;
        match stopped.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let mut waits = Waits::default();
    for newcomer in newcomers {
        match newcomer.join().expect("the thread does not panic") {
            Ok(wait) => waits.served.push(wait),
            Err(reason) => *waits.not_served.entry(reason).or_default() += 1,
        }
    }
    waits
}

fn wait_for_sound(source: Ipv4Addr, address: SocketAddr) -> Result<Wait, NoSound> {
    let before = run_queue_wait();
    let total = http::time_to_sound(source, address, SOUND_BYTES, TIMEOUT)?;
    Ok(Wait { total, own: run_queue_wait().saturating_sub(before) })
}

/// Returns the time that the calling thread has waited for a processor (second field of schedstat, in ns); 0 where
/// the kernel does not count it.
fn run_queue_wait() -> Duration {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let ns = schedstat.split(' ').nth(1).and_then(|ns| ns.parse().ok());
    Duration::from_nanos(ns.unwrap_or(0))
}
