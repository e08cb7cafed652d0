//! The packets that wait for the server: bounded in time, whole packets only, the oldest dropped first.

use std::collections::VecDeque;

use crate::encode::Packet;

/// The queue of one connection.
pub(super) struct Queue {
    packets: VecDeque<Waiting>,
    /// Bytes of the first packet that were sent already.
    sent: usize,
    /// Frames of the input in all packets.
    frames: u64,
    most_frames: u64,
}

struct Waiting {
    bytes: Box<[u8]>,
    frames: u32,
    /// `true` for the header of the stream, without which nothing behind it can be decoded.
    is_header: bool,
}

impl Queue {
    /// Returns a queue for `most_frames` frames of sound that begins with the stream's header.
    pub(super) fn new(header: &[u8], most_frames: u64) -> Queue {
        let mut packets = VecDeque::new();
        if !header.is_empty() {
            packets.push_back(Waiting { bytes: header.into(), frames: 0, is_header: true });
        }
        Queue { packets, sent: 0, frames: 0, most_frames }
    }

    /// Adds a packet. Returns the number of packets that were dropped for it. A packet that was sent in part stays, since a
    /// half page or frame costs the listeners a resync.
    pub(super) fn add(&mut self, packet: Packet<'_>) -> u64 {
        let Packet { frames, bytes, .. } = packet;
        self.packets.push_back(Waiting { bytes: bytes.into(), frames, is_header: false });
        self.frames += u64::from(frames);
        let mut dropped = 0;
        while self.frames > self.most_frames {
            let is_kept = |first: &Waiting| self.sent > 0 || first.is_header;
            let oldest = usize::from(self.packets.front().is_some_and(is_kept));
            // The newest one stays in any case.
            if oldest + 1 >= self.packets.len() {
                break;
            }
            if let Some(packet) = self.packets.remove(oldest) {
                self.frames -= u64::from(packet.frames);
                dropped += 1;
            }
        }
        dropped
    }

    /// Returns the bytes to send next; empty if nothing waits.
    pub(super) fn bytes(&self) -> &[u8] {
        self.packets.front().map_or(&[], |first| &first.bytes[self.sent..])
    }

    /// Notes that `count` of [`bytes`](Self::bytes) were sent.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.packets.front().is_some_and(|first| self.sent >= first.bytes.len()) {
            self.sent = 0;
            let first = self.packets.pop_front();
            self.frames -= first.map_or(0, |first| u64::from(first.frames));
        }
    }

    /// Returns `true` if nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Returns the number of packets that wait, without the header.
    pub(super) fn packets(&self) -> u64 {
        self.packets.iter().filter(|packet| !packet.is_header).count() as u64
    }

    /// Returns the frames of the input that wait.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(bytes: &[u8]) -> Packet<'_> {
        Packet { first_frame: 0, frames: 10, bytes }
    }

    fn drain(queue: &mut Queue) -> Vec<u8> {
        let mut all = Vec::new();
        while !queue.is_empty() {
            all.push(queue.bytes()[0]);
            queue.advance(1);
        }
        all
    }

    #[test]
    fn packets_leave_in_order_behind_the_header() {
        let mut queue = Queue::new(b"hh", 100);
        assert_eq!(queue.add(packet(b"aa")) + queue.add(packet(b"b")), 0);
        assert_eq!(queue.frames(), 20);
        assert_eq!(drain(&mut queue), b"hhaab");
        assert_eq!(queue.frames(), 0);
        assert!(queue.bytes().is_empty());
    }

    #[test]
    fn the_oldest_whole_packets_are_dropped_but_never_the_header() {
        let mut queue = Queue::new(b"hh", 30);
        let dropped: u64 =
            [b"aa", b"bb", b"cc", b"dd", b"ee"].iter().map(|bytes| queue.add(packet(&bytes[..]))).sum();
        assert_eq!(dropped, 2);
        assert_eq!(drain(&mut queue), b"hhccddee");
    }

    #[test]
    fn a_packet_that_was_sent_in_part_stays() {
        let mut queue = Queue::new(b"", 20);
        queue.add(packet(b"aa"));
        queue.advance(1);
        assert_eq!(queue.add(packet(b"bb")), 0);
        assert_eq!(queue.add(packet(b"cc")), 1);
        assert_eq!(drain(&mut queue), b"acc");
    }

    #[test]
    fn a_packet_longer_than_the_queue_is_kept_alone() {
        let mut queue = Queue::new(b"", 5);
        assert_eq!(queue.add(packet(b"aa")), 0);
        assert_eq!(queue.add(packet(b"bb")), 1);
        assert_eq!(drain(&mut queue), b"bb");
    }
}
