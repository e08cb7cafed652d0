//! A small FLAC decoder for tests and fuzzing: strict, slow, and written from RFC 9639 alone.
//!
//! The decoder reads what this encoder writes and refuses everything else, so that a mistake in the stream is
//! an error here even where players are lenient.

use super::bits::{crc8, crc16};

/// One decoded frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// The frame's number.
    pub number: u32,
    /// Samples by channel.
    pub channels: Vec<Vec<i32>>,
    /// Bytes of the frame.
    pub bytes: usize,
}

/// Decodes the frame at the start of `bytes`. `bits`: bits of a sample, as STREAMINFO has them.
///
/// # Errors
///
/// A description of the first thing that is wrong.
pub fn frame(bytes: &[u8], bits: u32) -> Result<Frame, &'static str> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.bits(16)? != 0xfff8 {
        return Err("no sync code of a fixed block size");
    }
    let (block_code, rate_code) = (reader.bits(4)?, reader.bits(4)?);
    let (assignment, bits_code) = (reader.bits(4)?, reader.bits(3)?);
    if bits_code != if bits == 16 { 4 } else { 6 } || reader.bits(1)? != 0 {
        return Err("another sample size, or the reserved bit");
    }
    let number = reader.coded_number()?;
    let frames = match block_code {
        3 => 1152,
        7 => reader.bits(16)? as usize + 1,
        _ => return Err("another block size"),
    };
    match rate_code {
        12 => drop(reader.bits(8)?),
        13 | 14 => drop(reader.bits(16)?),
        15 => return Err("an invalid rate"),
        _ => {}
    }
    let header = reader.at / 8;
    if reader.bits(8)? != u32::from(crc8(&bytes[..header])) {
        return Err("the header's checksum is wrong");
    }
    let count = match assignment {
        0..=7 => assignment as usize + 1,
        8..=10 => 2,
        _ => return Err("a reserved channel assignment"),
    };
    let side = match assignment {
        8 | 10 => Some(1),
        9 => Some(0),
        _ => None,
    };
    let mut channels = (0..count)
        .map(|channel| reader.subframe(frames, bits + u32::from(side == Some(channel))))
        .collect::<Result<Vec<_>, _>>()?;
    if let (Some(_), [first, second]) = (side, &mut channels[..]) {
        for (first, second) in first.iter_mut().zip(second) {
            (*first, *second) = match assignment {
                8 => (*first, *first - *second),
                9 => (*first + *second, *second),
                _ => {
                    let sum = *first << 1 | *second & 1;
                    ((sum + *second) >> 1, (sum - *second) >> 1)
                }
            };
        }
    }
    let padding = reader.at.wrapping_neg() as u32 % 8;
    if reader.bits(padding)? != 0 {
        return Err("the padding is not 0");
    }
    let end = reader.at / 8;
    if reader.bits(16)? != u32::from(crc16(&bytes[..end])) {
        return Err("the frame's checksum is wrong");
    }
    let range = -(1i32 << (bits - 1))..1 << (bits - 1);
    if !channels.iter().flatten().all(|sample| range.contains(sample)) {
        return Err("a sample is out of range");
    }
    Ok(Frame { number, channels, bytes: end + 2 })
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// The next bit's place, in bits from the start.
    at: usize,
}

impl Reader<'_> {
    fn bits(&mut self, count: u32) -> Result<u32, &'static str> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8).ok_or("the frame is cut off")?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Ok(value)
    }

    fn signed(&mut self, count: u32) -> Result<i32, &'static str> {
        Ok((self.bits(count)? << (32 - count)) as i32 >> (32 - count))
    }

    fn unary(&mut self) -> Result<u32, &'static str> {
        let mut zeros = 0;
        while self.bits(1)? == 0 {
            zeros += 1;
        }
        Ok(zeros)
    }

    fn coded_number(&mut self) -> Result<u32, &'static str> {
        let first = self.bits(8)?;
        let length = (first as u8).leading_ones();
        match length {
            0 => return Ok(first),
            2..=6 => {}
            _ => return Err("a number of more than 31 bits"),
        }
        let mut value = first & (0x7f >> length);
        for _ in 1..length {
            let next = self.bits(8)?;
            if next >> 6 != 2 {
                return Err("a number is coded wrongly");
            }
            value = value << 6 | next & 0x3f;
        }
        Ok(value)
    }

    fn subframe(&mut self, frames: usize, bits: u32) -> Result<Vec<i32>, &'static str> {
        if self.bits(1)? != 0 {
            return Err("a subframe's first bit is set");
        }
        let kind = self.bits(6)?;
        let wasted = if self.bits(1)? == 1 { self.unary()? + 1 } else { 0 };
        let bits = bits.checked_sub(wasted).filter(|bits| *bits > 0).ok_or("no bits are left")?;
        let mut samples = match kind {
            0 => vec![self.signed(bits)?; frames],
            1 => (0..frames).map(|_| self.signed(bits)).collect::<Result<_, _>>()?,
            8..=12 => self.fixed(frames, bits, kind as usize - 8)?,
            _ => return Err("another kind of subframe"),
        };
        samples.iter_mut().for_each(|sample| *sample <<= wasted);
        Ok(samples)
    }

    fn fixed(&mut self, frames: usize, bits: u32, order: usize) -> Result<Vec<i32>, &'static str> {
        let mut samples = (0..order).map(|_| self.signed(bits)).collect::<Result<Vec<_>, _>>()?;
        let parameter_bits = match self.bits(2)? {
            0 => 4,
            1 => 5,
            _ => return Err("a reserved coding of the residual"),
        };
        let partition_order = self.bits(4)?;
        if frames % (1 << partition_order) != 0 || frames >> partition_order <= order {
            return Err("the block does not divide into these partitions");
        }
        for partition in 0..1 << partition_order {
            let parameter = self.bits(parameter_bits)?;
            if parameter == (1 << parameter_bits) - 1 {
                return Err("an escaped partition");
            }
            let count = (frames >> partition_order) - if partition == 0 { order } else { 0 };
            for _ in 0..count {
                let value = self.unary()? << parameter | self.bits(parameter)?;
                let residual = (value >> 1) as i32 ^ -((value & 1) as i32);
                let s = |back: usize| samples[samples.len() - back];
                let predicted = match order {
                    0 => 0,
                    1 => s(1),
                    2 => 2 * s(1) - s(2),
                    3 => 3 * s(1) - 3 * s(2) + s(3),
                    _ => 4 * s(1) - 6 * s(2) + 4 * s(3) - s(4),
                };
                samples.push(predicted + residual);
            }
        }
        Ok(samples)
    }
}
