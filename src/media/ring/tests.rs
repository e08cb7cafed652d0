//! Tests of the guarantees for readers, whatever the writer does. Miri runs these too.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::media::format::SampleFormat;

fn ring(format: StreamFormat, block_frames: u32, history: Duration) -> (Writer, Ring) {
    new(format, block_frames, history).expect("a small ring fits into memory")
}

fn ring_of(slots: usize, format: StreamFormat, block_frames: u32) -> (Writer, Ring) {
    with_slots(format, block_frames, slots).expect("a small ring fits into memory")
}

const STEREO: StreamFormat = StreamFormat { rate: 1000, channels: 2, sample: SampleFormat::S16 };

/// Returns frames with numbers `first` and up. A frame's bytes follow from its number, so that a wrong one shows.
fn counting(format: StreamFormat, first: u64, frames: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in first..first + frames as u64 {
        let value = frame.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        bytes.extend((0..format.frame_bytes()).map(|i| value[i % 8]));
    }
    bytes
}

#[test]
fn a_reader_gets_the_published_frames_and_their_capture_time() {
    let (mut writer, ring) = ring(STEREO, 10, Duration::from_secs(1));
    let mut reader = ring.reader(0);
    let mut out = [0; 64];
    assert_eq!(reader.read(&mut out), Read::Nothing);
    writer.publish(&counting(STEREO, 0, 10), 77);
    assert_eq!(reader.read(&mut out), Read::Block { frames: 10, bytes: 40, captured_at: 77 });
    assert_eq!(out[..40], counting(STEREO, 0, 10));
    assert_eq!(reader.read(&mut out), Read::Nothing);
    drop(writer);
    assert_eq!(reader.read(&mut out), Read::End);
}

#[test]
fn a_long_publish_is_cut_into_blocks_with_capture_times_by_the_rate() {
    let (mut writer, ring) = ring(STEREO, 10, Duration::from_secs(1));
    let mut reader = ring.reader(0);
    writer.publish(&counting(STEREO, 0, 25), 1_000_000_000);
    let mut out = [0; 64];
    for (frames, captured_at) in [(10, 985_000_000), (10, 995_000_000), (5, 1_000_000_000)] {
        assert_eq!(reader.read(&mut out), Read::Block { frames, bytes: 4 * frames, captured_at });
    }
}

#[test]
fn a_small_buffer_gets_a_block_in_parts() {
    let (mut writer, ring) = ring(STEREO, 10, Duration::from_secs(1));
    let mut reader = ring.reader(0);
    writer.publish(&counting(STEREO, 0, 10), 5);
    let mut all = Vec::new();
    let mut out = [0; 13];
    while let Read::Block { frames, captured_at: 5, .. } = reader.read(&mut out) {
        all.extend_from_slice(&out[..frames * 4]);
    }
    assert_eq!(all, counting(STEREO, 0, 10));
}

#[test]
fn the_history_is_at_least_as_long_as_requested() {
    for (block, history_ms) in [(1, 10), (7, 100), (10, 100), (1000, 100), (3, 0)] {
        let (mut writer, ring) = ring(STEREO, block, Duration::from_millis(history_ms));
        for i in 0..200 {
            writer.publish(&counting(STEREO, i * u64::from(block), block as usize), 0);
        }
        let reader = ring.reader(history_ms);
        assert_eq!(reader.lag(), history_ms, "blocks of {block}");
    }
}

#[test]
fn a_reader_can_start_at_any_frame_of_the_history() {
    let (mut writer, ring) = ring_of(5, STEREO, 10);
    let mut first = 0;
    for frames in [10, 3, 10, 7, 1, 10, 10, 2] {
        writer.publish(&counting(STEREO, first, frames), 0);
        first += frames as u64;
    }
    // Five slots, of which the next publish overwrites one: the four newest blocks have 1 + 10 + 10 + 2 frames.
    for back in 0..=23 {
        let mut reader = ring.reader(back);
        assert_eq!(reader.lag(), back);
        let mut out = [0; 40];
        let mut all = Vec::new();
        while let Read::Block { frames, .. } = reader.read(&mut out) {
            all.extend_from_slice(&out[..frames * 4]);
        }
        assert_eq!(all, counting(STEREO, first - back, back as usize));
    }
    assert_eq!(ring.reader(1000).lag(), 23, "no older frame is left");
}

#[test]
fn a_lapped_reader_gets_the_exact_number_of_frames_it_lost() {
    let (mut writer, ring) = ring_of(4, STEREO, 10);
    let mut reader = ring.reader(0);
    writer.publish(&counting(STEREO, 0, 10), 0);
    let mut out = [0; 12];
    assert_eq!(reader.read(&mut out), Read::Block { frames: 3, bytes: 12, captured_at: 0 });
    for block in 1..10 {
        writer.publish(&counting(STEREO, block * 10, 10), 0);
    }
    assert_eq!(reader.read(&mut out), Read::Lapped { lost: 67 });
    assert_eq!(reader.frame(), 70);
    assert_eq!(reader.read(&mut out), Read::Block { frames: 3, bytes: 12, captured_at: 0 });
    assert_eq!(out, counting(STEREO, 70, 3)[..]);
    assert_eq!(reader.seek(5), 22, "from frame 73 to frame 95");
}

#[test]
fn closing_wakes_waiting_readers_which_get_the_frames_that_are_left() {
    let (mut writer, ring) = ring(STEREO, 10, Duration::from_secs(1));
    let mut reader = ring.reader(0);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            // Nobody publishes this block: only the close can end the wait before its timeout.
            while !reader.wait(1_000_003, Duration::from_secs(60)) {}
            let mut out = [0; 64];
            [reader.read(&mut out), reader.read(&mut out)]
        });
        writer.publish(&counting(STEREO, 0, 4), 9);
        drop(writer);
        let got = waiting.join().expect("the reader does not panic");
        assert_eq!(got, [Read::Block { frames: 4, bytes: 16, captured_at: 9 }, Read::End]);
    });
}

#[test]
fn a_history_larger_than_memory_is_an_error() {
    let format = StreamFormat { rate: 48_000, channels: 18, sample: SampleFormat::S32 };
    // More than the address space has, so that no allocator can promise it. (Miri ends at what the machine has not.)
    for years in if cfg!(miri) { 1 << 32..=1 << 32 } else { 300..=302 } {
        let error = new(format, 480, Duration::from_secs(years * 365 * 86_400)).expect_err("it is too large");
        assert!(error.bytes > 10_000_000_000_000_000, "{error}");
    }
    let error = new(format, 1, Duration::MAX).expect_err("it is too large");
    assert_eq!(
        error.to_string(),
        format!("there is no memory for a history of {} MB", error.bytes / 1_000_000 + 1)
    );
}

#[test]
fn closing_twice_does_not_restore_the_word_that_readers_sleep_on() {
    let (writer, ring) = ring(STEREO, 10, Duration::from_secs(1));
    let seen = ring.shared.wait.events.load(Ordering::Relaxed);
    // The daemon closes a ring whose writer hangs; later the writer is dropped, which closes the ring again.
    ring.close();
    drop(writer);
    assert_ne!(ring.shared.wait.events.load(Ordering::Relaxed), seen, "a reader that saw {seen} would sleep");
}

#[test]
#[cfg(not(miri))]
fn a_wait_ends_with_its_timeout() {
    let (_writer, ring) = ring(STEREO, 10, Duration::from_secs(1));
    let before = std::time::Instant::now();
    assert!(!ring.reader(0).wait(0, Duration::from_millis(20)));
    assert!(before.elapsed() >= Duration::from_millis(20));
}

/// Reads until the end and checks every frame. Returns the numbers of frames read and lost.
fn read_all(mut reader: Reader, format: StreamFormat, pause: impl Fn(u64)) -> (u64, u64) {
    let (mut got, mut lost_in_all) = (0, 0);
    let mut out = vec![0; 64 * format.frame_bytes()];
    loop {
        let expected = reader.frame();
        match reader.read(&mut out) {
            Read::Block { frames, .. } => {
                assert_eq!(out[..frames * format.frame_bytes()], counting(format, expected, frames));
                assert_eq!(reader.frame(), expected + frames as u64);
                got += frames as u64;
                pause(got);
            }
            Read::Lapped { lost } => {
                assert!(lost > 0);
                assert_eq!(reader.frame(), expected + lost);
                lost_in_all += lost;
            }
            Read::Nothing => {
                reader.wait(reader.place().block, Duration::from_millis(100));
            }
            Read::End => return (got, lost_in_all),
        }
    }
}

#[test]
fn readers_in_other_threads_see_every_frame_or_an_exactly_counted_gap() {
    let blocks = if cfg!(miri) { 60 } else { 100_000 };
    let format = StreamFormat { rate: 48_000, channels: 3, sample: SampleFormat::S24 };
    let (mut writer, ring) = ring_of(6, format, 16);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|nth| {
                let reader = ring.reader(0);
                scope.spawn(move || {
                    read_all(reader, format, |got| {
                        if nth > 0 && got % (nth * 40) < 16 {
                            std::thread::yield_now();
                        }
                    })
                })
            })
            .collect();
        let mut frame = 0;
        for block in 0..blocks {
            let frames = 1 + block % 16;
            writer.publish(&counting(format, frame, frames as usize), block);
            frame += frames;
            if block % 5 == 0 {
                std::thread::yield_now();
            }
        }
        drop(writer);
        for reader in readers {
            let (got, lost) = reader.join().expect("no reader saw a wrong frame");
            assert_eq!(got + lost, frame);
        }
    });
}

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Read { reader: usize, buffer: usize },
    Seek { reader: usize, back: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1usize..40).prop_map(Step::Publish),
        4 => (0usize..3, 1usize..40).prop_map(|(reader, buffer)| Step::Read { reader, buffer }),
        1 => (0usize..3, 0u64..200).prop_map(|(reader, back)| Step::Seek { reader, back }),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Compares the ring with a queue that keeps everything: each reader gets the published frames without a gap,
    /// or a gap that is counted exactly and ends at or before the oldest block that the ring still has.
    #[test]
    fn every_reader_sees_a_gap_free_sequence_or_an_exactly_counted_gap(
        steps in steps(),
        slots in 4usize..9,
        block_frames in 1u32..24,
        channels in 1u16..4,
        sample in 0usize..3,
    ) {
        let format = StreamFormat { rate: 8000, channels, sample: SampleFormat::ALL[sample] };
        let (mut writer, ring) = ring_of(slots, format, block_frames);
        let mut readers: Vec<Reader> = (0..3).map(|_| ring.reader(0)).collect();
        // First frames of all blocks that the ring must still have, oldest first.
        let mut kept: VecDeque<u64> = VecDeque::new();
        let mut published = 0u64;
        for step in steps {
            match step {
                Step::Publish(frames) => {
                    writer.publish(&counting(format, published, frames), 0);
                    for part in (0..frames as u64).step_by(block_frames as usize) {
                        kept.push_back(published + part);
                    }
                    published += frames as u64;
                    while kept.len() > slots {
                        kept.pop_front();
                    }
                }
                Step::Read { reader, buffer } => {
                    let reader = &mut readers[reader];
                    let mut out = vec![0; buffer * format.frame_bytes()];
                    let at = reader.frame();
                    match reader.read(&mut out) {
                        Read::Block { frames, .. } => {
                            prop_assert!(frames >= 1 && frames <= buffer);
                            prop_assert_eq!(&out[..frames * format.frame_bytes()], &counting(format, at, frames)[..]);
                            prop_assert_eq!(reader.frame(), at + frames as u64);
                        }
                        Read::Lapped { lost } => {
                            prop_assert!(at < kept[0], "no frame is lost that the ring still has");
                            prop_assert_eq!(reader.frame(), at + lost);
                            prop_assert!(kept.contains(&reader.frame()));
                        }
                        Read::Nothing => prop_assert_eq!(at, published),
                        Read::End => prop_assert!(false, "the ring is open"),
                    }
                }
                Step::Seek { reader, back } => {
                    let reader = &mut readers[reader];
                    let was = reader.frame();
                    let left_out = reader.seek(back);
                    prop_assert_eq!(left_out, reader.frame().saturating_sub(was));
                    let wanted = published.saturating_sub(back);
                    prop_assert!(reader.frame() == wanted || (reader.frame() > wanted && kept.contains(&reader.frame())));
                }
            }
        }
    }
}

#[test]
fn the_writer_counts_the_blocks_since_the_last_wait() {
    let (mut writer, ring) = ring(STEREO, 4, Duration::ZERO);
    let block = [0; 4 * STEREO.frame_bytes()];
    (0..10).for_each(|_| writer.publish(&block, 0));
    assert_eq!(writer.blocks_since_last_wait(), 10);
    // A reader that is served seldom waits for a later block.
    ring.reader(0).wait(15, Duration::from_millis(1));
    assert_eq!(writer.blocks_since_last_wait(), 0);
    (0..10).for_each(|_| writer.publish(&block, 0));
    assert_eq!(writer.blocks_since_last_wait(), 5);
}

#[test]
fn the_writer_sees_how_many_blocks_come_before_the_next_waiter() {
    let (mut writer, ring) = ring(STEREO, 4, Duration::ZERO);
    let block = [0; 4 * STEREO.frame_bytes()];
    assert_eq!(writer.blocks_until_waiter(), None);
    (0..30).for_each(|_| writer.publish(&block, 0));
    ring.reader(0).wait(33, Duration::from_millis(1));
    ring.reader(0).register_next_wait(40);
    for expected in [Some(3), Some(2), Some(1), Some(0), Some(6), Some(5)] {
        assert_eq!(writer.blocks_until_waiter(), expected);
        writer.publish(&block, 0);
    }
    (0..5).for_each(|_| writer.publish(&block, 0));
    assert_eq!(writer.blocks_until_waiter(), None, "41 blocks are published");
    // A wait for a published block returns at once and leaves no waiter behind.
    assert!(ring.reader(0).wait(35, Duration::from_secs(1)));
    assert_eq!(writer.blocks_until_waiter(), None);
}

#[cfg(not(any(loom, miri)))]
#[test]
fn a_reader_that_waits_for_an_earlier_block_wakes_the_sleeping_writer() {
    let (writer, ring) = ring(STEREO, 4, Duration::ZERO);
    let long = Duration::from_secs(20);
    let began = std::time::Instant::now();
    // The writer is back for block 4: a reader that waits for that one or a later one lets it sleep.
    ring.reader(0).register_next_wait(4);
    writer.sleep_until_waiter(5, Duration::from_millis(50));
    assert!(began.elapsed() >= Duration::from_millis(50));
    // A reader that comes while the writer sleeps.
    let reader = ring.reader(0);
    let waiting = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        reader.wait(1, Duration::from_millis(1))
    });
    writer.sleep_until_waiter(5, long);
    // That reader still waits: the writer does not begin to sleep.
    writer.sleep_until_waiter(5, long);
    writer.sleep_until_waiter(3, long);
    assert!(began.elapsed() < long / 2, "{:?}", began.elapsed());
    waiting.join().expect("the reader does not panic");
    writer.sleep_until_waiter(2, Duration::from_millis(50));
}

fn packet_ring(slots: u64) -> (Writer, Ring) {
    let layout = PacketLayout { max_frames: 10, max_bytes: 64, first_frame: 1000 };
    let history = STEREO.duration_of((slots - 2) * 10);
    packets(STEREO, layout, history).expect("a small ring fits into memory")
}

#[test]
fn packets_are_read_whole_at_their_places() {
    let (mut writer, ring) = packet_ring(8);
    let mut reader = ring.reader(5);
    assert_eq!((reader.frame(), ring.frames(), reader.unit_bytes()), (1000, 1000, 64));
    let mut out = [0; 64];
    assert_eq!(reader.read(&mut out), Read::Nothing);
    writer.publish_packet(b"one", 1000, 10, 7);
    // Frames between two packets were never encoded: no reader has lost them.
    writer.publish_packet(b"", 1030, 9, 8);
    writer.publish_packet(&[9; 64], 1039, 10, 9);
    for (expected, frames, at, end) in
        [(&b"one"[..], 10, 7, 1010), (b"", 9, 8, 1039), (&[9; 64], 10, 9, 1049)]
    {
        let read = reader.read(&mut out);
        assert_eq!(read, Read::Block { frames, bytes: expected.len(), captured_at: at });
        assert_eq!((&out[..expected.len()], reader.frame()), (expected, end));
    }
    // A reader starts with the packet that covers the frame.
    assert_eq!(
        [ring.reader(0), ring.reader(5), ring.reader(15)].map(|reader| reader.frame()),
        [1049, 1039, 1030]
    );
    assert_eq!(ring.reader_at(1020).frame(), 1030, "after the hole");
}

#[test]
fn a_lapped_reader_of_packets_gets_the_number_of_frames_it_lost() {
    let (mut writer, ring) = packet_ring(4);
    let mut reader = ring.reader(0);
    for packet in 0..10 {
        writer.publish_packet(&[packet], 1000 + 10 * u64::from(packet), 10, 0);
    }
    let mut out = [0; 64];
    assert_eq!(reader.read(&mut out), Read::Lapped { lost: 70 });
    assert_eq!(reader.read(&mut out), Read::Block { frames: 10, bytes: 1, captured_at: 0 });
    assert_eq!(out[0], 7);
}

#[test]
#[should_panic(expected = "a packet of 65 bytes")]
fn a_packet_that_is_too_long_is_a_mistake_of_the_writer() {
    packet_ring(4).0.publish_packet(&[0; 65], 1000, 1, 0);
}
