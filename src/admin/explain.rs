//! `explain`, in a form that travels: JSON from the admin listener, text for people.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use super::expected::ExpectedAnswer;
use crate::algorithm::passes_at;
use crate::limiter::{Applies, Explanation, Refusal, explain};
use crate::model::{
    Check, DescriptorText, Hits, OnStoreFailure, Query, SATURATED, Source, Verdict, one_line,
};
use crate::pipeline::Caps;
use crate::policy::{Candidate, ExplainedLevel, Fate, Miss, Policies, Rule};

/// Why one descriptor is answered as it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ExplainReport {
    /// The domain asked.
    pub domain: String,
    /// The descriptor asked, as [`DescriptorText`] reads it.
    pub descriptor: String,
    /// The hits asked for.
    pub hits: u64,
    /// What each entry met.
    pub levels: Vec<Level>,
    /// The rule that applies.
    pub rule: Option<RuleReport>,
    /// Why none does.
    pub no_rule: Option<String>,
    /// The counter's key.
    pub key: Option<String>,
    /// What the caller gets if the hits are over the limit; none without a limit. Older servers do
    /// not say.
    #[serde(default)]
    pub over_limit: Option<ExpectedAnswer>,
    /// The hits are more than the limit ever holds, so they are over it whatever is counted.
    #[serde(default)]
    pub never: bool,
    /// What would be answered now; only a running server knows.
    pub now: Option<Live>,
}

/// What one entry met.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Level {
    /// The entry, as `key=value`.
    pub entry: String,
    /// The policy's descriptors that had to do with it.
    pub candidates: Vec<CandidateReport>,
    /// How many more with the same key are not listed.
    pub more: usize,
}

/// A descriptor of the policy and its fate.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct CandidateReport {
    /// As the policy has it.
    pub descriptor: String,
    /// Whether it was chosen.
    pub chosen: bool,
    /// Whether it has a limit of its own.
    pub has_limit: bool,
    /// Why it was chosen, or why not.
    pub why: String,
}

/// The rule that applies.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct RuleReport {
    /// Its descriptor's path.
    pub path: String,
    /// The operator's name for it.
    pub name: Option<String>,
    /// Where it was written, `file:line:column`.
    pub origin: String,
    /// What it allows, for people.
    pub limit: String,
    /// How it is decided without the store that all replicas share (`on_store_failure`); a rule
    /// without a limit is not. Older servers do not say.
    #[serde(default)]
    pub on_store_failure: Option<String>,
    /// Flags that keep a denial from being enforced, and what holds without the shared store if that
    /// is not the usual; for people.
    pub notes: Vec<String>,
}

/// What a running server would answer.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Live {
    /// Whether the hits would be over the limit.
    pub over: bool,
    /// Hits that are counted now.
    pub counted: u64,
    /// Hits that would be left.
    pub remaining: u32,
    /// Milliseconds until the reset.
    pub reset_ms: u64,
    /// The hits can never pass.
    pub never: bool,
    /// Who would decide.
    pub source: String,
    /// What the caller would get. Older servers do not say.
    #[serde(default)]
    pub answer: Option<ExpectedAnswer>,
}

impl ExplainReport {
    /// Explains `descriptor` by `policies`. Also what a store would be asked, if anything: its
    /// verdict makes the report [live](Self::live).
    ///
    /// # Errors
    /// As a real call.
    pub fn new(
        policies: &Policies,
        caps: Caps,
        domain: &str,
        descriptor: &DescriptorText,
        hits: u64,
    ) -> Result<(Self, Option<Check>), Refusal> {
        caps.check(&Query {
            domain: domain.as_bytes(),
            descriptors: [descriptor.descriptor()].into_iter().collect(),
            hits_addend: 0,
            trace: None,
        })?;
        let mut report = Self {
            domain: domain.to_owned(),
            descriptor: descriptor.to_string(),
            hits,
            levels: Vec::new(),
            rule: None,
            no_rule: None,
            key: None,
            over_limit: None,
            never: false,
            now: None,
        };
        let Some(rules) = policies.domain(domain.as_bytes()) else {
            report.no_rule = Some(no_domain(domain, policies));
            return Ok((report, None));
        };
        let mut asked = None;
        let charge = if hits == 0 {
            Hits::Peek
        } else {
            Hits::Charge(hits.min(SATURATED))
        };
        let Explanation { levels, applies } = explain(rules, &descriptor.descriptor(), charge)?;
        report.levels = levels
            .into_iter()
            .zip(descriptor.written())
            .map(|(level, entry)| Level::new(level, entry))
            .collect();
        match applies {
            Applies::Limit { rule, quota, check } => {
                let mut told = rule_report(rule, quota.to_string(), rules.shadow_mode());
                told.without_store(check.on_store_failure);
                report.rule = Some(told);
                report.over_limit = Some(ExpectedAnswer::over(rules, rule));
                report.never = passes_at(&quota, check.hits).is_none();
                report.key = Some(check.key.to_string());
                asked = Some(check);
            }
            Applies::Unlimited(rule) => {
                report.rule = Some(rule_report(Some(rule), "unlimited".into(), false));
            }
            Applies::Nothing(miss) => report.no_rule = Some(why_none(miss)),
        }
        Ok((report, asked))
    }

    /// Notes that this replica's share of the limit is 0.
    pub fn note_no_share(&mut self, replicas: u32) {
        if let Some(rule) = &mut self.rule {
            rule.notes.push(format!(
                "without the shared store this replica lets nothing pass: its share of the limit among {replicas} replicas is 0 \
                 (fleet.replicas)"
            ));
        }
    }

    /// With what the store would answer to `check`, and the hits that are counted before it does.
    pub fn live(&mut self, check: &Check, verdict: &Verdict, counted: u64) {
        let is_failure =
            verdict.source == Source::Fallback && check.on_store_failure == OnStoreFailure::Error;
        let answer = match verdict.over {
            _ if is_failure => Some(ExpectedAnswer::failed()),
            true => self.over_limit.clone(),
            false => Some(ExpectedAnswer::within()),
        };
        self.now = Some(Live {
            answer,
            over: verdict.over,
            counted,
            remaining: verdict.remaining,
            reset_ms: verdict.reset_millis,
            never: verdict.never,
            source: verdict.source.name().to_owned(),
        });
    }
}

fn rule_report(rule: Option<&Rule>, limit: String, domain_shadow: bool) -> RuleReport {
    let mut notes = Vec::new();
    if domain_shadow {
        notes.push("the domain is in shadow mode: over limit is told, the request passes".into());
    }
    let Some(rule) = rule else {
        let path = "(the limit that came with the request)".into();
        return RuleReport {
            path,
            name: None,
            origin: String::new(),
            limit,
            on_store_failure: None,
            notes,
        };
    };
    if rule.shadow_mode {
        notes.push("shadow_mode: over limit is counted, never enforced".into());
    }
    if rule.quota_mode {
        notes.push("quota_mode: denies only if every quota rule of the request is over".into());
    }
    if rule.enforce_percent < 100 {
        notes.push(format!(
            "enforce_percent: {} of 100 denials are enforced",
            rule.enforce_percent
        ));
    }
    RuleReport {
        path: rule.path.clone(),
        name: rule.name.clone(),
        origin: rule.origin.to_string(),
        limit,
        on_store_failure: None,
        notes,
    }
}

impl RuleReport {
    fn without_store(&mut self, how: OnStoreFailure) {
        self.on_store_failure = Some(how.name().to_owned());
        let note = match how {
            OnStoreFailure::Local => return,
            OnStoreFailure::Allow => "passes, uncounted",
            OnStoreFailure::Deny => "is over the limit",
            OnStoreFailure::Error => "the call fails",
        };
        let note = format!("on_store_failure: {how}: without the shared store {note}");
        self.notes.push(note);
    }
}

pub(super) fn why_none(miss: Miss) -> String {
    match miss {
        Miss::NoEntries => "the descriptor has no entries".into(),
        Miss::NoLimit => "every entry matches, but the descriptor that they lead to has no \
                          rate_limit: it exempts"
            .into(),
        Miss::NoMatch(index) => format!(
            "nothing matches entry {} of the descriptor; a limit applies only if all entries match",
            index.saturating_add(1)
        ),
        Miss::UnknownDomain => "the domain is not configured".into(),
    }
}

pub(super) fn no_domain(domain: &str, policies: &Policies) -> String {
    let hint = policies.domain_hint(domain);
    format!(
        "the domain `{}` is not configured ({hint})",
        one_line(domain)
    )
}

impl Level {
    fn new(level: ExplainedLevel, entry: String) -> Self {
        let winner = level
            .candidates
            .iter()
            .find_map(|candidate| match candidate.fate {
                Fate::Chosen(kind) => Some(kind),
                Fate::Lost(_) | Fate::OtherValue => None,
            });
        let report = |candidate: Candidate| CandidateReport {
            chosen: matches!(candidate.fate, Fate::Chosen(_)),
            why: candidate.fate.why(winner).to_owned(),
            descriptor: candidate.descriptor,
            has_limit: candidate.has_limit,
        };
        Self {
            entry,
            candidates: level.candidates.into_iter().map(report).collect(),
            more: level.more,
        }
    }
}

impl fmt::Display for ExplainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}  {}  hits {}\n",
            one_line(&self.domain),
            one_line(&self.descriptor),
            self.hits
        )?;
        for level in &self.levels {
            write!(f, "{level}")?;
        }
        if !self.levels.is_empty() {
            writeln!(f)?;
        }
        if let Some(why) = &self.no_rule {
            writeln!(
                f,
                "rule     none: {}\nanswer   OK, not counted",
                one_line(why)
            )?;
        }
        if let Some(rule) = &self.rule {
            write!(f, "{rule}")?;
        }
        if let Some(key) = &self.key {
            writeln!(f, "counter  {}", one_line(key))?;
        }
        match (&self.now, &self.over_limit) {
            (Some(now), _) => write!(f, "{now}"),
            (None, Some(answer)) if self.never => writeln!(
                f,
                "answer   {answer}: more hits than the limit holds, so they never pass"
            ),
            (None, Some(answer)) => {
                writeln!(f, "answer   OK within the limit, over it {answer}")
            }
            (None, None) if self.rule.is_some() => writeln!(f, "answer   OK, not counted"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", one_line(&self.entry))?;
        for candidate in &self.candidates {
            let mark = if candidate.chosen { ">" } else { " " };
            let limit = if candidate.has_limit {
                ""
            } else {
                " (no rate_limit)"
            };
            writeln!(
                f,
                "  {mark} {}{limit}: {}",
                one_line(&candidate.descriptor),
                candidate.why
            )?;
        }
        if self.candidates.is_empty() {
            writeln!(f, "    no descriptor of this level has this key")?;
        }
        if self.more > 0 {
            writeln!(f, "    and {} more with other values", self.more)?;
        }
        Ok(())
    }
}

impl fmt::Display for RuleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule     {}", one_line(&self.path))?;
        if let Some(name) = &self.name {
            write!(f, " \"{}\"", one_line(name))?;
        }
        if !self.origin.is_empty() {
            write!(f, "  {}", one_line(&self.origin))?;
        }
        writeln!(f, "\nlimit    {}", self.limit)?;
        self.notes
            .iter()
            .try_for_each(|note| writeln!(f, "note     {note}"))
    }
}

impl fmt::Display for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.reset_ms.div_ceil(1000);
        writeln!(f, "counted  {} (by {})", self.counted, self.source)?;
        if !self.over {
            let left = self.remaining;
            return writeln!(f, "answer   OK, {left} left, reset in {seconds} s");
        }
        let (answer, passes) = match &self.answer {
            Some(answer) => (answer.to_string(), answer.passes()),
            None => ("OVER_LIMIT".to_owned(), false),
        };
        match (passes, self.never) {
            (false, true) => writeln!(
                f,
                "answer   {answer}, and never OK: more hits than the limit holds"
            ),
            (false, false) => writeln!(f, "answer   {answer}, the same passes in {seconds} s"),
            (true, true) => writeln!(
                f,
                "answer   {answer}, though never within the limit: more hits than it holds"
            ),
            (true, false) => writeln!(
                f,
                "answer   {answer}, though over the limit; within it again in {seconds} s"
            ),
        }
    }
}
