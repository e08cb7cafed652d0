//! The ring for a source that has just been opened: the one there is, or a new one with as much history as fits.
//!
//! The size of a ring follows from the format that the card agreed to, which may be larger than the configured one: an
//! interface that offers 18 channels only needs nine times the memory of stereo. The ring is made by the opener before
//! the card is started, so that zeroing its memory costs no sound.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::devices::SystemPaths;
use super::event::HistoryLimit;
use super::source::OpenError;
use super::timeline::History;
use crate::inputs::Trouble;
use crate::media::format::StreamFormat;
use crate::media::ring::{self, Ring, Writer};
use crate::sys::memory;

/// The largest payload of one ring, in bytes: the limit that the configuration states for `history_seconds`.
const MAX_RING_BYTES: u64 = 1 << 30;
/// A ring holds this much more than a listener may ask for, so that a listener at its very end is not overtaken at
/// once. A machine that stalls for longer loses sound of the card too.
const MARGIN: Duration = Duration::from_millis(500);
/// The shortest history for which memory is asked when longer ones are refused.
const MIN_HISTORY: Duration = Duration::from_secs(1);

/// The properties of a ring that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RingShape {
    pub(super) format: StreamFormat,
    pub(super) block_frames: u32,
    pub(super) history: History,
}

/// The ring for a source.
pub(super) enum RingChoice {
    /// The ring that exists, with this history.
    Current(History),
    /// A new one.
    New {
        /// Its writer.
        writer: Writer,
        /// Its handle for readers.
        ring: Ring,
        /// Its history.
        history: History,
    },
}

/// Chooses the ring for a source with that format and period. Returns the limit that was met if the history is shorter
/// than `asked`.
///
/// The current ring stays where it has the same format, period and asked history. It also stays where only the asked
/// history differs and a longer ring cannot be had. `memory` is the number of bytes that may be used; `make_ring`
/// returns `None` where the allocation fails.
///
/// # Errors
///
/// When there is no memory for the shortest ring.
pub(super) fn choose_ring(
    (format, block_frames, asked): (StreamFormat, u32, Duration),
    current: Option<RingShape>,
    memory: u64,
    make_ring: impl Fn(StreamFormat, u32, Duration) -> Option<(Writer, Ring)>,
) -> Result<(RingChoice, Option<HistoryLimit>), OpenError> {
    // The number of slots was computed for one block length: shorter blocks would waste them.
    let same_blocks = current.filter(|ring| (ring.format, ring.block_frames) == (format, block_frames));
    if let Some(ring) = same_blocks.filter(|ring| ring.history.asked == asked) {
        return Ok((RingChoice::Current(ring.history), None));
    }
    let (mut kept, mut limit) = fit(format, asked, memory);
    loop {
        if let Some(ring) = same_blocks.filter(|ring| kept < asked && kept <= ring.history.kept) {
            let history = History { asked, kept: ring.history.kept };
            return Ok((RingChoice::Current(history), limit));
        }
        if let Some((writer, ring)) = make_ring(format, block_frames, kept) {
            return Ok((RingChoice::New { writer, ring, history: History { asked, kept } }, limit));
        }
        if kept <= MIN_HISTORY {
            let advice = format!("there is no memory for {:.1} s of {format}", kept.as_secs_f64());
            return Err(OpenError { advice, trouble: Trouble::Other });
        }
        (kept, limit) = ((kept / 2).max(MIN_HISTORY), Some(HistoryLimit::Memory));
    }
}

/// Returns how far back a listener may start, of the `configured` history.
pub(super) fn promise(configured: Duration, history: History) -> Duration {
    match history.kept >= history.asked {
        true => configured,
        false => configured.min(history.kept.saturating_sub(MARGIN)),
    }
}

/// Makes a ring; `None` if the memory cannot be allocated.
pub(super) fn make_ring(
    format: StreamFormat,
    block_frames: u32,
    history: Duration,
) -> Option<(Writer, Ring)> {
    ring::new(format, block_frames, history).ok()
}

/// Shortens a history to what the limits allow.
fn fit(format: StreamFormat, asked: Duration, memory: u64) -> (Duration, Option<HistoryLimit>) {
    let (bytes, limit) = match memory < MAX_RING_BYTES {
        true => (memory, HistoryLimit::Memory),
        false => (MAX_RING_BYTES, HistoryLimit::PerInput),
    };
    let longest = format.duration_of(bytes / format.frame_bytes() as u64);
    // The margin is not part of what the configuration limits: 1 GiB that it accepts must not be called too much.
    match asked <= longest + MARGIN * u32::from(limit == HistoryLimit::PerInput) {
        true => (asked, None),
        false => (longest, Some(limit)),
    }
}

/// Returns how many bytes of memory a ring may take on this machine.
///
/// That is three quarters of what is available on the machine and in the control group. The rest is for all others.
pub(super) fn available_memory(paths: &SystemPaths) -> u64 {
    let group = group_available(paths).unwrap_or(u64::MAX);
    memory::available(&paths.proc, &paths.sys).min(group) / 4 * 3
}

/// Returns what the limits of this process's control group (version 2) and of those above it leave.
fn group_available(paths: &SystemPaths) -> Option<u64> {
    let groups = fs::read_to_string(paths.proc.join("self/cgroup")).ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = paths.sys.join("fs/cgroup");
    let number = |file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let left = |group: &Path| {
        // "max" is no number: no limit.
        let limit = number(group.join("memory.max"))?;
        Some(limit.saturating_sub(number(group.join("memory.current"))?))
    };
    let own = root.join(own);
    own.ancestors().take_while(|group| group.starts_with(&root)).filter_map(left).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::devices::testing::Tree;
    use crate::media::format::SampleFormat;

    const CD: StreamFormat = StreamFormat { rate: 44_100, channels: 2, sample: SampleFormat::S16 };
    const PLENTY: u64 = u64::MAX;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Makes rings that claim their history and take no memory; fails above `most`.
    fn allocator(most: Duration) -> impl Fn(StreamFormat, u32, Duration) -> Option<(Writer, Ring)> {
        move |format, block_frames, history| {
            (history <= most).then(|| ring::new(format, block_frames, Duration::ZERO).expect("memory"))
        }
    }

    fn current(block_frames: u32, asked: u64, kept: u64) -> Option<RingShape> {
        let history = History { asked: seconds(asked), kept: seconds(kept) };
        Some(RingShape { format: CD, block_frames, history })
    }

    /// Returns whether the ring is new, the seconds that it keeps, and the limit.
    fn choose(
        asked: u64,
        current: Option<RingShape>,
        memory: u64,
        most: u64,
    ) -> (bool, u64, Option<HistoryLimit>) {
        let wanted = (CD, 441, seconds(asked));
        match choose_ring(wanted, current, memory, allocator(seconds(most))).expect("a ring") {
            (RingChoice::Current(history), limit) => (false, history.kept.as_secs(), limit),
            (RingChoice::New { history, .. }, limit) => (true, history.kept.as_secs(), limit),
        }
    }

    #[test]
    fn the_current_ring_is_used_again_only_for_the_same_blocks_and_history() {
        assert_eq!(choose(30, None, PLENTY, 9999), (true, 30, None));
        assert_eq!(choose(30, current(441, 30, 30), PLENTY, 9999), (false, 30, None));
        assert_eq!(choose(30, current(44, 30, 30), PLENTY, 9999), (true, 30, None), "another period");
        assert_eq!(choose(30, current(441, 20, 20), PLENTY, 9999), (true, 30, None), "longer");
        assert_eq!(choose(30, current(441, 40, 40), PLENTY, 9999), (true, 30, None), "shorter");
        assert_eq!(choose(30, current(441, 30, 5), PLENTY, 9999), (false, 5, None), "tried before");
    }

    #[test]
    fn a_history_that_cannot_be_allocated_is_shortened_or_the_longer_current_ring_stays() {
        let memory = Some(HistoryLimit::Memory);
        assert_eq!(choose(40, None, PLENTY, 25), (true, 20, memory));
        assert_eq!(choose(40, current(44, 30, 30), PLENTY, 25), (true, 20, memory), "another period");
        assert_eq!(choose(40, current(441, 30, 30), PLENTY, 25), (false, 30, memory));
        assert_eq!(choose(40, current(441, 5, 5), PLENTY, 25), (true, 20, memory));
        let refused = choose_ring((CD, 441, seconds(40)), None, PLENTY, allocator(Duration::ZERO));
        assert!(refused.is_err_and(|error| error.advice.contains("no memory for 1.0 s")));
    }

    #[test]
    fn the_limits_hold_for_the_format_of_the_card() {
        // The configuration allows this: 635 MB of stereo. Of 18 channels it would be 5.7 GB.
        let interface = StreamFormat { channels: 18, ..CD };
        let hour = seconds(3600);
        assert_eq!(fit(CD, hour, PLENTY), (hour, None));
        let (kept, limit) = fit(interface, hour, PLENTY);
        assert_eq!((kept.as_secs(), limit), (676, Some(HistoryLimit::PerInput)));
        let (kept, limit) = fit(interface, hour, 100_000_000);
        assert_eq!((kept.as_secs(), limit), (62, Some(HistoryLimit::Memory)));
        // The longest history that the configuration accepts is whole.
        let longest = CD.duration_of(MAX_RING_BYTES / 4);
        assert_eq!(fit(CD, longest + MARGIN, PLENTY), (longest + MARGIN, None));
    }

    #[test]
    fn the_promise_is_the_configured_history_or_what_a_shortened_ring_holds() {
        let history = |asked, kept| History { asked: seconds(asked), kept: seconds(kept) };
        assert_eq!(promise(seconds(30), history(31, 31)), seconds(30));
        assert_eq!(promise(seconds(30), history(31, 10)), Duration::from_millis(9500));
        assert_eq!(promise(seconds(5), history(31, 10)), seconds(5));
    }

    #[test]
    fn a_ring_larger_than_the_address_space_is_no_ring() {
        let year = seconds(365 * 86_400 * 10_000);
        assert!(make_ring(CD, 441, year).is_none());
        assert!(make_ring(CD, 441, seconds(1)).is_some());
    }

    #[test]
    fn available_memory_is_the_least_of_the_machine_and_the_control_groups() {
        let tree = Tree::new();
        let memory = || available_memory(&tree.paths());
        assert!(memory() > 1 << 20, "this machine's memory where /proc hides it");
        tree.write("proc/meminfo", "MemTotal:  900000 kB\nMemFree: 1 kB\nMemAvailable:     800000 kB\n");
        assert_eq!(memory(), 600_000 * 1024);
        tree.write("proc/self/cgroup", "0::/system.slice/wavecast.service\n");
        tree.write("sys/fs/cgroup/system.slice/wavecast.service/memory.max", "max\n");
        tree.write("sys/fs/cgroup/system.slice/wavecast.service/memory.current", "1000\n");
        assert_eq!(memory(), 600_000 * 1024);
        tree.write("sys/fs/cgroup/system.slice/memory.max", "50000\n");
        tree.write("sys/fs/cgroup/system.slice/memory.current", "20000\n");
        assert_eq!(memory(), 22_500);
    }
}
