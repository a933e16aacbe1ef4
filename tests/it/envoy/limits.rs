//! What is limited, by how much, and what the caller is told.

use tollgate::clock::Clock;

use super::bed::{Bed, shared};
use super::client::Reply;

#[tokio::test]
async fn each_user_has_a_limit_and_is_told_about_it() {
    let bed = shared().await;
    for left in [2, 1, 0] {
        let reply = bed.get_as("alice", "/user").await;
        passes(&reply, r#"3, 3;w=86400;name="per-user""#, left);
    }
    let reply = bed.get_as("alice", "/user").await;
    is_denied(&reply, r#"3, 3;w=86400;name="per-user""#);
    passes(
        &bed.get_as("bob", "/user").await,
        r#"3, 3;w=86400;name="per-user""#,
        2,
    );
}

#[tokio::test]
async fn a_request_without_the_header_is_not_asked_about() {
    let bed = shared().await;
    let reply = bed.get("/user", &[]).await;
    assert_eq!(
        (reply.status, reply.header("x-ratelimit-limit")),
        (200, None)
    );
}

#[tokio::test]
async fn an_address_has_a_limit() {
    let bed = shared().await;
    for left in [1, 0] {
        passes(
            &bed.get("/address", &[]).await,
            r#"2, 2;w=86400;name="loopback""#,
            left,
        );
    }
    is_denied(
        &bed.get("/address", &[]).await,
        r#"2, 2;w=86400;name="loopback""#,
    );
}

#[tokio::test]
async fn a_nested_descriptor_is_limited_by_the_rule_of_its_depth() {
    let bed = shared().await;
    // Two descriptors: the one without a user has no rule of its own and limits nothing.
    passes(
        &bed.get_as("vip", "/nested").await,
        r#"4, 4;w=86400;name="vip""#,
        3,
    );
    for left in [1, 0] {
        passes(
            &bed.get_as("nina", "/nested").await,
            r#"2, 2;w=86400;name="guest""#,
            left,
        );
    }
    is_denied(
        &bed.get_as("nina", "/nested").await,
        r#"2, 2;w=86400;name="guest""#,
    );
    // The same user elsewhere is another counter.
    passes(
        &bed.get_as("nina", "/user").await,
        r#"3, 3;w=86400;name="per-user""#,
        2,
    );
}

#[tokio::test]
async fn a_header_says_what_a_request_costs() {
    let bed = shared().await;
    passes(&costs(&bed, "carl", "/cost", "60").await, BUDGET, 40);
    is_denied(&costs(&bed, "carl", "/cost", "41").await, BUDGET);
    // The denied request was charged nothing, so what was left still is.
    passes(&costs(&bed, "carl", "/cost", "40").await, BUDGET, 0);
    is_denied(&costs(&bed, "carl", "/cost", "1").await, BUDGET);
}

#[tokio::test]
async fn a_peek_charges_nothing() {
    let bed = shared().await;
    passes(&costs(&bed, "dora", "/cost", "99").await, BUDGET, 1);
    for _ in 0..3 {
        passes(&bed.get_as("dora", "/left").await, BUDGET, 1);
    }
    passes(&costs(&bed, "dora", "/cost", "1").await, BUDGET, 0);
    // Over, since one more hit would be.
    is_denied(&bed.get_as("dora", "/left").await, BUDGET);
}

#[tokio::test]
async fn a_refund_gives_back_no_more_than_was_taken() {
    let bed = shared().await;
    passes(&costs(&bed, "emma", "/cost", "100").await, BUDGET, 0);
    is_denied(&bed.get_as("emma", "/left").await, BUDGET);
    passes(&costs(&bed, "emma", "/refund", "30").await, BUDGET, 30);
    passes(&bed.get_as("emma", "/left").await, BUDGET, 30);
    passes(&costs(&bed, "emma", "/refund", "1000").await, BUDGET, 100);
    passes(&costs(&bed, "emma", "/cost", "100").await, BUDGET, 0);
}

#[tokio::test]
async fn a_route_may_bring_a_limit_of_its_own() {
    let bed = shared().await;
    for left in [1, 0] {
        passes(
            &bed.get_as("fred", "/static-limit").await,
            "2, 2;w=86400",
            left,
        );
    }
    is_denied(&bed.get_as("fred", "/static-limit").await, "2, 2;w=86400");
}

#[tokio::test]
async fn metadata_may_bring_a_limit() {
    let bed = shared().await;
    let ask = |user: &'static str, limit: &'static str| {
        let bed = &bed;
        async move {
            let headers = [
                ("x-user-id", user.as_bytes()),
                ("x-limit", limit.as_bytes()),
            ];
            bed.get("/metadata-limit", &headers).await
        }
    };
    passes(&ask("gina", "7").await, "7, 7;w=86400", 6);
    is_denied(&ask("hans", "0").await, "0, 0;w=86400");
    // Without metadata the policy's limit holds.
    let reply = bed.get_as("ida", "/metadata-limit").await;
    passes(&reply, r#"3, 3;w=86400;name="per-user""#, 2);
}

#[tokio::test]
async fn a_domain_without_policies_limits_nothing() {
    let bed = shared().await;
    for _ in 0..5 {
        let reply = bed.get_as("alice", "/elsewhere").await;
        assert_eq!(
            (reply.status, reply.header("x-ratelimit-limit")),
            (200, None)
        );
    }
}

#[tokio::test]
async fn a_window_of_several_units_is_told_in_seconds() {
    let bed = shared().await;
    let reply = bed.get("/five-minutes", &[]).await;
    passes_with_any_left(&reply, r#"1000, 1000;w=300;name="five-minutes""#);
    let reset = reply.number("x-ratelimit-reset");
    assert!(reset.is_some_and(|s| (1..=300).contains(&s)), "{reply:?}");
}

const BUDGET: &str = r#"100, 100;w=86400;name="budget""#;

async fn costs(bed: &Bed, user: &str, path: &str, cost: &str) -> Reply {
    bed.get(
        path,
        &[("x-user-id", user.as_bytes()), ("x-cost", cost.as_bytes())],
    )
    .await
}

fn passes(reply: &Reply, limit: &str, left: u64) {
    passes_with_any_left(reply, limit);
    assert_eq!(
        reply.number("x-ratelimit-remaining"),
        Some(left),
        "{reply:?}"
    );
    ends_with_the_day(reply.number("x-ratelimit-reset"));
}

fn passes_with_any_left(reply: &Reply, limit: &str) {
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("x-ratelimit-limit"), Some(limit), "{reply:?}");
    assert_eq!(reply.header("x-envoy-ratelimited"), None, "{reply:?}");
    assert_eq!(reply.header("retry-after"), None, "{reply:?}");
}

pub(super) fn is_denied(reply: &Reply, limit: &str) {
    assert_eq!(reply.status, 429, "{reply:?}");
    assert_eq!(reply.body, "", "{reply:?}");
    assert_eq!(reply.header("x-ratelimit-limit"), Some(limit), "{reply:?}");
    assert_eq!(reply.number("x-ratelimit-remaining"), Some(0), "{reply:?}");
    assert_eq!(
        reply.header("x-envoy-ratelimited"),
        Some("true"),
        "{reply:?}"
    );
    ends_with_the_day(reply.number("x-ratelimit-reset"));
    ends_with_the_day(reply.number("retry-after"));
}

/// The windows are days in UTC, so the time to their end is known.
fn ends_with_the_day(seconds: Option<u64>) {
    const DAY: u64 = 86_400_000;
    let to_end = DAY - Clock::system().now().as_millis() % DAY;
    let seconds = seconds.expect("a number of seconds");
    // Rounded up, and a moment has passed since it was said; around midnight both are right.
    let off = (seconds * 1000).abs_diff(to_end);
    assert!(
        off <= 5_000 || off >= DAY - 5_000,
        "{seconds} s, but the day has {to_end} ms left"
    );
}
