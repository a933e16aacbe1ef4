//! What settings are accepted, from where, and what is said of the others.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::table::{leaves, paths};
use super::{
    HeaderStyle, Loaded, LogFormat, LogLevel, Number, Overrides, Settings, Threads, settings_table,
};
use crate::config::Report;
use crate::config::policies::{self, DomainDefaults, PolicyDefaults, Source};
use crate::model::{Algorithm, DeniedHits, OnStoreFailure};

#[test]
fn nothing_written_is_the_defaults() {
    for text in [
        "",
        "# nothing\n",
        "\u{feff}---\n",
        "listen:\nstore: {memory: }\nlimits: ~\ndomains:\n",
        "{}",
    ] {
        assert_eq!(
            file(text).unwrap().settings,
            Settings::default(),
            "{text:?}"
        );
    }
    let none = Settings::load(None, std::iter::empty(), Overrides::default()).unwrap();
    assert_eq!(none.settings, Settings::default());
    assert!(none.warnings.is_empty());
}

#[test]
fn everything_can_be_written() {
    let domains = "domains: {shop: {enforce_percent: 50}, My-Domain: {shadow_mode: true}}\n";
    let loaded = file(&format!("{EVERYTHING}{domains}")).unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let settings = loaded.settings;
    let default = Settings::default();
    for (path, value) in leaves(&default) {
        assert_ne!(
            leaves(&settings).get(&path),
            Some(&value),
            "{path} is not tried"
        );
    }
    assert_eq!(
        settings.connection.max_age.get(),
        Duration::from_secs(90 * 60)
    );
    assert_eq!(
        settings.connection.max_age_grace.get(),
        Duration::from_millis(250)
    );
    assert_eq!(settings.threads, Threads::Count(Number::clamped(3)));
    assert_eq!(settings.response.headers, HeaderStyle::Ietf);
    assert_eq!(settings.telemetry.log.level, LogLevel::Trace);
    assert_eq!(settings.telemetry.log.format, LogFormat::Json);
    let only = |enforce_percent, shadow_mode| DomainDefaults {
        enforce_percent,
        shadow_mode,
    };
    let expected = PolicyDefaults {
        denied_hits: DeniedHits::Debt,
        algorithm: Algorithm::TokenBucket,
        enforce_percent: 5,
        shadow_mode: true,
        on_store_failure: OnStoreFailure::Deny,
        colocate_by: Some(b"user_id".as_slice().into()),
        domains: [
            ("shop".to_owned(), only(Some(50), None)),
            ("My-Domain".to_owned(), only(None, Some(true))),
        ]
        .into(),
        merge_domains: true,
    };
    assert_eq!(settings.policy_defaults(), expected);
    // What is dumped can be read again.
    let dump = serde_yaml::to_string(&settings).unwrap();
    assert_eq!(file(&dump).unwrap().settings, settings, "{dump}");
}

#[test]
fn problems_name_place_and_setting() {
    let said: Vec<(&str, String)> = PROBLEMS
        .iter()
        .map(|(text, _)| (*text, file(text).unwrap_err().to_string()))
        .collect();
    let expected: Vec<(&str, String)> = PROBLEMS
        .iter()
        .map(|(text, report)| (*text, (*report).to_owned()))
        .collect();
    assert_eq!(said, expected);
    for text in ["- a\n", "a: [\n", "a: 1\n---\nb: 2\n", "just words\n"] {
        let report = file(text).unwrap_err();
        assert_eq!(report.errors(), 1, "{report}");
    }
    let bytes = Settings::load(
        Some(("t", b"\xff")),
        std::iter::empty(),
        Overrides::default(),
    );
    assert_eq!(bytes.unwrap_err().to_string(), "t: the file is not UTF-8");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let text = "listen: {grpc: 'f:1', http: 'f:2', admin: 'f:3'}\nthreads: 2\n";
    let env = [
        ("TOLLGATE_LISTEN__GRPC", "e:1"),
        ("TOLLGATE_LISTEN__HTTP", "e:2"),
        ("PATH", "/bin"),
    ];
    let flags = Overrides {
        policies: Some(PathBuf::from("p")),
        grpc: Some("g:1".parse().unwrap()),
        ..Overrides::default()
    };
    let loaded = Settings::load(Some(("t", text.as_bytes())), pairs(&env), flags).unwrap();
    let settings = loaded.settings;
    assert_eq!(settings.listen.grpc.to_string(), "g:1");
    assert_eq!(settings.listen.http.to_string(), "e:2");
    assert_eq!(settings.listen.admin.to_string(), "f:3");
    assert_eq!(settings.threads, Threads::Count(Number::clamped(2)));
    assert_eq!(settings.policies.path, PathBuf::from("p"));
    assert!(loaded.warnings.is_empty());
}

#[test]
fn every_setting_has_a_variable() {
    let mut env = Vec::new();
    let written = file(EVERYTHING).unwrap().settings;
    for (path, value) in leaves(&written) {
        env.push((
            format!("TOLLGATE_{}", path.to_uppercase().replace('.', "__")),
            value,
        ));
    }
    let loaded = Settings::load(None, env.into_iter(), Overrides::default()).unwrap();
    assert_eq!(loaded.settings, written);
    assert!(loaded.warnings.is_empty());
}

#[test]
fn variables_reach_single_domains() {
    let text = "domains: {My-Shop: {shadow_mode: true}}\n";
    let env = [
        ("TOLLGATE_DOMAINS__MY_SHOP__ENFORCE_PERCENT", "20"),
        ("TOLLGATE_DOMAINS__OTHER__SHADOW_MODE", "true"),
        ("TOLLGATE_DOMAINS__A__B__SHADOW_MODE", "false"),
    ];
    let loaded = Settings::load(
        Some(("t", text.as_bytes())),
        pairs(&env),
        Overrides::default(),
    );
    let domains = loaded.unwrap().settings.domains;
    let names: Vec<&str> = domains.keys().map(String::as_str).collect();
    assert_eq!(names, ["My-Shop", "a__b", "other"]);
    // What it cannot reach is told with the name that was meant.
    let settings = Settings::load(
        None,
        pairs(&[("TOLLGATE_DOMAINS__MY_SHOP__SHADOW_MODE", "true")]),
        Overrides::default(),
    );
    let source = Source {
        name: "p.yaml",
        text: b"domain: My-Shop\n",
    };
    let defaults = settings.unwrap().settings.policy_defaults();
    let compiled = policies::load(&[source], &defaults).unwrap();
    assert_eq!(
        compiled.warnings.to_string(),
        "settings: warning: domains.my_shop: no policy has this domain (did you mean \"My-Shop\"?)"
    );
    assert_eq!(
        domains["My-Shop"].enforce_percent,
        Some(Number::clamped(20))
    );
    assert_eq!(domains["My-Shop"].shadow_mode, Some(true));
    assert_eq!(domains["other"].shadow_mode, Some(true));
}

#[test]
fn a_bad_variable_is_named_and_so_is_every_other() {
    let env = [
        ("TOLLGATE_THREADS", "many"),
        ("TOLLGATE_LISTEN__GRPC", ""),
        ("TOLLGATE_LISTEN__HTTP", "8081"),
        ("TOLLGATE_LOG__LEVEL", "debug"),
        ("TOLLGATE_POLICIES__WATCH", "yes"),
        ("TOLLGATE_RESPONSE__HEADERS", "refrence"),
        ("TOLLGATE_PORT", "tcp://10.0.0.1:8081"),
        ("TOLLGATE_LISTEN__GRCP", "x"),
    ];
    let report = Settings::load(None, pairs(&env), Overrides::default()).unwrap_err();
    assert_eq!(
        report.to_string(),
        "TOLLGATE_LISTEN__GRCP: warning: no such setting (did you mean TOLLGATE_LISTEN__GRPC?)\n\
         TOLLGATE_LISTEN__GRPC: \"\" is no address: write HOST:PORT or unix:/PATH\n\
         TOLLGATE_LISTEN__HTTP: \"8081\" is no address: write HOST:PORT or unix:/PATH\n\
         TOLLGATE_LOG__LEVEL: warning: no such setting (did you mean \
         TOLLGATE_TELEMETRY__LOG__LEVEL?)\n\
         TOLLGATE_POLICIES__WATCH: expected true or false, found the text \"yes\" (write true)\n\
         TOLLGATE_RESPONSE__HEADERS: unknown value \"refrence\" (did you mean \"reference\"?)\n\
         TOLLGATE_THREADS: expected auto or a whole number from 1 to 1024, found the text \
         \"many\""
    );
}

#[test]
fn an_unknown_variable_alone_is_only_a_warning() {
    let env = [
        ("TOLLGATE_SERVICE_HOST", "10.0.0.1"),
        ("TOLLGATE_LISTEN", "x"),
        ("TOLLGATE_OTHER", "x"),
    ];
    let loaded = Settings::load(None, pairs(&env), Overrides::default()).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    assert_eq!(
        (loaded.warnings.errors(), loaded.warnings.warnings()),
        (0, 2)
    );
}

/// Kubernetes would not set it to a number.
#[test]
fn a_port_is_asked_whether_the_listener_is_meant() {
    let env = [("TOLLGATE_PORT", "8081")];
    let loaded = Settings::load(None, pairs(&env), Overrides::default()).unwrap();
    assert_eq!(
        loaded.warnings.to_string(),
        "TOLLGATE_PORT: warning: no such setting (did you mean TOLLGATE_LISTEN__GRPC?)"
    );
}

#[test]
fn the_table_lists_exactly_the_settings() {
    let leaves: BTreeSet<String> = leaves(&Settings::default()).into_keys().collect();
    let listed: BTreeSet<String> = paths().map(str::to_owned).collect();
    assert_eq!(listed, leaves);
    assert_eq!(paths().count(), listed.len());
    let table = settings_table();
    assert!(table.contains("| `admin.token_file` | none | `TOLLGATE_ADMIN__TOKEN_FILE` |"));
    assert_eq!(table.lines().count(), listed.len() + 2 + 3);
    assert!(table.contains("| `listen.grpc` | `0.0.0.0:8081` | `TOLLGATE_LISTEN__GRPC` |"));
    assert!(table.contains(
        "| `domains.NAME.shadow_mode` | `defaults.shadow_mode` | \
         `TOLLGATE_DOMAINS__NAME__SHADOW_MODE` |"
    ));
}

#[test]
fn what_may_change_while_it_runs_is_told_apart() {
    let old = Settings::default();
    let new = file(
        "defaults: {enforce_percent: 50, on_store_failure: deny}\ndomains: {shop: {shadow_mode: true}}\n\
         telemetry: {log: {level: debug, format: json}}\nlisten: {grpc: 'h:1'}\n",
    )
    .unwrap()
    .settings;
    let changes = old.changes(&new);
    let lines = |changes: &[super::SettingChange]| -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        lines(&changes.applied),
        [
            "defaults.enforce_percent: 100 -> 50",
            "defaults.on_store_failure: local -> deny",
            "domains.shop.shadow_mode: unset -> true",
            "telemetry.log.level: info -> debug",
        ]
    );
    assert_eq!(
        lines(&changes.needs_restart),
        [
            "listen.grpc: 0.0.0.0:8081 -> h:1",
            "telemetry.log.format: text -> json"
        ]
    );
    let reloaded = old.reloaded(&new);
    assert_eq!(reloaded.changes(&new).applied, []);
    assert_eq!(reloaded.changes(&new).needs_restart, changes.needs_restart);
    assert_eq!(
        lines(&new.changes(&old).applied)[2],
        "domains.shop.shadow_mode: true -> unset"
    );
}

#[test]
fn the_shipped_settings_are_the_defaults_all_of_them() {
    let text = shipped("config/tollgate.yaml");
    let loaded = file(&text).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    assert!(loaded.warnings.is_empty());
    for path in paths() {
        let name = path.rsplit('.').next().unwrap();
        let written = text
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{name}:")));
        assert!(written, "{path} is not in it");
    }
}

#[test]
fn the_shipped_policies_load_without_warnings() {
    let text = shipped("config/policies/example.yaml");
    let source = Source {
        name: "example.yaml",
        text: text.as_bytes(),
    };
    let compiled = policies::load(&[source], &Settings::default().policy_defaults()).unwrap();
    assert!(compiled.warnings.is_empty(), "{}", compiled.warnings);
    assert_eq!(compiled.domains[0].name, "demo");
}

#[test]
fn random_files_are_refused_or_read() {
    let config = Config {
        cases: 10_000,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let shipped = shipped("config/tollgate.yaml");
    TestRunner::new_with_rng(config, rng)
        .run(&edits, |edits| {
            let mut text = shipped.clone().into_bytes();
            for (index, byte) in edits {
                let at = index.index(text.len());
                text[at] = byte;
            }
            let loaded =
                Settings::load(Some(("t", &text)), std::iter::empty(), Overrides::default());
            if let Err(report) = loaded {
                prop_assert!(report.errors() > 0);
            }
            Ok(())
        })
        .unwrap();
}

fn shipped(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn file(text: &str) -> Result<Loaded, Report> {
    let file = Some(("t.yaml", text.as_bytes()));
    Settings::load(file, std::iter::empty(), Overrides::default())
}

fn pairs<'a>(env: &'a [(&str, &str)]) -> impl Iterator<Item = (String, String)> + 'a {
    env.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
}

/// Every setting at another value than its default.
const EVERYTHING: &str = "
listen: {grpc: 'unix:/run/g.sock', http: '[::1]:0', admin: localhost:1}
connection: {max_age: 1h 30m, max_age_grace: 250ms}
policies: {path: '123', watch: false, merge_domains: true}
defaults: {denied_hits: debt, algorithm: token_bucket, on_store_failure: deny, enforce_percent: 5,
  shadow_mode: true}
response: {headers: ietf, dynamic_metadata: true, verdicts: true}
shutdown: {drain_delay: 0s, grace: 1m}
threads: 3
store:
  kind: redis
  memory: {max_keys: 5}
  redis:
    url: rediss://h:1
    failover_urls: ['redis://h:2', 'redis+unix:///run/r.sock']
    key_prefix: 'a.b_c:D-9'
    per_second_url: rediss-sentinel://s?node=t:1&sentinelServiceName=m
    colocate_by: user_id
    username: '123'
    password_file: /run/p
    tls: {ca_file: /a, cert_file: /b, key_file: /c, server_name: redis.local}
    sentinel:
      username: s
      password_file: /q
      tls: {ca_file: /d, cert_file: /e, key_file: /f, server_name: '::1'}
    connect_timeout: 1ms
deadline: {store: 1ms, margin: 0s}
circuit_breaker: {threshold: 1, timeout: 1ms, probe_interval: 10ms}
queue: {max_size: 1, batch_size: 1024}
fleet: {replicas: 10000}
admin: {token_file: /run/token, allowed_hosts: [tollgate-admin, .svc]}
limits: {in_flight: 1, descriptors: 2, entries: 3, message_bytes: 1024, request_bytes: 1048576, connections: 1}
alerts: {error_rate: 0, queue_full: off, circuit_trips: 0, response_time: 2s, batch_failures: 99.5,
  redis_latency: off, store_down: 1s, unknown_domains: 5, keys_full: 7, window: 10s, for: 0s, keep_firing_for: 1h, min_calls: 1,
  alertmanager_url: 'http://a:9093/prefix,https://[::1]'}
telemetry: {prometheus: false, otlp_endpoint: 'http://c:4318', otlp_protocol: grpc,
  traces: {ratio: 0.5}, log: {level: trace, format: json}}
";

/// Files and what is said of them.
const PROBLEMS: &[(&str, &str)] = &[
    (
        "listen:\n  grcp: 0.0.0.0:1\n",
        "t.yaml:2:3: listen.grcp: unknown setting \"grcp\" (did you mean \"grpc\"?)",
    ),
    (
        "redis: {}\n",
        "t.yaml:1:1: redis: unknown setting \"redis\" (listen, connection, policies, defaults, \
             domains, response, shutdown, threads, store, deadline, circuit_breaker, queue, fleet, \
             admin, limits, alerts or telemetry)",
    ),
    (
        "listen:\n  http: h:1\n  grpc: 8081\n",
        "t.yaml:3:9: listen.grpc: \"8081\" is no address: write HOST:PORT or unix:/PATH",
    ),
    (
        "shutdown: {grace: 30}\n",
        "t.yaml:1:19: shutdown.grace: 30 has no unit, write 30s for seconds or 30ms \
             for milliseconds",
    ),
    (
        "shutdown: {grace: soon}\n",
        "t.yaml:1:19: shutdown.grace: \"soon\" is no length of time such as 30s or 5m: expected \
             number at 0",
    ),
    (
        "shutdown: {grace: -3s}\n",
        "t.yaml:1:19: shutdown.grace: \"-3s\" is below zero, write a length of time such as 30s or 5m",
    ),
    (
        "connection: {max_age: 0s}\n",
        "t.yaml:1:23: connection.max_age: \"0s\" is not from 1s to 365days",
    ),
    (
        "connection:\n  max_age_grace: 1s\n  max_age: 2y\n",
        "t.yaml:3:12: connection.max_age: \"2y\" is not from 1s to 365days",
    ),
    (
        "limits: {in_flight: 0}\n",
        "t.yaml:1:21: limits.in_flight: expected a whole number from 1 to 4294967295, found the \
             number 0",
    ),
    (
        "limits:\n  entries: -1\n",
        "t.yaml:2:12: limits.entries: expected a whole number from 1 to 4294967295, found \
             the number -1",
    ),
    (
        "limits:\n  message_bytes: 1.5\n",
        "t.yaml:2:18: limits.message_bytes: expected a whole number from 1024 to 1073741824, \
             found the number 1.5",
    ),
    (
        "threads: many\n",
        "t.yaml:1:10: threads: expected auto or a whole number from 1 to 1024, found the text \
             \"many\"",
    ),
    (
        "threads: 0\n",
        "t.yaml:1:10: threads: expected auto or a whole number from 1 to 1024, found the number 0",
    ),
    (
        "defaults:\n  shadow_mode: true\n  algorithm: sliding\n",
        "t.yaml:3:14: defaults.algorithm: unknown value \"sliding\" (fixed_window, \
             sliding_window, sliding_log or token_bucket)",
    ),
    (
        "response: {headers: Ietf}\n",
        "t.yaml:1:21: response.headers: unknown value \"Ietf\" (did you mean \"ietf\"?)",
    ),
    (
        "policies: {watch: yes}\n",
        "t.yaml:1:19: policies.watch: expected true or false, found the text \"yes\" \
             (write true)",
    ),
    (
        "domains: {shop: {enforce_percent: 101}}\n",
        "t.yaml:1:35: domains.shop.enforce_percent: expected a whole number from 0 to 100, \
             found the number 101",
    ),
    (
        "threads: 1\nthreads: 2\n",
        "t.yaml:1:1: duplicate setting \"threads\" (remove one of the two)",
    ),
    (
        "domains:\n  demo: {shadow_mode: true}\n  demo: {shadow_mode: false}\n",
        "t.yaml:3:3: domains.demo: duplicate setting \"demo\" (remove one of the two)",
    ),
    (
        "- a\n",
        "t.yaml:1:1: expected a map, found a list (write `NAME: VALUE` without a dash before it)",
    ),
    (
        "telemetry: 5\n",
        "t.yaml:1:12: telemetry: expected a map, found the number 5",
    ),
    (
        "policies: {watch: 'true'}\n",
        "t.yaml:1:19: policies.watch: expected true or false, found the text \"true\" (remove the \
             quotes)",
    ),
    (
        "policies: {watch: 0}\n",
        "t.yaml:1:19: policies.watch: expected true or false, found the number 0 (write false)",
    ),
    (
        "telemetry: {log: {level: warning}}\n",
        "t.yaml:1:26: telemetry.log.level: unknown value \"warning\" (did you mean \"warn\"?)",
    ),
    (
        "a: [\n",
        "t.yaml:2:1: not YAML: did not find expected node content, while parsing a flow node",
    ),
    (
        "threads: 1\n---\nthreads: 2\n",
        "t.yaml: a second document (settings are one: remove the `---`)",
    ),
    (
        "policies: {path: ''}\n",
        "settings: policies.path: is empty (name a policy file or a folder of them)",
    ),
    (
        "listen: {http: 'localhost:1', admin: 'localhost:1'}\n",
        "settings: listen.admin: localhost:1 is also listen.http",
    ),
];
