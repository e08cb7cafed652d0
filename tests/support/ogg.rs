//! A reader of Ogg pages (RFC 3533), which checks every checksum.

/// Bits of a page's header type.
pub(crate) const BEGIN: u8 = 2;
pub(crate) const END: u8 = 4;

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// The header type: [`BEGIN`], [`END`].
    pub(crate) flags: u8,
    pub(crate) granule: u64,
    pub(crate) serial: u32,
    pub(crate) number: u32,
    /// The packets that end in this page.
    pub(crate) packets: Vec<Vec<u8>>,
    /// The place of the first byte.
    pub(crate) at: usize,
    pub(crate) bytes: usize,
}

/// Splits a stream that begins with a page. Returns all whole pages, and the bytes of an incomplete one at the end.
///
/// # Panics
///
/// If something else is between two pages, a checksum is wrong, or a packet does not lie whole in its page.
pub(crate) fn pages(stream: &[u8]) -> (Vec<Page>, usize) {
    let (mut pages, mut at) = (Vec::new(), 0);
    while let Some(page) = page(&stream[at..], at) {
        at += page.bytes;
        pages.push(page);
    }
    (pages, stream.len() - at)
}

fn page(bytes: &[u8], at: usize) -> Option<Page> {
    let head = bytes.get(..27)?;
    assert_eq!(&head[..5], b"OggS\0", "no page at byte {at}");
    assert_eq!(head[5] & 1, 0, "a packet that began in an earlier page");
    let lacing = bytes.get(27..27 + usize::from(head[26]))?;
    let start = 27 + lacing.len();
    let end = start + lacing.iter().map(|size| usize::from(*size)).sum::<usize>();
    let body = bytes.get(start..end)?;
    let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(crc(&bytes[..end]), word(22), "the checksum of page {} is wrong", word(18));
    let (mut packets, mut from, mut to) = (Vec::new(), 0, 0);
    for size in lacing {
        to += usize::from(*size);
        if *size < 255 {
            packets.push(body[from..to].to_vec());
            from = to;
        }
    }
    assert_eq!(from, body.len(), "a packet ends in a later page");
    let granule = u64::from_le_bytes(head[6..14].try_into().expect("eight bytes"));
    Some(Page { flags: head[5], granule, serial: word(14), number: word(18), packets, at, bytes: end })
}

/// Returns the checksum of a page: CRC-32 with the polynomial 0x04C11DB7, of the page with zeros in place of the checksum.
fn crc(page: &[u8]) -> u32 {
    page.iter().enumerate().fold(0, |crc: u32, (n, byte)| {
        let byte = if (22..26).contains(&n) { 0 } else { *byte };
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 }
        })
    })
}
