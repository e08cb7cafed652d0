//! Ogg pages (RFC 3533) and the comment header that Opus and FLAC put into them.
//!
//! Every packet lies whole in one page: the largest, a FLAC frame of 8 channels of 24 bits, has 28 KB of the
//! 64 KB that a page holds. All listeners may get the same pages: players accept any page number and granule
//! position behind the header pages.

use super::encoder::{Packet, Sink};

/// Bytes of a page before the table of segments.
const PAGE_HEADER_BYTES: usize = 27;
/// A page has at most this number of segments of at most as many bytes.
const MOST_SEGMENTS: usize = 255;

/// Bits of a page's header type.
const BEGIN_OF_STREAM: u8 = 2;
const END_OF_STREAM: u8 = 4;

/// Titles are cut here, in bytes, so that the comments fit into one page and into Icecast's buffers.
const MOST_TITLE_BYTES: usize = 1024;

/// The number of packets in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// One packet: least delay, 28 bytes a packet.
    EachPacket,
    /// As many packets as last about 100 ms. Icecast's cost is per page: with 20 ms pages, a relay with 100
    /// listeners takes four times the CPU.
    TenthOfASecond,
}

impl Paging {
    /// Returns the number of packets of `packet_frames` frames in a page.
    pub(super) fn packets(self, packet_frames: u32, rate: u32) -> usize {
        match self {
            Paging::EachPacket => 1,
            Paging::TenthOfASecond => {
                ((rate / 10 + packet_frames / 2) / packet_frames).clamp(1, MOST_SEGMENTS as u32) as usize
            }
        }
    }
}

/// Upper bound of a page's bytes, for `packets` packets with `bytes` bytes in all.
pub(super) fn max_page_bytes(bytes: usize, packets: usize) -> usize {
    let bytes = bytes.min(MOST_SEGMENTS * 255);
    PAGE_HEADER_BYTES + (bytes / 255 + packets).min(MOST_SEGMENTS) + bytes
}

/// Returns a vendor string and the title in the layout of Vorbis comments, which Opus (RFC 7845, section 5.2)
/// and FLAC (RFC 9639, section 8.6) have in common.
pub(super) fn comments(title: &str) -> Vec<u8> {
    const VENDOR: &str = concat!("wavecast ", env!("CARGO_PKG_VERSION"));
    let mut bytes = Vec::new();
    let mut put = |text: &str| {
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    };
    put(VENDOR);
    let mut end = title.len().min(MOST_TITLE_BYTES);
    while !title.is_char_boundary(end) {
        end -= 1;
    }
    if end == 0 {
        bytes.extend_from_slice(&0u32.to_le_bytes());
    } else {
        let comment = format!("TITLE={}", &title[..end]);
        bytes.extend_from_slice(&1u32.to_le_bytes());
        bytes.extend_from_slice(&(comment.len() as u32).to_le_bytes());
        bytes.extend_from_slice(comment.as_bytes());
    }
    bytes
}

/// A writer of the data pages of one logical stream: collects packets and emits a page when it is full.
pub(super) struct Pager {
    pages: PageWriter,
    packets_per_page: usize,
    /// Position in the input of the open page's first frame, and frames of the input in that page.
    first_frame: u64,
    frames: u32,
    /// Granule position behind the last packet.
    granule: u64,
    /// Granule position of the stream's end, once it is known.
    end: u64,
    is_ended: bool,
}

impl Pager {
    /// Returns a writer and the pages of the header packets, which it has begun with.
    pub(super) fn new(serial: u32, packets_per_page: usize, headers: &[Vec<u8>]) -> (Self, Vec<u8>) {
        let mut pages = PageWriter::new(serial);
        let mut header = Vec::new();
        for packet in headers {
            pages.add(packet);
            header.extend_from_slice(pages.finish(0, false));
        }
        let pager = Pager {
            pages,
            packets_per_page,
            first_frame: 0,
            frames: 0,
            granule: 0,
            end: u64::MAX,
            is_ended: false,
        };
        (pager, header)
    }

    /// Adds a packet that advances the granule position by `granules`.
    /// Does nothing behind the end of the stream.
    pub(super) fn add(&mut self, packet: Packet<'_>, granules: u64, sink: &mut Sink<'_>) {
        if self.is_ended {
            return;
        }
        if !self.pages.fits(packet.bytes.len()) {
            self.close(sink);
        }
        if self.pages.lacing.is_empty() {
            self.first_frame = packet.first_frame;
        }
        self.pages.add(packet.bytes);
        self.frames += packet.frames;
        self.granule += granules;
        if self.pages.packets == self.packets_per_page || self.granule >= self.end {
            self.close(sink);
        }
    }

    /// Emits the open page if it holds a packet. To be called before frames are skipped: a page has no hole.
    pub(super) fn flush(&mut self, sink: &mut Sink<'_>) {
        if self.pages.packets > 0 {
            self.close(sink);
        }
    }

    /// Sets the granule position of the end. The packet that reaches it is the last one; players cut what is
    /// beyond.
    pub(super) fn end_at(&mut self, granule: u64) {
        self.end = granule;
    }

    /// Ends the stream behind the last packet, unless it has ended. The last page has no packet if none is
    /// left.
    pub(super) fn finish(&mut self, sink: &mut Sink<'_>) {
        if !self.is_ended {
            self.end = self.granule;
            self.close(sink);
        }
    }

    /// Granule position behind the last packet.
    pub(super) fn granule(&self) -> u64 {
        self.granule
    }

    fn close(&mut self, sink: &mut Sink<'_>) {
        self.is_ended = self.granule >= self.end;
        let frames = std::mem::take(&mut self.frames);
        let bytes = self.pages.finish(self.granule.min(self.end), self.is_ended);
        sink(Packet { first_frame: self.first_frame, frames, bytes });
    }
}

/// A writer of single pages.
struct PageWriter {
    serial: u32,
    /// The open page's number.
    sequence: u32,
    packets: usize,
    lacing: Vec<u8>,
    body: Vec<u8>,
    page: Vec<u8>,
}

impl PageWriter {
    /// Returns a writer with room for the largest page.
    fn new(serial: u32) -> Self {
        let body = MOST_SEGMENTS * 255;
        PageWriter {
            serial,
            sequence: 0,
            packets: 0,
            lacing: Vec::with_capacity(MOST_SEGMENTS),
            body: Vec::with_capacity(body),
            page: Vec::with_capacity(PAGE_HEADER_BYTES + MOST_SEGMENTS + body),
        }
    }

    /// Returns `true` if a packet of that size has room in the open page.
    fn fits(&self, bytes: usize) -> bool {
        self.lacing.len() + bytes / 255 < MOST_SEGMENTS
    }

    /// Adds a packet to the open page.
    fn add(&mut self, packet: &[u8]) {
        debug_assert!(self.fits(packet.len()));
        self.lacing.extend(std::iter::repeat_n(255, packet.len() / 255));
        self.lacing.push((packet.len() % 255) as u8);
        self.body.extend_from_slice(packet);
        self.packets += 1;
    }

    /// Closes the open page and returns its bytes. `granule`: the granule position behind the page's last
    /// packet.
    fn finish(&mut self, granule: u64, is_last: bool) -> &[u8] {
        let begin = if self.sequence == 0 { BEGIN_OF_STREAM } else { 0 };
        let end = if is_last { END_OF_STREAM } else { 0 };
        let page = &mut self.page;
        page.clear();
        page.extend_from_slice(b"OggS\0");
        page.push(begin | end);
        page.extend_from_slice(&granule.to_le_bytes());
        page.extend_from_slice(&self.serial.to_le_bytes());
        page.extend_from_slice(&self.sequence.to_le_bytes());
        // The checksum's place, which counts as zeros.
        page.extend_from_slice(&[0; 4]);
        page.push(self.lacing.len() as u8);
        page.extend_from_slice(&self.lacing);
        page.extend_from_slice(&self.body);
        let crc = crc32(page);
        page[22..26].copy_from_slice(&crc.to_le_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = 0;
        self.lacing.clear();
        self.body.clear();
        &self.page
    }
}

/// Returns Ogg's CRC-32: polynomial 0x04c11db7, begun with 0, bits not reflected.
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |crc, byte| crc << 8 ^ CRC32[usize::from((crc >> 24) as u8 ^ byte)])
}

static CRC32: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 == 0 { crc << 1 } else { crc << 1 ^ 0x04c1_1db7 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Page {
        kind: u8,
        granule: u64,
        sequence: u32,
        packets: Vec<Vec<u8>>,
    }

    fn parsed(page: &[u8]) -> Page {
        assert_eq!(page[..5], *b"OggS\0");
        let mut zeroed = page.to_vec();
        zeroed[22..26].fill(0);
        assert_eq!(page[22..26], crc32(&zeroed).to_le_bytes());
        let lacing = &page[27..27 + usize::from(page[26])];
        let (mut packets, mut open, mut at) = (Vec::new(), Vec::new(), 27 + lacing.len());
        for length in lacing {
            open.extend_from_slice(&page[at..at + usize::from(*length)]);
            at += usize::from(*length);
            if *length < 255 {
                packets.push(std::mem::take(&mut open));
            }
        }
        assert!(open.is_empty() && at == page.len(), "packets lie whole in their page");
        Page {
            kind: page[5],
            granule: u64::from_le_bytes(page[6..14].try_into().expect("8 bytes")),
            sequence: u32::from_le_bytes(page[18..22].try_into().expect("4 bytes")),
            packets,
        }
    }

    #[test]
    fn the_checksum_is_that_of_the_catalogue() {
        // CRC-32/BZIP2 without its first and last complement, of the usual check string.
        assert_eq!(crc32(b"123456789"), 0x89a1_897f);
    }

    #[test]
    fn packets_of_every_length_survive() {
        for length in [0, 1, 254, 255, 256, 510, 5000, 65_024] {
            let mut writer = PageWriter::new(7);
            let packet: Vec<u8> = (0..length).map(|n| n as u8).collect();
            assert!(writer.fits(length));
            writer.add(&packet);
            assert_eq!(parsed(writer.finish(1, false)).packets, [packet], "{length} bytes");
        }
        assert!(!PageWriter::new(7).fits(65_025));
    }

    #[test]
    fn pages_count_from_the_headers_on_and_hold_as_many_packets_as_asked() {
        let (mut pager, header) = Pager::new(9, 3, &[b"one".to_vec(), b"two".to_vec()]);
        let first = parsed(&header[..27 + 1 + 3]);
        assert_eq!((first.kind, first.granule, first.sequence), (BEGIN_OF_STREAM, 0, 0));
        let second = parsed(&header[27 + 1 + 3..]);
        assert_eq!((second.kind, second.granule, second.sequence), (0, 0, 1));

        let mut seen = Vec::new();
        let mut sink =
            |packet: Packet<'_>| seen.push((packet.first_frame, packet.frames, parsed(packet.bytes)));
        for n in 0..7 {
            if n == 6 {
                pager.end_at(135);
            }
            pager.add(Packet { first_frame: 100 + n * 10, frames: 10, bytes: &[n as u8] }, 20, &mut sink);
        }
        pager.finish(&mut sink);
        let summary: Vec<_> = seen
            .iter()
            .map(|(at, frames, page)| {
                (*at, *frames, page.kind, page.granule, page.sequence, page.packets.len())
            })
            .collect();
        assert_eq!(
            summary,
            [(100, 30, 0, 60, 2, 3), (130, 30, 0, 120, 3, 3), (160, 10, END_OF_STREAM, 135, 4, 1)]
        );
    }

    #[test]
    fn a_stream_that_ends_with_a_full_page_has_an_empty_last_page() {
        let (mut pager, _) = Pager::new(9, 1, &[]);
        let mut seen = Vec::new();
        let mut sink = |packet: Packet<'_>| seen.push(parsed(packet.bytes));
        pager.add(Packet { first_frame: 0, frames: 10, bytes: &[1] }, 10, &mut sink);
        pager.finish(&mut sink);
        pager.finish(&mut sink);
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[1], Page { kind: END_OF_STREAM, granule: 10, sequence: 1, packets: Vec::new() });
    }

    #[test]
    fn nothing_follows_the_packet_that_reaches_the_end() {
        let (mut pager, _) = Pager::new(9, 1, &[]);
        let mut seen = Vec::new();
        let mut sink = |packet: Packet<'_>| seen.push(parsed(packet.bytes));
        pager.end_at(15);
        for n in 0..4 {
            pager.add(Packet { first_frame: n * 10, frames: 10, bytes: &[1] }, 10, &mut sink);
        }
        pager.finish(&mut sink);
        let seen: Vec<(u8, u64)> = seen.iter().map(|page| (page.kind, page.granule)).collect();
        assert_eq!(seen, [(BEGIN_OF_STREAM, 10), (END_OF_STREAM, 15)]);
    }

    #[test]
    fn a_page_that_has_no_room_is_closed_before() {
        let (mut pager, _) = Pager::new(9, 4, &[]);
        let large = vec![1; 28_000];
        let mut seen = Vec::new();
        for n in 0..5 {
            pager.add(Packet { first_frame: n * 10, frames: 10, bytes: &large }, 10, &mut |packet| {
                assert!(packet.bytes.len() <= max_page_bytes(4 * large.len(), 4));
                seen.push((packet.first_frame, packet.frames, parsed(packet.bytes).packets.len()));
            });
        }
        assert_eq!(seen, [(0, 20, 2), (20, 20, 2)]);
    }

    #[test]
    fn a_long_title_is_cut_between_characters() {
        let title = "ä".repeat(1000);
        let comments = comments(&title);
        let text = String::from_utf8_lossy(&comments);
        assert!(comments.len() < MOST_TITLE_BYTES + 100);
        assert!(text.ends_with('ä'), "{text}");
    }

    #[test]
    fn pages_have_about_a_tenth_of_a_second() {
        assert_eq!(Paging::TenthOfASecond.packets(960, 48_000), 5);
        assert_eq!(Paging::TenthOfASecond.packets(1152, 48_000), 4);
        assert_eq!(Paging::TenthOfASecond.packets(1152, 8_000), 1);
        assert_eq!(Paging::TenthOfASecond.packets(1152, 192_000), 17);
        assert_eq!(Paging::EachPacket.packets(960, 48_000), 1);
    }
}
