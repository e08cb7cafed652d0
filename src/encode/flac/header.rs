//! The stream's header and its MD5 (RFC 9639, sections 8.1, 8.2 and 8.6).

use md5::Digest;

use crate::media::format::{SampleFormat, StreamFormat};

/// Bytes of the metadata block STREAMINFO, with its own header.
pub(super) const STREAMINFO_BYTES: usize = 38;
/// Frames in a packet: 24 ms at 48 kHz. With 4096, players start up to 0.6 s later for 0.4 % fewer bytes.
pub const BLOCK_FRAMES: usize = 1152;

/// Bytes of a header: the marker `fLaC` and STREAMINFO.
pub const HEADER_BYTES: usize = 4 + STREAMINFO_BYTES;

/// The length and checksum of a finite stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Frames in the stream. From 2^36 on, the header says that it is unknown.
    pub frames: u64,
    /// MD5 of the samples: see [`SampleDigest`].
    pub md5: [u8; 16],
}

/// Returns the header of a stream, which is everything before the first packet. Live streams have no totals.
pub fn header(format: StreamFormat, totals: Option<Totals>) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let (marker, info) = header.split_at_mut(4);
    marker.copy_from_slice(b"fLaC");
    info.copy_from_slice(&streaminfo(format, totals, true));
    header
}

/// Returns the metadata block STREAMINFO. `is_last`: no other metadata block follows.
pub(super) fn streaminfo(
    format: StreamFormat,
    totals: Option<Totals>,
    is_last: bool,
) -> [u8; STREAMINFO_BYTES] {
    // 0 and zeros mean "unknown".
    let Totals { frames, md5 } = totals.unwrap_or(Totals { frames: 0, md5: [0; 16] });
    let frames = if frames < 1 << 36 { frames } else { 0 };
    let packed = u64::from(format.rate) << 44
        | u64::from(format.channels - 1) << 41
        | u64::from(coded_bits(format.sample) - 1) << 36
        | frames;
    let mut block = [0; STREAMINFO_BYTES];
    block[0] = u8::from(is_last) << 7;
    block[3] = STREAMINFO_BYTES as u8 - 4;
    // Equal smallest and largest block: a fixed block size. The sizes of frames in bytes stay unknown: 0.
    block[4..6].copy_from_slice(&(BLOCK_FRAMES as u16).to_be_bytes());
    block[6..8].copy_from_slice(&(BLOCK_FRAMES as u16).to_be_bytes());
    block[14..22].copy_from_slice(&packed.to_be_bytes());
    block[22..].copy_from_slice(&md5);
    block
}

/// Returns the bits of a coded sample: 16 or 24. GStreamer 1.22 does not decode 32 bits.
pub(super) const fn coded_bits(sample: SampleFormat) -> u32 {
    match sample {
        SampleFormat::S16 => 16,
        SampleFormat::S24 | SampleFormat::S32 => 24,
    }
}

/// The MD5 that a finite stream's header holds: of all samples as they are coded, interleaved, little-endian,
/// in 2 or 3 bytes. Of 32-bit input only the upper 24 bits count.
#[derive(Clone)]
pub struct SampleDigest {
    md5: md5::Md5,
    sample: SampleFormat,
}

impl SampleDigest {
    /// Returns the digest of no samples.
    pub fn new(format: StreamFormat) -> Self {
        SampleDigest { md5: md5::Md5::new(), sample: format.sample }
    }

    /// Adds PCM of the stream's format, a whole number of samples.
    pub fn update(&mut self, pcm: &[u8]) {
        match self.sample {
            SampleFormat::S16 | SampleFormat::S24 => self.md5.update(pcm),
            SampleFormat::S32 => {
                // A few kilobytes at a time: per sample, the digest's own bookkeeping would cost more than
                // the MD5.
                let mut upper = [0; 3 * 1024];
                for piece in pcm.chunks(4 * 1024) {
                    let samples = piece.chunks_exact(4).zip(upper.chunks_exact_mut(3));
                    let bytes = 3 * samples.len();
                    samples.for_each(|(sample, upper)| upper.copy_from_slice(&sample[1..]));
                    self.md5.update(&upper[..bytes]);
                }
            }
        }
    }

    /// Returns the MD5 of all samples so far.
    pub fn finish(self) -> [u8; 16] {
        self.md5.finalize().into()
    }
}
