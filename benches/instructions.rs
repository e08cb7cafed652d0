//! Counts the instructions that each step of a sample's way takes per block. Time would be too noisy for a comparison.
//!
//! ```text
//! cargo bench --bench instructions              counts, and compares with benches/instructions.txt
//! cargo bench --bench instructions -- --store   counts, and writes that file
//! ```
//!
//! Valgrind's callgrind counts the instructions of a long and of a short run; the difference leaves out the start of the
//! program. The kernel's instructions are not counted. `shared/counts.rs` says when a count is a failure.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, exit};
use std::sync::Arc;
use std::time::Duration;
use std::{env, thread};

use wavecast::capture::convert::Converter;
use wavecast::config;
use wavecast::http::access::Access;
use wavecast::http::context::Context;
use wavecast::inputs::LiveInput;
use wavecast::listeners::{ActiveStream, Admission, Playback, Sound, StartAt, StreamSource};
use wavecast::media::format::{SampleFormat, SourceSample, StreamFormat};
use wavecast::media::meter::Meter;
use wavecast::media::ring::{self, Read as Got, Ring, Writer};
use wavecast::sys::clock;

mod shared;

use shared::command_line;
use shared::counts::{Counts, instructions};

/// The format of a CD, with blocks of 10 ms.
const FORMAT: StreamFormat = StreamFormat { rate: 44_100, channels: 2, sample: SampleFormat::S16 };
const FRAMES: u32 = 441;
const BYTES: usize = FRAMES as usize * FORMAT.frame_bytes();

/// The counted items, and the number by which the count of a block is divided.
const ITEMS: [(&str, u64); 6] = [
    ("convert S32 to s16", 1),
    ("meter", 1),
    ("ring write", 1),
    ("ring read", 1),
    ("to 1 listener", 1),
    ("to each of 50 listeners", 50),
];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let Some(arguments) = arguments.strip_prefix(&["run".to_owned()]) {
        return work(&arguments[0], arguments[1].parse().expect("a number"));
    }
    let arguments = command_line::arguments("counts");
    let mut counts = Counts::in_file("instructions.txt");
    for (item, of) in ITEMS {
        let (short, long) = (500, 1500);
        let count = (counted(item, long) - counted(item, short)) / (long - short) / of;
        println!("{count:>8}  {item:<26}{}", counts.note(item, count));
    }
    println!("instructions a block of {FRAMES} frames, {FORMAT}; {}", counts.machine());
    if !counts.finish(&arguments) {
        exit(1);
    }
}

/// Returns the number of instructions of a process that does `item` for `blocks` blocks.
fn counted(item: &str, blocks: u64) -> u64 {
    let mut command = Command::new(env::current_exe().expect("this program"));
    instructions(command.args(["run", item, &blocks.to_string()]))
}

fn work(item: &str, blocks: u64) {
    match item {
        "convert S32 to s16" => convert(blocks),
        "meter" => meter(blocks),
        "ring write" => write(blocks),
        "ring read" => read(blocks),
        "to 1 listener" => serve(blocks, 1),
        "to each of 50 listeners" => serve(blocks, 50),
        other => panic!("there is no item {other}"),
    }
}

fn new_ring() -> (Writer, Ring) {
    ring::new(FORMAT, FRAMES, Duration::from_secs(1)).expect("a second of sound fits into memory")
}

fn meter(blocks: u64) {
    let meter = Meter::new(FORMAT, FRAMES, Duration::from_secs(30));
    let sound: Vec<u8> = (0..BYTES).map(|n| (n * 7) as u8).collect();
    (0..blocks).for_each(|_| meter.note(&sound));
}

fn convert(blocks: u64) {
    let converter = Converter::new(SourceSample::S32, SampleFormat::S16, 0.0);
    let (input, mut output) = (vec![7; FRAMES as usize * 8], vec![0; BYTES]);
    for _ in 0..blocks {
        std::hint::black_box(converter.convert(std::hint::black_box(&input), &mut output));
    }
}

fn write(blocks: u64) {
    let (mut writer, _ring) = new_ring();
    let block = vec![7; BYTES];
    for at in 0..blocks {
        writer.publish(std::hint::black_box(&block), at);
    }
}

fn read(blocks: u64) {
    let (mut writer, ring) = new_ring();
    writer.publish(&vec![7; BYTES], 0);
    let (reader, mut out) = (ring.reader(u64::MAX), vec![0; BYTES]);
    for _ in 0..blocks {
        let mut reader = reader.clone();
        assert!(matches!(reader.read(std::hint::black_box(&mut out)), Got::Block { .. }));
    }
}

/// Sends blocks to the listeners. Each block reaches all listeners before the next block is published.
fn serve(blocks: u64, listeners: usize) {
    let access = Access::new(&config::Access::default()).expect("the default has no file");
    let interval = config::Interval::Every(Duration::from_millis(10));
    let context = Arc::new(Context::new(
        config::Listeners { interval, ..config::Listeners::default() },
        config::Limits::default(),
        access,
    ));
    let (mut writer, ring) = new_ring();
    let input = Arc::new(LiveInput::new("live", "test"));
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut players: Vec<TcpStream> = (0..listeners)
        .map(|_| {
            let player = TcpStream::connect(server.local_addr().expect("bound")).expect("it listens");
            let (socket, address) = server.accept().expect("a player");
            let most = Admission { max: u32::MAX, max_per_client: usize::MAX };
            let place = Box::new(());
            let seat = context.listeners.reserve(most, &[address.ip()], None);
            let seat = seat.unwrap_or_else(|_| panic!("there is room"));
            let admitted = seat.occupy("live", None, address, String::new(), socket, place);
            let body = Playback {
                chunked: true,
                begin: StartAt::Back(0),
                lag_target: Some(0),
                ..Playback::default()
            };
            let source = StreamSource { input: Arc::clone(&input), ring: ring.clone(), sound: Sound::Pcm };
            let stream = ActiveStream::new(&context.listeners, source, admitted, body, false, false);
            stream.start(Vec::new()).unwrap_or_else(|_| panic!("no thread"));
            player
        })
        .collect();
    // All listeners join the fan-out within this time.
    thread::sleep(Duration::from_millis(500));
    let block = vec![7; BYTES];
    // Size, line end, block, line end.
    let mut heard = vec![0; format!("{BYTES:x}").len() + 2 + BYTES + 2];
    for _ in 0..blocks {
        writer.publish(&block, clock::monotonic_ns());
        for player in &mut players {
            player.read_exact(&mut heard).expect("a chunk");
        }
    }
    // The threads end with the process.
    std::process::exit(0);
}
