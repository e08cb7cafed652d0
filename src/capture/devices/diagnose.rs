//! What the user should do about a card that would not open.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::capture::source::OpenError;
use crate::config::Device;
use crate::sys::sort::sort_few;

use super::{CaptureDevice, SystemPaths, capture_devices, find_usb, first_of, line};

/// The program that has an input open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Its name, as `ps` shows it; `None` where other people's processes are hidden.
    pub command: Option<String>,
}

impl Holder {
    /// Whether it is the sound server of a desktop, which keeps every card to itself.
    fn is_sound_server(&self) -> bool {
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

/// Who has this input open; `None` if nobody has, or if `/proc/asound` is hidden from this process.
///
/// A systemd unit with `ProcSubset=pid` does not see it.
pub fn holder(card_index: i32, device: u32, roots: &SystemPaths) -> Option<Holder> {
    let pcm = roots.proc.join(format!("asound/card{card_index}/pcm{device}c"));
    let owner = paths_in(&pcm).into_iter().find_map(|substream| {
        // "closed", or lines as "owner_pid   : 1234"; 0 is somebody outside of this container.
        let owner: u32 = value(&substream.join("status"), "owner_pid")?.parse().ok()?;
        (owner != 0).then_some(owner)
    })?;
    // The owner is the thread that opened it; people know programs.
    let thread = roots.proc.join(owner.to_string());
    let pid = value(&thread.join("status"), "Tgid").and_then(|pid| pid.parse().ok()).unwrap_or(owner);
    let command = line(&roots.proc.join(pid.to_string()).join("comm")).or_else(|| line(&thread.join("comm")));
    Some(Holder { pid, command })
}

/// What stands behind `key:` in a file of `/proc`.
fn value(file: &Path, key: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&fs::read(file).ok()?).into_owned();
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
}

/// Whether there is an input in `/dev/snd` that this process may not open, and what to do about it.
///
/// Such a card is in no list: ALSA does not see it either. The test is access(2), which opens nothing and
/// thereby takes the card from nobody; it cannot see that a unit's `DevicePolicy` forbids the card.
pub fn permission_problem(roots: &SystemPaths) -> Option<String> {
    forbidden_node(roots, |node| {
        let access = rustix::fs::access(node, Access::READ_OK | Access::WRITE_OK);
        matches!(access, Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM))
    })
}

fn forbidden_node(roots: &SystemPaths, forbidden: impl Fn(&Path) -> bool) -> Option<String> {
    let is_input = |node: &PathBuf| {
        let name = node.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("pcmC") && name.ends_with('c'))
    };
    let node = paths_in(&roots.dev.join("snd")).into_iter().filter(is_input).find(|node| forbidden(node))?;
    Some(how_to_get_in(&node, roots))
}

fn how_to_get_in(node: &Path, roots: &SystemPaths) -> String {
    let user = user_name(roots);
    let may_not = match &user {
        Ok(name) => format!("user \"{name}\" may not open {}", node.display()),
        Err(uid) => format!("user {uid} may not open {}", node.display()),
    };
    let group = fs::metadata(node).ok().filter(|node| node.mode() & 0o060 == 0o060);
    let group = group.and_then(|node| group_of(node.gid(), roots)).filter(|group| group.name != "root");
    match (group, user) {
        (Some(group), Ok(user)) if group.members.contains(&user) => {
            format!(
                "{may_not}: {user} is in group {}, but only from the next login on: log in again",
                group.name
            )
        }
        (Some(group), user) => {
            let user = user.unwrap_or_else(|uid| format!("\"$(id -nu {uid})\""));
            format!("{may_not}: run  sudo usermod -aG {} {user}  and log in again", group.name)
        }
        (None, _) => format!("{may_not}, and no group may: see  ls -l {}", node.display()),
    }
}

/// The name of the user that this process runs as, or the number where it has no name.
fn user_name(roots: &SystemPaths) -> Result<String, u32> {
    let uid = rustix::process::geteuid().as_raw();
    // The environment comes second: it may be that of whoever called su.
    let named = entry_of(uid, &roots.etc.join("passwd")).map(|mut fields| fields.swap_remove(0));
    let from_environment = || ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    named.or_else(from_environment).filter(|name| !name.is_empty()).ok_or(uid)
}

struct Group {
    name: String,
    members: Vec<String>,
}

fn group_of(gid: u32, roots: &SystemPaths) -> Option<Group> {
    let mut fields = entry_of(gid, &roots.etc.join("group"))?;
    let members = fields.get(3).map(|list| list.split(',').map(str::to_owned).collect()).unwrap_or_default();
    Some(Group { name: fields.swap_remove(0), members })
}

/// The fields of a line of passwd(5) or group(5), whose third is the number.
fn entry_of(id: u32, file: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(file).ok()?;
    let mut entries = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
    entries.find(|fields| fields.get(2).is_some_and(|field| field.parse() == Ok(id)))
}

/// What is in a directory, sorted by name; nothing if it cannot be read.
fn paths_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    sort_few(&mut paths, PathBuf::clone);
    paths
}

/// Turns a failed open into what the user should do: one or two sentences that stand alone.
///
/// `device_name` is the name from the configuration, `errno` the (positive) number that ALSA gave as the reason.
/// For the log, the page and the state alike. It asks ALSA for the cards there are, so it takes a few
/// milliseconds.
pub fn refusal(device_name: &str, errno: i32, roots: &SystemPaths) -> OpenError {
    let devices = capture_devices(roots);
    let holder = meant(device_name, &devices).and_then(|it| holder(it.card_index, it.device, roots));
    let permission = permission_problem(roots);
    let now = Circumstances { devices, holder, permission };
    let errno = errno.abs();
    OpenError { advice: sentences(device_name, errno, &now), absent: is_absent(device_name, errno, &now) }
}

/// What is true while the open fails.
struct Circumstances {
    devices: Vec<CaptureDevice>,
    /// Who has open what was asked for.
    holder: Option<Holder>,
    /// What [`permission_problem`] says.
    permission: Option<String>,
}

fn sentences(name: &str, errno: i32, now: &Circumstances) -> String {
    let reason = io::Error::from_raw_os_error(errno);
    match errno {
        libc::EBUSY => busy(name, now),
        libc::EACCES | libc::EPERM => match &now.permission {
            Some(permission) => format!("\"{name}\" would not open: {permission}"),
            None => format!(
                "\"{name}\" would not open: {reason}. If wavecast runs as a service, its unit has to allow the \
                 card (DeviceAllow=char-alsa rw, SupplementaryGroups=audio)"
            ),
        },
        libc::ENOENT | libc::ENODEV | libc::ENXIO => absent(name, errno, now),
        libc::ECONNREFUSED => format!(
            "\"{name}\" would not open: no sound server answers. A service does not reach the one of a desktop; {}",
            choice(name, now)
        ),
        _ => format!("\"{name}\" would not open: {reason}; {}", choice(name, now)),
    }
}

fn busy(name: &str, now: &Circumstances) -> String {
    let share = match meant(name, &now.devices) {
        Some(_) if name.starts_with("dsnoop") => {
            ", or have it open the card through dsnoop as well".to_owned()
        }
        Some(device) => format!(
            ", or share the card with device = \"dsnoop:CARD={},DEV={}\", here and in the other program",
            device.card_id, device.device
        ),
        None => String::new(),
    };
    match &now.holder {
        Some(holder) if holder.pid == std::process::id() => {
            format!("\"{name}\" is already open in this wavecast: two inputs mean the same card")
        }
        Some(holder) if holder.is_sound_server() => format!(
            "\"{name}\" is in use by {holder}, the desktop's sound server: set the card's profile to \"Off\" in \
             its sound settings, or stop it"
        ),
        Some(holder) => format!("\"{name}\" is in use by {holder}: stop it{share}"),
        None => format!(
            "\"{name}\" is in use by another program:  sudo fuser -v /dev/snd/*  tells which; on a desktop it is \
             often PipeWire or PulseAudio. Stop it{share}"
        ),
    }
}

fn absent(name: &str, errno: i32, now: &Circumstances) -> String {
    let named = exactly_meant(name, &now.devices);
    match &now.permission {
        // ALSA does not see a card that may not be opened: it says that there is none.
        Some(permission) if named.is_none() => return format!("\"{name}\" would not open: {permission}"),
        _ => {}
    }
    let choice = choice(name, now);
    if named.is_some() {
        // The list is younger than the error.
        let reason = io::Error::from_raw_os_error(errno);
        format!("\"{name}\" is there now but would not open: {reason}. It may just have been plugged in")
    } else if name == "auto" {
        format!("device = \"auto\" waits for a card: {choice}")
    } else if now.devices.is_empty() && means_a_card(name) {
        format!("\"{name}\" is not there: {choice}")
    } else if means_a_card(name) {
        format!("\"{name}\" is not there, or it has no input; {choice}")
    } else {
        format!("ALSA knows no \"{name}\", or what it stands for is not there; {choice}")
    }
}

/// Whether it is just not there: nothing hides it, and nothing keeps it from being opened.
fn is_absent(name: &str, errno: i32, now: &Circumstances) -> bool {
    let says_so = matches!(errno, libc::ENOENT | libc::ENODEV | libc::ENXIO);
    says_so && now.permission.is_none() && exactly_meant(name, &now.devices).is_none()
}

/// What else could be opened.
fn choice(name: &str, now: &Circumstances) -> String {
    let devices = &now.devices;
    if devices.is_empty() {
        if let Some(permission) = &now.permission {
            return permission.clone();
        }
        return "no capture card is plugged in (device = \"synth:tone\" plays without one)".to_owned();
    }
    let by_usb = name.starts_with("usb:");
    let names = devices.iter().map(|device| match super::usb_names(device, devices).first() {
        Some(usb) if by_usb => format!("{usb} ({})", device.card_name),
        _ => format!("{} ({})", device.stable_name, device.card_name),
    });
    format!("there are: {}", names.collect::<Vec<_>>().join(", "))
}

/// Whether the name asks for a card, not for something that ALSA's configuration defines.
fn means_a_card(name: &str) -> bool {
    name == "auto" || name.contains(':')
}

/// The input that a name most likely ends at: if it says nothing of a card, the only one there is.
fn meant<'a>(name: &str, devices: &'a [CaptureDevice]) -> Option<&'a CaptureDevice> {
    exactly_meant(name, devices).or(match devices {
        [only] if !means_a_card(name) => Some(only),
        _ => None,
    })
}

/// The input that a name says: `auto`, `usb:…`, `hw:CARD=Device,DEV=0`, `plughw:1`, `dsnoop:Device,0`.
fn exactly_meant<'a>(name: &str, devices: &'a [CaptureDevice]) -> Option<&'a CaptureDevice> {
    if name == "auto" {
        return first_of(devices);
    }
    if let Ok(Device::Usb(selector)) = name.parse() {
        return find_usb(&selector, devices);
    }
    let (_, arguments) = name.split_once(':')?;
    // Arguments have names or places: CARD is the first, DEV the second and 0 by default.
    let argument = |key: &str, place: usize| {
        let named = arguments.split(',').find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='));
        named.or_else(|| arguments.split(',').nth(place).filter(|argument| !argument.contains('=')))
    };
    let card = argument("CARD", 0)?;
    let number: u32 = argument("DEV", 1).map_or(Ok(0), str::parse).ok()?;
    devices.iter().find(|device| {
        device.device == number && (device.card_id == card || card.parse() == Ok(device.card_index))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MICROPHONE, Tree, device, usb};
    use super::*;

    fn now(devices: Vec<CaptureDevice>) -> Circumstances {
        Circumstances { devices, holder: None, permission: None }
    }

    fn microphone() -> CaptureDevice {
        device(1, "Device", MICROPHONE, Some(usb("1-1.4", None)))
    }

    #[test]
    fn the_holder_of_a_card_is_the_program_whose_thread_opened_it() {
        let tree = Tree::new();
        tree.write("proc/asound/card1/pcm0c/sub0/status", "state: RUNNING\nowner_pid   : 1235\navail: 0\n");
        tree.write("proc/1235/status", "Name:\tcapture\nTgid:\t1234\nPid:\t1235\n");
        tree.write("proc/1235/comm", "capture\n");
        tree.write("proc/1234/comm", "arecord\n");
        let holder = holder(1, 0, &tree.roots()).expect("somebody holds it");
        assert_eq!(holder, Holder { pid: 1234, command: Some("arecord".to_owned()) });
        assert_eq!(holder.to_string(), "arecord (pid 1234)");
    }

    #[test]
    fn a_holder_whose_name_is_hidden_still_has_a_number() {
        let tree = Tree::new();
        tree.write("proc/asound/card0/pcm0c/sub0/status", "closed\n");
        tree.write("proc/asound/card0/pcm0c/sub1/status", "state: RUNNING\nowner_pid   : 77\n");
        let holder = holder(0, 0, &tree.roots()).expect("somebody holds it");
        assert_eq!(holder.to_string(), "process 77");
    }

    #[test]
    fn nobody_holds_a_card_that_is_closed_hidden_or_held_outside_of_the_container() {
        let tree = Tree::new();
        tree.write("proc/asound/card0/pcm0c/sub0/status", "closed\n");
        tree.write("proc/asound/card1/pcm0c/sub0/status", "state: RUNNING\nowner_pid   : 0\n");
        for card in 0..3 {
            assert_eq!(holder(card, 0, &tree.roots()), None);
        }
    }

    /// A tree with an input that belongs to a group of that line in `/etc/group`, and the advice about it.
    fn advice_for_group(line_without_gid: (&str, &str), mode: u32) -> String {
        use std::os::unix::fs::PermissionsExt;
        let tree = Tree::new();
        let node = tree.write("dev/snd/pcmC1D0c", "");
        tree.write("dev/snd/pcmC1D0p", "");
        fs::set_permissions(&node, fs::Permissions::from_mode(mode)).expect("mode");
        let gid = fs::metadata(&node).expect("node").gid();
        let (name, members) = line_without_gid;
        tree.write("etc/group", &format!("{name}:x:{gid}:{members}\n"));
        let uid = rustix::process::geteuid().as_raw();
        tree.write("etc/passwd", &format!("pi:x:{uid}:1000:Pi,,,:/home/pi:/bin/bash\n"));
        let advice = forbidden_node(&tree.roots(), |_| true).expect("forbidden");
        advice.replace(&format!("{}/", tree.path().display()), "/")
    }

    #[test]
    fn who_may_not_open_a_card_is_told_the_command_that_helps() {
        assert_eq!(
            advice_for_group(("audio", "gdm"), 0o660),
            "user \"pi\" may not open /dev/snd/pcmC1D0c: run  sudo usermod -aG audio pi  and log in again"
        );
    }

    #[test]
    fn who_has_joined_the_group_since_the_login_is_told_to_log_in_again() {
        assert_eq!(
            advice_for_group(("audio", "gdm,pi"), 0o660),
            "user \"pi\" may not open /dev/snd/pcmC1D0c: pi is in group audio, but only from the next login on: \
             log in again"
        );
    }

    #[test]
    fn a_card_of_root_alone_is_not_answered_with_a_group() {
        for advice in [advice_for_group(("root", ""), 0o660), advice_for_group(("audio", ""), 0o600)] {
            assert_eq!(
                advice,
                "user \"pi\" may not open /dev/snd/pcmC1D0c, and no group may: see  ls -l /dev/snd/pcmC1D0c"
            );
        }
    }

    #[test]
    fn there_is_no_permission_problem_without_cards_or_with_open_ones() {
        let tree = Tree::new();
        assert_eq!(permission_problem(&tree.roots()), None);
        tree.write("dev/snd/pcmC0D0c", "");
        assert_eq!(permission_problem(&tree.roots()), None);
    }

    #[test]
    fn a_busy_card_names_who_holds_it_and_how_to_share_it() {
        let holder = Some(Holder { pid: 123, command: Some("arecord".to_owned()) });
        let now = Circumstances { holder, ..now(vec![microphone()]) };
        assert_eq!(
            sentences("hw:CARD=Device,DEV=0", libc::EBUSY, &now),
            "\"hw:CARD=Device,DEV=0\" is in use by arecord (pid 123): stop it, or share the card with \
             device = \"dsnoop:CARD=Device,DEV=0\", here and in the other program"
        );
    }

    #[test]
    fn a_busy_card_of_an_unknown_holder_says_how_to_find_out() {
        let text = sentences("default", libc::EBUSY, &now(vec![]));
        assert!(text.contains("fuser -v /dev/snd/*") && text.contains("PipeWire"), "{text}");
    }

    #[test]
    fn a_sound_server_is_called_by_what_it_is() {
        let holder = Some(Holder { pid: 9, command: Some("pipewire".to_owned()) });
        let text = sentences("auto", libc::EBUSY, &Circumstances { holder, ..now(vec![microphone()]) });
        assert!(
            text.starts_with("\"auto\" is in use by pipewire (pid 9), the desktop's sound server"),
            "{text}"
        );
    }

    #[test]
    fn two_inputs_on_one_card_are_not_blamed_on_somebody_else() {
        let holder = Some(Holder { pid: std::process::id(), command: Some("wavecast".to_owned()) });
        let text =
            sentences("usb:0d8c:0014", libc::EBUSY, &Circumstances { holder, ..now(vec![microphone()]) });
        assert_eq!(text, "\"usb:0d8c:0014\" is already open in this wavecast: two inputs mean the same card");
    }

    #[test]
    fn a_card_that_is_not_there_comes_with_the_list_of_those_that_are() {
        assert_eq!(
            sentences("hw:CARD=Devise,DEV=0", libc::ENODEV, &now(vec![microphone()])),
            "\"hw:CARD=Devise,DEV=0\" is not there, or it has no input; there are: hw:CARD=Device,DEV=0 (USB PnP \
             Sound Device)"
        );
        assert_eq!(
            sentences("usb:1234:5678", libc::ENODEV, &now(vec![microphone()])),
            "\"usb:1234:5678\" is not there, or it has no input; there are: usb:0d8c:0014 (USB PnP Sound Device)"
        );
        assert_eq!(
            sentences("auto", libc::ENOENT, &now(vec![])),
            "device = \"auto\" waits for a card: no capture card is plugged in (device = \"synth:tone\" plays without one)"
        );
    }

    #[test]
    fn a_card_is_absent_only_if_nothing_hides_or_holds_it() {
        let name = "hw:CARD=Device,DEV=0";
        let permission = Some("run usermod".to_owned());
        for errno in [libc::ENOENT, libc::ENODEV, libc::ENXIO] {
            assert!(is_absent(name, errno, &now(vec![])));
            assert!(is_absent("auto", errno, &now(vec![])));
            assert!(is_absent("usb:1234:5678", errno, &now(vec![microphone()])));
            assert!(!is_absent(name, errno, &now(vec![microphone()])));
            let hidden = Circumstances { permission: permission.clone(), ..now(vec![]) };
            assert!(!is_absent(name, errno, &hidden));
        }
        for errno in [libc::EBUSY, libc::EACCES, libc::ECONNREFUSED, libc::EINVAL] {
            assert!(!is_absent(name, errno, &now(vec![])));
        }
    }

    #[test]
    fn a_card_that_may_not_be_seen_is_not_called_unplugged() {
        let permission = Some("run usermod".to_owned());
        let now = Circumstances { permission, ..now(vec![]) };
        for errno in [libc::ECONNREFUSED, libc::EINVAL] {
            let text = sentences("default", errno, &now);
            assert!(text.ends_with("; run usermod"), "{text}");
        }
        for errno in [libc::ENOENT, libc::ENODEV, libc::EACCES] {
            assert_eq!(
                sentences("hw:CARD=Device,DEV=0", errno, &now),
                "\"hw:CARD=Device,DEV=0\" would not open: run usermod"
            );
        }
    }

    #[test]
    fn other_reasons_are_given_as_the_system_words_them() {
        let text = sentences("hw:CARD=Device,DEV=0", libc::EINVAL, &now(vec![microphone()]));
        assert!(text.contains("would not open: Invalid argument (os error 22); there are: hw:"), "{text}");
    }

    #[test]
    fn the_usual_ways_to_name_a_card_all_lead_to_it() {
        let devices = [device(0, "Other", "Other", None), microphone()];
        for name in [
            "hw:CARD=Device,DEV=0",
            "hw:CARD=Device",
            "hw:DEV=0,CARD=Device",
            "plughw:Device,0",
            "plughw:1",
            "dsnoop:1,0",
            "usb:1-1.4",
            "usb:0d8c:0014",
            "auto",
        ] {
            assert_eq!(meant(name, &devices), Some(&devices[1]), "{name}");
        }
        for name in ["hw:CARD=Device,DEV=1", "hw:2", "usb:1-1.5", "default"] {
            assert_eq!(meant(name, &devices), None, "{name}");
        }
    }

    #[test]
    fn a_name_without_a_card_means_the_only_one() {
        assert_eq!(meant("default", &[microphone()]), Some(&microphone()));
    }

    #[test]
    fn advice_ends_without_a_full_stop_or_a_new_line() {
        for errno in [1, 2, 5, 6, 13, 16, 19, 22, 77, 111] {
            let text = sentences("hw:0", errno, &now(vec![microphone()]));
            assert!(!text.ends_with(['.', '\n', ' ']), "{text}");
        }
    }
}
