//! The capture cards of this machine, by names that survive a reboot.
//!
//! A card's *number* follows the order in which drivers came up and changes between boots. Its ALSA ID (`Device` in
//! `hw:CARD=Device,DEV=0`) stays, and so does, for a USB card, its identity (`usb:0d8c:0014`) or its socket
//! (`usb:1-1.4`). Two cards of one make get the IDs `Device` and `Device_1` in the order in which they came up, so only
//! the `usb:` names tell those two apart for certain.
//!
//! Cards are listed through ALSA's control devices and not from `/proc/asound`, which a hardened systemd unit hides.
//! The identity of USB cards comes from sysfs.

use std::path::PathBuf;

use alsa::Direction;
use alsa::ctl::{Ctl, DeviceIter};
use alsa::device_name::HintIter;

use super::alsa_log::with_alsa_log;
use super::printable::printable;
use super::system_paths::{SystemPaths, read_line};
use crate::config::{Device, UsbId};

/// An input of a card, as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureDevice {
    /// Number of the card. Changes between boots.
    pub card_index: i32,
    /// ALSA ID of the card, for example `Device`. No other card has the same.
    pub card_id: String,
    /// Number of the device on the card, nearly always 0.
    pub device: u32,
    /// Driver of the card, for example `USB-Audio`.
    pub driver: String,
    /// Name of the card for people, for example `USB PnP Sound Device`.
    pub card_name: String,
    /// Name of the device for people, for example `USB Audio`.
    pub pcm_name: String,
    /// Name for ALSA: `hw:CARD=Device,DEV=0`.
    pub stable_name: String,
    /// Identity of a USB card.
    pub usb: Option<UsbIdentity>,
}

impl CaptureDevice {
    /// Returns whether this is a card made of software, such as `snd-aloop`, which can have no microphone.
    pub fn is_virtual(&self) -> bool {
        matches!(self.driver.as_str(), "Loopback" | "Dummy")
    }
}

/// The identity of a USB card, and the socket it is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsbIdentity {
    /// Vendor ID.
    pub vendor: u16,
    /// Product ID.
    pub product: u16,
    /// Serial number. Many cheap cards have none, or all the same.
    pub serial: Option<String>,
    /// Bus and ports that lead to the socket, for example `1-1.4`. Belongs to the socket, whatever is plugged in.
    pub path: String,
    /// Name of the vendor.
    pub manufacturer: Option<String>,
    /// Name of the product.
    pub product_name: Option<String>,
}

/// Returns all inputs of all cards that this process may see, in order of card number.
///
/// A card whose control device may not be opened is missing: see [`permission_problem`](super::permission_problem).
pub fn capture_devices(paths: &SystemPaths) -> Vec<CaptureDevice> {
    with_alsa_log(|| {
        let cards = alsa::card::Iter::new().map_while(Result::ok);
        cards.flat_map(|card| capture_devices_of(card, paths).unwrap_or_default()).collect()
    })
}

/// Returns the inputs of one card; an error if the card is gone by now.
fn capture_devices_of(card: alsa::Card, paths: &SystemPaths) -> alsa::Result<Vec<CaptureDevice>> {
    let ctl = Ctl::from_card(&card, true)?;
    let info = ctl.card_info()?;
    let card_id = info.get_id()?;
    let card_name = printable(info.get_name().unwrap_or_default());
    let driver = printable(info.get_driver().unwrap_or_default());
    let usb = usb_identity(card.get_index(), paths);
    let devices = DeviceIter::new(&ctl).filter_map(|device| u32::try_from(device).ok());
    let inputs = devices.filter_map(|device| {
        // A device that only plays returns ENOENT.
        let pcm = ctl.pcm_info(device, 0, Direction::Capture).ok()?;
        Some(CaptureDevice {
            card_index: card.get_index(),
            card_id: card_id.to_owned(),
            device,
            driver: driver.clone(),
            card_name: card_name.clone(),
            pcm_name: printable(pcm.get_name().unwrap_or_default()),
            stable_name: format!("hw:CARD={card_id},DEV={device}"),
            usb: usb.clone(),
        })
    });
    Ok(inputs.collect())
}

/// Returns the USB identity of the card with that number; `None` if it is no USB card.
///
/// `/sys/class/sound/cardN/device` is a link to the USB *interface*. The identity is in the directory above
/// (Documentation/ABI/stable/sysfs-bus-usb).
fn usb_identity(card_index: i32, paths: &SystemPaths) -> Option<UsbIdentity> {
    let interface = paths.sys.join(format!("class/sound/card{card_index}/device")).canonicalize().ok()?;
    let hex = |file: PathBuf| u16::from_str_radix(&read_line(&file)?, 16).ok();
    interface.ancestors().find_map(|directory| {
        Some(UsbIdentity {
            vendor: hex(directory.join("idVendor"))?,
            product: hex(directory.join("idProduct"))?,
            serial: read_line(&directory.join("serial")),
            path: directory.file_name()?.to_str()?.to_owned(),
            manufacturer: read_line(&directory.join("manufacturer")),
            product_name: read_line(&directory.join("product")),
        })
    })
}

/// Returns the input that `device = "auto"` takes.
///
/// USB cards come first (a person has plugged them in), in order of their sockets. Then come all other cards with an
/// input, such as a HAT or the one on a mainboard, in order of their numbers. Cards made of software (driver `Loopback`,
/// `Dummy`) come last. The order does not depend on which USB card came up first.
pub fn first_capture_device(paths: &SystemPaths) -> Option<CaptureDevice> {
    first_of(&capture_devices(paths)).cloned()
}

/// Returns the first of `devices` in the order of `auto`.
pub(super) fn first_of(devices: &[CaptureDevice]) -> Option<&CaptureDevice> {
    devices.iter().min_by_key(|device| {
        let path = device.usb.as_ref().map(|usb| usb.path.as_str());
        (device.is_virtual(), path.is_none(), path, device.card_index, device.device)
    })
}

/// Returns whether `id` names the card with that identity.
fn matches(id: &UsbId, usb: &UsbIdentity) -> bool {
    match id {
        UsbId::Id { vendor, product, serial } => {
            (*vendor, *product) == (usb.vendor, usb.product) && (serial.is_none() || *serial == usb.serial)
        }
        UsbId::Path(path) => *path == usb.path,
    }
}

/// Returns ALSA's name of a configured device, and the card's name for people where it is known. `None` when there is no
/// such card now.
pub fn resolve(device: &Device, paths: &SystemPaths) -> Option<(String, Option<String>)> {
    let card = match device {
        Device::Auto => first_capture_device(paths)?,
        Device::Usb(id) => resolve_usb(id, paths)?,
        Device::Alsa(name) => {
            let card = capture_devices(paths).into_iter().find(|card| card.stable_name == *name);
            return Some((name.clone(), card.map(|card| card.card_name)));
        }
        Device::Synth(_) => return None,
    };
    Some((card.stable_name, Some(card.card_name)))
}

/// Returns the first input of the USB card that `selector` names. Of several cards that match, takes the one in the
/// first socket.
pub fn resolve_usb(selector: &UsbId, paths: &SystemPaths) -> Option<CaptureDevice> {
    find_usb(selector, &capture_devices(paths)).cloned()
}

pub(super) fn find_usb<'a>(selector: &UsbId, devices: &'a [CaptureDevice]) -> Option<&'a CaptureDevice> {
    let fits = devices.iter().filter_map(|device| {
        let usb = device.usb.as_ref()?;
        matches(selector, usb).then_some((&usb.path, device.device, device))
    });
    fits.min_by_key(|&(path, number, _)| (path, number)).map(|(_, _, device)| device)
}

/// Returns the input that a name most likely leads to: the one that it names, or, if the name says nothing of a card,
/// the only one there is.
pub fn guess_device<'a>(name: &str, devices: &'a [CaptureDevice]) -> Option<&'a CaptureDevice> {
    find_device(name, devices).or(match devices {
        [only] if !names_a_card(name) => Some(only),
        _ => None,
    })
}

/// Returns the input that a name states: `auto`, `usb:…`, `hw:CARD=Device,DEV=0`, `plughw:1`, `dsnoop:Device,0`.
pub fn find_device<'a>(name: &str, devices: &'a [CaptureDevice]) -> Option<&'a CaptureDevice> {
    if name == "auto" {
        return first_of(devices);
    }
    if let Ok(Device::Usb(selector)) = name.parse() {
        return find_usb(&selector, devices);
    }
    let (_, arguments) = name.split_once(':')?;
    // An argument has a name or a place: CARD is the first, DEV the second and 0 by default.
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

/// Returns whether a name asks for a card, not for something that ALSA's configuration defines.
pub(super) fn names_a_card(name: &str) -> bool {
    name == "auto" || name.contains(':')
}

/// Returns the `usb:` names of this device and no other: by identity (if that is enough), then by socket.
pub(super) fn usb_names(device: &CaptureDevice, devices: &[CaptureDevice]) -> Vec<UsbId> {
    let Some(usb) = &device.usb else { return Vec::new() };
    let id = |serial| UsbId::Id { vendor: usb.vendor, product: usb.product, serial };
    let is_unique = |selector: &UsbId| {
        let mut others = devices.iter().filter(|other| other.card_index != device.card_index);
        find_usb(selector, devices) == Some(device)
            && !others.any(|other| other.usb.as_ref().is_some_and(|usb| matches(selector, usb)))
    };
    let with_serial = usb.serial.clone().map(|serial| id(Some(serial)));
    let identity = [Some(id(None)), with_serial].into_iter().flatten().find(is_unique);
    let socket = Some(UsbId::Path(usb.path.clone())).filter(is_unique);
    identity.into_iter().chain(socket).collect()
}

/// An input that ALSA's configuration names, other than the cards of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPcm {
    /// Name for ALSA: `default`, `pipewire`, or one of the user's own from `asound.conf`.
    pub name: String,
    /// Description from ALSA's configuration, in one line; may be empty.
    pub description: String,
}

/// Returns the inputs that ALSA's configuration names beside the cards: sound servers and the user's own.
///
/// Only names with a `hint` are listed; others open just as well.
pub fn named_pcms() -> Vec<NamedPcm> {
    let hints = with_alsa_log(|| HintIter::new_str(None, "pcm").map(Iterator::collect::<Vec<_>>));
    let inputs =
        hints.unwrap_or_default().into_iter().filter(|hint| hint.direction != Some(Direction::Playback));
    without_plugins(inputs.filter_map(|hint| Some((hint.name?, hint.desc.unwrap_or_default()))))
}

/// Names that come with Debian's ALSA plugins and are no inputs: they convert or discard.
const NO_INPUTS: [&str; 8] =
    ["null", "lavrate", "samplerate", "speexrate", "speex", "upmix", "vdownmix", "oss"];

fn without_plugins(hints: impl Iterator<Item = (String, String)>) -> Vec<NamedPcm> {
    let mut pcms: Vec<NamedPcm> = Vec::new();
    for (name, description) in hints {
        // Each card has a dozen names, `front:CARD=Device,DEV=0` and so on.
        let of_a_card = name.contains(":CARD=");
        let known = pcms.iter().any(|pcm| pcm.name == name);
        if !of_a_card && !known && !NO_INPUTS.contains(&name.as_str()) {
            let lines: Vec<String> = description.lines().map(printable).collect();
            pcms.push(NamedPcm { name, description: lines.join(", ") });
        }
    }
    pcms
}

#[cfg(test)]
mod tests;
