//! What the card delivers is what the client gets, bit for bit.

mod support;

use support::card::{CardFormat, CardOptions, Cards};
use support::daemon::Daemon;
use support::ramp::RampReader;

#[test]
fn a_listener_gets_the_cards_ramp_bit_for_bit() {
    let cards = Cards::with([("fake", CardOptions::default())]);
    let daemon = Daemon::start(Some(&cards), "[input.live]\ndevice = \"fake\"\n");
    daemon.wait_for_state("live", "capturing");
    let mut response = daemon.get("/live.wav");
    assert_eq!(response.status, 200);
    response.bytes(44);
    let mut ramp = RampReader::new(CardFormat::S16, 2);
    ramp.feed(&response.bytes(4 * 44_100 * 2));
    assert!(ramp.is_whole(), "{:?}", ramp.stretches);
}
