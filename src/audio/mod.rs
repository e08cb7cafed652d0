//! Sound comes in; knows nothing of HTTP.

pub mod devices;
pub mod format;
