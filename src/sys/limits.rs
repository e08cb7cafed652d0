//! Limits of the process: real-time priority, open files, the heap of the C library.

#![allow(unsafe_code)]

use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Gives the calling thread, and no other, the real-time scheduling class SCHED_FIFO (sched(7)).
///
/// # Errors
///
/// EPERM without CAP_SYS_NICE and with a lower RLIMIT_RTPRIO; EINVAL for a priority outside 1 to 99.
pub fn realtime(priority: u8) -> io::Result<()> {
    // SAFETY: sched_param is a struct of integers (on musl with reserved ones): all zeros is a value of it.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = priority.into();
    // Reset on fork: should this thread ever start another, that one is an ordinary one again.
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel only reads `param`, which lives until after the call; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, policy, &param) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the C library's heap, which Rust uses too, give back what was freed: a thousand buffers of listeners
/// that have caught up would otherwise stay with the process. For the beginning of `main`, before there are
/// threads.
pub fn lean_heap() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        // Blocks from here on get a mapping of their own and lose it when they are freed. Setting it also ends
        // its growing.
        (libc::M_MMAP_THRESHOLD, 16 * 1024),
        // Two heaps instead of eight for each core: nothing here allocates so often that it would queue.
        (libc::M_ARENA_MAX, 2),
    ] {
        // SAFETY: it takes two integers and changes nothing but the allocator's own parameters, under the
        // allocator's own lock; 0, for failure, leaves things as they were.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Gives back what was freed in the heap below something that is still in use, which the C library keeps otherwise.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes an integer, and gives back whole pages that no block is in, under the allocator's own locks
    // (MT-Safe in malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Raises the limit of open descriptors to as many as this process may have, and returns it. Each listener
/// takes three.
pub fn raise_open_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // It may always be raised to the maximum; where a sandbox thinks otherwise, what there is must do.
        let _ = setrlimit(Resource::Nofile, limit);
        limit = getrlimit(Resource::Nofile);
    }
    limit.current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_priority_is_refused_and_harms_nothing() {
        assert_eq!(realtime(0).map_err(|e| e.raw_os_error()), Err(Some(libc::EINVAL)));
        assert_eq!(realtime(200).map_err(|e| e.raw_os_error()), Err(Some(libc::EINVAL)));
    }

    #[test]
    fn a_lean_heap_still_allocates_what_is_large_and_what_is_small() {
        lean_heap();
        let blocks: Vec<Vec<u8>> = (0..20).map(|power| vec![7; 1 << power]).collect();
        assert!(blocks.iter().flatten().all(|byte| *byte == 7));
    }

    #[test]
    fn a_trimmed_heap_keeps_what_is_in_use_and_gives_back_the_rest() {
        let anonymous = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("it is there");
            line.trim_end_matches("kB").trim().parse().expect("a number")
        };
        // One in a hundred stays, among them the last: without trimming nothing could be given back.
        let blocks: Vec<Vec<u8>> = (0..20_000).map(|_| vec![7; 1000]).collect();
        let (kept, freed): (Vec<_>, Vec<_>) =
            blocks.into_iter().enumerate().partition(|(number, _)| number % 100 == 99);
        let before = anonymous();
        drop(freed);
        trim_heap();
        assert!(anonymous() + 15_000 < before, "{before} KB, then {} KB", anonymous());
        assert!(kept.iter().all(|(_, block)| block.iter().all(|byte| *byte == 7)));
    }
}
