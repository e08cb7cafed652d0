//! The policy for listeners that are too slow.
