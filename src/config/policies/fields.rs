//! The table of policy fields: what may stand where, and what it means.
//!
//! The walk that reads a policy, the hints for misplaced keys, the JSON schema for editors and the
//! table in the README all come from here, so they cannot disagree. A field enters the table with
//! the code that makes it work.

use crate::model::{Algorithm, DeniedHits, OnStoreFailure, Unit};

/// A key that a policy may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// The map that it belongs in.
    pub(super) level: Level,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// For people; empty if it must be written.
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
}

/// The maps of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// The file.
    Root,
    /// An item of `descriptors`.
    Descriptor,
    /// A `rate_limit`.
    RateLimit,
    /// An item of `replaces`.
    Replaces,
}

impl Level {
    pub(super) const ALL: [Self; 4] = [
        Self::Root,
        Self::Descriptor,
        Self::RateLimit,
        Self::Replaces,
    ];

    /// Where that is, in a sentence.
    pub(super) const fn place(self) -> &'static str {
        match self {
            Self::Root => "at the top of the file",
            Self::Descriptor => "in a descriptor, beside rate_limit",
            Self::RateLimit => "inside rate_limit",
            Self::Replaces => "in an item of replaces",
        }
    }

    pub(super) fn fields(self) -> impl Iterator<Item = &'static Field> {
        FIELDS.iter().filter(move |field| field.level == self)
    }

    pub(super) fn field(self, name: &str) -> Option<&'static Field> {
        self.fields().find(|field| field.name == name)
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The source text of a scalar.
    Text,
    /// One of these words. `any_case`: however it is written.
    Word {
        words: &'static [&'static str],
        any_case: bool,
    },
    Flag,
    /// A whole number.
    Count {
        min: u32,
        max: u32,
    },
    /// A list of such maps.
    List(Level),
    Map(Level),
    /// A map of anything that JSON can say.
    Free,
}

impl Kind {
    /// What it is, in a sentence.
    pub(super) fn describe(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Word { words, .. } => {
                format!(
                    "one of {}",
                    crate::config::suggest::one_of(words.iter().copied())
                )
            }
            Self::Flag => "true or false".to_owned(),
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) | Self::Free => "a map".to_owned(),
        }
    }
}

const UNITS: [&str; Unit::ALL.len()] = {
    let mut names = [""; Unit::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = Unit::ALL[at].name();
        at += 1;
    }
    names
};

const ALGORITHMS: [&str; Algorithm::ALL.len()] = {
    let mut names = [""; Algorithm::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = Algorithm::ALL[at].name();
        at += 1;
    }
    names
};

const DENIED_HITS: [&str; DeniedHits::ALL.len()] = {
    let mut names = [""; DeniedHits::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = DeniedHits::ALL[at].name();
        at += 1;
    }
    names
};

const ON_STORE_FAILURE: [&str; OnStoreFailure::ALL.len()] = {
    let mut names = [""; OnStoreFailure::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = OnStoreFailure::ALL[at].name();
        at += 1;
    }
    names
};

const fn field(
    level: Level,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Field {
    Field {
        level,
        name,
        kind,
        default,
        doc,
    }
}

const ANY_COUNT: Kind = Kind::Count {
    min: 0,
    max: u32::MAX,
};
const POSITIVE: Kind = Kind::Count {
    min: 1,
    max: u32::MAX,
};
const PERCENT: Kind = Kind::Count { min: 0, max: 100 };

/// Every field, in the order in which people write them.
pub(super) const FIELDS: &[Field] = &[
    field(
        Level::Root,
        "domain",
        Kind::Text,
        "",
        "The namespace of the rules; the `domain` of Envoy's filter.",
    ),
    field(
        Level::Root,
        "descriptors",
        Kind::List(Level::Descriptor),
        "none",
        "The first level of descriptors.",
    ),
    field(
        Level::Descriptor,
        "key",
        Kind::Text,
        "",
        "The entry's key. May contain `*`, which stands for any text.",
    ),
    field(
        Level::Descriptor,
        "value",
        Kind::Text,
        "any value",
        "The entry's value. May contain `*`, which stands for any text. Each concrete value has a \
         counter of its own.",
    ),
    field(
        Level::Descriptor,
        "rate_limit",
        Kind::Map(Level::RateLimit),
        "no limit",
        "The limit of requests whose last entry matches here. Without one, what matches here is \
         exempt from less specific rules.",
    ),
    field(
        Level::Descriptor,
        "descriptors",
        Kind::List(Level::Descriptor),
        "none",
        "The next level: what the following entry may match.",
    ),
    field(
        Level::Descriptor,
        "shadow_mode",
        Kind::Flag,
        "false",
        "Over the limit is counted and told in the metrics, never enforced. Not inherited.",
    ),
    field(
        Level::Descriptor,
        "quota_mode",
        Kind::Flag,
        "false",
        "Denies only when every quota rule that the request matches is over.",
    ),
    field(
        Level::Descriptor,
        "share_threshold",
        Kind::Flag,
        "false",
        "One counter for everything that the `*` in key or value matches.",
    ),
    field(
        Level::Descriptor,
        "detailed_metric",
        Kind::Flag,
        "false",
        "The rule's metric carries the value of every entry.",
    ),
    field(
        Level::Descriptor,
        "value_to_metric",
        Kind::Flag,
        "false",
        "The metrics of the rules here and below carry this entry's value.",
    ),
    field(
        Level::Descriptor,
        "metadata",
        Kind::Free,
        "none",
        "Free-form data, returned in dynamic metadata when the descriptor passes.",
    ),
    field(
        Level::RateLimit,
        "requests_per_unit",
        ANY_COUNT,
        "",
        "Hits per window; 0 denies everything.",
    ),
    field(
        Level::RateLimit,
        "unit",
        Kind::Word {
            words: &UNITS,
            any_case: true,
        },
        "",
        "The window's unit, in any letter case. A month is 30 days, a year 365.",
    ),
    field(
        Level::RateLimit,
        "unit_multiplier",
        POSITIVE,
        "1",
        "Units per window: `unit: minute` with 5 is a window of five minutes.",
    ),
    field(
        Level::RateLimit,
        "algorithm",
        Kind::Word {
            words: &ALGORITHMS,
            any_case: false,
        },
        "fixed_window",
        "How hits are counted. The default is a setting (`defaults.algorithm`).",
    ),
    field(
        Level::RateLimit,
        "burst",
        POSITIVE,
        "requests_per_unit",
        "The size of the bucket; only with `algorithm: token_bucket`.",
    ),
    field(
        Level::RateLimit,
        "denied_hits",
        Kind::Word {
            words: &DENIED_HITS,
            any_case: false,
        },
        "free",
        "What a denied request costs: nothing, its hits (only with `fixed_window`), or a debt that \
         is paid off later. The default is a setting (`defaults.denied_hits`).",
    ),
    field(
        Level::RateLimit,
        "enforce_percent",
        PERCENT,
        "100",
        "The share of denials that is enforced; the rest is only counted. The default is a setting \
         (`domains.NAME.enforce_percent`, `defaults.enforce_percent`).",
    ),
    field(
        Level::RateLimit,
        "on_store_failure",
        Kind::Word {
            words: &ON_STORE_FAILURE,
            any_case: false,
        },
        "local",
        "Without the store that all replicas share: this replica's share of the limit, counted in \
         its memory; let pass, uncounted; be over the limit; or fail the call, so that Envoy does \
         what its filter says. The default is a setting (`defaults.on_store_failure`).",
    ),
    field(
        Level::RateLimit,
        "unlimited",
        Kind::Flag,
        "false",
        "Always passes, uncounted; instead of `requests_per_unit` and `unit`.",
    ),
    field(
        Level::RateLimit,
        "name",
        Kind::Text,
        "none",
        "A name for `replaces`, shown in Envoy's `x-ratelimit-limit`. Need not be unique.",
    ),
    field(
        Level::RateLimit,
        "replaces",
        Kind::List(Level::Replaces),
        "none",
        "Rules that do not count for a request that matches this one too.",
    ),
    field(
        Level::Replaces,
        "name",
        Kind::Text,
        "",
        "The name of the rules that are replaced.",
    ),
];
