//! What an input is, in words, for the log and for systemd.

use std::fmt;

use crate::config;
use crate::inputs::SourceInfo;

/// What was opened, and how it differs from what was asked for.
pub(super) struct Opened<'a> {
    pub(super) source: &'a SourceInfo,
    pub(super) config: &'a config::Input,
}

impl fmt::Display for Opened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Opened { source, config } = self;
        write!(f, "capturing from {}", Sounding(source))?;
        let ms = |frames: u32| f64::from(frames) * 1e3 / f64::from(source.rate);
        write!(f, ", period {:.1} ms, buffer {:.0} ms", ms(source.block_frames), ms(source.buffer_frames))?;
        if source.rate != config.rate {
            write!(f, "; asked for {} Hz, this is the nearest it offers", config.rate)?;
        }
        if source.channels != config.channels {
            write!(f, "; asked for {}, this is the nearest it offers", channels(config.channels))?;
        }
        Ok(())
    }
}

/// What is heard: device, card, format.
pub(super) struct Sounding<'a>(pub(super) &'a SourceInfo);

impl fmt::Display for Sounding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = self.0;
        f.write_str(&source.device)?;
        if let Some(card) = &source.card {
            write!(f, " ({card})")?;
        }
        write!(f, ": {} Hz, {}, {}", source.rate, channels(source.channels), source.sample)
    }
}

fn channels(channels: u16) -> String {
    match channels {
        1 => "mono".to_owned(),
        2 => "stereo".to_owned(),
        n => format!("{n} channels"),
    }
}
