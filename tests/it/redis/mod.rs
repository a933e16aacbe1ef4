//! The script that decides in Redis, run by real servers.
//!
//! Everything runs on each server that is supported: Redis 7 (Debian's package `redis-server`),
//! Redis 6.2 and Valkey 9 (`scripts/get-redis` fetches them once). Each test has a server of its
//! own, on a unix socket in a folder of its own, without persistence, ended by pid. Where a server
//! cannot be had these tests fail and say how to get it.
//!
//! Time is simulated: the script is told when it is. `parity.rs` says how keys then expire.

mod afterwards;
mod behaviour;
mod cluster_node;
mod connect;
mod failures;
mod fleet;
mod full;
mod heartbeat;
mod node;
mod parity;
mod sentinel;
mod server;
mod tls;

use std::num::NonZeroU32;

use tollgate::clock::Timestamp;
use tollgate::model::{
    Algorithm, Check, DeniedHits, Hits, KeyBuilder, OnStoreFailure, Quota, Role, RuleId, SATURATED,
    Unit, Window,
};
use tollgate::store::{MemoryConfig, MemoryStore};

use self::server::Redis;
use crate::topology::Flavour;

/// One test for each behaviour and server.
macro_rules! on_each_server {
    ($($module:ident::$name:ident,)*) => {
        on_each_server!(redis_7, Flavour::Redis7, $($module::$name,)*);
        on_each_server!(redis_6, Flavour::Redis62, $($module::$name,)*);
        on_each_server!(valkey, Flavour::Valkey, $($module::$name,)*);
    };
    ($server:ident, $flavour:expr, $($module:ident::$name:ident,)*) => {
        mod $server {
            use super::*;

            $(
                #[test]
                fn $name() {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    let redis = runtime.block_on(Redis::start($flavour));
                    $module::$name(&runtime, &redis);
                    runtime.block_on(redis.every_key_expires());
                }
            )*
        }
    };
}

on_each_server! {
    afterwards::a_charge_given_back_leaves_no_key,
    afterwards::a_log_rewrites_a_bounded_part_of_itself,
    afterwards::what_a_denied_query_charges_anyway_is_not_given_back,
    afterwards::what_others_charged_since_stays,
    afterwards::what_was_let_pass_elsewhere_lands_above_the_limit,
    afterwards::what_was_let_pass_in_a_window_that_is_over_is_dropped,
    behaviour::a_key_holds_little,
    behaviour::a_log_counts_at_an_earlier_time_what_it_counted_then,
    behaviour::a_log_is_found_however_long,
    behaviour::a_log_of_debts_stays_bounded,
    behaviour::a_server_that_lost_the_script_says_so,
    behaviour::a_state_of_a_newer_version_is_never_charged,
    behaviour::a_stranger_without_expiry_is_given_one,
    behaviour::a_thousand_queries_in_one_call_are_decided_one_by_one,
    behaviour::checks_of_one_bucket_at_two_limits_report_a_wait,
    behaviour::huge_charges_are_counted_apart,
    behaviour::keys_live_as_long_as_their_state,
    behaviour::the_servers_clock_decides,
    behaviour::what_was_given_back_leaves_no_key,
    fleet::a_history_keeps_the_newest,
    fleet::counts_add_up_and_what_is_none_begins_anew,
    fleet::the_list_of_domains_is_bounded_and_forgets,
    fleet::what_is_of_another_type_is_left_alone,
    full::a_server_that_replicates_scripts_refuses_the_whole_call,
    full::a_call_lands_whole_or_not_at_all,
    heartbeat::a_field_that_cannot_be_read_is_dropped,
    heartbeat::a_key_of_another_type_is_an_error,
    heartbeat::a_list_is_bounded,
    heartbeat::a_replica_that_leaves_is_gone_at_once,
    heartbeat::a_replica_that_stops_coming_is_dropped,
    heartbeat::the_list_expires_with_its_last_replica,
    heartbeat::without_a_time_the_servers_clock_decides,
    parity::buckets_are_decided_as_in_memory,
    parity::logs_are_decided_as_in_memory,
    parity::the_script_decides_as_memory_does,
}

fn quota(
    algorithm: Algorithm,
    limit: u32,
    (multiplier, unit): (u32, Unit),
    denied_hits: DeniedHits,
) -> Quota {
    let window = Window::try_new(unit, multiplier).unwrap();
    Quota::try_new(limit, window, algorithm, denied_hits).unwrap()
}

pub(crate) fn hourly(algorithm: Algorithm, limit: u32) -> Quota {
    quota(algorithm, limit, (1, Unit::Hour), DeniedHits::Free)
}

pub(crate) fn check(user: &str, quota: Quota, hits: Hits) -> Check {
    let mut key = KeyBuilder::new(b"shop");
    key.entry((b"user", false), (user.as_bytes(), false));
    Check {
        key: key.finish(&quota),
        rule: RuleId::default(),
        quota,
        hits,
        role: Role::default(),
        on_store_failure: OnStoreFailure::Local,
    }
}

/// A memory store of one shard.
fn memory() -> MemoryStore {
    MemoryStore::new(MemoryConfig {
        max_keys: NonZeroU32::new(4_000).unwrap(),
    })
}

/// When a memory store of one shard decides if the clock reads this: it does not go back by a few
/// seconds behind what it has forgotten, since two of its threads may read the clock and be
/// overtaken. A server reads its own.
fn memory_time(memory: &MemoryStore, clock: u64) -> Timestamp {
    let nobody = check("nobody", hourly(Algorithm::FixedWindow, 1), Hits::Peek);
    memory.decide(&[nobody], true, at(clock)).verdicts[0].at
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// 2026-11-24 08:30:00 UTC: no window of an hour or less ends near it.
const START: u64 = 1_795_509_000_000;

const HOUR: u64 = Unit::Hour.millis();
