//! Calls as Envoys make them, of every kind that is counted apart: allowed, denied, near a limit,
//! shadowed, peeked, refunded, unlimited, matched by no rule.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::google::protobuf::UInt64Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::harness::{Client, descriptor, request};

/// Calls under way, until dropped.
#[derive(Debug)]
pub(super) struct Load {
    rate: Arc<AtomicU32>,
    _callers: JoinSet<()>,
}

impl Load {
    /// Calls each address `rate` times a second, whatever became of the calls before.
    pub(super) async fn start(addresses: Vec<SocketAddr>, rate: u32) -> Self {
        let rate = Arc::new(AtomicU32::new(rate));
        let mut callers = JoinSet::new();
        for address in addresses {
            let client = Client::connect(&address.to_string()).await;
            callers.spawn(call(client, Arc::clone(&rate)));
        }
        Self {
            rate,
            _callers: callers,
        }
    }

    /// From now on so many calls a second.
    pub(super) fn set(&self, rate: u32) {
        self.rate.store(rate, Ordering::Relaxed);
    }
}

async fn call(client: Client, rate: Arc<AtomicU32>) {
    let mut calls = JoinSet::new();
    let mut due = Instant::now();
    for number in 0_u32.. {
        due += Duration::from_secs(1) / rate.load(Ordering::Relaxed).max(1);
        sleep_until(due).await;
        let mut client = client.clone();
        // Some callers have no patience, and some calls are refused; Tollgate counts both.
        let patience = if number % 16 == 3 { IMPATIENT } else { PATIENT };
        calls.spawn(async move {
            let call = client.0.should_rate_limit(asked(number));
            timeout(patience, call).await.is_ok()
        });
        while calls.try_join_next().is_some() {}
    }
}

/// The request with this number. Some callers ask far more often than others.
fn asked(number: u32) -> RateLimitRequest {
    let of = |key: &str, many: u32| {
        let skewed = (number / 16 * 7) % many * (number / 16 % 3) / 2;
        descriptor(&[(key, &skewed.to_string())])
    };
    let hits = |mut it: RateLimitDescriptor, hits: u64| {
        it.hits_addend = Some(UInt64Value { value: hits });
        it
    };
    match number % 16 {
        0..4 => request("shop", &[of("user_id", 20)]),
        4..6 => request("shop", &[of("user_id", 60), of("remote_address", 5)]),
        6 => request("shop", &[of("cart", 2)]),
        7 => request("shop", &[descriptor(&[("plan", "gold")])]),
        8 => request("shop", &[descriptor(&[("colour", "red")])]),
        9..12 => request("api", &[of("api_key", 4)]),
        12 => request("api", &[of("tenant", 3)]),
        13 => request("api", &[hits(of("api_key", 4), 0)]),
        14 => {
            let mut refund = hits(of("tenant", 3), 1);
            refund.is_negative_hits = true;
            request("api", &[refund])
        }
        _ => request("checkout", &[of("card", 2)]),
    }
}

/// Less than a call waits for a Redis that is frozen.
const IMPATIENT: Duration = Duration::from_millis(4);
const PATIENT: Duration = Duration::from_secs(1);
