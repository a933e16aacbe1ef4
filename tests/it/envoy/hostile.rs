//! What a client controls never becomes an error: Envoy lets errors pass, so an error is a way
//! around the limit.

use super::bed::shared;
use super::limits::is_denied;

const NOBODY: &str = r#"0, 0;w=86400;name="nobody""#;

#[tokio::test]
async fn a_header_that_is_no_text_is_denied_like_any_other() {
    let bed = shared().await;
    for value in [
        &b"plain"[..],
        b"\xff",
        b"a\xffb",
        b"\xc3\x28",
        b"\xf0\x9f\x92\xa9",
        b"",
    ] {
        is_denied(&bed.get("/denied", &[("x-user-id", value)]).await, NOBODY);
    }
}

#[tokio::test]
async fn a_header_of_any_length_is_denied_like_any_other() {
    let bed = shared().await;
    for length in [200, 9_000, 50_000] {
        let value = vec![b'x'; length];
        is_denied(&bed.get("/denied", &[("x-user-id", &value)]).await, NOBODY);
    }
}

#[tokio::test]
async fn long_values_that_differ_at_the_end_have_counters_of_their_own() {
    let bed = shared().await;
    let mut value = vec![b'x'; 50_000];
    for last in [b'a', b'b'] {
        value.pop();
        value.push(last);
        let reply = bed.get("/user", &[("x-user-id", &value)]).await;
        assert_eq!(reply.number("x-ratelimit-remaining"), Some(2), "{last}");
    }
}
