//! Descriptions of an input's source in one line, for the log, for `wavecast check` and for systemd's status line.

use std::fmt;

use crate::config::{self, Config, ListenAddr, Network, Pick};
use crate::inputs::SourceInfo;

/// An opened source, and how it differs from the configured one.
pub(super) struct OpenedSummary<'a> {
    pub(super) source: &'a SourceInfo,
    pub(super) config: &'a config::Input,
}

impl fmt::Display for OpenedSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OpenedSummary { source, config } = self;
        write!(f, "capturing from {}{}{}", SourceSummary(source), pick(&config.pick), gain(config.gain_db))?;
        let ms = |frames: u32| f64::from(frames) * 1e3 / f64::from(source.rate);
        write!(f, ", period {:.1} ms, buffer {:.0} ms", ms(source.block_frames), ms(source.buffer_frames))?;
        if source.rate != config.rate {
            write!(f, "; asked for {} Hz, this is the nearest it offers", config.rate)?;
        }
        // A pick that names channels has found them.
        if source.channels != config.channels && !matches!(config.pick, Pick::Channels(_)) {
            write!(f, "; asked for {}, this is the nearest it offers", channels(config.channels))?;
        }
        Ok(())
    }
}

/// A source in the words that a person knows: device, card and format.
pub(super) struct SourceSummary<'a>(pub(super) &'a SourceInfo);

impl fmt::Display for SourceSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.0;
        f.write_str(&source.device)?;
        if let Some(card) = &source.card {
            write!(f, " ({card})")?;
        }
        write!(f, ": {} Hz, {}, {}", source.rate, channels(source.channels), source.sample)
    }
}

/// A configured input: the address of its stream, its device and its format.
pub struct InputSummary<'a>(pub &'a config::Input);

impl fmt::Display for InputSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = self.0;
        write!(f, "/{}.wav  ", input.name)?;
        if let Some(title) = &input.title {
            write!(f, "\"{title}\", ")?;
        }
        write!(
            f,
            "from {}, {}{}{}",
            input.device,
            input.stream_format(),
            pick(&input.pick),
            gain(input.gain_db)
        )
    }
}

/// A configured push: its input, its format and its server.
pub struct PushSummary<'a>(pub &'a config::Push);

impl fmt::Display for PushSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let push = self.0;
        let input = push.input.as_deref().map(|input| format!("{input} ")).unwrap_or_default();
        write!(f, "Push {}: {input}as {} to {}", push.name, push.format.name(), push.to)
    }
}

/// Returns `, channel 3 of the card`, or nothing where all channels are picked.
pub(super) fn pick(pick: &Pick) -> String {
    if *pick == Pick::All { String::new() } else { format!(", {pick} of the card") }
}

/// The clients that may listen, in one sentence without its full stop. The package's installation shows it.
pub struct AudienceSummary<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// `true` if a socket unit listens, so that `[http] listen` does not apply.
    pub socket_unit: bool,
}

impl fmt::Display for AudienceSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = &self.config.access;
        if !self.socket_unit && is_for_this_machine_alone(self.config) {
            f.write_str("Only this machine can listen")?;
        } else if access.allow.contains(&Network::Any) {
            f.write_str("Everybody who can reach this machine can listen")?;
        } else {
            let networks = access.allow.iter().map(|network| match network {
                Network::Net(net) => net.to_string(),
                Network::Local | Network::Any => "the local network".to_owned(),
            });
            write!(f, "Everybody on {} can listen", networks.collect::<Vec<_>>().join(", "))?;
        }
        f.write_str(if access.passwords.is_some() { ", with a password" } else { ", without a password" })
    }
}

/// Returns `true` if the daemon listens at the loopback alone.
pub(super) fn is_for_this_machine_alone(config: &Config) -> bool {
    config.http.listen.iter().all(|listen| match listen {
        ListenAddr::Any(_) => false,
        ListenAddr::Addr(address) => address.ip().to_canonical().is_loopback(),
    })
}

/// Returns `, gain +6 dB`, or nothing where the samples stay as they are.
fn gain(db: f64) -> String {
    if db == 0.0 { String::new() } else { format!(", gain {db:+} dB") }
}

fn channels(channels: u16) -> String {
    match channels {
        1 => "mono".to_owned(),
        2 => "stereo".to_owned(),
        n => format!("{n} channels"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::format::SourceSample;

    fn source() -> SourceInfo {
        SourceInfo {
            device: "hw:CARD=Device,DEV=0".to_owned(),
            card: Some("USB Microphone".to_owned()),
            rate: 48_000,
            channels: 1,
            sample: SourceSample::S16,
            block_frames: 480,
            buffer_frames: 24_000,
        }
    }

    #[test]
    fn an_opened_source_is_described_with_what_differs_from_the_configuration() {
        let mut config = config::Input { rate: 48_000, channels: 1, ..config::Input::default() };
        let summary = |config: &config::Input| OpenedSummary { source: &source(), config }.to_string();
        let start = "capturing from hw:CARD=Device,DEV=0 (USB Microphone): 48000 Hz, mono, S16_LE";
        assert_eq!(summary(&config), format!("{start}, period 10.0 ms, buffer 500 ms"));
        config.pick = Pick::Mean;
        let picked = summary(&config);
        assert!(picked.contains("mono, S16_LE, the mean of all channels of the card, period"), "{picked}");
        config.pick = Pick::All;
        (config.rate, config.channels, config.gain_db) = (44_100, 2, -6.5);
        assert_eq!(
            summary(&config),
            format!(
                "{start}, gain -6.5 dB, period 10.0 ms, buffer 500 ms; asked for 44100 Hz, this is the nearest it \
                 offers; asked for stereo, this is the nearest it offers"
            )
        );
    }

    #[test]
    fn a_configured_input_is_described_with_its_frequency_title_and_gain() {
        let input = config::Input {
            title: Some("Test".to_owned()),
            device: "synth:tone?hz=1000".parse().expect("a device"),
            pick: Pick::Channels(vec![3]),
            gain_db: 6.0,
            ..config::Input::default()
        };
        assert_eq!(
            InputSummary(&input).to_string(),
            "/live.wav  \"Test\", from synth:tone?hz=1000, 44100 Hz, mono, s16, channel 3 of the card, gain +6 dB"
        );
    }

    #[test]
    fn the_audience_is_described_by_addresses_networks_and_passwords() {
        for (text, expected) in [
            ("", "Everybody on the local network can listen, without a password"),
            ("access.passwords = '/p'", "Everybody on the local network can listen, with a password"),
            (
                "access.allow = ['local', '100.64.0.0/10']",
                "Everybody on the local network, 100.64.0.0/10 can listen",
            ),
            ("access.allow = 'any'", "Everybody who can reach this machine can listen, without a password"),
            ("http.listen = ['127.0.0.1:1', '[::1]:1']", "Only this machine can listen, without a password"),
            ("http.listen = ['127.0.0.1:1', '192.168.1.2:1']", "Everybody on the local network can listen"),
        ] {
            let config = &Config::parse(text, "w.toml").expect("a configuration");
            let summary = AudienceSummary { config, socket_unit: false }.to_string();
            assert!(summary.starts_with(expected), "{text}: {summary}");
        }
        let config = &Config::parse("http.listen = '127.0.0.1:1'", "w.toml").expect("a configuration");
        let summary = AudienceSummary { config, socket_unit: true }.to_string();
        assert!(summary.starts_with("Everybody on the local network"), "{summary}");
    }
}
