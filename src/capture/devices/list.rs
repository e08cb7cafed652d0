//! The text of `wavecast devices`.

use std::fmt;
use std::io;

use alsa::pcm::HwParams;
use alsa::{Direction, PCM};

use super::alsa_log::with_alsa_log;
use super::diagnose::configuration_problem;
use super::enumerate::{CaptureDevice, NamedPcm, capture_devices, first_of, named_pcms, usb_names};
use super::holder::holder;
use super::permission::permission_problem;
use super::system_paths::SystemPaths;
use crate::capture::alsa::{SAMPLES, USUAL_RATES, alsa_format};
use crate::config::UsbId;
use crate::media::format::SourceSample;

/// Returns the text of `wavecast devices`: each input with its line for the configuration, its state, and the formats
/// that it offers. Ends with a newline.
///
/// Opens each free input for a moment, to ask what it offers.
pub fn list(paths: &SystemPaths) -> String {
    gather(paths).to_string()
}

/// The contents of the text.
struct Listing {
    inputs: Vec<Input>,
    pcms: Vec<NamedPcm>,
    /// The result of [`permission_problem`].
    permission: Option<String>,
    /// The result of [`configuration_problem`].
    configuration: Option<String>,
}

struct Input {
    device: CaptureDevice,
    usb: Vec<UsbId>,
    /// `device = "auto"` takes this one.
    auto: bool,
    state: State,
}

enum State {
    Free(Offer),
    /// In use, by this process if it is known.
    InUse(Option<String>),
    /// Would not open; the reason.
    Unusable(String),
}

/// The formats that an input offers.
#[derive(Debug, PartialEq, Eq)]
struct Offer {
    /// The usual rates among those on offer. Others matter to no player.
    rates: Vec<u32>,
    /// The lowest and the highest rate.
    rate_range: (u32, u32),
    /// The smallest and the largest number of channels.
    channels: (u32, u32),
    /// The sample formats that wavecast can read, by ALSA's names.
    formats: Vec<&'static str>,
}

fn gather(paths: &SystemPaths) -> Listing {
    let devices = capture_devices(paths);
    let inputs = devices.iter().map(|device| Input {
        usb: usb_names(device, &devices),
        auto: first_of(&devices) == Some(device),
        state: state(device, paths),
        device: device.clone(),
    });
    Listing {
        inputs: inputs.collect(),
        pcms: named_pcms(),
        permission: permission_problem(paths),
        configuration: configuration_problem(),
    }
}

fn state(device: &CaptureDevice, paths: &SystemPaths) -> State {
    match with_alsa_log(|| probe(&device.stable_name)) {
        Ok(offer) => State::Free(offer),
        Err(error) if error.errno() == libc::EBUSY => {
            State::InUse(holder(device.card_index, device.device, paths).map(|holder| holder.to_string()))
        }
        Err(error) => {
            State::Unusable(format!("would not open: {}", io::Error::from_raw_os_error(error.errno())))
        }
    }
}

/// Asks an ALSA device what it offers. Does not wait for a busy one.
fn probe(name: &str) -> alsa::Result<Offer> {
    let pcm = PCM::new(name, Direction::Capture, true)?;
    let params = HwParams::any(&pcm)?;
    let has_rate = |rate: &u32| params.test_rate(*rate).is_ok();
    let has_format = |sample: &SourceSample| params.test_format(alsa_format(*sample)).is_ok();
    Ok(Offer {
        rates: USUAL_RATES.into_iter().filter(has_rate).collect(),
        rate_range: (params.get_rate_min()?, params.get_rate_max()?),
        channels: (params.get_channels_min()?, params.get_channels_max()?),
        formats: SAMPLES.into_iter().filter(has_format).map(SourceSample::name).collect(),
    })
}

/// The width of the text in columns, which long names may exceed.
const WIDTH: usize = 96;

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(configuration) = &self.configuration {
            wrapped(f, "", &format!("{configuration}. No device opens until that is corrected."))?;
        } else if self.inputs.is_empty() {
            self.fmt_no_inputs(f)?;
        } else {
            writeln!(
                f,
                "Capture devices. With device = \"auto\", which is the default, wavecast takes the one marked *."
            )?;
            writeln!(f, "To choose another, put its \"device\" line into /etc/wavecast.toml.")?;
            for input in &self.inputs {
                writeln!(f, "\n{input}")?;
            }
            if let Some(permission) = &self.permission {
                writeln!(f)?;
                wrapped(f, "", &format!("There are more, but {permission}."))?;
            }
        }
        if !self.pcms.is_empty() {
            writeln!(f, "\nOther names that ALSA's configuration has (sound servers, asound.conf):")?;
            let lines = self.pcms.iter().map(|pcm| (device_line(&pcm.name), pcm.description.as_str()));
            f.write_str(&commented(lines.collect()))?;
        }
        Ok(())
    }
}

impl Listing {
    fn fmt_no_inputs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "No capture device found.\n")?;
        if let Some(permission) = &self.permission {
            return wrapped(f, "  - ", &format!("There is one, but {permission}."));
        }
        let hints = [
            "Plug in a USB microphone, or a USB sound card with an input, and run this again. Once wavecast runs \
             it takes the card by itself as soon as it is there.",
            "A Raspberry Pi has no input of its own. A HAT or an I2S microphone needs its dtoverlay line in \
             /boot/firmware/config.txt, and a reboot.",
            "Without any card,  wavecast --device synth:tone  plays a tone.",
        ];
        hints.into_iter().try_for_each(|hint| wrapped(f, "  - ", hint))
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = &self.device;
        let mut name = device.card_name.clone();
        if !device.pcm_name.is_empty() && device.pcm_name != device.card_name {
            name = format!("{name}, {}", device.pcm_name);
        }
        if device.is_virtual() {
            name.push_str(" (made of software)");
        }
        writeln!(f, "{} {name}", if self.auto { '*' } else { ' ' })?;

        let mut lines = vec![(device_line(&device.stable_name), "")];
        for usb in &self.usb {
            let comment = match usb {
                UsbId::Id { .. } => "the same, whichever USB socket it is in",
                UsbId::Path(_) => "whatever card is in this USB socket",
            };
            lines.push((device_line(&usb.to_string()), comment));
        }
        f.write_str(&commented(lines))?;

        let (state, offer) = match &self.state {
            State::Free(offer) => ("free".to_owned(), Some(offer)),
            State::InUse(Some(holder)) => (format!("in use by {holder}"), None),
            State::InUse(None) => ("in use:  sudo fuser -v /dev/snd/*  names the program".to_owned(), None),
            State::Unusable(reason) => (reason.clone(), None),
        };
        let mut rows = vec![("state", state)];
        if let Some(offer) = offer {
            rows.push(("rates", offer.rates_text()));
            rows.push(("channels", range_text(offer.channels)));
            rows.push(("formats", offer.formats_text()));
        }
        let rows: Vec<String> =
            rows.into_iter().map(|(label, text)| wrap(&format!("    {label:<10}"), &text)).collect();
        f.write_str(&rows.join("\n"))
    }
}

impl Offer {
    fn rates_text(&self) -> String {
        if self.rates.is_empty() {
            return format!("{} Hz", range_text(self.rate_range));
        }
        let rates: Vec<String> = self.rates.iter().map(u32::to_string).collect();
        format!("{} Hz", rates.join(", "))
    }

    fn formats_text(&self) -> String {
        match self.formats.as_slice() {
            [] => "none that wavecast can read; plughw: in place of hw: converts".to_owned(),
            formats => formats.join(", "),
        }
    }
}

fn range_text((low, high): (u32, u32)) -> String {
    if low == high { low.to_string() } else { format!("{low} to {high}") }
}

/// Returns a line for the configuration file.
fn device_line(name: &str) -> String {
    format!("    device = \"{}\"", name.replace('\\', r"\\").replace('"', "\\\""))
}

/// Returns lines of a configuration file with aligned comments. Each ends with a newline.
fn commented(lines: Vec<(String, &str)>) -> String {
    let column = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
    let text = lines.iter().map(|(line, comment)| match *comment {
        "" => format!("{line}\n"),
        comment => {
            let room = WIDTH.saturating_sub(column + 4);
            let comment: String = comment.chars().take(room).collect();
            format!("{line:<column$}  # {comment}\n")
        }
    });
    text.collect()
}

/// Wraps a paragraph behind a bullet or a label. All lines of the text start in the same column.
///
/// A command has two spaces on either side and stays in one piece.
fn wrap(label: &str, text: &str) -> String {
    let indent = label.chars().count();
    let mut result = label.to_owned();
    let mut column = indent;
    for piece in pieces(text) {
        let length = piece.trim_end().chars().count();
        if column > indent && column + length > WIDTH {
            result.truncate(result.trim_end().len());
            result.push('\n');
            result.push_str(&" ".repeat(indent));
            column = indent;
        }
        result.push_str(piece);
        column += piece.chars().count();
    }
    result
}

/// Splits a text into words with the space behind them, and whole commands.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split_inclusive("  ").enumerate();
    // Every other part is a command: "words  command  words  command  words".
    parts.flat_map(|(n, part)| {
        let words = if n % 2 == 0 { part.split_inclusive(' ').collect() } else { vec![part] };
        words.into_iter()
    })
}

fn wrapped(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    writeln!(f, "{}", wrap(label, text))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{MICROPHONE, device, usb};
    use super::*;

    fn offer() -> Offer {
        Offer {
            rates: vec![44_100, 48_000],
            rate_range: (44_100, 48_000),
            channels: (1, 1),
            formats: vec!["S16_LE"],
        }
    }

    fn studio() -> Offer {
        Offer {
            rates: USUAL_RATES.to_vec(),
            rate_range: (4_000, 384_000),
            channels: (2, 18),
            formats: SAMPLES.map(SourceSample::name).to_vec(),
        }
    }

    fn inputs() -> Vec<Input> {
        let devices = [
            device(0, "Loopback", "Loopback", None),
            device(1, "Device", MICROPHONE, Some(usb("1-1.4", None))),
            device(2, "sndrpihifiberry", "snd_rpi_hifiberry_dacplusadc", None),
        ];
        let states = [
            State::Unusable("would not open: Invalid argument".to_owned()),
            State::Free(offer()),
            State::InUse(Some("arecord (pid 123)".to_owned())),
        ];
        let with_state = devices.iter().zip(states);
        let input = |(device, state): (&CaptureDevice, State)| Input {
            device: device.clone(),
            usb: usb_names(device, &devices),
            auto: device.card_id == "Device",
            state,
        };
        with_state.map(input).collect()
    }

    fn named(name: &str, description: &str) -> NamedPcm {
        NamedPcm { name: name.to_owned(), description: description.to_owned() }
    }

    #[test]
    fn each_input_is_listed_with_its_line_for_the_configuration() {
        let pcms = vec![named("pulse", "PulseAudio Sound Server"), named("turntable", "")];
        let listing = Listing { inputs: inputs(), pcms, permission: None, configuration: None };
        assert_eq!(
            listing.to_string(),
            r#"Capture devices. With device = "auto", which is the default, wavecast takes the one marked *.
To choose another, put its "device" line into /etc/wavecast.toml.

  Loopback, PCM (made of software)
    device = "hw:CARD=Loopback,DEV=0"
    state     would not open: Invalid argument

* USB PnP Sound Device, USB Audio
    device = "hw:CARD=Device,DEV=0"
    device = "usb:0d8c:0014"         # the same, whichever USB socket it is in
    device = "usb:1-1.4"             # whatever card is in this USB socket
    state     free
    rates     44100, 48000 Hz
    channels  1
    formats   S16_LE

  snd_rpi_hifiberry_dacplusadc, PCM
    device = "hw:CARD=sndrpihifiberry,DEV=0"
    state     in use by arecord (pid 123)

Other names that ALSA's configuration has (sound servers, asound.conf):
    device = "pulse"      # PulseAudio Sound Server
    device = "turntable"
"#
        );
    }

    #[test]
    fn every_device_line_is_valid_toml() {
        let pcms = vec![named(r#"say "hi" \ bye"#, "odd")];
        let text = Listing { inputs: inputs(), pcms, permission: None, configuration: None }.to_string();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("    device =")).collect();
        assert_eq!(lines.len(), 6);
        for line in lines {
            assert!(toml::de::DeTable::parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn the_list_fits_into_100_columns() {
        let mut inputs = inputs();
        inputs[1].state = State::Free(studio());
        inputs[2].state = State::InUse(None);
        let pcms = vec![named("pulse", &"very long ".repeat(20))];
        let permission = Some(
            "user \"pi\" may not open /dev/snd/pcmC3D0c: run  sudo usermod -aG audio pi  and log in again"
                .to_owned(),
        );
        for inputs in [inputs, Vec::new()] {
            let listing =
                Listing { inputs, pcms: pcms.clone(), permission: permission.clone(), configuration: None }
                    .to_string();
            for line in listing.lines() {
                assert!(line.chars().count() <= 100, "{line}");
                assert_eq!(line, line.trim_end(), "no trailing space");
            }
        }
    }

    #[test]
    fn a_command_is_never_broken_across_lines() {
        for words in 5..25 {
            let text = format!("{}run  sudo usermod -aG audio pi  and log in again", "word ".repeat(words));
            let wrapped = wrap("  - ", &text);
            assert!(wrapped.contains("sudo usermod -aG audio pi"), "{wrapped}");
            assert!(wrapped.lines().all(|line| line.chars().count() <= WIDTH), "{wrapped}");
        }
    }

    #[test]
    fn a_list_without_inputs_has_advice() {
        let text =
            Listing { inputs: vec![], pcms: vec![], permission: None, configuration: None }.to_string();
        for word in ["No capture device found.", "Plug in", "dtoverlay", "synth:tone"] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn a_list_without_permission_has_no_advice_to_plug_in_a_card() {
        let permission = Some("user \"pi\" may not open it: run  sudo usermod -aG audio pi".to_owned());
        let text = Listing { inputs: vec![], pcms: vec![], permission, configuration: None }.to_string();
        assert!(text.contains("sudo usermod -aG audio pi") && !text.contains("Plug in"), "{text}");
    }

    #[test]
    fn the_offer_of_a_device_comes_from_alsa() {
        // The PCM "null" offers everything.
        let offer = with_alsa_log(|| probe("null")).expect("null opens everywhere");
        assert_eq!(offer.rates, USUAL_RATES);
        assert_eq!(offer.formats, SAMPLES.map(SourceSample::name));
        let absent = with_alsa_log(|| probe("hw:CARD=NoSuchCard,DEV=0")).expect_err("there is no such card");
        assert_eq!(absent.errno(), libc::ENODEV);
    }

    #[test]
    fn unusual_rates_and_formats_are_named() {
        let offer = Offer { rates: vec![], rate_range: (12_345, 12_345), channels: (1, 2), formats: vec![] };
        assert_eq!(offer.rates_text(), "12345 Hz");
        assert_eq!(range_text(offer.channels), "1 to 2");
        assert!(offer.formats_text().contains("plughw:"));
    }

    #[test]
    fn a_mistake_in_the_configuration_of_alsa_replaces_the_advice_to_plug_in_a_card() {
        let configuration = Some("ALSA cannot read its configuration: Unterminated string".to_owned());
        let text = Listing { inputs: vec![], pcms: vec![], permission: None, configuration }.to_string();
        assert!(text.contains("Unterminated string") && !text.contains("Plug in"), "{text}");
    }
}
