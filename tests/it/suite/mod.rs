//! One suite for every store: what each promises, it promises wherever the counts lie.
//!
//! It asks [`Store`](tollgate::store::Store) and [`Lane`](tollgate::store::Lane)s in this process,
//! as the service does; behind them are real servers in every arrangement ([`bed`]). Where
//! starting one takes its time, one test runs all behaviours one after another, each under a key
//! prefix of its own; elsewhere each behaviour has a server of its own. After each one no key may
//! live for ever, and a user with few rights must not have been refused anything.
//!
//! What only some stores can do is beside it: `placement` (several servers or slots), `failover`,
//! `coalescing`.

mod bed;
mod beside;
mod checks;
mod client;
mod coalescing;
mod failover;
mod hostile;
mod placement;
mod random;
mod together;

use tokio::runtime::Runtime;

use self::bed::{Bed, Kind};

/// A test for each store and behaviour; for those that start slowly, one that runs them all.
macro_rules! on_each_store {
    ($($module:ident::$name:ident,)*) => {
        on_each_store!(@apart memory, Kind::Memory, $($module::$name,)*);
        on_each_store!(@apart redis_7, Kind::Redis7, $($module::$name,)*);
        on_each_store!(@apart redis_6, Kind::Redis62, $($module::$name,)*);
        on_each_store!(@apart valkey, Kind::Valkey, $($module::$name,)*);
        on_each_store!(@apart unix_socket, Kind::UnixSocket, $($module::$name,)*);
        on_each_store!(@apart tls_and_user, Kind::TlsAndUser, $($module::$name,)*);
        on_each_store!(@apart failover_list, Kind::FailoverList, $($module::$name,)*);
        on_each_store!(@apart two_stores, Kind::TwoStores, $($module::$name,)*);
        on_each_store!(@together sentinel, Kind::Sentinel, $($module::$name,)*);
        on_each_store!(@together cluster, Kind::Cluster, $($module::$name,)*);
    };
    (@apart $store:ident, $kind:expr, $($module:ident::$name:ident,)*) => {
        mod $store {
            use super::*;

            $(
                #[test]
                fn $name() {
                    let runtime = runtime();
                    let bed = runtime.block_on(Bed::start($kind));
                    $module::$name(&runtime, &bed);
                    runtime.block_on(bed.is_left_clean());
                }
            )*
        }
    };
    (@together $store:ident, $kind:expr, $($module:ident::$name:ident,)*) => {
        #[test]
        fn $store() {
            let runtime = runtime();
            let bed = runtime.block_on(Bed::start($kind));
            $(
                $module::$name(&runtime, &bed);
                runtime.block_on(bed.is_left_clean());
            )*
        }
    };
}

on_each_store! {
    beside::a_counter_is_dropped,
    beside::a_replica_is_seen_while_it_lives,
    coalescing::queries_at_once_share_calls,
    hostile::distinct_descriptors_never_share_a_count,
    placement::keys_that_share_a_slot_are_asked_for_at_once,
    random::random_queries_are_decided_as_in_memory,
    together::a_denied_query_has_charged_nobody,
    together::a_limit_is_used_up_and_never_passed,
    together::a_query_that_nobody_waits_for_leaves_nothing_half_done,
    together::of_two_in_each_others_way_one_gets_through,
    together::what_lands_although_denied_lands_once,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}
