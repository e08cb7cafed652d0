//! The key `pick`: which channels of the card become those of the stream.

use std::fmt;

use super::messages::{choose, listed};

/// The channels of the card that become the channels of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pick {
    /// `"all"`: all channels, in the card's order.
    #[default]
    All,
    /// `[3]`, `[1, 2]`, `"left"`, `"right"`, `"swap"`: these channels in this order, counted from 1. Not empty. A channel
    /// may be named twice.
    Channels(Vec<u16>),
    /// `"mono"`: one channel, the mean of all.
    Mean,
}

impl Pick {
    /// Reads a pick that is written as a word.
    pub(super) fn from_word(word: &str) -> Result<Pick, String> {
        const WORDS: [(&str, &str); 5] =
            [("all", "all"), ("mono", "mono"), ("left", "left"), ("right", "right"), ("swap", "swap")];
        let word = choose(word, &WORDS)
            .map_err(|problem| format!("{problem}, or a list of channels such as [3] or [1, 2]"))?;
        Ok(match word {
            "mono" => Pick::Mean,
            "left" => Pick::Channels(vec![1]),
            "right" => Pick::Channels(vec![2]),
            "swap" => Pick::Channels(vec![2, 1]),
            _ => Pick::All,
        })
    }

    /// Returns the number of channels that the card must have at least.
    pub fn least_channels(&self) -> u16 {
        match self {
            Pick::All | Pick::Mean => 1,
            Pick::Channels(channels) => channels.iter().copied().max().unwrap_or(1),
        }
    }

    /// Returns the number of channels of the stream of a card with `card` channels.
    pub fn stream_channels(&self, card: u16) -> u16 {
        match self {
            Pick::All => card,
            // The parser takes at most as many as a frame may have.
            Pick::Channels(channels) => channels.len() as u16,
            Pick::Mean => 1,
        }
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pick::All => f.write_str("all channels"),
            Pick::Mean => f.write_str("the mean of all channels"),
            Pick::Channels(channels) => {
                let numbers: Vec<String> = channels.iter().map(u16::to_string).collect();
                let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
                let noun = if channels.len() == 1 { "channel" } else { "channels" };
                write!(f, "{noun} {}", listed(&numbers, "and"))
            }
        }
    }
}
