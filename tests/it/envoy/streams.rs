//! Charged when the response has been sent (`apply_on_stream_done`): the cost is known too late to
//! deny this response, so it is owed and denies the next.

use super::bed::shared;
use super::config::BODY;
use super::limits::is_denied;
use crate::process::until_async;

const BYTES: &str = r#"30, 30;w=86400;name="bytes""#;

#[tokio::test]
async fn a_charge_larger_than_what_is_left_denies_the_next_request() {
    let bed = shared().await;
    let left = async || {
        bed.get_as("lisa", "/bytes-left")
            .await
            .number("x-ratelimit-remaining")
    };
    assert_eq!(left().await, Some(30));

    // 20 of 30: charged after the response, so the request itself still sees 30.
    let reply = bed.get_as("lisa", "/bytes").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, BODY));
    assert_eq!(reply.number("x-ratelimit-remaining"), Some(30));
    until_async("the first response to be charged", async || {
        (left().await == Some(10)).then_some(())
    })
    .await;

    // 20 more, though only 10 are left: it passes, as something was left before it ...
    assert_eq!(bed.get_as("lisa", "/bytes").await.status, 200);
    until_async("the second response to be charged", async || {
        (left().await == Some(0)).then_some(())
    })
    .await;

    // ... and nobody gets the next one for free.
    is_denied(&bed.get_as("lisa", "/bytes-left").await, BYTES);
    is_denied(&bed.get_as("lisa", "/bytes").await, BYTES);
}
