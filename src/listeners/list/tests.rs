//! Admission, and the end of a connection.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::config;
use crate::listeners::testing::{UNLIMITED, admit, connection, listeners, read_to_end};

#[test]
fn no_listener_is_admitted_beyond_the_limits() {
    let all = listeners(config::Listeners::default());
    let limits = |max, max_per_client| Admission { max, max_per_client };
    let (_first, _) = admit(&all);
    let (_second, _) = admit(&all);
    let reserve = |clients: &str, limits| {
        let addresses: Vec<IpAddr> = clients.split(' ').map(|one| one.parse().expect("an address")).collect();
        all.reserve(limits, &addresses, None)
    };
    let refusal = |client, limits| reserve(client, limits).err();
    assert_eq!(refusal("127.0.0.1", limits(2, 9)), Some(Full::All(2)));
    assert_eq!(refusal("127.0.0.1", limits(3, 2)), Some(Full::Client(2)));
    assert_eq!(refusal("::ffff:127.0.0.1", limits(3, 2)), Some(Full::Client(2)));
    assert_eq!(refusal("192.0.2.1", limits(3, 1)), None);
    assert_eq!(refusal("192.0.2.1 127.0.0.1", limits(3, 2)), Some(Full::Client(2)), "by each address");
    let seat = reserve("192.0.2.1", limits(3, 1)).unwrap_or_else(|_| panic!("there is room"));
    assert_eq!(all.count(), 2, "a reserved seat does not listen yet");
    assert_eq!(refusal("192.0.2.2", limits(3, 1)), Some(Full::All(3)), "but it counts");
    assert_eq!(refusal("192.0.2.1", limits(4, 1)), Some(Full::Client(1)));
    let (socket, peer, _client) = connection();
    let third = seat.occupy("live", None, peer, String::new(), socket, Box::new(()));
    assert_eq!(all.all().iter().map(|one| one.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(refusal("192.0.2.2", limits(3, 1)), Some(Full::All(3)));
    drop(third);
    assert_eq!(all.count(), 2);
    drop(reserve("192.0.2.1", limits(3, 1)));
    assert_eq!(refusal("192.0.2.1", limits(3, 1)), None, "a seat that was dropped is free");
}

/// Notes when it is dropped.
struct Slot(Arc<AtomicBool>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_listener_that_is_dropped_ends_its_connection_and_gives_its_place_back() {
    let all = listeners(config::Listeners::default());
    let (socket, peer, mut client) = connection();
    let is_free = Arc::new(AtomicBool::new(false));
    let place = Box::new(Slot(Arc::clone(&is_free)));
    let seat = all.reserve(UNLIMITED, &[peer.ip()], None).unwrap_or_else(|_| panic!("there is room"));
    let admitted = seat.occupy("live", None, peer, String::new(), socket, place);
    // A thread that renders the status has a copy of the list, so the socket is not closed with the listener.
    let copy = all.all();
    admitted.socket().write_all(b"sound").expect("it is connected");
    assert!(!is_free.load(Ordering::Relaxed));
    drop(admitted);
    assert!(is_free.load(Ordering::Relaxed));
    assert_eq!((all.count(), copy.len()), (0, 1));
    assert_eq!(read_to_end(&mut client), b"sound");
    drop(copy);
}

#[test]
fn another_request_on_the_connection_does_not_cost_the_client_what_the_kernel_has_still_to_send() {
    let all = listeners(config::Listeners::default());
    let (admitted, mut client) = admit(&all);
    client.write_all(&[b'x'; 2000]).expect("it is connected");
    admitted.socket().set_nonblocking(true).expect("it is set");
    let mut queued = 0;
    while let Ok(bytes) = admitted.socket().write(&[0; 10_000]) {
        queued += bytes;
    }
    drop(admitted);
    assert_eq!(read_to_end(&mut client).len(), queued);
}
