//! Made-up machines, for the tests of this module and its parts; and its own tests.

use super::*;
use std::sync::atomic::{AtomicU32, Ordering};

pub(super) const MICROPHONE: &str = "USB PnP Sound Device";

/// A folder that stands for `/`, and goes when it is dropped.
pub(super) struct Tree(PathBuf);

impl Tree {
    pub(super) fn new() -> Tree {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("wavecast-devices-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        Tree(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn roots(&self) -> SystemPaths {
        let at = |name| self.0.join(name);
        SystemPaths { proc: at("proc"), sys: at("sys"), dev: at("dev"), etc: at("etc") }
    }

    pub(super) fn write(&self, path: &str, text: &str) -> PathBuf {
        let file = self.0.join(path);
        fs::create_dir_all(file.parent().expect("a file in the tree")).expect("its folder");
        fs::write(&file, text).expect("the file");
        file
    }

    fn link(&self, path: &str, target: &str) {
        let link = self.0.join(path);
        fs::create_dir_all(link.parent().expect("a link in the tree")).expect("its folder");
        std::os::unix::fs::symlink(self.0.join(target), link).expect("the link");
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn device(card: i32, id: &str, name: &str, usb: Option<UsbIdentity>) -> CaptureDevice {
    CaptureDevice {
        card_index: card,
        card_id: id.to_owned(),
        device: 0,
        driver: if usb.is_some() { "USB-Audio" } else { id }.to_owned(),
        card_name: name.to_owned(),
        pcm_name: if usb.is_some() { "USB Audio" } else { "PCM" }.to_owned(),
        stable_name: format!("hw:CARD={id},DEV=0"),
        usb,
    }
}

pub(super) fn usb(path: &str, serial: Option<&str>) -> UsbIdentity {
    UsbIdentity {
        vendor: 0x0d8c,
        product: 0x0014,
        serial: serial.map(str::to_owned),
        path: path.to_owned(),
        manufacturer: None,
        product_name: None,
    }
}

#[test]
fn a_usb_card_is_known_by_what_stands_above_its_interface() {
    let tree = Tree::new();
    let hub = "sys/devices/platform/soc/usb1";
    tree.write(&format!("{hub}/idVendor"), "1d6b\n");
    tree.write(&format!("{hub}/idProduct"), "0002\n");
    let card = format!("{hub}/1-1/1-1.4");
    tree.write(&format!("{card}/idVendor"), "0d8c\n");
    tree.write(&format!("{card}/idProduct"), "0014\n");
    tree.write(&format!("{card}/serial"), " A\x1b[31m7 \n");
    tree.write(&format!("{card}/product"), "USB PnP Sound Device\n");
    tree.write(&format!("{card}/1-1.4:1.0/bInterfaceClass"), "01\n");
    tree.link("sys/class/sound/card1/device", &format!("{card}/1-1.4:1.0"));
    let expected = UsbIdentity {
        // What a device may not do is paint the terminal.
        serial: Some("A [31m7".to_owned()),
        product_name: Some(MICROPHONE.to_owned()),
        ..usb("1-1.4", None)
    };
    assert_eq!(usb_identity(1, &tree.roots()), Some(expected));
}

#[test]
fn a_card_on_the_board_is_not_on_the_usb() {
    let tree = Tree::new();
    tree.write("sys/devices/platform/soc/sound/modalias", "");
    tree.link("sys/class/sound/card0/device", "sys/devices/platform/soc/sound");
    assert_eq!(usb_identity(0, &tree.roots()), None);
    assert_eq!(usb_identity(7, &tree.roots()), None);
}

#[test]
fn auto_takes_what_was_plugged_in_before_what_is_built_in_before_what_is_made_of_software() {
    let loopback = device(0, "Loopback", "Loopback", None);
    let hat = device(1, "sndrpihifiberry", "snd_rpi_hifiberry_dacplusadc", None);
    let second = device(2, "Device", MICROPHONE, Some(usb("1-1.4", None)));
    let first = device(3, "Device_1", MICROPHONE, Some(usb("1-1.2", None)));
    let mut devices = vec![loopback, hat, second, first];
    // The first socket, although its card came up last.
    for expected in ["Device_1", "Device", "sndrpihifiberry", "Loopback"] {
        let taken = first_of(&devices).expect("an input").card_id.clone();
        assert_eq!(taken, expected);
        devices.retain(|device| device.card_id != taken);
    }
    assert_eq!(first_of(&devices), None);
}

#[test]
fn a_usb_name_finds_its_card_wherever_it_came_up() {
    let devices = [
        device(0, "Loopback", "Loopback", None),
        device(1, "Device", MICROPHONE, Some(usb("1-1.4", Some("B")))),
        device(2, "Device_1", MICROPHONE, Some(usb("1-1.2", Some("A")))),
    ];
    let found = |text: &str| {
        let Ok(Device::Usb(selector)) = text.parse() else { panic!("{text} is a USB name") };
        find_usb(&selector, &devices).map(|device| device.card_index)
    };
    assert_eq!(found("usb:1-1.4"), Some(1));
    assert_eq!(found("usb:0d8c:0014:A"), Some(2));
    assert_eq!(found("usb:0d8c:0014"), Some(2), "of two alike, the one in the first socket");
    assert_eq!(found("usb:0d8c:0014:C"), None);
    assert_eq!(found("usb:1-1"), None);
}

#[test]
fn a_usb_name_is_offered_only_if_it_means_this_card_and_no_other() {
    let offered = |devices: &[CaptureDevice]| -> Vec<Vec<String>> {
        let names = |device| usb_names(device, devices).iter().map(|usb| usb.to_string()).collect();
        devices.iter().map(names).collect()
    };
    let alone = device(1, "Device", MICROPHONE, Some(usb("1-1.4", Some("A"))));
    let twin = device(2, "Device_1", MICROPHONE, Some(usb("1-1.2", Some("B"))));
    let clone = device(2, "Device_1", MICROPHONE, Some(usb("1-1.2", Some("A"))));
    let second_input = CaptureDevice { device: 1, ..alone.clone() };
    assert_eq!(offered(std::slice::from_ref(&alone)), [["usb:0d8c:0014", "usb:1-1.4"]]);
    assert_eq!(
        offered(&[alone.clone(), twin]),
        [["usb:0d8c:0014:A", "usb:1-1.4"], ["usb:0d8c:0014:B", "usb:1-1.2"]]
    );
    assert_eq!(offered(&[alone.clone(), clone]), [["usb:1-1.4"], ["usb:1-1.2"]]);
    assert_eq!(offered(&[alone, second_input])[1], Vec::<String>::new());
}

#[test]
fn names_that_every_card_brings_along_and_plugins_are_not_worth_naming() {
    let hints = [
        ("null", "Discard all samples"),
        ("samplerate", "Rate Converter Plugin"),
        ("pulse", "PulseAudio Sound Server"),
        ("front:CARD=Device,DEV=0", "USB PnP Sound Device, USB Audio\nFront output / input"),
        ("turntable", "The turntable\nthrough the phono stage"),
        ("pulse", "PulseAudio Sound Server"),
    ];
    let named = worth_naming(hints.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())));
    let named: Vec<_> = named.iter().map(|pcm| (pcm.name.as_str(), pcm.description.as_str())).collect();
    assert_eq!(
        named,
        [("pulse", "PulseAudio Sound Server"), ("turntable", "The turntable, through the phono stage")]
    );
}

#[test]
fn the_machine_that_runs_this_can_be_asked() {
    // Whatever it has: every input has a name to open it by, and auto takes one of them.
    let roots = SystemPaths::default();
    let devices = capture_devices(&roots);
    for device in &devices {
        assert!(device.stable_name.starts_with("hw:CARD="), "{device:?}");
    }
    assert_eq!(first_of(&devices).is_none(), devices.is_empty());
    assert!(named_pcms().iter().all(|pcm| pcm.name != "null"));
}
