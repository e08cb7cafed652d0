//! Sound comes in; knows nothing of HTTP.
//!
//! A sample's way: [`source`] (an [`alsa`] card or a [`synth`]) → [`convert`] → [`capture`] → the
//! [ring](crate::ring); how loud it is: [`levels`].

pub mod alsa;
pub mod capture;
pub mod convert;
pub mod devices;
pub mod drift;
pub mod format;
pub mod input;
pub mod levels;
mod nap;
pub mod source;
pub mod synth;
