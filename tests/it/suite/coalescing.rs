//! What is asked at once goes together, and nothing waits for company.

use futures_util::future::join_all;
use tokio::runtime::Runtime;
use tollgate::model::{Algorithm, Unit};

use super::bed::{Bed, Kind};
use super::checks::{charge, long};

pub(super) fn queries_at_once_share_calls(runtime: &Runtime, bed: &Bed) {
    if bed.kind == Kind::Memory {
        return;
    }
    runtime.block_on(async {
        let client = bed.client("together", 1).await;
        // All in one slot.
        let check = charge("ann", long(Algorithm::TokenBucket, 400, Unit::Day));
        let query = std::slice::from_ref(&check);
        let before = bed.script_calls().await;
        client.decide(0, query, true).await;
        assert_eq!(bed.script_calls().await - before, 1);

        let before = bed.script_calls().await;
        let decisions = join_all((0..500).map(|_| client.decide(0, query, true))).await;
        let denied = decisions.iter().filter(|decision| decision.denied).count();
        assert_eq!(denied, 101);
        let calls = bed.script_calls().await - before;
        // Four full ones, and those that left before there was one.
        assert!((4..=25).contains(&calls), "500 queries in {calls} calls");
    });
}
