//! The board as lines of text.

use std::fmt::Write;
use std::time::Duration;

use super::board::{Alert, Board, Replica, Row};
use crate::admin::top::{TopEntry, TopRule};
use crate::model::one_line;

/// A line, and how it looks where that can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) look: Look,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Bad,
    Heading,
    Plain,
}

/// Every line. Control characters of names from outside are escaped.
pub(super) fn lines(board: &Board) -> Vec<Line> {
    let mut page = Page::default();
    page.title(board);
    for problem in &board.problems {
        page.add(Look::Bad, format!("! {problem}"));
    }
    if board.prefix.is_some() {
        page.domains(board);
        page.replicas(board);
        page.alerts(board);
    }
    if let Some(top) = &board.top {
        page.blank();
        page.heading(format!(
            "TOP LIMITED KEYS, how often in the last {} s, of the replicas that were asked",
            top.seconds
        ));
        if top.keys.is_empty() {
            page.plain("none".to_owned());
        }
        top.keys.iter().for_each(|entry| page.key(entry));
        page.overflowing(&top.overflowing);
    }
    page.0
}

/// The board as text.
pub(super) fn text(board: &Board) -> String {
    let mut text = String::new();
    for line in lines(board) {
        text.push_str(&line.text);
        text.push('\n');
    }
    text
}

#[derive(Default)]
struct Page(Vec<Line>);

impl Page {
    fn overflowing(&mut self, rules: &[TopRule]) {
        if rules.is_empty() {
            return;
        }
        self.blank();
        self.heading("RULES WITH MORE KEYS THAN store.memory.max_keys HAS ROOM FOR".to_owned());
        for TopRule { domain, rule } in rules {
            self.add(Look::Bad, format!("{domain} {rule}"));
        }
    }

    fn title(&mut self, board: &Board) {
        let mut title = format!("tollgate top  {}", time(board.at_ms));
        if let Some(prefix) = &board.prefix {
            let mut replicas: Vec<&str> = board
                .replicas
                .iter()
                .map(|replica| &*replica.replica)
                .collect();
            replicas.dedup();
            let count = super::super::count(replicas.len(), "replica");
            append(&mut title, format_args!("  prefix {prefix}  {count}"));
            match board.seconds {
                Some(seconds) => append(&mut title, format_args!("  rates of {seconds:.1} s")),
                None => title.push_str("  rates follow"),
            }
        }
        self.heading(title);
    }

    fn domains(&mut self, board: &Board) {
        self.blank();
        self.heading(format!(
            "{:<24} {:>11} {:>11} {:>10} {:>9} {:>8} {:>10} {:>9} {:>14}",
            "DOMAIN",
            "requests/s",
            "allowed/s",
            "denied/s",
            "errors/s",
            "no store",
            "batches/s",
            "failed/s",
            "requests"
        ));
        if board.domains.is_empty() {
            self.plain("none has been asked for yet".to_owned());
            return;
        }
        for row in &board.domains {
            self.row(row, &row.domain);
        }
        if board.domains.len() > 1 {
            self.row(&board.all, "all");
        }
    }

    fn row(&mut self, row: &Row, name: &str) {
        let rate = |rate: fn(&super::board::Rates) -> f64| match &row.per_second {
            Some(rates) => format!("{:.1}", rate(rates)),
            None => "-".to_owned(),
        };
        let share = match row.without_store {
            Some(share) => format!("{:.1}%", share * 100.0),
            None => "-".to_owned(),
        };
        let requests = row.totals.get("requests").copied().unwrap_or(0);
        let has_trouble =
            (row.per_second).is_some_and(|rates| rates.errors > 0.0 || rates.batch_failures > 0.0);
        let look = if has_trouble { Look::Bad } else { Look::Plain };
        let text = format!(
            "{:<24} {:>11} {:>11} {:>10} {:>9} {:>8} {:>10} {:>9} {:>14}",
            clipped(name, 24),
            rate(|rates| rates.requests),
            rate(|rates| rates.allowed),
            rate(|rates| rates.denied),
            rate(|rates| rates.errors),
            share,
            rate(|rates| rates.batches),
            rate(|rates| rates.batch_failures),
            requests
        );
        self.add(look, text);
    }

    fn replicas(&mut self, board: &Board) {
        self.blank();
        self.heading(format!(
            "{:<24} {:<11} {:<10} {:<12} {}",
            "REPLICA", "STORE", "BREAKER", "SINCE", "SEEN"
        ));
        if board.replicas.is_empty() {
            self.plain("none lives".to_owned());
        }
        for replica in &board.replicas {
            self.replica(replica, board.at_ms);
        }
    }

    fn replica(&mut self, replica: &Replica, now: u64) {
        let look = match &*replica.breaker {
            "closed" => Look::Plain,
            _ => Look::Bad,
        };
        let since = replica
            .since_ms
            .map_or_else(|| "-".to_owned(), |at| ago(at, now));
        let text = format!(
            "{:<24} {:<11} {:<10} {:<12} {} ago",
            clipped(&replica.replica, 24),
            replica.store,
            clipped(&replica.breaker, 10),
            since,
            ago(replica.seen_ms, now)
        );
        self.add(look, text);
    }

    fn alerts(&mut self, board: &Board) {
        self.blank();
        self.heading("ALERTS, the newest first".to_owned());
        if board.alerts.is_empty() {
            self.plain("none in the last day".to_owned());
        }
        for alert in board.alerts.iter().take(MOST_ALERTS) {
            self.alert(alert);
        }
    }

    fn alert(&mut self, alert: &Alert) {
        let look = match &*alert.state {
            "firing" => Look::Bad,
            _ => Look::Plain,
        };
        let text = format!(
            "{}  {:<8} {:<14} {:<8} {} (threshold {})  replica {}",
            time(alert.at_ms),
            alert.state,
            alert.alert,
            alert.severity,
            short(&alert.value),
            short(&alert.threshold),
            alert.replica
        );
        self.add(look, text);
    }

    fn key(&mut self, entry: &TopEntry) {
        let times = match entry.times == entry.at_least {
            true => entry.times.to_string(),
            false => format!("{} to {}", entry.at_least, entry.times),
        };
        let rule = format!("{} {}", entry.domain, entry.rule);
        self.plain(format!("{times:>16}  {rule:<32}  {}", entry.key));
    }

    fn blank(&mut self) {
        self.plain(String::new());
    }

    fn plain(&mut self, text: String) {
        self.add(Look::Plain, text);
    }

    fn heading(&mut self, text: String) {
        self.add(Look::Heading, text);
    }

    fn add(&mut self, look: Look, text: String) {
        let text = one_line(text.trim_end()).into_owned();
        self.0.push(Line { text, look });
    }
}

/// How long ago, in the two largest units.
pub(super) fn ago(at: u64, now: u64) -> String {
    // Clocks differ a little.
    let passed = now.saturating_sub(at);
    let seconds = passed / 1_000;
    match seconds {
        0..10 => format!("{seconds}.{} s", passed % 1_000 / 100),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// The day and the time, in UTC.
pub(super) fn time(at_ms: u64) -> String {
    let at = std::time::UNIX_EPOCH.checked_add(Duration::from_secs(at_ms / 1_000));
    let last = "9999-12-31T23:59:59Z".to_owned();
    match at {
        // Later ones cannot be written.
        Some(at) if at_ms < 253_402_300_800_000 => {
            humantime::format_rfc3339_seconds(at).to_string()
        }
        _ => last,
    }
}

/// A measured number, not longer than anybody reads.
fn short(number: &str) -> String {
    match number.parse::<f64>() {
        Ok(number) if number.fract().abs() > 0.0 => format!("{number:.2}"),
        _ => number.to_owned(),
    }
}

fn clipped(text: &str, width: usize) -> String {
    // First, since what is escaped takes more room.
    let text = one_line(text);
    match text.char_indices().nth(width) {
        None => text.into_owned(),
        Some(_) => {
            let kept: String = text.chars().take(width.saturating_sub(1)).collect();
            format!("{kept}~")
        }
    }
}

fn append(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a text does not fail.
    let _written = text.write_fmt(more);
}

/// Alerts that have room.
const MOST_ALERTS: usize = 10;
