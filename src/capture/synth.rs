//! Sound without hardware: a tone to hear that it works, noise as the prototype had it, a ramp for tests.

use std::time::Duration;

use super::source::{PATIENCE, Source, SourceLost, SourceRead};
use crate::config::{Input, Synth, SynthKind};
use crate::inputs::SourceInfo;
use crate::media::bytes::take_mut;
use crate::media::format::SourceSample;
use crate::media::format::{SampleFormat, StreamFormat};
use crate::sys::clock::monotonic_ns;

/// Frames in a block of `synth:noise`, as in the prototype that this project grew from.
pub const NOISE_BLOCK: u32 = 4096;

/// Peak of the tone: -18 dBFS, the level at which broadcasters line up.
const TONE_PEAK: f64 = 0.125;
/// Peak of the noise: -12 dBFS, so that it startles nobody.
const NOISE_PEAK: f64 = 0.25;

/// A source that makes its sound itself, paced by the clock.
pub struct SynthSource {
    info: SourceInfo,
    format: StreamFormat,
    kind: SynthKind,
    /// How many times faster than real time.
    speed: f64,
    /// Radians that the tone moves on in a frame.
    step: f64,
    /// The tone's phase in radians, or the noise generator's state.
    phase: f64,
    noise: u64,
    /// When the frame 0 of this run was due, and how many frames there were since.
    started: u64,
    frames: u64,
    /// The ramp's next frame.
    ramp: u64,
}

impl SynthSource {
    /// A source in exactly the format that the input asks for.
    pub fn open(synth: Synth, input: &Input) -> SynthSource {
        let format = StreamFormat { rate: input.rate, channels: input.channels, sample: input.format };
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
            step: std::f64::consts::TAU * synth.hz / f64::from(format.rate),
            phase: 0.0,
            // Any value but 0; the same noise at every start is as good as another.
            noise: 0x9E37_79B9_7F4A_7C15,
            started: monotonic_ns(),
            frames: 0,
            ramp: 0,
        }
    }

    /// When so many frames of this run are complete.
    fn due(&self, frames: u64) -> u64 {
        let ns = frames as f64 / f64::from(self.format.rate) / self.speed * 1e9;
        self.started + ns as u64
    }

    /// The next sample for all channels, as 32 bits, left-justified.
    fn next(&mut self) -> i32 {
        match self.kind {
            SynthKind::Tone => {
                let value = self.phase.sin() * TONE_PEAK;
                self.phase += self.step;
                // Not by `%`, which is a call. A tone above the rate makes several turns in a frame.
                while self.phase >= std::f64::consts::TAU {
                    self.phase -= std::f64::consts::TAU;
                }
                (value * f64::from(i32::MAX)) as i32
            }
            SynthKind::Noise => self.random(),
            SynthKind::Ramp => {
                let value = self.ramp as u16;
                self.ramp += 1;
                // Wider formats carry the same 16 bits again below, so that every bit can be checked.
                i32::from_ne_bytes(((u32::from(value) << 16) | u32::from(value)).to_ne_bytes())
            }
        }
    }

    /// Marsaglia's xorshift64: white enough for ears, and nothing secret depends on it.
    fn random(&mut self) -> i32 {
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        (f64::from((self.noise >> 32) as u32 as i32) * NOISE_PEAK) as i32
    }
}

/// Writes a sample of 32 bits in the format that is wanted.
#[inline(always)]
fn put(value: i32, format: SampleFormat, room: &mut &mut [u8]) {
    let [a, b, c, d] = value.to_le_bytes();
    let written = match format {
        SampleFormat::S16 => take_mut(room).map(|to| *to = [c, d]),
        SampleFormat::S24 => take_mut(room).map(|to| *to = [b, c, d]),
        SampleFormat::S32 => take_mut(room).map(|to| *to = [a, b, c, d]),
    };
    debug_assert!(written.is_some(), "there is room for a block");
}

impl Source for SynthSource {
    fn info(&self) -> &SourceInfo {
        &self.info
    }

    fn read(&mut self, out: &mut [u8]) -> Result<SourceRead, SourceLost> {
        let block = u64::from(self.info.block_frames);
        let due = self.due(self.frames + block);
        let now = monotonic_ns();
        if let Some(early) = due.checked_sub(now) {
            let early = Duration::from_nanos(early);
            std::thread::sleep(early.min(PATIENCE));
            if early > PATIENCE {
                return Ok(SourceRead::Timeout);
            }
        } else if Duration::from_nanos(now - due) > self.info.buffer() {
            // As a card would: who comes later than the buffer is long has lost what was in it.
            let lost = ((now - due) as f64 / 1e9 * f64::from(self.format.rate) * self.speed) as u64;
            self.ramp += lost;
            (self.started, self.frames) = (now, 0);
            return Ok(SourceRead::Overrun);
        }
        let (sample, channels) = (self.format.sample, self.format.channels);
        let mut room = &mut *out;
        for _ in 0..block {
            // Noise is another one in each channel, everything else the same in all.
            let mut value = self.next();
            for channel in 0..channels {
                if channel > 0 && self.kind == SynthKind::Noise {
                    value = self.random();
                }
                put(value, sample, &mut room);
            }
        }
        self.frames += block;
        Ok(SourceRead::Frames { frames: block as usize, captured_at: due })
    }
}
