//! A request's target: its path and query.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wavecast::http::target::{BadRequest, Target};

fuzz_target!(|bytes: &[u8]| {
    // The gate passes on ASCII only.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Target::parse(text) {
        Ok(Target::Stream(name, _, query)) => {
            assert!(text.len() >= name.len(), "decoding makes nothing longer");
            assert!(query.length.is_none_or(|length| !length.is_zero()));
        }
        Ok(_) => {}
        Err(BadRequest(why)) => assert!(!why.is_empty() && why.len() < 400),
    }
});
