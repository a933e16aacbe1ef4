//! Where a call stands in a distributed trace, as W3C's trace context has it.
//!
//! Envoy says in `traceparent` which span asks and whether anybody records that trace. A [`Sampler`]
//! decides whether this call is recorded too, and gives it a span's name of its own, a [`TraceRef`],
//! which goes with the query to the store. Nothing here records anything.

use std::fmt;
use std::num::NonZeroU64;

/// A span of a trace. Small, so that queries carry it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceRef {
    high: u64,
    low: u64,
    span: NonZeroU64,
}

impl TraceRef {
    /// The span with this number in the trace with that one. None if either is 0, which stands for
    /// none.
    #[must_use]
    pub fn new(trace: u128, span: u64) -> Option<Self> {
        let [high, low] = halves(trace);
        let span = NonZeroU64::new(span)?;
        (trace != 0).then_some(Self { high, low, span })
    }

    /// The trace's number, as its 16 bytes are sent.
    #[must_use]
    pub fn trace_id(self) -> [u8; 16] {
        (u128::from(self.high) << 64 | u128::from(self.low)).to_be_bytes()
    }

    /// The span's number, as its 8 bytes are sent.
    #[must_use]
    pub fn span_id(self) -> [u8; 8] {
        self.span.get().to_be_bytes()
    }

    /// Another span of the same trace. Almost surely another: its number is drawn by `dice`.
    #[must_use]
    pub fn sibling(self, dice: impl FnMut() -> u64) -> Self {
        Self {
            span: drawn(dice),
            ..self
        }
    }
}

/// The trace's number in hexadecimal, as tools show it.
impl fmt::Display for TraceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.high, self.low)
    }
}

impl fmt::Debug for TraceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}-{:016x}", self.span)
    }
}

/// The span that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Which it is.
    pub span: TraceRef,
    /// Whether it is recorded.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads a `traceparent` header: `00-TRACE-SPAN-FLAGS` in lower case hexadecimal, or what a
    /// later version appends to that. Anything else is as good as none.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (head, tail) = text.split_at_checked(LENGTH)?;
        let version = hex(head.get(..3)?.strip_suffix(b"-")?)?;
        match (version, tail) {
            (0, []) | (1..=0xfe, [] | [b'-', ..]) => {}
            _ => return None,
        }
        let (trace, rest) = head.get(3..)?.split_at_checked(32)?;
        let (span, flags) = rest.strip_prefix(b"-")?.split_at_checked(16)?;
        let span = u64::try_from(hex(span)?).ok()?;
        Some(Self {
            span: TraceRef::new(hex(trace)?, span)?,
            sampled: hex(flags.strip_prefix(b"-")?)? & 1 == 1,
        })
    }
}

/// Which calls are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    follows_parent: bool,
    /// A trace is recorded if 63 bits of its number are below this.
    below: u64,
}

/// A call that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The call's own span.
    pub span: TraceRef,
    /// The span that asked, if one did.
    pub parent: Option<TraceRef>,
}

impl Sampler {
    /// Records this share of all traces, 0 to 1. One that `follows_parent` does so only where nobody
    /// says whether the trace is recorded, and else does as the parent does. None if that is
    /// nothing at all.
    #[must_use]
    pub fn new(ratio: f64, follows_parent: bool) -> Option<Self> {
        let below = share(ratio);
        (follows_parent || below > 0).then_some(Self {
            follows_parent,
            below,
        })
    }

    /// Whether a call of `parent` is recorded. Numbers are drawn by `dice`. Every service that uses
    /// the same share of a trace's number comes to the same answer, as OpenTelemetry has it.
    #[must_use]
    pub fn sample(
        self,
        parent: Option<TraceParent>,
        mut dice: impl FnMut() -> u64,
    ) -> Option<Recorded> {
        if let Some(parent) = parent {
            let recorded = match self.follows_parent {
                true => parent.sampled,
                false => parent.span.low >> 1 < self.below,
            };
            return recorded.then(|| Recorded {
                span: parent.span.sibling(&mut dice),
                parent: Some(parent.span),
            });
        }
        let low = dice();
        if low >> 1 >= self.below {
            return None;
        }
        let (high, span) = (drawn(&mut dice), drawn(&mut dice));
        let high = high.get();
        Some(Recorded {
            span: TraceRef { high, low, span },
            parent: None,
        })
    }
}

fn halves(number: u128) -> [u64; 2] {
    let half = |number: u128| u64::try_from(number & u128::from(u64::MAX)).unwrap_or_default();
    [half(number >> 64), half(number)]
}

/// A number that is not 0.
fn drawn(mut dice: impl FnMut() -> u64) -> NonZeroU64 {
    NonZeroU64::new(dice()).unwrap_or(NonZeroU64::MIN)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the product lies between 0 and 2^63"
)]
fn share(ratio: f64) -> u64 {
    (ratio.clamp(0.0, 1.0) * 2_f64.powi(63)) as u64
}

/// Reads lower case hexadecimal.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// Of a `traceparent` of version 0.
const LENGTH: usize = 55;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parse(text: &str) -> Option<TraceParent> {
        TraceParent::parse(text.as_bytes())
    }

    fn counting() -> impl FnMut() -> u64 {
        let mut next = 0;
        move || {
            next += 1;
            next
        }
    }

    #[test]
    fn a_parent_is_read() {
        let parent = parse(PARENT).unwrap();
        assert!(parent.sampled);
        assert_eq!(parent.span.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(
            format!("{:?}", parent.span),
            "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
        );
        assert_eq!(parent.span.trace_id()[..2], [0x0a, 0xf7]);
        assert_eq!(parent.span.span_id()[6..], [0x33, 0x31]);
        assert!(!parse(&PARENT.replace("-01", "-00")).unwrap().sampled);
        assert!(parse(&PARENT.replace("-01", "-03")).unwrap().sampled);
        let later = format!("{}-more", PARENT.replacen("00-", "cc-", 1));
        assert!(parse(&later).unwrap().sampled);
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "00",
            &PARENT.replacen("00-", "ff-", 1),
            &PARENT.replace("0af7", "0AF7"),
            &PARENT.replace("0af7", "0ag7"),
            &format!("{PARENT}-more"),
            &format!("{}more", PARENT.replacen("00-", "01-", 1)),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            &PARENT.replace("-b7", "_b7"),
            &PARENT.replace("-01", "_01"),
            &PARENT.replacen("00-", "00_", 1),
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_parent_is_followed_and_the_share_is_for_those_without_one() {
        let sampled = parse(PARENT).unwrap();
        let unsampled = TraceParent {
            sampled: false,
            ..sampled
        };
        for (ratio, alone) in [(0.0, false), (1.0, true)] {
            let sampler = Sampler::new(ratio, true).unwrap();
            let recorded = sampler.sample(Some(sampled), counting()).unwrap();
            assert_eq!(recorded.parent, Some(sampled.span));
            assert_eq!(recorded.span.trace_id(), sampled.span.trace_id());
            assert_ne!(recorded.span.span_id(), sampled.span.span_id());
            assert_eq!(sampler.sample(Some(unsampled), counting()), None);
            let root = sampler.sample(None, || u64::MAX);
            assert_eq!(root.is_some(), alone);
            assert!(root.is_none_or(|root| root.parent.is_none()));
        }
    }

    #[test]
    fn one_that_does_not_follow_decides_by_the_traces_number() {
        assert_eq!(Sampler::new(0.0, false), None);
        let all = Sampler::new(1.0, false).unwrap();
        let half = Sampler::new(0.5, false).unwrap();
        let parent = |low: u64, sampled| TraceParent {
            span: TraceRef::new(u128::from(low), 7).unwrap(),
            sampled,
        };
        assert!(
            all.sample(Some(parent(u64::MAX, false)), counting())
                .is_some()
        );
        assert!(half.sample(Some(parent(1, false)), counting()).is_some());
        assert!(
            half.sample(Some(parent(u64::MAX, true)), counting())
                .is_none()
        );
    }

    #[test]
    fn about_the_share_is_taken() {
        let mut random = fastrand::Rng::with_seed(7);
        let sampler = Sampler::new(0.25, true).unwrap();
        let taken = (0..10_000)
            .filter(|_| sampler.sample(None, || random.u64(..)).is_some())
            .count();
        assert!((2_300..2_700).contains(&taken), "{taken}");
    }

    proptest! {
        #[test]
        fn no_header_is_too_odd(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let _parsed = TraceParent::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(trace in 1_u128.., span in 1_u64.., flags: u8) {
            let text = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
            let parent = parse(&text).unwrap();
            prop_assert_eq!(parent.span, TraceRef::new(trace, span).unwrap());
            prop_assert_eq!(parent.sampled, flags % 2 == 1);
        }
    }
}
