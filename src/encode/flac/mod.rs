//! A FLAC encoder for live streams: fixed predictors, stereo decorrelation, partitioned Rice codes (RFC
//! 9639).
//!
//! - Blocks of [`BLOCK_FRAMES`] frames, numbered from 0 ("fixed block size"). Many players fall silent with
//!   sample numbers ("variable block size").
//! - 16 and 24 bits. 32-bit input is coded as its upper 24 bits.
//! - A frame without sound is coded at a quarter of PCM instead of at next to nothing. Players that fill a
//!   buffer by bytes would otherwise be 9 to 13 s behind after 10 s of digital silence. For Chromium, it is half of PCM.
//! - A partition never escapes to unencoded samples: the 5-bit Rice parameter covers every residual of 24-bit
//!   sound, and a subframe that does not get smaller is stored verbatim. So a packet's size is bounded.

use std::convert::Infallible;

use super::blocks::Blocks;
use super::encoder::{EncodeError, Encoder, OpenError, Options, Packet, Sink, Target};
use super::ogg::{self, Pager, Paging};
use crate::media::format::{SampleFormat, StreamFormat};

mod bits;
#[cfg(any(test, fuzzing))]
pub mod decode;
mod header;
mod subframe;
#[cfg(test)]
mod tests;

use bits::{BitWriter, crc8};
pub use header::{BLOCK_FRAMES, HEADER_BYTES, SampleDigest, Totals, header};
use header::{coded_bits, streaminfo};
use subframe::{OrderSums, Subframe};

/// Packets have numbers below this one. At 2^31, VLC, mpv, ffplay, GStreamer, MPD, MPlayer and sox fall
/// silent without an error. Reached after 1.6 years at 48 kHz.
const NUMBERS: u32 = 1 << 31;

/// STREAMINFO has 20 bits for the rate.
const HIGHEST_RATE: u32 = (1 << 20) - 1;
const MOST_CHANNELS: u16 = 8;

/// The type of a metadata block that holds comments, and the flag of the last metadata block.
const VORBIS_COMMENT: u8 = 4;
const LAST_METADATA_BLOCK: u8 = 0x80;

/// Bytes of the longest frame header: sync and codes, number, block size, rate, CRC-8.
const MOST_FRAME_HEADER_BYTES: usize = 4 + 6 + 2 + 2 + 1;

/// An encoder of native FLAC.
pub struct FlacEncoder {
    header: [u8; HEADER_BYTES],
    blocks: Blocks,
    frames: FrameEncoder,
}

/// Checks that FLAC can carry PCM of that format.
///
/// # Errors
///
/// No or more than 8 channels; a rate of 0 or of 2^20 Hz and more.
pub fn check(format: StreamFormat) -> Result<(), OpenError> {
    if !(1..=MOST_CHANNELS).contains(&format.channels) {
        return Err(OpenError::Channels(format.channels));
    }
    if !(1..=HIGHEST_RATE).contains(&format.rate) {
        return Err(OpenError::Rate(format.rate));
    }
    Ok(())
}

impl FlacEncoder {
    /// Returns an encoder for PCM of `format` whose first frame has the position `first_frame`.
    ///
    /// # Errors
    ///
    /// No or more than 8 channels; a rate of 0 or of 2^20 Hz and more.
    pub fn new(format: StreamFormat, first_frame: u64) -> Result<Self, OpenError> {
        check(format)?;
        Ok(FlacEncoder {
            header: header(format, None),
            blocks: Blocks::new(format.frame_bytes(), BLOCK_FRAMES, first_frame),
            frames: FrameEncoder::new(format),
        })
    }

    /// Numbers the following packets from `number` on; for tests of the limit.
    #[doc(hidden)]
    pub fn number_from(&mut self, number: u32) {
        self.frames.number = number;
    }
}

impl Encoder for FlacEncoder {
    fn header(&self) -> &[u8] {
        &self.header
    }

    fn max_packet_bytes(&self) -> usize {
        self.frames.max_bytes()
    }

    fn max_packet_frames(&self) -> u32 {
        BLOCK_FRAMES as u32
    }

    fn encode(&mut self, pcm: &[u8], sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        let Ok(()) = self.blocks.feed(pcm, |block, first_frame| {
            if let Some(bytes) = self.frames.encode(block) {
                sink(Packet { first_frame, frames: BLOCK_FRAMES as u32, bytes });
            }
            Ok::<(), Infallible>(())
        });
        Ok(())
    }

    fn skip_to(&mut self, first_frame: u64, _: &mut Sink<'_>) -> u64 {
        self.blocks.skip_to(first_frame)
    }

    /// Encodes what is left as a shorter packet. Only the last packet of a stream may be shorter.
    fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        let (rest, first_frame) = self.blocks.drain();
        let frames = (rest.len() / self.frames.format.frame_bytes()) as u32;
        if frames > 0 {
            if let Some(bytes) = self.frames.encode(&rest) {
                sink(Packet { first_frame, frames, bytes });
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.frames.number >= NUMBERS
    }
}

/// An encoder of FLAC in Ogg, for Icecast ("FLAC-to-Ogg mapping" 1.0, RFC 9639, section 10.1).
pub struct OggFlacEncoder {
    flac: FlacEncoder,
    header: Vec<u8>,
    pager: Pager,
    packets_per_page: usize,
}

impl OggFlacEncoder {
    /// Returns an encoder for PCM of `format`. Of the options, `title`, `serial` and `first_frame` count.
    ///
    /// # Errors
    ///
    /// As for [`FlacEncoder::new`].
    pub fn new(format: StreamFormat, options: &Options<'_>, paging: Paging) -> Result<Self, OpenError> {
        let mut flac = FlacEncoder::new(format, options.first_frame)?;
        if options.target == Target::OggListeners {
            flac.frames.silence = Silence::Half;
        }
        // Mapping version 1.0; one more header packet follows.
        let mut first = b"\x7fFLAC\x01\x00\x00\x01fLaC".to_vec();
        first.extend_from_slice(&streaminfo(format, None, false));
        let comments = ogg::comments(options.title);
        let mut second = vec![LAST_METADATA_BLOCK | VORBIS_COMMENT];
        second.extend_from_slice(&(comments.len() as u32).to_be_bytes()[1..]);
        second.extend_from_slice(&comments);
        let packets_per_page = paging.packets(BLOCK_FRAMES as u32, format.rate);
        let (pager, header) = Pager::new(options.serial, packets_per_page, &[first, second]);
        Ok(OggFlacEncoder { flac, header, pager, packets_per_page })
    }
}

impl Encoder for OggFlacEncoder {
    fn header(&self) -> &[u8] {
        &self.header
    }

    fn max_packet_bytes(&self) -> usize {
        ogg::max_page_bytes(self.packets_per_page * self.flac.max_packet_bytes(), self.packets_per_page)
    }

    fn max_packet_frames(&self) -> u32 {
        (self.packets_per_page * BLOCK_FRAMES) as u32
    }

    fn encode(&mut self, pcm: &[u8], sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        self.flac.encode(pcm, &mut |packet| self.pager.add(packet, packet.frames.into(), sink))
    }

    fn skip_to(&mut self, first_frame: u64, sink: &mut Sink<'_>) -> u64 {
        self.pager.flush(sink);
        self.flac.skip_to(first_frame, sink)
    }

    fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        self.flac.finish(&mut |packet| self.pager.add(packet, packet.frames.into(), sink))?;
        self.pager.finish(sink);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.flac.is_full()
    }
}

/// The samples of one block that may become a subframe: those of a channel, or the mean or difference of two.
struct Plane {
    samples: Vec<i32>,
    /// Bits at the lower end that are 0 in all samples of the block and were shifted out.
    wasted: u32,
    /// Bits of a sample without those.
    bits: u32,
    sums: OrderSums,
}

/// Planes of stereo.
const LEFT: usize = 0;
const RIGHT: usize = 1;
const MID: usize = 2;
const SIDE: usize = 3;

/// The part of PCM that a frame without sound takes.
#[derive(Clone, Copy)]
enum Silence {
    Quarter = 4,
    /// For Chromium, whose decoder gets 32 KiB at a time: a block of silence comes as soon as one of sound, about.
    Half = 2,
}

/// The encoder of single FLAC frames and the buffers that it reuses.
struct FrameEncoder {
    format: StreamFormat,
    silence: Silence,
    /// Bits of a coded sample.
    bits: u32,
    /// The next frame's number.
    number: u32,
    /// One for each channel; of stereo also mid and side.
    planes: Vec<Plane>,
    /// The plane of each subframe.
    chosen: [usize; MOST_CHANNELS as usize],
    /// One for each channel.
    subframes: Vec<Subframe>,
    out: BitWriter,
}

impl FrameEncoder {
    fn new(format: StreamFormat) -> Self {
        let channels = usize::from(format.channels);
        let planes = if channels == 2 { 4 } else { channels };
        let plane = || Plane {
            samples: Vec::with_capacity(BLOCK_FRAMES),
            wasted: 0,
            bits: 0,
            sums: OrderSums::default(),
        };
        let mut encoder = FrameEncoder {
            format,
            silence: Silence::Quarter,
            bits: coded_bits(format.sample),
            number: 0,
            planes: (0..planes).map(|_| plane()).collect(),
            chosen: [0; MOST_CHANNELS as usize],
            subframes: (0..channels).map(|_| Subframe::with_capacity(BLOCK_FRAMES)).collect(),
            out: BitWriter::with_capacity(0),
        };
        encoder.out = BitWriter::with_capacity(encoder.max_bytes());
        encoder
    }

    /// Upper bound of a frame's bytes: no subframe is longer than its samples.
    fn max_bytes(&self) -> usize {
        // The difference of two channels has one bit more. A subframe begins with a byte, and the frame ends
        // with up to 7 bits of padding and the CRC-16.
        let channels = usize::from(self.format.channels);
        let bits = channels * (8 + BLOCK_FRAMES * self.bits as usize) + BLOCK_FRAMES;
        MOST_FRAME_HEADER_BYTES + bits.div_ceil(8) + 2
    }

    /// Encodes one block. Returns `None` when there is no number left.
    fn encode(&mut self, block: &[u8]) -> Option<&[u8]> {
        if self.number >= NUMBERS {
            return None;
        }
        let channels = usize::from(self.format.channels);
        let frames = block.len() / self.format.frame_bytes();
        self.load(block);
        self.shift_out_zeros();
        let mut assignment = if channels == 2 { self.decorrelate() } else { self.keep_channels() };
        let verbatim = (frames * channels) as u64 * u64::from(self.bits);
        let mut cost = self.plan();
        if cost >= verbatim && channels == 2 {
            // Noise of full scale: side has a bit more than a channel.
            assignment = 1;
            self.chosen[..2].copy_from_slice(&[LEFT, RIGHT]);
            cost = self.plan();
        }
        // Less than an eighth of PCM: silence. Noise of one unit up or down has 13 %, which is enough for
        // players.
        if cost < verbatim / 8 {
            let parameter = self.bits as u8 / self.silence as u8 - 1;
            for (subframe, plane) in self.subframes.iter_mut().zip(self.chosen) {
                subframe.raise(&self.planes[plane].samples, parameter);
            }
        }

        let (header, length) = self.frame_header(frames, assignment);
        self.number += 1;
        self.out.start(&header[..length]);
        for (subframe, plane) in self.subframes.iter().zip(self.chosen) {
            let plane = &self.planes[plane];
            subframe.write(&plane.samples, plane.wasted, &mut self.out);
        }
        Some(self.out.finish())
    }

    /// Fills the planes of the channels.
    fn load(&mut self, block: &[u8]) {
        fn fill<const N: usize>(planes: &mut [Plane], block: &[u8], read: impl Fn([u8; N]) -> i32) {
            let frame_bytes = N * planes.len();
            for (channel, plane) in planes.iter_mut().enumerate() {
                plane.samples.clear();
                plane.samples.extend(block.chunks_exact(frame_bytes).map(|frame| {
                    let mut sample = [0; N];
                    sample.copy_from_slice(&frame[N * channel..N * channel + N]);
                    read(sample)
                }));
            }
        }
        let planes = &mut self.planes[..usize::from(self.format.channels)];
        match self.format.sample {
            SampleFormat::S16 => fill(planes, block, |bytes| i16::from_le_bytes(bytes).into()),
            SampleFormat::S24 => fill(planes, block, |[a, b, c]| i32::from_le_bytes([0, a, b, c]) >> 8),
            SampleFormat::S32 => fill(planes, block, |bytes| i32::from_le_bytes(bytes) >> 8),
        }
    }

    /// Shifts the samples right by as many bits as are 0 at the lower end of all of them. 16-bit sound in a
    /// 24-bit stream has 8 such bits.
    fn shift_out_zeros(&mut self) {
        let channels = &mut self.planes[..usize::from(self.format.channels)];
        let used =
            channels.iter().flat_map(|plane| plane.samples.iter()).fold(0, |used, sample| used | sample);
        // All zeros are a constant, which has no use for this.
        let wasted = if used == 0 { 0 } else { used.trailing_zeros() };
        for plane in channels {
            plane.wasted = wasted;
            plane.bits = self.bits - wasted;
            if wasted > 0 {
                plane.samples.iter_mut().for_each(|sample| *sample >>= wasted);
            }
        }
    }

    /// Chooses every channel as it is; returns FLAC's code for that.
    fn keep_channels(&mut self) -> u8 {
        for (n, plane) in self.planes.iter_mut().enumerate() {
            plane.sums = OrderSums::of(&plane.samples, plane.bits);
            self.chosen[n] = n;
        }
        self.planes.len() as u8 - 1
    }

    /// Fills mid and side of stereo and chooses two of the four planes; returns FLAC's code for the choice.
    fn decorrelate(&mut self) -> u8 {
        let [left, right, mid, side] = &mut self.planes[..] else { return self.keep_channels() };
        // Decoders restore the wasted bits before they undo mid and side. So with wasted bits the mean of two
        // samples has one bit more, and without them the decoder takes that bit from side.
        let halve = u32::from(left.wasted == 0);
        (mid.wasted, mid.bits) = (left.wasted - (1 - halve), left.bits + (1 - halve));
        (side.wasted, side.bits) = (left.wasted, left.bits + 1);
        let pairs = || left.samples.iter().zip(&right.samples);
        mid.samples.clear();
        mid.samples.extend(pairs().map(|(left, right)| (left + right) >> halve));
        side.samples.clear();
        side.samples.extend(pairs().map(|(left, right)| left - right));
        for plane in &mut self.planes {
            plane.sums = OrderSums::of(&plane.samples, plane.bits);
        }
        // A sample takes about the logarithm of the mean residual in bits, so the least product takes the
        // fewest. The half keeps a silent plane from making the other one irrelevant.
        let weight = |plane: usize| {
            let plane = &self.planes[plane];
            plane.sums.least() as f64 + 0.5 * plane.samples.len() as f64
        };
        let choices = [(1, LEFT, RIGHT), (8, LEFT, SIDE), (9, SIDE, RIGHT), (10, MID, SIDE)];
        let (mut best, mut least) = (choices[0], f64::INFINITY);
        for choice in choices {
            let product = weight(choice.1) * weight(choice.2);
            if product < least {
                (best, least) = (choice, product);
            }
        }
        self.chosen[..2].copy_from_slice(&[best.1, best.2]);
        best.0
    }

    /// Plans the subframes of the chosen planes and returns about the bits that they will take.
    fn plan(&mut self) -> u64 {
        let mut cost = 0;
        for (subframe, plane) in self.subframes.iter_mut().zip(self.chosen) {
            let plane = &self.planes[plane];
            subframe.plan(&plane.samples, plane.bits, &plane.sums);
            cost += subframe.cost();
        }
        cost
    }

    /// Returns the header of a frame (RFC 9639, section 9.1), and its length in bytes.
    fn frame_header(&self, frames: usize, assignment: u8) -> ([u8; MOST_FRAME_HEADER_BYTES], usize) {
        let mut header = [0; MOST_FRAME_HEADER_BYTES];
        let mut length = 0;
        let mut put = |bytes: &[u8]| {
            header[length..length + bytes.len()].copy_from_slice(bytes);
            length += bytes.len();
        };
        let (rate_code, rate_bytes) = rate_code(self.format.rate);
        // 1152 has a code of its own; 7: a 16-bit number follows.
        let block_code = if frames == BLOCK_FRAMES { 3 } else { 7 };
        let bits_code = if self.bits == 16 { 4 } else { 6 };
        put(&[0xff, 0xf8, block_code << 4 | rate_code, assignment << 4 | bits_code << 1]);
        let (number, number_length) = coded_number(self.number);
        put(&number[..number_length]);
        if block_code == 7 {
            put(&(frames as u16 - 1).to_be_bytes());
        }
        match rate_code {
            12 => put(&rate_bytes[1..]),
            13 | 14 => put(&rate_bytes),
            _ => {}
        }
        let crc = crc8(&header[..length]);
        header[length] = crc;
        (header, length + 1)
    }
}

/// Returns the 4-bit code of a rate, and the number that follows where the code is 12 (kHz, one byte), 13
/// (Hz) or 14 (tens of Hz). With code 0, decoders take the rate from STREAMINFO.
fn rate_code(rate: u32) -> (u8, [u8; 2]) {
    let code = match rate {
        88_200 => 1,
        176_400 => 2,
        192_000 => 3,
        8_000 => 4,
        16_000 => 5,
        22_050 => 6,
        24_000 => 7,
        32_000 => 8,
        44_100 => 9,
        48_000 => 10,
        96_000 => 11,
        _ if rate % 1000 == 0 && rate / 1000 <= 0xff => return (12, [0, (rate / 1000) as u8]),
        _ if rate <= 0xffff => return (13, (rate as u16).to_be_bytes()),
        _ if rate % 10 == 0 && rate / 10 <= 0xffff => return (14, ((rate / 10) as u16).to_be_bytes()),
        _ => 0,
    };
    (code, [0, 0])
}

/// Returns a number below 2^31 as UTF-8 would code it, and the length in bytes.
fn coded_number(number: u32) -> ([u8; 6], usize) {
    let length = match number {
        0..=0x7f => return ([number as u8, 0, 0, 0, 0, 0], 1),
        0x80..=0x7ff => 2,
        0x800..=0xffff => 3,
        0x1_0000..=0x1f_ffff => 4,
        0x20_0000..=0x3ff_ffff => 5,
        _ => 6,
    };
    let mut bytes = [0; 6];
    for (n, byte) in bytes[..length].iter_mut().enumerate() {
        *byte = 0x80 | (number >> (6 * (length - 1 - n)) & 0x3f) as u8;
    }
    // As many ones as bytes, then a zero, then what is left of the number.
    bytes[0] = !(0xff >> length) | (number >> (6 * (length - 1))) as u8;
    (bytes, length)
}
