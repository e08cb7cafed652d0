//! Sound goes out; knows nothing of ALSA.
//!
//! | | |
//! |---|---|
//! | [`server`] | the listening socket, one handler thread for each connection that asks |
//! | [`request`] | what is asked for: path, query, Range |
//! | [`player`] | who asks, and what that player needs |
//! | [`stream`] | one listener: ring → socket |
//! | [`listeners`] | all who listen now |
//! | [`sockets`] | tiny_http's own sockets, found from outside |
//! | [`status`], [`page`], [`playlist`] | the short answers |

pub mod player;
pub mod request;
