//! The assertions about time that `scripts/test` may retry.

use std::panic;
use std::time::Duration;

use crate::support::stopwatch::{Span, Stopwatch, TimeBoundMissed, assert_span_within, assert_within};

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[test]
fn time_that_the_host_took_is_not_counted() {
    assert_span_within(Span { clock: ms(1000), stolen: ms(0) }, ms(1000), "a wait");
    assert_span_within(Span { clock: ms(1500), stolen: ms(500) }, ms(1000), "a wait");
    assert_within(&Stopwatch::start(), ms(60_000), "nothing");
}

#[test]
fn a_missed_bound_is_a_typed_panic_with_one_line_for_scripts_test() {
    let took = Span { clock: Duration::from_micros(1_500_300), stolen: ms(200) };
    let panicked = panic::catch_unwind(|| assert_span_within(took, ms(1000), "the first sound"));
    let payload = panicked.expect_err("the bound was missed");
    let missed = payload.downcast_ref::<TimeBoundMissed>().expect("a typed payload");
    assert_eq!((missed.limit, missed.took), (ms(1000), took));
    assert_eq!(missed.missed_by(), Duration::from_micros(300_300));
    assert_eq!(
        missed.to_string(),
        "time bound missed: stopwatch::a_missed_bound_is_a_typed_panic_with_one_line_for_scripts_test \
         missed_ms=301 stolen_ms=200 the first sound: 1500 ms by the clock, 1300 ms without stolen time, at most \
         1000 ms"
    );
}
