//! Tables over the pure limits: time is a parameter.

use std::net::IpAddr;

use super::*;

const RATE: Rate = Rate { per_second: 20.0, burst: 100.0 };

fn key(last: u8) -> ClientKey {
    ClientKey::Address(IpAddr::from([192, 168, 1, last]))
}

fn places(total: usize, per_client: usize) -> Places {
    Places { total, per_client, rate: None }
}

/// Lets connections in, each idle since its number in milliseconds.
fn fill(shares: &mut Shares, start: Instant, ids: impl IntoIterator<Item = (u8, u64)>) {
    for (client, id) in ids {
        shares.add(key(client), start);
        shares.set_idle(key(client), start + Duration::from_millis(id), id);
    }
}

#[test]
fn a_client_at_its_own_limit_loses_its_own_oldest_idle_connection() {
    let start = Instant::now();
    let mut shares = Shares::default();
    fill(&mut shares, start, [(1, 10), (2, 11), (1, 12), (2, 13)]);
    assert_eq!(shares.admit(key(1), &places(100, 2), start), Admission::Admit { evict: Some(10) });
    assert_eq!(shares.admit(key(1), &places(100, 3), start), Admission::Admit { evict: None });
    shares.clear_idle(key(1), start + Duration::from_millis(10), 10);
    assert_eq!(shares.admit(key(1), &places(100, 2), start), Admission::Admit { evict: Some(12) });
    shares.clear_idle(key(1), start + Duration::from_millis(12), 12);
    assert_eq!(shares.admit(key(1), &places(100, 2), start), Admission::ClientFull);
    assert_eq!(shares.admit(key(3), &places(100, 2), start), Admission::Admit { evict: None });
}

#[test]
fn when_all_places_are_taken_the_client_with_the_most_loses_one() {
    let start = Instant::now();
    let mut shares = Shares::default();
    // Client 1 has the oldest one, client 2 has the most.
    fill(&mut shares, start, [(1, 1), (2, 2), (2, 3), (2, 4), (3, 5), (3, 6)]);
    let full = places(6, usize::MAX);
    assert_eq!(shares.admit(key(9), &full, start), Admission::Admit { evict: Some(2) });
    assert_eq!(shares.admit(key(1), &full, start), Admission::Admit { evict: Some(2) });
    // Its own share would be the largest.
    assert_eq!(shares.admit(key(2), &full, start), Admission::Admit { evict: Some(2) });
    // Client 2 listens three times. Client 3 is next.
    for id in 2..=4 {
        shares.clear_idle(key(2), start + Duration::from_millis(id), id);
    }
    assert_eq!(shares.admit(key(9), &full, start), Admission::Admit { evict: Some(5) });
    // Client 2 may not take from those who have less.
    assert_eq!(shares.admit(key(2), &full, start), Admission::Full);
}

#[test]
fn a_newcomer_gets_the_idle_connection_of_a_client_with_as_few() {
    let start = Instant::now();
    let mut shares = Shares::default();
    fill(&mut shares, start, [(1, 1), (2, 2)]);
    // Among clients of the same size any may lose one.
    let admission = shares.admit(key(9), &places(2, 9), start);
    assert!(matches!(admission, Admission::Admit { evict: Some(1 | 2) }), "{admission:?}");
}

#[test]
fn queued_requests_of_the_largest_client_make_room_if_nothing_is_idle() {
    let start = Instant::now();
    let mut shares = Shares::default();
    for id in 1..=3 {
        shares.add(key(1), start);
        shares.enqueue(key(1), id, 0.0);
    }
    shares.add(key(2), start);
    shares.enqueue(key(2), 4, 0.0);
    let full = places(4, 100);
    assert_eq!(
        shares.admit(key(9), &full, start),
        Admission::Admit { evict: Some(3) },
        "the last one of the largest"
    );
    // All have one queued request: nobody loses an answer for a client with the same share.
    let mut shares = Shares::default();
    for client in 1..=4 {
        shares.add(key(client), start);
        shares.enqueue(key(client), client.into(), 0.0);
    }
    assert_eq!(shares.admit(key(9), &full, start), Admission::Full);
    assert_eq!(shares.admit(key(1), &full, start), Admission::Admit { evict: Some(1) }, "but its own");
}

#[test]
fn clients_take_turns() {
    let start = Instant::now();
    let mut shares = Shares::default();
    for (client, ids) in [(1, 1..=5), (2, 11..=12), (3, 21..=21)] {
        shares.add(key(client), start);
        ids.for_each(|id| shares.enqueue(key(client), id, 0.0));
    }
    assert_eq!(shares.queued(), 8);
    shares.dequeue(key(1), 4);
    let order: Vec<u64> = std::iter::from_fn(|| shares.next_request(RATE, start)).collect();
    assert_eq!(order, [1, 11, 21, 2, 12, 3, 5]);
    assert_eq!(shares.queued(), 0);
    shares.enqueue(key(2), 13, 0.0);
    assert_eq!(shares.next_request(RATE, start), Some(13), "a client that comes back has turns again");
}

#[test]
fn a_newcomer_does_not_wait_for_all_who_have_many_connections() {
    let start = Instant::now();
    let mut shares = Shares::default();
    for client in 1..=60 {
        (0..3).for_each(|_| shares.add(key(client), start));
        (0..3).for_each(|connection| shares.enqueue(key(client), u64::from(client) * 100 + connection, 0.0));
    }
    shares.add(key(99), start);
    shares.enqueue(key(99), 9900, 0.0);
    let first: Vec<Option<u64>> = (0..2).map(|_| shares.next_request(RATE, start)).collect();
    assert!(first.contains(&Some(9900)), "{first:?}");
    // Nor do those with many wait for all newcomers.
    for client in 100..=200 {
        shares.add(key(client), start);
        shares.enqueue(key(client), u64::from(client) * 100, 0.0);
    }
    let next: Vec<u64> = (0..120).filter_map(|_| shares.next_request(RATE, start)).collect();
    assert_eq!(next.iter().filter(|id| **id < 9900).count(), 60, "{next:?}");
}

#[test]
fn a_household_behind_one_address_notices_nothing() {
    // Six people open the page at the same moment: six connections and 13 requests each.
    let start = Instant::now();
    let mut shares = Shares::default();
    let limited = Places { total: 1200, per_client: 120, rate: Some(RATE) };
    let mut id = 0;
    for _ in 0..6 {
        for request in 0..13 {
            id += 1;
            if request < 6 {
                assert_eq!(shares.admit(key(1), &limited, start), Admission::Admit { evict: None });
                shares.add(key(1), start);
            } else {
                shares.enqueue(key(1), id, REQUEST_COST);
                assert_eq!(shares.next_request(RATE, start), Some(id), "at once");
            }
        }
    }
}

#[test]
fn an_empty_bucket_resets_connections_and_delays_requests() {
    let start = Instant::now();
    let mut shares = Shares::default();
    let limited = Places { total: 1200, per_client: 1000, rate: Some(RATE) };
    for _ in 0..100 {
        assert_eq!(shares.admit(key(1), &limited, start), Admission::Admit { evict: None });
        shares.add(key(1), start);
    }
    assert_eq!(shares.admit(key(1), &limited, start), Admission::TooOften);
    assert_eq!(
        shares.admit(key(2), &limited, start),
        Admission::Admit { evict: None },
        "others are not meant"
    );
    shares.add(key(2), start);
    for id in 1..=3 {
        shares.enqueue(key(1), id, REQUEST_COST);
    }
    shares.enqueue(key(2), 4, REQUEST_COST);
    assert_eq!(shares.next_request(RATE, start), Some(4));
    assert_eq!(shares.next_request(RATE, start), None);
    // Twenty per second: one each 50 ms.
    let mut now = start;
    for id in 1..=3 {
        let next = shares.next_token().expect("a throttled client");
        assert!((49..=51).contains(&(next - now).as_millis()), "{:?}", next - now);
        now = next + Duration::from_millis(1);
        shares.resume(now);
        assert_eq!(shares.next_request(RATE, now), Some(id));
        assert_eq!(shares.next_request(RATE, now), None);
    }
    assert!(shares.next_token().is_none());
}

#[test]
fn an_empty_bucket_is_remembered_after_the_last_connection() {
    let start = Instant::now();
    let mut shares = Shares::default();
    let limited = Places { total: 1200, per_client: 120, rate: Some(RATE) };
    let admitted = (0..300u64).filter(|n| {
        // One after the other, 1 ms each.
        let now = start + Duration::from_millis(*n);
        let is_in = matches!(shares.admit(key(1), &limited, now), Admission::Admit { .. });
        if is_in {
            shares.add(key(1), now);
            shares.remove(key(1), RATE, now);
        }
        is_in
    });
    // 100 at once, and 20 per second of the 300 ms.
    assert!((104..=107).contains(&admitted.count()));
    let later = start + Duration::from_secs(6);
    assert_eq!(shares.admit(key(1), &limited, later), Admission::Admit { evict: None });
    shares.add(key(1), later);
    shares.remove(key(1), RATE, later + Duration::from_secs(1));
    assert_eq!(shares.shares.len(), 0, "a full bucket is forgotten");
}

#[test]
fn a_refusal_costs_ten_and_the_debt_is_bounded() {
    let start = Instant::now();
    let mut shares = Shares::default();
    let limited = Places { total: 1200, per_client: 120, rate: Some(RATE) };
    for _ in 0..50 {
        shares.charge_refusal(key(1), RATE, start);
    }
    let is_in = |shares: &mut Shares, millis| {
        shares.admit(key(1), &limited, start + Duration::from_millis(millis)) != Admission::TooOften
    };
    assert!(!is_in(&mut shares, 500), "ten of debt are half a second");
    assert!(is_in(&mut shares, 600));
}

#[test]
fn strangers_of_many_networks_do_not_fill_the_memory() {
    let start = Instant::now();
    let mut shares = Shares::default();
    let limited = Places { total: 1200, per_client: 120, rate: Some(RATE) };
    // 10,000 connections per second, each of another client that is refused.
    for n in 0..100_000u32 {
        let now = start + Duration::from_micros(u64::from(n) * 100);
        let client = ClientKey::Address(IpAddr::from(n.to_be_bytes()));
        let _ = shares.admit(client, &limited, now);
    }
    assert!(shares.shares.len() <= 2 * REMEMBERED, "{}", shares.shares.len());
}

#[test]
fn the_oldest_idle_connection_of_the_largest_client_gives_its_descriptor() {
    let start = Instant::now();
    let mut shares = Shares::default();
    assert_eq!(shares.oldest_idle(), None);
    fill(&mut shares, start, [(1, 1), (2, 3), (2, 2)]);
    assert_eq!(shares.oldest_idle(), Some(2));
    shares.remove(key(2), RATE, start);
    shares.clear_idle(key(2), start + Duration::from_millis(2), 2);
    shares.clear_idle(key(2), start + Duration::from_millis(3), 3);
    assert_eq!(shares.oldest_idle(), Some(1));
    assert_eq!(shares.total(), 2);
}
