//! Sound for the tests and the benchmarks of the encoders: interleaved samples between -1 and 1, always the
//! same.

// Each program uses some of it.
#![allow(dead_code)]

use std::f64::consts::TAU;
use std::process::Command;

use wavecast::media::format::StreamFormat;

/// A kind of sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Material {
    Silence,
    /// Every sample is one step above the one before it, through the whole range.
    Ramp,
    /// Independent white noise of full scale in each channel.
    Noise,
    /// Full scale, 50 frames up and 37 frames down.
    Square,
    /// Chords of decaying partials, panned, over the noise of a room.
    Music,
    /// Voiced bursts with formants, nearly the same in all channels, over the noise of a room.
    Voice,
}

impl Material {
    pub(crate) const ALL: [Material; 6] = [
        Material::Silence,
        Material::Ramp,
        Material::Noise,
        Material::Square,
        Material::Music,
        Material::Voice,
    ];

    /// Returns PCM of that sound: little-endian samples of `bytes` bytes.
    pub(crate) fn pcm(self, rate: u32, channels: usize, frames: usize, bytes: usize) -> Vec<u8> {
        let bits = 8 * bytes as u32;
        let steps = (1i64 << (bits - 1)) as f64;
        let mut pcm = Vec::with_capacity(frames * channels * bytes);
        let mut put = |value: i64| pcm.extend_from_slice(&value.to_le_bytes()[..bytes]);
        match self {
            // The lower bits of the number of the sample, sign and all.
            Material::Ramp => (0..frames * channels).for_each(|n| put(n as i64)),
            _ => {
                for sample in self.samples(rate, channels, frames) {
                    put(((sample * steps).round() as i64).clamp(-(steps as i64), steps as i64 - 1));
                }
            }
        }
        pcm
    }

    fn samples(self, rate: u32, channels: usize, frames: usize) -> Vec<f64> {
        let mut random = Random(1);
        let mut out = vec![0.0; frames * channels];
        match self {
            Material::Silence | Material::Ramp => {}
            Material::Noise => out.iter_mut().for_each(|sample| *sample = random.next()),
            Material::Square => {
                for (frame, samples) in out.chunks_mut(channels).enumerate() {
                    samples.fill(if frame % 87 < 50 { 1.0 } else { -1.0 });
                }
            }
            Material::Music => {
                chords(&mut out, rate, channels, &mut random);
                room(&mut out, channels, 0.002, &mut random);
            }
            Material::Voice => {
                voice(&mut out, rate, channels, &mut random);
                room(&mut out, channels, 0.0015, &mut random);
            }
        }
        out
    }
}

/// Returns PCM of a quarter of a second of each material, and a few frames that fill no block.
pub(crate) fn all_materials(format: StreamFormat) -> Vec<u8> {
    let frames = format.rate as usize / 4 + 7;
    let pcm =
        |material: Material| material.pcm(format.rate, format.channels.into(), frames, format.sample.bytes());
    Material::ALL.into_iter().flat_map(pcm).collect()
}

/// Returns a spoken sentence of about 10 s, mono, 16 bits, at 22050 Hz. `None` without espeak-ng.
pub(crate) fn speech() -> Option<Vec<i16>> {
    let text = "The north wind and the sun were disputing which was the stronger, when a traveller came by \
        wrapped in a warm cloak. They agreed that the one who first succeeded in making the traveller take his \
        cloak off should be considered stronger than the other.";
    let output = Command::new("espeak-ng").args(["--stdout", text]).output().ok()?;
    let samples = output.stdout.get(44..)?;
    Some(samples.chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]])).collect())
}

/// Random numbers between -1 and 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

fn room(out: &mut [f64], channels: usize, level: f64, random: &mut Random) {
    let mut low = vec![0.0; channels];
    for samples in out.chunks_mut(channels) {
        for (sample, low) in samples.iter_mut().zip(&mut low) {
            let white = random.next();
            *low += (white - *low) * 0.1;
            *sample += level * (*low * 2.0 + white * 0.4);
        }
    }
}

fn chords(out: &mut [f64], rate: u32, channels: usize, random: &mut Random) {
    let beat = rate as usize / 4;
    let chords = [[0, 4, 7, 12], [5, 9, 12, 17], [7, 11, 14, 19], [-3, 0, 4, 9]];
    let frames = out.len() / channels;
    for start in (0..frames).step_by(beat) {
        let chord = chords[start / beat / 4 % 4];
        for note in chord {
            let frequency = 220.0 * 2f64.powf(f64::from(note) / 12.0);
            let pan: Vec<f64> = (0..channels).map(|_| 0.5 + 0.4 * random.next()).collect();
            for partial in 1..9u32 {
                let step = TAU * frequency * f64::from(partial) / f64::from(rate);
                if step > 2.8 {
                    break;
                }
                let (phase, decay) =
                    (random.next() * 3.0, (2.0 + 0.8 * f64::from(partial)) / f64::from(rate));
                let level = 0.05 / f64::from(partial).powf(1.3);
                for frame in start..frames.min(start + 5 * beat) {
                    let t = (frame - start) as f64;
                    let value = level * (-t * decay).exp() * (step * t + phase).sin();
                    for (sample, pan) in out[frame * channels..][..channels].iter_mut().zip(&pan) {
                        *sample += value * pan;
                    }
                }
            }
        }
    }
}

fn voice(out: &mut [f64], rate: u32, channels: usize, random: &mut Random) {
    let frames = out.len() / channels;
    let second = f64::from(rate);
    let mut start = 0;
    while start < frames {
        let length = (second * (0.25 + 0.1 * random.next())) as usize;
        let pitch = 140.0 + 40.0 * random.next();
        let formants = [500.0 + 200.0 * random.next(), 1500.0 + 500.0 * random.next(), 2700.0];
        for harmonic in 1..30u32 {
            let frequency = pitch * f64::from(harmonic);
            if frequency > second / 2.3 {
                break;
            }
            let near = |formant: &f64| (-((frequency - formant) / (120.0 + formant * 0.08)).powi(2)).exp();
            let level = 0.06 * (formants.iter().map(near).sum::<f64>() + 0.02);
            let (step, phase) = (TAU * frequency / second, 3.0 * random.next());
            for frame in start..frames.min(start + length) {
                let t = (frame - start) as f64;
                let envelope = (std::f64::consts::PI * t / length as f64).sin().powi(2);
                let value = level * envelope * (step * t + phase).sin();
                for (channel, sample) in out[frame * channels..][..channels].iter_mut().enumerate() {
                    *sample += value * (1.0 - 0.07 * channel as f64);
                }
            }
        }
        start += length + (second * (0.2 + 0.15 * random.next())) as usize;
    }
}
