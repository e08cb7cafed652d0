//! A piece of a body, and the framing around it, in one buffer: so it leaves in one system call.

/// Room for the size of a chunk: eight hexadecimal digits and a line end.
const HEAD: usize = 10;
const END: &[u8] = b"\r\n";

/// The chunk after the last one (RFC 9112 §7.1).
pub(crate) const LAST: &[u8] = b"0\r\n\r\n";

/// A buffer for one piece of a body.
pub(crate) struct Chunk {
    /// Head, body, end.
    buffer: Vec<u8>,
    filled: usize,
    /// Where the head begins, once it is written: the same chunk goes to many.
    start: Option<usize>,
}

impl Chunk {
    /// A chunk that takes so many bytes.
    pub(crate) fn new(capacity: usize) -> Chunk {
        Chunk { buffer: vec![0; HEAD + capacity + END.len()], filled: 0, start: None }
    }

    /// How many bytes it takes in all.
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.len() - HEAD - END.len()
    }

    /// How many bytes are in it.
    pub(crate) fn len(&self) -> usize {
        self.filled
    }

    /// Where the next bytes go; [`add`](Self::add) says how many did.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let end = self.buffer.len() - END.len();
        &mut self.buffer[HEAD + self.filled..end]
    }

    /// Counts bytes that were written into [`room`](Self::room).
    pub(crate) fn add(&mut self, bytes: usize) {
        debug_assert!(self.filled + bytes <= self.capacity());
        self.filled += bytes;
        self.start = None;
    }

    /// Puts these bytes at the end.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.room()[..bytes.len()].copy_from_slice(bytes);
        self.add(bytes.len());
    }

    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
        self.start = None;
    }

    /// What goes out: the bytes alone, or as a chunk.
    pub(crate) fn bytes(&mut self, chunked: bool) -> &[u8] {
        let end = HEAD + self.filled;
        if !chunked || self.filled == 0 {
            return &self.buffer[HEAD..end];
        }
        let start = self.start.unwrap_or_else(|| self.frame());
        &self.buffer[start..end + END.len()]
    }

    /// Writes head and end, and says where the head begins.
    fn frame(&mut self) -> usize {
        let end = HEAD + self.filled;
        self.buffer[end..end + END.len()].copy_from_slice(END);
        let mut start = HEAD - 2;
        self.buffer[start..HEAD].copy_from_slice(b"\r\n");
        let mut size = self.filled;
        while size > 0 {
            start -= 1;
            self.buffer[start] = b"0123456789abcdef"[size % 16];
            size /= 16;
        }
        self.start = Some(start);
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_its_size_its_bytes_and_a_line_end() {
        for (size, head) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (65_536, "10000\r\n")] {
            let mut chunk = Chunk::new(65_536);
            chunk.push(&vec![b'.'; size]);
            let expected = [head.as_bytes(), &vec![b'.'; size], b"\r\n"].concat();
            assert_eq!(chunk.bytes(true), expected);
            assert_eq!(chunk.bytes(false), vec![b'.'; size]);
        }
    }

    #[test]
    fn an_empty_chunk_is_nothing_for_it_would_end_the_body() {
        assert_eq!(Chunk::new(8).bytes(true), b"");
    }

    #[test]
    fn bytes_can_come_in_parts_and_the_buffer_be_used_again() {
        let mut chunk = Chunk::new(8);
        chunk.push(b"abc");
        chunk.room()[..2].copy_from_slice(b"de");
        chunk.add(2);
        assert_eq!(chunk.bytes(true), b"5\r\nabcde\r\n");
        chunk.clear();
        chunk.push(b"x");
        assert_eq!(chunk.bytes(true), b"1\r\nx\r\n");
        assert_eq!((chunk.len(), chunk.capacity(), chunk.room().len()), (1, 8, 7));
    }
}
