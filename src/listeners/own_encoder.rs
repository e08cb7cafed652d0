//! The encoder of one listener: for past sound (`back=`, `last=`) and for recordings (`for=`), which no other listener hears.
//!
//! The encoder runs in the listener's thread, which reads PCM from the input's ring as for a WAV listener.

use super::chunked::Chunk;
use crate::encode::encodings::PrivateEncoder;
use crate::encode::flac::{self, SampleDigest, Totals};
use crate::encode::{Codec, EncodeError, Kind};
use crate::media::ring::{Read, Reader};

/// The time of sound that is encoded at once.
const PIECES_PER_SECOND: usize = 25;

/// The encoder of one listener, with the bytes that the listener did not get yet.
pub struct OwnEncoder {
    encoder: PrivateEncoder,
    /// Frames that are left to encode; `None` for an endless stream.
    frames: Option<u64>,
    /// True for a part of the past, whose header has the length and the checksum.
    is_past: bool,
    pcm: Vec<u8>,
    /// Encoded bytes, of which the first `taken` are with the listener.
    encoded: Vec<u8>,
    taken: usize,
    /// Position of the next frame in the encoder, and in the ring.
    position: u64,
    frame: u64,
    is_finished: bool,
    /// Frames that waited for a complete packet when others were skipped, and were not reported yet.
    dropped: u64,
    /// The error that ended the encoder.
    failure: Option<EncodeError>,
}

/// The result of [`OwnEncoder::fill`].
pub(super) enum Filled {
    /// The result of a read.
    Read(Read),
    /// The chunk is full.
    Full,
    /// The last byte of a finite stream is in the chunk.
    Finished,
    /// The encoder failed, or past sound was lost before it was encoded.
    Failed,
}

impl OwnEncoder {
    /// Returns the encoder of a stream of `frames` frames, or of an endless one. `is_past`: all of them are in the ring.
    pub fn new(encoder: PrivateEncoder, frames: Option<u64>, is_past: bool) -> OwnEncoder {
        OwnEncoder {
            encoder,
            frames,
            is_past,
            pcm: Vec::new(),
            encoded: Vec::new(),
            taken: 0,
            position: 0,
            frame: 0,
            is_finished: false,
            dropped: 0,
            failure: None,
        }
    }

    /// Returns codec and bit rate.
    pub fn kind(&self) -> Kind {
        self.encoder.kind()
    }

    /// Returns `true` for a recording or a clip of which frames are missing.
    pub(super) fn is_incomplete(&self) -> bool {
        self.frames.is_some() && !self.is_finished
    }

    /// Writes the header and notes where the reader begins. Call before the first [`fill`](Self::fill).
    ///
    /// # Errors
    ///
    /// The number of frames that the ring lost before their checksum was known.
    pub(super) fn begin(&mut self, reader: &Reader) -> Result<(), u64> {
        let format = reader.format();
        self.frame = reader.frame();
        self.pcm = vec![0; (format.rate as usize).div_ceil(PIECES_PER_SECOND) * format.frame_bytes()];
        match self.frames {
            Some(frames) if self.kind().codec == Codec::Flac => {
                let md5 = if self.is_past { self.digest(reader, frames)? } else { [0; 16] };
                self.encoded.extend_from_slice(&flac::header(format, Some(Totals { frames, md5 })));
            }
            _ => self.encoded.extend_from_slice(self.encoder.get().header()),
        }
        Ok(())
    }

    /// Returns the checksum of the next frames.
    fn digest(&mut self, reader: &Reader, mut frames: u64) -> Result<[u8; 16], u64> {
        let (mut reader, frame_bytes) = (reader.clone(), reader.format().frame_bytes());
        let mut digest = SampleDigest::new(reader.format());
        while frames > 0 {
            let most = wanted(&self.pcm, Some(frames), frame_bytes);
            match reader.read(&mut self.pcm[..most]) {
                Read::Block { frames: read, bytes, .. } => {
                    digest.update(&self.pcm[..bytes]);
                    frames -= read as u64;
                }
                Read::Lapped { lost } => return Err(lost),
                Read::Nothing | Read::End => return Err(0),
            }
        }
        Ok(digest.finish())
    }

    /// Encodes the next frames of the reader and moves as many bytes as fit into the chunk.
    pub(super) fn fill(&mut self, reader: &mut Reader, chunk: &mut Chunk) -> Filled {
        self.move_to(chunk);
        if self.taken < self.encoded.len() {
            return Filled::Full;
        }
        if self.is_finished {
            return Filled::Finished;
        }
        let format = reader.format();
        self.follow(reader.frame());
        let most = wanted(&self.pcm, self.frames, format.frame_bytes());
        let read = match most {
            0 => Read::End,
            most => reader.read(&mut self.pcm[..most]),
        };
        let done = match read {
            Read::Block { frames, bytes, .. } => {
                self.position += frames as u64;
                self.frame = reader.frame();
                if let Some(left) = &mut self.frames {
                    *left -= frames as u64;
                }
                self.encode(bytes)
            }
            Read::Lapped { .. } => {
                self.follow(reader.frame());
                Ok(())
            }
            Read::Nothing => Ok(()),
            Read::End if most > 0 => return Filled::Read(read),
            Read::End => Ok(()),
        };
        let done = done.and_then(|()| self.finish_if_complete());
        if let Err(error) = done {
            self.failure = Some(error);
            return Filled::Failed;
        }
        self.move_to(chunk);
        match self.is_finished {
            true if self.taken < self.encoded.len() => Filled::Full,
            true => Filled::Finished,
            false => Filled::Read(read),
        }
    }

    /// Returns the number of frames that were left out since the last call, beside those that the reader has skipped.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Returns the error that ended the encoder.
    pub(super) fn failure(&self) -> Option<EncodeError> {
        self.failure
    }

    fn encode(&mut self, bytes: usize) -> Result<(), EncodeError> {
        let encoded = &mut self.encoded;
        self.encoder.get().encode(&self.pcm[..bytes], &mut |packet| encoded.extend_from_slice(packet.bytes))
    }

    fn finish_if_complete(&mut self) -> Result<(), EncodeError> {
        if self.frames != Some(0) || self.is_finished {
            return Ok(());
        }
        self.is_finished = true;
        let encoded = &mut self.encoded;
        self.encoder.get().finish(&mut |packet| encoded.extend_from_slice(packet.bytes))
    }

    /// Leaves out the frames that the reader has skipped. After a change of the ring its indices begin anew.
    fn follow(&mut self, frame: u64) {
        let skipped = frame.saturating_sub(self.frame);
        self.frame = frame;
        if skipped > 0 {
            self.position += skipped;
            let encoded = &mut self.encoded;
            self.dropped += self
                .encoder
                .get()
                .skip_to(self.position, &mut |packet| encoded.extend_from_slice(packet.bytes));
        }
    }

    fn move_to(&mut self, chunk: &mut Chunk) {
        let left = &self.encoded[self.taken..];
        let count = left.len().min(chunk.spare().len());
        chunk.push(&left[..count]);
        self.taken += count;
        if self.taken == self.encoded.len() {
            self.encoded.clear();
            self.taken = 0;
        }
    }
}

/// Returns the bytes of the frames to read next.
fn wanted(pcm: &[u8], frames: Option<u64>, frame_bytes: usize) -> usize {
    let most = pcm.len() / frame_bytes;
    frames.map_or(most, |frames| most.min(usize::try_from(frames).unwrap_or(most))) * frame_bytes
}
