//! HTTP chunk framing (RFC 9112 §7.1), in place.
//!
//! The head of a chunk, its data and its line end lie in one buffer, so a chunk leaves in one system call.

/// Space for the head of a chunk: eight hexadecimal digits and a line end.
const HEAD: usize = 10;
/// The line end after the data of a chunk.
const END: &[u8] = b"\r\n";

/// The last chunk, which ends a body.
pub(crate) const LAST: &[u8] = b"0\r\n\r\n";

/// A buffer for one chunk of a body.
pub(crate) struct Chunk {
    /// Head, data, line end. The data begin at `HEAD`; a shorter head is right-aligned before them.
    buffer: Vec<u8>,
    /// Bytes of data.
    len: usize,
    /// Index of the first byte of the head, once the head is written. The same chunk is sent to many clients.
    start: Option<usize>,
}

impl Chunk {
    /// Returns an empty chunk for at most `capacity` bytes of data.
    pub(crate) fn new(capacity: usize) -> Chunk {
        Chunk { buffer: vec![0; HEAD + capacity + END.len()], len: 0, start: None }
    }

    /// Returns the most bytes of data that the chunk can hold.
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.len() - HEAD - END.len()
    }

    /// Returns the number of bytes of data.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the free space behind the data. [`advance`](Self::advance) adds what was written there.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        let end = self.buffer.len() - END.len();
        &mut self.buffer[HEAD + self.len..end]
    }

    /// Adds the first `bytes` bytes of [`spare`](Self::spare) to the data.
    pub(crate) fn advance(&mut self, bytes: usize) {
        debug_assert!(self.len + bytes <= self.capacity());
        self.len += bytes;
        self.start = None;
    }

    /// Appends a copy of these bytes.
    ///
    /// # Panics
    ///
    /// If they do not fit.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.spare()[..bytes.len()].copy_from_slice(bytes);
        self.advance(bytes.len());
    }

    /// Returns the data.
    pub(crate) fn data(&self) -> &[u8] {
        &self.buffer[HEAD..HEAD + self.len]
    }

    /// Removes all data.
    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.start = None;
    }

    /// Returns the bytes to send: the data as a chunk, or the bare data. Nothing for an empty chunk, which would end the
    /// body.
    pub(crate) fn bytes(&mut self, chunked: bool) -> &[u8] {
        let end = HEAD + self.len;
        if !chunked || self.len == 0 {
            return &self.buffer[HEAD..end];
        }
        let start = self.start.unwrap_or_else(|| self.write_framing());
        &self.buffer[start..end + END.len()]
    }

    /// Writes head and line end. Returns the index of the first byte of the head.
    fn write_framing(&mut self) -> usize {
        let end = HEAD + self.len;
        self.buffer[end..end + END.len()].copy_from_slice(END);
        let mut start = HEAD - END.len();
        self.buffer[start..HEAD].copy_from_slice(END);
        let mut size = self.len;
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
    fn a_chunk_is_its_size_its_data_and_a_line_end() {
        for (size, head) in [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (65_536, "10000\r\n")] {
            let mut chunk = Chunk::new(65_536);
            chunk.push(&vec![b'.'; size]);
            let expected = [head.as_bytes(), &vec![b'.'; size], b"\r\n"].concat();
            assert_eq!(chunk.bytes(true), expected);
            assert_eq!(chunk.bytes(false), vec![b'.'; size]);
        }
    }

    #[test]
    fn an_empty_chunk_is_no_bytes() {
        assert_eq!(Chunk::new(8).bytes(true), b"");
    }

    #[test]
    fn data_come_in_parts_and_the_buffer_is_used_again() {
        let mut chunk = Chunk::new(8);
        chunk.push(b"abc");
        chunk.spare()[..2].copy_from_slice(b"de");
        chunk.advance(2);
        assert_eq!(chunk.bytes(true), b"5\r\nabcde\r\n");
        chunk.clear();
        chunk.push(b"x");
        assert_eq!(chunk.bytes(true), b"1\r\nx\r\n");
        assert_eq!((chunk.len(), chunk.capacity(), chunk.spare().len()), (1, 8, 7));
    }
}
