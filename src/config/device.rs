//! The key `device`: where the sound of an input comes from.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::messages::{in_range, shown_string};

const SYNTH_SPEEDS: RangeInclusive<f64> = 0.1..=10_000.0;
const SYNTH_HZ: RangeInclusive<f64> = 20.0..=20_000.0;
const SYNTH_HZ_DEFAULT: f64 = 440.0;

/// Where the sound of an input comes from. Its text, read with [`str::parse`] and given back by
/// `Display`, is the value of the key `device`.
#[derive(Clone, Debug, PartialEq)]
pub enum Device {
    /// `auto`: the first capture card there is.
    Auto,
    /// Any other text: a name of a PCM, as `arecord -L` lists them (`hw:CARD=Device,DEV=0`).
    Alsa(String),
    /// `usb:…`: the card of that USB device, whichever number it has after this reboot.
    Usb(UsbId),
    /// `synth:…`: sound made by the daemon, for tests and for machines without a card.
    Synth(Synth),
}

/// How a USB device is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsbId {
    /// By what it is: `usb:08bb:2902`, or with its serial number `usb:08bb:2902:A1B2`, as `lsusb -v`
    /// shows them.
    Id {
        /// idVendor.
        vendor: u16,
        /// idProduct.
        product: u16,
        /// iSerial, for those who have two of a kind; few cheap devices have one.
        serial: Option<String>,
    },
    /// By the socket it is plugged into: `usb:1-1.4`, a folder's name in `/sys/bus/usb/devices`.
    Path(String),
}

/// Sound made by the daemon: `synth:tone`, `synth:noise`, `synth:ramp`, with options behind a `?`
/// and `&` between them, as in `synth:tone?hz=1000&speed=2`.
///
/// The prototype that this project grew from, random samples in mono at 44.1 kHz, is
/// `device = "synth:noise"` with `channels = 1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Synth {
    /// What is heard.
    pub kind: SynthKind,
    /// `speed`: how much faster than real time it comes, 0.1 to 10000. For tests.
    pub speed: f64,
    /// `hz`: the frequency of a tone, 20 to 20000; of no meaning for the others.
    pub hz: f64,
}

/// What a [`Synth`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SynthKind {
    /// A sine.
    Tone,
    /// Blocks of 4096 frames of random samples.
    Noise,
    /// Frame n carries n mod 65536, so that a test sees what is missing.
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
        if let Some(meant) = ["auto", "usb", "synth"].into_iter().find(|word| text.eq_ignore_ascii_case(word))
        {
            let meant = if meant == "auto" { "auto" } else { &format!("{meant}:…") };
            return Err(format!("{shown} is no device; did you mean \"{meant}\"?"));
        }
        if text.is_empty() || text.len() > 255 || text.trim() != text || text.contains(char::is_control) {
            return Err(format!("{shown} is no device; `wavecast devices` lists those there are"));
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

/// Reads what follows `usb:`.
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
            "{} names no USB device; write \"usb:VENDOR:PRODUCT\" with four hexadecimal digits each \
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

/// Whether it is `BUS-PORT[.PORT]…`. It becomes a part of a path, so nothing else passes.
fn is_usb_path(text: &str) -> bool {
    let number = |text: &str| (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= 32
        && text.split_once('-').is_some_and(|(bus, ports)| number(bus) && ports.split('.').all(number))
}

/// Reads what follows `synth:`.
impl FromStr for Synth {
    type Err = String;

    fn from_str(text: &str) -> Result<Synth, String> {
        let (kind, options) = match text.split_once('?') {
            Some((kind, options)) => (kind, Some(options)),
            None => (text, None),
        };
        let Some((_, kind)) = SynthKind::NAMES.into_iter().find(|(name, _)| *name == kind) else {
            return Err(format!(
                "{} is none of synth:tone, synth:noise and synth:ramp",
                shown_string(&format!("synth:{kind}"))
            ));
        };
        let mut synth = Synth { kind, speed: 1.0, hz: SYNTH_HZ_DEFAULT };
        for option in options.into_iter().flat_map(|options| options.split('&')) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let number = |range: RangeInclusive<f64>| match value.parse::<f64>() {
                Ok(number) => in_range(number, &range).map_err(|problem| format!("{key}: {problem}")),
                Err(_) => Err(format!("{key}: {} is no number", shown_string(value))),
            };
            match key {
                "speed" => synth.speed = number(SYNTH_SPEEDS)?,
                "hz" if kind == SynthKind::Tone => synth.hz = number(SYNTH_HZ)?,
                "hz" => return Err("hz: only synth:tone has a frequency".to_owned()),
                _ => {
                    return Err(format!(
                        "{} is no option; there are speed and, for synth:tone, hz",
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn device_error(device: &str) -> String {
        device.parse::<Device>().unwrap_err()
    }

    #[test]
    fn devices_are_read_and_given_back() {
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
    fn devices_that_cannot_be_are_refused() {
        assert_eq!(device_error("Auto"), "\"Auto\" is no device; did you mean \"auto\"?");
        assert_eq!(device_error("synth"), "\"synth\" is no device; did you mean \"synth:…\"?");
        for text in ["", " hw:0", "hw:0\n", "a\0b", &"x".repeat(300)] {
            assert!(device_error(text).contains("`wavecast devices` lists those there are"));
        }
        for text in ["usb:", "usb:8bb:2902", "usb:08bb", "usb:08bb:2902:", "usb:1-", "usb:1-1/..", "usb:../x"]
        {
            assert!(device_error(text).contains("names no USB device"), "{text}");
        }
        assert!(device_error("synth:sine").contains("\"synth:sine\" is none of synth:tone"));
        assert_eq!(device_error("synth:ramp?speed=0"), "speed: 0 is outside 0.1 to 10000");
        assert_eq!(device_error("synth:ramp?speed=NaN"), "speed: NaN is outside 0.1 to 10000");
        assert_eq!(device_error("synth:ramp?speed"), "speed: \"\" is no number");
        assert_eq!(device_error("synth:noise?hz=50"), "hz: only synth:tone has a frequency");
        assert!(device_error("synth:tone?loud=1").contains("\"loud\" is no option"));
        assert!(device_error("synth:tone?").contains("\"\" is no option"));
    }

    proptest! {
        #[test]
        fn a_device_that_was_read_is_read_again_from_what_it_gives_back(
            text in r"auto|usb:[0-9a-fA-F]{4}:[0-9a-f]{4}(:.{1,3})?|usb:\d-\d(\.\d)?|synth:(tone|ramp)(\?(speed|hz)=[1-9]\d{0,4}(\.\d)?)?|\PC{1,9}"
        ) {
            if let Ok(device) = text.parse::<Device>() {
                prop_assert_eq!(device.to_string().parse::<Device>(), Ok(device));
            }
        }
    }
}
