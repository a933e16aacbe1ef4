//! What a `rate_limit` says, and where it contradicts itself.

use super::PolicyDefaults;
use super::fields::{Kind, Level};
use super::walk::RawMap;
use crate::config::report::{Notes, Path, Pos, Said};
use crate::config::suggest::{nearest, one_of, quoted};
use crate::model::{Algorithm, DeniedHits, OnStoreFailure, Quota, QuotaError, Unit, Window};
use crate::policy::Limit;

/// A log of more items than this works, but each is kept in memory until its window is over.
const LARGE_LOG_LIMIT: u32 = 10_000;

/// Reads the numbers. None if a problem was noted.
pub(super) fn read(
    map: &RawMap<'_>,
    defaults: &PolicyDefaults,
    path: &Path<'_>,
    notes: &mut Notes<'_>,
) -> Option<Limit> {
    if map.flag("unlimited") {
        note_beside_unlimited(map, path, notes);
        return Some(Limit::Unlimited);
    }
    let reader = Reader {
        map,
        path,
        defaults,
    };
    let window = reader.window(notes);
    let limit = reader.limit(notes);
    let algorithm = reader.algorithm(notes);
    let denied_hits = reader.denied_hits(algorithm, notes);
    let burst = reader.burst(algorithm, notes);
    if let (Some(algorithm), Some(limit)) = (algorithm, limit) {
        reader.note_log(algorithm, limit, notes);
    }
    let quota = Quota::try_new(limit?, window?, algorithm?, denied_hits?);
    let quota = match burst? {
        Some(burst) => quota.and_then(|quota| quota.with_burst(burst)),
        None => quota,
    };
    // What can be wrong has been told above, with its place.
    quota.ok().map(Limit::Quota)
}

/// How the rule is decided without the shared store. None if a problem was noted.
pub(super) fn on_store_failure(
    map: &RawMap<'_>,
    defaults: &PolicyDefaults,
    path: &Path<'_>,
    notes: &mut Notes<'_>,
) -> Option<OnStoreFailure> {
    let default = defaults.on_store_failure;
    if map.flag("unlimited") {
        return Some(default);
    }
    let reader = Reader {
        map,
        path,
        defaults,
    };
    let (all, name) = (&OnStoreFailure::ALL, OnStoreFailure::name);
    match reader.word("on_store_failure", all, name, notes) {
        Word::Is(written) => Some(written),
        Word::Absent => Some(default),
        Word::Bad => None,
    }
}

/// Warns of a name that would break the header it is shown in.
pub(super) fn note_name(map: &RawMap<'_>, path: &Path<'_>, notes: &mut Notes<'_>) {
    let name = map.text("name");
    let safe = |b: u8| (b' '..=b'~').contains(&b) && !matches!(b, b'"' | b'\\');
    if !name.bytes().all(safe) {
        notes.warning(
            map.place("name").unwrap_or(map.pos),
            &path.key("name"),
            Said::with_hint(
                format!("the name {} would garble a response header", quoted(name)),
                "Envoy writes it into x-ratelimit-limit as it is: printable ASCII without quotes \
                 and backslashes is safe",
            ),
        );
    }
}

/// The names in `replaces`, with their places.
pub(super) fn replaces<'t>(
    map: &'t RawMap<'t>,
    path: &Path<'_>,
    notes: &mut Notes<'_>,
) -> Vec<(&'t str, Pos)> {
    let own = map.text("name");
    let path = path.key("replaces");
    let mut names = Vec::new();
    for (index, item) in map.list("replaces").iter().enumerate() {
        let Some(item) = item else { continue };
        let path = path.index(index);
        let (name, pos) = (item.text("name"), item.place("name").unwrap_or(item.pos));
        if name.is_empty() {
            if !item.is_bad("name") {
                let said = Said::with_hint(
                    "should not have an empty replaces entry",
                    "write `- name: NAME`",
                );
                notes.error(pos, &path, said);
            }
        } else if name == own {
            notes.error(
                pos,
                &path,
                "replaces should not contain name of same descriptor",
            );
        } else {
            names.push((name, pos));
        }
    }
    names
}

fn note_beside_unlimited(map: &RawMap<'_>, path: &Path<'_>, notes: &mut Notes<'_>) {
    if let Some(pos) = map.place("unit") {
        notes.error(
            pos,
            &path.key("unit"),
            Said::with_hint(
                "should not specify rate limit unit when unlimited",
                "remove unit or unlimited",
            ),
        );
    }
    // The reference loads this one, so existing files may have it.
    if let Some(pos) = map.place("requests_per_unit") {
        notes.warning(
            pos,
            &path.key("requests_per_unit"),
            Said::with_hint(
                "has no effect beside unlimited: true",
                "remove one of the two",
            ),
        );
    }
    for name in [
        "unit_multiplier",
        "algorithm",
        "burst",
        "denied_hits",
        "enforce_percent",
        "on_store_failure",
    ] {
        if let Some(pos) = map.place(name) {
            notes.error(
                pos,
                &path.key(name),
                Said::with_hint(
                    format!("should not specify {name} when unlimited"),
                    "remove one of the two",
                ),
            );
        }
    }
}

struct Reader<'r, 't> {
    map: &'r RawMap<'t>,
    path: &'r Path<'r>,
    defaults: &'r PolicyDefaults,
}

impl Reader<'_, '_> {
    fn window(&self, notes: &mut Notes<'_>) -> Option<Window> {
        let unit = match self.word("unit", &Unit::ALL, Unit::name, notes) {
            Word::Is(unit) => Some(unit),
            Word::Bad => None,
            Word::Absent if self.map.is_bad("unlimited") => None,
            Word::Absent => {
                let units = one_of(Unit::ALL.map(Unit::name));
                notes.error(
                    self.map.place("unit").unwrap_or(self.map.pos),
                    self.path,
                    Said::with_hint("unit is missing", units),
                );
                None
            }
        };
        if self.map.is_bad("unit_multiplier") {
            return None;
        }
        let multiplier = self.map.count("unit_multiplier").unwrap_or(1);
        match Window::try_new(unit?, multiplier) {
            Ok(window) => Some(window),
            Err(error) => {
                self.error("unit_multiplier", error.to_string(), notes);
                None
            }
        }
    }

    fn limit(&self, notes: &mut Notes<'_>) -> Option<u32> {
        let limit = self.map.count("requests_per_unit");
        let told = self.map.is_bad("requests_per_unit") || self.map.is_bad("unlimited");
        if limit.is_none() && !told {
            notes.error(
                self.map.place("requests_per_unit").unwrap_or(self.map.pos),
                self.path,
                Said::with_hint(
                    "requests_per_unit is missing",
                    "write 0 if everything is to be denied",
                ),
            );
        }
        limit
    }

    fn algorithm(&self, notes: &mut Notes<'_>) -> Option<Algorithm> {
        match self.word("algorithm", &Algorithm::ALL, Algorithm::name, notes) {
            Word::Is(algorithm) => Some(algorithm),
            Word::Absent => Some(self.defaults.algorithm),
            Word::Bad => None,
        }
    }

    /// What denied hits cost. None if a problem was noted, here or about the algorithm.
    fn denied_hits(
        &self,
        algorithm: Option<Algorithm>,
        notes: &mut Notes<'_>,
    ) -> Option<DeniedHits> {
        let written = self.word("denied_hits", &DeniedHits::ALL, DeniedHits::name, notes);
        let algorithm = algorithm?;
        let fixed = algorithm == Algorithm::FixedWindow;
        match written {
            Word::Is(DeniedHits::Charged) if !fixed => {
                let hint = format!("the algorithm here is {algorithm}{}", self.inherited());
                let said = Said::with_hint("charged is only for fixed_window", hint);
                self.error("denied_hits", said, notes);
                None
            }
            Word::Is(written) => Some(written),
            Word::Bad => None,
            // As a default it is for fixed windows only.
            Word::Absent if self.defaults.denied_hits == DeniedHits::Charged && !fixed => {
                Some(DeniedHits::Free)
            }
            Word::Absent => Some(self.defaults.denied_hits),
        }
    }

    /// The bucket's size, if it was written. None if a problem was noted.
    fn burst(&self, algorithm: Option<Algorithm>, notes: &mut Notes<'_>) -> Option<Option<u32>> {
        if self.map.is_bad("burst") {
            return None;
        }
        let burst = self.map.count("burst");
        if burst.is_none() {
            return Some(None);
        }
        let algorithm = algorithm?;
        if algorithm != Algorithm::TokenBucket {
            let hint = format!("the algorithm here is {algorithm}{}", self.inherited());
            let said = Said::with_hint("only for token_bucket", hint);
            self.error("burst", said, notes);
            return None;
        }
        Some(burst)
    }

    fn note_log(&self, algorithm: Algorithm, limit: u32, notes: &mut Notes<'_>) {
        if algorithm != Algorithm::SlidingLog || limit <= LARGE_LOG_LIMIT {
            return;
        }
        let (pos, path) = self.at("requests_per_unit");
        if limit > crate::model::MAX_LOG_LIMIT {
            let said = Said::with_hint(
                QuotaError::LogTooLong.to_string(),
                "sliding_window needs the same room for any limit",
            );
            notes.error(pos, &self.path.key(path), said);
        } else {
            let said = Said::with_hint(
                format!("a sliding_log keeps an item per charge, here up to {limit} for each key"),
                "sliding_window needs the same room for any limit",
            );
            notes.warning(pos, &self.path.key(path), said);
        }
    }

    fn inherited(&self) -> &'static str {
        match self.map.place("algorithm") {
            Some(_) => "",
            None => ", by default",
        }
    }

    fn error(&self, name: &'static str, said: impl Into<Said>, notes: &mut Notes<'_>) {
        let (pos, name) = self.at(name);
        notes.error(pos, &self.path.key(name), said);
    }

    fn at(&self, name: &'static str) -> (Pos, &'static str) {
        (self.map.place(name).unwrap_or(self.map.pos), name)
    }

    /// Reads one of several words.
    fn word<T: Copy>(
        &self,
        name: &'static str,
        all: &[T],
        called: impl Fn(T) -> &'static str,
        notes: &mut Notes<'_>,
    ) -> Word<T> {
        if self.map.is_bad(name) {
            return Word::Bad;
        }
        let written = self.map.text(name);
        if written.is_empty() {
            return Word::Absent;
        }
        let any_case = matches!(
            Level::RateLimit.field(name).map(|field| field.kind),
            Some(Kind::Word { any_case: true, .. })
        );
        let same = |word: &str| word == written || (any_case && word.eq_ignore_ascii_case(written));
        if let Some(found) = all.iter().copied().find(|one| same(called(*one))) {
            return Word::Is(found);
        }
        let words = || all.iter().copied().map(&called);
        let hint = match nearest(written, words()) {
            Some(near) => format!("did you mean {}?", quoted(near)),
            None => one_of(words()),
        };
        let said = Said::with_hint(format!("unknown {name} {}", quoted(written)), hint);
        self.error(name, said, notes);
        Word::Bad
    }
}

enum Word<T> {
    Absent,
    /// A problem was noted.
    Bad,
    Is(T),
}
