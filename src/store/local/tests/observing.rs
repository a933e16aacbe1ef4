//! What the store's answers do to a replica's counts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{
    HOUR, MINUTE, START, ask, at, check, counts, drain, fixed, minutely, replicas, show, store,
};
use crate::algorithm::tests::quota;
use crate::model::{Algorithm, Check, DeniedHits, Hits, OnStoreFailure, Source, Unit, Verdict};
use crate::store::local::{Fleet, LocalStore};

fn one_of_three() -> LocalStore {
    let store = store(100, 100);
    store.set_fleet(Fleet::new(3, [""; 0], "a"));
    store
}

#[test]
fn a_share_begins_with_its_part_of_what_the_store_counts() {
    for algorithm in Algorithm::ALL {
        let store = one_of_three();
        let hit = check("u", minutely(algorithm, 30), Hits::Charge(1));
        for (counted, own) in [(1, 1), (3, 1), (4, 2), (12, 4), (13, 5), (29, 10)] {
            show(&store, &hit, counted, START);
            assert_eq!(counts(&store, &hit, START).0, own, "{algorithm}");
        }
        assert_eq!(drain(&store, &hit, START), 0, "{algorithm}");
    }
}

#[test]
fn a_count_that_falls_is_followed() {
    for algorithm in Algorithm::ALL {
        let store = one_of_three();
        let hit = check("u", minutely(algorithm, 30), Hits::Charge(1));
        for (counted, left) in [(27, 1), (6, 8), (7, 7), (0, 10)] {
            show(&store, &hit, counted, START);
            assert_eq!(counts(&store, &hit, START).1, left, "{algorithm}");
        }
        assert_eq!(drain(&store, &hit, START), 10, "{algorithm}");
    }
}

#[test]
fn what_was_let_pass_here_is_never_lowered_while_it_counts() {
    for algorithm in Algorithm::ALL {
        let store = one_of_three();
        let hit = check("u", minutely(algorithm, 30), Hits::Charge(1));
        show(&store, &hit, 6, START);
        assert_eq!(drain(&store, &hit, START), 8, "{algorithm}");
        // Not told of it; told of it; and the other replicas had nothing.
        for counted in [6, 0, 14] {
            show(&store, &hit, counted, START + 1);
            assert_eq!(counts(&store, &hit, START).0, 10, "{algorithm}");
            drop(store.take(10, |_| at(START)));
        }
        // More by others is believed.
        show(&store, &hit, 90, START + 2);
        assert_eq!(counts(&store, &hit, START + 2).0, 30, "{algorithm}");
        // What was let pass here has faded, so the store knows better again.
        let later = START + 4 * MINUTE;
        show(&store, &hit, 9, later);
        assert_eq!(counts(&store, &hit, later).0, 3, "{algorithm}");
        show(&store, &hit, 3, later);
        assert_eq!(counts(&store, &hit, later).0, 1, "{algorithm}");
    }
}

#[test]
fn debts_made_here_are_never_lowered_before_the_last_has_faded() {
    let debts = |algorithm| quota(algorithm, 10, (1, Unit::Minute), DeniedHits::Debt);
    for (algorithm, wait, left) in [
        (Algorithm::TokenBucket, 200_000, 2),
        (Algorithm::SlidingLog, 80_000, 5),
        (Algorithm::SlidingWindow, 90_000, 5),
        (Algorithm::FixedWindow, 39_999, 35),
    ] {
        let store = store(100, 100);
        let start = START / MINUTE * MINUTE + 20_000;
        let cost = |hits| check("u", debts(algorithm), Hits::Charge(hits));
        assert!(!ask(&store, &cost(30), start).over);
        // The answer to the second says only when something passes again.
        let between = match algorithm {
            Algorithm::TokenBucket | Algorithm::FixedWindow => 0,
            Algorithm::SlidingLog | Algorithm::SlidingWindow => 30_000,
        };
        assert!(ask(&store, &cost(5), start + between).over);
        show(&store, &cost(1), 0, start + wait);
        assert_eq!(
            counts(&store, &cost(1), start + wait).0,
            left,
            "{algorithm}"
        );
    }
}

#[test]
fn a_clock_that_steps_back_lets_no_answer_lower_what_was_let_pass() {
    let store = store(100, 100);
    let hit = check("u", fixed(30), Hits::Charge(5));
    let edge = START / MINUTE * MINUTE + MINUTE;
    show(&store, &hit, 1, edge);
    // Counted in the window that has begun already.
    assert_eq!(ask(&store, &hit, edge - 50_000).counted, 6);
    show(&store, &hit, 1, edge + 50_000);
    assert_eq!(counts(&store, &hit, edge + 50_000).0, 6);
}

#[test]
fn answers_that_come_while_queries_are_decided_take_nothing_from_their_counts() {
    for algorithm in Algorithm::ALL {
        let users: Vec<Check> = (0..5_000)
            .map(|user| check(&user.to_string(), minutely(algorithm, 9), Hits::Charge(1)))
            .collect();
        let (store, current) = (store(20_000, 10), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                for (index, hit) in users.iter().enumerate() {
                    current.store(index, Ordering::Release);
                    assert!(!ask(&store, hit, START).over);
                }
                current.store(users.len(), Ordering::Release);
            });
            while let Some(hit) = users.get(current.load(Ordering::Acquire)) {
                show(&store, hit, 0, START);
            }
        });
        for hit in &users {
            assert_eq!(counts(&store, hit, START), (1, 8), "{algorithm}");
        }
    }
}

#[test]
fn counts_that_the_store_saw_fade_fade_here() {
    for algorithm in Algorithm::ALL {
        let store = one_of_three();
        let hit = check("u", minutely(algorithm, 30), Hits::Charge(1));
        for second in 0..30 {
            show(&store, &hit, second + 1, START + second * 1_000);
        }
        // A sliding window counts a hit for a tenth longer.
        let later = START + 15_000 + MINUTE * 11 / 10;
        let (counted, _) = counts(&store, &hit, later);
        assert!(counted <= 5, "{algorithm}: {counted}");
        assert_eq!(counts(&store, &hit, START + 2 * MINUTE), (0, 10));
    }
}

#[test]
fn an_answer_from_a_window_that_is_over_does_not_reach_the_next() {
    let store = one_of_three();
    let hit = check("u", fixed(30), Hits::Charge(1));
    let edge = START / MINUTE * MINUTE + MINUTE;
    show(&store, &hit, 3, edge);
    show(&store, &hit, 30, edge - 1);
    assert_eq!(counts(&store, &hit, edge).0, 1);
    show(&store, &hit, 0, edge - 1);
    assert_eq!(counts(&store, &hit, edge).0, 1);
    let other = check("v", fixed(30), Hits::Charge(1));
    show(&store, &other, 30, edge - 1);
    assert_eq!(counts(&store, &other, edge), (0, 10));
}

#[test]
fn only_what_may_be_decided_here_is_noted() {
    let store = one_of_three();
    let asked = |way| Check {
        on_store_failure: way,
        ..check("u", fixed(30), Hits::Charge(1))
    };
    for way in [
        OnStoreFailure::Allow,
        OnStoreFailure::Deny,
        OnStoreFailure::Error,
    ] {
        show(&store, &asked(way), 9, START);
    }
    for source in [Source::Unreadable, Source::Fallback, Source::Overflow] {
        let local = asked(OnStoreFailure::Local);
        let verdict = ask(&store, &local, START);
        store.give_back(std::slice::from_ref(&local), at(START), at(START));
        let told = Verdict {
            source,
            counted: 9,
            ..verdict
        };
        store.observe(&[local], &[told]);
    }
    assert_eq!(store.stats().memory.live_keys, 0);
    show(&store, &asked(OnStoreFailure::Local), 9, START);
    assert_eq!(store.stats().memory.live_keys, 1);
}

#[test]
fn a_key_that_is_not_counted_takes_no_room() {
    for algorithm in Algorithm::ALL {
        let store = one_of_three();
        let hit = check("u", minutely(algorithm, 30), Hits::Charge(1));
        show(&store, &hit, 0, START);
        assert_eq!(store.stats().memory.live_keys, 0, "{algorithm}");
        // Without a share nothing passes, whatever is counted; and it would never expire.
        let closed = check("u", minutely(algorithm, 2), Hits::Charge(1));
        show(&store, &closed, 2, START);
        assert_eq!(store.stats().memory.live_keys, 0, "{algorithm}");
    }
}

#[test]
fn a_full_table_drops_what_it_is_shown() {
    let store = store(1, 10);
    store.set_fleet(Fleet::new(3, [""; 0], "a"));
    let [ann, bob] = ["ann", "bob"].map(|user| check(user, fixed(30), Hits::Charge(1)));
    show(&store, &ann, 3, START);
    show(&store, &bob, 30, START);
    assert_eq!(store.stats().memory.live_keys, 1);
    assert_eq!(counts(&store, &ann, START).0, 1);
    // Bob shares a counter now, to which nothing was shown.
    let verdict = ask(&store, &bob, START);
    assert_eq!((verdict.counted, verdict.source), (1, Source::Overflow));
    show(&store, &bob, 30, START);
    assert_eq!(counts(&store, &bob, START).0, 1);
    // Room again, but what bob was charged stands in the shared counter.
    show(&store, &ann, 0, START);
    store.sweep_next(at(START));
    show(&store, &bob, 3, START);
    assert_eq!(store.stats().memory.live_keys, 0);
    assert_eq!(ask(&store, &bob, START).counted, 2);
}

#[test]
fn a_hot_key_is_noted_without_growing() {
    for algorithm in Algorithm::ALL {
        let store = &replicas(3, true)[0];
        let hit = check("u", minutely(algorithm, 10_000), Hits::Charge(1));
        for millis in 0..30_000 {
            show(store, &hit, millis % 10_000, START + millis);
        }
        let stats = store.stats().memory;
        assert_eq!(stats.live_keys, 1);
        assert!(stats.log_members <= 8_192, "{algorithm}");
        let swept = START + HOUR;
        (0..store.shards()).for_each(|_| store.sweep_next(at(swept)));
        let stats = store.stats().memory;
        assert_eq!((stats.live_keys, stats.log_members), (0, 0), "{algorithm}");
    }
}
