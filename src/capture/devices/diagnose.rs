//! The advice about a source that would not open.

use std::io;

use super::alsa_log::with_alsa_messages;
use super::enumerate::{CaptureDevice, capture_devices, find_device, guess_device, names_a_card, usb_names};
use super::holder::{Holder, holder};
use super::permission::permission_problem;
use super::system_paths::{SystemPaths, entries};
use crate::capture::source::OpenError;
use crate::inputs::Trouble;

/// Turns a failed open into advice for the user: one or two sentences that stand alone, for the log, the page and the
/// state.
///
/// `device_name` is the name from the configuration, `errno` the (positive) number that ALSA returned, and `messages`
/// are ALSA's own messages about the attempt. Asks ALSA for all cards, which takes a few milliseconds.
pub fn diagnose(device_name: &str, errno: i32, messages: &[String], paths: &SystemPaths) -> OpenError {
    let devices = capture_devices(paths);
    let holder = guess_device(device_name, &devices).and_then(|it| holder(it.card_index, it.device, paths));
    let circumstances = Circumstances {
        devices,
        holder,
        permission: permission_problem(paths),
        configuration: configuration_problem(),
        alsa_says: last_words(device_name, messages),
    };
    let errno = errno.abs();
    let trouble = match errno {
        libc::EBUSY => Trouble::Busy,
        _ if is_absent(device_name, errno, &circumstances) => Trouble::Absent,
        _ => Trouble::Other,
    };
    OpenError { advice: advice_text(device_name, errno, &circumstances), trouble }
}

/// Returns why ALSA cannot read its configuration (`/etc/asound.conf`, `~/.asoundrc`), in its own words; `None` if it
/// can. Without a configuration, ALSA opens nothing and sees no card.
pub(super) fn configuration_problem() -> Option<String> {
    let (result, messages) = with_alsa_messages(alsa::config::update);
    let error = result.err()?;
    let reason = configuration_mistake(&messages)
        .unwrap_or_else(|| io::Error::from_raw_os_error(error.errno()).to_string());
    Some(format!("ALSA cannot read its configuration: {reason}"))
}

/// Returns the mistake with its file and line from ALSA's messages about a configuration.
fn configuration_mistake(messages: &[String]) -> Option<String> {
    // The first message has the line and the mistake, and a later one the file:
    //   _snd_config_load_with_include: _toplevel_:5:0:Unexpected char
    //   config_file_open: /etc/asound.conf may be old or corrupted: consider to remove or fix it
    let mistake = without_function(messages.first()?);
    let file = messages.iter().find_map(|message| {
        without_function(message).split_once(" may be old or corrupted").map(|(file, _)| file.to_owned())
    });
    Some(match (mistake.strip_prefix("_toplevel_:"), file) {
        (Some(place), Some(file)) => format!("{file}:{place}"),
        _ => mistake,
    })
}

/// Refuses the device `jack` while no JACK server runs. JACK's client library writes several lines to stderr at each
/// attempt to reach one, past ALSA's messages and past the log.
///
/// # Errors
///
/// An [`OpenError`] with what to do.
pub fn check_jack(device: &str, paths: &SystemPaths) -> Result<(), OpenError> {
    if device != "jack" || jack_may_run(paths) {
        return Ok(());
    }
    let advice = "\"jack\" would not open: no JACK server runs for this user. A service does not reach the server of \
                  a desktop; there are others:  wavecast devices  lists them";
    Err(OpenError { advice: advice.to_owned(), trouble: Trouble::Other })
}

/// Returns whether there is the socket of a JACK server, or of PipeWire, which can replace it.
fn jack_may_run(paths: &SystemPaths) -> bool {
    let runtime = ["PIPEWIRE_RUNTIME_DIR", "XDG_RUNTIME_DIR"].into_iter().find_map(std::env::var_os);
    if runtime.is_some_and(|directory| std::path::Path::new(&directory).join("pipewire-0").exists()) {
        return true;
    }
    let user = format!("jack-{}", rustix::process::geteuid().as_raw());
    entries(&paths.dev.join("shm")).iter().filter_map(|entry| entry.file_name()?.to_str()).any(|name| {
        // JACK 2: jack_SERVER_USER_0. JACK 1: a directory. Both leave other files behind when they end.
        name == user || (name.starts_with("jack_") && name.ends_with("_0"))
    })
}

/// Returns the name under which ALSA converts the formats of a device: `plughw:` for `hw:`, `plug:'NAME'` for all others.
pub fn converting_name(device: &str) -> String {
    match device.strip_prefix("hw:") {
        Some(card) => format!("plughw:{card}"),
        None => format!("plug:'{device}'"),
    }
}

/// The circumstances of a failed open.
struct Circumstances {
    devices: Vec<CaptureDevice>,
    /// The process that has the device open.
    holder: Option<Holder>,
    /// The result of [`permission_problem`].
    permission: Option<String>,
    /// The result of [`configuration_problem`].
    configuration: Option<String>,
    /// ALSA's last message, where it says more than the error number.
    alsa_says: Option<String>,
}

fn advice_text(name: &str, errno: i32, now: &Circumstances) -> String {
    let reason = io::Error::from_raw_os_error(errno);
    if let Some(configuration) = now.configuration.as_ref().filter(|_| errno != libc::EBUSY) {
        return format!("\"{name}\" would not open: {configuration}");
    }
    match errno {
        libc::EBUSY => busy(name, now),
        libc::EACCES | libc::EPERM => match &now.permission {
            Some(permission) => format!("\"{name}\" would not open: {permission}"),
            None => format!(
                "\"{name}\" would not open: {reason}. If wavecast runs as a service, its unit has to allow the \
                 card (DeviceAllow=char-alsa rw, Group=audio)"
            ),
        },
        libc::ENOENT | libc::ENODEV | libc::ENXIO => not_there(name, errno, now),
        libc::ECONNREFUSED => format!(
            "\"{name}\" would not open: no sound server answers. A service does not reach the one of a desktop; {}",
            alternatives(name, now)
        ),
        _ => {
            format!("\"{name}\" would not open: {reason}{}; {}", quoted_words(now), alternatives(name, now))
        }
    }
}

fn busy(name: &str, now: &Circumstances) -> String {
    let share = match guess_device(name, &now.devices) {
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
        Some(holder) if holder.is_this_process() => format!(
            "\"{name}\" is already open in this wavecast: two inputs name the same card, or its driver has not \
             closed it yet"
        ),
        Some(holder) if holder.is_sound_server() => format!(
            "\"{name}\" is in use by {holder}, the desktop's sound server: set the card's profile to \"Off\" in \
             its sound settings, or stop it"
        ),
        Some(holder) => format!("\"{name}\" is in use by {holder}: stop it{share}"),
        // Not "another program": it may be an input of this one, under another name.
        None => format!(
            "\"{name}\" is in use:  sudo fuser -v /dev/snd/*  names the program; on a desktop it is often PipeWire or \
             PulseAudio. Stop it{share}"
        ),
    }
}

fn not_there(name: &str, errno: i32, now: &Circumstances) -> String {
    let named = find_device(name, &now.devices);
    match &now.permission {
        // ALSA does not see a card that may not be opened: it says that there is none.
        Some(permission) if named.is_none() => return format!("\"{name}\" would not open: {permission}"),
        _ => {}
    }
    let alternatives = alternatives(name, now);
    if named.is_some() {
        // The list of cards is younger than the error.
        let reason = io::Error::from_raw_os_error(errno);
        format!("\"{name}\" is there now but would not open: {reason}. It may just have been plugged in")
    } else if name == "auto" {
        format!("device = \"auto\" waits for a card: {alternatives}")
    } else if now.devices.is_empty() && names_a_card(name) {
        format!("\"{name}\" is not there: {alternatives}")
    } else if names_a_card(name) {
        format!("\"{name}\" is not there, or it has no input; {alternatives}")
    } else {
        let words = quoted_words(now);
        format!("ALSA knows no \"{name}\", or what it stands for is not there; {alternatives}{words}")
    }
}

/// Returns whether the device is just not there: nothing hides it, and nothing keeps it from being opened.
fn is_absent(name: &str, errno: i32, now: &Circumstances) -> bool {
    let says_so = matches!(errno, libc::ENOENT | libc::ENODEV | libc::ENXIO);
    let is_hidden = now.permission.is_some() || now.configuration.is_some();
    says_so && !is_hidden && find_device(name, &now.devices).is_none()
}

/// Names the devices that could be opened instead.
fn alternatives(name: &str, now: &Circumstances) -> String {
    let devices = &now.devices;
    if devices.is_empty() {
        if let Some(permission) = &now.permission {
            return permission.clone();
        }
        return "no capture card is plugged in (device = \"synth:tone\" plays without one)".to_owned();
    }
    let by_usb = name.starts_with("usb:");
    let names = devices.iter().map(|device| match usb_names(device, devices).first() {
        Some(usb) if by_usb => format!("{usb} ({})", device.card_name),
        _ => format!("{} ({})", device.stable_name, device.card_name),
    });
    format!("there are: {}", names.collect::<Vec<_>>().join(", "))
}

fn quoted_words(now: &Circumstances) -> String {
    now.alsa_says.as_ref().map_or_else(String::new, |words| format!("; ALSA says: {words}"))
}

/// Returns ALSA's last message about a failed open; `None` where it only says that there is no such name.
fn last_words(name: &str, messages: &[String]) -> Option<String> {
    let last = without_function(messages.last()?);
    let says_nothing_new = last == format!("Unknown PCM {name}") || names_a_card(name);
    (!says_nothing_new).then_some(last)
}

/// Returns a message of ALSA without the function that comes before it: `snd_pcm_open_noupdate: Unknown PCM x`.
fn without_function(message: &str) -> String {
    let is_function = |text: &str| {
        text.contains('_') && text.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
    };
    let text = match message.split_once(": ") {
        Some((function, text)) if is_function(function) => text,
        _ => message,
    };
    text.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MICROPHONE, Tree, device, usb};
    use super::*;

    fn now(devices: Vec<CaptureDevice>) -> Circumstances {
        Circumstances { devices, holder: None, permission: None, configuration: None, alsa_says: None }
    }

    fn microphone() -> CaptureDevice {
        device(1, "Device", MICROPHONE, Some(usb("1-1.4", None)))
    }

    #[test]
    fn the_advice_about_a_busy_card_names_its_holder_and_the_way_to_share_it() {
        let holder = Some(Holder { pid: 123, command: Some("arecord".to_owned()) });
        let now = Circumstances { holder, ..now(vec![microphone()]) };
        assert_eq!(
            advice_text("hw:CARD=Device,DEV=0", libc::EBUSY, &now),
            "\"hw:CARD=Device,DEV=0\" is in use by arecord (pid 123): stop it, or share the card with \
             device = \"dsnoop:CARD=Device,DEV=0\", here and in the other program"
        );
    }

    #[test]
    fn the_advice_about_a_busy_card_without_a_known_holder_names_the_command_that_finds_it() {
        let text = advice_text("default", libc::EBUSY, &now(vec![]));
        assert!(text.contains("fuser -v /dev/snd/*") && text.contains("PipeWire"), "{text}");
        assert!(!text.contains("another program"), "it may be this one: {text}");
    }

    #[test]
    fn a_sound_server_is_named_as_such() {
        let holder = Some(Holder { pid: 9, command: Some("pipewire".to_owned()) });
        let text = advice_text("auto", libc::EBUSY, &Circumstances { holder, ..now(vec![microphone()]) });
        assert!(
            text.starts_with("\"auto\" is in use by pipewire (pid 9), the desktop's sound server"),
            "{text}"
        );
    }

    #[test]
    fn a_card_that_this_process_holds_is_not_blamed_on_another_program() {
        let holder = Some(Holder { pid: std::process::id(), command: Some("wavecast".to_owned()) });
        let text =
            advice_text("usb:0d8c:0014", libc::EBUSY, &Circumstances { holder, ..now(vec![microphone()]) });
        assert_eq!(
            text,
            "\"usb:0d8c:0014\" is already open in this wavecast: two inputs name the same card, or its driver has not closed it yet"
        );
    }

    #[test]
    fn the_advice_about_a_missing_card_lists_those_that_are_there() {
        assert_eq!(
            advice_text("hw:CARD=Devise,DEV=0", libc::ENODEV, &now(vec![microphone()])),
            "\"hw:CARD=Devise,DEV=0\" is not there, or it has no input; there are: hw:CARD=Device,DEV=0 (USB PnP \
             Sound Device)"
        );
        assert_eq!(
            advice_text("usb:1234:5678", libc::ENODEV, &now(vec![microphone()])),
            "\"usb:1234:5678\" is not there, or it has no input; there are: usb:0d8c:0014 (USB PnP Sound Device)"
        );
        assert_eq!(
            advice_text("auto", libc::ENOENT, &now(vec![])),
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
    fn a_card_without_permission_is_not_called_unplugged() {
        let permission = Some("run usermod".to_owned());
        let now = Circumstances { permission, ..now(vec![]) };
        for errno in [libc::ECONNREFUSED, libc::EINVAL] {
            let text = advice_text("default", errno, &now);
            assert!(text.ends_with("; run usermod"), "{text}");
        }
        for errno in [libc::ENOENT, libc::ENODEV, libc::EACCES] {
            assert_eq!(
                advice_text("hw:CARD=Device,DEV=0", errno, &now),
                "\"hw:CARD=Device,DEV=0\" would not open: run usermod"
            );
        }
    }

    #[test]
    fn other_errors_have_the_text_of_the_system() {
        let text = advice_text("hw:CARD=Device,DEV=0", libc::EINVAL, &now(vec![microphone()]));
        assert!(text.contains("would not open: Invalid argument (os error 22); there are: hw:"), "{text}");
    }

    #[test]
    fn advice_ends_without_a_full_stop_or_a_newline() {
        for errno in [1, 2, 5, 6, 13, 16, 19, 22, 77, 111] {
            let text = advice_text("hw:0", errno, &now(vec![microphone()]));
            assert!(!text.ends_with(['.', '\n', ' ']), "{text}");
        }
    }

    #[test]
    fn a_mistake_in_the_configuration_of_alsa_comes_before_the_advice_to_plug_in_a_card() {
        let configuration = Some("ALSA cannot read its configuration: line 4".to_owned());
        let now = Circumstances { configuration, ..now(vec![]) };
        for (name, errno) in [("auto", libc::ENODEV), ("mic", libc::ENOENT), ("hw:1", libc::EINVAL)] {
            let text = advice_text(name, errno, &now);
            assert_eq!(
                text,
                format!("\"{name}\" would not open: ALSA cannot read its configuration: line 4")
            );
            assert!(!is_absent(name, errno, &now));
        }
    }

    #[test]
    fn the_last_words_of_alsa_come_with_an_error_of_a_configured_name() {
        let messages = |text: &str| vec!["snd_f: First".to_owned(), text.to_owned()];
        let says = |name: &str, text: &str| last_words(name, &messages(text));
        let slave = "_snd_pcm_plug_open: slave is not defined.";
        assert_eq!(says("mic", slave).as_deref(), Some("slave is not defined"));
        assert_eq!(says("mic", "snd_pcm_open_noupdate: Unknown PCM mic"), None);
        assert_eq!(
            says("mic", "snd_pcm_open_noupdate: Unknown PCM nope").as_deref(),
            Some("Unknown PCM nope")
        );
        assert_eq!(says("hw:7", slave), None, "the advice knows more of a card");
        assert_eq!(last_words("mic", &[]), None);

        let now = Circumstances { alsa_says: says("mic", slave), ..now(vec![]) };
        for errno in [libc::EINVAL, libc::ENOENT] {
            let text = advice_text("mic", errno, &now);
            assert!(text.contains("; ALSA says: slave is not defined"), "{text}");
        }
    }

    #[test]
    fn a_mistake_in_the_configuration_of_alsa_has_file_and_line() {
        let mistake = |lines: &[&str]| {
            configuration_mistake(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
        };
        let position = "_snd_config_load_with_include: _toplevel_:5:0:Unexpected char";
        let file = "config_file_open: /etc/asound.conf may be old or corrupted: consider to remove or fix it";
        assert_eq!(mistake(&[position, file]).as_deref(), Some("/etc/asound.conf:5:0:Unexpected char"));
        assert_eq!(mistake(&[position]).as_deref(), Some("_toplevel_:5:0:Unexpected char"));
        assert_eq!(mistake(&["snd_f: Hook: no such file"]).as_deref(), Some("Hook: no such file"));
        assert_eq!(mistake(&[]), None);
    }

    #[test]
    fn hw_converts_as_plughw_and_every_other_name_as_plug() {
        assert_eq!(converting_name("hw:CARD=Device,DEV=0"), "plughw:CARD=Device,DEV=0");
        assert_eq!(converting_name("oddformat"), "plug:'oddformat'");
        assert_eq!(converting_name("dsnoop:1,0"), "plug:'dsnoop:1,0'");
    }

    #[test]
    fn jack_is_not_opened_without_a_server() {
        let tree = Tree::new();
        assert_eq!(check_jack("default", &tree.paths()), Ok(()));
        tree.write("dev/shm/jack-shm-registry", "");
        tree.write("dev/shm/jack_sem.0_default_freewheel", "");
        let refused = check_jack("jack", &tree.paths()).expect_err("no server");
        assert!(refused.advice.contains("no JACK server runs"), "{refused}");
        tree.write("dev/shm/jack_default_1000_0", "");
        assert_eq!(check_jack("jack", &tree.paths()), Ok(()));
    }
}
