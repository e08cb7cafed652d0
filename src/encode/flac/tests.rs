//! Round trips through the small decoder, the floor of the bit rate, and the fields of headers.

use proptest::prelude::*;

use super::*;
use crate::media::format::SampleFormat::{S16, S24, S32};

fn format(rate: u32, channels: u16, sample: SampleFormat) -> StreamFormat {
    StreamFormat { rate, channels, sample }
}

/// PCM of samples that are aligned to the lower end of 16, 24 or 32 bits.
fn pcm_of(samples: &[i32], sample: SampleFormat) -> Vec<u8> {
    samples.iter().flat_map(|value| value.to_le_bytes()[..sample.bytes()].to_vec()).collect()
}

#[derive(Debug, PartialEq)]
struct Encoded {
    first_frame: u64,
    frames: u32,
    bytes: Vec<u8>,
}

/// Encodes in pieces of `step` frames, and what is left at the end.
fn encoded(encoder: &mut dyn Encoder, format: StreamFormat, pcm: &[u8], step: usize) -> Vec<Encoded> {
    let (mut packets, most) = (Vec::new(), encoder.max_packet_bytes());
    let mut sink = |packet: Packet<'_>| {
        assert!(packet.bytes.len() <= most, "{} of at most {most} bytes", packet.bytes.len());
        packets.push(Encoded {
            first_frame: packet.first_frame,
            frames: packet.frames,
            bytes: packet.bytes.to_vec(),
        });
    };
    for piece in pcm.chunks(step * format.frame_bytes()) {
        encoder.encode(piece, &mut sink).expect("FLAC never fails");
    }
    encoder.finish(&mut sink).expect("FLAC never fails");
    packets
}

/// Encodes PCM and asserts that every packet decodes to its frames.
fn round_trip(format: StreamFormat, samples: &[i32], step: usize) -> Vec<Encoded> {
    let pcm = pcm_of(samples, format.sample);
    let mut encoder = FlacEncoder::new(format, 1000).expect("a valid format");
    let packets = encoded(&mut encoder, format, &pcm, step);
    let (channels, shift) = (usize::from(format.channels), if format.sample == S32 { 8 } else { 0 });
    let (mut at, mut frames) = (0, 1000);
    for (n, packet) in packets.iter().enumerate() {
        let decoded = decode::frame(&packet.bytes, coded_bits(format.sample)).expect("a valid frame");
        assert_eq!(decoded.number, n as u32);
        assert_eq!(decoded.bytes, packet.bytes.len());
        assert_eq!((packet.first_frame, packet.frames as usize), (frames, decoded.channels[0].len()));
        for frame in 0..decoded.channels[0].len() {
            for channel in &decoded.channels {
                assert_eq!(channel[frame], samples[at] >> shift, "sample {at}");
                at += 1;
            }
        }
        assert_eq!(decoded.channels.len(), channels);
        frames += u64::from(packet.frames);
    }
    assert_eq!(at, samples.len());
    packets
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Samples of a signal of that kind in `bits` bits.
fn signal(kind: usize, bits: u32, channels: usize, frames: usize, seed: u64) -> Vec<i32> {
    let (most, mut state) = ((1i64 << (bits - 1)) - 1, seed | 1);
    let mut out = Vec::with_capacity(channels * frames);
    for frame in 0..frames {
        let common = random(&mut state) as i64;
        for channel in 0..channels {
            let own = random(&mut state) as i64;
            let tone = ((frame as f64 * 0.03 * (channel + 1) as f64).sin() * most as f64 * 0.7) as i64;
            out.push(match kind {
                0 => 0,
                1 => most,
                2 => -most - 1,
                3 if (frame / 50) % 2 == 0 => most,
                3 => -most - 1,
                4 => own >> (64 - bits),
                5 => common >> (64 - bits),
                6 if channel % 2 == 0 => common >> (64 - bits),
                6 => -(common >> (64 - bits)) - 1,
                7 => tone,
                8 => tone + (own >> (64 - bits + 9)),
                9 => (frame * channels + channel) as i64 & most,
                10 => i64::from(own % 500 == 0) * most,
                11 => own % 3 / 2,
                12 => tone >> 8 << 8,
                13 if frame % 3000 < 1700 => 0,
                13 => own >> (64 - bits / 2),
                _ => i64::from(frame % 2 == 0) * 2 * most - most,
            } as i32);
        }
    }
    out
}
const KINDS: usize = 15;

#[test]
fn every_signal_width_and_number_of_channels_comes_back() {
    for kind in 0..KINDS {
        for (sample, bits) in [(S16, 16), (S24, 24), (S32, 32)] {
            for channels in 1..=8 {
                let samples = signal(kind, bits, channels.into(), 3 * BLOCK_FRAMES + 77, 42);
                round_trip(format(48_000, channels, sample), &samples, 441);
            }
        }
    }
}

#[test]
fn a_last_block_of_any_length_comes_back() {
    for frames in (1..40).chain([575, 576, 1151, 1152, 1153]) {
        for kind in [0, 3, 4, 7] {
            round_trip(format(44_100, 2, S16), &signal(kind, 16, 2, frames, 1), 5000);
        }
    }
}

proptest! {
    #[test]
    fn random_samples_come_back(
        sample in prop::sample::select(&SampleFormat::ALL[..]),
        channels in 1u16..=8,
        step in 1usize..3000,
        bits in 1u32..=32,
        seeds in prop::collection::vec(any::<u64>(), 1..6),
        order in 0usize..5,
    ) {
        // Noise of a random width for each piece, summed up as often as a random order says, so that each
        // predictor and each parameter has its turn, with overflows as steps of full scale.
        let width = u32::from(sample.bits());
        let mut samples = Vec::new();
        for (n, seed) in seeds.iter().enumerate() {
            let mut state = seed | 1;
            let frames = 1 + (seed >> 8) as usize % 900;
            let bits = (bits + 7 * n as u32 - 1) % width + 1;
            let mut sums = vec![[0i32; 5]; channels.into()];
            for _ in 0..frames {
                for sums in &mut sums {
                    sums[0] = (random(&mut state) as i64 >> (64 - bits)) as i32;
                    for n in 1..5 {
                        sums[n] = sums[n].wrapping_add(sums[n - 1]) << (32 - width) >> (32 - width);
                    }
                    samples.push(sums[order]);
                }
            }
        }
        round_trip(format(48_000, channels, sample), &samples, step);
    }
}

#[test]
fn packets_do_not_depend_on_the_pieces_of_pcm() {
    let samples = signal(8, 16, 2, 5000, 3);
    let whole = round_trip(format(48_000, 2, S16), &samples, 5000);
    for step in [1, 100, 1151, 1152, 1153, 2304] {
        assert_eq!(round_trip(format(48_000, 2, S16), &samples, step), whole);
    }
}

#[test]
fn silence_takes_a_quarter_of_pcm_whatever_its_value() {
    for (sample, bits) in [(S16, 16), (S24, 24)] {
        for channels in [1, 2, 6] {
            for kind in [0, 1] {
                let samples = signal(kind, bits, channels.into(), 10 * BLOCK_FRAMES, 1);
                let format = format(48_000, channels, sample);
                let packets = round_trip(format, &samples, 480);
                for packet in &packets {
                    let pcm = BLOCK_FRAMES * format.frame_bytes();
                    assert!((pcm / 4..pcm / 4 + 100).contains(&packet.bytes.len()), "{}", packet.bytes.len());
                }
            }
        }
    }
    // For Chromium, half of PCM.
    for sample in [S16, S24] {
        let (format, samples) = (format(48_000, 2, sample), vec![0; 2 * 10 * BLOCK_FRAMES]);
        let options = Options { target: Target::OggListeners, ..Options::default() };
        let mut encoder = OggFlacEncoder::new(format, &options, Paging::EachPacket).expect("a valid format");
        let pcm = BLOCK_FRAMES * format.frame_bytes();
        let pages = encoded(&mut encoder, format, &pcm_of(&samples, sample), 480);
        // The last page has no frame.
        for page in &pages[..pages.len() - 1] {
            assert!((pcm / 2..pcm / 2 + 150).contains(&page.bytes.len()), "{}", page.bytes.len());
        }
    }
    // Clicks in silence, and a last bit that toggles now and then.
    for kind in [10, 13] {
        let packets = round_trip(format(48_000, 1, S16), &signal(kind, 16, 1, 20 * BLOCK_FRAMES, 1), 480);
        assert!(packets.iter().all(|packet| packet.bytes.len() > BLOCK_FRAMES / 4));
    }
}

#[test]
fn a_silent_channel_beside_a_loud_one_costs_nothing() {
    let noise = signal(4, 16, 1, 10 * BLOCK_FRAMES, 1);
    let bytes = |samples: Vec<i32>| -> usize {
        round_trip(format(48_000, 2, S16), &samples, 480).iter().map(|packet| packet.bytes.len()).sum()
    };
    let alone: usize =
        round_trip(format(48_000, 1, S16), &noise, 480).iter().map(|packet| packet.bytes.len()).sum();
    assert!(bytes(noise.iter().flat_map(|sample| [*sample, 0]).collect()) < alone + 100);
    assert!(bytes(noise.iter().flat_map(|sample| [*sample, *sample]).collect()) < alone + 100);
}

#[test]
fn sound_of_16_bits_in_24_takes_what_16_bits_take() {
    let samples = signal(8, 16, 2, 10 * BLOCK_FRAMES, 1);
    let sum = |packets: Vec<Encoded>| packets.iter().map(|packet| packet.bytes.len()).sum::<usize>();
    let narrow = sum(round_trip(format(48_000, 2, S16), &samples, 480));
    let wide: Vec<i32> = samples.iter().map(|sample| sample << 8).collect();
    assert!(sum(round_trip(format(48_000, 2, S24), &wide, 480)) < narrow + 10 * 10);
}

#[test]
fn no_packet_is_much_longer_than_pcm() {
    for (sample, bits) in [(S16, 16), (S24, 24)] {
        let packets = round_trip(format(48_000, 2, sample), &signal(4, bits, 2, 3 * BLOCK_FRAMES, 9), 480);
        for packet in packets {
            assert!(packet.bytes.len() <= BLOCK_FRAMES * 2 * sample.bytes() + 20);
        }
    }
}

#[test]
fn numbers_end_before_2_to_the_31() {
    let format = format(48_000, 1, S16);
    let mut encoder = FlacEncoder::new(format, 0).expect("a valid format");
    encoder.number_from(NUMBERS - 2);
    let block = vec![0; BLOCK_FRAMES * 2];
    let mut numbers = Vec::new();
    for n in 0..4 {
        assert_eq!(encoder.is_full(), n >= 2);
        let mut sink =
            |packet: Packet<'_>| numbers.push(decode::frame(packet.bytes, 16).expect("a frame").number);
        encoder.encode(&block, &mut sink).expect("FLAC never fails");
    }
    assert_eq!(numbers, [NUMBERS - 2, NUMBERS - 1]);
}

#[test]
fn frame_numbers_of_every_length_are_read_back() {
    for bit in 0..31 {
        for number in [(1u32 << bit) - 1, 1 << bit, (1 << bit) + 1] {
            let mut encoder = FlacEncoder::new(format(8_000, 1, S16), 0).expect("a valid format");
            encoder.number_from(number);
            let bytes = encoder.frames.encode(&[0; BLOCK_FRAMES * 2]).expect("a number is left");
            assert_eq!(decode::frame(bytes, 16).expect("a frame").number, number);
        }
    }
}

#[test]
fn a_skip_keeps_numbers_and_tells_positions() {
    let format = format(48_000, 1, S16);
    let mut encoder = FlacEncoder::new(format, 0).expect("a valid format");
    let pcm = vec![1; (BLOCK_FRAMES + 500) * 2];
    let mut seen = Vec::new();
    for start in [0, 100_000] {
        let mut sink = |packet: Packet<'_>| {
            seen.push((packet.first_frame, decode::frame(packet.bytes, 16).expect("a frame").number));
        };
        encoder.skip_to(start, &mut sink);
        encoder.encode(&pcm, &mut sink).expect("FLAC never fails");
    }
    assert_eq!(seen, [(0, 0), (100_000, 1)]);
}

#[test]
fn the_header_is_as_the_specification_has_it() {
    let live = header(format(44_100, 2, S16), None);
    assert_eq!(live[..8], *b"fLaC\x80\0\0\x22");
    assert_eq!(live[8..18], [4, 0x80, 4, 0x80, 0, 0, 0, 0, 0, 0]);
    // 44100 in 20 bits, channels - 1 in 3, bits - 1 in 5, total 0 in 36.
    assert_eq!(live[18..26], [0x0a, 0xc4, 0x42, 0xf0, 0, 0, 0, 0]);
    assert_eq!(live[26..], [0; 16]);
    let totals = Totals { frames: 0x1_2345_6789, md5: [7; 16] };
    let finite = header(format(44_100, 2, S32), Some(totals));
    assert_eq!(finite[18..26], [0x0a, 0xc4, 0x43, 0x71, 0x23, 0x45, 0x67, 0x89]);
    assert_eq!(finite[26..], [7; 16]);
    let long = header(format(44_100, 2, S16), Some(Totals { frames: 1 << 36, md5: [0; 16] }));
    assert_eq!(long, live);
}

#[test]
fn formats_that_flac_does_not_have_are_refused() {
    let error = |rate, channels| FlacEncoder::new(format(rate, channels, S16), 0).err();
    assert_eq!(error(48_000, 0), Some(OpenError::Channels(0)));
    assert_eq!(error(48_000, 9), Some(OpenError::Channels(9)));
    assert_eq!(error(0, 1), Some(OpenError::Rate(0)));
    assert_eq!(error(1 << 20, 1), Some(OpenError::Rate(1 << 20)));
    assert_eq!(error((1 << 20) - 1, 8), None);
}

#[test]
fn rates_are_in_the_frame_header_where_it_can_say_them() {
    assert_eq!(rate_code(44_100), (9, [0, 0]));
    assert_eq!(rate_code(12_000), (12, [0, 12]));
    assert_eq!(rate_code(11_025), (13, [0x2b, 0x11]));
    assert_eq!(rate_code(352_800), (14, [0x89, 0xd0]));
    assert_eq!(rate_code(255_000), (12, [0, 255]));
    assert_eq!(rate_code(384_000), (14, [0x96, 0x00]));
    assert_eq!(rate_code(655_351), (0, [0, 0]));
    assert_eq!(rate_code(768_000), (0, [0, 0]));
}

#[test]
fn the_digest_does_not_depend_on_pieces() {
    let samples = signal(4, 32, 2, 3000, 5);
    for sample in SampleFormat::ALL {
        let format = format(48_000, 2, sample);
        let pcm = pcm_of(&samples, sample);
        let digest = |step: usize| {
            let mut digest = SampleDigest::new(format);
            pcm.chunks(step * sample.bytes()).for_each(|piece| digest.update(piece));
            digest.finish()
        };
        assert_eq!(digest(1), digest(100_000));
    }
    // The upper 24 bits of 32.
    let mut wide = SampleDigest::new(format(48_000, 2, S32));
    wide.update(&pcm_of(&samples, S32));
    let upper: Vec<i32> = samples.iter().map(|sample| sample >> 8).collect();
    let mut narrow = SampleDigest::new(format(48_000, 2, S24));
    narrow.update(&pcm_of(&upper, S24));
    assert_eq!(wide.finish(), narrow.finish());
}

#[test]
fn ogg_pages_hold_the_frames_and_count_samples() {
    let format = format(48_000, 2, S16);
    let samples = signal(8, 16, 2, 10 * BLOCK_FRAMES + 100, 5);
    let pcm = pcm_of(&samples, S16);
    let options = Options { title: "Attic", first_frame: 50, ..Options::default() };
    let mut encoder = OggFlacEncoder::new(format, &options, Paging::TenthOfASecond).expect("a valid format");
    assert!(encoder.header().windows(11).any(|window| window == b"TITLE=Attic"));
    let pages = encoded(&mut encoder, format, &pcm, 441);
    let frames: Vec<_> = pages.iter().map(|page| (page.first_frame, page.frames)).collect();
    let block = BLOCK_FRAMES as u64;
    assert_eq!(frames, [(50, 4 * 1152), (50 + 4 * block, 4 * 1152), (50 + 8 * block, 2 * 1152 + 100)]);
    let native = encoded(&mut FlacEncoder::new(format, 50).expect("valid"), format, &pcm, 441);
    let bodies: Vec<u8> =
        pages.iter().flat_map(|page| page.bytes[27 + usize::from(page.bytes[26])..].to_vec()).collect();
    assert_eq!(bodies, native.iter().flat_map(|packet| packet.bytes.clone()).collect::<Vec<_>>());
    let granule = u64::from_le_bytes(pages[2].bytes[6..14].try_into().expect("8 bytes"));
    assert_eq!(granule, 10 * block + 100);
}
