//! The key `device`: the source of an input's sound, and the names that mean one piece of hardware.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::messages::{in_range, shown_string};

const SYNTH_SPEEDS: RangeInclusive<f64> = 0.1..=10_000.0;
const SYNTH_HZ: RangeInclusive<f64> = 20.0..=20_000.0;
const SYNTH_HZ_DEFAULT: f64 = 440.0;

/// The source of an input's sound. [`str::parse`] reads it from the value of the key `device`, and `Display` writes
/// that value.
#[derive(Clone, Debug, PartialEq)]
pub enum Device {
    /// `auto`: the first capture card of the machine.
    Auto,
    /// Any other text: a name of an ALSA PCM, as `arecord -L` lists them (`hw:CARD=Device,DEV=0`).
    Alsa(String),
    /// `usb:…`: the card of that USB device, independent of the number that the card has after a reboot.
    Usb(UsbId),
    /// `synth:…`: sound that the daemon makes, for tests and for machines without a card.
    Synth(Synth),
}

/// The identity of a USB device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsbId {
    /// Vendor and product, `usb:08bb:2902`, with an optional serial number, `usb:08bb:2902:A1B2`, as `lsusb -v` shows
    /// them.
    Id {
        /// idVendor.
        vendor: u16,
        /// idProduct.
        product: u16,
        /// iSerial, to tell two devices of one kind apart. Most cheap devices have none.
        serial: Option<String>,
    },
    /// The USB socket: `usb:1-1.4`, the name of a folder in `/sys/bus/usb/devices`.
    Path(String),
}

/// A synthetic source: `synth:tone`, `synth:noise` or `synth:ramp`, with options behind a `?` and `&` between the
/// options, as in `synth:tone?hz=1000&speed=2`.
///
/// The prototype that this project grew from, random samples in mono at 44.1 kHz, is
/// `device = "synth:noise"` with `channels = 1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Synth {
    /// The waveform.
    pub kind: SynthKind,
    /// `speed`: the speed as a multiple of real time, 0.1 to 10000. For tests.
    pub speed: f64,
    /// `hz`: the frequency of a tone, 20 to 20000. The other waveforms ignore it.
    pub hz: f64,
}

/// The waveform of a [`Synth`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SynthKind {
    /// A sine.
    Tone,
    /// Blocks of 4096 frames of random samples.
    Noise,
    /// A ramp: frame n carries n mod 65536, so that a test sees missing frames.
    Ramp,
}

impl SynthKind {
    const NAMES: [(&'static str, SynthKind); 3] =
        [("tone", SynthKind::Tone), ("noise", SynthKind::Noise), ("ramp", SynthKind::Ramp)];
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        if text == "auto" {
            return Ok(Device::Auto);
        }
        if let Some(id) = text.strip_prefix("usb:") {
            return id.parse().map(Device::Usb);
        }
        if let Some(synth) = text.strip_prefix("synth:") {
            return synth.parse().map(Device::Synth);
        }
        let shown = shown_string(text);
        let keyword = ["auto", "usb", "synth"].into_iter().find(|word| text.eq_ignore_ascii_case(word));
        if let Some(keyword) = keyword {
            let colon = if keyword == "auto" { "" } else { ":…" };
            return Err(format!("{shown} is not a device; did you mean \"{keyword}{colon}\"?"));
        }
        if text.is_empty() || text.len() > 255 || text.trim() != text || text.contains(char::is_control) {
            return Err(format!("{shown} is not a device; `wavecast devices` lists the devices"));
        }
        Ok(Device::Alsa(text.to_owned()))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Alsa(name) => f.write_str(name),
            Device::Usb(id) => id.fmt(f),
            Device::Synth(synth) => write!(f, "synth:{synth}"),
        }
    }
}

/// Reads the part behind `usb:`.
impl FromStr for UsbId {
    type Err = String;

    fn from_str(text: &str) -> Result<UsbId, String> {
        let hex = |digits: &str| {
            let whole = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            whole.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
        };
        let mut parts = text.splitn(3, ':');
        let ids = (parts.next().and_then(hex), parts.next().and_then(hex));
        let serial = parts.next();
        let serial_is_good = serial.is_none_or(|serial| {
            !serial.is_empty() && serial.len() <= 255 && !serial.contains(char::is_control)
        });
        if let ((Some(vendor), Some(product)), true) = (ids, serial_is_good) {
            return Ok(UsbId::Id { vendor, product, serial: serial.map(str::to_owned) });
        }
        if is_usb_path(text) {
            return Ok(UsbId::Path(text.to_owned()));
        }
        Err(format!(
            "{} is not a USB device; write \"usb:VENDOR:PRODUCT\" with four hexadecimal digits each \
             (\"usb:08bb:2902\", or \"usb:08bb:2902:SERIAL\"), or its socket (\"usb:1-1.4\")",
            shown_string(&format!("usb:{text}"))
        ))
    }
}

impl fmt::Display for UsbId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UsbId::Id { vendor, product, serial } => {
                write!(f, "usb:{vendor:04x}:{product:04x}")?;
                serial.as_ref().map_or(Ok(()), |serial| write!(f, ":{serial}"))
            }
            UsbId::Path(path) => write!(f, "usb:{path}"),
        }
    }
}

/// Returns `true` for `BUS-PORT[.PORT]…`. The text becomes part of a path, so nothing else may pass.
fn is_usb_path(text: &str) -> bool {
    let number = |text: &str| (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 32
        && text.split_once('-').is_some_and(|(bus, ports)| number(bus) && ports.split('.').all(number))
}

/// Reads the part behind `synth:`.
impl FromStr for Synth {
    type Err = String;

    fn from_str(text: &str) -> Result<Synth, String> {
        let (kind, options) = match text.split_once('?') {
            Some((kind, options)) => (kind, Some(options)),
            None => (text, None),
        };
        let Some((_, kind)) = SynthKind::NAMES.into_iter().find(|(name, _)| *name == kind) else {
            return Err(format!(
                "{} must be one of synth:tone, synth:noise or synth:ramp",
                shown_string(&format!("synth:{kind}"))
            ));
        };
        let mut synth = Synth { kind, speed: 1.0, hz: SYNTH_HZ_DEFAULT };
        for option in options.into_iter().flat_map(|options| options.split('&')) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let number = |range: RangeInclusive<f64>| match value.parse::<f64>() {
                Ok(number) => in_range(number, &range).map_err(|problem| format!("{key}: {problem}")),
                Err(_) => Err(format!("{key}: {} is not a number", shown_string(value))),
            };
            match key {
                "speed" => synth.speed = number(SYNTH_SPEEDS)?,
                "hz" if kind == SynthKind::Tone => synth.hz = number(SYNTH_HZ)?,
                "hz" => return Err("hz: only synth:tone has a frequency".to_owned()),
                _ => {
                    return Err(format!(
                        "{} is not an option; the options are speed and, for synth:tone, hz",
                        shown_string(key)
                    ));
                }
            }
        }
        Ok(synth)
    }
}

impl fmt::Display for Synth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = SynthKind::NAMES.iter().find(|(_, kind)| *kind == self.kind).map_or("", |(name, _)| name);
        f.write_str(name)?;
        let mut mark = '?';
        if self.kind == SynthKind::Tone && self.hz != SYNTH_HZ_DEFAULT {
            write!(f, "{mark}hz={}", self.hz)?;
            mark = '&';
        }
        if self.speed != 1.0 {
            write!(f, "{mark}speed={}", self.speed)?;
        }
        Ok(())
    }
}

/// One capture device of a card, as `hw:` and `plughw:` names give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// The card's number or its ALSA id, as the name has it.
    pub card: String,
    /// The number of the card's device.
    pub device: u32,
    /// The number of the device's subdevice. `None` is the first free one.
    pub subdevice: Option<u32>,
}

impl Hardware {
    /// Returns `true` if both names need the same hardware, so that only one of them can be open at a time. Card numbers
    /// and ids are compared as text: see [`with_card`](Self::with_card).
    pub fn excludes(&self, other: &Hardware) -> bool {
        let one_subdevice = match (self.subdevice, other.subdevice) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        (&self.card, self.device) == (&other.card, other.device) && one_subdevice
    }

    /// Returns the same device of the card that `card` names.
    pub fn with_card(&self, card: &str) -> Hardware {
        Hardware { card: card.to_owned(), ..self.clone() }
    }
}

impl Device {
    /// Returns the hardware that an ALSA name opens for itself: `hw:1,0`, `plughw:CARD=A,DEV=0`, `plug:'hw:A'`. `None` for
    /// names that can share a card (`dsnoop:…`) and for names whose meaning only ALSA's configuration knows.
    pub fn hardware(&self) -> Option<Hardware> {
        let Device::Alsa(name) = self else { return None };
        let mut name = name.as_str();
        while let Some(inner) = name.strip_prefix("plug:") {
            let inner = inner.strip_prefix("SLAVE=").unwrap_or(inner);
            name = inner.trim_matches(['\'', '"']);
        }
        let arguments = match name.split_once(':') {
            Some(("hw" | "plughw", arguments)) => arguments,
            None if matches!(name, "hw" | "plughw") => "",
            _ => return None,
        };
        // Arguments have an order, CARD, DEV, SUBDEV, or their names; the card of a name without one is number 0.
        let mut values = ["0".to_owned(), "0".to_owned(), "-1".to_owned()];
        for (at, argument) in arguments.split(',').enumerate().filter(|(_, argument)| !argument.is_empty()) {
            let (at, value) = match argument.split_once('=') {
                Some((name, value)) => {
                    (["CARD", "DEV", "SUBDEV"].iter().position(|one| *one == name)?, value)
                }
                None => (at, argument),
            };
            *values.get_mut(at)? = value.trim_matches(['\'', '"']).to_owned();
        }
        let [card, device, subdevice] = values;
        let subdevice: i64 = subdevice.parse().ok()?;
        Some(Hardware { card, device: device.parse().ok()?, subdevice: u32::try_from(subdevice).ok() })
    }
}

/// Returns an error text if an input on `device` cannot run beside `owner`'s input on `other`. Any number of inputs may be
/// synthetic.
pub(super) fn device_conflict(device: &Device, other: &Device, owner: &str) -> Option<String> {
    if matches!(device, Device::Synth(_)) {
        return None;
    }
    if device == other {
        return Some(format!("\"{device}\" is already the device of {owner}"));
    }
    let same = device.hardware().zip(other.hardware()).is_some_and(|(one, other)| one.excludes(&other));
    same.then(|| format!("\"{device}\" is the same card as \"{other}\", the device of {owner}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn device_error(device: &str) -> String {
        device.parse::<Device>().unwrap_err()
    }

    #[test]
    fn devices_are_parsed_and_displayed() {
        let usb = |vendor, product, serial: Option<&str>| {
            Device::Usb(UsbId::Id { vendor, product, serial: serial.map(str::to_owned) })
        };
        let synth = |kind, speed, hz| Device::Synth(Synth { kind, speed, hz });
        for (text, device) in [
            ("auto", Device::Auto),
            ("default", Device::Alsa("default".to_owned())),
            ("plughw:CARD=Device,DEV=0", Device::Alsa("plughw:CARD=Device,DEV=0".to_owned())),
            ("usb:08bb:2902", usb(0x08bb, 0x2902, None)),
            ("usb:08bb:2902:A:1 b", usb(0x08bb, 0x2902, Some("A:1 b"))),
            ("usb:1-1.4", Device::Usb(UsbId::Path("1-1.4".to_owned()))),
            ("synth:tone", synth(SynthKind::Tone, 1.0, 440.0)),
            ("synth:tone?hz=1000&speed=0.5", synth(SynthKind::Tone, 0.5, 1000.0)),
            ("synth:noise", synth(SynthKind::Noise, 1.0, 440.0)),
            ("synth:ramp?speed=50", synth(SynthKind::Ramp, 50.0, 440.0)),
        ] {
            assert_eq!(text.parse(), Ok(device.clone()), "{text}");
            assert_eq!(device.to_string(), text);
        }
        assert_eq!("usb:08BB:2902".parse(), Ok(usb(0x08bb, 0x2902, None)));
    }

    #[test]
    fn invalid_devices_are_refused() {
        assert_eq!(device_error("Auto"), "\"Auto\" is not a device; did you mean \"auto\"?");
        assert_eq!(device_error("synth"), "\"synth\" is not a device; did you mean \"synth:…\"?");
        for text in ["", " hw:0", "hw:0\n", "a\0b", &"x".repeat(300)] {
            assert!(device_error(text).contains("`wavecast devices` lists the devices"));
        }
        for text in ["usb:", "usb:8bb:2902", "usb:08bb", "usb:08bb:2902:", "usb:1-", "usb:1-1/..", "usb:../x"]
        {
            assert!(device_error(text).contains("is not a USB device"), "{text}");
        }
        assert!(device_error("synth:sine").contains("\"synth:sine\" must be one of synth:tone"));
        assert_eq!(device_error("synth:ramp?speed=0"), "speed: 0 is outside 0.1 to 10000");
        assert_eq!(device_error("synth:ramp?speed=NaN"), "speed: NaN is outside 0.1 to 10000");
        assert_eq!(device_error("synth:ramp?speed"), "speed: \"\" is not a number");
        assert_eq!(device_error("synth:noise?hz=50"), "hz: only synth:tone has a frequency");
        assert!(device_error("synth:tone?loud=1").contains("\"loud\" is not an option"));
        assert!(device_error("synth:tone?").contains("\"\" is not an option"));
    }

    #[test]
    fn alsa_names_of_hardware_are_understood() {
        let hardware = |name: &str| Device::Alsa(name.to_owned()).hardware();
        let is = |card: &str, device, subdevice| Some(Hardware { card: card.to_owned(), device, subdevice });
        for (name, expected) in [
            ("hw", is("0", 0, None)),
            ("hw:1", is("1", 0, None)),
            ("hw:1,0", is("1", 0, None)),
            ("plughw:1,0", is("1", 0, None)),
            ("hw:A", is("A", 0, None)),
            ("hw:CARD=A,DEV=0", is("A", 0, None)),
            ("hw:DEV=2,CARD=A", is("A", 2, None)),
            ("hw:A,1,3", is("A", 1, Some(3))),
            ("hw:CARD=A,DEV=1,SUBDEV=-1", is("A", 1, None)),
            ("plug:'hw:1,0'", is("1", 0, None)),
            ("plug:SLAVE=\"hw:CARD=A\"", is("A", 0, None)),
            ("plug:plug:hw:2", is("2", 0, None)),
            ("dsnoop:CARD=A,DEV=0", None),
            ("default", None),
            ("hwmon:1", None),
            ("hw:A,B", None),
            ("hw:1,0,0,0", None),
            ("hw:CARD=A,RATE=1", None),
        ] {
            assert_eq!(hardware(name), expected, "{name}");
        }
        assert_eq!(Device::Auto.hardware(), None);
    }

    #[test]
    fn names_of_one_device_exclude_each_other() {
        let excludes = |one: &str, other: &str| {
            let hardware = |name: &str| Device::Alsa(name.to_owned()).hardware().unwrap();
            assert_eq!(
                hardware(one).excludes(&hardware(other)),
                hardware(other).excludes(&hardware(one)),
                "{one} {other}"
            );
            hardware(one).excludes(&hardware(other))
        };
        for (one, other, expected) in [
            ("hw:1,0", "plughw:1,0", true),
            ("hw:A", "hw:CARD=A,DEV=0", true),
            ("hw:A,0", "hw:A,1", false),
            ("hw:A", "hw:B", false),
            ("hw:A,0,1", "hw:A,0,2", false),
            ("hw:A,0,1", "plughw:A,0,1", true),
            ("hw:A,0", "hw:A,0,2", true),
        ] {
            assert_eq!(excludes(one, other), expected, "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn a_displayed_device_parses_to_the_same_device(
            text in r"auto|usb:[0-9a-fA-F]{4}:[0-9a-f]{4}(:.{1,3})?|usb:\d-\d(\.\d)?|synth:(tone|ramp)(\?(speed|hz)=[1-9]\d{0,4}(\.\d)?)?|\PC{1,9}"
        ) {
            if let Ok(device) = text.parse::<Device>() {
                prop_assert_eq!(device.to_string().parse::<Device>(), Ok(device));
            }
        }
    }
}
