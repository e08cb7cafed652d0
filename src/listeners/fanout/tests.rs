//! The fan-out thread: its life, and panics in it.

use std::fs;
use std::net::TcpStream;
use std::panic::resume_unwind;
use std::sync::atomic::Ordering;

use super::*;
use crate::listeners::testing::{
    BLOCK, LIVE, Ramp, every_block, listeners, read, read_rest, read_to_end, samples, stream, wait_for,
};

/// A history that nothing in these tests overruns.
const HISTORY: Duration = Duration::from_secs(60);

/// Ends like a panic. The panic hook is not called: another test counts what that logs.
fn fail() {
    resume_unwind(Box::new("a test"));
}

/// The number of threads of that name in this process.
fn threads(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux has it").flatten();
    tasks
        .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name))
        .count()
}

#[test]
fn one_thread_sends_to_all_listeners_and_ends_after_the_last() {
    let (all, mut ramp) = (listeners(every_block()), Ramp::new("one", HISTORY));
    ramp.publish(1);
    let mut clients: Vec<TcpStream> = (0..5)
        .map(|_| {
            let (stream, client) = stream(&all, &ramp, LIVE);
            stream.start(Vec::new()).unwrap_or_else(|_| panic!("no thread"));
            client
        })
        .collect();
    // A stream that joins is sent to with the next block.
    wait_for("all to have four blocks", || {
        ramp.publish(1);
        all.all().iter().all(|one| (5 * BLOCK..u64::MAX).contains(&one.position.load(Ordering::Relaxed)))
    });
    for client in &mut clients {
        assert_eq!(read(client, 4 * 160), samples(BLOCK..5 * BLOCK));
    }
    assert_eq!((all.fanouts.lock().len(), threads("fanout one")), (1, 1));
    drop(clients);
    wait_for("all to leave", || {
        ramp.publish(1);
        all.count() == 0
    });
    wait_for("the end of the thread", || threads("fanout one") == 0 && all.fanouts.lock().is_empty());
}

#[test]
fn a_closed_ring_ends_its_streams_and_its_thread_at_once() {
    let (all, mut ramp) = (listeners(every_block()), Ramp::new("closed", HISTORY));
    let (stream, mut client) = stream(&all, &ramp, LIVE);
    all.fanouts.join(stream.stream).unwrap_or_else(|_| panic!("no thread"));
    ramp.publish(2);
    assert_eq!(read(&mut client, 320), samples(0..2 * BLOCK));
    ramp.ring.close();
    assert_eq!(read_to_end(&mut client), b"");
    wait_for("the end of the thread", || threads("fanout closed") == 0);
    assert_eq!((all.count(), all.fanouts.lock().len()), (0, 0));
}

#[test]
fn a_panic_while_one_listener_is_sent_to_ends_that_listener_only() {
    let (all, mut ramp) = (listeners(every_block()), Ramp::new("panic", HISTORY));
    let (first, mut first_client) = stream(&all, &ramp, LIVE);
    let (second, mut second_client) = stream(&all, &ramp, LIVE);
    let (third, mut third_client) = stream(&all, &ramp, LIVE);
    ramp.publish(1);
    let (_sender, joining) = unbounded();
    let mut thread = FanoutThread::new(&all.fanouts, &first.stream, joining);
    thread.streams = [first, second, third].map(|one| one.stream).into();
    let failing = thread.streams[1].listener.id;
    thread.send_group(0, |stream, batch| {
        let keeps_up = stream.send_new(batch, 0);
        if stream.listener.id == failing {
            fail();
        }
        keeps_up
    });
    assert_eq!((thread.streams.len(), all.count()), (2, 2));
    assert_eq!(read_to_end(&mut second_client), samples(0..BLOCK), "its connection has ended");
    // The others get everything, in this round and in the next.
    ramp.publish(1);
    thread.send_due(0..2);
    for client in [&mut first_client, &mut third_client] {
        assert_eq!(read(client, 320), samples(0..2 * BLOCK));
    }
}

#[test]
fn after_a_panic_of_the_thread_the_next_listeners_get_another_one() {
    let (all, mut ramp) = (listeners(every_block()), Ramp::new("again", HISTORY));
    let (lost, mut lost_client) = stream(&all, &ramp, LIVE);
    all.fanouts.join_with(lost.stream, |_| fail()).unwrap_or_else(|_| panic!("no thread"));
    assert_eq!(read_to_end(&mut lost_client), b"", "it is disconnected, so that its player connects again");
    let (next, mut client) = stream(&all, &ramp, LIVE);
    all.fanouts.join(next.stream).unwrap_or_else(|_| panic!("no thread"));
    ramp.publish(2);
    assert_eq!(read(&mut client, 320), samples(0..2 * BLOCK));
    assert_eq!(all.count(), 1);
    ramp.ring.close();
}

#[test]
fn a_listener_that_accepts_no_more_leaves_and_the_others_are_sent_to() {
    let (all, mut ramp) = (listeners(every_block()), Ramp::new("slow", Duration::from_secs(10)));
    let (slow, mut slow_client) = stream(&all, &ramp, LIVE);
    let (other, mut client) = stream(&all, &ramp, LIVE);
    let (_sender, joining) = unbounded();
    let mut thread = FanoutThread::new(&all.fanouts, &slow.stream, joining);
    thread.streams = [slow, other].map(|one| one.stream).into();
    let mut blocks = 0;
    while thread.streams.len() == 2 {
        ramp.publish(8);
        thread.send_due(blocks..blocks + 8);
        assert_eq!(read(&mut client, 8 * 160), samples(blocks * BLOCK..(blocks + 8) * BLOCK));
        blocks += 8;
    }
    assert_eq!(thread.streams[0].listener.id, 2, "the one that reads stays");
    let slow = all.all().into_iter().find(|one| one.id == 1).expect("it has a thread of its own");
    slow.cut();
    let heard = read_rest(&mut slow_client);
    assert_eq!(heard, samples(0..blocks * BLOCK)[..heard.len()]);
    let sent = slow.sent.load(Ordering::Relaxed);
    assert!(sent * 2 <= heard.len() as u64, "{sent} frames counted as sent, {} bytes heard", heard.len());
}
