//! Keys that are reset by hand.

use super::{HOUR, ask, check, fixed, hourly, store};
use crate::algorithm::tests::at;
use crate::model::{Algorithm, Check, Hits, Source};

#[test]
fn a_forgotten_key_is_as_good_as_new() {
    for algorithm in Algorithm::ALL {
        let store = store(100);
        let charge = |user| check(user, hourly(algorithm, 5), Hits::Charge(5));
        for user in ["a", "b"] {
            assert!(!ask(&store, &charge(user), 10).over);
            assert!(ask(&store, &charge(user), 10).over);
        }
        assert!(store.forget(&charge("a"), at(20)));
        let stats = store.stats();
        assert_eq!(stats.live_keys, 1, "{algorithm}");
        let peek = Check {
            hits: Hits::Peek,
            ..charge("a")
        };
        let now = store.inspect(&peek, at(20));
        assert_eq!((now.counted, now.remaining), (0, 5), "{algorithm}");
        assert!(!ask(&store, &charge("a"), 20).over, "{algorithm}");
        assert!(ask(&store, &charge("b"), 20).over, "{algorithm}");
    }
}

#[test]
fn what_was_never_counted_can_be_forgotten_too() {
    let store = store(1);
    let key = |user| check(user, fixed(5), Hits::Charge(1));
    assert!(store.forget(&key("a"), at(0)));
    assert!(!ask(&store, &key("a"), 0).over);
    // The table is full, but no shared counter holds anything of this key.
    assert!(store.forget(&key("b"), at(0)));
    assert_eq!(store.stats().live_keys, 1);
}

#[test]
fn the_memory_of_a_forgotten_log_is_free_again() {
    let store = store(100);
    let charge = check("a", hourly(Algorithm::SlidingLog, 50), Hits::Charge(1));
    for time in 0..20 {
        assert!(!ask(&store, &charge, time).over);
    }
    assert!(store.stats().log_members >= 20);
    assert!(store.forget(&charge, at(20)));
    assert_eq!(store.stats().log_members, 0);
}

#[test]
fn a_key_in_a_shared_counter_is_not_forgotten() {
    for algorithm in Algorithm::ALL {
        let store = store(1);
        let first = check("first", fixed(5), Hits::Charge(1));
        let second = check("second", hourly(algorithm, 5), Hits::Charge(2));
        assert!(!ask(&store, &first, 0).over);
        let shared = ask(&store, &second, 0);
        assert_eq!((shared.counted, shared.source), (2, Source::Overflow));
        assert!(!store.forget(&second, at(0)), "{algorithm}");
        assert_eq!(ask(&store, &second, 0).counted, 4, "{algorithm}");
    }
}

/// Dropping its own entry would not help: it would take along what the shared counter holds.
#[test]
fn a_key_that_took_a_shared_count_along_is_not_forgotten_before_that_has_expired() {
    let store = store(1);
    let first = |hits| check("first", fixed(5), hits);
    let second = check("second", fixed(9), Hits::Charge(2));
    assert!(!ask(&store, &first(Hits::Charge(1)), 0).over);
    assert_eq!(ask(&store, &second, 0).source, Source::Overflow);
    assert!(!ask(&store, &first(Hits::Refund(1)), 1).over);
    assert_eq!(store.stats().live_keys, 0);
    let own = ask(&store, &second, 2);
    assert_eq!((own.counted, own.source), (4, Source::Memory));
    assert!(!store.forget(&second, at(3)));
    assert_eq!(ask(&store, &second, 3).counted, 6, "nothing was dropped");
    assert!(!ask(&store, &second, HOUR).over);
    assert!(store.forget(&second, at(HOUR)));
    assert_eq!(ask(&store, &second, HOUR).counted, 2);
}
