//! Many threads at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::{ask, check, fixed, hourly, store};
use crate::algorithm::tests::at;
use crate::model::{Algorithm, Hits};

#[test]
fn threads_on_one_key_never_pass_its_limit() {
    for algorithm in Algorithm::ALL {
        let (store, admitted) = (store(100_000), AtomicU64::new(0));
        let hit = check("hot", hourly(algorithm, 1_000), Hits::Charge(1));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let over = ask(&store, &hit, 7).over;
                        admitted.fetch_add(u64::from(!over), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), 1_000, "{algorithm}");
    }
}

#[test]
fn threads_on_several_keys_charge_all_of_them_or_none() {
    let store = store(100_000);
    let limits = [("a", 700), ("b", 500), ("c", 900)];
    let hit = |index: usize| {
        let (user, limit) = limits[index % 3];
        check(user, fixed(limit), Hits::Charge(1))
    };
    // Each thread meets the keys in another order.
    let admitted: Vec<[u64; 3]> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || {
                    let mut charged = [0; 3];
                    for turn in 0..1_000 {
                        let keys: Vec<usize> = match (thread + turn) % 4 {
                            0 => vec![0, 1],
                            1 => vec![2, 1, 0],
                            2 => vec![1, 2],
                            _ => vec![2],
                        };
                        let checks: Vec<_> = keys.iter().map(|&key| hit(key)).collect();
                        let decision = store.decide(&checks, true, at(7));
                        let over = decision.verdicts.iter().any(|verdict| verdict.over);
                        assert_eq!(decision.denied, over);
                        if !over {
                            keys.iter().for_each(|&key| charged[key] += 1);
                        }
                    }
                    charged
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for (index, (_, limit)) in limits.iter().enumerate() {
        let charged: u64 = admitted.iter().map(|charged| charged[index]).sum();
        let counted = store.inspect(&hit(index), at(7)).counted;
        assert!(charged <= u64::from(*limit));
        // The limit leaves no room for the inspection's own hit, or it is counted in.
        let own = u64::from(charged < u64::from(*limit));
        assert_eq!(counted, charged + own);
    }
}
