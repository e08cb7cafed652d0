//! The endpoints, one a file. Each takes an exchange and answers it.

pub(crate) mod bands;
pub mod clip;
pub(crate) mod encoded;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod listen;
pub(crate) mod not_found;
pub mod page;
pub mod playlist;
pub mod status;
pub(crate) mod stream;
