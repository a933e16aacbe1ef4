//! Without Redis each Tollgate enforces its share: what do all of them admit?

use std::collections::{BTreeMap, BTreeSet};

use super::bed::{fleet, watch};
use super::pressure::{Calls, Pressure};
use super::run::passes;
use super::{Length, alone, report};
use crate::harness::{descriptor, request};
use crate::process::until;
use crate::topology::{Flavour, Single, Topology, every_key_expires};

#[tokio::test]
async fn an_outage_admits_no_more_than_its_bound() {
    let _alone = alone().await;
    let length = Length::chosen();
    let redis = Single::start(Flavour::Redis7).await;
    let fleet = fleet(FLEET, Some(&redis.url()), SETTINGS, &policy()).await;
    let watch = watch(&fleet);
    let ask = request("it", &[descriptor(&[("fire", "one")])]);
    let pressure = Pressure::start(&fleet, CONNECTIONS, &ask).await;
    let begun = until("a first verdict", || {
        let latest = pressure.latest();
        (latest > 0).then_some(latest)
    })
    .await;
    until("two windows to pass", || {
        (pressure.latest() >= begun + 2 * WINDOW).then_some(())
    })
    .await;

    redis.server.kill();
    passes(length.outage).await;
    redis.server.restart().await;
    let back = tokio::time::Instant::now();
    until("all to use Redis again", || {
        watch.shared_after(back).then_some(())
    })
    .await;
    let shared = pressure.latest();
    until("two windows to pass", || {
        (pressure.latest() >= shared + 2 * WINDOW).then_some(())
    })
    .await;
    let windows = windows(&pressure.stop().await);
    watch.stop();

    let rows: Vec<_> = windows.values().map(Window::row).collect();
    report::table(HEADER, &rows);
    let broken: Vec<_> = windows
        .values()
        .filter(|window| window.is_broken())
        .collect();
    assert!(broken.is_empty(), "{broken:?}");
    let local = windows.values().filter(|window| window.is(&["local"]));
    assert!(local.count() >= 2, "the outage was not felt: {windows:?}");
    every_key_expires(&redis).await;
}

/// What was decided in one window.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    admitted: u64,
    /// Who decided anything in it, denials included.
    sources: BTreeSet<String>,
}

impl Window {
    /// The limit; twice that if some shared their counts in it and others did not.
    fn bound(&self) -> u64 {
        let mixed = self.sources.contains("local") && self.sources.len() > 1;
        if mixed { 2 * LIMIT } else { LIMIT }
    }

    fn is_broken(&self) -> bool {
        self.admitted > self.bound()
    }

    fn is(&self, sources: &[&str]) -> bool {
        self.sources.iter().eq(sources)
    }

    fn row(&self) -> String {
        let sources: Vec<_> = self.sources.iter().map(String::as_str).collect();
        let (admitted, bound) = (self.admitted, self.bound());
        format!(
            "| {} | {} | {admitted} | {bound} |",
            self.start,
            sources.join(" and ")
        )
    }
}

fn windows(calls: &[Calls]) -> BTreeMap<u64, Window> {
    let mut windows = BTreeMap::<u64, Window>::new();
    for calls in calls {
        assert!(calls.broke.is_none(), "{:?}", calls.broke);
        for answer in &calls.answers {
            let [stamp] = &answer.stamps[..] else {
                panic!("not one verdict: {answer:?}");
            };
            let start = stamp.at - stamp.at % WINDOW;
            let window = windows.entry(start).or_default();
            window.start = start;
            window.admitted += u64::from(answer.admitted);
            window.sources.insert(stamp.source.clone());
        }
    }
    windows
}

fn policy() -> String {
    format!(
        "domain: it\ndescriptors:\n  - key: fire\n    \
         rate_limit: {{ requests_per_unit: {LIMIT}, unit: second }}\n"
    )
}

const SETTINGS: &str = "fleet: { replicas: 3 }\nresponse: { verdicts: true }\n";
const FLEET: usize = 3;
/// To each.
const CONNECTIONS: usize = 4;
const LIMIT: u64 = 100;
const WINDOW: u64 = 1_000;
const HEADER: &str = "| outage: window from | decided by | admitted | bound |";

#[test]
fn a_window_in_which_only_some_shared_may_hold_twice_the_limit() {
    let window = |admitted, sources: &[&str]| Window {
        start: 0,
        admitted,
        sources: sources.iter().map(|&source| source.to_owned()).collect(),
    };
    for sources in [&["local"][..], &["store"], &["deny_cache", "store"]] {
        assert!(!window(100, sources).is_broken());
        assert!(window(101, sources).is_broken());
    }
    assert!(!window(200, &["local", "store"]).is_broken());
    assert!(window(201, &["local", "store"]).is_broken());
}
