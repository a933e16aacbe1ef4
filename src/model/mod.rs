//! The words that every part of Tollgate shares.
//!
//! A [`Query`] comes in; the policy turns it into [`Check`]s; the store returns a [`Verdict`] for
//! each. Plain data: nothing here knows protobuf, YAML, a store or a clock.

mod check;
mod escape;
mod failure;
mod key;
mod log_limit;
mod nearest;
mod peer;
mod query;
mod quota;
mod rule_id;
mod text;
mod trace;
mod value;

pub use check::{Check, Decision, Hits, Role, SATURATED, Source, Verdict, Verdicts, denies};
pub use escape::{escaped, one_line};
pub use failure::OnStoreFailure;
pub use key::{Key, KeyBuilder};
pub use log_limit::LogLimit;
pub use nearest::nearest;
pub use peer::Peer;
pub use query::{Descriptor, Entry, OverrideLimit, Query};
pub use quota::{
    Algorithm, DeniedHits, MAX_LOG_LIMIT, MAX_WINDOW_MILLIS, Quota, QuotaError, Unit, Window,
};
pub use rule_id::RuleId;
pub use text::{DescriptorText, DescriptorTextError};
pub use trace::{Recorded, Sampler, TraceParent, TraceRef};
pub use value::Value;
