//! From fields to rules: what the values of a policy mean together.
//!
//! Shapes have been checked by the walk. Here belong duplicates, flags without effect, and how
//! several files make one domain; `limit` looks into a `rate_limit`. What has a problem is told and
//! the work goes on, so that everything is told at once; `load` throws the result away then.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::PolicyDefaults;
use super::limit;
use super::replaces::Names;
use super::rule_path;
use super::unreachable::{self, Patterns};
use super::walk::RawMap;
use crate::config::report::{Notes, Path, Pos, Problem, Report, Said, Severity};
use crate::config::suggest::{nearest, quoted};
use crate::model::{RuleId, Value};
use crate::pace::{self, PauseOnDrop};
use crate::policy::{DescriptorSpec, DomainSpec, MAX_TRIED_PATTERNS, Origin, Rule, is_indexed};

/// A file's name and what it holds.
pub(super) type File<'t> = (Arc<str>, RawMap<'t>);

/// Makes domains of files, in the order of the files.
pub(super) fn domains(
    files: &[File<'_>],
    defaults: &PolicyDefaults,
    report: &mut Report,
) -> Vec<DomainSpec> {
    // Files that are compiled together; one that is refused for its domain stands alone, and its
    // rules are looked through all the same.
    let mut groups: Vec<Vec<&File<'_>>> = Vec::new();
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    for file in pace::each(files) {
        let name = file.1.text("domain");
        match known.get(name).and_then(|at| groups.get_mut(*at)) {
            Some(group) if defaults.merge_domains => group.push(file),
            Some(group) => {
                if let Some(first) = group.first() {
                    note_duplicate_domain(name, first, file, report);
                }
                groups.push(vec![file]);
            }
            None => {
                if name.is_empty() {
                    note_empty_domain(file, report);
                } else {
                    known.insert(name, groups.len());
                }
                groups.push(vec![file]);
            }
        }
    }
    for name in defaults.domains.keys() {
        if !known.contains_key(name.as_str()) {
            note_unused(name, known.keys().copied(), report);
        }
    }
    groups
        .iter()
        .map(|files| Domain::new(files, defaults, report).compile(files))
        .collect()
}

/// What to say of a file without a domain.
pub(super) fn empty_domain() -> Said {
    Said::with_hint(
        "config file cannot have empty domain",
        "write `domain: NAME`, as in Envoy's rate limit filter",
    )
}

fn note_empty_domain((name, raw): &File<'_>, report: &mut Report) {
    if !raw.is_bad("domain") {
        let pos = raw.place("domain").unwrap_or(raw.pos);
        Notes::new(name, report).error(pos, &Path::Root, empty_domain());
    }
}

fn note_duplicate_domain(
    domain: &str,
    (first, first_raw): &File<'_>,
    (name, raw): &File<'_>,
    report: &mut Report,
) {
    let place = first_raw.place("domain").unwrap_or_default();
    Notes::new(name, report).error(
        raw.place("domain").unwrap_or_default(),
        &Path::Root.key("domain"),
        Said::with_hint(
            format!("duplicate domain '{domain}' in config file"),
            format!(
                "first in {first}:{}:{}; the setting policies.merge_domains joins them",
                place.line, place.column
            ),
        ),
    );
}

/// Tells of a domain in the settings that no policy has: most likely a slip.
fn note_unused<'k>(name: &str, known: impl Iterator<Item = &'k str>, report: &mut Report) {
    report.push(Problem {
        severity: Severity::Warning,
        file: "settings".into(),
        line: 0,
        column: 0,
        path: Path::Root.key("domains").key(name).to_string(),
        message: "no policy has this domain".to_owned(),
        hint: nearest(name, known).map(|near| format!("did you mean {}?", quoted(near))),
    });
}

/// A domain in the making.
struct Domain<'a, 't> {
    name: Arc<str>,
    enforce_percent: u8,
    shadow_mode: bool,
    defaults: &'a PolicyDefaults,
    report: &'a mut Report,
    names: Names<'t>,
    /// Patterns that may still be compared with each other.
    comparisons: u32,
}

/// The descriptors of one level.
#[derive(Debug, Default)]
struct Seen<'t> {
    /// By key and value, and where they stand.
    known: HashMap<(&'t str, &'t str), (&'t Arc<str>, Pos)>,
    patterns: Patterns<'t>,
    /// How many of them have to be tried one by one.
    tried: usize,
}

/// Where a descriptor stands: its file, its place there, and the descriptors above it.
#[derive(Clone, Copy)]
struct Place<'p, 't> {
    file: &'t Arc<str>,
    path: &'p Path<'p>,
    above: Option<&'p Above<'p>>,
}

/// A descriptor that others are nested in.
#[derive(Clone, Copy)]
struct Above<'p> {
    up: Option<&'p Self>,
    key: &'p str,
    value: &'p str,
    rule_path: &'p str,
}

impl<'a, 't> Domain<'a, 't> {
    fn new(files: &[&'t File<'t>], defaults: &'a PolicyDefaults, report: &'a mut Report) -> Self {
        let name = files.first().map_or("", |(_, raw)| raw.text("domain"));
        let own = defaults.domains.get(name).copied().unwrap_or_default();
        Self {
            name: name.into(),
            enforce_percent: own.enforce_percent.unwrap_or(defaults.enforce_percent),
            shadow_mode: own.shadow_mode.unwrap_or(defaults.shadow_mode),
            defaults,
            report,
            names: Names::default(),
            comparisons: unreachable::BUDGET,
        }
    }

    fn compile(mut self, files: &[&'t File<'t>]) -> DomainSpec {
        let mut seen = Seen::default();
        // At once, since to move 100,000 of them takes long.
        let count = files.iter().map(|(_, raw)| raw.list("descriptors").len());
        let mut descriptors = Vec::with_capacity(count.sum());
        for (file, raw) in files {
            let place = Place {
                file,
                path: &Path::Root,
                above: None,
            };
            self.level(raw, place, &mut seen, &mut descriptors);
        }
        self.names.note(self.report);
        DomainSpec {
            name: self.name.to_string(),
            descriptors,
            shadow_mode: self.shadow_mode,
            override_denied_hits: self.defaults.denied_hits,
            override_on_store_failure: self.defaults.on_store_failure,
            colocate_by: self.defaults.colocate_by.clone(),
        }
    }

    /// Compiles the `descriptors` of a map, which stands at `place`, and adds them to `into`.
    fn level(
        &mut self,
        raw: &'t RawMap<'t>,
        place: Place<'_, 't>,
        seen: &mut Seen<'t>,
        into: &mut Vec<DescriptorSpec>,
    ) {
        let items = raw.list("descriptors");
        let list = place.path.key("descriptors");
        into.reserve(items.len());
        seen.known.reserve(items.len());
        for (index, item) in items.iter().enumerate() {
            pace::step(2);
            let Some(item) = item else { continue };
            let path = &list.index(index);
            let place = Place { path, ..place };
            self.note_identity(item, place, seen);
            into.push(self.descriptor(item, place));
        }
    }

    fn descriptor(&mut self, raw: &'t RawMap<'t>, place: Place<'_, 't>) -> DescriptorSpec {
        let (key, value) = (raw.text("key"), raw.text("value"));
        let parent = place.above.map_or("", |above| above.rule_path);
        let rule_path = rule_path::extend(parent, key, value);
        let rule = self.rule(raw, place, &rule_path);
        let here = Above {
            up: place.above,
            key,
            value,
            rule_path: &rule_path,
        };
        let inner = Place {
            above: Some(&here),
            ..place
        };
        let mut descriptors = Vec::new();
        self.level(raw, inner, &mut Seen::default(), &mut descriptors);
        DescriptorSpec {
            key: key.to_owned(),
            value: (!value.is_empty()).then(|| value.to_owned()),
            share_threshold: raw.flag("share_threshold"),
            detailed_metric: raw.flag("detailed_metric"),
            value_to_metric: raw.flag("value_to_metric"),
            rule,
            descriptors,
            pause: PauseOnDrop,
        }
    }

    fn rule(&mut self, raw: &'t RawMap<'t>, place: Place<'_, 't>, rule_path: &str) -> Option<Rule> {
        let notes = &mut Notes::new(place.file, self.report);
        let path = &place.path.key("rate_limit");
        let map = raw.map("rate_limit");
        if !raw.is_bad("rate_limit") {
            note_idle_flags(raw, map, place.path, notes);
        }
        let map = map?;
        let name = map.text("name");
        let limit = limit::read(map, self.defaults, path, notes);
        let on_store_failure = limit::on_store_failure(map, self.defaults, path, notes);
        limit::note_name(map, path, notes);
        let replaces = limit::replaces(map, path, notes);
        self.names.add(place.file, path, name, &replaces);
        let metadata = raw.free("metadata").filter(|data| !is_empty(data));
        let enforce_percent = map
            .count("enforce_percent")
            .and_then(|percent| u8::try_from(percent).ok());
        Some(Rule {
            domain: Arc::clone(&self.name),
            path: rule_path.to_owned(),
            name: (!name.is_empty()).then(|| name.to_owned()),
            limit: limit?,
            replaces: replaces
                .iter()
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            shadow_mode: raw.flag("shadow_mode"),
            quota_mode: raw.flag("quota_mode"),
            enforce_percent: enforce_percent.unwrap_or(self.enforce_percent),
            on_store_failure: on_store_failure?,
            metadata: metadata.cloned(),
            origin: Origin {
                file: Arc::clone(place.file),
                line: raw.pos.line,
                column: raw.pos.column,
            },
            meter: 0,
            id: RuleId::default(),
        })
    }

    /// Checks key and value, and that no descriptor of the level has both.
    fn note_identity(&mut self, raw: &'t RawMap<'t>, place: Place<'_, 't>, seen: &mut Seen<'t>) {
        let notes = &mut Notes::new(place.file, self.report);
        let (key, value) = (raw.text("key"), raw.text("value"));
        if raw.flag("share_threshold") && !key.contains('*') && !value.contains('*') {
            notes.error(
                raw.place("share_threshold").unwrap_or(raw.pos),
                &place.path.key("share_threshold"),
                Said::with_hint(
                    format!(
                        "share_threshold can only be used with wildcard values (containing '*'), \
                         but found key '{}'",
                        joined(key, value)
                    ),
                    "remove it: what has no star has one counter anyway",
                ),
            );
        }
        if raw.is_bad("key") || raw.is_bad("value") {
            return;
        }
        if key.is_empty() {
            let pos = raw.place("key").unwrap_or(raw.pos);
            let said = Said::with_hint("descriptor has empty key", "write `key: KEY`");
            notes.error(pos, place.path, said);
            return;
        }
        match seen.known.entry((key, value)) {
            Entry::Vacant(vacant) => {
                vacant.insert((place.file, raw.pos));
                let (file, pos) = (place.file, raw.pos);
                let here = unreachable::Place { file, pos };
                let said = seen.patterns.add(key, value, here, &mut self.comparisons);
                if let Some(said) = said {
                    notes.warning(pos, place.path, said);
                }
                if !is_indexed(key, value) {
                    seen.tried = seen.tried.saturating_add(1);
                    // Said once.
                    if seen.tried == MAX_TRIED_PATTERNS.saturating_add(1) {
                        notes.error(pos, place.path, too_many_patterns());
                    }
                }
            }
            Entry::Occupied(first) => {
                let (file, pos) = first.get();
                let (domain, names) = (&self.name, composite(place.above, key, value));
                notes.error(
                    raw.pos,
                    place.path,
                    Said::with_hint(
                        format!("duplicate descriptor composite key '{domain}.{names}'"),
                        format!("first in {file}:{}:{}", pos.line, pos.column),
                    ),
                );
            }
        }
    }
}

fn too_many_patterns() -> Said {
    Said::with_hint(
        format!(
            "more than {MAX_TRIED_PATTERNS} descriptors of one level have a star in the key or several in \
             the value: each request would be compared with all of them"
        ),
        "use values with one star, of which there may be any number, or a level for each part",
    )
}

/// Warns of what has no effect here: most likely it was meant for the levels below.
fn note_idle_flags(
    raw: &RawMap<'_>,
    rate_limit: Option<&RawMap<'_>>,
    path: &Path<'_>,
    notes: &mut Notes<'_>,
) {
    let why = match rate_limit {
        None => "has no effect without a rate_limit beside it",
        Some(map) if map.flag("unlimited") => "has no effect on an unlimited rule",
        Some(_) => return,
    };
    for name in ["shadow_mode", "quota_mode", "detailed_metric", "metadata"] {
        let set = raw.flag(name) || (name == "metadata" && raw.free(name).is_some());
        if let Some(pos) = raw.place(name).filter(|_| set) {
            let said = match rate_limit {
                None => Said::with_hint(why, "it is not inherited by the levels below"),
                Some(_) => why.into(),
            };
            notes.warning(pos, &path.key(name), said);
        }
    }
}

fn is_empty(data: &Value) -> bool {
    matches!(data, Value::Map(entries) if entries.is_empty())
}

/// The reference's name for a descriptor: dot-joined `key` or `key_value`.
fn composite(above: Option<&Above<'_>>, key: &str, value: &str) -> String {
    let own = joined(key, value);
    match above {
        None => own,
        Some(above) => format!("{}.{own}", composite(above.up, above.key, above.value)),
    }
}

/// `key_value`, cut where it would fill the screen.
fn joined(key: &str, value: &str) -> String {
    let mut text: String = key.chars().take(MAX_SHOWN).collect();
    if !value.is_empty() {
        text.push('_');
        text.extend(value.chars().take(MAX_SHOWN));
    }
    text.escape_debug().to_string()
}

const MAX_SHOWN: usize = 60;
