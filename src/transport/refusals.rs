//! Refused calls are counted, and the first of a kind is logged.

use tracing::{debug, warn};

use super::status::Status;
use crate::clock::Timestamp;
use crate::event::{Code, Events, Refused};
use crate::model::LogLimit;

/// When each code was logged last.
#[derive(Debug)]
pub(super) struct Refusals(LogLimit<{ Code::ALL.len() }>);

impl Default for Refusals {
    fn default() -> Self {
        Self(LogLimit::new(SILENCE_MILLIS))
    }
}

impl Refusals {
    /// Counts a refusal, and logs it unless one with this code was logged just now.
    pub(super) fn note(&self, status: &Status, events: &dyn Events, now: Timestamp) {
        events.refused(Refused { code: status.code });
        if self.0.allows(status.code.index(), now.as_millis()) {
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
