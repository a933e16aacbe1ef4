use std::time::Duration;

use super::*;
use crate::alert::{Alert, Phase, Reading, State, Transition};
use crate::clock::Timestamp;
use crate::event::{
    BreakerState, CallEnd, FallbackReason, Operation, Outcome, QueryResult, StoreName,
};

fn telemetry() -> Telemetry {
    let noon = Timestamp::from_millis(1_700_000_000_500);
    Telemetry::new(Clock::manual(noon), DecidedBy::Memory).unwrap()
}

fn text(telemetry: &Telemetry) -> String {
    String::from_utf8(telemetry.render().unwrap()).unwrap()
}

/// The value of a series, named as it is written.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
        .map(|value| value.parse().unwrap())
}

const READINGS: Readings = Readings {
    live_keys: 1,
    key_limit: 2,
    expired: 3,
    overflow_decisions: 4,
    overflow_refunds: 5,
    overflow_refused: 8,
    log_overflows: 9,
    rules: 6,
    policies_refused: true,
    settings_refused: true,
    in_flight: 7,
    stores: [
        Some(StoreReading {
            state: BreakerState::HalfOpen,
            queue_length: 10,
            queue_limit: 40,
            queue_utilization: 0.75,
            local_time: Duration::from_millis(2_500),
        }),
        None,
    ],
};

const CALLED: StoreCalled<'static> = StoreCalled {
    store: StoreName::Main,
    operation: Operation::Decide,
    result: "ok",
    duration: Duration::from_micros(700),
    queries: 3,
    checks: 5,
    domains: &[0],
    traced: crate::event::TracedQueries {
        spans: &[],
        node: "",
        started: None,
    },
};

/// A service with two rules, of which one is only told.
struct Shop;

impl Observed for Shop {
    fn readings(&self) -> Readings {
        READINGS
    }

    fn policy_hash(&self) -> String {
        "f00d".to_owned()
    }

    fn enforcement(&self, each: &mut dyn FnMut(&str, &str, f64)) {
        each("shop", "user_id", 1.0);
        each("shop", "plan", 0.0);
    }
}

const FIRING: Reading = Reading {
    alert: Alert::ErrorRate,
    phase: Phase::Firing,
    value: Some(12.5),
    threshold: Some(5.0),
    since: None,
};

/// A decision that passes.
fn allowed(meter: u32) -> Decided<'static> {
    Decided {
        meter,
        label: None,
        outcome: Outcome::Allowed,
        by: DecidedBy::Memory,
        near_limit: 0,
        exceeded: None,
    }
}

/// One of everything has happened.
fn busy() -> Telemetry {
    let telemetry = telemetry();
    telemetry.observe(Shop);
    telemetry.reloaded(Reloaded { accepted: true });
    let meter = telemetry.rule("shop", "plan=gold,user_id");
    telemetry.decided(Decided {
        outcome: Outcome::Denied,
        near_limit: 3,
        ..allowed(meter)
    });
    telemetry.queried(Queried {
        domain: telemetry.domain("shop"),
        result: QueryResult::OverLimit,
    });
    telemetry.served(Served {
        duration: Duration::from_micros(700),
        ended: CallEnd::Answered,
    });
    telemetry.store_called(CALLED);
    telemetry.alerts().measured(&[FIRING]);
    telemetry
}

#[test]
fn every_metric_has_the_name_that_dashboards_use() {
    let text = text(&busy());
    let types: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter(|line| !line.starts_with("process_"))
        .collect();
    let mut expected: Vec<String> = instruments::ALL
        .iter()
        .map(|of| format!("{} {}", of.prometheus_name(), of.kind.name()))
        .collect();
    expected.sort_unstable();
    assert_eq!(types, expected);
    for instrument in instruments::ALL {
        let help = format!("# HELP {} ", instrument.prometheus_name());
        let line = text.lines().find(|line| line.starts_with(&help));
        assert!(
            line.is_some_and(|l| l.ends_with(instrument.help)),
            "{instrument:?}"
        );
    }
}

#[test]
fn every_metric_has_its_labels_and_value() {
    let text = text(&busy());
    for (series, expected) in [
        (
            "tollgate_decisions_total{domain=\"shop\",outcome=\"denied\",rule=\"plan=gold,user_id\",source=\"memory\"}",
            1.0,
        ),
        (
            "tollgate_near_limit_hits_total{domain=\"shop\",rule=\"plan=gold,user_id\"}",
            3.0,
        ),
        (
            "tollgate_requests_total{domain=\"shop\",result=\"over_limit\"}",
            1.0,
        ),
        ("tollgate_metric_series_overflow_total", 0.0),
        ("tollgate_policy_loaded_timestamp_seconds", 1_700_000_000.5),
        ("tollgate_policy_info{hash=\"f00d\"}", 1.0),
        ("tollgate_policy_refused", 1.0),
        (
            "tollgate_rule_enforcement{domain=\"shop\",rule=\"plan\"}",
            0.0,
        ),
        (
            "tollgate_rule_enforcement{domain=\"shop\",rule=\"user_id\"}",
            1.0,
        ),
        (
            "tollgate_store_batch_size_bucket{store=\"main\",le=\"4\"}",
            0.0,
        ),
        (
            "tollgate_store_batch_size_bucket{store=\"main\",le=\"8\"}",
            1.0,
        ),
        ("tollgate_settings_refused", 1.0),
        ("tollgate_policy_reloads_total{result=\"accepted\"}", 1.0),
        ("tollgate_policy_reloads_total{result=\"refused\"}", 0.0),
        ("tollgate_policy_rules", 6.0),
        ("tollgate_requests_in_flight", 7.0),
        ("tollgate_store_expired_total", 3.0),
        ("tollgate_store_key_limit", 2.0),
        ("tollgate_store_keys", 1.0),
        ("tollgate_store_overflow_decisions_total", 4.0),
        ("tollgate_store_overflow_refunds_total", 5.0),
        ("tollgate_store_overflow_refused_total", 8.0),
        ("tollgate_store_log_overflows_total", 9.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
}

#[test]
fn a_shared_store_that_there_is_tells_how_it_fares() {
    let telemetry = telemetry();
    telemetry.observe(|| READINGS);
    let text = text(&telemetry);
    for (series, expected) in [
        ("tollgate_queue_length{store=\"main\"}", 10.0),
        ("tollgate_queue_limit{store=\"main\"}", 40.0),
        ("tollgate_queue_utilization_ratio{store=\"main\"}", 0.75),
        (
            "tollgate_store_local_time_seconds_total{store=\"main\"}",
            2.5,
        ),
        ("tollgate_store_state{state=\"closed\",store=\"main\"}", 0.0),
        (
            "tollgate_store_state{state=\"half_open\",store=\"main\"}",
            1.0,
        ),
        ("tollgate_store_state{state=\"open\",store=\"main\"}", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
    for metric in ["tollgate_queue_length", "tollgate_store_state"] {
        let none = |line: &str| line.starts_with(metric) && line.contains("per_second");
        assert!(!text.lines().any(none), "{text}");
    }
}

#[test]
fn the_build_says_which_it_is() {
    let text = text(&telemetry());
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let line = text
        .lines()
        .find(|line| line.starts_with("tollgate_build_info{"))
        .unwrap();
    assert!(line.contains(&version) && line.ends_with(" 1"), "{line}");
}

#[test]
fn no_text_tells_of_the_library_that_made_it() {
    let text = text(&telemetry());
    assert!(
        !text.contains("otel_") && !text.contains("target_info"),
        "{text}"
    );
    assert!(!text.contains("shard="), "{text}");
}

#[test]
fn numbers_of_others_are_absent_until_they_can_be_read() {
    let telemetry = telemetry();
    assert!(!text(&telemetry).contains("tollgate_store_keys"));
    telemetry.observe(|| READINGS);
    telemetry.observe(Readings::default);
    assert_eq!(value(&text(&telemetry), "tollgate_store_keys"), Some(1.0));
}

#[test]
fn numbers_of_others_are_read_anew_each_time() {
    let telemetry = telemetry();
    let live = Arc::new(AtomicU64::new(1));
    let source = Arc::clone(&live);
    telemetry.observe(move || Readings {
        live_keys: source.load(Ordering::Relaxed),
        ..Readings::default()
    });
    assert_eq!(value(&text(&telemetry), "tollgate_store_keys"), Some(1.0));
    live.store(0, Ordering::Relaxed);
    assert_eq!(value(&text(&telemetry), "tollgate_store_keys"), Some(0.0));
}

#[test]
fn durations_of_all_threads_are_one_histogram() {
    let telemetry = telemetry();
    let empty = "tollgate_decision_duration_seconds_count";
    assert_eq!(value(&text(&telemetry), empty), Some(0.0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for micros in [10, 30, 20_000, 2_000_000] {
                    let duration = Duration::from_micros(micros);
                    telemetry.answered(Answered { duration });
                }
            });
        }
    });
    let text = text(&telemetry);
    for (series, expected) in [
        ("_bucket{le=\"0.000025\"}", 8.0),
        ("_bucket{le=\"0.00005\"}", 16.0),
        ("_bucket{le=\"0.015\"}", 16.0),
        ("_bucket{le=\"0.02\"}", 24.0),
        ("_bucket{le=\"1\"}", 24.0),
        ("_bucket{le=\"+Inf\"}", 32.0),
        ("_count", 32.0),
    ] {
        let series = format!("tollgate_decision_duration_seconds{series}");
        assert_eq!(value(&text, &series), Some(expected), "{series}\n{text}");
    }
    let sum = value(&text, "tollgate_decision_duration_seconds_sum").unwrap();
    assert!((sum - 16.160_32).abs() < 1e-9, "{sum}");
}

#[test]
fn calls_are_timed_by_how_they_ended() {
    let telemetry = telemetry();
    for ended in [
        CallEnd::Answered,
        CallEnd::Answered,
        CallEnd::Abandoned,
        CallEnd::Refused(Code::Unavailable),
    ] {
        let duration = Duration::from_millis(600);
        telemetry.served(Served { duration, ended });
    }
    let text = text(&telemetry);
    let method = "rpc_method=\"envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit\"";
    for (error, code, expected) in [
        ("", "OK", 2.0),
        ("error_type=\"CANCELLED\",", "CANCELLED", 1.0),
        ("error_type=\"UNAVAILABLE\",", "UNAVAILABLE", 1.0),
    ] {
        let series = format!(
            "rpc_server_call_duration_seconds_count{{{error}{method},\
             rpc_status_code=\"{code}\",rpc_system_name=\"grpc\"}}"
        );
        assert_eq!(value(&text, &series), Some(expected), "{series}\n{text}");
    }
}

#[test]
fn calls_to_the_shared_stores_are_counted_by_store_and_result() {
    let telemetry = telemetry();
    assert!(!text(&telemetry).contains("tollgate_store_calls_total{"));
    let timeout = StoreCalled {
        result: "timeout",
        duration: Duration::from_millis(12),
        ..CALLED
    };
    let per_second = StoreCalled {
        store: StoreName::PerSecond,
        queries: 1,
        checks: 1,
        ..CALLED
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for event in [CALLED, CALLED, timeout, per_second] {
                    telemetry.store_called(event);
                }
            });
        }
    });
    let text = text(&telemetry);
    for (series, expected) in [
        (
            "calls_total{operation=\"decide\",result=\"ok\",store=\"main\"}",
            8.0,
        ),
        (
            "calls_total{operation=\"decide\",result=\"timeout\",store=\"main\"}",
            4.0,
        ),
        (
            "calls_total{operation=\"decide\",result=\"ok\",store=\"per_second\"}",
            4.0,
        ),
        ("call_checks_total{store=\"main\"}", 60.0),
        ("call_checks_total{store=\"per_second\"}", 4.0),
        ("call_queries_total{store=\"main\"}", 36.0),
        ("call_queries_total{store=\"per_second\"}", 4.0),
    ] {
        let series = format!("tollgate_store_{series}");
        assert_eq!(value(&text, &series), Some(expected), "{series}\n{text}");
    }
    for (error, store, le, expected) in [
        ("", "main", "0.001", 8.0),
        ("error_type=\"timeout\",", "main", "0.01", 0.0),
        ("error_type=\"timeout\",", "main", "0.015", 4.0),
        ("", "per_second", "+Inf", 4.0),
    ] {
        let series = format!(
            "db_client_operation_duration_seconds_bucket{{db_operation_name=\"EVALSHA\",\
             db_stored_procedure_name=\"decide\",db_system_name=\"redis\",{error}\
             store=\"{store}\",le=\"{le}\"}}"
        );
        assert_eq!(value(&text, &series), Some(expected), "{series}\n{text}");
    }
    let missing =
        "tollgate_store_calls_total{operation=\"decide\",result=\"timeout\",store=\"per_second\"}";
    assert_eq!(value(&text, missing), None);
}

#[test]
fn what_goes_past_the_shared_stores_is_counted() {
    let telemetry = telemetry();
    for (reason, checks) in [
        (FallbackReason::Deadline, 2),
        (FallbackReason::Deadline, 3),
        (FallbackReason::QueueFull, 7),
    ] {
        telemetry.fell_back(FellBack { reason, checks });
    }
    for (store, state) in [
        (StoreName::Main, BreakerState::Open),
        (StoreName::Main, BreakerState::HalfOpen),
        (StoreName::Main, BreakerState::Open),
        (StoreName::PerSecond, BreakerState::Closed),
    ] {
        telemetry.store_changed(StoreChanged {
            store,
            node: "127.0.0.1:6379",
            state,
        });
    }
    telemetry.reconciled(Reconciled {
        charged: 40,
        dropped: 2,
    });
    let text = text(&telemetry);
    for (series, expected) in [
        ("fallbacks_total{reason=\"deadline\"}", 5.0),
        ("fallbacks_total{reason=\"queue_full\"}", 7.0),
        ("fallbacks_total{reason=\"breaker_open\"}", 0.0),
        ("fallbacks_total{reason=\"failed\"}", 0.0),
        ("fallbacks_total{reason=\"gone\"}", 0.0),
        ("transitions_total{state=\"open\",store=\"main\"}", 2.0),
        ("transitions_total{state=\"half_open\",store=\"main\"}", 1.0),
        ("transitions_total{state=\"closed\",store=\"main\"}", 0.0),
        (
            "transitions_total{state=\"closed\",store=\"per_second\"}",
            1.0,
        ),
        ("reconciled_total{result=\"charged\"}", 40.0),
        ("reconciled_total{result=\"dropped\"}", 2.0),
    ] {
        let series = format!("tollgate_store_{series}");
        assert_eq!(value(&text, &series), Some(expected), "{series}\n{text}");
    }
    assert!(!text.contains("6379"), "{text}");
}

#[test]
fn alerts_are_shown_while_they_are_watched_and_counted_for_good() {
    let telemetry = telemetry();
    let active = "tollgate_alert_active{alert=\"error_rate\",severity=\"critical\"}";
    let measured = "tollgate_alert_value{alert=\"error_rate\"}";
    assert_eq!(value(&text(&telemetry), active), None);
    let alerts = telemetry.alerts();
    for (phase, firing) in [
        (Phase::Firing, Some(1.0)),
        (Phase::Pending, Some(0.0)),
        (Phase::Off, None),
        (Phase::Ok, Some(0.0)),
    ] {
        alerts.measured(&[Reading { phase, ..FIRING }]);
        let text = text(&telemetry);
        assert_eq!(value(&text, active), firing, "{phase:?}");
        assert_eq!(value(&text, measured), firing.map(|_| 12.5), "{phase:?}");
    }
    alerts.changed(&Transition {
        alert: Alert::StoreDown,
        state: State::Resolved,
        value: 0.0,
        threshold: 10.0,
        store: None,
        at: Timestamp::from_millis(0),
    });
    alerts.notified(Notified::Failed, 2);
    alerts.notified(Notified::Dropped, 3);
    let text = text(&telemetry);
    for (series, expected) in [
        (
            "transitions_total{alert=\"store_down\",state=\"resolved\"}",
            1.0,
        ),
        (
            "transitions_total{alert=\"store_down\",state=\"firing\"}",
            0.0,
        ),
        ("notifications_total{result=\"ok\"}", 0.0),
        ("notifications_total{result=\"failed\"}", 2.0),
        ("notifications_total{result=\"dropped\"}", 3.0),
    ] {
        let series = format!("tollgate_alert_{series}");
        assert_eq!(value(&text, &series), Some(expected), "{series}\n{text}");
    }
}

#[test]
fn refused_policies_keep_the_time_of_those_in_force() {
    let telemetry = telemetry();
    let loaded = "tollgate_policy_loaded_timestamp_seconds";
    assert_eq!(value(&text(&telemetry), loaded), Some(0.0));
    telemetry.reloaded(Reloaded { accepted: true });
    telemetry
        .clock
        .set(Timestamp::from_millis(1_800_000_000_000));
    telemetry.reloaded(Reloaded { accepted: false });
    let text = text(&telemetry);
    assert_eq!(value(&text, loaded), Some(1_700_000_000.5));
    let refused = "tollgate_policy_reloads_total{result=\"refused\"}";
    assert_eq!(value(&text, refused), Some(1.0));
}

#[test]
fn ten_thousand_series_and_their_overflow_reach_the_text_and_sum_up() {
    let telemetry = telemetry();
    let mut all = 0;
    for rule in 0..2_600 {
        let meter = telemetry.rule("d", &format!("rule{rule}"));
        for outcome in &Outcome::ALL[..4] {
            telemetry.decided(Decided {
                outcome: *outcome,
                ..allowed(meter)
            });
            all += 1;
        }
    }
    for _ in 0..2 {
        let text = text(&telemetry);
        let series: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("tollgate_decisions_total{"))
            .collect();
        let sum: u64 = series
            .iter()
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(sum, all);
        let named = series.iter().filter(|l| !l.contains(decisions::OTHER));
        assert_eq!(named.count(), decisions::MAX_SERIES);
        let overflow = value(&text, "tollgate_metric_series_overflow_total");
        assert_eq!(overflow, Some(400.0));
    }
}

#[test]
fn odd_labels_stay_inside_their_quotes() {
    let telemetry = telemetry();
    let meter = telemetry.rule("d", "path");
    telemetry.decided(Decided {
        label: Some("a\"} 1\nb\\"),
        ..allowed(meter)
    });
    let text = text(&telemetry);
    let series = "tollgate_decisions_total{domain=\"d\",outcome=\"allowed\",rule=\"a\\\"} 1\\nb\\\\\",source=\"memory\"}";
    assert_eq!(value(&text, series), Some(1.0), "{text}");
}

#[test]
fn of_many_rules_the_first_are_shown_and_the_least_enforced_of_the_rest() {
    struct Many;
    impl Observed for Many {
        fn readings(&self) -> Readings {
            Readings::default()
        }

        fn enforcement(&self, each: &mut dyn FnMut(&str, &str, f64)) {
            for rule in 0..2_500 {
                let enforced = if rule == 2_345 { 0.5 } else { 1.0 };
                each("d", &format!("rule{rule}"), enforced);
            }
        }
    }
    let telemetry = telemetry();
    telemetry.observe(Many);
    let text = text(&telemetry);
    let shown = text
        .lines()
        .filter(|line| line.starts_with("tollgate_rule_enforcement{"));
    assert_eq!(shown.count(), 2_001);
    let rest = "tollgate_rule_enforcement{domain=\"(other)\",rule=\"(other)\"}";
    assert_eq!(value(&text, rest), Some(0.5));
}

#[test]
fn it_says_what_it_costs() {
    let text = text(&telemetry());
    assert!(value(&text, "process_resident_memory_bytes") > Some(0.0));
    let cpu = value(&text, "process_cpu_seconds_total").unwrap();
    assert!(cpu < 3_600.0, "{cpu}");
    // Longer than a hundredth of a second of work: it is told before a second is full.
    let mut last = cpu;
    let mut told = Vec::new();
    while told.len() < 3 {
        let now = value(&self::text(&telemetry()), "process_cpu_seconds_total").unwrap();
        if now > last {
            told.push(now - last);
            last = now;
        }
    }
    assert!(told.iter().any(|step| *step < 0.9), "{told:?}");
}
