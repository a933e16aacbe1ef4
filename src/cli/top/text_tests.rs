//! How a board reads.

use super::board::{Alert, Board, Rates, Replica, Row};
use super::text::{Look, ago, lines, text, time};
use crate::admin::top::{TopEntry, TopReport, TopRule};

const NOON: u64 = 1_795_521_600_000;

fn row(domain: &str, requests: f64, failures: f64) -> Row {
    Row {
        domain: domain.to_owned(),
        seen_ms: NOON,
        per_second: Some(Rates {
            requests,
            allowed: requests - 1.0,
            denied: 1.0,
            errors: 0.0,
            batches: 2.5,
            batch_failures: failures,
        }),
        without_store: Some(0.125),
        totals: [("requests", 12_345)].into(),
    }
}

fn board() -> Board {
    Board {
        at_ms: NOON,
        prefix: Some("tollgate".to_owned()),
        seconds: Some(10.04),
        all: row("", 25.0, 0.5),
        domains: vec![
            row("a-domain-with-a-very-long-name", 20.0, 0.0),
            row("sh\x1b[31mop", 5.0, 0.5),
        ],
        replicas: vec![
            Replica {
                replica: "a1".to_owned(),
                store: "main",
                breaker: "closed".to_owned(),
                since_ms: Some(NOON - 3_725_000),
                seen_ms: NOON - 450,
            },
            Replica {
                replica: "a1".to_owned(),
                store: "per_second",
                breaker: "open".to_owned(),
                since_ms: None,
                seen_ms: NOON + 5,
            },
        ],
        alerts: vec![Alert {
            at_ms: NOON - 90_000,
            alert: "store_down".to_owned(),
            state: "firing".to_owned(),
            severity: "critical".to_owned(),
            value: "10.123".to_owned(),
            threshold: "10".to_owned(),
            replica: "a1".to_owned(),
        }],
        top: Some(TopReport {
            seconds: 96,
            keys: vec![TopEntry {
                domain: "shop".to_owned(),
                rule: "user".to_owned(),
                key: "{shop|user=ann}:window:60s".to_owned(),
                times: 9,
                at_least: 7,
            }],
            overflowing: vec![TopRule {
                domain: "shop".to_owned(),
                rule: "path".to_owned(),
            }],
        }),
        problems: vec!["10.0.0.7:6070: cannot be reached".to_owned()],
    }
}

#[test]
fn a_board_reads_well() {
    let expected = "\
tollgate top  2026-11-24T12:00:00Z  prefix tollgate  1 replica  rates of 10.0 s
! 10.0.0.7:6070: cannot be reached

DOMAIN                    requests/s   allowed/s   denied/s  errors/s no store  batches/s  failed/s       requests
a-domain-with-a-very-lo~        20.0        19.0        1.0       0.0    12.5%        2.5       0.0          12345
sh\\u001b[31mop                   5.0         4.0        1.0       0.0    12.5%        2.5       0.5          12345
all                             25.0        24.0        1.0       0.0    12.5%        2.5       0.5          12345

REPLICA                  STORE       BREAKER    SINCE        SEEN
a1                       main        closed     1 h 2 m      0.4 s ago
a1                       per_second  open       -            0.0 s ago

ALERTS, the newest first
2026-11-24T11:58:30Z  firing   store_down     critical 10.12 (threshold 10)  replica a1

TOP LIMITED KEYS, how often in the last 96 s, of the replicas that were asked
          7 to 9  shop user                         {shop|user=ann}:window:60s

RULES WITH MORE KEYS THAN store.memory.max_keys HAS ROOM FOR
shop path
";
    assert_eq!(text(&board()), expected);
    let bad = lines(&board())
        .into_iter()
        .filter(|line| line.look == Look::Bad);
    let bad: Vec<String> = bad
        .map(|line| line.text.chars().take(2).collect())
        .collect();
    assert_eq!(bad, ["! ", "sh", "al", "a1", "20", "sh"]);
}

#[test]
fn a_board_without_a_fleet_says_so() {
    let empty = Board {
        at_ms: NOON,
        prefix: Some("p".to_owned()),
        ..Board::default()
    };
    let text = text(&empty);
    for part in [
        "prefix p  0 replicas  rates follow",
        "none has been asked for yet",
        "none lives",
        "none in the last day",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let keys_only = Board {
        top: Some(TopReport {
            seconds: 60,
            keys: Vec::new(),
            overflowing: Vec::new(),
        }),
        ..Board::default()
    };
    let text = self::text(&keys_only);
    assert!(
        !text.contains("REPLICA") && text.contains("TOP LIMITED KEYS"),
        "{text}"
    );
}

#[test]
fn times_long_ago_are_short_and_those_ahead_are_now() {
    let now = NOON;
    for (before, text) in [
        (950, "0.9 s"),
        (59_000, "59 s"),
        (61_000, "1 m 1 s"),
        (7_260_000, "2 h 1 m"),
        (90_000_000, "1 d 1 h"),
    ] {
        assert_eq!(ago(now - before, now), text);
    }
    assert_eq!(ago(now + 1, now), "0.0 s");
    assert_eq!(time(u64::MAX), "9999-12-31T23:59:59Z");
}
