//! Encoders: PCM in the format of a stream goes in, packets of FLAC, MP3 or Opus come out.

pub mod downmix;
pub mod resample;
