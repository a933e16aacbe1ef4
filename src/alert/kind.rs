//! The alerts that there are, and what people are told of each.

/// What is watched. Each has a threshold of its own in the settings, under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alert {
    /// The share of rate limit calls that are answered with an error, in percent.
    ErrorRate,
    /// How full the queue to a shared store was at most in the last second, in percent.
    QueueFull,
    /// How often a breaker opened in the window.
    CircuitTrips,
    /// The time within which 99 of 100 rate limit calls end, in seconds.
    ResponseTime,
    /// The share of calls to the shared store that fail, in percent.
    BatchFailures,
    /// The time within which 99 of 100 calls to the shared store end, in seconds.
    RedisLatency,
    /// How long a shared store has not been asked, in seconds.
    StoreDown,
    /// How many queries of the window were for domains that no policy has.
    UnknownDomains,
    /// How many verdicts of the window came from counters that keys share, since the table had no room
    /// for more keys of their rule.
    KeysFull,
}

/// How urgent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Limits are not enforced as they should be: somebody has to get up.
    Critical,
    /// Something is about to go wrong.
    Warning,
}

impl Alert {
    /// Every alert, in the order of [`Alert::index`].
    pub const ALL: [Self; 9] = [
        Self::ErrorRate,
        Self::QueueFull,
        Self::CircuitTrips,
        Self::ResponseTime,
        Self::BatchFailures,
        Self::RedisLatency,
        Self::StoreDown,
        Self::UnknownDomains,
        Self::KeysFull,
    ];

    /// The name in the settings, in metrics and in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ErrorRate => "error_rate",
            Self::QueueFull => "queue_full",
            Self::CircuitTrips => "circuit_trips",
            Self::ResponseTime => "response_time",
            Self::BatchFailures => "batch_failures",
            Self::RedisLatency => "redis_latency",
            Self::StoreDown => "store_down",
            Self::UnknownDomains => "unknown_domains",
            Self::KeysFull => "keys_full",
        }
    }

    /// The name in Alertmanager, which is that of the Prometheus rule.
    #[must_use]
    pub const fn alertname(self) -> &'static str {
        match self {
            Self::ErrorRate => "TollgateErrorRate",
            Self::QueueFull => "TollgateQueueFull",
            Self::CircuitTrips => "TollgateCircuitTrips",
            Self::ResponseTime => "TollgateResponseTime",
            Self::BatchFailures => "TollgateBatchFailures",
            Self::RedisLatency => "TollgateRedisLatency",
            Self::StoreDown => "TollgateStoreDown",
            Self::UnknownDomains => "TollgateUnknownDomains",
            Self::KeysFull => "TollgateKeysFull",
        }
    }

    /// How urgent it is.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::ErrorRate | Self::CircuitTrips | Self::StoreDown => Severity::Critical,
            Self::QueueFull
            | Self::ResponseTime
            | Self::BatchFailures
            | Self::RedisLatency
            | Self::UnknownDomains
            | Self::KeysFull => Severity::Warning,
        }
    }

    /// The unit of its value and threshold: `%`, `s`, or nothing for a number.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::ErrorRate | Self::QueueFull | Self::BatchFailures => "%",
            Self::CircuitTrips | Self::UnknownDomains | Self::KeysFull => "",
            Self::ResponseTime | Self::RedisLatency | Self::StoreDown => "s",
        }
    }

    /// What is wrong, in one sentence without numbers.
    #[must_use]
    pub const fn summary(self) -> &'static str {
        match self {
            Self::ErrorRate => {
                "Rate limit calls are answered with an error, and unless told otherwise Envoy lets such requests pass"
            }
            Self::QueueFull => {
                "The queue to the shared store is nearly full; what finds it full is decided without the store"
            }
            Self::CircuitTrips => {
                "The breaker of the shared store opens again and again; meanwhile rules follow on_store_failure"
            }
            Self::ResponseTime => {
                "Rate limit calls are slow, from the first byte in to the last byte out"
            }
            Self::BatchFailures => {
                "Calls to the shared store fail; what they carried is decided by on_store_failure"
            }
            Self::RedisLatency => "The shared store is slow",
            Self::StoreDown => {
                "A shared store is not asked any more: rules follow on_store_failure"
            }
            Self::UnknownDomains => {
                "Requests come for domains that no policy has, and all of them pass unlimited"
            }
            Self::KeysFull => {
                "A rule has more keys than there is room for; its new keys share counters, and some are denied too early"
            }
        }
    }

    /// What the value is, before its number.
    #[must_use]
    pub const fn measured(self) -> &'static str {
        match self {
            Self::ErrorRate => "calls refused",
            Self::QueueFull => "queue used",
            Self::CircuitTrips => "trips in the window",
            Self::ResponseTime | Self::RedisLatency => "99th percentile",
            Self::BatchFailures => "store calls failed",
            Self::StoreDown => "not asked for",
            Self::UnknownDomains => "queries in the window",
            Self::KeysFull => "verdicts from shared counters in the window",
        }
    }

    /// Where to look first.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::ErrorRate => {
                "Why calls are refused: tollgate_requests_refused_total by code, and the log"
            }
            Self::QueueFull => {
                "Whether Redis is slow (redis_latency) or there are more requests than one Redis takes: raise queue.batch_size, or use a Cluster"
            }
            Self::CircuitTrips | Self::StoreDown => {
                "What is wrong with which server: /store on the admin listener, and the log"
            }
            Self::ResponseTime => {
                "Whether the store is slow (redis_latency, deadline.store) or the process wants for CPU (tollgate_decision_duration_seconds)"
            }
            Self::BatchFailures => {
                "How calls fail: tollgate_store_calls_total by result; the README says what each means"
            }
            Self::RedisLatency => {
                "SLOWLOG and LATENCY DOCTOR on the server, its CPU, and the network to it"
            }
            Self::UnknownDomains => {
                "Which domains: the log names them; add a policy, or correct the domain in Envoy's rate limit filter"
            }
            Self::KeysFull => {
                "Which rule: /top on the admin listener and the log name it; raise store.memory.max_keys, or limit by a key that clients cannot make up"
            }
        }
    }

    /// Its place in [`Alert::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::ErrorRate => 0,
            Self::QueueFull => 1,
            Self::CircuitTrips => 2,
            Self::ResponseTime => 3,
            Self::BatchFailures => 4,
            Self::RedisLatency => 5,
            Self::StoreDown => 6,
            Self::UnknownDomains => 7,
            Self::KeysFull => 8,
        }
    }
}

impl Severity {
    /// The name in metrics and labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}
