//! Refused calls are counted, and the first of a kind is logged.

use tracing::{debug, warn};

use super::status::Status;
use crate::clock::Timestamp;
use crate::event::{Code, DeniedUnread, Events, Refused};
use crate::model::LogLimit;

/// When each kind of refusal was logged last.
#[derive(Debug)]
pub(super) struct Refusals {
    codes: LogLimit<{ Code::ALL.len() }>,
    unread: LogLimit<{ DeniedUnread::ALL.len() }>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            codes: LogLimit::new(SILENCE_MILLIS),
            unread: LogLimit::new(SILENCE_MILLIS),
        }
    }
}

impl Refusals {
    /// Counts a refusal, and logs it unless one with this code was logged just now.
    pub(super) fn note(&self, status: &Status, events: &dyn Events, now: Timestamp) {
        events.refused(Refused { code: status.code });
        if self.codes.allows(status.code.index(), now.as_millis()) {
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

    /// Counts a call that is answered `OVER_LIMIT` unread, and logs it unless one for this reason was
    /// logged just now.
    pub(super) fn note_denied_unread(
        &self,
        reason: DeniedUnread,
        status: &Status,
        events: &dyn Events,
        now: Timestamp,
    ) {
        events.denied_unread(reason);
        if self.unread.allows(reason.index(), now.as_millis()) {
            warn!(
                reason = status.message,
                "call answered OVER_LIMIT unread: it is too large; further ones for this reason are only \
                 counted for a while"
            );
        } else {
            debug!(reason = status.message, "call answered OVER_LIMIT unread");
        }
    }
}

/// How long refusals of the same kind are not logged again.
const SILENCE_MILLIS: u64 = 10_000;
