//! Protocol errors are counted, and one of a kind is logged each minute.

use tracing::warn;

use crate::clock::Timestamp;
use crate::event::{Events, ProtocolError};
use crate::model::{LogLimit, Peer};

/// When each kind of error was logged last.
#[derive(Debug)]
pub(in super::super) struct ProtocolErrors(LogLimit<{ ProtocolError::ALL.len() }>);

impl Default for ProtocolErrors {
    fn default() -> Self {
        Self(LogLimit::new(SILENCE_MILLIS))
    }
}

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
        if self.0.allows(error.index(), now.as_millis()) {
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
