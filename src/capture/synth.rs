//! Sound without hardware: a tone to check a set-up by ear, noise as the prototype had it, a ramp for tests.

use std::f64::consts::TAU;
use std::time::Duration;

use super::source::{OpenError, READ_TIMEOUT, Source, SourceLost, SourceRead};
use crate::config::{Input, Synth, SynthKind};
use crate::inputs::SourceInfo;
use crate::media::format::{SourceSample, StreamFormat};
use crate::sys::clock::monotonic_ns;

/// Frames in a block of `synth:noise`, as in the prototype from which this project grew.
pub const NOISE_BLOCK: u32 = 4096;

/// Peak of the tone: -18 dBFS, the alignment level of broadcasters.
const TONE_PEAK: f64 = 0.125;
/// Peak of the noise: -12 dBFS, so that it startles no listener.
const NOISE_PEAK: f64 = 0.25;

/// A source that generates its sound, paced by the clock.
pub struct SynthSource {
    info: SourceInfo,
    format: StreamFormat,
    kind: SynthKind,
    /// Factor by which the source is faster than real time.
    speed: f64,
    /// Radians by which the tone's phase moves per frame.
    step: f64,
    /// Phase of the tone in radians.
    phase: f64,
    /// State of the noise generator.
    noise: u64,
    /// Time (CLOCK_MONOTONIC, ns) at which the first frame of this run was due: of the start or the last overrun.
    started: u64,
    /// Frames read since then.
    frames: u64,
    /// Number of the ramp's next frame.
    ramp: u64,
}

impl SynthSource {
    /// A source in exactly the format that the input asks for, not started.
    pub fn open(synth: Synth, input: &Input) -> SynthSource {
        let format = StreamFormat { rate: input.rate, channels: input.card_channels(), sample: input.format };
        let block_frames = match synth.kind {
            SynthKind::Noise => NOISE_BLOCK,
            _ => format.frames_in(input.period).clamp(1, u64::from(u32::MAX)) as u32,
        };
        SynthSource {
            info: SourceInfo {
                device: input.device.to_string(),
                card: None,
                rate: format.rate,
                channels: format.channels,
                sample: SourceSample::from(format.sample),
                block_frames,
                buffer_frames: format.frames_in(input.buffer).min(u64::from(u32::MAX)) as u32,
            },
            format,
            kind: synth.kind,
            speed: synth.speed,
            step: TAU * synth.hz / f64::from(format.rate),
            phase: 0.0,
            // Any value but 0. It may be the same at every start.
            noise: 0x9E37_79B9_7F4A_7C15,
            started: monotonic_ns(),
            frames: 0,
            ramp: 0,
        }
    }

    /// Returns the time (ns) at which `frames` frames of this run are complete.
    fn due(&self, frames: u64) -> u64 {
        let ns = frames as f64 / f64::from(self.format.rate) / self.speed * 1e9;
        self.started + ns as u64
    }

    /// Returns the next sample for all channels, as 32 bits, left-justified.
    fn next_sample(&mut self) -> i32 {
        match self.kind {
            SynthKind::Tone => {
                let value = self.phase.sin() * TONE_PEAK;
                // A tone above the rate makes several turns per frame.
                self.phase = (self.phase + self.step) % TAU;
                (value * f64::from(i32::MAX)) as i32
            }
            SynthKind::Noise => self.random(),
            SynthKind::Ramp => {
                let value = self.ramp as u16;
                self.ramp += 1;
                // Wider formats carry the same 16 bits again in the lower half, so that every bit can be checked.
                i32::from_ne_bytes(((u32::from(value) << 16) | u32::from(value)).to_ne_bytes())
            }
        }
    }

    /// Returns a random sample from Marsaglia's xorshift64: white enough for ears. Nothing secret depends on it.
    fn random(&mut self) -> i32 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        (f64::from((self.noise >> 32) as u32 as i32) * NOISE_PEAK) as i32
    }
}

/// Writes a sample of 32 bits into `out`, which has as many bytes as a sample of the stream.
fn write_sample(value: i32, out: &mut [u8]) {
    out.copy_from_slice(&value.to_le_bytes()[4 - out.len()..]);
}

impl Source for SynthSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn start(&mut self) -> Result<(), OpenError> {
        self.started = monotonic_ns();
        Ok(())
    }

    fn read(&mut self, out: &mut [u8]) -> Result<SourceRead, SourceLost> {
        let block = u64::from(self.info.block_frames);
        let due = self.due(self.frames + block);
        let now = monotonic_ns();
        if let Some(early) = due.checked_sub(now) {
            let early = Duration::from_nanos(early);
            std::thread::sleep(early.min(READ_TIMEOUT));
            if early > READ_TIMEOUT {
                return Ok(SourceRead::Timeout);
            }
        } else if Duration::from_nanos(now - due) > self.info.buffer() {
            // As with a card: a read that comes later than the buffer lasts has lost what was in it.
            let lost = ((now - due) as f64 / 1e9 * f64::from(self.format.rate) * self.speed) as u64;
            self.ramp += lost;
            (self.started, self.frames) = (now, 0);
            return Ok(SourceRead::Overrun);
        }
        let out = &mut out[..block as usize * self.format.frame_bytes()];
        for frame in out.chunks_exact_mut(self.format.frame_bytes()) {
            let mut value = self.next_sample();
            for (channel, sample) in frame.chunks_exact_mut(self.format.sample.bytes()).enumerate() {
                // Noise differs between channels; everything else is the same in all.
                if channel > 0 && self.kind == SynthKind::Noise {
                    value = self.random();
                }
                write_sample(value, sample);
            }
        }
        self.frames += block;
        Ok(SourceRead::Frames { frames: block as usize, captured_at: due })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::format::SampleFormat;

    fn synth(device: &str, format: SampleFormat) -> SynthSource {
        let crate::config::Device::Synth(synth) = device.parse().expect("a device") else {
            panic!("{device}")
        };
        SynthSource::open(synth, &Input { rate: 8000, format, ..Input::default() })
    }

    /// Returns the first block of a source whose first block is due.
    fn first_block(device: &str, format: SampleFormat) -> Vec<u8> {
        let mut source = synth(device, format);
        let mut out = vec![0; source.info().block_frames as usize * source.info().frame_bytes()];
        source.start().expect("it starts");
        let read = source.read(&mut out);
        assert!(matches!(read, Ok(SourceRead::Frames { .. })), "{read:?}");
        out
    }

    #[test]
    fn every_format_carries_the_upper_bytes_of_the_ramp() {
        // Frame 2, second channel.
        assert_eq!(first_block("synth:ramp", SampleFormat::S16)[10..12], [2, 0]);
        assert_eq!(first_block("synth:ramp", SampleFormat::S24)[15..18], [0, 2, 0]);
        assert_eq!(first_block("synth:ramp", SampleFormat::S32)[20..24], [2, 0, 2, 0]);
    }

    #[test]
    fn noise_differs_between_channels_and_stays_below_its_peak() {
        let mut source = synth("synth:noise?speed=100", SampleFormat::S16);
        let mut out = vec![0; NOISE_BLOCK as usize * 4];
        source.start().expect("it starts");
        assert!(matches!(source.read(&mut out), Ok(SourceRead::Frames { frames: 4096, .. })));
        let samples: Vec<i16> =
            out.chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]])).collect();
        assert!(samples.chunks_exact(2).any(|frame| frame[0] != frame[1]));
        assert!(samples.iter().all(|sample| sample.unsigned_abs() <= 8192));
    }

    #[test]
    fn a_source_that_is_read_too_late_overruns_and_goes_on() {
        let mut source = synth("synth:ramp", SampleFormat::S16);
        source.start().expect("it starts");
        source.started -= 10_000_000_000;
        let mut out = vec![0; source.info().block_frames as usize * 4];
        assert_eq!(source.read(&mut out), Ok(SourceRead::Overrun));
        assert!(matches!(source.read(&mut out), Ok(SourceRead::Frames { .. })));
        let first = u16::from_le_bytes([out[0], out[1]]);
        assert!((79_000 % 65_536..81_000 % 65_536).contains(&usize::from(first)), "{first}");
    }
}
