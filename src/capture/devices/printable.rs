//! Text of foreign origin, made fit for the log and the terminal.

/// Returns a text that comes from hardware, a kernel file or ALSA, without control characters and without space around
/// it. A device can put escape codes for the terminal into its name.
pub(super) fn printable(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
