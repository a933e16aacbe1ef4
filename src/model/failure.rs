//! What to do where the store that all replicas share cannot be asked.

use std::fmt;

/// How a check is decided when the shared store does not answer in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnStoreFailure {
    /// It passes, uncounted.
    Allow,
    /// It is over the limit.
    Deny,
    /// The whole call fails, and Envoy does what its filter says (`failure_mode_deny`).
    Error,
    /// By this replica's share of the limit, counted in its memory.
    #[default]
    Local,
}

impl OnStoreFailure {
    /// Every way, the default first.
    pub const ALL: [Self; 4] = [Self::Local, Self::Allow, Self::Deny, Self::Error];

    /// The name in policies and settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Error => "error",
            Self::Local => "local",
        }
    }
}

impl fmt::Display for OnStoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
