//! What is accepted of a Redis, what is said of the rest, and that no password is ever shown.

use proptest::prelude::*;

use super::table::leaves;
use super::{Loaded, Overrides, RedisUrl, Replicas, Settings, StoreKind};
use crate::config::Report;
use crate::store::redis::Topology;

const SECRET: &str = "hunter2";

#[test]
fn without_a_word_counters_are_in_memory() {
    let settings = Settings::default();
    assert_eq!(settings.store.kind, StoreKind::Memory);
    let redis = &settings.store.redis;
    // What the default says is what its text says.
    let read: RedisUrl = redis.url.to_string().parse().unwrap();
    assert_eq!(read, redis.url);
    assert_eq!(settings.fleet.replicas, Replicas::Auto);
    assert_eq!(settings.deadline.store.get().as_millis(), 12);
    assert_eq!(settings.deadline.margin.get().as_millis(), 3);
}

#[test]
fn every_topology_can_be_named() {
    for (url, single) in [
        ("redis://h", true),
        ("rediss://u:p@h:1/2", true),
        ("redis+unix:///run/r.sock", true),
        ("redis-cluster://h:7000?node=i:7000", false),
        ("redis-sentinel://h?sentinelServiceName=m", false),
    ] {
        let settings = file(&format!(
            "store: {{kind: redis, redis: {{url: '{url}'}}}}\n"
        ));
        let url = settings.unwrap().settings.store.redis.url;
        let topology = &url.address().topology;
        assert_eq!(matches!(topology, Topology::Single(_)), single, "{url}");
    }
}

#[test]
fn null_and_nothing_leave_out_what_may_be_left_out() {
    let text = "store: {redis: {per_second_url: ~, colocate_by: '', username: , password_file: '', \
                failover_urls: '', tls: {ca_file: '', server_name: ''}, sentinel: }}\nadmin: \
                {token_file: ''}\n";
    assert_eq!(file(text).unwrap().settings, Settings::default());
    // So a variable can take back what the file says.
    let text = "store: {kind: redis, redis: {colocate_by: a, failover_urls: ['redis://b']}}\n";
    let env = [
        ("TOLLGATE_STORE__REDIS__COLOCATE_BY", ""),
        ("TOLLGATE_STORE__REDIS__FAILOVER_URLS", ""),
        ("TOLLGATE_STORE__KIND", "memory"),
    ];
    let loaded = load(text, &env, Overrides::default()).unwrap();
    assert_eq!(loaded.settings, Settings::default());
}

#[test]
fn a_list_in_a_variable_has_commas() {
    let env = [
        ("TOLLGATE_STORE__KIND", "redis"),
        (
            "TOLLGATE_STORE__REDIS__FAILOVER_URLS",
            "redis://a,rediss://u:hunter2@b:1",
        ),
    ];
    let settings = load("", &env, Overrides::default()).unwrap().settings;
    let urls = &settings.store.redis.failover_urls.0;
    let shown: Vec<String> = urls.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["redis://a", "rediss://u:***@b:1"]);
    let password = urls[1].address().password.as_ref().unwrap();
    assert_eq!(password.reveal(), SECRET);
}

#[test]
fn the_flag_takes_the_first_and_those_to_fail_over_to() {
    let text = "store: {kind: memory, redis: {failover_urls: ['redis://f'], key_prefix: p}}\n";
    let env = [("TOLLGATE_STORE__REDIS__URL", "redis://e")];
    for (flag, others) in [
        (&["redis://a"][..], &[][..]),
        (
            &["redis://a", "redis://b", "redis://c"],
            &["redis://b", "redis://c"],
        ),
    ] {
        let flags = Overrides {
            redis: flag.iter().map(|url| url.parse().unwrap()).collect(),
            ..Overrides::default()
        };
        let loaded = load(text, &env, flags).unwrap();
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        let store = loaded.settings.store;
        assert_eq!(store.kind, StoreKind::Redis);
        assert_eq!(store.redis.url.to_string(), "redis://a");
        let failover: Vec<String> = store
            .redis
            .failover_urls
            .0
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(failover, others);
        assert_eq!(store.redis.key_prefix.as_str(), "p");
    }
}

#[test]
fn counters_are_kept_with_their_tenant_in_redis_only() {
    let colocated = |kind: &str| {
        let text = format!("store: {{kind: {kind}, redis: {{colocate_by: user_id}}}}\n");
        let settings = file(&text).unwrap().settings;
        settings.policy_defaults().colocate_by
    };
    assert_eq!(colocated("memory"), None);
    assert_eq!(colocated("redis").as_deref(), Some(b"user_id".as_slice()));
}

#[test]
fn sentinels_are_spoken_to_as_the_servers_unless_told_otherwise() {
    let url = "url: 'rediss-sentinel://s?sentinelServiceName=m', tls: {ca_file: /a}";
    let ca = |own: &str| {
        let text = format!("store: {{kind: redis, redis: {{{url}, sentinel: {{{own}}}}}}}\n");
        let redis = file(&text).unwrap().settings.store.redis;
        redis.sentinel_tls().ca_file.clone()
    };
    assert_eq!(ca(""), Some("/a".into()));
    assert_eq!(ca("tls: {ca_file: /b}"), Some("/b".into()));
    assert_eq!(ca("tls: {server_name: s}"), None);
}

#[test]
fn a_password_is_shown_nowhere() {
    let text = "
store:
  kind: redis
  redis:
    url: redis://user:hunter2@h:1/2
    failover_urls: ['redis://:hunter2@i']
    per_second_url: redis-sentinel://s?sentinelPassword=hunter2&sentinelServiceName=m
";
    let settings = file(text).unwrap().settings;
    let all = [
        format!("{settings:?}"),
        serde_yaml::to_string(&settings).unwrap(),
        serde_json::to_string(&settings).unwrap(),
        format!("{:?}", leaves(&settings)),
        format!("{:?}", Settings::default().changes(&settings)),
        format!("{:?}", settings.changes(&Settings::default())),
    ];
    for shown in all {
        assert!(!shown.contains(SECRET), "{shown}");
    }
    let redis = &settings.store.redis;
    assert_eq!(redis.url.to_string(), "redis://user:***@h:1/2");
    assert_eq!(redis.failover_urls.0[0].to_string(), "redis://:***@i");
    assert_eq!(
        redis.per_second_url.as_ref().unwrap().to_string(),
        "redis-sentinel://s?sentinelPassword=***&sentinelServiceName=m"
    );
}

#[test]
fn a_password_outlives_what_variables_change() {
    let text = "
store:
  kind: redis
  redis:
    url: redis://user:hunter2@h
    failover_urls: ['redis://:hunter2@i']
    per_second_url: redis://:hunter2@j
";
    let env = [
        ("TOLLGATE_STORE__REDIS__KEY_PREFIX", "p"),
        ("TOLLGATE_THREADS", "2"),
    ];
    let settings = load(text, &env, Overrides::default()).unwrap().settings;
    let urls: Vec<_> = settings.store.redis.urls();
    assert_eq!(urls.len(), 3);
    for (path, url) in urls {
        let password = url.address().password.as_ref().unwrap();
        assert_eq!(password.reveal(), SECRET, "{path}");
    }
}

#[test]
fn another_password_is_a_change_though_it_looks_the_same() {
    let with = |password: &str| {
        let text = format!(
            "store: {{kind: redis, redis: {{url: 'redis://:{password}@h', failover_urls: \
             ['redis://:{password}@i'], per_second_url: 'redis://:{password}@j'}}}}\n"
        );
        file(&text).unwrap().settings
    };
    assert_eq!(with("a").changes(&with("a")).needs_restart, []);
    let changes = with("a").changes(&with("b"));
    assert_eq!(changes.applied, []);
    let lines: Vec<String> = changes
        .needs_restart
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        lines,
        [
            "store.redis.failover_urls: redis://:***@i -> redis://:***@i (another password)",
            "store.redis.per_second_url: redis://:***@j -> redis://:***@j (another password)",
            "store.redis.url: redis://:***@h -> redis://:***@h (another password)",
        ]
    );
    let unset = with("a").changes(&Settings::default());
    let line = unset.needs_restart[1].to_string();
    assert_eq!(line, "store.redis.failover_urls: redis://:***@i -> unset");
}

#[test]
fn what_redis_needs_is_not_changed_by_a_reload() {
    let old = Settings::default();
    let new = file(
        "defaults: {on_store_failure: error}\nstore: {kind: redis, redis: {colocate_by: u}}\n\
         deadline: {store: 1ms}\nfleet: {replicas: 3}\n",
    );
    let reloaded = old.reloaded(&new.unwrap().settings);
    let defaults = reloaded.policy_defaults();
    assert_eq!(defaults.on_store_failure.name(), "error");
    assert_eq!(defaults.colocate_by, None);
    assert_eq!(reloaded.store, old.store);
    assert_eq!(
        (reloaded.deadline, reloaded.fleet),
        (old.deadline, old.fleet)
    );
}

#[test]
fn errors_hold_no_password_wherever_the_address_stands() {
    let url = format!("redis://user:{SECRET}@h:6379");
    for text in [
        format!("store: {{redis: {{url: '{url}x'}}}}\n"),
        format!("store: {{redis: {{url: 'rdis://user:{SECRET}@h'}}}}\n"),
        format!("store: {{redis: {{url: 'redis://:{SECRET}/{SECRET}@h'}}}}\n"),
        format!("store: {{redis: {{url: 'redis://h?a={SECRET}@b'}}}}\n"),
        format!("store: {{redis: {{url: ['{url}']}}}}\n"),
        format!("store: {{redis: {{failover_urls: ['{url}', '{url}x']}}}}\n"),
        format!("store: {{redis: {{failover_urls: '{url},{url}x'}}}}\n"),
        format!(
            "store: {{redis: {{url: 'redis-cluster://:{SECRET}@h', failover_urls: ['{url}']}}}}\n"
        ),
        format!("store: {{redis: {{username: u, url: '{url}'}}}}\n"),
        format!("store: {{redis: {{tls: {{ca_file: /a}}, url: '{url}'}}}}\n"),
        format!("store: {{redis: {{failover_urls: ['{url}', '{url}']}}}}\n"),
        format!("store: {{redis: '{url}'}}\n"),
        format!("store: {{redis: {{tls: {{server_name: '{url}'}}}}}}\n"),
        format!("store: {{redis: {{connect_timeout: '{url}'}}}}\n"),
        format!("store: {{redis: {{key_prefix: '{url}'}}}}\n"),
        format!("store: {{kind: '{url}'}}\n"),
        format!("listen: {{grpc: '{url}/'}}\n"),
        format!("threads: '{url}'\n"),
        format!("'{url}': 1\n"),
        format!("store: {{redis: {{'{url}': 1}}}}\n"),
        format!("a: [ {url}\n"),
        format!("defaults: {{algorithm: '{url}'}}\n"),
    ] {
        let report = file(&text).unwrap_err().to_string();
        assert!(!report.contains(SECRET), "{text}{report}");
    }
    for name in [
        "STORE__REDIS__URL",
        "STORE__REDIS__FAILOVER_URLS",
        "STORE__REDIS__PER_SECOND_URL",
        "STORE__REDIS__CONNECT_TIMEOUT",
        "STORE__KIND",
        "LISTEN__HTTP",
        "THREADS",
        "QUEUE__MAX_SIZE",
        "POLICIES__WATCH",
    ] {
        for value in [format!("{url}x/"), format!("redis://:{SECRET}/@h")] {
            let name = format!("TOLLGATE_{name}");
            let report = load("", &[(&name, &value)], Overrides::default()).unwrap_err();
            let report = report.to_string();
            assert!(!report.contains(SECRET), "{name} {report}");
        }
    }
}

proptest! {
    #[test]
    fn an_address_shows_no_piece_of_its_password(
        scheme in "(redis|rediss|valkey)(-cluster|-sentinel|\\+unix|)",
        user in "[a-z@]{0,3}",
        password in "[QXZ]{3}([/?#@:%&=.+!]{1,2}[QXZ]{3}){0,2}",
        rest in "(h|/s)?(:1)?(/1)?(\\?(sentinelServiceName=m)?(&sentinelPassword=QXZ)?(&x=@)?)?",
    ) {
        let text = format!("{scheme}://{user}:{password}@{rest}");
        let shown = match text.parse::<RedisUrl>() {
            Ok(url) => format!("{url} {url:?} {}", serde_yaml::to_string(&url).unwrap()),
            Err(error) => format!("{error} {error:?}"),
        };
        let pieces = password.split(|c: char| !c.is_ascii_alphabetic());
        for piece in pieces.filter(|piece| !piece.is_empty()) {
            prop_assert!(!shown.contains(piece), "{text}: {shown}");
        }
        prop_assert!(!shown.contains("QXZ"), "{text}: {shown}");
    }
}

#[test]
fn problems_name_place_and_setting() {
    let said: Vec<(&str, String)> = PROBLEMS
        .iter()
        .map(|(text, _)| {
            let report = match file(text) {
                Ok(loaded) => loaded.warnings,
                Err(report) => report,
            };
            (*text, report.to_string())
        })
        .collect();
    let expected: Vec<(&str, String)> = PROBLEMS
        .iter()
        .map(|(text, report)| (*text, (*report).to_owned()))
        .collect();
    assert_eq!(said, expected);
}

fn file(text: &str) -> Result<Loaded, Report> {
    load(text, &[], Overrides::default())
}

fn load(text: &str, env: &[(&str, &str)], flags: Overrides) -> Result<Loaded, Report> {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Settings::load(Some(("t.yaml", text.as_bytes())), env, flags)
}

/// Files and what is said of them.
const PROBLEMS: &[(&str, &str)] = &[
    (
        "store: {kind: reddis}\n",
        "t.yaml:1:15: store.kind: unknown value \"reddis\" (did you mean \"redis\"?)",
    ),
    (
        "store:\n  kind: redis\n  redis:\n    url: redis://h:0\n",
        "t.yaml:4:10: store.redis.url: not the address of a Redis: the port is not a number \
         from 1 to 65535, as in redis://127.0.0.1:6379",
    ),
    (
        "store: {redis: {url: 'http://h'}}\n",
        "t.yaml:1:22: store.redis.url: not the address of a Redis: http:// is not a scheme of \
         Redis: use redis://, rediss:// (TLS), redis-cluster://, redis-sentinel:// or \
         redis+unix://, as in redis://127.0.0.1:6379/0",
    ),
    (
        "store: {redis: {url: h:6379}}\n",
        "t.yaml:1:22: store.redis.url: not the address of a Redis: a Redis URL starts with its \
         scheme, as in redis://127.0.0.1:6379/0",
    ),
    (
        "store: {redis: {url: 5}}\n",
        "t.yaml:1:22: store.redis.url: not the address of a Redis: a Redis URL starts with its \
         scheme, as in redis://127.0.0.1:6379/0",
    ),
    (
        "store: {redis: {url: ~}}\n",
        "t.yaml:1:22: store.redis.url: not the address of a Redis: a Redis URL starts with its \
         scheme, as in redis://127.0.0.1:6379/0",
    ),
    (
        "store: {redis: {url: ''}}\n",
        "t.yaml:1:22: store.redis.url: not the address of a Redis: a Redis URL starts with its \
         scheme, as in redis://127.0.0.1:6379/0",
    ),
    (
        "store: {redis: {url: 'redis://:***@h'}}\n",
        "t.yaml:1:22: store.redis.url: not the address of a Redis: its password was hidden as \
         ***: write the real one",
    ),
    (
        "store:\n  redis:\n    failover_urls:\n      - redis://a\n      - redis:/b\n",
        "t.yaml:5:9: store.redis.failover_urls[1]: not the address of a Redis: a Redis URL \
         starts with its scheme, as in redis://127.0.0.1:6379/0",
    ),
    (
        "store: {redis: {failover_urls: 5}}\n",
        "t.yaml:1:32: store.redis.failover_urls: expected a list of addresses, found the number \
         5",
    ),
    (
        "store: {redis: {key_prefix: 'a{b}'}}\n",
        "t.yaml:1:29: store.redis.key_prefix: \"a{b}\" is no key prefix: 1 to 20 letters, \
         digits and _ . : -",
    ),
    (
        "store: {redis: {key_prefix: ''}}\n",
        "t.yaml:1:29: store.redis.key_prefix: \"\" is no key prefix: 1 to 20 letters, digits \
         and _ . : -",
    ),
    (
        "store: {redis: {key_prefix: abcdefghijklmnopqrstu}}\n",
        "t.yaml:1:29: store.redis.key_prefix: \"abcdefghijklmnopqrstu\" is no key prefix: 1 to \
         20 letters, digits and _ . : -",
    ),
    (
        "store: {redis: {tls: {server_name: 'https://h'}}}\n",
        "t.yaml:1:36: store.redis.tls.server_name: \"https://h\" is neither a host's name nor \
         an address, which stand without port and scheme",
    ),
    (
        "fleet: {replicas: 3}\ndeadline: {store: 1ms}\n",
        "settings: warning: deadline: has no effect while store.kind is memory (write store.kind: \
         redis, or serve with --redis)\nsettings: warning: fleet.replicas: has no effect while \
         store.kind is memory: each replica counts alone and admits whole limits (write store.kind: \
         redis, or serve with --redis)",
    ),
    (
        "telemetry: {otlp_protocol: grpc, traces: {ratio: 0.5}}\n",
        "settings: warning: telemetry.otlp_protocol: has no effect: nothing is pushed (set \
         telemetry.otlp_endpoint)\nsettings: warning: telemetry.traces.ratio: has no effect: no \
         spans are pushed (set telemetry.otlp_endpoint)",
    ),
    (
        "store: {redis: {connections: 2}}\n",
        "t.yaml:1:17: store.redis.connections: unknown setting \"connections\" (url, \
         failover_urls, key_prefix, per_second_url, colocate_by, username, password_file, tls, \
         sentinel or connect_timeout)",
    ),
    (
        "deadline: {store: 0ms}\n",
        "t.yaml:1:19: deadline.store: \"0ms\" is not from 1ms to 365days",
    ),
    (
        "deadline: {store: 500us}\n",
        "t.yaml:1:19: deadline.store: \"500us\" is not from 1ms to 365days",
    ),
    (
        "deadline: {margin: 3}\n",
        "t.yaml:1:20: deadline.margin: 3 has no unit, write 3s for seconds or 3ms for \
         milliseconds",
    ),
    (
        "circuit_breaker: {threshold: 0}\n",
        "t.yaml:1:30: circuit_breaker.threshold: expected a whole number from 1 to 4294967295, \
         found the number 0",
    ),
    (
        "circuit_breaker: {probe_interval: 9ms}\n",
        "t.yaml:1:35: circuit_breaker.probe_interval: \"9ms\" is not from 10ms to 365days",
    ),
    (
        "queue: {batch_size: 1025}\n",
        "t.yaml:1:21: queue.batch_size: expected a whole number from 1 to 1024, found the \
         number 1025",
    ),
    (
        "fleet: {replicas: 0}\n",
        "t.yaml:1:19: fleet.replicas: expected auto or a whole number from 1 to 10000, found \
         the number 0",
    ),
    (
        "fleet: {replicas: some}\n",
        "t.yaml:1:19: fleet.replicas: expected auto or a whole number from 1 to 10000, found \
         the text \"some\"",
    ),
    (
        "admin: {token_file: [a]}\n",
        "t.yaml:1:21: admin.token_file: expected a path, found a list",
    ),
    (
        "defaults: {on_store_failure: open}\n",
        "t.yaml:1:30: defaults.on_store_failure: unknown value \"open\" (local, allow, deny or \
         error)",
    ),
    (
        "defaults: {on_store_failure: locl}\n",
        "t.yaml:1:30: defaults.on_store_failure: unknown value \"locl\" (did you mean \
         \"local\"?)",
    ),
    (
        "store: {redis: {colocate_by: a}}\n",
        "settings: warning: store.redis: has no effect while store.kind is memory (write \
         store.kind: redis, or serve with --redis)",
    ),
    (
        "store: {kind: redis, redis: {tls: {cert_file: /a}}}\n",
        "settings: store.redis.tls.cert_file: has no key_file beside it (write both, or \
         neither)\nsettings: store.redis.tls.cert_file: no address uses TLS (write rediss:// \
         instead of redis://, or remove it)",
    ),
    (
        "store: {kind: redis, redis: {url: 'rediss://h', tls: {key_file: /a}}}\n",
        "settings: store.redis.tls.key_file: has no cert_file beside it (write both, or neither)",
    ),
    (
        "store: {kind: redis, redis: {tls: {ca_file: /a}}}\n",
        "settings: store.redis.tls.ca_file: no address uses TLS (write rediss:// instead of \
         redis://, or remove it)",
    ),
    (
        "store: {kind: redis, redis: {url: 'rediss://h', sentinel: {tls: {ca_file: /a}}}}\n",
        "settings: store.redis.sentinel.tls.ca_file: no address is one of Sentinels with TLS \
         (it is for rediss-sentinel://)",
    ),
    (
        "store: {kind: redis, redis: {sentinel: {username: u}}}\n",
        "settings: warning: store.redis.sentinel.username: has no effect (it is for \
         redis-sentinel:// only)",
    ),
    (
        "store: {kind: redis, redis: {url: \
         'redis-sentinel://h?sentinelServiceName=m&sentinelUsername=u', sentinel: {username: \
         u}}}\n",
        "settings: store.redis.sentinel.username: each address has one already (remove it here \
         or there)",
    ),
    (
        "store: {kind: redis, redis: {username: u, url: 'redis://v@h', password_file: /p}}\n",
        "settings: store.redis.username: each address has a user already (remove it here or \
         there)",
    ),
    (
        "store: {kind: redis, redis: {username: u, url: 'redis://:p@h', password_file: /p}}\n",
        "settings: store.redis.password_file: each address has a password already (remove it \
         here or there)",
    ),
    (
        "store: {kind: redis, redis: {failover_urls: ['redis-cluster://h', \
         'redis://127.0.0.1']}}\n",
        "settings: store.redis.failover_urls[0]: redis-cluster://h is no single server \
         (redis://, rediss:// or redis+unix://)\nsettings: store.redis.failover_urls[1]: \
         redis://127.0.0.1 stands before it already (name each server once)",
    ),
    (
        "store: {kind: redis, redis: {url: 'redis-cluster://h', failover_urls: ['redis://i']}}\n",
        "settings: store.redis.failover_urls: redis-cluster://h fails over by itself (remove \
         them, or name a single server as store.redis.url)",
    ),
];
