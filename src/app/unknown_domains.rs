//! Warns of requests for domains that no policy has: they pass unlimited, which nobody sees
//! otherwise.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use tracing::warn;

use crate::pipeline::Pipeline;

/// Logs the names that are due. Called every second; cheap if there are none.
pub(super) fn report(pipeline: &Arc<Pipeline>) {
    let names = pipeline.unknown_domains().take(pipeline.clock().now());
    if names.is_empty() {
        return;
    }
    let pipeline = Arc::clone(pipeline);
    // With very many domains it takes milliseconds to find a similar name. Nobody waits for it.
    drop(spawn_blocking(move || {
        let snapshot = pipeline.lasting_snapshot();
        for name in names {
            let name = String::from_utf8_lossy(&name);
            let hint = snapshot.policies().domain_hint(&name);
            let domain: String = name.chars().take(MOST_SHOWN).collect();
            warn!(
                domain,
                hint,
                "no policy has this domain, so its requests pass unlimited; add a policy for it, or \
                 correct the domain in Envoy's rate limit filter"
            );
        }
    }));
}

/// Characters of a name that are shown.
const MOST_SHOWN: usize = 80;
