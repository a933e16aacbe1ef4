//! What is pushed where, by settings and by OpenTelemetry's variables.

use std::time::Duration;

use crate::config::Report;
use crate::config::settings::{Loaded, Overrides, Settings};
use crate::model::Sampler;
use crate::telemetry::otlp::{OtlpProtocol, PushConfig, Target};

fn try_load(file: &str, variables: &[(&str, &str)]) -> Result<Loaded, Report> {
    let variables = variables
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Settings::load(
        Some(("t.yaml", file.as_bytes())),
        variables,
        Overrides::default(),
    )
}

/// The settings, of which nothing is to be said.
fn load(file: &str, variables: &[(&str, &str)]) -> Settings {
    let loaded = try_load(file, variables).unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    loaded.settings
}

fn push(file: &str, variables: &[(&str, &str)]) -> Option<PushConfig> {
    load(file, variables).push()
}

/// Address and protocol of metrics and of traces.
fn targets(file: &str, variables: &[(&str, &str)]) -> [Option<(String, &'static str)>; 2] {
    let shown = |target: Option<Target>| {
        target.map(|target| (target.endpoint.to_string(), target.protocol.name()))
    };
    let push = push(file, variables);
    let (metrics, traces) = push.map_or((None, None), |push| (push.metrics, push.traces));
    [shown(metrics), shown(traces)]
}

fn to(endpoint: &str, protocol: &'static str) -> Option<(String, &'static str)> {
    Some((endpoint.to_owned(), protocol))
}

const SET: &str = "telemetry: {otlp_endpoint: 'http://set:4317'}\n";
const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:1");

#[test]
fn nothing_is_pushed_unless_something_says_where_to() {
    assert_eq!(push("", &[]), None);
    assert_eq!(push("", &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]), None);
    let ratio = try_load("telemetry: {traces: {ratio: 1}}\n", &[]).unwrap();
    assert_eq!(ratio.settings.push(), None);
    assert_eq!(ratio.settings.sampler(), None);
    let disabled = try_load(SET, &[("OTEL_SDK_DISABLED", "TRUE")]).unwrap();
    assert_eq!(disabled.settings.push(), None);
    assert_eq!(
        disabled.warnings.to_string(),
        "settings: warning: telemetry.otlp_endpoint: has no effect while OTEL_SDK_DISABLED is true \
         (unset that variable)"
    );
    assert!(push(SET, &[("OTEL_SDK_DISABLED", "false")]).is_some());
    assert!(push("", &[ENDPOINT]).is_some());
}

#[test]
fn a_setting_wins_then_a_signals_own_variable_then_that_of_all() {
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:2/x");
    assert_eq!(
        targets("", &[ENDPOINT]),
        [to("http://all:1/", "grpc"), to("http://all:1/", "grpc")]
    );
    assert_eq!(
        targets("", &[ENDPOINT, traces]),
        [to("http://all:1/", "grpc"), to("http://traces:2/x", "grpc")]
    );
    assert_eq!(
        targets("", &[traces]),
        [None, to("http://traces:2/x", "grpc")]
    );
    let set = to("http://set:4317/", "grpc");
    assert_eq!(targets(SET, &[ENDPOINT, traces]), [set.clone(), set]);
    // Where a variable of Tollgate's own wins over the file, as for every setting.
    let own = ("TOLLGATE_TELEMETRY__OTLP_ENDPOINT", "http://own:4317");
    let set = to("http://own:4317/", "grpc");
    assert_eq!(targets(SET, &[ENDPOINT, own]), [set.clone(), set]);
}

#[test]
fn over_http_each_signal_has_a_path_of_its_own_unless_it_is_named_itself() {
    let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/own");
    let protocol = "http/protobuf";
    assert_eq!(
        targets(
            "",
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1/base/"),
                http,
                own
            ]
        ),
        [
            to("http://c:1/base/v1/metrics", protocol),
            to("http://t:1/own", protocol)
        ]
    );
    // The standard port says as much.
    assert_eq!(
        targets("telemetry: {otlp_endpoint: 'https://c:4318'}\n", &[]),
        [
            to("https://c:4318/v1/metrics", protocol),
            to("https://c:4318/v1/traces", protocol)
        ]
    );
    let grpc = "telemetry: {otlp_endpoint: 'https://c:4318', otlp_protocol: grpc}\n";
    assert_eq!(targets(grpc, &[http])[0], to("https://c:4318/", "grpc"));
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf");
    let both = targets("", &[ENDPOINT, traces]);
    assert_eq!(both[1], to("http://all:1/v1/traces", protocol));
    assert_eq!(both[0], to("http://all:1/", "grpc"));
}

#[test]
fn a_signal_is_turned_off_or_asked_for_by_its_exporter() {
    assert_eq!(
        targets("", &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")])[1],
        None
    );
    assert_eq!(
        targets(SET, &[("OTEL_METRICS_EXPORTER", "prometheus")])[0],
        None
    );
    let asked = ("OTEL_TRACES_EXPORTER", "otlp");
    assert_eq!(
        targets("", &[asked]),
        [None, to("http://localhost:4317/", "grpc")]
    );
    let http = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    assert_eq!(
        targets("", &[asked, http])[1],
        to("http://localhost:4318/v1/traces", "http/protobuf")
    );
}

#[test]
fn what_it_says_of_itself_and_how_it_sends_is_as_the_variables_say() {
    let push = push(
        "",
        &[
            ENDPOINT,
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "Authorization=Bearer%20s3cret, x-a = 1",
            ),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-b=2"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/c.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "5000"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=x,deployment.environment=a%2Cb",
            ),
            ("OTEL_SERVICE_NAME", "limits"),
            ("OTEL_SOMETHING_ELSE", "1"),
        ],
    )
    .unwrap();
    let (metrics, traces) = (
        push.metrics.as_ref().unwrap(),
        push.traces.as_ref().unwrap(),
    );
    assert_eq!(metrics.headers.0["authorization"], "Bearer s3cret");
    assert_eq!(metrics.headers.0["x-a"], "1");
    assert_eq!(
        (traces.headers.0.len(), &traces.headers.0["x-b"]),
        (1, &"2".parse().unwrap())
    );
    assert_eq!(metrics.timeout, Duration::from_millis(250));
    assert_eq!(metrics.files.ca.as_deref(), Some("/ca.pem".as_ref()));
    let identity = Some(("/c.pem".into(), "/k.pem".into()));
    assert_eq!(metrics.files.identity, identity);
    assert_eq!(push.interval, Duration::from_secs(5));
    assert_eq!((push.spans.size, push.spans.batch), (10, 10));
    assert_eq!(push.spans.delay, Duration::from_millis(20));
    let said = [
        ("deployment.environment", "a,b"),
        ("service.name", "limits"),
    ];
    let said = said.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(push.resource, said);
    // Headers may hold secrets.
    assert!(!format!("{push:?}").contains("s3cret"));
}

#[test]
fn without_variables_it_is_called_tollgate_and_everything_has_its_default() {
    let push = push(SET, &[]).unwrap();
    assert_eq!(
        push.resource,
        [("service.name".to_owned(), "tollgate".to_owned())]
    );
    assert_eq!(push.interval, Duration::from_secs(60));
    let target = push.traces.unwrap();
    assert_eq!(target.timeout, Duration::from_secs(10));
    assert_eq!(target.protocol, OtlpProtocol::Grpc);
}

#[test]
fn the_sampler_follows_the_parent_and_takes_a_share_of_the_rest() {
    let sampler = |file: &str, name: &str, share: &str| {
        let variables = [
            ENDPOINT,
            ("OTEL_TRACES_SAMPLER", name),
            ("OTEL_TRACES_SAMPLER_ARG", share),
        ];
        load(file, &variables).sampler()
    };
    assert_eq!(sampler("", "", ""), Sampler::new(0.0, true));
    for (name, share, expected) in [
        ("always_on", "", Sampler::new(1.0, false)),
        ("always_off", "", None),
        ("traceidratio", "0.25", Sampler::new(0.25, false)),
        ("traceidratio", "", Sampler::new(1.0, false)),
        ("parentbased_always_on", "0.25", Sampler::new(1.0, true)),
        ("parentbased_always_off", "", Sampler::new(0.0, true)),
        ("parentbased_traceidratio", "0.5", Sampler::new(0.5, true)),
    ] {
        assert_eq!(sampler("", name, share), expected, "{name} {share}");
    }
    let set = "telemetry: {traces: {ratio: 0.125}}\n";
    assert_eq!(sampler(set, "always_on", ""), Sampler::new(0.125, true));
}

#[test]
fn what_is_wrong_in_a_variable_is_a_warning_and_as_good_as_none() {
    let loaded = try_load(
        "",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://user:pw@c:1"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "500"),
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "5"),
            ("OTEL_METRIC_EXPORT_TIMEOUT", "500"),
            ("OTEL_METRICS_EXPORTER", "console"),
            ("OTEL_PROPAGATORS", "b3,baggage"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
            ("OTEL_SDK_DISABLED", "maybe"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ],
    )
    .unwrap();
    assert_eq!(loaded.settings.push(), None);
    let said = loaded.warnings.to_string();
    let expected = [
        "OTEL_BSP_EXPORT_TIMEOUT: warning: has no effect: OTEL_EXPORTER_OTLP_TIMEOUT says how long \
         a push may take (it is ignored)",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: warning: goes with OTEL_EXPORTER_OTLP_CLIENT_KEY, \
         and one of them is missing (it is ignored)",
        "OTEL_EXPORTER_OTLP_COMPRESSION: warning: has no effect: nothing is compressed (it is ignored)",
        "OTEL_EXPORTER_OTLP_ENDPOINT: warning: not the address of an OTLP receiver: write \
         http://HOST:PORT or https://HOST:PORT (it is ignored)",
        "OTEL_EXPORTER_OTLP_HEADERS: warning: is not name=value,name=value (it is ignored)",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: warning: has no effect: metrics are \
         pushed as they are on /metrics, cumulative (it is ignored)",
        "OTEL_EXPORTER_OTLP_PROTOCOL: warning: \"http/json\" is neither grpc nor http/protobuf \
         (it is ignored)",
        "OTEL_EXPORTER_OTLP_TIMEOUT: warning: \"10s\" is no whole number of milliseconds from 1 to \
         86400000 (it is ignored)",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: warning: not the address of an OTLP receiver: a user \
         and a password do not belong in it (OTEL_EXPORTER_OTLP_HEADERS takes an Authorization \
         header) (it is ignored)",
        "OTEL_LOGS_EXPORTER: warning: has no effect: logs go to standard error, and are not pushed \
         (it is ignored)",
        "OTEL_METRICS_EXPORTER: warning: \"console\" is neither otlp nor none (it is ignored)",
        "OTEL_METRIC_EXPORT_INTERVAL: warning: \"5\" is no whole number of milliseconds from 100 \
         to 86400000 (it is ignored)",
        "OTEL_METRIC_EXPORT_TIMEOUT: warning: has no effect: OTEL_EXPORTER_OTLP_TIMEOUT says how \
         long a push may take (it is ignored)",
        "OTEL_PROPAGATORS: warning: has no effect: W3C's trace context (traceparent) is what is \
         read (it is ignored)",
        "OTEL_RESOURCE_ATTRIBUTES: warning: is not name=value,name=value (it is ignored)",
        "OTEL_SDK_DISABLED: warning: \"maybe\" is neither true nor false (it is ignored)",
        "OTEL_TRACES_SAMPLER: warning: \"jaeger_remote\" is no sampler that is known here \
         (always_on, always_off, traceidratio, and each with parentbased_ before it) (it is ignored)",
    ];
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn what_is_wrong_in_a_setting_is_an_error() {
    for (file, expected) in [
        (
            "telemetry: {otlp_endpoint: 'collector:4317'}\n",
            "t.yaml:1:28: telemetry.otlp_endpoint: not the address of an OTLP receiver: write \
             http://HOST:PORT or https://HOST:PORT",
        ),
        (
            "telemetry: {otlp_protocol: udp}\n",
            "t.yaml:1:28: telemetry.otlp_protocol: \"udp\" is neither grpc nor http/protobuf",
        ),
        (
            "telemetry: {traces: {ratio: 2}}\n",
            "t.yaml:1:29: telemetry.traces.ratio: expected a share from 0 to 1, such as 0.25, \
             found the number 2",
        ),
        (
            "domains: {shop: {decision_log: -0.5}}\n",
            "t.yaml:1:32: domains.shop.decision_log: expected a share from 0 to 1, such as 0.25, \
             found the number -0.5",
        ),
    ] {
        assert_eq!(try_load(file, &[]).unwrap_err().to_string(), expected);
    }
    let loaded = load("domains: {shop: {decision_log: 0.5}, cart: }\n", &[]);
    let logged: Vec<_> = loaded.decision_log().collect();
    assert_eq!(logged, [("shop".to_owned(), 0.5)]);
}
