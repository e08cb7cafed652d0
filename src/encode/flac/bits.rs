//! Bits into bytes, most significant first, and FLAC's two checksums (RFC 9639, sections 9.1.8 and 9.3).

/// A writer of bits with a reusable buffer.
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// The lowest `held` bits are not in `bytes` yet; those above have no meaning.
    accumulator: u64,
    /// The number of bits in `accumulator`, below 32 between calls.
    held: u32,
}

impl BitWriter {
    /// Returns an empty writer that does not allocate for up to `bytes` bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        // The last flush writes four bytes of which some are cut off again.
        BitWriter { bytes: Vec::with_capacity(bytes + 4), accumulator: 0, held: 0 }
    }

    /// Starts over with these bytes.
    pub(super) fn start(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.held = 0;
    }

    /// Writes the lowest `count` bits of `value`, up to 32. Bits of `value` above them must be 0.
    #[inline(always)]
    pub(super) fn put(&mut self, value: u32, count: u32) {
        debug_assert!(count <= 32 && u64::from(value) >> count == 0, "{value} in {count} bits");
        self.accumulator = self.accumulator << count | u64::from(value);
        self.held += count;
        if self.held >= 32 {
            self.held -= 32;
            self.bytes.extend_from_slice(&((self.accumulator >> self.held) as u32).to_be_bytes());
        }
    }

    /// Writes a signed value in two's complement of `count` bits, 1 to 32.
    pub(super) fn put_signed(&mut self, value: i32, count: u32) {
        self.put(value as u32 & (u32::MAX >> (32 - count)), count);
    }

    /// Writes `zeros` bits of 0 and a 1.
    pub(super) fn put_unary(&mut self, mut zeros: u32) {
        while zeros >= 32 {
            self.put(0, 32);
            zeros -= 32;
        }
        self.put(1, zeros + 1);
    }

    /// Writes a Rice code: `value >> parameter` in unary, then the lowest `parameter` bits. `parameter` is at
    /// most 30.
    #[inline(always)]
    pub(super) fn put_rice(&mut self, value: u32, parameter: u32) {
        let quotient = value >> parameter;
        let low = value & ((1 << parameter) - 1);
        if quotient + 1 + parameter <= 32 {
            self.put(1 << parameter | low, quotient + 1 + parameter);
        } else {
            self.put_unary(quotient);
            self.put(low, parameter);
        }
    }

    /// Fills the last byte with zeros, appends the CRC-16 of everything, and returns all bytes.
    pub(super) fn finish(&mut self) -> &[u8] {
        let padding = self.held.wrapping_neg() % 8;
        self.accumulator <<= padding;
        self.held += padding;
        let last = ((self.accumulator << (32 - self.held)) as u32).to_be_bytes();
        self.bytes.extend_from_slice(&last[..self.held as usize / 8]);
        self.held = 0;
        let crc = crc16(&self.bytes);
        self.bytes.extend_from_slice(&crc.to_be_bytes());
        &self.bytes
    }
}

/// Returns the CRC-8 with the polynomial x^8 + x^2 + x + 1, begun with 0.
pub(super) fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc: u8, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 == 0 { crc << 1 } else { crc << 1 ^ 0x07 })
    })
}

/// Returns the CRC-16 with the polynomial x^16 + x^15 + x^2 + 1, begun with 0.
///
/// Eight bytes in each turn: a byte by itself would cost as much as all else that is done with it.
pub(super) fn crc16(mut bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    while let Some(([c, d, e, f, g, h, i, j], rest)) = bytes.split_first_chunk::<8>() {
        let [a, b] = crc.to_be_bytes();
        crc = CRC16[7][usize::from(a ^ c)]
            ^ CRC16[6][usize::from(b ^ d)]
            ^ CRC16[5][usize::from(*e)]
            ^ CRC16[4][usize::from(*f)]
            ^ CRC16[3][usize::from(*g)]
            ^ CRC16[2][usize::from(*h)]
            ^ CRC16[1][usize::from(*i)]
            ^ CRC16[0][usize::from(*j)];
        bytes = rest;
    }
    bytes.iter().fold(crc, |crc, byte| crc << 8 ^ CRC16[0][usize::from((crc >> 8) as u8 ^ byte)])
}

/// `CRC16[n][byte]` is the CRC-16 of `byte` and `n` zeros behind it.
static CRC16: [[u16; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 64 {
            if bit % 8 == 0 && bit > 0 {
                tables[bit / 8 - 1][byte] = crc;
            }
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x8005 };
            bit += 1;
        }
        tables[7][byte] = crc;
        byte += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_catalogue() {
        // CRC-8/SMBUS and CRC-16/UMTS of the usual check string.
        assert_eq!(crc8(b"123456789"), 0xf4);
        assert_eq!(crc16(b"123456789"), 0xfee8);
    }

    #[test]
    fn crc16_is_the_same_for_every_length_byte_by_byte() {
        let bytes: Vec<u8> = (0..100u8).map(|n| n.wrapping_mul(37) ^ 0x5a).collect();
        for length in 0..bytes.len() {
            let slow = bytes[..length].iter().fold(0u16, |crc, byte| {
                (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
                    if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x8005 }
                })
            });
            assert_eq!(crc16(&bytes[..length]), slow, "{length} bytes");
        }
    }

    #[test]
    fn bits_come_out_in_their_order() {
        let mut bits = BitWriter::with_capacity(64);
        bits.start(&[0xaa]);
        bits.put(0b101, 3);
        bits.put_signed(-2, 5);
        bits.put_unary(40);
        bits.put(u32::MAX, 32);
        // 5 = 1 * 4 + 1: "01" "01".
        bits.put_rice(5, 2);
        let bytes = bits.finish().to_vec();
        assert_eq!(bytes[..3], [0xaa, 0b1011_1110, 0]);
        // 40 zeros and a one, of which byte 2 to 6 hold the zeros.
        assert_eq!(bytes[2..8], [0, 0, 0, 0, 0, 0b1111_1111]);
        // The last of the 32 ones, then 0101 and three bits of padding.
        assert_eq!(bytes[8..12], [0xff, 0xff, 0xff, 0b1010_1000]);
        assert_eq!(crc16(&bytes), 0, "the checksum of all with the checksum is 0");
        // The next frame is not disturbed by the one before it.
        bits.start(&[]);
        bits.put(1, 1);
        assert_eq!(bits.finish()[0], 0x80);
    }

    #[test]
    fn long_rice_codes_keep_their_zeros() {
        for (value, parameter) in
            [(0, 0), (31, 0), (32, 0), (1000, 0), (u32::MAX >> 1, 24), (u32::MAX >> 2, 30)]
        {
            let mut bits = BitWriter::with_capacity(256);
            bits.start(&[]);
            bits.put_rice(value, parameter);
            bits.put(1, 1);
            let bytes = bits.finish();
            let zeros = bytes.iter().position(|byte| *byte != 0).expect("a one") as u32;
            let leading = zeros * 8 + bytes[zeros as usize].leading_zeros();
            assert_eq!(leading, value >> parameter, "{value} with {parameter}");
        }
    }
}
