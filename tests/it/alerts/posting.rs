//! Alertmanagers that are not well, and those beside them that are.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tollgate::app::Control;

use super::bed::{Bed, until};
use super::receiver::Receiver;
use crate::harness::{ClosedPort, descriptor, request};

const PATH: &str = "/api/v2/alerts";

/// Fires as soon as thirty calls were refused.
const AT_ONCE: &str = "window: 1h, for: 0s, keep_firing_for: 0s";

async fn posting_to(urls: &[String]) -> Bed {
    Bed::in_memory(&settings(urls, "")).await
}

fn settings(urls: &[String], more: &str) -> String {
    format!("{AT_ONCE}, {more}alertmanager_url: '{}'", urls.join(","))
}

async fn notifications(bed: &Bed, result: &str) -> u64 {
    let series = format!("tollgate_alert_notifications_total{{result=\"{result}\"}}");
    bed.count(&series).await
}

/// Switches the alert off or on again, which ends it or lets it fire.
async fn switch(bed: &Bed, urls: &[String], on: bool) {
    let more = if on { "" } else { "error_rate: off, " };
    let settings = settings(urls, more);
    bed.harness
        .write_settings(&format!("threads: 1\nalerts: {{{settings}}}\n"));
    bed.harness.tell(Control::Reload).await;
    until("it is switched", async || {
        bed.fires("error_rate").await == on
    })
    .await;
}

#[tokio::test]
async fn what_fires_and_ends_is_posted_once_each_also_after_it_was_refused() {
    let receiver = Receiver::start().await;
    receiver.refuse(2);
    let urls = [receiver.url()];
    let bed = posting_to(&urls).await;
    bed.ask_nonsense(30).await;
    bed.until_fires("error_rate").await;
    until("it is posted", async || receiver.posts(PATH).len() == 1).await;
    assert_eq!(notifications(&bed, "failed").await, 2);
    switch(&bed, &urls, false).await;
    until("its end is posted", async || {
        receiver.posts(PATH).len() == 2
    })
    .await;
    let posts = receiver.posts(PATH);
    let [fired, ended] = [&posts[0][0], &posts[1][0]];
    assert_eq!(fired["labels"]["alertname"], "TollgateErrorRate");
    assert_eq!(fired["labels"]["service"], "tollgate");
    let instance = fired["labels"]["instance"].as_str().unwrap();
    let port = bed.harness.http.rsplit(':').next().unwrap();
    assert!(instance.ends_with(&format!(":{port}")), "{instance}");
    let description = fired["annotations"]["description"].as_str().unwrap();
    assert_eq!(description, "calls refused 100.0 %, threshold 5.0 %");
    assert_eq!(fired["labels"], ended["labels"], "known again");
    assert_eq!(fired["startsAt"], ended["startsAt"]);
    let ends = |alert: &Value| alert["endsAt"].as_str().unwrap().to_owned();
    assert!(ends(fired) > ends(ended), "{posts:?}");
    assert_eq!(notifications(&bed, "dropped").await, 0);
    until("they are counted", async || {
        notifications(&bed, "ok").await == 2
    })
    .await;
}

#[tokio::test]
async fn one_that_is_gone_does_not_keep_the_other_of_a_cluster_from_being_told() {
    let (gone, there) = (ClosedPort::new(), Receiver::start().await);
    let urls = [format!("http://{}", gone.address()), there.url()];
    let bed = posting_to(&urls).await;
    bed.ask_nonsense(30).await;
    until("the other is told", async || there.posts(PATH).len() == 1).await;
    until("the failure is counted", async || {
        notifications(&bed, "failed").await > 0
    })
    .await;
}

#[tokio::test]
async fn one_that_hangs_delays_no_decision_and_is_asked_once_at_a_time() {
    let receiver = Receiver::hanging().await;
    let urls = [receiver.url()];
    let bed = posting_to(&urls).await;
    bed.ask_nonsense(30).await;
    until("it is asked", async || receiver.most_waiting() > 0).await;
    // Five seconds each, if they waited for it.
    let start = Instant::now();
    let mut client = bed.harness.client().await;
    for _ in 0..200 {
        client
            .ask(request("shop", &[descriptor(&[("user", "ann")])]))
            .await;
    }
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    // Whatever happens meanwhile takes its turn in one place, or is overtaken there.
    for round in 0..6 {
        switch(&bed, &urls, round % 2 == 1).await;
    }
    until("it is given up", async || {
        notifications(&bed, "failed").await >= 2
    })
    .await;
    assert_eq!(receiver.most_waiting(), 1);
    assert_eq!(receiver.posts(PATH).len(), 0);
    assert_eq!(bed.times_fired("error_rate").await, 4, "watched on");
}
