//! Tests under loom: every interleaving, and every value that the memory model allows a load to return, of one writer and
//! one reader on the smallest rings. Run by `scripts/test loom`.

use super::copy::WORD;
use super::*;
use crate::media::format::SampleFormat;

/// A frame of two words, so that a torn copy would show.
const TWO_WORDS: StreamFormat = StreamFormat { rate: 1000, channels: WORD as u16, sample: SampleFormat::S16 };
/// A frame of less than one word, for tests of positions and counts.
const ONE_WORD: StreamFormat = StreamFormat { rate: 1000, channels: 1, sample: SampleFormat::S16 };

/// Returns a frame with that number.
fn frame(format: StreamFormat, number: u64) -> Vec<u8> {
    vec![number as u8; format.frame_bytes()]
}

fn ring_of(slots: usize, format: StreamFormat) -> (Writer, Ring) {
    with_slots(format, 1, slots).expect("a small ring fits into memory")
}

/// Publishes `blocks` blocks of one frame while a reader reads `reads` times, and then to the end. Checks that every frame
/// is either read whole or counted as lost.
fn explore(format: StreamFormat, blocks: u64, slots: usize, reads: usize, seek: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let (mut writer, ring) = ring_of(slots, format);
        let writing = loom::thread::spawn(move || {
            for number in 0..blocks {
                writer.publish(&frame(format, number), number);
            }
        });
        let mut reader = ring.reader(0);
        let mut next = reader.frame();
        let read = |reader: &mut Reader, next: &mut u64| {
            let mut out = frame(format, 0xff);
            let result = reader.read(&mut out);
            match result {
                Read::Block { frames, captured_at, .. } => {
                    assert_eq!((frames, captured_at), (1, *next));
                    assert_eq!(out, frame(format, *next), "a torn copy, or another block");
                    *next += 1;
                }
                Read::Lapped { lost } => *next += lost,
                Read::Nothing | Read::End => {}
            }
            assert_eq!(reader.frame(), *next);
            result
        };
        for nth in 0..reads {
            if seek && nth == 1 {
                reader.seek(1);
                next = reader.frame();
            }
            read(&mut reader, &mut next);
        }
        writing.join().expect("the writer does not panic");
        while read(&mut reader, &mut next) != Read::End {}
        assert_eq!(next, blocks);
    });
}

#[test]
fn a_reader_that_keeps_up_or_is_lapped_gets_whole_blocks_only() {
    explore(TWO_WORDS, 4, 3, 3, false);
}

/// Here blocks after the first can be overwritten while they are read.
#[test]
fn a_reader_that_is_lapped_in_the_middle_of_the_stream_counts_the_frames_it_lost() {
    explore(ONE_WORD, 5, 3, 3, false);
}

#[test]
fn a_seek_beside_the_writer_finds_a_frame_that_is_there() {
    explore(TWO_WORDS, 3, 3, 2, true);
}

/// The argument at [`Reader::skip_to_oldest`]: the oldest block lies after the one that was overwritten, even if the reader
/// has an old number of blocks.
#[test]
fn a_block_in_the_middle_of_the_stream_is_overwritten_while_it_is_read() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let (mut writer, ring) = ring_of(3, ONE_WORD);
        (0..2).for_each(|number| writer.publish(&frame(ONE_WORD, number), 0));
        let mut reader = ring.reader_at(1);
        let writing = loom::thread::spawn(move || {
            (2..5).for_each(|number| writer.publish(&frame(ONE_WORD, number), 0));
        });
        match reader.read(&mut [0; ONE_WORD.frame_bytes()]) {
            Read::Block { frames, .. } => assert_eq!((frames, reader.frame()), (1, 2)),
            Read::Lapped { lost } => assert!(lost > 0 && reader.frame() == 1 + lost && reader.frame() < 5),
            other => panic!("{other:?}"),
        }
        writing.join().expect("the writer does not panic");
    });
}

#[test]
fn a_waiting_reader_is_woken_or_sees_the_block() {
    loom::model(|| {
        let (mut writer, ring) = ring_of(4, ONE_WORD);
        let shared = Arc::clone(&writer.shared);
        let waiting = loom::thread::spawn(move || ring.shared.register_waiter(0));
        writer.blocks = 1;
        shared.blocks.store(1, Ordering::Release);
        let wakes = shared.take_waiters(0);
        let sees = waiting.join().expect("the reader does not panic");
        assert!(wakes || sees, "the reader would sleep until its timeout");
        drop(writer);
    });
}

#[test]
fn a_reader_about_to_sleep_sees_the_close_or_is_refused_by_the_kernel() {
    loom::model(|| {
        let (mut writer, ring) = ring_of(4, ONE_WORD);
        let shared = Arc::clone(&ring.shared);
        // A writer that hung is back, and ends, while the ring is closed for it.
        let closing = loom::thread::spawn(move || ring.close());
        let writing = loom::thread::spawn(move || writer.publish_block(&[0, 0], 1, 0));
        let seen = shared.wait.events.load(Ordering::Acquire);
        let sees = shared.register_waiter(7);
        closing.join().expect("the thread does not panic");
        writing.join().expect("the writer does not panic");
        assert!(
            sees || shared.wait.events.load(Ordering::Acquire) != seen,
            "the reader would miss the close"
        );
    });
}

#[test]
fn the_writer_sees_a_waiter_or_is_woken_by_it() {
    loom::model(|| {
        let (writer, ring) = ring_of(4, ONE_WORD);
        let waiting = loom::thread::spawn(move || {
            ring.shared.wait.waiters.fetch_or(bit_of(2), Ordering::AcqRel);
            ring.shared.cancel_writer_sleep(2)
        });
        let sees = writer.distance_to_first(writer.shared.set_return_block(5)) == Some(2);
        let is_woken = waiting.join().expect("the reader does not panic");
        assert!(sees || is_woken, "the writer would publish the block too late");
        drop(writer);
    });
}
