//! Copies between bytes and the atomic words that hold a slot's payload.
//!
//! Every load and store is relaxed: the marks of the slot (slot.rs) order them, and a copy that raced with an overwrite
//! is discarded.

use super::sync::{AtomicUsize, Ordering};

/// Bytes of one word.
pub(super) const WORD: usize = size_of::<usize>();

/// Stores `bytes` in `words`, from the first word on. `words` must have room for all of `bytes`; the rest of the
/// last word becomes 0.
pub(super) fn copy_in(words: &[AtomicUsize], bytes: &[u8]) {
    debug_assert!(bytes.len() <= words.len() * WORD);
    let whole = bytes.chunks_exact(WORD);
    let tail = whole.remainder();
    let (body, rest) = words.split_at(whole.len());
    for (word, bytes) in body.iter().zip(whole) {
        word.store(word_of(bytes), Ordering::Relaxed);
    }
    if !tail.is_empty() {
        rest[0].store(word_of(tail), Ordering::Relaxed);
    }
}

/// Fills `out` with the bytes of `words` from byte `from` on. `words` must have that many.
pub(super) fn copy_out(words: &[AtomicUsize], from: usize, mut out: &mut [u8]) {
    debug_assert!(from + out.len() <= words.len() * WORD);
    let mut words = &words[from / WORD..];
    let skipped = from % WORD;
    if skipped != 0 && !out.is_empty() {
        let head;
        (head, out) = out.split_at_mut(out.len().min(WORD - skipped));
        head.copy_from_slice(&bytes_of(&words[0])[skipped..][..head.len()]);
        words = &words[1..];
    }
    let (whole, tail) = out.split_at_mut(out.len() / WORD * WORD);
    let (body, rest) = words.split_at(whole.len() / WORD);
    for (bytes, word) in whole.chunks_exact_mut(WORD).zip(body) {
        bytes.copy_from_slice(&bytes_of(word));
    }
    if !tail.is_empty() {
        tail.copy_from_slice(&bytes_of(&rest[0])[..tail.len()]);
    }
}

/// Returns the word that holds up to [`WORD`] bytes in memory order.
fn word_of(bytes: &[u8]) -> usize {
    let mut word = [0; WORD];
    word[..bytes.len()].copy_from_slice(bytes);
    usize::from_ne_bytes(word)
}

fn bytes_of(word: &AtomicUsize) -> [u8; WORD] {
    word.load(Ordering::Relaxed).to_ne_bytes()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_what_was_copied_in_can_be_copied_out() {
        for length in 0..=3 * WORD {
            let bytes: Vec<u8> = (1..=length as u8).collect();
            let words: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(usize::MAX)).collect();
            copy_in(&words, &bytes);
            for from in 0..=length {
                for to in from..=length {
                    let mut out = vec![0xee; to - from];
                    copy_out(&words, from, &mut out);
                    assert_eq!(out, bytes[from..to], "{from}..{to} of {length}");
                }
            }
        }
    }
}
