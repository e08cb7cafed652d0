//! Sound comes in; knows nothing of HTTP.

pub mod format;
