//! The memory of this machine that programs can still use.

use std::fs;
use std::path::Path;

/// Returns the physical memory that programs can still use, in bytes: MemAvailable of `proc`/meminfo.
///
/// A unit may hide that file (ProcSubset=pid), but not the memory of NUMA nodes below `sys`. Their files have no
/// MemAvailable: free pages and pages of files come close. Without NUMA only the memory of the machine is known.
pub fn available(proc: &Path, sys: &Path) -> u64 {
    let of_machine = fs::read_to_string(proc.join("meminfo")).ok();
    let of_machine = of_machine.and_then(|text| kilobytes(&text, "MemAvailable:"));
    of_machine.or_else(|| of_nodes(sys)).unwrap_or_else(total)
}

/// Returns the memory in bytes that stands behind `key` in kB, in a text with lines as `MemFree:   123 kB`.
pub fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let mut words = text.lines().find_map(|line| line.split_once(key))?.1.split_whitespace();
    Some(words.next()?.parse::<u64>().ok()? * 1024)
}

/// Returns the memory of all NUMA nodes that programs can still use, in bytes.
fn of_nodes(sys: &Path) -> Option<u64> {
    let nodes = fs::read_dir(sys.join("devices/system/node")).ok()?.flatten();
    let of_node = |node: fs::DirEntry| {
        let text = fs::read_to_string(node.path().join("meminfo")).ok()?;
        ["MemFree:", "Active(file):", "Inactive(file):", "SReclaimable:"]
            .into_iter()
            .map(|key| kilobytes(&text, key))
            .sum::<Option<u64>>()
    };
    let sum: u64 = nodes.filter_map(of_node).sum();
    (sum > 0).then_some(sum)
}

/// Returns the physical memory of the machine in bytes.
fn total() -> u64 {
    let info = rustix::system::sysinfo();
    // On 32-bit machines these are 32 bits.
    #[allow(clippy::useless_conversion)]
    u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A folder that is removed on drop.
    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn available_memory_is_that_of_the_machine_or_of_its_nodes_or_all_of_it() {
        let folder = Folder(std::env::temp_dir().join(format!("wavecast-memory-{}", std::process::id())));
        let (proc, sys) = (folder.0.join("proc"), folder.0.join("sys"));
        let node = sys.join("devices/system/node/node0");
        fs::create_dir_all(&node).expect("a folder");
        fs::create_dir_all(&proc).expect("a folder");
        fs::write(node.parent().expect("a folder").join("online"), "0\n").expect("written");
        assert_eq!(available(&proc, &sys), total());
        let text = "Node 0 MemFree: 100 kB\nNode 0 Active(file): 20 kB\nNode 0 Inactive(file): 3 kB\n\
                    Node 0 SReclaimable: 1 kB\n";
        fs::write(node.join("meminfo"), text).expect("written");
        assert_eq!(available(&proc, &sys), 124 * 1024);
        fs::write(proc.join("meminfo"), "MemFree:  1 kB\nMemAvailable:   800 kB\n").expect("written");
        assert_eq!(available(&proc, &sys), 800 * 1024);
    }
}
