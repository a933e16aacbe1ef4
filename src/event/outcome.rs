//! How descriptors and queries fare, and who says so.

/// How a descriptor fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It passes.
    Allowed,
    /// Its hits did not fit.
    Denied,
    /// It was only asked, and one more hit would fit.
    Peeked,
    /// Its hits were given back.
    Refunded,
    /// Its hits did not fit, and the rule only tells.
    Shadowed,
}

impl Outcome {
    /// Every outcome, in the order of [`Outcome::index`].
    pub const ALL: [Self; 5] = [
        Self::Allowed,
        Self::Denied,
        Self::Peeked,
        Self::Refunded,
        Self::Shadowed,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Peeked => "peeked",
            Self::Refunded => "refunded",
            Self::Shadowed => "shadowed",
        }
    }

    /// Its place in [`Outcome::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Allowed => 0,
            Self::Denied => 1,
            Self::Peeked => 2,
            Self::Refunded => 3,
            Self::Shadowed => 4,
        }
    }
}

/// Who said how a descriptor fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecidedBy {
    /// Nobody counted: the shared store was away, and the rule lets pass or denies then.
    Fallback,
    /// This replica, by its share of the limit: the shared store was away.
    Local,
    /// A counter of this key alone, in memory.
    Memory,
    /// A counter that new keys share since the table has no room for more of their rule.
    Overflow,
    /// Nobody: another rule of the request took its place.
    Replaced,
    /// A counter of this key alone, in the store that all replicas share.
    Store,
    /// Nobody: its rule has no bound.
    Unlimited,
    /// Nobody: no rule matched it.
    Unmatched,
    /// The shared store holds a state of a version that is not known here.
    Unreadable,
}

impl DecidedBy {
    /// Every one, in the order of [`DecidedBy::index`].
    pub const ALL: [Self; 9] = [
        Self::Fallback,
        Self::Local,
        Self::Memory,
        Self::Overflow,
        Self::Replaced,
        Self::Store,
        Self::Unlimited,
        Self::Unmatched,
        Self::Unreadable,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fallback => "fallback",
            Self::Local => "local",
            Self::Memory => "memory",
            Self::Overflow => "overflow",
            Self::Replaced => "replaced",
            Self::Store => "store",
            Self::Unlimited => "unlimited",
            Self::Unmatched => "unmatched",
            Self::Unreadable => "unreadable",
        }
    }

    /// Its place in [`DecidedBy::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Fallback => 0,
            Self::Local => 1,
            Self::Memory => 2,
            Self::Overflow => 3,
            Self::Replaced => 4,
            Self::Store => 5,
            Self::Unlimited => 6,
            Self::Unmatched => 7,
            Self::Unreadable => 8,
        }
    }
}

/// How a query ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueryResult {
    /// It could not be decided, and a rule wants that to be an error.
    Error,
    /// The request passes.
    Ok,
    /// The request is denied.
    OverLimit,
}

impl QueryResult {
    /// Every result, in the order of [`QueryResult::index`].
    pub const ALL: [Self; 3] = [Self::Error, Self::Ok, Self::OverLimit];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Ok => "ok",
            Self::OverLimit => "over_limit",
        }
    }

    /// Its place in [`QueryResult::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Error => 0,
            Self::Ok => 1,
            Self::OverLimit => 2,
        }
    }
}
