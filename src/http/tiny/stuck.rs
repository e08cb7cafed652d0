//! Requests that are neither answered nor dropped, and what is done before they take all there is.
//!
//! To drop a request tiny_http 0.12 allocates as much as is left of its body, in one piece, and an allocation that
//! fails ends the process. Where a request has announced more than there is memory (and less than 2^63 bytes, of
//! which Rust panics instead) it must never be dropped. With it stay two descriptors and the thread that would
//! read the connection's next request: that waits for the reader inside of it. No part of it can be had alone:
//! `into_writer()` drops the reader, `upgrade()` returns both in one, and the thread has nothing else to wake it.
//! What is left of the body is counted down by what is read of it, and by nothing else.
//!
//! So they are counted. Each takes away from the connections that there is room for. When there are too many,
//! nobody is let in any more, so that there are no more of them, and the program begins anew in the same process,
//! with the same listening sockets: who connects meanwhile waits, and who listened connects again. That is done
//! every few minutes at the most. Until then those who listen go on to hear everything.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

/// So many are never kept, however much room there is. Each takes some 30 kilobytes of memory.
const MOST: u32 = 1000;
/// And no more than this part of the connections that there is room for.
const PART: u32 = 4;

/// How many there are, and how many there may be.
pub struct Stuck {
    count: AtomicU32,
    /// Connections that there are descriptors and threads for.
    room: AtomicU32,
    was_told: AtomicBool,
    tell: Sender<()>,
    told: Receiver<()>,
}

impl Default for Stuck {
    fn default() -> Stuck {
        let (tell, told) = bounded(1);
        Stuck {
            count: AtomicU32::new(0),
            room: AtomicU32::new(u32::MAX),
            was_told: AtomicBool::new(false),
            tell,
            told,
        }
    }
}

impl Stuck {
    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Says for how many connections there are descriptors and threads.
    pub fn set_room(&self, connections: u32) {
        self.room.store(connections, Ordering::Relaxed);
    }

    /// For how many connections there is room beside them.
    pub(crate) fn room(&self) -> u32 {
        self.room.load(Ordering::Relaxed).saturating_sub(self.count()).max(1)
    }

    /// Counts one more; whether there are too many now.
    pub(crate) fn one_more(&self) -> bool {
        let count = self.count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let too_many = count >= MOST.min(self.room.load(Ordering::Relaxed) / PART);
        if too_many && !self.was_told.swap(true, Ordering::Relaxed) {
            // There is a place: it is told once.
            let _ = self.tell.try_send(());
        }
        too_many
    }

    /// Hears of it when there are too many.
    pub fn too_many(&self) -> &Receiver<()> {
        &self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_takes_the_room_of_a_connection_and_too_many_are_told_of() {
        let stuck = Stuck::default();
        stuck.set_room(40);
        assert!((0..9).all(|_| !stuck.one_more()));
        assert_eq!((stuck.room(), stuck.count(), stuck.too_many().len()), (31, 9, 0));
        assert!(stuck.one_more() && stuck.one_more());
        assert_eq!((stuck.room(), stuck.count(), stuck.too_many().len()), (29, 11, 1));
        stuck.set_room(0);
        assert_eq!(stuck.room(), 1);
    }

    #[test]
    fn with_all_the_room_of_the_world_there_are_a_thousand() {
        let stuck = Stuck::default();
        assert_eq!((0..1001).position(|_| stuck.one_more()), Some(999));
    }
}
