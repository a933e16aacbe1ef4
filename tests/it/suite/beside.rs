//! What a store does beside deciding.

use tokio::runtime::Runtime;
use tollgate::model::{Algorithm, Hits, Unit};

use super::bed::Bed;
use super::checks::{check, long};
use super::client::Client;
use crate::process::until_async;

/// A counter that is dropped by hand begins afresh.
pub(super) fn a_counter_is_dropped(runtime: &Runtime, bed: &Bed) {
    runtime.block_on(async {
        let client = bed.client("dropped", 1).await;
        for algorithm in Algorithm::ALL {
            let full = check("ann", long(algorithm, 5, Unit::Day), Hits::Charge(5));
            for _ in 0..2 {
                let query = [full.clone()];
                assert!(!client.decide(0, &query, true).await.denied, "{algorithm}");
                assert!(client.decide(0, &query, true).await.denied, "{algorithm}");
                client.forget(&full).await;
                assert_eq!(client.counted(&full).await, 0, "{algorithm}");
            }
        }
    });
}

/// Replicas leave a sign of life in the store, under a key that expires.
pub(super) fn a_replica_is_seen_while_it_lives(runtime: &Runtime, bed: &Bed) {
    runtime.block_on(async {
        let (one, other) = (bed.client("alive", 1).await, bed.client("alive", 1).await);
        let Some(_keeper) = one.keep() else {
            return;
        };
        let keeper = other.keep();
        let replicas = async |expected: u32| {
            let fleet = |client: &Client| client.lanes[0].shared().local().fleet().replicas();
            until_async("the replicas to know of each other", async || {
                (fleet(&one) == expected).then_some(())
            })
            .await;
        };
        replicas(2).await;
        let keys = bed.keys(&one.prefix).await;
        let key = format!("{}:main:state", one.prefix);
        assert!(keys.contains(key.as_bytes()), "{keys:?}");
        bed.is_left_clean().await;
        // Who is heard of no more is believed in for a while: that is the roster's to test.
        drop(keeper);
    });
}
