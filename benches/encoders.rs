//! Instructions that the encoders take for a second of sound, and the size of FLAC, both beside `flac -2`.
//!
//! ```text
//! cargo bench --bench encoders              counts, and compares with benches/encoders.txt
//! cargo bench --bench encoders -- --store   counts, and writes that file
//! ```
//!
//! Valgrind's callgrind counts. A count is the difference between a long and a short run of the same, so that
//! the start of the program is not in it. `shared/counts.rs` says when a count is a failure. FLAC must also
//! take fewer instructions than `flac -2` in all, and its size must be within 1 % of that of `flac -2` in
//! all.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::{env, fs};

use wavecast::encode::{Codec, Options};
use wavecast::media::format::{SampleFormat, StreamFormat};

#[path = "../tests/support/material.rs"]
mod material;
mod shared;

use material::{Material, speech};
use shared::command_line;
use shared::counts::{Counts, instructions};

const FORMAT: StreamFormat = StreamFormat { rate: 48_000, channels: 2, sample: SampleFormat::S16 };
/// Seconds of sound in the files.
const SECONDS: usize = 5;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some(arguments) = arguments.strip_prefix(&["run".to_owned()]) {
        return work(&arguments[0], Path::new(&arguments[1]), arguments[2].parse().expect("a number"));
    }
    let arguments = command_line::arguments("counts");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("encoders");
    fs::create_dir_all(&folder).expect("the target folder can be written");
    let mut counts = Counts::in_file("encoders.txt");
    let mut compared = Vec::new();
    // In thousands.
    let mut note = |item: &str, count: f64| {
        compared.push(format!("{item}: {}", counts.note(item, (count / 1000.0) as u64)));
    };
    let mut bytes = [0.0; 2];
    let mut costs = [0.0; 2];
    println!(
        "     own    flac -2   difference, million instructions a second; own, flac -2, difference in bytes"
    );
    for (name, pcm) in sounds() {
        let file = folder.join(&name);
        fs::write(&file, &pcm).expect("the file can be written");
        let own = counted(|rounds| own_command("flac", &file, rounds));
        // Speech depends on the installed espeak-ng.
        if name != "espeak" {
            note(&format!("flac {name}"), own);
        }
        let sizes = [own_bytes(&pcm), flac_bytes(&file)];
        let reference = counted(|rounds| flac_command(&folder, &file, rounds));
        println!(
            "{:>8.2} {:>10.2} {:>+7.1} %   {:>8} {:>8} {:>+6.2} %  {name}",
            own / 1e6,
            reference / 1e6,
            (own / reference - 1.0) * 100.0,
            sizes[0],
            sizes[1],
            (sizes[0] as f64 / sizes[1] as f64 - 1.0) * 100.0,
        );
        // Silence and the ramp are larger on purpose, so that players get their bytes.
        if !["silence", "ramp"].contains(&&*name) {
            for n in 0..2 {
                bytes[n] += sizes[n] as f64;
                costs[n] += [own, reference][n];
            }
        }
    }
    for codec in ["mp3", "opus"] {
        if Codec::from_name(codec).is_some_and(|codec| codec.load().is_ok()) {
            let count = counted(|rounds| own_command(codec, &folder.join("voice"), rounds));
            println!("{:>8.2}  {codec} of voice, with its library", count / 1e6);
        }
    }
    let count = counted(|rounds| own_command("resample", &folder.join("voice"), rounds));
    note("resample 44.1 to 48 kHz", count);
    println!("{:>8.2}  resampling of 44.1 to 48 kHz, a second of stereo", count / 1e6);
    let (size, cost) = (bytes[0] / bytes[1], costs[0] / costs[1]);
    println!(
        "in all without silence and ramp: size {:+.2} %, instructions {:+.1} %",
        percent(size),
        percent(cost)
    );
    println!("{}", compared.join("\n"));
    if !counts.finish(&arguments) {
        exit(1);
    }
    if size > 1.01 || cost > 1.0 {
        println!("FLAC is larger or slower than `flac -2`");
        exit(1);
    }
}

fn percent(ratio: f64) -> f64 {
    (ratio - 1.0) * 100.0
}

/// The sounds that FLAC is compared with, as PCM of `FORMAT`.
fn sounds() -> Vec<(String, Vec<u8>)> {
    let mut sounds: Vec<(String, Vec<u8>)> = Material::ALL
        .into_iter()
        .map(|material| {
            let pcm = material.pcm(FORMAT.rate, 2, SECONDS * FORMAT.rate as usize, 2);
            (format!("{material:?}").to_lowercase(), pcm)
        })
        .collect();
    if let Some(speech) = speech() {
        // Played at 48 kHz, the speech is too fast, which the encoder does not mind. Both channels are the same
        // but for noise.
        let noise = Material::Noise.pcm(FORMAT.rate, 2, speech.len(), 2);
        let noise = noise.chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]]) / 1024);
        let both = speech.iter().flat_map(|sample| [*sample, *sample]);
        let spoken = both.zip(noise).flat_map(|(sample, noise)| (sample / 2 + noise).to_le_bytes());
        sounds
            .push(("espeak".to_owned(), spoken.take(SECONDS * FORMAT.bytes_per_second() as usize).collect()));
    }
    sounds
}

/// Returns the bytes that the FLAC of this PCM has, with its header.
fn own_bytes(pcm: &[u8]) -> usize {
    let mut encoder = Codec::Flac.open(FORMAT, &Options::default()).expect("FLAC needs no library");
    let mut bytes = encoder.header().len();
    let mut sink = |packet: wavecast::encode::Packet<'_>| bytes += packet.bytes.len();
    encoder.encode(pcm, &mut sink).expect("FLAC does not fail");
    encoder.finish(&mut sink).expect("FLAC does not fail");
    bytes
}

fn flac_bytes(file: &Path) -> usize {
    let output = flac(&[file]).output().expect("flac is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.len()
}

/// The reference: no checksum of the samples, no padding, no seek table.
fn flac(files: &[&Path]) -> Command {
    let mut command = Command::new("flac");
    command.args("-2 --no-md5-sum --no-padding --no-seektable --totally-silent --stdout".split(' '));
    command.args("--force-raw-format --endian=little --sign=signed --channels=2 --bps=16".split(' '));
    command.arg(format!("--sample-rate={}", FORMAT.rate)).args(files);
    command
}

/// Returns a command that encodes the sound `rounds` times.
fn own_command(codec: &str, file: &Path, rounds: usize) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["run", codec]).arg(file).arg(rounds.to_string());
    command
}

fn flac_command(folder: &Path, file: &Path, rounds: usize) -> Command {
    let long = folder.join("long");
    fs::write(&long, fs::read(file).expect("the sound").repeat(rounds)).expect("the file can be written");
    flac(&[&long])
}

/// Returns the instructions for a second of sound.
fn counted(command: impl Fn(usize) -> Command) -> f64 {
    (instructions(&command(3)) - instructions(&command(1))) as f64 / 2.0 / SECONDS as f64
}

/// Encodes the sound `rounds` times in periods of 10 ms.
fn work(codec: &str, file: &Path, rounds: usize) {
    let pcm = fs::read(file).expect("the sound");
    let period = FORMAT.rate as usize / 100 * FORMAT.frame_bytes();
    let (codec, format) = match codec {
        "resample" => return resample(&pcm, rounds),
        codec => (Codec::from_name(codec).expect("a codec"), FORMAT),
    };
    let mut encoder = codec.open(format, &Options::default()).expect("the library is there");
    for _ in 0..rounds {
        for period in pcm.chunks(period) {
            encoder
                .encode(black_box(period), &mut |packet| {
                    black_box(packet.bytes);
                })
                .expect("no error");
        }
    }
}

/// Resamples as if the sound were at 44.1 kHz; counted is a second of input at that rate in a second of the
/// file.
fn resample(pcm: &[u8], rounds: usize) {
    let samples: Vec<i16> =
        pcm.chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]])).collect();
    let mut resampler = wavecast::encode::resample::Resampler::new(44_100, 48_000, 2);
    let mut out = Vec::new();
    for _ in 0..rounds {
        for second in samples.chunks(2 * 48_000) {
            for period in second[..2 * 44_100].chunks(882) {
                out.clear();
                resampler.process(black_box(period), &mut out);
                black_box(&out);
            }
        }
    }
}
