//! Opens the source that an input is configured to capture.

use super::alsa::AlsaSource;
use super::source::{OpenError, Source};
use super::synth::SynthSource;
use crate::config::{Device, Input};

/// Opens the device of `input` in the format that is nearest to the configured one. Does not start it.
///
/// # Errors
///
/// An [`OpenError`] with what to do.
pub(super) fn open(input: &Input) -> Result<Box<dyn Source>, OpenError> {
    match &input.device {
        Device::Synth(synth) => Ok(Box::new(SynthSource::open(*synth, input))),
        _ => Ok(Box::new(AlsaSource::open(input)?)),
    }
}
