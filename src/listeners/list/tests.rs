//! Admission, and the end of a connection.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::config;
use crate::listeners::testing::{UNLIMITED, admit, connection, listeners, read_to_end, wait_for};

#[test]
fn no_listener_is_admitted_beyond_the_limits() {
    let all = listeners(config::Listeners::default());
    let limits = |max, max_per_client| Admission { max, max_per_client };
    let (_first, _) = admit(&all);
    let (_second, _) = admit(&all);
    let try_as = |client: &str, limits| {
        let (socket, ..) = connection();
        let client = SocketAddr::new(client.parse().expect("an address"), 1);
        all.admit(limits, "live", client, String::new(), socket, Box::new(()))
    };
    let refusal = |client, limits| try_as(client, limits).err().map(|(full, ..)| full);
    assert_eq!(refusal("127.0.0.1", limits(2, 9)), Some(Full::All(2)));
    assert_eq!(refusal("127.0.0.1", limits(3, 2)), Some(Full::Client(2)));
    assert_eq!(refusal("::ffff:127.0.0.1", limits(3, 2)), Some(Full::Client(2)));
    assert_eq!(refusal("192.0.2.1", limits(3, 1)), None);
    assert_eq!(all.count(), 2, "the third listener has left");
    let third = try_as("192.0.2.1", limits(3, 1)).unwrap_or_else(|_| panic!("there is room"));
    assert_eq!(all.all().iter().map(|one| one.id).collect::<Vec<_>>(), [1, 2, 4]);
    drop(third);
    assert_eq!(all.count(), 2);
}

#[test]
fn a_refused_connection_is_given_back_with_its_place() {
    let all = listeners(config::Listeners::default());
    let (socket, peer, mut client) = connection();
    let none = Admission { max: 0, max_per_client: 0 };
    let refused = all.admit(none, "live", peer, String::new(), socket, Box::new(()));
    let Err((full, mut socket, _place)) = refused else { panic!("there is no room") };
    assert_eq!(full, Full::All(0));
    socket.write_all(b"503").expect("it is still open");
    drop(socket);
    assert_eq!(read_to_end(&mut client), b"503");
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
    let admitted = all.admit(UNLIMITED, "live", peer, String::new(), socket, place);
    let admitted = admitted.unwrap_or_else(|_| panic!("there is room"));
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

#[test]
fn a_socket_can_be_taken_out_for_another_response() {
    let all = listeners(config::Listeners::default());
    let (admitted, mut client) = admit(&all);
    let copy = all.all();
    let thread = std::thread::spawn(move || admitted.into_socket());
    wait_for("it to be off the list", || all.count() == 0);
    drop(copy);
    let mut socket = thread.join().expect("it gets the socket");
    socket.write_all(b"503").expect("it is still open");
    drop(socket);
    assert_eq!(read_to_end(&mut client), b"503");
}

#[test]
fn a_client_is_an_address_here_and_a_network_elsewhere() {
    let key = |peer: &str, local: &str| {
        client_key(peer.parse().expect("an address"), local.parse::<IpAddr>().ok()).to_string()
    };
    for (peer, local, client) in [
        ("192.168.1.5", "192.168.1.1", "::ffff:192.168.1.5"),
        ("::ffff:192.168.1.5", "::ffff:192.168.1.1", "::ffff:192.168.1.5"),
        ("::1", "::1", "::1"),
        ("fe80::7", "fe80::1", "fe80::7"),
        ("fd12:3456::7", "fd12:9999::1", "fd12:3456::7"),
        ("2001:db8:1:2::7", "2001:db8:1:2::1", "2001:db8:1:2::7"),
        ("2001:db8:1:3::7", "2001:db8:1:2::1", "2001:db8:1:3::"),
        ("2001:db8:1:3:ffff::8", "", "2001:db8:1:3::"),
    ] {
        assert_eq!(key(peer, local), client, "{peer} at {local}");
    }
}
