//! FLAC: whatever the samples, a small decoder written from the specification gets them back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wavecast::encode::flac::{FlacEncoder, decode};
use wavecast::encode::{Encoder, Packet};
use wavecast::media::format::{SampleFormat, StreamFormat};

fuzz_target!(|bytes: &[u8]| {
    // The first byte is the format, the second one how PCM is cut, the third one repeats it, to fill blocks.
    let [kind, cut, times, rest @ ..] = bytes else { return };
    let sample = SampleFormat::ALL[usize::from(kind / 8 % 3)];
    let format = StreamFormat { rate: 48_000, channels: u16::from(kind % 8) + 1, sample };
    let mut pcm = rest.repeat(usize::from(times % 16) + 1);
    pcm.truncate(pcm.len() / format.frame_bytes() * format.frame_bytes());

    let mut encoder = FlacEncoder::new(format, 0).expect("a valid format");
    let most = encoder.max_packet_bytes();
    let bits = if sample == SampleFormat::S16 { 16 } else { 24 };
    let (mut next, mut number, mut decoded) = (0, 0, Vec::new());
    let mut sink = |packet: Packet<'_>| {
        assert!(packet.bytes.len() <= most);
        assert_eq!(packet.first_frame, next);
        let frame = decode::frame(packet.bytes, bits).expect("a valid frame");
        assert_eq!((frame.number, frame.bytes), (number, packet.bytes.len()));
        assert_eq!(frame.channels.len(), usize::from(format.channels));
        assert!(frame.channels.iter().all(|channel| channel.len() == packet.frames as usize));
        for n in 0..packet.frames as usize {
            for channel in &frame.channels {
                decoded.extend_from_slice(&channel[n].to_le_bytes()[..bits as usize / 8]);
            }
        }
        next += u64::from(packet.frames);
        number += 1;
    };
    for piece in pcm.chunks((usize::from(*cut) + 1) * 7 * format.frame_bytes()) {
        encoder.encode(piece, &mut sink).expect("FLAC does not fail");
    }
    encoder.finish(&mut sink).expect("FLAC does not fail");
    // Of 32 bits, FLAC has the upper 24.
    let lower = usize::from(sample == SampleFormat::S32);
    let expected: Vec<u8> = pcm.chunks(sample.bytes()).flat_map(|sample| sample[lower..].to_vec()).collect();
    assert!(decoded == expected, "{format}");
});
