//! The WAV header, for endless and for finite streams.
//!
//! Always the plain 44 bytes, for every rate, width and number of channels: with WAVE_FORMAT_EXTENSIBLE some
//! players change the level of mono, and every player that was tried takes 24 and 32 bits without it. The
//! layout is that of Microsoft's and IBM's *Multimedia Programming Interface and Data Specifications 1.0*.

use crate::media::format::StreamFormat;

/// Bytes before the first frame.
pub const HEADER_BYTES: usize = 44;

/// Of those, what the RIFF size counts: all but the first 8.
const COUNTED_BY_RIFF: u32 = HEADER_BYTES as u32 - 8;

/// The most bytes of sound that a finite file can say it has.
pub const MOST_DATA_BYTES: u64 = (u32::MAX - COUNTED_BY_RIFF) as u64;

/// Returns the number of pad bytes after so many bytes of sound: a RIFF chunk takes an even number of bytes.
pub const fn pad_bytes(data: u64) -> u64 {
    data % 2
}

/// What the two size fields say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// 0xFFFFFFFF in both: unknown, read on. Most players go on beyond 4 GiB.
    Unknown,
    /// 0 in both, for GStreamer, which stops at 2 GiB of anything else.
    Zero,
    /// The largest whole number of frames, for Firefox, which refuses 0 and, at the end of 0xFFFFFFFF,
    /// would start over in the middle of a frame.
    LargestWhole,
    /// This number of bytes of sound: a file.
    Data(u32),
}

impl Sizes {
    /// How many bytes of sound these say there are; `None` when they leave it open.
    pub fn data_bytes(self, format: StreamFormat) -> Option<u32> {
        let frame_bytes = format.frame_bytes() as u32;
        match self {
            Sizes::Unknown | Sizes::Zero => None,
            Sizes::LargestWhole => Some(MOST_DATA_BYTES as u32 / frame_bytes * frame_bytes),
            Sizes::Data(data) => Some(data),
        }
    }
}

/// The header of a stream.
pub fn header(format: StreamFormat, sizes: Sizes) -> [u8; HEADER_BYTES] {
    let frame_bytes = format.frame_bytes() as u32;
    let (riff, data) = match sizes.data_bytes(format) {
        Some(data) => {
            (data.saturating_add(COUNTED_BY_RIFF).saturating_add(pad_bytes(data.into()) as u32), data)
        }
        None if sizes == Sizes::Zero => (0, 0),
        None => (u32::MAX, u32::MAX),
    };
    let mut header = [0; HEADER_BYTES];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        header[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(b"RIFF");
    put(&riff.to_le_bytes());
    put(b"WAVEfmt ");
    put(&16u32.to_le_bytes());
    put(&1u16.to_le_bytes()); // WAVE_FORMAT_PCM
    put(&format.channels.to_le_bytes());
    put(&format.rate.to_le_bytes());
    put(&(format.bytes_per_second() as u32).to_le_bytes());
    put(&(frame_bytes as u16).to_le_bytes());
    put(&format.sample.bits().to_le_bytes());
    put(b"data");
    put(&data.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::format::SampleFormat;

    const CD: StreamFormat = StreamFormat { rate: 44_100, channels: 2, sample: SampleFormat::S16 };

    fn field(header: &[u8], at: usize) -> u32 {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    }

    #[test]
    fn it_is_the_header_of_a_cd() {
        let expected = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x02\0\x44\xac\0\0\x10\xb1\x02\0\x04\0\x10\0data\xff\xff\xff\xff";
        assert_eq!(&header(CD, Sizes::Unknown), expected);
    }

    #[test]
    fn a_file_has_true_sizes() {
        let header = header(CD, Sizes::Data(176_400));
        assert_eq!((field(&header, 4), field(&header, 40)), (176_436, 176_400));
    }

    #[test]
    fn the_largest_size_ends_with_a_frame_and_both_fields_fit() {
        for channels in 1..=32 {
            for sample in SampleFormat::ALL {
                let format = StreamFormat { rate: 48_000, channels, sample };
                let header = header(format, Sizes::LargestWhole);
                let (riff, data) = (field(&header, 4), field(&header, 40));
                assert_eq!(data % format.frame_bytes() as u32, 0);
                assert_eq!(riff - data, 36);
                assert!(u64::from(data) + format.frame_bytes() as u64 > MOST_DATA_BYTES);
            }
        }
    }

    #[test]
    fn gstreamer_gets_zeros() {
        let header = header(CD, Sizes::Zero);
        assert_eq!((field(&header, 4), field(&header, 40)), (0, 0));
    }
}
