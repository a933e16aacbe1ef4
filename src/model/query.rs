//! What the caller asks: a domain, descriptors, hits.

use smallvec::SmallVec;

use super::{Hits, SATURATED, TraceRef};

/// One question: may this request pass?
///
/// Texts are bytes, since a header may hold any: what a client controls must never turn into an
/// error, for Envoy lets errors pass.
#[derive(Clone, Debug, Default)]
pub struct Query<'a> {
    /// The namespace of the rules. Set by the operator in Envoy's filter.
    pub domain: &'a [u8],
    /// Each is judged on its own; the request is over the limit if any of them is.
    pub descriptors: SmallVec<[Descriptor<'a>; 2]>,
    /// Cost of descriptors that carry none of their own; 0 means unset, and then 1.
    pub hits_addend: u32,
    /// The call's span, if it is recorded.
    pub trace: Option<TraceRef>,
}

/// One path of entries to be limited.
#[derive(Clone, Debug, Default)]
pub struct Descriptor<'a> {
    /// From the most general to the most specific.
    pub entries: SmallVec<[Entry<'a>; 4]>,
    /// A limit that the caller brings and that replaces the configured one.
    pub limit: Option<OverrideLimit>,
    /// This descriptor's own cost; 0 asks without charging.
    pub hits_addend: Option<u64>,
    /// The hits are given back instead of charged.
    pub is_negative_hits: bool,
}

impl Descriptor<'_> {
    /// What this descriptor costs: its own addend if present, else the request's, else 1.
    #[must_use]
    pub fn hits(&self, request_addend: u32) -> Hits {
        let count = self
            .hits_addend
            .unwrap_or_else(|| u64::from(request_addend.max(1)));
        match (count.min(SATURATED), self.is_negative_hits) {
            (0, _) => Hits::Peek,
            (hits, false) => Hits::Charge(hits),
            (hits, true) => Hits::Refund(hits),
        }
    }
}

/// A key with its value, for example `user_id` and `alice`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The entry's key.
    pub key: &'a [u8],
    /// The entry's value, which may be empty.
    pub value: &'a [u8],
}

/// A limit that came with the request (`descriptor.limit`), as it came: the unit is only a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverrideLimit {
    /// Requests per window; 0 denies.
    pub requests_per_unit: u32,
    /// Number of the unit in `envoy.type.v3.RateLimitUnit`, 7 standing for a week.
    pub unit: i32,
    /// Units per window, if the caller said.
    pub unit_multiplier: Option<u32>,
}
