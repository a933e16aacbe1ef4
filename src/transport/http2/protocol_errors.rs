//! Protocol errors are counted, and one of a kind is logged each minute.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::warn;

use crate::clock::Timestamp;
use crate::event::{Events, ProtocolError};
use crate::model::Peer;

/// When each kind of error was logged last, in milliseconds since the epoch.
#[derive(Debug, Default)]
pub(in super::super) struct ProtocolErrors([AtomicU64; ProtocolError::ALL.len()]);

impl ProtocolErrors {
    /// Counts an error of `peer`, and logs it unless one of its kind was logged less than a minute
    /// ago.
    pub(in super::super) fn report(
        &self,
        error: ProtocolError,
        peer: Peer,
        events: &dyn Events,
        now: Timestamp,
    ) {
        events.protocol_error(error);
        let Some(logged) = self.0.get(error.index()) else {
            return;
        };
        let (now, last) = (now.as_millis(), logged.load(Ordering::Relaxed));
        let due = last == 0 || now.abs_diff(last) >= SILENCE_MILLIS;
        if due
            && logged
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            warn!(
                reason = error.name(),
                %peer,
                advice = error.advice(),
                "grpc client broke the protocol; its calls are not answered, and Envoy lets such requests \
                 pass unless failure_mode_deny is set; further errors of this kind are only counted for a \
                 minute"
            );
        }
    }
}

/// How long errors of the same kind are not logged again.
const SILENCE_MILLIS: u64 = 60_000;
