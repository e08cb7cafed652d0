//! The endpoints, one a file.

pub mod clip;
pub mod page;
pub mod playlist;
pub mod status;
