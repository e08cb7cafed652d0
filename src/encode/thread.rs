//! The thread of one encoding: reads PCM, encodes, publishes packets.
//!
//! The thread runs at a lower priority than the threads that send. The thread touches neither the capture nor a socket: if it is too slow,
//! it leaves sound out, counts it and goes on at the live edge.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::{debug, error};

use super::encoder::{EncodeError, Encoder, Packet};
use super::encoding::{Encoding, Running};
use crate::inputs::LiveInput;
use crate::media::format::StreamFormat;
use crate::media::ring::{Read, Reader, Writer};
use crate::sys::clock::thread_time;

/// The stack in bytes: LAME and Opus keep their scratch there.
const STACK: usize = 512 * 1024;
/// The nice value, above that of the threads that send (0).
const NICENESS: i32 = 5;
/// The longest sleep of a thread whose ring gets no blocks.
const POLL: Duration = Duration::from_secs(1);
/// An encoder that is further behind than this beside its start leaves sound out.
const MOST_LAG: Duration = Duration::from_secs(2);
/// Time between two measurements of the CPU time.
const MEASURE: Duration = Duration::from_secs(2);

/// The state of the thread.
pub(super) struct EncoderThread {
    encoding: Arc<Encoding>,
    input: Arc<LiveInput>,
    reader: Reader,
    encoder: Box<dyn Encoder>,
    output: Output,
    /// Position of the next frame for the encoder: counted on where the input gets another ring.
    position: u64,
    /// The lag beyond which sound is left out, in frames.
    most_lag: u64,
    buffer: Vec<u8>,
}

/// The writer of the packets, which tells their time of capture.
struct Output {
    writer: Writer,
    format: StreamFormat,
    /// The position after the last frame that was encoded, and its time of capture (CLOCK_MONOTONIC, ns).
    end: u64,
    captured_at: u64,
    /// The position behind the last packet.
    published: u64,
}

impl Output {
    fn publish(&mut self, packet: Packet<'_>) {
        let after = self.end.saturating_sub(packet.first_frame + u64::from(packet.frames));
        let age = self.format.duration_of(after).as_nanos() as u64;
        let captured_at = self.captured_at.saturating_sub(age);
        self.writer.publish_packet(packet.bytes, packet.first_frame, packet.frames, captured_at);
        self.published = packet.first_frame + u64::from(packet.frames);
    }
}

/// The reason for the end of an encoding.
enum End {
    /// The input ended or changed its format.
    Input,
    /// Nobody used it any more.
    Unused,
    /// The codec has no number left for another packet.
    Full,
    /// The codec's library failed.
    Failed(EncodeError),
}

impl EncoderThread {
    pub(super) fn new(
        encoding: Arc<Encoding>,
        input: Arc<LiveInput>,
        reader: Reader,
        encoder: Box<dyn Encoder>,
        writer: Writer,
    ) -> EncoderThread {
        let (format, position) = (reader.format(), reader.frame());
        EncoderThread {
            encoding,
            input,
            // The sound before the start is encoded too.
            most_lag: reader.lag() + format.frames_in(MOST_LAG),
            buffer: vec![0; buffer_bytes(format)],
            reader,
            encoder,
            output: Output { writer, format, end: position, captured_at: 0, published: position },
            position,
        }
    }

    pub(super) fn encoding(&self) -> &Arc<Encoding> {
        &self.encoding
    }

    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The operating system gives no thread.
    pub(super) fn start(mut self, running: Arc<Running>) -> io::Result<()> {
        let name = format!("{} {}", self.encoding.kind.codec.name(), self.encoding.input);
        std::thread::Builder::new().name(name).stack_size(STACK).spawn(move || {
            // Without the right to be nicer it is as nice as the others.
            let _ = rustix::process::nice(NICENESS);
            let leave = Leave(running, Arc::clone(&self.encoding));
            let end = self.run(&leave.0);
            log_end(&leave.1, &end);
        })?;
        Ok(())
    }

    fn run(&mut self, running: &Running) -> End {
        let mut measured = (Instant::now(), thread_time());
        loop {
            match self.reader.read(&mut self.buffer) {
                Read::Block { frames, bytes, captured_at } => {
                    self.position += frames as u64;
                    // A block that was read in parts was captured when its last frame was; the difference is small.
                    (self.output.end, self.output.captured_at) = (self.position, captured_at);
                    let output = &mut self.output;
                    let encoded =
                        self.encoder.encode(&self.buffer[..bytes], &mut |packet| output.publish(packet));
                    if let Err(error) = encoded {
                        return End::Failed(error);
                    }
                    if self.encoder.is_full() {
                        return End::Full;
                    }
                    if self.reader.lag() > self.most_lag {
                        let lost = self.reader.seek(0);
                        self.skip(lost);
                    }
                    continue;
                }
                Read::Lapped { lost } => {
                    self.skip(lost);
                    continue;
                }
                Read::End if self.next_ring() => continue,
                Read::End => return End::Input,
                Read::Nothing => {}
            }
            // Closed where another encoder needs the room.
            if self.encoding.ring.is_closed() || running.retire_unused(&self.encoding) {
                return End::Unused;
            }
            let (now, cpu) = (Instant::now(), thread_time());
            let elapsed = now - measured.0;
            if elapsed >= MEASURE {
                let share = (cpu - measured.1).as_secs_f64() / elapsed.as_secs_f64();
                self.encoding.cpu.store((share * 1e6) as u32, Ordering::Relaxed);
                measured = (now, cpu);
            }
            self.sleep();
        }
    }

    /// Sleeps until the next packet can be complete.
    fn sleep(&self) {
        let missing = missing(self.position, self.output.published, self.encoder.max_packet_frames());
        let blocks = missing.div_ceil(self.reader.block_frames().into()).max(1);
        self.reader.wait(self.reader.place().block + blocks - 1, POLL);
    }

    /// Leaves frames of the input out.
    fn skip(&mut self, frames: u64) {
        self.position += frames;
        let output = &mut self.output;
        let dropped = self.encoder.skip_to(self.position, &mut |packet| output.publish(packet));
        self.output.published = self.position;
        self.encoding.skipped.fetch_add(frames + dropped, Ordering::Relaxed);
    }

    /// Goes on with the next ring of the input, if there is one with the same format, as listeners of PCM do.
    fn next_ring(&mut self) -> bool {
        let format = self.reader.format();
        let Some(ring) = self.input.ring().filter(|ring| !ring.is_closed() && ring.format() == format) else {
            return false;
        };
        self.reader = ring.reader_at(0);
        let overwritten = self.reader.frame();
        if overwritten > 0 {
            self.skip(overwritten);
        }
        let offset = self.position as i64 - overwritten as i64;
        self.encoding.moved_to(&ring, offset);
        true
    }
}

/// Returns the number of frames until the next packet is complete. An encoder may hold some whole packets back.
///
/// Counted from the last packet: where the encoder resamples, packets are shorter than the longest one by a part of a frame.
fn missing(position: u64, published: u64, packet_frames: u32) -> u64 {
    let packet = u64::from(packet_frames).max(1);
    packet - position.saturating_sub(published) % packet
}

/// Removes the encoding from the list when its thread ends, by a panic too.
struct Leave(Arc<Running>, Arc<Encoding>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.remove(&self.1);
    }
}

/// Returns the size of the buffer: 100 ms of sound, whole frames.
fn buffer_bytes(format: StreamFormat) -> usize {
    (format.rate as usize / 10).max(1) * format.frame_bytes()
}

fn log_end(encoding: &Encoding, end: &End) {
    let (input, codec) = (&encoding.input, encoding.kind.codec);
    match end {
        End::Input => debug!("{input}: the {codec} encoder ends with its input"),
        End::Unused => debug!("{input}: the {codec} encoder ends: nobody uses it"),
        End::Full => debug!("{input}: the {codec} encoder ends: it has no numbers left, players begin anew"),
        End::Failed(failure) => {
            error!("{input}: the {codec} encoder failed and its listeners are disconnected: {failure}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::super::intake::Intake;
    use super::*;
    use crate::media::format::SampleFormat;

    /// The thread wakes for each packet as soon as the block has come that completes it, also after many packets of a stream
    /// that is resampled.
    #[test]
    fn the_thread_wakes_with_the_block_that_completes_a_packet() {
        for (rate, codec_rate, packet) in
            [(44_100, 48_000, 960), (96_000, 48_000, 1152), (48_000, 48_000, 1152)]
        {
            let format = StreamFormat { rate, channels: 1, sample: SampleFormat::S16 };
            let block = rate as usize / 100;
            let mut intake = Intake::new(format, codec_rate, packet, 0);
            let (mut position, mut published, mut expected) = (0, 0, None);
            for _ in 0..3000 {
                let blocks_to_go =
                    missing(position, published, intake.max_block_frames()).div_ceil(block as u64);
                let wake = *expected.get_or_insert(position + blocks_to_go * block as u64);
                position += block as u64;
                let before = published;
                let Ok(()) = intake.feed(&vec![0; 2 * block], |one| {
                    published = one.first_frame + u64::from(one.frames);
                    Ok::<(), Infallible>(())
                });
                if published > before || position >= wake {
                    assert!(
                        wake <= position,
                        "{rate} Hz: asleep until {wake}, and a packet is there at {position}"
                    );
                    expected = None;
                }
            }
        }
    }
}
