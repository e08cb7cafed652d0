//! Opus by libopus, in Ogg pages (RFC 7845): packets of 20 ms at a constant bit rate.

use super::codec::Codec;
use super::encoder::{EncodeError, Encoder, OpenError, Options, Packet, Sink, Target};
use super::intake::{Block, Intake};
use super::ogg::{self, Pager, Paging};
use crate::encode::downmix;
use crate::media::format::StreamFormat;
use crate::sys::opus::{MOST_BYTES, Opus, OpusError};

/// The rates that Opus takes as they are, in Hz. All others are resampled to the last one.
const RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];

/// Granule positions count at this rate, whatever the encoder's.
const GRANULE_RATE: u64 = 48_000;
/// Packets a second.
pub(super) const PACKETS: u32 = 50;
/// A packet's part of the granule position.
const PACKET_GRANULES: u64 = GRANULE_RATE / PACKETS as u64;

/// Bytes a second of the pages around a listener's packets: 27 of the header and a segment each, for packets below 255 bytes.
pub(super) const LISTENER_PAGE_BYTES_PER_SECOND: u64 = 28 * PACKETS as u64;

/// Samples at 48 kHz that a decoder throws away first: 80 ms, as RFC 7845 advises. A decoder that joins in
/// the middle fades in for 0.2 s; with this pre-skip it begins at -1 dB instead of -16 dB.
const LIVE_PRE_SKIP: u32 = 3840;

/// An encoder of Opus in Ogg.
pub struct OpusEncoder {
    opus: Opus,
    intake: Intake,
    pager: Pager,
    header: Vec<u8>,
    packet_bytes: usize,
    packets_per_page: usize,
    /// The encoder's rate.
    rate: u32,
    pre_skip: u32,
}

impl OpusEncoder {
    /// Returns an encoder for PCM of `format` with `bitrate` kbit/s.
    ///
    /// # Errors
    ///
    /// libopus is missing or refuses the settings.
    pub fn new(
        format: StreamFormat,
        bitrate: u32,
        options: &Options<'_>,
        paging: Paging,
    ) -> Result<Self, OpenError> {
        if format.rate == 0 || format.channels == 0 {
            return Err(OpenError::Rate(format.rate));
        }
        let rate = if RATES.contains(&format.rate) { format.rate } else { GRANULE_RATE as u32 };
        let channels = downmix::channels(format);
        let mut opus = Opus::new(rate, channels, bitrate).map_err(|error| match error {
            OpusError::Missing(missing) => OpenError::Library(missing),
            OpusError::Refused(error) => OpenError::Refused(Codec::Opus, error),
        })?;
        let block_frames = rate / PACKETS;
        let pre_skip = match options.target {
            Target::Listeners | Target::OggListeners | Target::Push => LIVE_PRE_SKIP,
            // Exactly what the codec puts before the first sample.
            Target::File => opus.lookahead() * (GRANULE_RATE as u32 / rate),
        };
        let packets_per_page = paging.packets(block_frames, rate);
        let headers = [head(channels as u8, pre_skip as u16, format.rate), tags(options.title)];
        let (pager, header) = Pager::new(options.serial, packets_per_page, &headers);
        Ok(OpusEncoder {
            opus,
            intake: Intake::new(format, rate, block_frames as usize, options.first_frame),
            pager,
            header,
            packet_bytes: (bitrate as usize * 1000 / 8).div_ceil(PACKETS as usize).min(MOST_BYTES),
            packets_per_page,
            rate,
            pre_skip,
        })
    }
}

impl Encoder for OpusEncoder {
    fn header(&self) -> &[u8] {
        &self.header
    }

    fn max_packet_bytes(&self) -> usize {
        ogg::max_page_bytes(self.packets_per_page * self.packet_bytes, self.packets_per_page)
    }

    fn max_packet_frames(&self) -> u32 {
        self.packets_per_page as u32 * self.intake.max_block_frames()
    }

    fn encode(&mut self, pcm: &[u8], sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        let OpusEncoder { opus, intake, pager, .. } = self;
        intake.feed(pcm, |block| encode(opus, pager, block, sink))
    }

    fn skip_to(&mut self, first_frame: u64, sink: &mut Sink<'_>) -> u64 {
        self.pager.flush(sink);
        self.intake.skip_to(first_frame)
    }

    /// Fills the last packets with silence; the last page's granule position tells players where the sound
    /// ends.
    fn finish(&mut self, sink: &mut Sink<'_>) -> Result<(), EncodeError> {
        let OpusEncoder { opus, intake, pager, rate, pre_skip, .. } = self;
        let granules_per_frame = GRANULE_RATE / u64::from(*rate);
        // The sound is as long as it was, and the decoder needs as much more as it throws away.
        let frames = intake.received_at_codec_rate() + u64::from(*pre_skip) / granules_per_frame;
        // Sound before a skip, if there was one, is in pages already.
        let skipped = pager.granule() - intake.handed_out() * granules_per_frame;
        pager.end_at(skipped + frames * granules_per_frame);
        intake.pad(frames, |block| encode(opus, pager, block, sink))?;
        pager.finish(sink);
        Ok(())
    }
}

fn encode(
    opus: &mut Opus,
    pager: &mut Pager,
    block: Block<'_>,
    sink: &mut Sink<'_>,
) -> Result<(), EncodeError> {
    let bytes = opus.encode(block.samples).map_err(EncodeError)?;
    let Block { first_frame, frames, .. } = block;
    pager.add(Packet { first_frame, frames, bytes }, PACKET_GRANULES, sink);
    Ok(())
}

/// Returns the identification header (RFC 7845, section 5.1).
fn head(channels: u8, pre_skip: u16, input_rate: u32) -> Vec<u8> {
    let mut packet = b"OpusHead\x01".to_vec();
    packet.push(channels);
    packet.extend_from_slice(&pre_skip.to_le_bytes());
    packet.extend_from_slice(&input_rate.to_le_bytes());
    // No gain; mapping family 0: mono or stereo.
    packet.extend_from_slice(&[0, 0, 0]);
    packet
}

/// Returns the comment header (RFC 7845, section 5.2).
fn tags(title: &str) -> Vec<u8> {
    let mut packet = b"OpusTags".to_vec();
    packet.extend_from_slice(&ogg::comments(title));
    packet
}
