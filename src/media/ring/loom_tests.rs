//! Every interleaving, and every value that the memory model allows a load to return, of one writer and its
//! readers on the smallest ring. Run with `RUSTFLAGS="--cfg loom" cargo test --release --lib ring`.

use super::*;
use crate::media::format::SampleFormat;

/// One frame is two words, so that a torn copy would show.
const PAIRS: StreamFormat = StreamFormat { rate: 1000, channels: WORD as u16, sample: SampleFormat::S16 };

fn pair(n: u8) -> [u8; 2 * WORD] {
    [n; 2 * WORD]
}

fn explore(blocks: u8, slots: usize, reads: usize, seek: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let (mut writer, ring) = with_slots(PAIRS, 1, slots);
        let writing = loom::thread::spawn(move || {
            for n in 0..blocks {
                writer.publish(&pair(n), u64::from(n));
            }
        });
        let mut reader = ring.reader(0);
        let mut next = reader.frame();
        for nth in 0..reads {
            if seek && nth == 1 {
                reader.seek(1);
                next = reader.frame();
            }
            let mut out = [0xff; 2 * WORD];
            match reader.read(&mut out) {
                Read::Block { frames, captured_at } => {
                    assert_eq!((frames, captured_at), (1, next));
                    assert_eq!(out, pair(next as u8), "whole, and of this block");
                    next += 1;
                }
                Read::Lapped { lost } => next += lost,
                Read::Nothing | Read::End => {}
            }
            assert_eq!(reader.frame(), next);
        }
        writing.join().expect("the writer does not panic");
        // Whatever came before: at the end every frame was read or counted as lost.
        loop {
            let mut out = [0xff; 2 * WORD];
            match reader.read(&mut out) {
                Read::Block { .. } => {
                    assert_eq!(out, pair(next as u8));
                    next += 1;
                }
                Read::Lapped { lost } => next += lost,
                Read::End => break,
                Read::Nothing => unreachable!("the writer is gone"),
            }
        }
        assert_eq!(next, u64::from(blocks));
    });
}

#[test]
fn a_reader_that_keeps_up_or_is_lapped_sees_whole_blocks_only() {
    explore(4, 3, 3, false);
}

#[test]
fn a_reader_that_is_lapped_in_the_middle_of_the_stream_counts_the_frames_it_lost() {
    explore(5, 3, 3, false);
}

#[test]
fn a_seek_beside_the_writer_lands_on_a_frame_that_is_there() {
    explore(3, 3, 2, true);
}

#[test]
fn who_waits_is_woken_or_sees_the_block() {
    loom::model(|| {
        let (mut writer, ring) = with_slots(PAIRS, 1, 4);
        let shared = Arc::clone(&writer.shared);
        let waiting = loom::thread::spawn(move || ring.shared.want(0));
        writer.blocks = 1;
        shared.blocks.store(1, Ordering::Release);
        let wakes = shared.is_wanted(0);
        let sees = waiting.join().expect("it does not panic");
        assert!(wakes || sees, "it would sleep for ever");
        drop(writer);
    });
}

#[test]
fn who_wants_a_block_is_seen_by_the_writer_or_calls_it_back() {
    loom::model(|| {
        let (writer, ring) = with_slots(PAIRS, 1, 4);
        let waiting = loom::thread::spawn(move || {
            ring.shared.wanted.fetch_or(waiters_for(2).get(), Ordering::AcqRel);
            ring.shared.is_called_back(2)
        });
        let sees = writer.first_of(writer.shared.go_away(5)) == Some(2);
        let is_called = waiting.join().expect("it does not panic");
        assert!(sees || is_called, "it would come too late");
        drop(writer);
    });
}
