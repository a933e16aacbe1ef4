//! The answer that the caller gets to hits over a limit, which is not always OVER_LIMIT.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limiter::OverLimit;
use crate::policy::{Domain, Rule};

/// The answer to a request of one descriptor.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ExpectedAnswer {
    /// The overall code, `OK` or `OVER_LIMIT`; `UNAVAILABLE` if the call fails.
    pub code: String,
    /// The code of the descriptor's status.
    pub status: String,
    /// Of 100 callers, how many get these codes. The others get `OK` and `OK`.
    pub percent: u8,
    /// Why this is not simply what the limit says.
    pub why: Option<String>,
}

impl ExpectedAnswer {
    /// Hits within the limit.
    pub(super) fn within() -> Self {
        Self {
            code: OK.into(),
            status: OK.into(),
            percent: 100,
            why: None,
        }
    }

    /// Hits over the limit of `rule`, or of the limit that came with the request.
    pub(super) fn over(domain: &Domain, rule: Option<&Rule>) -> Self {
        let OverLimit {
            denied_percent,
            status_over_percent,
        } = OverLimit::new(domain, rule);
        let code = |percent| if percent > 0 { OVER_LIMIT } else { OK };
        let percent = match denied_percent.max(status_over_percent) {
            0 => 100,
            percent => percent,
        };
        Self {
            code: code(denied_percent).into(),
            status: code(status_over_percent).into(),
            percent,
            why: why(domain, rule),
        }
    }

    /// The call fails, since the shared store cannot be asked.
    pub(super) fn failed() -> Self {
        Self {
            code: UNAVAILABLE.into(),
            status: UNAVAILABLE.into(),
            percent: 100,
            why: Some("on_store_failure: error, and the shared store cannot be asked".into()),
        }
    }

    /// Whether nobody is denied.
    pub(super) fn passes(&self) -> bool {
        self.code == OK
    }
}

/// What keeps a denial from being enforced, if anything does.
fn why(domain: &Domain, rule: Option<&Rule>) -> Option<String> {
    if rule.is_some_and(|rule| rule.shadow_mode) {
        return Some("shadow_mode".into());
    }
    let percent = rule
        .map(|rule| rule.enforce_percent)
        .filter(|&percent| percent < 100)
        .map(|percent| format!("enforce_percent: {percent}"));
    let shadow = domain
        .shadow_mode()
        .then(|| "shadow_mode of the domain".to_owned());
    let reasons: Vec<String> = [shadow, percent].into_iter().flatten().collect();
    (!reasons.is_empty()).then(|| reasons.join(", "))
}

/// For people; says only what differs from a plain answer.
impl fmt::Display for ExpectedAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if self.percent < 100 && !self.passes() {
            write!(f, " for {} of 100 callers, OK for the others", self.percent)?;
        }
        let Some(why) = &self.why else {
            return Ok(());
        };
        write!(f, " ({why}")?;
        if self.passes() && self.status != OK {
            write!(f, "; its status says {}", self.status)?;
            if self.percent < 100 {
                write!(f, " for {} of 100 callers", self.percent)?;
            }
        }
        f.write_str(")")
    }
}

const OK: &str = "OK";
const OVER_LIMIT: &str = "OVER_LIMIT";
const UNAVAILABLE: &str = "UNAVAILABLE";
