//! The values of command-line options, which replace those of the file.

use super::device::Device;
use super::input::{CHANNELS, RATES};
use super::listen::{ListenAddr, listen_problem};
use super::messages::in_range;
use super::{Config, ConfigError};
use crate::media::format::SampleFormat;
use crate::sys::logging;

/// The values that the command line gives in place of the file's. `device`, `rate`, `channels` and `format` belong to the
/// first input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// `--device`
    pub device: Option<Device>,
    /// `--rate`, in frames per second.
    pub rate: Option<u32>,
    /// `--channels`
    pub channels: Option<u16>,
    /// `--format`
    pub format: Option<SampleFormat>,
    /// `--listen`, once for each address.
    pub listen: Option<Vec<ListenAddr>>,
    /// `--log`, a filter as [`logging::Filter`] reads it.
    pub log: Option<String>,
}

impl Overrides {
    /// Returns the given options that change the bytes per second.
    fn format_options(&self) -> Vec<&'static str> {
        let options = [
            ("--rate", self.rate.is_some()),
            ("--channels", self.channels.is_some()),
            ("--format", self.format.is_some()),
        ];
        options.into_iter().filter(|(_, given)| *given).map(|(option, _)| option).collect()
    }
}

impl Config {
    /// Replaces values of the file by those of the command line. Device, rate, channels and format change the first input
    /// only.
    ///
    /// `log` replaces the filter too, but [`logging::init`] cannot tell it from the file's: give the option to that
    /// function as well, so that it wins over `RUST_LOG`.
    ///
    /// # Errors
    /// A value is out of range, or conflicts with the rest of the configuration. Each line of the error names the option.
    /// The configuration stays as it was.
    pub fn apply(&mut self, overrides: &Overrides) -> Result<(), ConfigError> {
        let mut config = self.clone();
        let mut lines = Vec::new();

        if let Some(listen) = &overrides.listen {
            lines.extend(listen_problem(listen).map(|problem| format!("--listen: {problem}")));
            config.http.listen.clone_from(listen);
        }
        if let Some(filter) = &overrides.log {
            let checked = filter.parse::<logging::Filter>();
            lines.extend(checked.err().map(|problem| format!("--log: {problem}")));
            config.log = Some(filter.clone());
        }
        if let Some((input, others)) = config.inputs.split_first_mut() {
            if let Some(rate) = overrides.rate {
                lines.extend(in_range(rate, &RATES).err().map(|problem| format!("--rate: {problem}")));
                input.rate = rate;
            }
            if let Some(channels) = overrides.channels {
                let checked = in_range(channels, &CHANNELS);
                lines.extend(checked.err().map(|problem| format!("--channels: {problem}")));
                input.channels = channels;
            }
            if let Some(format) = overrides.format {
                input.format = format;
            }
            if let Some(device) = &overrides.device {
                input.device = device.clone();
            }
            let option = match (&overrides.device, overrides.rate) {
                (Some(_), _) => Some("--device"),
                (None, rate) => rate.map(|_| "--rate"),
            };
            if let Some(option) = option {
                let problems =
                    others.iter().filter_map(|other| input.conflict(other, &format!("input.{}", other.name)));
                lines.extend(problems.take(1).map(|problem| format!("{option}: {problem}")));
            }
            // Checked only where an option changed the format: the file was checked when it was read.
            if lines.is_empty() {
                let options = overrides.format_options();
                let problem = input.history_problem().filter(|_| !options.is_empty());
                lines.extend(problem.map(|problem| {
                    format!("{}: input.{}.history_seconds: {problem}", options.join(", "), input.name)
                }));
            }
        }

        if !lines.is_empty() {
            return Err(ConfigError { lines });
        }
        *self = config;
        Ok(())
    }
}
