//! How the process is, for those who ask.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use serde::Serialize;

/// Shared by whoever changes it and whoever shows it.
#[derive(Debug, Default)]
pub struct Status {
    serving: AtomicBool,
    policies: RwLock<PolicyStatus>,
    /// Why the last attempt to read the settings anew failed, if it did.
    settings_refused: RwLock<Option<String>>,
}

/// The policies in force, and the last attempt to replace them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PolicyStatus {
    /// Where they are read from.
    pub path: String,
    /// The files that are in force.
    pub files: Vec<String>,
    /// BLAKE3 over contents, and names below that path, so that replicas can be compared.
    pub hash: String,
    /// When they took effect, in milliseconds since the epoch.
    pub loaded_at_ms: u64,
    /// Domains in force.
    pub domains: usize,
    /// Rules with a limit in force.
    pub rules: usize,
    /// Why the last attempt to read them anew failed, if it did: the ones above are still in force.
    pub refused: Option<String>,
    /// How many errors there were then, and where the first of them is, if they are in the files' text.
    pub refused_at: Option<String>,
}

impl Status {
    /// Whether traffic is wanted.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    /// Says whether traffic is wanted.
    pub fn set_serving(&self, serving: bool) {
        self.serving.store(serving, Ordering::Release);
    }

    /// How the policies are.
    #[must_use]
    pub fn policies(&self) -> PolicyStatus {
        self.policies.read().clone()
    }

    /// Policies took effect.
    pub fn accepted(&self, policies: PolicyStatus) {
        *self.policies.write() = policies;
    }

    /// Policies were refused; what was in force still is.
    pub fn refused(&self, why: String, place: Option<String>) {
        let mut policies = self.policies.write();
        policies.refused = Some(why);
        policies.refused_at = place;
    }

    /// Whether the last attempt to read the policies anew failed.
    #[must_use]
    pub fn are_policies_refused(&self) -> bool {
        self.policies.read().refused.is_some()
    }

    /// Why the last attempt to read the settings anew failed, if it did; what was in force still is.
    #[must_use]
    pub fn settings_problem(&self) -> Option<String> {
        self.settings_refused.read().clone()
    }

    /// Whether the last attempt to read the settings anew failed.
    #[must_use]
    pub fn are_settings_refused(&self) -> bool {
        self.settings_refused.read().is_some()
    }

    /// Settings took effect.
    pub fn settings_accepted(&self) {
        *self.settings_refused.write() = None;
    }

    /// Settings were refused; what was in force still is.
    pub fn settings_refused(&self, why: String) {
        *self.settings_refused.write() = Some(why);
    }
}
