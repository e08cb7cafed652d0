//! A checker for streams of `synth:ramp`, whose frame n carries n mod 65536 in every channel.

/// A checker that compares a stream with the synthetic ramp, frame by frame.
pub(crate) struct SynthRamp {
    sample_bytes: usize,
    frame_bytes: usize,
    rest: Vec<u8>,
    next: Option<u16>,
    /// The value of the first frame.
    pub(crate) first: Option<u16>,
    /// The number of whole frames until now.
    pub(crate) frames: u64,
    /// The holes in the ramp: the frames before the hole, and the frames missing in it modulo 65536.
    pub(crate) holes: Vec<(u64, u16)>,
}

impl SynthRamp {
    /// Returns a checker for a stream with `channels` channels and `sample_bytes` bytes in a sample.
    pub(crate) fn new(sample_bytes: usize, channels: usize) -> SynthRamp {
        let frame_bytes = sample_bytes * channels;
        SynthRamp {
            sample_bytes,
            frame_bytes,
            rest: Vec::new(),
            next: None,
            first: None,
            frames: 0,
            holes: Vec::new(),
        }
    }

    /// Compares the next bytes of sound.
    ///
    /// # Panics
    ///
    /// If a frame is not a frame of the ramp: the bytes are off the frame grid, or a bit is wrong.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let mut frames = all.chunks_exact(self.frame_bytes);
        for frame in &mut frames {
            let value = value_of(frame, self.sample_bytes);
            match self.next {
                Some(next) if next != value => self.holes.push((self.frames, value.wrapping_sub(next))),
                Some(_) => {}
                None => self.first = Some(value),
            }
            self.next = Some(value.wrapping_add(1));
            self.frames += 1;
        }
        self.rest = frames.remainder().to_vec();
    }

    /// Returns the value of the last frame.
    pub(crate) fn last(&self) -> u16 {
        self.next.expect("there was a frame").wrapping_sub(1)
    }

    /// Returns `true` if no frame is missing.
    pub(crate) fn is_whole(&self) -> bool {
        self.holes.is_empty()
    }

    /// Returns the number of frames missing in all holes together, modulo 65536.
    pub(crate) fn missing(&self) -> u16 {
        self.holes.iter().fold(0, |sum: u16, (_, hole)| sum.wrapping_add(*hole))
    }
}

/// Returns the number that a frame carries: the upper 16 bits of each sample. Wider samples repeat it below.
fn value_of(frame: &[u8], sample_bytes: usize) -> u16 {
    let at = sample_bytes - 2;
    let value = u16::from_le_bytes([frame[at], frame[at + 1]]);
    let wide = (u32::from(value) << 16 | u32::from(value)).to_le_bytes();
    for sample in frame.chunks_exact(sample_bytes) {
        assert_eq!(sample, &wide[4 - sample_bytes..], "{frame:?} is no frame of the ramp");
    }
    value
}
