//! What replicas tell of themselves.

use fred::error::Error;
use fred::types::Value;
use tokio::runtime::Runtime;
use tollgate::store::redis::{FLEET, FleetCall, alerts_key, domains_key, metrics_key};

use super::server::Redis;

pub(super) fn counts_add_up_and_what_is_none_begins_anew(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        let key = metrics_key(PREFIX, "shop");
        assert_eq!(key, "tollgate:shop:metrics");
        let add = async |requests, denied| {
            let counts = [("requests", requests), ("denied", denied), ("errors", 0)];
            tell(redis, FleetCall::add(PREFIX, "shop", counts)).await
        };
        let field = async |name: &[u8]| {
            let value: Option<String> = redis.command(&[b"HGET", key.as_bytes(), name]).await;
            value
        };
        add(3, 1).await.unwrap();
        add(4, 0).await.unwrap();
        assert_eq!(field(b"requests").await.as_deref(), Some("7"));
        assert_eq!(field(b"denied").await.as_deref(), Some("1"));
        assert_eq!(
            field(b"errors").await,
            None,
            "nothing is written of nothing"
        );
        is_kept_for_a_day(redis, &key).await;
        for stranger in ["many", "9223372036854775807"] {
            let line: [&[u8]; 4] = [b"HSET", key.as_bytes(), b"requests", stranger.as_bytes()];
            let _changed: i64 = redis.command(&line).await;
            add(5, 2).await.unwrap();
            assert_eq!(field(b"requests").await.as_deref(), Some("5"), "{stranger}");
        }
        assert_eq!(field(b"denied").await.as_deref(), Some("5"));
        add(u64::MAX, 0).await.unwrap();
        let most = i64::MAX.to_string();
        assert_eq!(field(b"requests").await, Some(most));
    });
}

pub(super) fn the_list_of_domains_is_bounded_and_forgets(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        let key = domains_key(PREFIX);
        let line: [&[u8]; 4] = [b"ZADD", key.as_bytes(), b"5", b"seen long ago"];
        let _added: i64 = redis.command(&line).await;
        let domains = ["a:b {c}|d", "shop"];
        tell(redis, FleetCall::seen(PREFIX, domains)).await.unwrap();
        let line: [&[u8]; 4] = [b"ZRANGE", key.as_bytes(), b"0", b"-1"];
        let listed: Vec<String> = redis.command(&line).await;
        assert_eq!(listed, domains);
        is_kept_for_a_day(redis, &key).await;
        for thousands in 0..11 {
            let names: Vec<String> = (0..1_000)
                .map(|one| format!("d{thousands}-{one}"))
                .collect();
            let names = names.iter().map(String::as_str);
            tell(redis, FleetCall::seen(PREFIX, names)).await.unwrap();
        }
        let count: i64 = redis.command(&[b"ZCARD", key.as_bytes()]).await;
        assert_eq!(count, 10_000);
        let score = [b"ZSCORE", key.as_bytes(), b"shop"];
        let gone: Option<String> = redis.command(&score).await;
        assert_eq!(gone, None, "those seen last stay");
    });
}

pub(super) fn a_history_keeps_the_newest(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        let key = alerts_key(PREFIX, "shop");
        for number in 0..1_300 {
            let fields = [
                ("alert", "store_down".to_owned()),
                ("at", number.to_string()),
            ];
            let call = FleetCall::note(PREFIX, "shop", &fields);
            tell(redis, call).await.unwrap();
        }
        let length: i64 = redis.command(&[b"XLEN", key.as_bytes()]).await;
        // It goes by nodes of a hundred entries.
        assert!((1_000..1_200).contains(&length), "{length}");
        let line: [&[u8]; 6] = [b"XREVRANGE", key.as_bytes(), b"+", b"-", b"COUNT", b"1"];
        let newest: Vec<(String, Vec<String>)> = redis.command(&line).await;
        assert_eq!(newest[0].1, ["alert", "store_down", "at", "1299"]);
        is_kept_for_a_day(redis, &key).await;
    });
}

pub(super) fn what_is_of_another_type_is_left_alone(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        for call in [
            FleetCall::add(PREFIX, "shop", [("requests", 1), ("denied", 2)]),
            FleetCall::seen(PREFIX, ["shop"]),
            FleetCall::note(PREFIX, "shop", &[("alert", "store_down".to_owned())]),
        ] {
            let key = call.key().to_owned();
            let line: [&[u8]; 5] = [b"SET", key.as_bytes(), b"mine", b"PX", b"60000"];
            let _ok: String = redis.command(&line).await;
            let error = tell(redis, call).await.unwrap_err();
            assert!(error.details().starts_with("WRONGTYPE"), "{error}");
            let value: String = redis.command(&[b"GET", key.as_bytes()]).await;
            assert_eq!(value, "mine");
        }
    });
}

async fn tell(redis: &Redis, call: FleetCall) -> Result<i64, Error> {
    let mut arguments = vec![Value::from(FLEET), 1_i64.into(), call.key().into()];
    let more = call.arguments().iter().cloned().map(Value::Bytes);
    arguments.extend(more);
    redis.try_command("EVAL", arguments).await
}

async fn is_kept_for_a_day(redis: &Redis, key: &str) {
    let ttl = redis.ttl(key.as_bytes()).await;
    assert!((86_000_000..=86_400_000).contains(&ttl), "{ttl}");
}

const PREFIX: &str = "tollgate";
