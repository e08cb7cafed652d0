//! Rate, channels and sample format of a stream; conversion between frames, bytes and time.
//!
//! A *frame* is one sample for every channel. Counts are in frames unless a name says bytes.

use std::fmt;
use std::time::Duration;

/// The format of one sample of a published stream: a little-endian signed integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleFormat {
    /// 16 bits in 2 bytes.
    S16,
    /// 24 bits packed in 3 bytes, as WAV has them.
    S24,
    /// 32 bits in 4 bytes.
    S32,
}

impl SampleFormat {
    /// All formats, smallest first.
    pub const ALL: [SampleFormat; 3] = [SampleFormat::S16, SampleFormat::S24, SampleFormat::S32];

    /// Returns the name in the configuration: `s16`, `s24` or `s32`.
    pub const fn name(self) -> &'static str {
        match self {
            SampleFormat::S16 => "s16",
            SampleFormat::S24 => "s24",
            SampleFormat::S32 => "s32",
        }
    }

    /// Returns the number of bytes of one sample.
    pub const fn bytes(self) -> usize {
        match self {
            SampleFormat::S16 => 2,
            SampleFormat::S24 => 3,
            SampleFormat::S32 => 4,
        }
    }

    /// Returns the number of bits of one sample.
    pub const fn bits(self) -> u16 {
        self.bytes() as u16 * 8
    }

    /// Returns the format of that name; `None` if there is none.
    pub fn from_name(name: &str) -> Option<SampleFormat> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

impl fmt::Display for SampleFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The format of a published stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamFormat {
    /// Frames a second.
    pub rate: u32,
    /// Samples in a frame; at least 1.
    pub channels: u16,
    /// The format of each sample.
    pub sample: SampleFormat,
}

impl StreamFormat {
    /// Returns the number of bytes of one frame.
    pub const fn frame_bytes(self) -> usize {
        self.sample.bytes() * self.channels as usize
    }

    /// Returns the number of bytes of one second.
    pub const fn bytes_per_second(self) -> u64 {
        self.rate as u64 * self.frame_bytes() as u64
    }

    /// Returns the number of whole frames in `time`, rounded down; at most `u64::MAX`.
    pub const fn frames_in(self, time: Duration) -> u64 {
        // 128 bits: a year at 192 kHz in nanoseconds does not fit into 64.
        let frames = time.as_nanos() * self.rate as u128 / 1_000_000_000;
        if frames > u64::MAX as u128 { u64::MAX } else { frames as u64 }
    }

    /// Returns the duration of `frames` frames, rounded down to a nanosecond.
    pub const fn duration_of(self, frames: u64) -> Duration {
        duration_at(self.rate, frames)
    }
}

/// Returns the duration of frames at a rate in Hz. Overflows for no number of frames.
pub const fn duration_at(rate: u32, frames: u64) -> Duration {
    let rate = if rate == 0 { 1 } else { rate as u64 };
    Duration::new(frames / rate, (frames % rate * 1_000_000_000 / rate) as u32)
}

impl fmt::Display for StreamFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz, ", self.rate)?;
        match self.channels {
            1 => f.write_str("mono")?,
            2 => f.write_str("stereo")?,
            n => write!(f, "{n} channels")?,
        }
        write!(f, ", {}", self.sample)
    }
}

/// The format of one sample of a source, little-endian. The names are ALSA's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceSample {
    /// 16 bits in 2 bytes.
    S16,
    /// 24 bits in 3 bytes.
    S24Packed,
    /// 24 bits in the lower 3 of 4 bytes; the upper byte is undefined.
    S24,
    /// 32 bits in 4 bytes.
    S32,
    /// IEEE 754 single precision, full scale is ±1.
    F32,
}

impl SourceSample {
    /// Returns ALSA's name of the format.
    pub const fn name(self) -> &'static str {
        match self {
            SourceSample::S16 => "S16_LE",
            SourceSample::S24Packed => "S24_3LE",
            SourceSample::S24 => "S24_LE",
            SourceSample::S32 => "S32_LE",
            SourceSample::F32 => "FLOAT_LE",
        }
    }

    /// Returns the number of bytes of one sample.
    pub const fn bytes(self) -> usize {
        match self {
            SourceSample::S16 => 2,
            SourceSample::S24Packed => 3,
            SourceSample::S24 | SourceSample::S32 | SourceSample::F32 => 4,
        }
    }

    /// Returns the formats to request from a card for an output format, best first: the output format itself, then
    /// formats that lose nothing, then the rest.
    pub const fn preference(output: SampleFormat) -> [SourceSample; 5] {
        use SourceSample::{F32, S16, S24, S24Packed, S32};
        match output {
            SampleFormat::S16 => [S16, S32, S24Packed, S24, F32],
            SampleFormat::S24 => [S24Packed, S24, S32, F32, S16],
            SampleFormat::S32 => [S32, S24Packed, S24, F32, S16],
        }
    }
}

impl From<SampleFormat> for SourceSample {
    fn from(format: SampleFormat) -> Self {
        match format {
            SampleFormat::S16 => SourceSample::S16,
            SampleFormat::S24 => SourceSample::S24Packed,
            SampleFormat::S32 => SourceSample::S32,
        }
    }
}

impl fmt::Display for SourceSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CD: StreamFormat = StreamFormat { rate: 44_100, channels: 2, sample: SampleFormat::S16 };

    #[test]
    fn a_second_of_a_cd_has_176400_bytes() {
        assert_eq!(CD.frame_bytes(), 4);
        assert_eq!(CD.bytes_per_second(), 176_400);
    }

    #[test]
    fn frames_and_time_convert_both_ways_for_a_year() {
        let year = Duration::from_secs(365 * 86_400);
        let frames = CD.frames_in(year);
        assert_eq!(frames, 365 * 86_400 * 44_100);
        assert_eq!(CD.duration_of(frames), year);
        assert_eq!(CD.frames_in(Duration::MAX), u64::MAX);
        // Five days, of which the nanoseconds of one second are beyond 64 bits where they are counted as frames.
        assert_eq!(
            duration_at(192_000, 5 * 86_400 * 192_000 + 96_000),
            Duration::from_millis(5 * 86_400_000 + 500)
        );
        assert_eq!(duration_at(1, u64::MAX), Duration::from_secs(u64::MAX));
    }

    #[test]
    fn formats_are_found_by_their_names_in_the_configuration() {
        for format in SampleFormat::ALL {
            assert_eq!(SampleFormat::from_name(format.name()), Some(format));
        }
        assert_eq!(SampleFormat::from_name("S16"), None);
        assert_eq!(SampleFormat::from_name("float"), None);
    }
}
