//! The table `[input.NAME]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::device::{Device, device_conflict};
use super::messages::{choose, parse_whole};
use super::pick::Pick;
use crate::media::format::{SampleFormat, StreamFormat};

/// The most memory that the history of one input may take, in bytes: enough for an hour of CD quality, too little to lock
/// up a board by a mistyped digit.
pub const MAX_HISTORY_BYTES: u64 = 1 << 30;
/// Frames per second.
pub(super) const RATES: RangeInclusive<u32> = 4_000..=384_000;
/// Samples in a frame.
pub(super) const CHANNELS: RangeInclusive<u16> = 1..=32;

/// One table `[input.NAME]`: the source, the format of its stream, and the length of its history.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The name of the table and of the stream: `/NAME.wav`. Lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// `title`: the name for people. Without one they read `name`.
    pub title: Option<String>,
    /// `aliases`: other names of the stream, so that an address stays valid after the input was renamed.
    pub aliases: Vec<String>,
    /// `device`: the source of the sound.
    pub device: Device,
    /// `rate`: frames per second.
    pub rate: u32,
    /// `channels`: the number of channels to ask the card for. It is asked for more where `pick` names more.
    pub channels: u16,
    /// `pick`: the channels of the card that become the channels of the stream.
    pub pick: Pick,
    /// `format`: the sample format of the stream.
    pub format: SampleFormat,
    /// `period_ms`: the length of one block, which the card gathers before it wakes the daemon.
    pub period: Duration,
    /// `buffer_ms`: the length of the card's buffer, at least two periods. A daemon that is later than this loses sound.
    pub buffer: Duration,
    /// `history_seconds`: the length of the sound that stays in memory, at most 1 GiB of it.
    pub history: Duration,
    /// `gain_db`: amplification in dB. 0.0 leaves every sample as it is.
    pub gain_db: f64,
    /// `quiet_seconds`: the length of dead air that is reported. Zero reports none.
    pub quiet_time: Duration,
    /// `quiet_dbfs`: the peak in dBFS below which everything is dead air.
    pub quiet_dbfs: f64,
    /// `realtime_priority`: the SCHED_FIFO priority of the capture thread. 0 asks for none.
    pub realtime_priority: u8,
}

impl Default for Input {
    /// The input of a configuration without inputs: `live`, the first card in the format of a CD.
    fn default() -> Input {
        Input {
            name: "live".to_owned(),
            title: None,
            aliases: Vec::new(),
            device: Device::Auto,
            rate: 44_100,
            channels: 2,
            pick: Pick::All,
            format: SampleFormat::S16,
            period: Duration::from_millis(10),
            buffer: Duration::from_millis(500),
            history: Duration::from_secs(30),
            gain_db: 0.0,
            quiet_time: Duration::from_secs(60),
            quiet_dbfs: -200.0,
            realtime_priority: 10,
        }
    }
}

impl Input {
    /// Returns the format of the stream, from a card that delivers what it is asked for.
    pub fn stream_format(&self) -> StreamFormat {
        let channels = self.pick.stream_channels(self.card_channels());
        StreamFormat { rate: self.rate, channels, sample: self.format }
    }

    /// Returns the number of channels to ask the card for.
    pub fn card_channels(&self) -> u16 {
        self.channels.max(self.pick.least_channels())
    }

    /// Returns the configuration with which the device is opened that `inputs`, at least one, share: as many channels, as
    /// wide samples and as high a priority as any of them needs.
    pub fn for_card<'a>(inputs: impl Iterator<Item = &'a Input>) -> Input {
        let together = |mut card: Input, input: &Input| {
            card.channels = card.card_channels().max(input.card_channels());
            if input.pick.least_channels() > card.pick.least_channels() {
                card.pick = input.pick.clone();
            }
            if input.format.bytes() > card.format.bytes() {
                card.format = input.format;
            }
            card.realtime_priority = card.realtime_priority.max(input.realtime_priority);
            card
        };
        let mut inputs = inputs;
        let first = inputs.next().cloned().unwrap_or_default();
        inputs.fold(first, together)
    }

    /// Returns an error text if this input and `other` cannot both run: they name one device, and do not share it.
    /// `owner` is the name of `other` in messages.
    pub(super) fn conflict(&self, other: &Input, owner: &str) -> Option<String> {
        if !self.shares_device(other) {
            return device_conflict(&self.device, &other.device, owner);
        }
        let same = [
            ("rate", self.rate == other.rate),
            ("period_ms", self.period == other.period),
            ("buffer_ms", self.buffer == other.buffer),
        ];
        let (key, _) = same.into_iter().find(|(_, is_same)| !is_same)?;
        Some(format!("\"{}\" is shared with {owner}, so both need the same `{key}`", self.device))
    }

    /// Returns whether this input and `other` are captured together: they name the same device and pick differently.
    pub fn shares_device(&self, other: &Input) -> bool {
        self.device == other.device && self.pick != other.pick && !matches!(self.device, Device::Synth(_))
    }

    /// Returns the name for people: the title, or else the name of the stream.
    pub fn shown_name(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.name)
    }

    /// Returns an error text if the buffer is shorter than two periods.
    pub(super) fn buffer_problem(&self) -> Option<String> {
        (self.buffer < 2 * self.period).then(|| {
            format!(
                "{} ms are less than two periods of {} ms; the card fills one period while wavecast reads the other",
                millis(self.buffer),
                millis(self.period)
            )
        })
    }

    /// Returns an error text if the history takes more than [`MAX_HISTORY_BYTES`] in the configured format.
    pub(super) fn history_problem(&self) -> Option<String> {
        let format = self.stream_format();
        let per_second = format.bytes_per_second();
        let bytes = self.history.as_nanos() * u128::from(per_second) / 1_000_000_000;
        (bytes > u128::from(MAX_HISTORY_BYTES)).then(|| {
            format!(
                "{} seconds of {format} take {:.1} GiB of memory, more than 1 GiB; at most {} seconds fit",
                self.history.as_secs_f64(),
                bytes as f64 / MAX_HISTORY_BYTES as f64,
                MAX_HISTORY_BYTES / per_second
            )
        })
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Reads a rate from the value of a command-line option.
pub(crate) fn parse_rate(text: &str) -> Result<u32, String> {
    parse_whole(text, &RATES)
}

/// Reads a number of channels from the value of a command-line option.
pub(crate) fn parse_channels(text: &str) -> Result<u16, String> {
    parse_whole(text, &CHANNELS)
}

/// Reads a sample format from the value of a command-line option.
pub(crate) fn parse_format(text: &str) -> Result<SampleFormat, String> {
    choose(text, &SampleFormat::ALL.map(|format| (format.name(), format)))
}
