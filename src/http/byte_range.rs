//! Byte ranges of a WAV resource: what a Range header asks for, and which header bytes and frames that is.
//!
//! Streams and clips have the same layout and share this arithmetic:
//!
//! ```text
//! | header | frame 0 | frame 1 | … | pad byte, after an odd number of bytes of sound |
//! ```

use std::ops;

use crate::media::wav;

/// One range of bytes, as a Range header asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `bytes=FIRST-`
    From(u64),
    /// `bytes=FIRST-LAST`, both included; FIRST is not greater than LAST.
    Bounded(u64, u64),
    /// `bytes=-N`: the last N bytes.
    Last(u64),
}

impl ByteRange {
    /// Reads a Range header (RFC 9110 §14.2). `None` for several ranges and for what is no range: the RFC
    /// lets a server ignore these, and a 416 would make mpv and ffplay give up.
    pub fn parse(value: &str) -> Option<ByteRange> {
        let (unit, range) = value.trim().split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = range.trim().split_once('-')?;
        let number = |text: &str| {
            let text = text.trim();
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
        };
        match (first.trim(), last.trim()) {
            ("", last) => number(last).map(ByteRange::Last),
            (first, "") => number(first).map(ByteRange::From),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(ByteRange::Bounded(first, last))
            }
        }
    }
}

/// The layout of a WAV resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes before the first frame.
    pub header: usize,
    /// Bytes of a frame; not 0.
    pub frame_bytes: usize,
    /// Bytes of sound; `None` for a stream without an end.
    pub data: Option<u64>,
}

/// The first and the last byte of a part of a resource; `last` is `None` where the part has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// The first byte.
    pub first: u64,
    /// The last byte, included; not less than `first`, and less than [`u64::MAX`], so that the bytes can be
    /// counted.
    pub last: Option<u64>,
}

impl Bytes {
    /// The whole of a stream without an end.
    pub const ENDLESS: Bytes = Bytes { first: 0, last: None };

    /// Returns the number of bytes; `None` where the part has no end.
    pub fn count(self) -> Option<u64> {
        self.last.map(|last| last - self.first + 1)
    }
}

/// The pieces of which a part of a resource is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The bytes of the header that belong to the part.
    pub header_part: ops::Range<usize>,
    /// Index of the first frame that belongs to the part, if only by some of its bytes.
    pub first_frame: u64,
    /// Bytes of that frame that precede the part.
    pub skip_in_frame: usize,
    /// Bytes of sound; `None` where the part has no end.
    pub len: Option<u64>,
    /// Pad bytes at the end: 0 or 1.
    pub pad: usize,
}

impl Layout {
    /// Returns the size of the whole resource in bytes; `None` for a stream without an end.
    pub fn total(&self) -> Option<u64> {
        self.data.map(|data| self.header as u64 + data + wav::pad_bytes(data))
    }

    /// Returns the bytes of the resource that a range means. `None` where there are none.
    pub fn resolve(&self, range: ByteRange) -> Option<Bytes> {
        let end = self.total().map(|total| total - 1);
        let within = |last: u64| last.min(end.unwrap_or(u64::MAX - 1));
        let bytes = match range {
            ByteRange::From(first) => Bytes { first, last: end },
            ByteRange::Bounded(first, last) => Bytes { first, last: Some(within(last)) },
            // Without an end there is nothing to count from.
            ByteRange::Last(count) => Bytes { first: self.total()?.saturating_sub(count), last: end },
        };
        bytes.last.is_none_or(|last| bytes.first <= last).then_some(bytes)
    }

    /// Divides a part of the resource, as [`resolve`](Self::resolve) returns it, into its pieces.
    pub fn slice(&self, part: Bytes) -> Slice {
        let (header, frame_bytes) = (self.header as u64, self.frame_bytes as u64);
        let in_header = |byte: u64| byte.min(header) as usize;
        let in_sound = |byte: u64| byte.saturating_sub(header).min(self.data.unwrap_or(u64::MAX));
        // The byte after the part.
        let end = part.last.map_or(u64::MAX, |last| last + 1);
        let first = in_sound(part.first);
        let has_pad = self.data.is_some_and(|data| {
            let pad = header + data;
            wav::pad_bytes(data) == 1 && (part.first..end).contains(&pad)
        });
        Slice {
            header_part: in_header(part.first)..in_header(end),
            first_frame: first / frame_bytes,
            skip_in_frame: (first % frame_bytes) as usize,
            len: part.last.map(|_| in_sound(end) - first),
            pad: usize::from(has_pad),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_and_what_is_none_is_ignored() {
        for (value, range) in [
            ("bytes=0-", Some(ByteRange::From(0))),
            ("bytes=1234-", Some(ByteRange::From(1234))),
            ("Bytes = 5 - 9 ", Some(ByteRange::Bounded(5, 9))),
            ("bytes=0-1", Some(ByteRange::Bounded(0, 1))),
            ("bytes=-500", Some(ByteRange::Last(500))),
            ("bytes=-0", Some(ByteRange::Last(0))),
            ("bytes=9-5", None),
            ("bytes=0-1,5-9", None),
            ("items=0-1", None),
            ("bytes=+1-", None),
            ("bytes=-", None),
            ("bytes=99999999999999999999-", None),
            ("", None),
        ] {
            assert_eq!(ByteRange::parse(value), range, "{value}");
        }
    }

    #[test]
    fn a_range_means_the_bytes_that_are_there() {
        let file = Layout { header: 44, frame_bytes: 4, data: Some(800) };
        let endless = Layout { data: None, ..file };
        let bytes = |first, last| Some(Bytes { first, last });
        for (range, of_file, of_endless) in [
            (ByteRange::From(0), bytes(0, Some(843)), bytes(0, None)),
            (ByteRange::From(843), bytes(843, Some(843)), bytes(843, None)),
            (ByteRange::From(844), None, bytes(844, None)),
            (ByteRange::Bounded(0, 9), bytes(0, Some(9)), bytes(0, Some(9))),
            (ByteRange::Bounded(800, 9999), bytes(800, Some(843)), bytes(800, Some(9999))),
            (ByteRange::Bounded(0, u64::MAX), bytes(0, Some(843)), bytes(0, Some(u64::MAX - 1))),
            (ByteRange::Bounded(u64::MAX, u64::MAX), None, None),
            (ByteRange::Bounded(844, 900), None, bytes(844, Some(900))),
            (ByteRange::Last(4), bytes(840, Some(843)), None),
            (ByteRange::Last(9999), bytes(0, Some(843)), None),
            (ByteRange::Last(0), None, None),
        ] {
            assert_eq!(file.resolve(range), of_file, "{range:?}");
            assert_eq!(endless.resolve(range), of_endless, "{range:?}");
        }
    }

    #[test]
    fn the_pad_byte_is_a_part_of_the_file() {
        // Eleven frames of mono, 24 bit.
        let odd = Layout { header: 44, frame_bytes: 3, data: Some(33) };
        assert_eq!(odd.total(), Some(78));
        let slice = |range| odd.slice(odd.resolve(range).expect("there is something"));
        let all = Slice { header_part: 0..44, first_frame: 0, skip_in_frame: 0, len: Some(33), pad: 1 };
        assert_eq!(slice(ByteRange::From(0)), all);
        assert_eq!(slice(ByteRange::Bounded(0, 76)), Slice { pad: 0, ..all.clone() });
        let last = Slice { header_part: 44..44, first_frame: 11, skip_in_frame: 0, len: Some(0), pad: 1 };
        assert_eq!(slice(ByteRange::Last(1)), last);
    }

    /// The bytes of a whole file; each frame's bytes differ from all others nearby.
    fn whole(layout: Layout) -> Vec<u8> {
        let data = layout.data.expect("a file") as usize;
        let header = (0..layout.header).map(|byte| byte as u8);
        let sound = (0..data).map(|byte| (byte * 7 + 100) as u8);
        header.chain(sound).chain((data % 2 == 1).then_some(0)).collect()
    }

    /// The bytes that a slice stands for, put together from header, frames and pad byte as a listener is sent
    /// them.
    fn assembled(layout: Layout, slice: &Slice) -> Vec<u8> {
        let file = whole(layout);
        let start = layout.header + slice.first_frame as usize * layout.frame_bytes + slice.skip_in_frame;
        let sound = &file[start..start + slice.len.expect("an end") as usize];
        [&file[slice.header_part.clone()], sound, &[0; 1][..slice.pad]].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_range_of_a_file_has_the_bytes_of_the_whole_file(
            header in 0_usize..60,
            frame_bytes in 1_usize..13,
            frames in 1_u64..40,
            first in 0_u64..500,
            more in 0_u64..500,
            kind in 0..3,
        ) {
            let layout = Layout { header, frame_bytes, data: Some(frames * frame_bytes as u64) };
            let file = whole(layout);
            prop_assert_eq!(layout.total(), Some(file.len() as u64));
            let (range, expected) = match kind {
                0 => (ByteRange::From(first), file.get(first as usize..)),
                1 => {
                    let end = ((first + more) as usize + 1).min(file.len());
                    (ByteRange::Bounded(first, first + more), file.get(first as usize..end))
                }
                _ => (ByteRange::Last(more), Some(&file[file.len() - file.len().min(more as usize)..])),
            };
            let expected = expected.filter(|bytes| !bytes.is_empty());
            match layout.resolve(range) {
                None => prop_assert_eq!(expected, None),
                Some(part) => {
                    let slice = layout.slice(part);
                    prop_assert_eq!(expected, Some(&assembled(layout, &slice)[..]));
                    prop_assert_eq!(part.count(), expected.map(|bytes| bytes.len() as u64));
                    prop_assert!(slice.skip_in_frame < frame_bytes);
                }
            }
        }

        #[test]
        fn an_endless_stream_has_the_bytes_of_an_endless_file(
            frame_bytes in 1_usize..13,
            first in any::<u64>(),
            more in any::<u64>(),
        ) {
            let layout = Layout { header: 44, frame_bytes, data: None };
            for range in [ByteRange::From(first), ByteRange::Bounded(first, first.saturating_add(more))] {
                let Some(part) = layout.resolve(range) else {
                    prop_assert_eq!(range, ByteRange::Bounded(u64::MAX, u64::MAX));
                    continue;
                };
                let slice = layout.slice(part);
                prop_assert_eq!(slice.pad, 0);
                if first >= 44 {
                    prop_assert!(slice.header_part.is_empty());
                    prop_assert_eq!(
                        44 + u128::from(slice.first_frame) * frame_bytes as u128 + slice.skip_in_frame as u128,
                        u128::from(first)
                    );
                }
                match (part.count(), slice.len) {
                    (Some(all), Some(sound)) => {
                        prop_assert_eq!(all, sound + slice.header_part.count() as u64);
                    }
                    (None, None) => {}
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }

        #[test]
        fn no_range_header_panics(range in ".{0,40}") {
            let _ = ByteRange::parse(&range);
            let _ = ByteRange::parse(&format!("bytes={range}"));
        }
    }
}
