//! The sound cards of this machine: which there are, why one does not open, and the text of `wavecast devices`.
//!
//! Everything here that reads `/proc`, `/sys`, `/dev` or `/etc` takes their places from [`SystemPaths`], so that tests
//! use a tree of their own.

mod alsa_log;
mod diagnose;
mod enumerate;
mod holder;
mod list;
mod permission;
mod printable;
mod system_paths;

pub use alsa_log::{collect_alsa_messages, take_alsa_messages, with_alsa_log, with_alsa_messages};
pub use diagnose::{check_jack, converting_name, diagnose};
pub use enumerate::{
    CaptureDevice, NamedPcm, UsbIdentity, capture_devices, find_device, first_capture_device, guess_device,
    named_pcms, resolve, resolve_usb,
};
pub use holder::{Holder, holder};
pub use list::list;
pub use permission::permission_problem;
pub use system_paths::SystemPaths;

#[cfg(test)]
pub(crate) mod testing;
