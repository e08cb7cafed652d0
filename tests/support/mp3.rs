//! A reader of MP3 streams, frame by frame (ISO 11172-3, 13818-3).

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// In Hz.
    pub(crate) rate: u32,
    /// In kbit/s.
    pub(crate) bitrate: u32,
    pub(crate) channels: u16,
    /// Frames of sound: 1152 or 576.
    pub(crate) sound: u32,
    /// The place of the first byte.
    pub(crate) at: usize,
    pub(crate) bytes: usize,
}

/// Splits a stream that begins with a frame. Returns all whole frames, and the bytes of an incomplete one at the end.
///
/// # Panics
///
/// If something else is between two frames, if a frame needs bytes of frames before it, or is a Xing frame.
pub(crate) fn frames(stream: &[u8]) -> (Vec<Frame>, usize) {
    let (mut frames, mut at) = (Vec::new(), 0);
    while stream.len() - at >= 6 {
        let frame = header(&stream[at..], at);
        if stream.len() - at < frame.bytes {
            break;
        }
        let bytes = &stream[at..at + frame.bytes];
        let begin = match frame.sound {
            // 9 bits in MPEG-1, 8 in MPEG-2 and 2.5.
            1152 => u32::from(bytes[4]) << 1 | u32::from(bytes[5]) >> 7,
            _ => u32::from(bytes[4]),
        };
        assert_eq!(begin, 0, "frame {} needs bytes of the frames before it", frames.len());
        let named = |name: &[u8]| bytes[..bytes.len().min(44)].windows(4).any(|word| word == name);
        assert!(!named(b"Xing") && !named(b"Info"), "a Xing frame at byte {at}");
        at += frame.bytes;
        frames.push(frame);
    }
    (frames, stream.len() - at)
}

fn header(bytes: &[u8], at: usize) -> Frame {
    assert!(bytes[0] == 0xff && bytes[1] & 0xe0 == 0xe0, "no frame at byte {at}: {:x?}", &bytes[..6]);
    assert_eq!(bytes[1] >> 1 & 3, 1, "Layer III");
    assert_eq!(bytes[1] & 1, 1, "no checksum, so that the side information follows the header");
    let is_mpeg_1 = bytes[1] >> 3 & 3 == 3;
    let rate = [44_100, 48_000, 32_000][usize::from(bytes[2] >> 2 & 3)]
        / match bytes[1] >> 3 & 3 {
            3 => 1,
            2 => 2,
            0 => 4,
            _ => panic!("a reserved version"),
        };
    let bitrates = match is_mpeg_1 {
        true => [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
        false => [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
    };
    let bitrate = bitrates[usize::from(bytes[2] >> 4)];
    let sound = if is_mpeg_1 { 1152 } else { 576 };
    let padding = usize::from(bytes[2] >> 1 & 1);
    Frame {
        rate,
        bitrate,
        channels: if bytes[3] >> 6 == 3 { 1 } else { 2 },
        sound,
        at,
        bytes: (sound / 8 * bitrate * 1000 / rate) as usize + padding,
    }
}

/// Splits an ICY stream into its sound and the blocks of metadata that are not empty.
pub(crate) fn without_metadata(stream: &[u8], interval: usize) -> (Vec<u8>, Vec<String>) {
    let (mut sound, mut titles, mut rest) = (Vec::new(), Vec::new(), stream);
    while rest.len() > interval {
        sound.extend_from_slice(&rest[..interval]);
        let end = interval + 1 + usize::from(rest[interval]) * 16;
        if rest.len() < end {
            return (sound, titles);
        }
        if end > interval + 1 {
            let text = std::str::from_utf8(&rest[interval + 1..end]).expect("UTF-8");
            titles.push(text.trim_end_matches('\0').to_owned());
        }
        rest = &rest[end..];
    }
    sound.extend_from_slice(rest);
    (sound, titles)
}
