//! The values of a request's header fields, one line each: Range, User-Agent, Host, X-Forwarded-For, Authorization.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use wavecast::config::Config;
use wavecast::http::access::Access;
use wavecast::http::byte_range::ByteRange;
use wavecast::http::players::{self, Player};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();

    if let Some(ByteRange::Bounded(first, last)) = ByteRange::parse(next()) {
        assert!(first <= last);
    }
    let agent = next();
    let name = players::product(agent);
    assert!(name.chars().count() < 120, "it is shown in the log: {name:?}");
    assert!(!name.chars().any(char::is_control), "{name:?}");
    let _ = Player::of(agent, false);

    static ACCESS: OnceLock<Access> = OnceLock::new();
    let access = ACCESS.get_or_init(|| {
        let text = "[access]\ntrusted_proxies = [\"127.0.0.1\", \"::1\"]\nhosts = \"bird.example.org\"\n";
        let config = Config::parse(text, "fuzz").expect("it is right");
        Access::new(&config.access).expect("there is no file to read")
    });
    access.fuzz(next(), next(), next());
});
