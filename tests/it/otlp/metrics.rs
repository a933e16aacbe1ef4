//! Every metric arrives, as `/metrics` has it, over both protocols.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint};
use tollgate::app::Control;
use tollgate::telemetry::instruments::{ALL, Instrument, Kind};

use super::POLICY;
use super::receiver::{Receiver, texts};
use crate::envoy::bed::{TOLLGATE, Tollgate};
use crate::harness::{Harness, within};
use crate::process::until;
use crate::topology::{Flavour, Single, Topology};

/// A Tollgate on Redis that pushes to `endpoint`. Redis decides every call, however busy the machine
/// is.
fn settings(redis: &Single, (endpoint, protocol): &(String, &str)) -> String {
    format!(
        "store: {{kind: redis, redis: {{url: '{}'}}}}\nshutdown: {{drain_delay: 0s}}\n\
         deadline: {{store: 5s}}\n\
         telemetry: {{otlp_endpoint: '{endpoint}', otlp_protocol: {protocol}}}\n",
        redis.url()
    )
}

/// A series as both name it: the metric's name and its labels as Prometheus writes them.
type Series = (String, BTreeMap<String, String>);

#[tokio::test]
async fn every_metric_that_has_data_arrives_over_both_protocols() {
    let redis = Single::start(Flavour::Redis7).await;
    let receiver = Receiver::start().await;
    for endpoint in receiver.endpoints() {
        let before = receiver.pushes().len();
        let settings = settings(&redis, &endpoint);
        let harness = Harness::start(&[("p.yaml", POLICY)], &settings)
            .await
            .unwrap();
        let mut client = harness.client().await;
        for user in 0..20 {
            let user = user.to_string();
            client.code("shop", &[("plan", &user)]).await;
            client.code("elsewhere", &[("user_id", &user)]).await;
        }
        drop(client);
        let scraped = scraped(&harness.get("/metrics").await.1);
        harness.tell(Control::Stop).await;
        harness.ended().await;
        let pushes = receiver.pushes();
        let push = pushes.last().unwrap();
        assert_eq!(pushes.len(), before + 1, "the last words of {endpoint:?}");
        let pushed: BTreeMap<Series, f64> = push.metrics.iter().flat_map(series).collect();
        let names = |all: &BTreeMap<Series, f64>| -> BTreeSet<Series> {
            all.keys()
                .filter(|(name, _)| is_ours(name))
                .cloned()
                .collect()
        };
        let missing: Vec<_> = names(&scraped)
            .difference(&names(&pushed))
            .cloned()
            .collect();
        assert!(missing.is_empty(), "{endpoint:?} lacks {missing:#?}");
        for (name, labels) in [
            ("tollgate_decision_duration_seconds_count", vec![]),
            (
                "tollgate_requests_total",
                vec![("domain", "shop"), ("result", "ok")],
            ),
            (
                "tollgate_decisions_total",
                vec![
                    ("domain", "shop"),
                    ("outcome", "allowed"),
                    ("rule", "plan=7"),
                    ("source", "store"),
                ],
            ),
        ] {
            let labels = labels
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()));
            let series = (name.to_owned(), labels.collect());
            assert_eq!(pushed.get(&series), scraped.get(&series), "{series:?}");
            assert!(pushed.contains_key(&series), "{series:?}");
        }
        let stores = push.metrics.iter();
        let stores = stores.filter(|metric| metric.name == "db.client.operation.duration");
        assert_eq!(stores.count(), 1);
    }
}

#[tokio::test]
async fn pushes_follow_each_other_as_opentelemetrys_variables_say() {
    let receiver = Receiver::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), POLICY).unwrap();
    let mut command = Command::new(TOLLGATE);
    command.arg("serve").arg("--policies").arg(folder.path());
    for (name, value) in [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://{}", receiver.grpc),
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20s3cret".to_owned(),
        ),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned()),
        ("OTEL_SERVICE_NAME", "limits".to_owned()),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test".to_owned(),
        ),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip".to_owned()),
    ] {
        command.env(name, value);
    }
    let tollgate = Tollgate::run(command, ([127, 0, 0, 1], 0).into(), folder).await;
    until("three pushes", || {
        (receiver.pushes().len() >= 3).then_some(())
    })
    .await;
    let pushes = receiver.pushes();
    for push in &pushes {
        assert_eq!(push.resource["service.name"], "limits");
        assert_eq!(push.resource["deployment.environment.name"], "test");
        assert_eq!(push.resource["service.version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(push.headers["authorization"], "Bearer s3cret");
        let instance = |push: &super::receiver::Push| push.resource["service.instance.id"].clone();
        assert_eq!(instance(push), instance(&pushes[0]));
    }
    // What is not done is said.
    assert!(
        tollgate
            .process
            .said("OTEL_EXPORTER_OTLP_COMPRESSION: warning: has no effect")
    );
    assert!(!tollgate.process.said("s3cret"));
}

#[tokio::test]
async fn a_receiver_that_comes_late_gets_it_all_and_that_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), POLICY).unwrap();
    let mut command = Command::new(TOLLGATE);
    command.arg("serve").arg("--policies").arg(folder.path());
    let late = Receiver::start().await;
    // Nobody is there: what listens there speaks HTTP/1 only.
    command.env(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        format!("http://{}", late.http),
    );
    command.env("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf");
    command.env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    command.env("OTEL_METRIC_EXPORT_INTERVAL", "100");
    command.env("OTEL_TRACES_SAMPLER", "always_on");
    let mut tollgate = Tollgate::run(command, ([127, 0, 0, 1], 0).into(), folder).await;
    let mut client = crate::harness::Client::connect(&tollgate.grpc.to_string()).await;
    within(client.code("shop", &[("plan", "gold")])).await;
    until("a push of metrics", || {
        (!late.pushes().is_empty()).then_some(())
    })
    .await;
    tollgate
        .process
        .line("that spans are not taken", |line| {
            (line.contains("otlp receiver unavailable") && line.contains("spans")).then_some(())
        })
        .await;
}

/// Whether a name of Prometheus is one of ours.
fn is_ours(name: &str) -> bool {
    ALL.iter()
        .any(|instrument| name.starts_with(&instrument.prometheus_name()))
}

/// What Prometheus would read.
fn scraped(text: &str) -> BTreeMap<Series, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            if name.ends_with("_bucket") {
                return None;
            }
            let labels = labels.trim_end_matches('}').split("\",");
            let labels = labels
                .filter_map(|label| label.split_once("=\""))
                .map(|(key, value)| (key.to_owned(), value.trim_end_matches('"').to_owned()));
            Some(((name.to_owned(), labels.collect()), value.parse().unwrap()))
        })
        .collect()
}

/// The series of a metric, named as Prometheus would have them.
fn series(metric: &Metric) -> Vec<(Series, f64)> {
    let instrument: &Instrument = ALL
        .iter()
        .find(|instrument| instrument.name == metric.name)
        .unwrap_or_else(|| panic!("{} is not listed", metric.name));
    assert_eq!(metric.unit, instrument.unit, "{}", metric.name);
    assert_eq!(metric.description, instrument.help, "{}", metric.name);
    let name = instrument.prometheus_name();
    let labels = |attributes: &[KeyValue]| -> BTreeMap<String, String> {
        let texts = texts(attributes).into_iter();
        texts
            .map(|(key, value)| (key.replace('.', "_"), value))
            .collect()
    };
    let points = |points: &[NumberDataPoint]| -> Vec<(Series, f64)> {
        let point = |point: &NumberDataPoint| {
            let value = match point.value.unwrap() {
                Value::AsDouble(value) => value,
                Value::AsInt(value) => f64::from(i32::try_from(value).unwrap()),
            };
            ((name.clone(), labels(&point.attributes)), value)
        };
        points.iter().map(point).collect()
    };
    match (metric.data.as_ref().unwrap(), instrument.kind) {
        (Data::Sum(sum), Kind::Counter) => {
            assert!(sum.is_monotonic);
            assert_eq!(sum.aggregation_temporality, CUMULATIVE);
            points(&sum.data_points)
        }
        (Data::Gauge(gauge), Kind::Gauge) => points(&gauge.data_points),
        (Data::Histogram(histogram), Kind::Histogram) => {
            assert_eq!(histogram.aggregation_temporality, CUMULATIVE);
            let mut all = Vec::new();
            for point in &histogram.data_points {
                let labels = labels(&point.attributes);
                assert!(!labels.contains_key("shard"), "{labels:?}");
                let count = f64::from(u32::try_from(point.count).unwrap());
                let buckets: u64 = point.bucket_counts.iter().sum();
                assert_eq!(buckets, point.count);
                assert!(point.start_time_unix_nano > 0);
                all.push(((format!("{name}_count"), labels.clone()), count));
                all.push(((format!("{name}_sum"), labels), point.sum.unwrap()));
            }
            let distinct: BTreeSet<_> = all.iter().map(|(series, _)| series).collect();
            assert_eq!(distinct.len(), all.len(), "{all:?}");
            all
        }
        (data, kind) => panic!("{} is no {kind:?}: {data:?}", metric.name),
    }
}

const CUMULATIVE: i32 = 2;
