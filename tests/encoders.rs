//! The encoders beside programs and libraries that others wrote, a program of its own because decoding takes all cores:
//! those decode what the encoders write, every sample of FLAC, and MP3 and Opus from every joint without a warning.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use wavecast::encode::flac::{self, FlacEncoder, SampleDigest, Totals};
use wavecast::encode::{Codec, Encoder, OpenError, Options, Packet, Target};
use wavecast::media::format::{SampleFormat, StreamFormat};

mod support;

use support::material::{Material, all_materials};
use support::programs::{ffmpeg, run, skip};

const STEREO: StreamFormat = StreamFormat { rate: 48_000, channels: 2, sample: SampleFormat::S16 };

/// Every usual rate, with 1 to 8 channels and each sample format in turn.
fn formats() -> Vec<StreamFormat> {
    let rates = [
        8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 37_800, 44_100, 48_000, 64_000, 88_200,
        96_000, 176_400, 192_000,
    ];
    let mut formats: Vec<StreamFormat> = rates
        .into_iter()
        .zip((1..=8).cycle())
        .zip(SampleFormat::ALL.into_iter().cycle())
        .map(|((rate, channels), sample)| StreamFormat { rate, channels, sample })
        .collect();
    formats.extend(SampleFormat::ALL.map(|sample| StreamFormat { sample, ..STEREO }));
    formats
}

/// Returns the header and the packets of this PCM, which arrives in pieces of 10 ms.
fn encoded(encoder: &mut dyn Encoder, format: StreamFormat, pcm: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut packets = Vec::new();
    let mut sink = |packet: Packet<'_>| packets.push(packet.bytes.to_vec());
    for piece in pcm.chunks(format.rate as usize / 100 * format.frame_bytes()) {
        encoder.encode(piece, &mut sink).expect("no error");
    }
    encoder.finish(&mut sink).expect("no error");
    (encoder.header().to_vec(), packets)
}

/// Returns an encoder, or `None` where its library is missing.
fn open(codec: Codec, format: StreamFormat, options: &Options<'_>) -> Option<Box<dyn Encoder>> {
    match codec.open(format, options) {
        Err(OpenError::Library(missing)) => {
            skip(&missing.to_string());
            None
        }
        other => Some(other.expect("an encoder")),
    }
}

/// A file of this name for one test.
fn file(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("encoders");
    fs::create_dir_all(&folder).expect("the folder can be made");
    folder.join(name)
}

fn path(file: &Path) -> &str {
    file.to_str().expect("a path of plain letters")
}

/// Returns the PCM that FLAC carries: the upper 24 of 32 bits, everything else as it is.
fn carried(format: StreamFormat, pcm: &[u8]) -> Vec<u8> {
    match format.sample {
        SampleFormat::S32 => pcm.chunks_exact(4).flat_map(|sample| sample[1..].to_vec()).collect(),
        _ => pcm.to_vec(),
    }
}

/// ffmpeg's and FLAC's names of the samples that FLAC carries.
fn raw_name(format: StreamFormat) -> &'static str {
    if format.sample == SampleFormat::S16 { "s16le" } else { "s24le" }
}

const FLAC_DECODES: &[&str] =
    &["-d", "-c", "--silent", "--force-raw-format", "--endian=little", "--sign=signed", "-"];

/// Panics with the place of the first difference, instead of printing both.
#[track_caller]
fn assert_same(decoded: &[u8], expected: &[u8], what: &str) {
    let different = decoded.iter().zip(expected).position(|(a, b)| a != b);
    assert_eq!((different, decoded.len()), (None, expected.len()), "{what}: first different byte, length");
}

#[test]
fn flac_decodes_bit_by_bit_with_the_reference_decoder() {
    for format in formats() {
        let pcm = all_materials(format);
        let mut encoder = FlacEncoder::new(format, 0).expect("a valid format");
        let (header, packets) = encoded(&mut encoder, format, &pcm);
        let stream = [header, packets.concat()].concat();
        let Some(output) = run("flac", FLAC_DECODES, &stream) else { return };
        assert_same(&output.stdout, &carried(format, &pcm), &format.to_string());
    }
}

#[test]
fn flac_decodes_bit_by_bit_with_ffmpeg() {
    for format in formats() {
        let pcm = all_materials(format);
        let mut encoder = FlacEncoder::new(format, 0).expect("a valid format");
        let (header, packets) = encoded(&mut encoder, format, &pcm);
        let Some(decoded) = ffmpeg(&[header, packets.concat()].concat(), raw_name(format)) else { return };
        assert_same(&decoded, &carried(format, &pcm), &format.to_string());
    }
}

#[test]
fn flac_decodes_bit_by_bit_with_libsndfile() {
    for format in formats() {
        let pcm = all_materials(format);
        let mut encoder = FlacEncoder::new(format, 0).expect("a valid format");
        let (_, packets) = encoded(&mut encoder, format, &pcm);
        let name = format!("sndfile-{}-{}-{}", format.rate, format.channels, format.sample);
        let (from, to) = (file(&format!("{name}.flac")), file(&format!("{name}.wav")));
        // libsndfile reads files, which have totals.
        fs::write(&from, [finite_header(format, &pcm).to_vec(), packets.concat()].concat()).expect("written");
        let width = if format.sample == SampleFormat::S16 { "-pcm16" } else { "-pcm24" };
        let Some(_) = run("sndfile-convert", &[width, path(&from), path(&to)], &[]) else { return };
        let wav = fs::read(&to).expect("the converted file");
        let data = wav.windows(4).position(|id| id == b"data").expect("a data chunk") + 8;
        let carried = carried(format, &pcm);
        assert_same(&wav[data..data + carried.len()], &carried, &format.to_string());
    }
}

fn finite_header(format: StreamFormat, pcm: &[u8]) -> [u8; flac::HEADER_BYTES] {
    let mut digest = SampleDigest::new(format);
    digest.update(pcm);
    let frames = (pcm.len() / format.frame_bytes()) as u64;
    flac::header(format, Some(Totals { frames, md5: digest.finish() }))
}

#[test]
fn a_finite_flac_passes_every_check_of_the_reference_decoder() {
    for format in formats() {
        let pcm = all_materials(format);
        let mut encoder = FlacEncoder::new(format, 0).expect("a valid format");
        let (_, packets) = encoded(&mut encoder, format, &pcm);
        let stream = [finite_header(format, &pcm).to_vec(), packets.concat()].concat();
        // Warnings are errors: it must have the right MD5 and the right length.
        let Some(_) = run("flac", &["--test", "--silent", "--warnings-as-errors", "-"], &stream) else {
            return;
        };
        let file = file(&format!("finite-{}-{}-{}.flac", format.rate, format.channels, format.sample));
        fs::write(&file, &stream).expect("written");
        let shown = ["--show-total-samples", "--show-sample-rate", "--show-channels", path(&file)];
        let Some(output) = run("metaflac", &shown, &[]) else { return };
        let frames = pcm.len() / format.frame_bytes();
        let expected = format!("{frames}\n{}\n{}\n", format.rate, format.channels);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
}

#[test]
fn flac_can_be_joined_at_every_packet() {
    let pcm = Material::Music.pcm(48_000, 2, 60 * flac::BLOCK_FRAMES, 2);
    // After a day, as numbers go.
    let mut encoder = FlacEncoder::new(STEREO, 0).expect("a valid format");
    encoder.number_from(3_600_000);
    let (header, packets) = encoded(&mut encoder, STEREO, &pcm);
    let block = flac::BLOCK_FRAMES * STEREO.frame_bytes();
    for joint in [0, 1, 2, 31, 58, 59] {
        let stream = [header.clone(), packets[joint..].concat()].concat();
        let Some(output) = run("flac", FLAC_DECODES, &stream) else { return };
        assert_same(&output.stdout, &pcm[joint * block..], &format!("flac from packet {joint}"));
        let Some(decoded) = ffmpeg(&stream, "s16le") else { return };
        assert_same(&decoded, &pcm[joint * block..], &format!("ffmpeg from packet {joint}"));
    }
}

#[test]
fn the_last_numbers_of_flac_still_decode() {
    let pcm = Material::Voice.pcm(48_000, 2, 5 * flac::BLOCK_FRAMES, 2);
    let mut encoder = FlacEncoder::new(STEREO, 0).expect("a valid format");
    encoder.number_from((1 << 31) - 3);
    let (header, packets) = encoded(&mut encoder, STEREO, &pcm);
    assert_eq!(packets.len(), 3, "then it is full");
    assert!(encoder.is_full());
    let stream = [header, packets.concat()].concat();
    let carried = &pcm[..3 * flac::BLOCK_FRAMES * STEREO.frame_bytes()];
    let Some(output) = run("flac", FLAC_DECODES, &stream) else { return };
    assert_same(&output.stdout, carried, "flac");
    let Some(decoded) = ffmpeg(&stream, "s16le") else { return };
    assert_same(&decoded, carried, "ffmpeg");
}

#[test]
fn flac_in_ogg_decodes_bit_by_bit_and_from_every_page() {
    for format in formats() {
        let pcm = all_materials(format);
        let options = Options { target: Target::Push, title: "Attic, über", ..Options::default() };
        let mut encoder = Codec::Flac.open(format, &options).expect("a valid format");
        let (header, pages) = encoded(&mut *encoder, format, &pcm);
        let stream = [header.clone(), pages.concat()].concat();
        let arguments = [&["--ogg"], FLAC_DECODES].concat();
        let Some(output) = run("flac", &arguments, &stream) else { return };
        assert_same(&output.stdout, &carried(format, &pcm), &format.to_string());
        let joined = [header, pages[3..].concat()].concat();
        let Some(decoded) = ffmpeg(&joined, raw_name(format)) else { return };
        let expected = carried(format, &pcm);
        assert_same(&decoded, &expected[expected.len() - decoded.len()..], &format.to_string());
        assert!(decoded.len() > expected.len() / 4);
    }
}

#[test]
fn every_mp3_frame_stands_alone_and_decodes_without_a_warning() {
    for (rate, channels, bitrate) in [
        (48_000, 2, 128),
        (44_100, 2, 320),
        (44_100, 1, 64),
        (32_000, 2, 96),
        (22_050, 1, 32),
        (16_000, 2, 160),
        (11_025, 1, 16),
        (8_000, 2, 64),
        (96_000, 6, 128),
        (44_100, 1, 16),
    ] {
        let format = StreamFormat { rate, channels, sample: SampleFormat::S16 };
        // Silence, noise and square waves are where an encoder would want to borrow bits.
        let pcm = [all_materials(format), all_materials(format)].concat();
        let options = Options { bitrate: Some(bitrate), ..Options::default() };
        let Some(mut encoder) = open(Codec::Mp3, format, &options) else { return };
        let (header, packets) = encoded(&mut *encoder, format, &pcm);
        assert!(header.is_empty());
        for packet in &packets {
            assert_eq!(packet[0], 0xff);
            assert_eq!(packet[1] & 1, 1, "no checksum, so that the side information follows the header");
            let is_mpeg_1 = packet[1] >> 3 & 3 == 3;
            // 9 bits in MPEG-1, 8 in MPEG-2 and 2.5.
            let main_data_begin =
                packet[4] as usize * 2 + if is_mpeg_1 { packet[5] as usize >> 7 } else { 0 };
            assert_eq!(main_data_begin, 0, "{format}, {bitrate} kbit/s");
            // A Xing frame has its name behind the side information, 9 to 32 bytes.
            assert!(!packet[..44].windows(4).any(|word| word == b"Xing" || word == b"Info"));
        }
        for joint in [0, 1, 2, 7, packets.len() / 2] {
            let stream = packets[joint..].concat();
            let Some(decoded) = ffmpeg(&stream, "s16le") else { return };
            let Some(output) = run("mpg123", &["-q", "--no-resync", "-s", "-"], &stream) else { return };
            assert_eq!(output.stderr, "", "mpg123 has something to say");
            // Both throw nothing away but the first frame, of which the half overlaps with what is missing.
            let per_frame = decoded.len() / (packets.len() - joint);
            assert!(decoded.len() >= (packets.len() - joint - 1) * per_frame);
            assert!(output.stdout.len() + 2 * per_frame >= decoded.len());
        }
    }
}

/// Returns one channel of 16-bit samples.
fn channel(pcm: &[u8], channels: usize, number: usize) -> Vec<i16> {
    let samples = pcm.chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]]));
    samples.skip(number).step_by(channels).collect()
}

/// Returns the root of the mean square.
fn level(samples: &[i16]) -> f64 {
    (samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / samples.len() as f64).sqrt()
}

#[test]
fn mp3_keeps_the_level_and_the_sides() {
    let pcm = Material::Music.pcm(44_100, 2, 88_200, 2);
    let silent_right: Vec<u8> = pcm.chunks_exact(4).flat_map(|frame| [frame[0], frame[1], 0, 0]).collect();
    let format = StreamFormat { rate: 44_100, ..STEREO };
    let Some(mut encoder) = open(Codec::Mp3, format, &Options::default()) else { return };
    let (_, packets) = encoded(&mut *encoder, format, &silent_right);
    let Some(decoded) = ffmpeg(&packets.concat(), "s16le") else { return };
    let ratio = level(&channel(&decoded, 2, 0)) / level(&channel(&pcm, 2, 0));
    assert!((0.9..1.1).contains(&ratio), "{ratio}");
    assert!(level(&channel(&decoded, 2, 1)) < 20.0);
}

#[test]
fn opus_has_no_fault_in_the_eyes_of_opusinfo() {
    for format in formats() {
        for target in [Target::Listeners, Target::Push, Target::File] {
            let pcm = all_materials(format);
            let options = Options { target, title: "Attic", ..Options::default() };
            let Some(mut encoder) = open(Codec::Opus, format, &options) else { return };
            let (header, pages) = encoded(&mut *encoder, format, &pcm);
            let file = file(&format!("info-{}-{}-{}.opus", format.rate, format.channels, format.sample));
            fs::write(&file, [header, pages.concat()].concat()).expect("written");
            let Some(output) = run("opusinfo", &[path(&file)], &[]) else { return };
            let text = String::from_utf8_lossy(&output.stdout) + &*output.stderr;
            assert!(!text.to_lowercase().contains("warning") && !text.contains("rror"), "{format}: {text}");
            assert!(text.contains("TITLE=Attic") || text.contains("title=Attic"), "{text}");
            assert!(text.contains(&format!("Original sample rate: {} Hz", format.rate)), "{text}");
        }
    }
}

#[test]
fn opus_can_be_joined_at_every_page() {
    for format in [STEREO, StreamFormat { rate: 44_100, channels: 1, sample: SampleFormat::S24 }] {
        let pcm = Material::Music.pcm(
            format.rate,
            format.channels.into(),
            3 * format.rate as usize,
            format.sample.bytes(),
        );
        let Some(mut encoder) = open(Codec::Opus, format, &Options::default()) else { return };
        let (header, pages) = encoded(&mut *encoder, format, &pcm);
        for joint in [0, 1, 2, 77, 140] {
            let stream = [header.clone(), pages[joint..].concat()].concat();
            let Some(decoded) = ffmpeg(&stream, "s16le") else { return };
            let frames = decoded.len() / 2 / usize::from(format.channels);
            // The pre-skip is thrown away.
            let expected = (pages.len() - joint) * 960 - 3840;
            assert!(frames.abs_diff(expected) <= 960, "{frames} of {expected} frames from page {joint}");
            assert!(level(&channel(&decoded, format.channels.into(), 0)[..2000]) > 100.0, "it begins loud");
        }
    }
}

#[test]
fn a_finite_opus_has_every_frame_at_its_place() {
    for rate in [4_000, 8_000, 44_100, 48_000, 96_000] {
        let format = StreamFormat { rate, channels: 1, sample: SampleFormat::S16 };
        // A burst of 10 ms from 0.7 s on, in 1.23 s.
        let (frames, start) = (rate as usize * 123 / 100, rate as usize * 7 / 10);
        let noise = Material::Noise.pcm(rate, 1, rate as usize / 100, 2);
        let mut pcm = vec![0; frames * 2];
        pcm[start * 2..start * 2 + noise.len()].copy_from_slice(&noise);
        let options = Options { target: Target::File, bitrate: Some(256), ..Options::default() };
        let Some(mut encoder) = open(Codec::Opus, format, &options) else { return };
        let (header, pages) = encoded(&mut *encoder, format, &pcm);
        // The end is marked in the last page and in no other.
        let ends: Vec<usize> = (0..pages.len()).filter(|page| pages[*page][5] & 4 != 0).collect();
        assert_eq!(ends, [pages.len() - 1], "{rate} Hz");
        let file = file(&format!("finite-{rate}.opus"));
        fs::write(&file, [header, pages.concat()].concat()).expect("written");
        let arguments = ["--quiet", "--rate", "48000", path(&file), "-"];
        let Some(output) = run("opusdec", &arguments, &[]) else { return };
        let decoded = channel(&output.stdout, 1, 0);
        assert_eq!(decoded.len(), frames * 48_000 / rate as usize, "{rate} Hz");
        let loud: Vec<usize> = (0..decoded.len()).filter(|n| decoded[*n].unsigned_abs() > 2_000).collect();
        let (first, last) = (loud[0], loud[loud.len() - 1]);
        // The codec smears the edges by a few milliseconds.
        assert!(first.abs_diff(33_600) < 240, "{rate} Hz: begins at {first}");
        assert!(last.abs_diff(33_600 + 480) < 240, "{rate} Hz: ends at {last}");
    }
}

#[test]
fn packets_cover_what_was_fed_once_and_in_order_also_behind_a_skip() {
    for codec in Codec::ALL {
        for target in [Target::Listeners, Target::Push] {
            for rate in [8_000, 44_100, 48_000, 96_000] {
                let format = StreamFormat { rate, ..STEREO };
                let pcm = Material::Music.pcm(rate, 2, rate as usize, 2);
                let options = Options { target, first_frame: 777, ..Options::default() };
                let Some(mut encoder) = open(codec, format, &options) else { continue };
                let most = (encoder.max_packet_bytes(), encoder.max_packet_frames());
                let (first, second) = (777..777 + u64::from(rate), 9_000_000..9_000_000 + u64::from(rate));
                let mut covered = Vec::new();
                for piece in [first.clone(), second.clone()] {
                    let mut sink = |packet: Packet<'_>| {
                        assert!(
                            packet.bytes.len() <= most.0 && packet.frames <= most.1,
                            "{codec}, {rate} Hz"
                        );
                        covered.push(packet.first_frame..packet.first_frame + u64::from(packet.frames));
                    };
                    encoder.skip_to(piece.start, &mut sink);
                    for period in pcm.chunks(rate as usize / 100 * 4) {
                        encoder.encode(period, &mut sink).expect("no error");
                    }
                }
                let mut holes = 0;
                for pair in covered.windows(2) {
                    if pair[1].start != pair[0].end {
                        assert_eq!(pair[1].start, second.start, "{codec}, {rate} Hz");
                        holes += 1;
                    }
                }
                assert_eq!((covered[0].start, holes), (first.start, 1), "{codec}, {rate} Hz");
                let within = |range: &std::ops::Range<u64>| {
                    [&first, &second].iter().any(|fed| fed.start <= range.start && range.end <= fed.end)
                };
                assert!(
                    covered.iter().all(within),
                    "{codec}, {rate} Hz: a packet has frames that it never got"
                );
                // PCM that waits for a complete packet lasts less than 0.2 s (1152 frames at 8 kHz take 0.14
                // s).
                let last = covered.last().expect("packets");
                assert!(second.end - last.end < u64::from(rate / 3), "{codec}, {rate} Hz");
            }
        }
    }
}

/// The stack that an encoder's thread needs at least. libopus and LAME keep their work there.
#[test]
fn a_thread_of_256_kilobytes_of_stack_is_enough() {
    for codec in Codec::ALL {
        let thread = thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            let pcm = all_materials(STEREO);
            let highest = codec.bitrates().last().copied();
            let options = Options { bitrate: highest, ..Options::default() };
            let Some(mut encoder) = open(codec, STEREO, &options) else { return };
            encoder.encode(&pcm, &mut |_| {}).expect("no error");
            encoder.finish(&mut |_| {}).expect("no error");
        });
        thread.expect("a thread").join().expect("no panic");
    }
}
