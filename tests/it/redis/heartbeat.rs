//! Replicas that know of each other.

use bytes::Bytes;
use fred::error::Error;
use fred::types::Value;
use tokio::runtime::Runtime;
use tollgate::store::redis::{HEARTBEAT, Heartbeat};

use super::server::Redis;
use super::{START, at};

pub(super) fn a_replica_that_stops_coming_is_dropped(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        assert_eq!(beat(redis, "b", START).await, ["b"]);
        assert_eq!(beat(redis, "a", START + 3_000).await, ["a", "b"]);
        assert_eq!(beat(redis, "a", START + 4_999).await, ["a", "b"]);
        assert_eq!(beat(redis, "a", START + 5_000).await, ["a"]);
        assert_eq!(fields(redis).await, [&b"a"[..]]);
        assert_eq!(beat(redis, "b", START + 5_001).await, ["a", "b"]);
        let value: String = redis.command(&[b"HGET", KEY, b"b"]).await;
        assert_eq!(value, format!("half_open {} {}", START - 7, START + 5_001));
    });
}

pub(super) fn a_replica_that_leaves_is_gone_at_once(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        beat(redis, "a", START).await;
        beat(redis, "b", START).await;
        let leaves = Heartbeat {
            leaves: true,
            ..heartbeat("a")
        };
        assert!(run(redis, leaves, Some(START)).await.unwrap().is_empty());
        assert_eq!(beat(redis, "b", START + 1).await, ["b"]);
        // Nobody is there any more, or ever was.
        for replica in ["b", "nobody"] {
            let leaves = Heartbeat {
                leaves: true,
                ..heartbeat(replica)
            };
            assert!(run(redis, leaves, Some(START)).await.unwrap().is_empty());
        }
        assert!(redis.keys().await.is_empty());
    });
}

pub(super) fn the_list_expires_with_its_last_replica(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        beat(redis, "a", START).await;
        let ttl = redis.ttl(KEY).await;
        assert!((15_000..=20_000).contains(&ttl), "{ttl}");
    });
}

pub(super) fn without_a_time_the_servers_clock_decides(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        // Seen long ago by that clock, and long after it.
        beat(redis, "old", 1).await;
        beat(redis, "ahead", START * 2).await;
        let live = run(redis, heartbeat("a"), None).await.unwrap();
        assert_eq!(live, ["a"]);
    });
}

pub(super) fn a_field_that_cannot_be_read_is_dropped(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        let seen = format!("open 0 {START}");
        let more = format!("closed 0 {START} and more");
        let odd: [&[u8]; 6] = [
            b"",
            b"closed",
            b"closed 0 soon",
            b" 0 1",
            b"\xff\0",
            more.as_bytes(),
        ];
        for (number, value) in odd.iter().enumerate() {
            let line: [&[u8]; 4] = [b"HSET", KEY, &[b'0' + u8::try_from(number).unwrap()], value];
            let _added: i64 = redis.command(&line).await;
        }
        let _added: i64 = redis
            .command(&[b"HSET", KEY, b"fine", seen.as_bytes()])
            .await;
        assert_eq!(beat(redis, "a", START).await, ["a", "fine"]);
        let mut left = fields(redis).await;
        left.sort();
        assert_eq!(left, [&b"a"[..], b"fine"]);
    });
}

pub(super) fn a_list_is_bounded(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        for thousands in 0..11_u64 {
            let others: Vec<(String, String)> = (0..1_000)
                .map(|one| {
                    let number = thousands * 1_000 + one;
                    let seen = START - 4_000 + number / 10;
                    (format!("r{number:05}"), format!("closed 0 {seen}"))
                })
                .collect();
            let mut line: Vec<&[u8]> = vec![b"HSET", KEY];
            for (replica, value) in &others {
                line.extend([replica.as_bytes(), value.as_bytes()]);
            }
            let _added: i64 = redis.command(&line).await;
        }
        // The clock has stepped back a little, so it is not the one that was seen last.
        let live = beat(redis, "z", START - 3_950).await;
        assert_eq!(live.len(), 10_000);
        assert_eq!(fields(redis).await.len(), 10_000);
        assert_eq!(live.last().unwrap(), "z");
        // The oldest are gone, of those seen at once some.
        assert_eq!(live[9], "r01010");
        assert!(live[0].as_str() > "r00999");
    });
}

pub(super) fn a_key_of_another_type_is_an_error(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        let line: [&[u8]; 5] = [b"SET", KEY, b"not a list", b"PX", b"60000"];
        let _ok: String = redis.command(&line).await;
        for leaves in [false, true] {
            let heartbeat = Heartbeat {
                leaves,
                ..heartbeat("a")
            };
            let error = run(redis, heartbeat, Some(START)).await.unwrap_err();
            assert!(error.details().starts_with("WRONGTYPE"), "{error}");
        }
        let value: String = redis.command(&[b"GET", KEY]).await;
        assert_eq!(value, "not a list");
    });
}

fn heartbeat(replica: &str) -> Heartbeat<'_> {
    Heartbeat {
        replica,
        breaker: "half_open",
        since: Some(at(START - 7)),
        leaves: false,
        lifetime: Heartbeat::LIFETIME,
    }
}

/// Who is there then.
async fn beat(redis: &Redis, replica: &str, now: u64) -> Vec<String> {
    run(redis, heartbeat(replica), Some(now)).await.unwrap()
}

async fn run(
    redis: &Redis,
    heartbeat: Heartbeat<'_>,
    now: Option<u64>,
) -> Result<Vec<String>, Error> {
    let key = Heartbeat::key("tollgate", "redis");
    assert_eq!(key.as_bytes(), KEY);
    let mut arguments = vec![Value::from(HEARTBEAT), 1_i64.into(), key.into()];
    arguments.extend(heartbeat.arguments().map(Value::from));
    arguments.extend(now.map(|now| Value::from(now.to_string())));
    redis.try_command("EVAL", arguments).await
}

async fn fields(redis: &Redis) -> Vec<Bytes> {
    redis.command(&[b"HKEYS", KEY]).await
}

const KEY: &[u8] = b"tollgate:redis:state";
