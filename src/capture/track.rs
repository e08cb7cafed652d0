//! A track: the way of one input's sound, from a block of the source into the input's ring.
//!
//! Inputs that share a card are tracks of one capture: each picks its channels out of the same blocks.

use super::channels::ChannelPicker;
use super::convert::Converter;
use super::dead_air::{DeadAirChange, DeadAirDetector};
use super::timeline::Timeline;
use crate::config;
use crate::inputs::SourceInfo;

/// The track of one input, for one source.
pub(super) struct Track {
    timeline: Timeline,
    picker: ChannelPicker,
    converter: Converter,
    /// Room for the picked channels of a block; empty where all are picked.
    picked: Vec<u8>,
    /// Room for a converted block; empty where no conversion is needed.
    converted: Vec<u8>,
    dead_air: DeadAirDetector,
}

impl Track {
    /// A track from a source that has just been started.
    pub(super) fn new(
        timeline: Timeline,
        config: &config::Input,
        mut dead_air: DeadAirDetector,
        info: &SourceInfo,
    ) -> Track {
        let format = timeline.writer().format();
        let picker = ChannelPicker::new(&config.pick, info.sample, info.channels);
        let converter = Converter::new(info.sample, format.sample, config.gain_db);
        dead_air.start(info.rate, picker.frame_bytes());
        let room = |is_needed: bool, frame_bytes: usize| match is_needed {
            true => vec![0; info.block_frames as usize * frame_bytes],
            false => Vec::new(),
        };
        Track {
            picked: room(!picker.is_identity(), picker.frame_bytes()),
            converted: room(!converter.is_identity(), format.frame_bytes()),
            timeline,
            picker,
            converter,
            dead_air,
        }
    }

    /// Publishes a block of `frames` frames of the source, the last of which was captured at `captured_at` (ns). Returns
    /// the frames of silence that came first, and a change of dead air. `may_reopen` is whether dead air may have the
    /// source opened again.
    pub(super) fn publish(
        &mut self,
        block: &[u8],
        frames: u64,
        captured_at: u64,
        may_reopen: bool,
    ) -> (u64, Option<DeadAirChange>) {
        let picked = match self.picker.is_identity() {
            true => block,
            false => self.picker.pick(block, &mut self.picked),
        };
        let converted = match self.converter.is_identity() {
            true => picked,
            false => self.converter.convert(picked, &mut self.converted),
        };
        let filled = self.timeline.publish(converted, frames, captured_at);
        // As the source delivered it: a gain may make zeros of quiet sound.
        let peak = || self.timeline.meter().last_peak_dbfs();
        (filled, self.dead_air.note(picked, may_reopen, peak))
    }

    /// Returns whether dead air was reported that goes on.
    pub(super) fn is_dead(&self) -> bool {
        self.dead_air.is_reported()
    }

    pub(super) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    pub(super) fn timeline_mut(&mut self) -> &mut Timeline {
        &mut self.timeline
    }

    /// Returns what the input's next track goes on with.
    pub(super) fn into_parts(self) -> (Timeline, DeadAirDetector) {
        (self.timeline, self.dead_air)
    }
}
