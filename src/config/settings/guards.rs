//! What keeps answers in time while the shared store is slow or gone. Nothing here matters to
//! counters in memory.

use serde::{Deserialize, Serialize};

use super::values::{Number, Replicas, Span};

/// `deadline`: how long a call may wait for the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadline {
    /// At most this long.
    pub store: Span<1>,
    /// And no longer than until so long before the caller gives up (`grpc-timeout`).
    pub margin: Span<0>,
}

impl Default for Deadline {
    fn default() -> Self {
        // Envoy waits for 20 ms by default.
        Self {
            store: Span::from_millis(12),
            margin: Span::from_millis(3),
        }
    }
}

/// `circuit_breaker`: when a store that fails is left alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitBreaker {
    /// Calls to one server that fail in a row until no request waits for it any more.
    pub threshold: Number<1, { u32::MAX }>,
    /// Then calls are let through again after this at the latest, even if no probe was answered.
    pub timeout: Span<1>,
    /// How often the server is probed meanwhile.
    pub probe_interval: Span<10>,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            threshold: Number::clamped(5),
            timeout: Span::from_secs(60),
            probe_interval: Span::from_secs(1),
        }
    }
}

/// `queue`: how calls to the store are gathered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Requests that wait for the store; the next one is decided without it.
    pub max_size: Number<1, { u32::MAX }>,
    /// Checks in one call.
    pub batch_size: Number<1, 1024>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max_size: Number::clamped(1000),
            batch_size: Number::clamped(128),
        }
    }
}

/// `fleet`: the replicas that share limits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fleet {
    /// How many share a limit while the store is away.
    pub replicas: Replicas,
}
