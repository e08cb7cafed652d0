//! The thread of a listener: what it sends, what it counts, and the move to another ring.

use std::net::TcpStream;
use std::sync::Arc;

use super::*;
use crate::config::{self, WhenBehind};
use crate::listeners::testing::{
    BLOCK, LIVE, Ramp, every_block, listeners, read, read_rest, read_to_end, samples, stream, wait_for,
};
use crate::listeners::{ActiveStream, Listener};

const SECOND: Duration = Duration::from_secs(1);

fn start(stream: ActiveStream, head: &[u8]) {
    stream.start(head.to_vec()).unwrap_or_else(|_| panic!("no thread"));
}

#[test]
fn head_prefix_and_sound_come_in_that_order() {
    let all = listeners(config::Listeners::default());
    let mut ramp = Ramp::new("live", SECOND);
    ramp.publish(3);
    let body = Playback { chunked: true, prefix: b"WAV.".to_vec(), begin: StartAt::Back(160), ..LIVE };
    let (stream, mut client) = stream(&all, &ramp, body);
    assert_eq!(stream.frame(), Some((ramp.ring.id(), 80)));
    start(stream, b"HTTP/1.1 200 OK\r\n\r\n");
    let sound = [b"WAV.".to_vec(), samples(80..240)].concat();
    let expected = [b"HTTP/1.1 200 OK\r\n\r\n144\r\n", &sound[..], b"\r\n"].concat();
    assert_eq!(read(&mut client, expected.len()), expected);
    ramp.ring.close();
    assert_eq!(read_to_end(&mut client), chunked::LAST);
}

#[test]
fn the_head_is_sent_while_there_is_no_sound() {
    let all = listeners(config::Listeners::default());
    let ramp = Ramp::new("live", SECOND);
    let (stream, mut client) = stream(&all, &ramp, LIVE);
    start(stream, b"head");
    assert_eq!(read(&mut client, 4), b"head");
    ramp.ring.close();
    assert_eq!(read_to_end(&mut client), b"");
}

#[test]
fn a_finite_body_is_cut_at_its_bytes_and_ends_with_its_suffix() {
    let all = listeners(config::Listeners::default());
    let mut ramp = Ramp::new("live", SECOND);
    ramp.publish(4);
    let file = Playback { skip: 1, length: Some(202), suffix: b"\0", begin: StartAt::Frame(40), ..LIVE };
    let (stream, mut client) = stream(&all, &ramp, file);
    start(stream, b"head");
    let expected = [b"head", &samples(40..240)[1..203], b"\0"].concat();
    assert_eq!(read_to_end(&mut client), expected);
    wait_for("it to be off the list", || all.count() == 0);
}

#[test]
fn a_file_whose_first_frame_is_gone_is_not_begun() {
    let all = listeners(config::Listeners::default());
    let mut ramp = Ramp::new("live", Duration::ZERO);
    ramp.publish(20);
    let file = Playback { length: Some(160), begin: StartAt::Frame(0), lag_target: None, ..LIVE };
    let (stream, mut client) = stream(&all, &ramp, file);
    start(stream, b"head");
    assert_eq!(read_to_end(&mut client), b"");
}

#[test]
fn frames_count_as_sent_when_the_kernel_has_them() {
    let settings = config::Listeners { stall_timeout: Duration::from_millis(200), ..Default::default() };
    let all = listeners(settings);
    let mut ramp = Ramp::new("live", Duration::from_secs(100));
    ramp.publish(10_000);
    // The client asks for 1.6 MB and reads nothing until it is disconnected.
    let (stream, mut client) = stream(&all, &ramp, Playback { begin: StartAt::Back(u64::MAX), ..LIVE });
    let listener = all.all().remove(0);
    start(stream, b"");
    wait_for("it to be disconnected", || all.count() == 0);
    let heard = read_rest(&mut client).len() as u64 / 2;
    let sent = listener.sent.load(Ordering::Relaxed);
    assert!(heard > 0 && sent <= heard, "{sent} frames counted as sent, {heard} heard");
    assert!(sent + 800 >= heard, "{sent} frames counted as sent, {heard} heard");
    assert_eq!(listener.position.load(Ordering::Relaxed), sent);
}

/// A listener at the live edge whose input gets another ring with that history. The old ring is closed when that many
/// blocks are in the new one.
fn replace_ring(
    settings: config::Listeners,
    history: Duration,
    blocks: u64,
) -> (Ramp, Arc<Listener>, TcpStream) {
    let all = listeners(settings);
    let mut ramp = Ramp::new("live", SECOND);
    let (stream, mut client) = stream(&all, &ramp, LIVE);
    let listener = all.all().remove(0);
    start(stream, b"head");
    assert_eq!(read(&mut client, 4), b"head");
    ramp.publish(4);
    assert_eq!(read(&mut client, 4 * 160), samples(0..4 * BLOCK));
    let old = ramp.replace_ring(history);
    ramp.publish(blocks);
    drop(old);
    (ramp, listener, client)
}

fn skipped(listener: &Listener) -> u64 {
    listener.skipped.load(Ordering::Relaxed)
}

#[test]
fn in_another_ring_a_listener_begins_at_the_oldest_frame() {
    let (mut ramp, listener, mut client) = replace_ring(every_block(), SECOND, 5);
    assert_eq!(read(&mut client, 5 * 160), samples(4 * BLOCK..9 * BLOCK));
    ramp.publish(1);
    assert_eq!(read(&mut client, 160), samples(9 * BLOCK..10 * BLOCK));
    assert_eq!(skipped(&listener), 0);
    ramp.ring.close();
}

#[test]
fn frames_that_another_ring_has_overwritten_are_counted() {
    // Of ten blocks a ring of four slots has three.
    let (ramp, listener, mut client) = replace_ring(every_block(), Duration::ZERO, 10);
    assert_eq!(read(&mut client, 3 * 160), samples(11 * BLOCK..14 * BLOCK));
    assert_eq!(skipped(&listener), 7 * BLOCK);
    ramp.ring.close();
}

#[test]
fn a_listener_that_comes_to_another_ring_too_late_skips() {
    let settings = config::Listeners { max_lag: Duration::from_millis(200), ..every_block() };
    let (mut ramp, listener, mut client) = replace_ring(settings, 10 * SECOND, 100);
    wait_for("it to skip", || skipped(&listener) > 0);
    assert_eq!(skipped(&listener), 100 * BLOCK);
    ramp.publish(1);
    assert_eq!(read(&mut client, 160), samples(104 * BLOCK..105 * BLOCK));
    ramp.ring.close();
}

#[test]
fn a_listener_that_comes_to_another_ring_too_late_is_disconnected_if_so_configured() {
    let settings = config::Listeners {
        max_lag: Duration::from_millis(200),
        when_behind: WhenBehind::Disconnect,
        ..every_block()
    };
    let (_ramp, listener, mut client) = replace_ring(settings, 10 * SECOND, 100);
    assert_eq!(read_to_end(&mut client), b"");
    assert_eq!(skipped(&listener), 0);
}

/// A listener of a ring that keeps less than the allowed lag, which the ring has overtaken before the listener's thread starts.
fn overtaken(when_behind: WhenBehind) -> (Ramp, Arc<Listener>, TcpStream) {
    let settings = config::Listeners { max_lag: SECOND, when_behind, ..every_block() };
    let all = listeners(settings);
    let mut ramp = Ramp::new("live", Duration::ZERO);
    ramp.publish(1);
    let (stream, client) = stream(&all, &ramp, Playback { begin: StartAt::Back(0), ..LIVE });
    let listener = all.all().remove(0);
    ramp.publish(20);
    start(stream, b"head");
    (ramp, listener, client)
}

#[test]
fn a_listener_that_is_overtaken_skips_to_the_live_edge() {
    let (mut ramp, listener, mut client) = overtaken(WhenBehind::Skip);
    wait_for("it to skip", || skipped(&listener) == 20 * BLOCK);
    assert_eq!(read(&mut client, 4), b"head");
    ramp.publish(1);
    assert_eq!(read(&mut client, 160), samples(21 * BLOCK..22 * BLOCK));
    ramp.ring.close();
}

#[test]
fn a_listener_that_is_overtaken_is_disconnected_if_so_configured() {
    let (_ramp, _listener, mut client) = overtaken(WhenBehind::Disconnect);
    assert_eq!(read_to_end(&mut client), b"");
}

#[test]
fn a_recording_has_no_hole_where_its_input_got_another_ring() {
    let all = listeners(every_block());
    let mut ramp = Ramp::new("live", SECOND);
    let recording = Playback { length: Some(20 * 160), lag_target: None, ..LIVE };
    let (stream, mut client) = stream(&all, &ramp, recording);
    start(stream, b"head");
    assert_eq!(read(&mut client, 4), b"head");
    ramp.publish(4);
    let old = ramp.replace_ring(SECOND);
    ramp.publish(10);
    drop(old);
    assert_eq!(read(&mut client, 14 * 160), samples(0..14 * BLOCK));
    ramp.publish(10);
    assert_eq!(read_to_end(&mut client), samples(14 * BLOCK..20 * BLOCK));
}
