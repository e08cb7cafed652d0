//! The process that has an input of a card open.

use std::fmt;
use std::fs;
use std::path::Path;

use super::system_paths::{SystemPaths, entries, read_line};

/// The process that has an input open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process ID.
    pub pid: u32,
    /// Its name, as `ps` shows it; `None` where other users' processes are hidden.
    pub command: Option<String>,
}

impl Holder {
    /// Returns whether the holder is this process.
    pub fn is_this_process(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Returns whether the holder is the sound server of a desktop, which keeps every card to itself.
    pub(super) fn is_sound_server(&self) -> bool {
        matches!(self.command.as_deref(), Some("pipewire" | "wireplumber" | "pulseaudio"))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.command {
            Some(command) => write!(f, "{command} (pid {})", self.pid),
            None => write!(f, "process {}", self.pid),
        }
    }
}

/// Returns the process that has this input open; `None` if there is none or it cannot be known.
///
/// Other processes are found in `/proc/asound`, which a systemd unit with `ProcSubset=pid` hides. This process is found
/// by its own descriptors too, so that it is never taken for another program.
pub fn holder(card_index: i32, device: u32, paths: &SystemPaths) -> Option<Holder> {
    own_descriptor(card_index, device, paths).or_else(|| owner(card_index, device, paths))
}

/// Returns this process if one of its descriptors is that input.
fn own_descriptor(card_index: i32, device: u32, paths: &SystemPaths) -> Option<Holder> {
    let node = paths.dev.join(format!("snd/pcmC{card_index}D{device}c"));
    let is_open = |descriptor| fs::read_link(descriptor).is_ok_and(|target| target == node);
    let is_open = entries(&paths.proc.join("self/fd")).into_iter().any(is_open);
    is_open.then(|| Holder { pid: std::process::id(), command: Some("wavecast".to_owned()) })
}

/// Returns the process that the kernel names as the owner of that input.
fn owner(card_index: i32, device: u32, paths: &SystemPaths) -> Option<Holder> {
    let pcm = paths.proc.join(format!("asound/card{card_index}/pcm{device}c"));
    let owner = entries(&pcm).into_iter().find_map(|substream| {
        // The file says "closed", or has lines such as "owner_pid   : 1234". 0 is a process outside of this container.
        let owner: u32 = value(&substream.join("status"), "owner_pid")?.parse().ok()?;
        (owner != 0).then_some(owner)
    })?;
    // The owner is the thread that opened the device; people know processes.
    let thread = paths.proc.join(owner.to_string());
    let pid = value(&thread.join("status"), "Tgid").and_then(|pid| pid.parse().ok()).unwrap_or(owner);
    let process = paths.proc.join(pid.to_string());
    let command = read_line(&process.join("comm")).or_else(|| read_line(&thread.join("comm")));
    Some(Holder { pid, command })
}

/// Returns the text behind `key:` in a file of `/proc`.
fn value(file: &Path, key: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&fs::read(file).ok()?).into_owned();
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn the_holder_is_the_process_of_the_thread_that_opened_the_card() {
        let tree = Tree::new();
        tree.write("proc/asound/card1/pcm0c/sub0/status", "state: RUNNING\nowner_pid   : 1235\navail: 0\n");
        tree.write("proc/1235/status", "Name:\tcapture\nTgid:\t1234\nPid:\t1235\n");
        tree.write("proc/1235/comm", "capture\n");
        tree.write("proc/1234/comm", "arecord\n");
        let holder = holder(1, 0, &tree.paths()).expect("a holder");
        assert_eq!(holder, Holder { pid: 1234, command: Some("arecord".to_owned()) });
        assert_eq!(holder.to_string(), "arecord (pid 1234)");
        assert!(!holder.is_this_process());
    }

    #[test]
    fn a_holder_whose_name_is_hidden_has_a_number() {
        let tree = Tree::new();
        tree.write("proc/asound/card0/pcm0c/sub0/status", "closed\n");
        tree.write("proc/asound/card0/pcm0c/sub1/status", "state: RUNNING\nowner_pid   : 77\n");
        let holder = holder(0, 0, &tree.paths()).expect("a holder");
        assert_eq!(holder.to_string(), "process 77");
    }

    #[test]
    fn this_process_is_found_where_proc_hides_the_cards() {
        let tree = Tree::new();
        tree.link("proc/self/fd/7", "dev/snd/pcmC1D0c");
        assert!(holder(1, 0, &tree.paths()).is_some_and(|holder| holder.is_this_process()));
        assert_eq!(holder(1, 1, &tree.paths()), None);
    }

    #[test]
    fn a_card_that_is_closed_hidden_or_held_outside_of_the_container_has_no_holder() {
        let tree = Tree::new();
        tree.write("proc/asound/card0/pcm0c/sub0/status", "closed\n");
        tree.write("proc/asound/card1/pcm0c/sub0/status", "state: RUNNING\nowner_pid   : 0\n");
        for card in 0..3 {
            assert_eq!(holder(card, 0, &tree.paths()), None);
        }
    }
}
