//! Limits of the process: real-time priority, open files, and the heap of the C library.

#![allow(unsafe_code)]

use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Gives the calling thread the real-time scheduling class SCHED_FIFO (sched(7)) with `priority`, 1 to 99. Other threads
/// keep theirs.
///
/// # Errors
///
/// EPERM without CAP_SYS_NICE and with a lower RLIMIT_RTPRIO; EINVAL for a priority outside 1 to 99.
pub fn realtime(priority: u8) -> io::Result<()> {
    // SAFETY: `sched_param` is a struct of integers (on musl with reserved ones), for which all zeros is a valid value.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = priority.into();
    // A thread that this thread starts is an ordinary one again.
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel only reads `param`, which outlives the call; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, policy, &param) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the C library's heap, which is Rust's too, return freed memory to the kernel: the buffers of a thousand listeners
/// that have caught up would otherwise stay with the process. Call it at the start of `main`, before there are threads.
pub fn lean_heap() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        // An allocation of this size or more gets a mapping of its own, which is unmapped when it is freed. Setting the
        // threshold also stops the C library from raising it.
        (libc::M_MMAP_THRESHOLD, 16 * 1024),
        // Two heaps instead of eight for each core: no thread here allocates so often that it would wait for a heap.
        (libc::M_ARENA_MAX, 2),
    ] {
        // SAFETY: mallopt takes two integers and changes nothing but the allocator's own parameters, under the
        // allocator's own lock. On failure it returns 0 and changes nothing.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Returns freed memory to the kernel that lies below memory in use, which the C library keeps otherwise.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes an integer and returns whole pages that hold no allocation, under the allocator's own
    // locks (MT-Safe in malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Raises the limit of open descriptors to the most that this process may have, and returns it.
pub fn raise_open_files() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // A process may always raise it to the maximum. Where a sandbox forbids that, the old limit stays.
        let _ = setrlimit(Resource::Nofile, limit);
        limit = getrlimit(Resource::Nofile);
    }
    limit.current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_out_of_range_is_an_error() {
        assert_eq!(realtime(0).map_err(|e| e.raw_os_error()), Err(Some(libc::EINVAL)));
        assert_eq!(realtime(200).map_err(|e| e.raw_os_error()), Err(Some(libc::EINVAL)));
    }

    #[test]
    fn a_lean_heap_allocates_small_and_large_blocks() {
        lean_heap();
        let blocks: Vec<Vec<u8>> = (0..20).map(|power| vec![7; 1 << power]).collect();
        assert!(blocks.iter().flatten().all(|byte| *byte == 7));
    }

    #[test]
    fn trimming_the_heap_returns_freed_memory_and_keeps_the_rest() {
        let anonymous = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/status").expect("the file exists on Linux");
            let line =
                status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the line exists");
            line.trim_end_matches("kB").trim().parse().expect("a number")
        };
        // One block in a hundred stays, the last one among them: without trimming the C library returns nothing.
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
