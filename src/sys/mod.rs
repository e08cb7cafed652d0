//! The operating system and the network, behind safe functions and plain values.

pub mod client_key;
