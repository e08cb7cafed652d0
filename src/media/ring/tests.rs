//! What a reader may rely on, whatever the writer does. Miri runs these too.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::media::format::SampleFormat;

const STEREO: StreamFormat = StreamFormat { rate: 1000, channels: 2, sample: SampleFormat::S16 };

/// Frames that count: frame n of `format` is n, little-endian, cut to the frame's size.
fn counting(format: StreamFormat, first: u64, frames: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in first..first + frames as u64 {
        let value = frame.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        bytes.extend((0..format.frame_bytes()).map(|i| value[i % 8]));
    }
    bytes
}

#[test]
fn a_reader_gets_what_was_published_and_when_it_was_captured() {
    let (mut writer, ring) = new(STEREO, 10, Duration::from_secs(1));
    let mut reader = ring.reader(0);
    let mut out = [0; 64];
    assert_eq!(reader.read(&mut out), Read::Nothing);
    writer.publish(&counting(STEREO, 0, 10), 77);
    assert_eq!(reader.read(&mut out), Read::Block { frames: 10, captured_at: 77 });
    assert_eq!(out[..40], counting(STEREO, 0, 10));
    assert_eq!(reader.read(&mut out), Read::Nothing);
    drop(writer);
    assert_eq!(reader.read(&mut out), Read::End);
}

#[test]
fn a_long_publish_is_cut_into_blocks_whose_times_follow_from_the_rate() {
    let (mut writer, ring) = new(STEREO, 10, Duration::from_secs(1));
    let mut reader = ring.reader(0);
    writer.publish(&counting(STEREO, 0, 25), 1_000_000_000);
    let mut out = [0; 64];
    for (frames, captured_at) in [(10, 985_000_000), (10, 995_000_000), (5, 1_000_000_000)] {
        assert_eq!(reader.read(&mut out), Read::Block { frames, captured_at });
    }
}

#[test]
fn a_small_buffer_gets_a_block_in_parts() {
    let (mut writer, ring) = new(STEREO, 10, Duration::from_secs(1));
    let mut reader = ring.reader(0);
    writer.publish(&counting(STEREO, 0, 10), 5);
    let mut all = Vec::new();
    let mut out = [0; 13];
    while let Read::Block { frames, captured_at: 5 } = reader.read(&mut out) {
        all.extend_from_slice(&out[..frames * 4]);
    }
    assert_eq!(all, counting(STEREO, 0, 10));
}

#[test]
fn the_history_is_at_least_as_long_as_was_asked_for() {
    for (block, history_ms) in [(1, 10), (7, 100), (10, 100), (1000, 100), (3, 0)] {
        let (mut writer, ring) = new(STEREO, block, Duration::from_millis(history_ms));
        for i in 0..200 {
            writer.publish(&counting(STEREO, i * u64::from(block), block as usize), 0);
        }
        let reader = ring.reader(history_ms);
        assert_eq!(reader.lag(), history_ms, "blocks of {block}");
    }
}

#[test]
fn a_reader_can_start_at_any_frame_of_the_history() {
    let (mut writer, ring) = with_slots(STEREO, 10, 5);
    let mut first = 0;
    for frames in [10, 3, 10, 7, 1, 10, 10, 2] {
        writer.publish(&counting(STEREO, first, frames), 0);
        first += frames as u64;
    }
    // Five slots, the next publish takes one: the four newest blocks have 1 + 10 + 10 + 2 frames.
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
    assert_eq!(ring.reader(1000).lag(), 23, "not older than there is");
}

#[test]
fn a_lapped_reader_is_told_exactly_how_many_frames_it_lost() {
    let (mut writer, ring) = with_slots(STEREO, 10, 4);
    let mut reader = ring.reader(0);
    writer.publish(&counting(STEREO, 0, 10), 0);
    let mut out = [0; 12];
    assert_eq!(reader.read(&mut out), Read::Block { frames: 3, captured_at: 0 });
    for block in 1..10 {
        writer.publish(&counting(STEREO, block * 10, 10), 0);
    }
    assert_eq!(reader.read(&mut out), Read::Lapped { lost: 67 });
    assert_eq!(reader.frame(), 70);
    assert_eq!(reader.read(&mut out), Read::Block { frames: 3, captured_at: 0 });
    assert_eq!(out, counting(STEREO, 70, 3)[..]);
    assert_eq!(reader.seek(5), 22, "from frame 73 to frame 95");
}

#[test]
fn a_closed_ring_wakes_those_who_wait_and_gives_them_what_is_left() {
    let (mut writer, ring) = new(STEREO, 10, Duration::from_secs(1));
    let mut reader = ring.reader(0);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            // A block that never comes: only the close can end this before the time is over.
            while !reader.wait(1_000_003, Duration::from_secs(60)) {}
            let mut out = [0; 64];
            [reader.read(&mut out), reader.read(&mut out)]
        });
        writer.publish(&counting(STEREO, 0, 4), 9);
        drop(writer);
        let got = waiting.join().expect("the reader did not panic");
        assert_eq!(got, [Read::Block { frames: 4, captured_at: 9 }, Read::End]);
    });
}

#[test]
fn closing_a_second_time_does_not_restore_the_word_that_readers_sleep_on() {
    let (writer, ring) = new(STEREO, 10, Duration::from_secs(1));
    let seen = ring.shared.wake.load(Ordering::Relaxed);
    // The daemon closes a ring whose writer hangs; later the writer is dropped, which closes the ring again.
    ring.close();
    drop(writer);
    assert_ne!(ring.shared.wake.load(Ordering::Relaxed), seen, "a reader that saw {seen} would sleep");
}

#[test]
#[cfg(not(miri))]
fn a_wait_ends_with_its_time() {
    let (_writer, ring) = new(STEREO, 10, Duration::from_secs(1));
    let before = std::time::Instant::now();
    assert!(!ring.reader(0).wait(0, Duration::from_millis(20)));
    assert!(before.elapsed() >= Duration::from_millis(20));
}

/// Reads until the end, checking every frame; returns how many frames were read and how many were lost.
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
    let (mut writer, ring) = with_slots(format, 16, 6);
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
            let (got, lost) = reader.join().expect("a reader saw what was written");
            assert_eq!(got + lost, frame);
        }
    });
}

#[derive(Clone, Debug)]
enum Act {
    Publish(usize),
    Read { reader: usize, buffer: usize },
    Seek { reader: usize, back: u64 },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1usize..40).prop_map(Act::Publish),
        4 => (0usize..3, 1usize..40).prop_map(|(reader, buffer)| Act::Read { reader, buffer }),
        1 => (0usize..3, 0u64..200).prop_map(|(reader, back)| Act::Seek { reader, back }),
    ];
    proptest::collection::vec(act, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The ring against a queue that keeps everything: each reader sees the writer's frames without a gap,
    /// or a gap that is counted exactly and lies before the oldest block that the ring still has.
    #[test]
    fn every_reader_sees_a_gap_free_sequence_or_an_exactly_counted_gap(
        acts in acts(),
        slots in 4usize..9,
        block_frames in 1u32..24,
        channels in 1u16..4,
        sample in 0usize..3,
    ) {
        let format = StreamFormat { rate: 8000, channels, sample: SampleFormat::ALL[sample] };
        let (mut writer, ring) = with_slots(format, block_frames, slots);
        let mut readers: Vec<Reader> = (0..3).map(|_| ring.reader(0)).collect();
        // First frames of all blocks that the ring must still have.
        let mut kept: VecDeque<u64> = VecDeque::new();
        let mut published = 0u64;
        for act in acts {
            match act {
                Act::Publish(frames) => {
                    writer.publish(&counting(format, published, frames), 0);
                    for part in (0..frames as u64).step_by(block_frames as usize) {
                        kept.push_back(published + part);
                    }
                    published += frames as u64;
                    while kept.len() > slots {
                        kept.pop_front();
                    }
                }
                Act::Read { reader, buffer } => {
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
                            prop_assert!(at < kept[0], "nothing is lost that is still there");
                            prop_assert_eq!(reader.frame(), at + lost);
                            prop_assert!(kept.contains(&reader.frame()));
                        }
                        Read::Nothing => prop_assert_eq!(at, published),
                        Read::End => prop_assert!(false, "the writer is still there"),
                    }
                }
                Act::Seek { reader, back } => {
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
fn the_writer_knows_how_long_nobody_has_waited() {
    let (mut writer, ring) = new(STEREO, 4, Duration::ZERO);
    let block = [0; 4 * STEREO.frame_bytes()];
    (0..10).for_each(|_| writer.publish(&block, 0));
    assert_eq!(writer.unawaited(), 10);
    // One who is served seldom waits for a block to come.
    ring.reader(0).wait(15, Duration::from_millis(1));
    assert_eq!(writer.unawaited(), 0);
    (0..10).for_each(|_| writer.publish(&block, 0));
    assert_eq!(writer.unawaited(), 5);
}

#[test]
fn the_writer_knows_which_block_is_waited_for_next() {
    let (mut writer, ring) = new(STEREO, 4, Duration::ZERO);
    let block = [0; 4 * STEREO.frame_bytes()];
    assert_eq!(writer.unwanted(), None);
    (0..30).for_each(|_| writer.publish(&block, 0));
    ring.reader(0).wait(33, Duration::from_millis(1));
    ring.reader(0).announce(40);
    for expected in [Some(3), Some(2), Some(1), Some(0), Some(6), Some(5)] {
        assert_eq!(writer.unwanted(), expected);
        writer.publish(&block, 0);
    }
    (0..5).for_each(|_| writer.publish(&block, 0));
    assert_eq!(writer.unwanted(), None, "41 blocks are there");
    // Who is too late is told so, and keeps nobody awake.
    assert!(ring.reader(0).wait(35, Duration::from_secs(1)));
    assert_eq!(writer.unwanted(), None);
}

#[cfg(not(any(loom, miri)))]
#[test]
fn a_writer_that_naps_is_called_back_by_who_wants_a_block_before_it_would_be_back() {
    let (writer, ring) = new(STEREO, 4, Duration::ZERO);
    let long = Duration::from_secs(20);
    let began = std::time::Instant::now();
    // It would be back for block 4; who wants that one or a later one lets it sleep.
    ring.reader(0).announce(4);
    writer.nap(5, Duration::from_millis(50));
    assert!(began.elapsed() >= Duration::from_millis(50));
    // Somebody who comes while it sleeps.
    let reader = ring.reader(0);
    let waiting = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        reader.wait(1, Duration::from_millis(1))
    });
    writer.nap(5, long);
    // That one is still wanted: it does not even begin.
    writer.nap(5, long);
    writer.nap(3, long);
    assert!(began.elapsed() < long / 2, "{:?}", began.elapsed());
    waiting.join().expect("it does not panic");
    writer.nap(2, Duration::from_millis(50));
}
