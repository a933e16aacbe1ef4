//! Every query of every panel and of every rule has data.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::bed::Bed;
use super::board::{dashboard, filled, labels, panels};
use super::promql::names;
use super::rules::rules;
use super::{PENDING, shipped};

/// Something that is asked, by whom, and the labels that its answer must have.
#[derive(Debug)]
struct Asked {
    who: String,
    expr: String,
    labels: Vec<String>,
}

#[tokio::test]
async fn a_real_prometheus_has_data_for_every_panel_and_every_rule() {
    let bed = Bed::start().await;
    let (prometheus, begun) = (&bed.prometheus, bed.prometheus.now().await);
    let load = bed.load(RATE).await;
    prometheus
        .sees(
            "both replicas to be scraped",
            r#"sum(up{job="tollgate"}) == 2"#,
        )
        .await;
    let decided = r#"min(tollgate_store_calls_total{operation="decide",result="ok"}) > 100"#;
    prometheus.sees("decisions in Redis", decided).await;
    outage(&bed).await;
    refused_reload(&bed).await;
    if let Some(file) = picture() {
        more_to_see(&bed, &load).await;
        draw(&bed, begun, file).await;
    }
    everything_has_data(&bed, begun).await;
    for (name, health) in prometheus.rules().await {
        assert_eq!(health, "ok", "{name}");
    }
    pending_has_none(&bed).await;
}

/// Redis freezes, is left alone, and comes back.
async fn outage(bed: &Bed) {
    let prometheus = &bed.prometheus;
    bed.redis.server.freeze();
    for (what, expr) in [
        (
            "breakers to open",
            r#"min by (instance) (tollgate_store_transitions_total{store="main",state="open"}) > 0"#,
        ),
        (
            "errors",
            r#"min by (instance) (tollgate_requests_refused_total{code="UNAVAILABLE"}) > 0"#,
        ),
        (
            "rules to be enforced by share",
            "tollgate_rule_enforcement == 0.5",
        ),
        ("rules not to be enforced", "tollgate_rule_enforcement == 0"),
    ] {
        prometheus.sees(what, expr).await;
    }
    bed.redis.server.thaw();
    prometheus
        .sees("the end of it", "absent(tollgate_rule_enforcement == 0.5)")
        .await;
}

/// Policies that make no sense are refused, and those that do are in force again later.
async fn refused_reload(bed: &Bed) {
    bed.break_policies();
    bed.prometheus
        .sees("policies to be refused", "tollgate_policy_refused == 1")
        .await;
    bed.mend_policies();
    bed.prometheus
        .sees(
            "policies to be accepted",
            "max(tollgate_policy_refused) == 0",
        )
        .await;
}

/// All at once, so that one run tells everything that is wrong.
async fn everything_has_data(bed: &Bed, begun: f64) {
    let mut open = asked();
    assert!(open.len() > 70, "only {} queries", open.len());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut still = Vec::new();
        for asked in open {
            let series = bed.prometheus.range(&asked.expr, begun).await;
            let right = series
                .iter()
                .all(|it| asked.labels.iter().all(|label| it.has_label(label)));
            if !right || !series.iter().any(|it| it.has_data()) {
                still.push(asked);
            }
        }
        if still.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            let lines: Vec<String> = still
                .iter()
                .map(|it| format!("{}: {}", it.who, it.expr))
                .collect();
            panic!(
                "no data, or without the labels that are shown:\n{}",
                lines.join("\n")
            );
        }
        open = still;
    }
}

/// What is not built yet is not there.
async fn pending_has_none(bed: &Bed) {
    for name in PENDING {
        let found = bed.prometheus.query(name).await;
        assert!(found.is_empty(), "{name} exists: take it from PENDING");
    }
}

/// Each query of a panel, and each rule, without what is pending.
fn asked() -> Vec<Asked> {
    let mut all = Vec::new();
    for panel in panels(&dashboard()) {
        for target in panel.targets() {
            all.push(Asked {
                who: panel.name.clone(),
                expr: filled(&target.expr),
                labels: target.legend,
            });
        }
    }
    for rule in rules() {
        let templates = rule.annotations.iter();
        let labels = templates
            .flat_map(|text| labels(text, "{{ $labels.", "}}"))
            .collect();
        all.push(Asked {
            expr: rule.input().to_owned(),
            who: rule.name,
            labels,
        });
    }
    let recorded_from_pending: Vec<String> = rules()
        .into_iter()
        .filter(|rule| !rule.alert && is_pending(&rule.expr, &[]))
        .map(|rule| rule.name)
        .collect();
    all.retain(|asked| !is_pending(&asked.expr, &recorded_from_pending));
    all
}

fn is_pending(expr: &str, recorded: &[String]) -> bool {
    let metrics = names(expr).selectors.into_iter().map(|(metric, _)| metric);
    metrics
        .into_iter()
        .any(|metric| PENDING.contains(&metric.as_str()) || recorded.contains(&metric))
}

/// A day in two minutes: more and less load, Redis slow, frozen and at last gone, another refused
/// reload.
async fn more_to_see(bed: &Bed, load: &super::load::Load) {
    let server = &bed.redis.server;
    for (rate, seconds) in [(RATE, 12), (2 * RATE, 12), (3 * RATE, 12), (RATE, 8)] {
        load.set(rate);
        pass(seconds).await;
    }
    for _ in 0..6 {
        server.cli(&["CLIENT", "PAUSE", "150", "ALL"]).await;
        pass(1).await;
    }
    pass(10).await;
    server.freeze();
    pass(9).await;
    server.thaw();
    pass(8).await;
    load.set(2 * RATE);
    refused_reload(bed).await;
    pass(8).await;
    // What is broken should show in the first row: the picture is taken meanwhile.
    server.kill();
    pass(8).await;
}

async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

/// The load goes on meanwhile.
async fn draw(bed: &Bed, begun: f64, file: PathBuf) {
    let (url, ended) = (bed.prometheus.url(), bed.prometheus.now().await);
    let mut command = Command::new(shipped("scripts/draw-dashboard"));
    command.args(["--prometheus", &url, "--start", &begun.to_string()]);
    command
        .args(["--end", &ended.to_string(), "--output"])
        .arg(file);
    let done = spawn_blocking(move || command.output()).await;
    let done = done.expect("no panic").expect("python3");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Where `make dashboard-picture` wants it.
#[expect(
    clippy::disallowed_methods,
    reason = "how `make dashboard-picture` tells the tests"
)]
fn picture() -> Option<PathBuf> {
    std::env::var("DASHBOARD_PICTURE").ok().map(PathBuf::from)
}

/// Calls a second of each replica.
const RATE: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(30);
