//! The WAV header of endless streams and of files.
//!
//! Every rate, width and number of channels gets the plain header of 44 bytes: with WAVE_FORMAT_EXTENSIBLE some players
//! change the level of mono, and every player that was tried takes 24 and 32 bits without it. The layout is that of Microsoft's and IBM's *Multimedia Programming Interface and Data Specifications 1.0*.

use crate::media::format::StreamFormat;

/// Bytes of the header, before the first frame.
pub const HEADER_BYTES: usize = 44;

/// Bytes of the header that the RIFF size counts: all but the first 8.
const COUNTED_BY_RIFF: u32 = HEADER_BYTES as u32 - 8;

/// The most bytes of sound that a header can announce. An even number: the RIFF size has room for a pad byte after less.
pub const MAX_DATA_BYTES: u64 = ((u32::MAX - COUNTED_BY_RIFF) & !1) as u64;

/// Returns the number of pad bytes, 0 or 1, after `data` bytes of sound in a file: a RIFF chunk of an odd size is followed
/// by one zero byte, which the RIFF size counts and the chunk's own size does not.
pub const fn pad_bytes(data: u64) -> u64 {
    data % 2
}

/// The values of the RIFF size and the data size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// 0xFFFFFFFF in both: the size is unknown. Most players go on beyond 4 GiB.
    Unknown,
    /// 0 in both: for GStreamer, which stops after 2 GiB with any other value.
    Zero,
    /// The largest whole number of frames: for Firefox, which refuses 0, and which would start again in the middle of
    /// a frame after 0xFFFFFFFF bytes.
    LargestWhole,
    /// A number of bytes of sound, for a file.
    Data(u32),
}

impl Sizes {
    /// Returns the number of bytes of sound that the header announces; `None` if it announces none.
    pub fn data_bytes(self, format: StreamFormat) -> Option<u32> {
        match self {
            Sizes::Unknown | Sizes::Zero => None,
            Sizes::LargestWhole => {
                // An even number, because an endless stream sends no pad byte.
                let frame_bytes = format.frame_bytes() as u32;
                let unit = frame_bytes * (1 + frame_bytes % 2);
                Some(MAX_DATA_BYTES as u32 / unit * unit)
            }
            Sizes::Data(data) => Some(data),
        }
    }
}

/// Returns the header of a stream. A file of an odd size ends with [`pad_bytes`] zero bytes, which the RIFF size counts.
pub fn header(format: StreamFormat, sizes: Sizes) -> [u8; HEADER_BYTES] {
    let frame_bytes = format.frame_bytes() as u32;
    let (riff, data) = match sizes.data_bytes(format) {
        Some(data) => (data.saturating_add(COUNTED_BY_RIFF + pad_bytes(data.into()) as u32), data),
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
    fn an_endless_cd_stream_has_this_header() {
        let expected = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x02\0\x44\xac\0\0\x10\xb1\x02\0\x04\0\x10\0data\xff\xff\xff\xff";
        assert_eq!(&header(CD, Sizes::Unknown), expected);
    }

    #[test]
    fn a_file_has_its_true_sizes() {
        let header = header(CD, Sizes::Data(176_400));
        assert_eq!((field(&header, 4), field(&header, 40)), (176_436, 176_400));
    }

    #[test]
    fn an_odd_data_size_is_padded_and_the_riff_size_counts_the_pad_byte() {
        for (data, pad) in [(0, 0), (1, 1), (33_075, 1), (33_076, 0), (MAX_DATA_BYTES, 0)] {
            assert_eq!(pad_bytes(data), pad, "{data}");
        }
        let format = StreamFormat { rate: 11_025, channels: 1, sample: SampleFormat::S24 };
        let header = header(format, Sizes::Data(33_075));
        assert_eq!((field(&header, 4), field(&header, 40)), (36 + 33_075 + 1, 33_075));
    }

    #[test]
    fn the_largest_size_is_whole_frames_and_both_fields_fit() {
        for channels in 1..=32 {
            for sample in SampleFormat::ALL {
                let format = StreamFormat { rate: 48_000, channels, sample };
                let header = header(format, Sizes::LargestWhole);
                let (riff, data) = (field(&header, 4), field(&header, 40));
                assert_eq!((data % format.frame_bytes() as u32, data % 2), (0, 0));
                assert_eq!(riff - data, 36);
                assert!(u64::from(data) + 2 * format.frame_bytes() as u64 > MAX_DATA_BYTES);
            }
        }
    }

    #[test]
    fn gstreamer_gets_sizes_of_zero() {
        let header = header(CD, Sizes::Zero);
        assert_eq!((field(&header, 4), field(&header, 40)), (0, 0));
    }
}
