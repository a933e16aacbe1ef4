//! Every query of every panel and of every rule has data.

use std::time::Duration;

use tokio::time::Instant;

use super::bed::Bed;
use super::board::{dashboard, filled, labels, panels};
use super::picture;
use super::rules::rules;

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
    abandoned(&bed).await;
    refused_reload(&bed).await;
    if let Some(file) = picture::wanted() {
        picture::more_to_see(&bed, &load).await;
        picture::draw(&bed, begun, file).await;
    }
    everything_has_data(&bed, begun).await;
    for (name, health) in prometheus.rules().await {
        assert_eq!(health, "ok", "{name}");
    }
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

/// Callers go before they are answered.
async fn abandoned(bed: &Bed) {
    let gone = r#"rpc_server_call_duration_seconds_count{rpc_status_code="CANCELLED"} > 0"#;
    let deadline = Instant::now() + PATIENCE;
    while bed.prometheus.query(gone).await.len() < 2 {
        assert!(Instant::now() < deadline, "calls are told as abandoned");
        bed.go_away_in_the_middle().await;
    }
}

/// Policies that make no sense are refused, and those that do are in force again later.
pub(super) async fn refused_reload(bed: &Bed) {
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

/// Each query of a panel, and each rule.
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
    all
}

/// Calls a second of each replica.
pub(super) const RATE: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(30);
