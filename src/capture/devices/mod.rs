//! Which capture cards there are, by names that survive a reboot.
//!
//! A card's *number* is handed out in the order in which drivers came up and changes between boots. What stays
//! is its ALSA id (`Device` in `hw:CARD=Device,DEV=0`) and, for a USB card, what it is (`usb:0d8c:0014`) or where
//! it is plugged in (`usb:1-1.4`). Two cards of one make get the ids `Device` and `Device_1` in the order in which
//! they came up, so between those only the `usb:` names tell for certain.
//!
//! Cards are asked for through ALSA's control devices and not in `/proc/asound`, which a hardened systemd unit
//! does not see. The identity of USB cards comes from sysfs. Whoever reads `/proc`, `/sys`, `/dev` or `/etc` here
//! takes them from [`SystemPaths`], so that tests can hand in a tree of their own.
//!
//! Beside the list: what to do when a card would not open ([`refusal`]), the text of `wavecast devices`
//! ([`listing()`]), and a way to keep libasound's own messages off stderr ([`quietly`]).

mod alsa_log;
mod diagnose;
mod list;

use std::fs;
use std::path::{Path, PathBuf};

use alsa::Direction;
use alsa::ctl::{Ctl, DeviceIter};
use alsa::device_name::HintIter;

use super::source::OpenError;
use crate::config::{Device, UsbId};

pub use alsa_log::{alsa_said, quiet_alsa, quietly};
pub use diagnose::{Holder, holder, permission_problem, refusal};
pub use list::listing;

/// Where the system's trees are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemPaths {
    /// `/proc`: who holds a card.
    pub proc: PathBuf,
    /// `/sys`: what a USB card is.
    pub sys: PathBuf,
    /// `/dev`: who may open it.
    pub dev: PathBuf,
    /// `/etc`: names of users and groups.
    pub etc: PathBuf,
}

impl Default for SystemPaths {
    fn default() -> SystemPaths {
        SystemPaths { proc: "/proc".into(), sys: "/sys".into(), dev: "/dev".into(), etc: "/etc".into() }
    }
}

/// One input of a card in this machine, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureDevice {
    /// The card's number; changes between boots.
    pub card_index: i32,
    /// The card's ALSA id, for example `Device`; no other card has the same.
    pub card_id: String,
    /// Which of the card's devices this is; nearly always 0.
    pub device: u32,
    /// The card's driver, for example `USB-Audio`.
    pub driver: String,
    /// The card's name for people, for example `USB PnP Sound Device`.
    pub card_name: String,
    /// The device's name for people, for example `USB Audio`.
    pub pcm_name: String,
    /// The name to open it by: `hw:CARD=Device,DEV=0`.
    pub stable_name: String,
    /// What it is on the USB, if it is there.
    pub usb: Option<UsbIdentity>,
}

impl CaptureDevice {
    /// Whether no microphone can ever be behind it: a card made of software, as `snd-aloop` is.
    pub fn is_virtual(&self) -> bool {
        matches!(self.driver.as_str(), "Loopback" | "Dummy")
    }
}

/// What a USB card says of itself, and where it is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsbIdentity {
    /// The maker's number.
    pub vendor: u16,
    /// The maker's number for this product.
    pub product: u16,
    /// The serial number. Many cheap cards have none, or all the same.
    pub serial: Option<String>,
    /// Bus and sockets that lead to it, for example `1-1.4`: stays while it stays plugged in where it is.
    pub path: String,
    /// The maker's name.
    pub manufacturer: Option<String>,
    /// The product's name.
    pub product_name: Option<String>,
}

/// Every input of every card in this machine that this process may see, in order of card number.
///
/// A card whose control device may not be opened is not in it: see [`permission_problem`].
pub fn capture_devices(roots: &SystemPaths) -> Vec<CaptureDevice> {
    quietly(|| {
        let cards = alsa::card::Iter::new().map_while(Result::ok);
        cards.flat_map(|card| capture_devices_of(card, roots).unwrap_or_default()).collect()
    })
}

/// The inputs of one card; an error if it is gone by now.
fn capture_devices_of(card: alsa::Card, roots: &SystemPaths) -> alsa::Result<Vec<CaptureDevice>> {
    let ctl = Ctl::from_card(&card, true)?;
    let info = ctl.card_info()?;
    let card_id = info.get_id()?;
    let card_name = clean(info.get_name().unwrap_or_default());
    let driver = clean(info.get_driver().unwrap_or_default());
    let usb = usb_identity(card.get_index(), roots);
    let devices = DeviceIter::new(&ctl).filter_map(|device| u32::try_from(device).ok());
    let inputs = devices.filter_map(|device| {
        // A device that only plays answers ENOENT.
        let pcm = ctl.pcm_info(device, 0, Direction::Capture).ok()?;
        Some(CaptureDevice {
            card_index: card.get_index(),
            card_id: card_id.to_owned(),
            device,
            driver: driver.clone(),
            card_name: card_name.clone(),
            pcm_name: clean(pcm.get_name().unwrap_or_default()),
            stable_name: format!("hw:CARD={card_id},DEV={device}"),
            usb: usb.clone(),
        })
    });
    Ok(inputs.collect())
}

/// What the card of that number is on the USB; `None` if it is not there.
///
/// `/sys/class/sound/cardN/device` leads to the USB *interface*; the identity is in the directory above
/// (Documentation/ABI/stable/sysfs-bus-usb).
fn usb_identity(card_index: i32, roots: &SystemPaths) -> Option<UsbIdentity> {
    let interface = roots.sys.join(format!("class/sound/card{card_index}/device")).canonicalize().ok()?;
    let hex = |file: PathBuf| u16::from_str_radix(&line(&file)?, 16).ok();
    interface.ancestors().find_map(|directory| {
        Some(UsbIdentity {
            vendor: hex(directory.join("idVendor"))?,
            product: hex(directory.join("idProduct"))?,
            serial: line(&directory.join("serial")),
            path: directory.file_name()?.to_str()?.to_owned(),
            manufacturer: line(&directory.join("manufacturer")),
            product_name: line(&directory.join("product")),
        })
    })
}

/// The card that `device = "auto"` takes: the first that somebody has put there to be heard.
///
/// USB cards come first (they were plugged in by hand), in order of their sockets; then every other card with
/// an input, such as a HAT or the one on a mainboard, in order of their numbers; cards made of software (driver
/// `Loopback`, `Dummy`) only if there is nothing else. The order does not depend on which USB card came up first.
pub fn first_capture_device(roots: &SystemPaths) -> Option<CaptureDevice> {
    first_of(&capture_devices(roots)).cloned()
}

fn first_of(devices: &[CaptureDevice]) -> Option<&CaptureDevice> {
    devices.iter().min_by_key(|device| {
        let path = device.usb.as_ref().map(|usb| usb.path.as_str());
        (device.is_virtual(), path.is_none(), path, device.card_index, device.device)
    })
}

/// Whether that identity is the one that is meant.
fn means(id: &UsbId, usb: &UsbIdentity) -> bool {
    match id {
        UsbId::Id { vendor, product, serial } => {
            (*vendor, *product) == (usb.vendor, usb.product) && (serial.is_none() || *serial == usb.serial)
        }
        UsbId::Path(path) => *path == usb.path,
    }
}

/// What ALSA calls the device that a configuration means, and what is on its box, where that is known.
///
/// # Errors
///
/// When no such card is there now, with what to do about it.
pub fn resolve(device: &Device, roots: &SystemPaths) -> Result<(String, Option<String>), OpenError> {
    let found = match device {
        Device::Auto => first_capture_device(roots),
        Device::Usb(id) => resolve_usb(id, roots),
        Device::Alsa(name) => {
            let card = capture_devices(roots).into_iter().find(|card| card.stable_name == *name);
            return Ok((name.clone(), card.map(|card| card.card_name)));
        }
        Device::Synth(_) => None,
    };
    match found {
        Some(card) => Ok((card.stable_name, Some(card.card_name))),
        None => Err(refusal(&device.to_string(), libc::ENODEV, roots)),
    }
}

/// The first input of the USB card that is meant; of several cards that fit, the one in the first socket.
pub fn resolve_usb(selector: &UsbId, roots: &SystemPaths) -> Option<CaptureDevice> {
    find_usb(selector, &capture_devices(roots)).cloned()
}

fn find_usb<'a>(selector: &UsbId, devices: &'a [CaptureDevice]) -> Option<&'a CaptureDevice> {
    let fits = devices.iter().filter_map(|device| {
        let usb = device.usb.as_ref()?;
        means(selector, usb).then_some((&usb.path, device.device, device))
    });
    fits.min_by_key(|&(path, number, _)| (path, number)).map(|(_, _, device)| device)
}

/// The `usb:` names that mean this device and no other: what it is (if that is enough), then where it is.
fn usb_names(device: &CaptureDevice, devices: &[CaptureDevice]) -> Vec<UsbId> {
    let Some(usb) = &device.usb else { return Vec::new() };
    let id = |serial| UsbId::Id { vendor: usb.vendor, product: usb.product, serial };
    let means_it = |selector: &UsbId| {
        let mut others = devices.iter().filter(|other| other.card_index != device.card_index);
        find_usb(selector, devices) == Some(device)
            && !others.any(|other| other.usb.as_ref().is_some_and(|usb| means(selector, usb)))
    };
    let with_serial = usb.serial.clone().map(|serial| id(Some(serial)));
    let what = [Some(id(None)), with_serial].into_iter().flatten().find(means_it);
    let place = Some(UsbId::Path(usb.path.clone())).filter(means_it);
    what.into_iter().chain(place).collect()
}

/// A name that ALSA's configuration gives to an input, and that is not simply a card of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPcm {
    /// The name to open it by: `default`, `pipewire`, or one of the user's own from `asound.conf`.
    pub name: String,
    /// What ALSA's configuration says it is, in one line; may be empty.
    pub description: String,
}

/// Inputs that ALSA's configuration names beside the cards themselves: sound servers and the user's own.
///
/// Only names with a `hint` are among them; others open just as well.
pub fn named_pcms() -> Vec<NamedPcm> {
    let hints = quietly(|| HintIter::new_str(None, "pcm").map(Iterator::collect::<Vec<_>>));
    let inputs =
        hints.unwrap_or_default().into_iter().filter(|hint| hint.direction != Some(Direction::Playback));
    worth_naming(inputs.filter_map(|hint| Some((hint.name?, hint.desc.unwrap_or_default()))))
}

/// Names that Debian's ALSA plugins bring along and that nobody records from: they convert or discard.
const NO_INPUTS: [&str; 8] =
    ["null", "lavrate", "samplerate", "speexrate", "speex", "upmix", "vdownmix", "oss"];

fn worth_naming(hints: impl Iterator<Item = (String, String)>) -> Vec<NamedPcm> {
    let mut pcms: Vec<NamedPcm> = Vec::new();
    for (name, description) in hints {
        // Each card brings a dozen of names, `front:CARD=Device,DEV=0` and so on.
        let of_a_card = name.contains(":CARD=");
        let known = pcms.iter().any(|pcm| pcm.name == name);
        if !of_a_card && !known && !NO_INPUTS.contains(&name.as_str()) {
            let lines: Vec<String> = description.lines().map(clean).collect();
            pcms.push(NamedPcm { name, description: lines.join(", ") });
        }
    }
    pcms
}

/// The one line of a file in `/proc` or `/sys`; `None` if it is not there or empty.
fn line(file: &Path) -> Option<String> {
    let bytes = fs::read(file).ok()?;
    Some(clean(&String::from_utf8_lossy(&bytes))).filter(|text| !text.is_empty())
}

/// A text that hardware brought along, fit to be shown: no control characters, no space around it.
fn clean(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
