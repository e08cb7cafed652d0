//! MP3 frames by libmp3lame: constant bit rate, each frame decodable by itself.
//!
//! Frames come out one or two blocks after their sound went in, and what is decoded is 1105 samples behind
//! what was encoded (about 25 ms), both by the nature of the codec.

use std::collections::VecDeque;

use super::codec::Codec;
use super::encoder::{EncodeError, Encoder, OpenError, Packet, Sink};
use super::intake::Intake;
use crate::encode::downmix;
use crate::media::format::StreamFormat;
use crate::sys::lame::{Lame, LameError};

/// The rates of MPEG-2.5, MPEG-2 and MPEG-1, in Hz.
const RATES: [u32; 9] = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];
/// The lowest rate of MPEG-1, in Hz.
const LOWEST_OF_MPEG_1: u32 = 32_000;
/// The lowest rate of MPEG-2, in Hz. MPEG-2.5 is below.
const LOWEST_OF_MPEG_2: u32 = 16_000;

/// The most blocks that LAME holds back.
const MOST_DELAYED: usize = 8;

/// An encoder of MP3.
pub struct Mp3Encoder {
    lame: Lame,
    intake: Intake,
    frames: Frames,
    settings: Settings,
}

/// The settings of an MP3 stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Frames a second.
    pub rate: u32,
    /// Bit rate in kbit/s.
    pub bitrate: u32,
}

impl Settings {
    /// Returns the settings that are nearest to an input's rate and a wanted bit rate, which is one of
    /// [`Codec::bitrates`].
    ///
    /// The rate is the input's, if MP3 has it. Otherwise it is 44.1 kHz for multiples of it, and else the
    /// next higher one, at most 48 kHz. Below 32 kbit/s, half of the rate is used. Below 32 kHz there are at
    /// most 160 kbit/s; below 16 kHz, at most 64.
    pub fn nearest(input_rate: u32, bitrate: u32) -> Settings {
        let next = RATES.into_iter().find(|rate| *rate >= input_rate).unwrap_or(48_000);
        let mut rate = if input_rate > 48_000 && input_rate % 44_100 == 0 { 44_100 } else { next };
        if bitrate < 32 && rate >= LOWEST_OF_MPEG_1 {
            rate /= 2;
        }
        let most = match rate {
            LOWEST_OF_MPEG_1.. => 320,
            LOWEST_OF_MPEG_2.. => 160,
            _ => 64,
        };
        Settings { rate, bitrate: bitrate.min(most) }
    }

    /// Frames in an MP3 frame.
    pub const fn frame_length(self) -> usize {
        if self.rate >= LOWEST_OF_MPEG_1 { 1152 } else { 576 }
    }

    /// Bytes of a frame without padding.
    const fn frame_bytes(self) -> usize {
        self.frame_length() / 8 * self.bitrate as usize * 1000 / self.rate as usize
    }
}

impl Mp3Encoder {
    /// Returns an encoder for PCM of `format` whose first frame has the position `first_frame`. `bitrate` is
    /// in kbit/s; [`Settings::nearest`] says what is used instead where MP3 does not have it.
    ///
    /// # Errors
    ///
    /// libmp3lame is missing or refuses the settings.
    pub fn new(format: StreamFormat, bitrate: u32, first_frame: u64) -> Result<Self, OpenError> {
        if format.rate == 0 || format.channels == 0 {
            return Err(OpenError::Rate(format.rate));
        }
        let settings = Settings::nearest(format.rate, bitrate);
        let lame = Lame::new(settings.rate, downmix::channels(format), settings.bitrate);
        Ok(Mp3Encoder {
            lame: lame.map_err(|error| match error {
                LameError::Missing(missing) => OpenError::Library(missing),
                LameError::Refused(error) => OpenError::Refused(Codec::Mp3, error),
            })?,
            intake: Intake::new(format, settings.rate, settings.frame_length(), first_frame),
            frames: Frames {
                settings,
                bytes: Vec::with_capacity(MOST_DELAYED * (settings.frame_bytes() + 1)),
                delayed: VecDeque::with_capacity(MOST_DELAYED),
                end: first_frame,
            },
            settings,
        })
    }

    /// The rate and bit rate of the stream.
    pub fn settings(&self) -> Settings {
        self.settings
    }
}

impl Encoder for Mp3Encoder {
    /// Empty: every frame says all that is needed.
    fn header(&self) -> &[u8] {
        &[]
    }

    fn max_packet_bytes(&self) -> usize {
        self.settings.frame_bytes() + 1
    }

    fn max_packet_frames(&self) -> u32 {
        self.intake.max_block_frames()
    }

    fn encode(&mut self, pcm: &[u8], sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        let Mp3Encoder { lame, intake, frames, .. } = self;
        intake.feed(pcm, |block| {
            frames.expect(block.first_frame, block.frames);
            frames.emit(lame.encode(block.samples).map_err(EncodeError)?, sink);
            Ok(())
        })
    }

    fn skip_to(&mut self, first_frame: u64, _: &mut Sink<'_>) -> u64 {
        self.intake.skip_to(first_frame)
    }

    /// Fills the last frame with silence and emits what LAME holds back. The last frames cover no frames of
    /// the input.
    fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        let Mp3Encoder { lame, intake, frames, .. } = self;
        intake.pad(intake.received_at_codec_rate(), |block| {
            frames.expect(block.first_frame, block.frames);
            frames.emit(lame.encode(block.samples).map_err(EncodeError)?, sink);
            Ok::<(), EncodeError>(())
        })?;
        frames.emit(lame.flush().map_err(EncodeError)?, sink);
        Ok(())
    }
}

/// LAME's output, cut into frames that get their positions back.
struct Frames {
    settings: Settings,
    /// The start of an incomplete frame.
    bytes: Vec<u8>,
    /// Position and length, in frames of the input, of the blocks whose MP3 frames are not out yet. Each
    /// block makes one MP3 frame.
    delayed: VecDeque<(u64, u32)>,
    /// Position behind the last block.
    end: u64,
}

impl Frames {
    /// Notes the position of a block that is about to be encoded.
    fn expect(&mut self, first_frame: u64, frames: u32) {
        self.delayed.push_back((first_frame, frames));
        self.end = first_frame + u64::from(frames);
    }

    /// Adds bytes and emits the complete frames.
    fn emit(&mut self, bytes: &[u8], sink: &mut Sink<'_>) {
        self.bytes.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(header) = self.bytes.get(start..start + 4) {
            // CBR: frames differ by the padding byte alone.
            let length = self.settings.frame_bytes() + usize::from(header[2] >> 1 & 1);
            let Some(bytes) = self.bytes.get(start..start + length) else { break };
            let (first_frame, frames) = self.delayed.pop_front().unwrap_or((self.end, 0));
            sink(Packet { first_frame, frames, bytes });
            start += length;
        }
        self.bytes.drain(..start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_bit_rates_are_those_that_mp3_has() {
        let nearest = |rate, bitrate| {
            let Settings { rate, bitrate } = Settings::nearest(rate, bitrate);
            (rate, bitrate)
        };
        for rate in RATES {
            assert_eq!(nearest(rate, 64), (rate, 64));
        }
        assert_eq!(nearest(96_000, 128), (48_000, 128));
        assert_eq!(nearest(192_000, 128), (48_000, 128));
        assert_eq!(nearest(88_200, 320), (44_100, 320));
        assert_eq!(nearest(176_400, 128), (44_100, 128));
        assert_eq!(nearest(64_000, 128), (48_000, 128));
        assert_eq!(nearest(37_800, 128), (44_100, 128));
        assert_eq!(nearest(5_512, 128), (8_000, 64));
        assert_eq!(nearest(16_000, 320), (16_000, 160));
        // Broadcastify asks for these.
        assert_eq!(nearest(44_100, 16), (22_050, 16));
        assert_eq!(nearest(8_000, 16), (8_000, 16));
    }

    #[test]
    fn lame_takes_every_setting() {
        for rate in RATES.into_iter().chain([5_512, 37_800, 88_200, 96_000, 192_000]) {
            for channels in [1, 2, 6] {
                for bitrate in Codec::Mp3.bitrates() {
                    let sample = crate::media::format::SampleFormat::S16;
                    let format = StreamFormat { rate, channels, sample };
                    let mut encoder = match Mp3Encoder::new(format, *bitrate, 0) {
                        Err(OpenError::Library(missing)) => return println!("not tested: {missing}"),
                        other => other.expect("settings that LAME takes"),
                    };
                    let mut next = 0;
                    let most = (encoder.max_packet_bytes(), encoder.max_packet_frames());
                    let expected = encoder.settings();
                    let pcm = vec![1; format.frame_bytes() * rate as usize / 4];
                    let mut sink = |packet: Packet<'_>| {
                        let bytes = packet.bytes;
                        assert_eq!((bytes[0], bytes[1] & 0xe0), (0xff, 0xe0), "sync");
                        assert_eq!(bitrate_of(bytes), expected.bitrate, "{rate} Hz, {bitrate} kbit/s");
                        assert!(bytes.len() <= most.0 && packet.frames <= most.1);
                        assert_eq!(packet.first_frame, next);
                        next += u64::from(packet.frames);
                    };
                    encoder.encode(&pcm, &mut sink).expect("no error");
                    encoder.finish(&mut sink).expect("no error");
                    assert!(next >= u64::from(rate / 4), "{rate} Hz, {bitrate} kbit/s: {next} frames");
                }
            }
        }
    }

    fn bitrate_of(header: &[u8]) -> u32 {
        let index = usize::from(header[2] >> 4);
        if header[1] >> 3 & 3 == 3 {
            [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0][index]
        } else {
            [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0][index]
        }
    }
}
