//! ICY metadata: the title of the stream between the bytes of MP3, for players that ask for it.
//!
//! A player that sends `Icy-MetaData: 1` gets a block of metadata after every [`INTERVAL`] bytes of sound. The first block
//! has the title; each later one is a single 0, which means "no change". The protocol is SHOUTcast's; it has no standard.

use super::chunked::Chunk;

/// Bytes of sound between two blocks of metadata, the value of `icy-metaint`: one second at 128 kbit/s.
pub const INTERVAL: usize = 16_000;
/// A block of metadata is a multiple of this many bytes.
const UNIT: usize = 16;
/// The most units of a block: their number is one byte.
const MOST_UNITS: usize = 255;

/// The metadata of one listener.
pub(super) struct Icy {
    /// The next block.
    block: Vec<u8>,
    /// Bytes of sound before the next block.
    left: usize,
    /// Sound with metadata in it. Empty until it is needed.
    mixed: Chunk,
}

impl Icy {
    pub(super) fn new(title: &str) -> Icy {
        Icy { block: title_block(title), left: INTERVAL, mixed: Chunk::new(0) }
    }

    /// Returns the bytes to send for a chunk of sound: with metadata where the listener expects it.
    fn bytes<'a>(&'a mut self, sound: &'a mut Chunk, chunked: bool) -> &'a [u8] {
        if sound.len() <= self.left {
            self.left -= sound.len();
            return sound.bytes(chunked);
        }
        let most = sound.capacity() + (sound.capacity() / INTERVAL + 1) * self.block.len();
        if self.mixed.capacity() < most {
            self.mixed = Chunk::new(most);
        }
        self.mixed.clear();
        let mut data = sound.data();
        while data.len() > self.left {
            let (before, after) = data.split_at(self.left);
            self.mixed.push(before);
            self.mixed.push(&self.block);
            self.block.clear();
            self.block.push(0);
            (data, self.left) = (after, INTERVAL);
        }
        self.mixed.push(data);
        self.left -= data.len();
        self.mixed.bytes(chunked)
    }
}

/// Returns the bytes to send for a chunk of sound, to a listener with or without metadata.
#[inline]
pub(super) fn framed<'a>(icy: &'a mut Option<Box<Icy>>, sound: &'a mut Chunk, chunked: bool) -> &'a [u8] {
    match icy {
        None => sound.bytes(chunked),
        Some(icy) => icy.bytes(sound, chunked),
    }
}

/// Returns the block with a title: its number of units, and the text padded with zeros. A quotation mark in the title would
/// end it for many players.
fn title_block(title: &str) -> Vec<u8> {
    let mut text = format!("StreamTitle='{}';", title.replace('\'', "’"));
    while text.len() > MOST_UNITS * UNIT {
        text.pop();
    }
    let units = text.len().div_ceil(UNIT);
    let mut block = vec![0; 1 + units * UNIT];
    block[0] = units as u8;
    block[1..=text.len()].copy_from_slice(text.as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a stream as a player does: returns the sound and the blocks that are not empty.
    fn read(stream: &[u8]) -> (Vec<u8>, Vec<String>) {
        let (mut sound, mut titles, mut rest) = (Vec::new(), Vec::new(), stream);
        while rest.len() > INTERVAL {
            sound.extend_from_slice(&rest[..INTERVAL]);
            let end = INTERVAL + 1 + usize::from(rest[INTERVAL]) * UNIT;
            if rest[INTERVAL] > 0 {
                titles.push(
                    String::from_utf8_lossy(&rest[INTERVAL + 1..end]).trim_end_matches('\0').to_owned(),
                );
            }
            rest = &rest[end..];
        }
        sound.extend_from_slice(rest);
        (sound, titles)
    }

    #[test]
    fn every_interval_ends_with_a_block_and_the_first_has_the_title() {
        let sound: Vec<u8> = (0..3 * INTERVAL + 7).map(|n| n as u8).collect();
        for piece in [1, 417, INTERVAL - 1, INTERVAL, INTERVAL + 1, 40_000] {
            let mut icy = Icy::new("Anna's room");
            let mut stream = Vec::new();
            for part in sound.chunks(piece) {
                let mut chunk = Chunk::new(40_000);
                chunk.push(part);
                stream.extend_from_slice(icy.bytes(&mut chunk, false));
            }
            assert_eq!(
                read(&stream),
                (sound.clone(), vec!["StreamTitle='Anna’s room';".to_owned()]),
                "{piece}"
            );
        }
    }

    #[test]
    fn a_chunk_has_the_size_of_sound_and_metadata() {
        let mut icy = Icy::new("");
        let mut chunk = Chunk::new(INTERVAL + 1);
        chunk.push(&vec![7; INTERVAL + 1]);
        let bytes = icy.bytes(&mut chunk, true);
        assert!(bytes.starts_with(b"3E92\r\n") || bytes.starts_with(b"3e92\r\n"), "{:?}", &bytes[..6]);
        assert_eq!(bytes.len(), 6 + 0x3E92 + 2);
    }

    #[test]
    fn a_long_title_is_cut() {
        let block = title_block(&"ä".repeat(5000));
        assert_eq!((block[0], block.len()), (255, 1 + 255 * UNIT));
    }
}
