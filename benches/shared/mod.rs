//! The parts that the benchmarks share.
//!
//! Each benchmark uses some of them.
#![allow(dead_code)]

pub(crate) mod command_line;
pub(crate) mod counts;
pub(crate) mod process;
