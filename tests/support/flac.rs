//! A reader of FLAC streams: the decoder that the encoder's own tests use, which refuses everything that is not exactly as
//! RFC 9639 wants it.

/// The checksums as RFC 9639 describes them, bit by bit: not the tables of the encoder.
mod bits {
    pub(super) fn crc8(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |crc, byte| {
            (0..8).fold(crc ^ byte, |crc, _| if crc >> 7 == 1 { crc << 1 ^ 0x07 } else { crc << 1 })
        })
    }

    pub(super) fn crc16(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0, |crc, byte| {
            (0..8).fold(crc ^ u16::from(*byte) << 8, |crc: u16, _| {
                if crc >> 15 == 1 { crc << 1 ^ 0x8005 } else { crc << 1 }
            })
        })
    }
}
#[path = "../../src/encode/flac/decode.rs"]
#[allow(unreachable_pub, missing_docs)]
mod decode;

/// The error of [`decode::frame`] for the start of a frame whose end has not arrived.
const CUT_OFF: &str = "the frame is cut off";

/// The content of STREAMINFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamInfo {
    pub(crate) block_frames: u16,
    /// In Hz.
    pub(crate) rate: u32,
    pub(crate) channels: u16,
    /// The bits of a sample: 16 or 24.
    pub(crate) bits: u32,
    /// The number of frames of the whole stream; 0 if it is unknown.
    pub(crate) total: u64,
    /// The checksum of the samples; zeros if it is unknown.
    pub(crate) md5: [u8; 16],
}

/// A reader of a stream that arrives in pieces.
#[derive(Default)]
pub(crate) struct FlacReader {
    rest: Vec<u8>,
    /// The content of the header, once it has arrived.
    pub(crate) info: Option<StreamInfo>,
    /// The numbers of the packets until now.
    pub(crate) numbers: Vec<u32>,
}

impl FlacReader {
    /// Returns a reader of packets without a header.
    pub(crate) fn without_header(info: StreamInfo) -> FlacReader {
        FlacReader { info: Some(info), ..FlacReader::default() }
    }

    /// Returns the PCM of the packets that are complete now: little-endian samples, interleaved, of 2 or 3 bytes.
    ///
    /// # Panics
    ///
    /// If the stream is not one that this project's encoder may write.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(bytes);
        let mut pcm = Vec::new();
        let Some(info) = self.info.or_else(|| self.header()) else { return pcm };
        let mut at = 0;
        loop {
            match decode::frame(&self.rest[at..], info.bits) {
                Ok(frame) => {
                    assert_eq!(frame.channels.len(), usize::from(info.channels));
                    let samples = usize::try_from(info.bits / 8).expect("2 or 3");
                    for n in 0..frame.channels[0].len() {
                        for channel in &frame.channels {
                            pcm.extend_from_slice(&channel[n].to_le_bytes()[..samples]);
                        }
                    }
                    self.numbers.push(frame.number);
                    at += frame.bytes;
                }
                Err(CUT_OFF) => break,
                Err(why) => panic!("packet {} at byte {at}: {why}", self.numbers.len()),
            }
        }
        self.rest.drain(..at);
        pcm
    }

    /// Returns the bytes of a packet that is not complete.
    pub(crate) fn rest(&self) -> usize {
        self.rest.len()
    }

    fn header(&mut self) -> Option<StreamInfo> {
        let mut at = 4;
        loop {
            let [flag_and_type, a, b, c] = *self.rest.get(at..at + 4)? else { unreachable!("four bytes") };
            at += 4 + u32::from_be_bytes([0, a, b, c]) as usize;
            if flag_and_type & 0x80 != 0 {
                break;
            }
        }
        if self.rest.len() < at {
            return None;
        }
        let header: Vec<u8> = self.rest.drain(..at).collect();
        assert_eq!(&header[..4], b"fLaC");
        assert_eq!(header[4] & 0x7f, 0, "STREAMINFO comes first");
        let body = &header[8..8 + 34];
        let word = u64::from_be_bytes(body[10..18].try_into().expect("eight bytes"));
        let block = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        assert_eq!(block(0), block(2), "all blocks are of one size");
        let info = StreamInfo {
            block_frames: block(0),
            rate: (word >> 44) as u32,
            channels: (word >> 41 & 7) as u16 + 1,
            bits: (word >> 36 & 31) as u32 + 1,
            total: word & ((1 << 36) - 1),
            md5: body[18..34].try_into().expect("sixteen bytes"),
        };
        self.info = Some(info);
        Some(info)
    }
}
