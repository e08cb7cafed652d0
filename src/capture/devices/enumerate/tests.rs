//! Tests of `enumerate`: naming and finding cards.

use super::super::testing::{MICROPHONE, Tree, device, usb};
use super::*;

#[test]
fn a_usb_card_has_the_identity_of_the_directory_above_its_interface() {
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
        // A device must not send escape codes to the terminal.
        serial: Some("A [31m7".to_owned()),
        product_name: Some(MICROPHONE.to_owned()),
        ..usb("1-1.4", None)
    };
    assert_eq!(usb_identity(1, &tree.paths()), Some(expected));
}

#[test]
fn a_card_on_the_board_has_no_usb_identity() {
    let tree = Tree::new();
    tree.write("sys/devices/platform/soc/sound/modalias", "");
    tree.link("sys/class/sound/card0/device", "sys/devices/platform/soc/sound");
    assert_eq!(usb_identity(0, &tree.paths()), None);
    assert_eq!(usb_identity(7, &tree.paths()), None);
}

#[test]
fn auto_prefers_usb_cards_to_built_in_cards_to_virtual_cards() {
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
fn a_usb_name_finds_its_card_whatever_its_number() {
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
    assert_eq!(found("usb:0d8c:0014"), Some(2), "of two of a kind, the one in the first socket");
    assert_eq!(found("usb:0d8c:0014:C"), None);
    assert_eq!(found("usb:1-1"), None);
}

#[test]
fn a_usb_name_is_offered_only_if_no_other_card_matches() {
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
fn names_of_cards_and_plugins_are_not_listed() {
    let hints = [
        ("null", "Discard all samples"),
        ("samplerate", "Rate Converter Plugin"),
        ("pulse", "PulseAudio Sound Server"),
        ("front:CARD=Device,DEV=0", "USB PnP Sound Device, USB Audio\nFront output / input"),
        ("turntable", "The turntable\nthrough the phono stage"),
        ("pulse", "PulseAudio Sound Server"),
    ];
    let named = without_plugins(hints.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())));
    let named: Vec<_> = named.iter().map(|pcm| (pcm.name.as_str(), pcm.description.as_str())).collect();
    assert_eq!(
        named,
        [("pulse", "PulseAudio Sound Server"), ("turntable", "The turntable, through the phono stage")]
    );
}

#[test]
fn the_cards_of_this_machine_can_be_listed() {
    // Whatever the machine has: every input has a name, and auto takes one of them.
    let paths = SystemPaths::default();
    let devices = capture_devices(&paths);
    for device in &devices {
        assert!(device.stable_name.starts_with("hw:CARD="), "{device:?}");
    }
    assert_eq!(first_of(&devices).is_none(), devices.is_empty());
    assert!(named_pcms().iter().all(|pcm| pcm.name != "null"));
}

#[test]
fn the_usual_names_of_a_card_lead_to_it() {
    let microphone = device(1, "Device", MICROPHONE, Some(usb("1-1.4", None)));
    let devices = [device(0, "Other", "Other", None), microphone];
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
        assert_eq!(guess_device(name, &devices), Some(&devices[1]), "{name}");
    }
    for name in ["hw:CARD=Device,DEV=1", "hw:2", "usb:1-1.5", "default"] {
        assert_eq!(guess_device(name, &devices), None, "{name}");
    }
}

#[test]
fn a_name_without_a_card_leads_to_the_only_one() {
    let microphone = device(1, "Device", MICROPHONE, Some(usb("1-1.4", None)));
    assert_eq!(guess_device("default", std::slice::from_ref(&microphone)), Some(&microphone));
}
