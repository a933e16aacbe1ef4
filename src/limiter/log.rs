//! A decided query as a line of the debug log: what was asked, which rules applied, how each ruled and
//! why.

use std::fmt::{self, Write as _};

use super::{Answer, Status};
use crate::model::{Entry, Hits, Query};
use crate::policy::{Domain, Matched, Miss, OVERRIDE};

/// Logs `query` and its answer at `debug`, or that it has none since a rule wanted an error. Call it
/// only if that level is on.
#[cold]
pub fn log_decision(query: &Query<'_>, answer: Option<&Answer<'_>>) {
    let verdict = match answer.map(|answer| answer.denied) {
        Some(true) => "OVER_LIMIT",
        Some(false) => "OK",
        None => "ERROR",
    };
    let domain = Text(query.domain);
    let descriptors = Descriptors { query, answer };
    let trace = query.trace.map(tracing::field::display);
    tracing::debug!(%domain, verdict, %descriptors, trace, "query decided");
}

/// Each descriptor with what became of it.
struct Descriptors<'a, 'q, 'p> {
    query: &'a Query<'q>,
    answer: Option<&'a Answer<'p>>,
}

impl fmt::Display for Descriptors<'_, '_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = self.answer.and_then(|answer| answer.domain);
        let enforced = !domain.is_some_and(Domain::shadow_mode);
        let descriptors = &self.query.descriptors;
        for (index, descriptor) in descriptors.iter().enumerate().take(MOST_DESCRIPTORS) {
            if index > 0 {
                f.write_str("; ")?;
            }
            entries(f, &descriptor.entries)?;
            match descriptor.hits(self.query.hits_addend) {
                Hits::Charge(hits) => write!(f, " hits={hits}")?,
                Hits::Peek => f.write_str(" hits=0")?,
                Hits::Refund(hits) => write!(f, " hits=-{hits}")?,
            }
            let statuses = self.answer.map(|answer| &answer.statuses);
            match statuses.and_then(|statuses| statuses.get(index)) {
                Some(status) => outcome(f, status, &descriptor.entries, enforced)?,
                None => {
                    f.write_str(" undecided: the store is away and on_store_failure is error")?;
                }
            }
        }
        match descriptors.len().saturating_sub(MOST_DESCRIPTORS) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// `(user=alice, path=/x)`
fn entries(f: &mut fmt::Formatter<'_>, entries: &[Entry<'_>]) -> fmt::Result {
    f.write_char('(')?;
    for (index, entry) in entries.iter().enumerate().take(MOST_ENTRIES) {
        let comma = if index > 0 { ", " } else { "" };
        write!(f, "{comma}{}={}", Text(entry.key), Text(entry.value))?;
    }
    if entries.len() > MOST_ENTRIES {
        f.write_str(", ..")?;
    }
    f.write_char(')')
}

fn outcome(
    f: &mut fmt::Formatter<'_>,
    status: &Status<'_>,
    entries: &[Entry<'_>],
    enforced: bool,
) -> fmt::Result {
    match &status.matched {
        Matched::Nothing(miss) => return why_nothing(f, *miss, entries),
        Matched::Override(_) => write!(f, " rule={OVERRIDE}")?,
        Matched::Limited(rule, ..) | Matched::Replaced(rule) | Matched::Unlimited(rule) => {
            write!(f, " rule={}", Text(rule.path.as_bytes()))?;
        }
    }
    let (outcome, source) = (status.outcome(enforced), status.decided_by());
    write!(f, " outcome={} source={}", outcome.name(), source.name())?;
    let Some(ruling) = &status.ruling else {
        return Ok(());
    };
    write!(
        f,
        " count={} limit={} window={}ms remaining={} reset={}ms",
        ruling.verdict.counted,
        ruling.quota.limit(),
        ruling.quota.window().millis(),
        ruling.remaining(),
        ruling.verdict.reset_millis,
    )?;
    let spared = match (ruling.verdict.over, enforced, status.rule()) {
        (false, _, _) => "",
        (true, false, _) => "the domain is in shadow mode",
        (true, true, Some(rule)) if rule.shadow_mode => "the rule is in shadow mode",
        (true, true, _) if ruling.shadow => "spared by enforce_percent",
        (true, true, _) => "",
    };
    match spared {
        "" => Ok(()),
        why => write!(f, " ({why})"),
    }
}

fn why_nothing(f: &mut fmt::Formatter<'_>, miss: Miss, entries: &[Entry<'_>]) -> fmt::Result {
    f.write_str(" no rule: ")?;
    match miss {
        Miss::NoMatch(index) => match entries.get(index) {
            Some(entry) => {
                let (key, value) = (Text(entry.key), Text(entry.value));
                write!(f, "nothing matches {key}={value}")
            }
            None => f.write_str("nothing matches"),
        },
        Miss::NoLimit => f.write_str("the descriptor that matches has no rate_limit"),
        Miss::UnknownDomain => f.write_str("no policy has this domain"),
        Miss::NoEntries => f.write_str("the descriptor has no entries"),
    }
}

/// A text from a request or a policy, on one line and of bounded length; in quotes unless it is a
/// plain word.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The last character may be cut in two, and then shows as such.
        let cut = self.0.get(..LONGEST);
        let text = String::from_utf8_lossy(cut.unwrap_or(self.0));
        let plain = |c: char| c.is_alphanumeric() || "_-./:@*[]".contains(c);
        match !text.is_empty() && text.chars().all(plain) {
            true => f.write_str(&text)?,
            false => write!(f, "\"{}\"", text.escape_debug())?,
        }
        match cut {
            Some(_) if self.0.len() > LONGEST => f.write_str("..."),
            Some(_) | None => Ok(()),
        }
    }
}

/// Bytes of a text.
const LONGEST: usize = 64;

const MOST_DESCRIPTORS: usize = 16;

const MOST_ENTRIES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_on_their_line_and_are_cut() {
        let shown = |text: &[u8]| Text(text).to_string();
        assert_eq!(shown(b"/v1/users"), "/v1/users");
        assert_eq!(shown(b""), "\"\"");
        assert_eq!(shown(b"a b, c=d"), "\"a b, c=d\"");
        assert_eq!(shown(b"x\ny\x1b[31m"), "\"x\\ny\\u{1b}[31m\"");
        assert_eq!(shown(&[b'a'; 100]), format!("{}...", "a".repeat(LONGEST)));
        assert_eq!(shown(b"\xff"), "\"\u{fffd}\"");
    }
}
