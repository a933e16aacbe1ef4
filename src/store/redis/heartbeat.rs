//! What a replica says of itself now and then, and hears of the others.

use std::time::Duration;

use crate::clock::Timestamp;

/// One call of [`HEARTBEAT`](super::HEARTBEAT). It returns the ids of the replicas that have been
/// seen within the lifetime, this one included, sorted as bytes; nobody to one that leaves.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat<'a> {
    /// The replica's id. No two may have the same.
    pub replica: &'a str,
    /// The name of its breaker's state towards this store: one word.
    pub breaker: &'a str,
    /// Since when the breaker is in that state, if that is known.
    pub since: Option<Timestamp>,
    /// It shuts down: takes itself off the list at once.
    pub leaves: bool,
    /// For how long it counts as there without another heartbeat: see [`Heartbeat::LIFETIME`].
    pub lifetime: Duration,
}

impl Heartbeat<'_> {
    /// After so long without a heartbeat a replica is taken to be gone. The same for all replicas:
    /// whoever asks drops the others by its own.
    pub const LIFETIME: Duration = Duration::from_secs(5);

    /// `KEYS[1]`. `store` tells the stores of one prefix apart, if there are several.
    #[must_use]
    pub fn key(prefix: &str, store: &str) -> String {
        format!("{prefix}:{store}:state")
    }

    /// `ARGV`.
    #[must_use]
    pub fn arguments(&self) -> [String; 5] {
        [
            self.replica.to_owned(),
            self.breaker.to_owned(),
            self.since.map_or(0, Timestamp::as_millis).to_string(),
            self.lifetime.as_millis().to_string(),
            u8::from(self.leaves).to_string(),
        ]
    }
}
