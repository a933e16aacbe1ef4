//! Whose decisions are written down: a share for each of a few domains, changed while queries run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

/// The domains whose decisions are written down. While there are none, asking costs a branch.
#[derive(Debug, Default)]
pub struct DecisionSample {
    on: AtomicBool,
    shares: ArcSwap<BTreeMap<String, f64>>,
    /// One change at a time.
    changing: Mutex<()>,
}

/// There are [`DecisionSample::MAX_DOMAINS`] already, or the name is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no more than {} domains may be written down at once, with names of at most {} bytes \
     (turn others off with ratio=0)",
    DecisionSample::MAX_DOMAINS,
    DecisionSample::MAX_NAME
)]
pub struct TooManyDomains;

impl DecisionSample {
    /// Most domains at once.
    pub const MAX_DOMAINS: usize = 100;

    /// Most bytes of a domain's name.
    pub const MAX_NAME: usize = 256;

    /// Writes down this share of a domain's queries from now on, 0 to 1; 0 is none.
    ///
    /// # Errors
    /// If that would be too many domains; nothing changes then.
    pub fn set(&self, domain: &str, share: f64) -> Result<(), TooManyDomains> {
        if domain.len() > Self::MAX_NAME {
            return Err(TooManyDomains);
        }
        let _changing = self.changing.lock();
        let mut shares = self.shares();
        if share > 0.0 {
            shares.insert(domain.to_owned(), share.min(1.0));
        } else {
            shares.remove(domain);
        }
        if shares.len() > Self::MAX_DOMAINS {
            return Err(TooManyDomains);
        }
        self.store(shares);
        Ok(())
    }

    /// Writes down these shares and no others from now on; of too many, the first by name.
    pub fn replace(&self, shares: impl IntoIterator<Item = (String, f64)>) {
        let shares = shares.into_iter().filter(|(_, share)| *share > 0.0);
        let shares: BTreeMap<String, f64> = shares.collect();
        let _changing = self.changing.lock();
        self.store(shares.into_iter().take(Self::MAX_DOMAINS).collect());
    }

    /// Every domain that is written down, and its share.
    #[must_use]
    pub fn shares(&self) -> BTreeMap<String, f64> {
        BTreeMap::clone(&self.shares.load())
    }

    /// Whether to write down a query of this domain, drawn anew each time.
    pub fn takes(&self, domain: &[u8]) -> bool {
        self.on.load(Ordering::Relaxed) && self.draw(domain)
    }

    #[cold]
    fn draw(&self, domain: &[u8]) -> bool {
        let Ok(domain) = std::str::from_utf8(domain) else {
            return false;
        };
        let shares = self.shares.load();
        shares
            .get(domain)
            .is_some_and(|share| fastrand::f64() < *share)
    }

    fn store(&self, shares: BTreeMap<String, f64>) {
        let any = !shares.is_empty();
        self.shares.store(Arc::new(shares));
        self.on.store(any, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_domain_is_written_down_until_it_is_turned_off() {
        let sample = DecisionSample::default();
        assert!(!sample.takes(b"shop"));
        sample.set("shop", 1.0).unwrap();
        assert!(sample.takes(b"shop") && !sample.takes(b"cart") && !sample.takes(b"\xff"));
        sample.set("cart", 0.5).unwrap();
        let shares = [("cart".to_owned(), 0.5), ("shop".to_owned(), 1.0)];
        assert_eq!(sample.shares(), shares.into());
        sample.set("shop", 0.0).unwrap();
        assert!(!sample.takes(b"shop"));
        sample.replace([]);
        assert!(sample.shares().is_empty());
    }

    #[test]
    fn about_the_share_is_taken() {
        let sample = DecisionSample::default();
        sample.set("shop", 0.25).unwrap();
        let taken = (0..10_000).filter(|_| sample.takes(b"shop")).count();
        assert!((2_000..3_000).contains(&taken), "{taken}");
    }

    #[test]
    fn domains_are_bounded() {
        let sample = DecisionSample::default();
        for number in 0..DecisionSample::MAX_DOMAINS {
            sample.set(&format!("d{number}"), 1.0).unwrap();
        }
        assert_eq!(sample.set("one more", 1.0), Err(TooManyDomains));
        assert_eq!(sample.shares().len(), DecisionSample::MAX_DOMAINS);
        sample.set("d7", 0.5).unwrap();
        assert_eq!(sample.set(&"x".repeat(300), 1.0), Err(TooManyDomains));
    }
}
