//! The configuration file. Its author is no attacker, but makes mistakes: every message names a line that exists.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wavecast::config::Config;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = Config::parse(text, "w.toml") {
        let lines = text.matches('\n').count() + 1;
        for message in error.to_string().lines() {
            let place = message.strip_prefix("w.toml:").and_then(|rest| rest.split(':').next());
            let line: usize = place.and_then(|place| place.parse().ok()).expect("every message names a line");
            assert!((1..=lines).contains(&line), "{message}");
        }
    }
});
