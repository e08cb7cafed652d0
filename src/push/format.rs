//! The codec of a push's format.

use crate::config::PushFormat;
use crate::encode::Codec;

/// Returns the codec of a format.
pub fn codec(format: PushFormat) -> Codec {
    match format {
        PushFormat::Flac => Codec::Flac,
        PushFormat::Opus => Codec::Opus,
        PushFormat::Mp3 => Codec::Mp3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// `config` cannot know the codecs, which are above it.
    #[test]
    fn the_configuration_takes_the_bit_rates_that_the_codecs_have() {
        for format in [PushFormat::Opus, PushFormat::Mp3] {
            for bitrate in 1..=320 {
                let text = format!(
                    "[push.radio]\nto = 'icecast://a:8000/b'\nformat = '{}'\nbitrate = {bitrate}",
                    format.name()
                );
                let is_taken = Config::parse(&text, "w.toml").is_ok();
                assert_eq!(is_taken, codec(format).bitrates().contains(&bitrate), "{bitrate} {format:?}");
            }
        }
    }
}
