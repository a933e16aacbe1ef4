//! Tells rules apart without their names.

/// A number for a rule: the same one as long as it has its name, in every process.
///
/// 20 bits of a hash, so that two rules have the same number in one of a million cases. Then they share what is divided by rule, such as the room in a full table; nothing is
/// miscounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RuleId(u32);

impl RuleId {
    /// How many bits a number has.
    pub const BITS: u32 = 20;

    /// The number of the rule with this path in this domain.
    #[must_use]
    pub fn new(domain: &str, path: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        let length = u64::try_from(domain.len()).unwrap_or(u64::MAX);
        hasher.update(&length.to_le_bytes());
        hasher.update(domain.as_bytes()).update(path.as_bytes());
        let hash = hasher.finalize();
        let [a, b, c, ..] = *hash.as_bytes();
        Self(u32::from_be_bytes([0, a, b, c]) >> (24 - Self::BITS))
    }

    /// The rule whose number this is; only the lowest bits count.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & (u32::MAX >> (32 - Self::BITS)))
    }

    /// The number.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_fits_and_tells_rules_apart() {
        let one = RuleId::new("shop", "user");
        assert_eq!(one, RuleId::new("shop", "user"));
        assert_ne!(one, RuleId::new("sho", "puser"));
        assert_ne!(one, RuleId::new("shop", "user,plan"));
        assert_eq!(RuleId::from_bits(one.bits()), one);
        assert!(one.bits() < 1 << RuleId::BITS);
    }
}
