//! Refused calls are counted, and the first of a kind is logged.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{debug, warn};

use super::status::Status;
use crate::clock::Timestamp;
use crate::event::{Code, Events, Refused};

/// When each code was logged last, in milliseconds since the epoch.
#[derive(Debug, Default)]
pub(super) struct Refusals([AtomicU64; Code::ALL.len()]);

impl Refusals {
    /// Tells whoever counts, and the log unless it was told of another one just now.
    pub(super) fn note(&self, status: &Status, events: &dyn Events, now: Timestamp) {
        events.refused(Refused { code: status.code });
        let Some(logged) = self.0.get(status.code.index()) else {
            return;
        };
        let (now, last) = (now.as_millis(), logged.load(Ordering::Relaxed));
        let due = last == 0 || now.saturating_sub(last) >= SILENCE_MILLIS;
        if due
            && logged
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            warn!(
                code = status.code.name(),
                reason = status.message,
                "call refused; by default Envoy lets such requests pass; further refusals with this \
                 code are only counted for a while"
            );
        } else {
            debug!(
                code = status.code.name(),
                reason = status.message,
                "call refused"
            );
        }
    }
}

/// How long refusals of the same kind are not logged again.
const SILENCE_MILLIS: u64 = 10_000;
