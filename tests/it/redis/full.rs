//! A server that has no memory left.

use fred::error::Error;
use fred::types::Value;
use tokio::runtime::Runtime;
use tollgate::model::{Algorithm, Check, Hits};
use tollgate::store::redis::Call;

use super::server::Redis;
use super::{START, at, check, hourly};

/// The server asks itself once, before a script's first write, whether there is memory; after that
/// the script may write all it has to.
pub(super) fn a_call_lands_whole_or_not_at_all(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        let _ok: String = redis
            .command(&[b"CONFIG", b"SET", b"maxmemory-policy", b"noeviction"])
            .await;
        redis.ask(&[charge_of_each_call()], START).await;
        let (mut landed, mut refused) = (0, 0);
        // Room for more and more, so that the first call that lands has just enough to begin.
        for number in 0..400 {
            let keys = redis.keys().await.len();
            let (call, before) = (call(number), used(redis).await);
            let most = before + STEP * u64::try_from(number).unwrap();
            let _ok: String = redis
                .command(&[b"CONFIG", b"SET", b"maxmemory", most.to_string().as_bytes()])
                .await;
            let reply = redis.call(&call).await;
            let now = redis.keys().await.len();
            match reply {
                Ok(_) => {
                    // All but the one that was there.
                    let new = call.keys().len() - 1;
                    assert_eq!(now, keys + new, "a part of a call landed");
                    landed += 1;
                    let grown = used(redis).await.saturating_sub(before);
                    assert!(
                        grown > 4 * STEP,
                        "it needed no more than there was: {grown}"
                    );
                    break;
                }
                Err(error) => {
                    assert_eq!(now, keys, "a part of a call that failed landed");
                    assert!(
                        error.details().contains("OOM command not allowed"),
                        "{error}"
                    );
                    refused += 1;
                }
            }
        }
        assert_eq!(landed, 1);
        assert!(refused > 4, "{refused}");
        // What was there already counts what landed, and nothing else.
        let calls = Check {
            hits: Hits::Peek,
            ..charge_of_each_call()
        };
        let counted = redis.ask(&[calls], START).await.verdicts[0].counted;
        assert_eq!(counted, 1 + landed);
        // Who is told "over" or only asks needs no memory.
        let over = check(
            &format!("{refused}-0"),
            hourly(Algorithm::FixedWindow, 1),
            Hits::Charge(1),
        );
        assert!(redis.ask(&[over], START).await.denied);
    });
}

/// A call with many new keys, of each algorithm.
fn call(number: usize) -> Call {
    let mut call = Call::new("tollgate", Some(at(START)), 0);
    call.push(&[charge_of_each_call()], true).unwrap();
    for user in 0..200 {
        let checks = Algorithm::ALL.map(|algorithm| {
            check(
                &format!("{number}-{user}"),
                hourly(algorithm, 1),
                Hits::Charge(1),
            )
        });
        let checks: Vec<Check> = checks.into();
        call.push(&checks, true).unwrap();
    }
    call
}

fn charge_of_each_call() -> Check {
    check(
        "all",
        hourly(Algorithm::FixedWindow, 1_000),
        Hits::Charge(1),
    )
}

async fn used(redis: &Redis) -> u64 {
    let info: String = redis.command(&[b"INFO", b"memory"]).await;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    line.unwrap().trim().parse().unwrap()
}

/// Far less than a call of new keys needs.
const STEP: u64 = 4_000;

/// An old setting of Redis 6.2, which forbids to write after the clock has been read.
pub(super) fn a_server_that_replicates_scripts_refuses_the_whole_call(
    runtime: &Runtime,
    redis: &Redis,
) {
    runtime.block_on(async {
        let line = ["SET", "lua-replicate-commands", "no"].map(Value::from);
        let set: Result<String, Error> = redis.try_command("CONFIG", line.into()).await;
        let mut call = Call::new("tollgate", None, 0);
        call.push(&[charge_of_each_call()], true).unwrap();
        let reply = redis.call(&call).await;
        match set {
            // Redis 6.2.
            Ok(_) => {
                let error = reply.unwrap_err();
                let forbidden = "Write commands not allowed after non deterministic commands";
                assert!(error.details().contains(forbidden), "{error}");
                assert!(redis.keys().await.is_empty());
            }
            // It knows no such setting.
            Err(_) => assert!(reply.is_ok()),
        }
    });
}
