//! `TOLLGATE_<PATH>` variables: `TOLLGATE_LISTEN__GRPC` sets `listen.grpc`.

use serde_yaml::{Mapping, Value};

use super::service_links::ServiceLinks;
use super::words::explain;
use super::{Origins, Settings, table};
use crate::config::report::{Problem, Report, Severity};
use crate::config::suggest::nearest;

/// What all of them begin with.
const PREFIX: &str = "TOLLGATE_";

/// Between the steps of a path.
const STEP: &str = "__";

/// The variable that sets what stands at `path`.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.to_uppercase().replace('.', STEP))
}

/// Sets what the variables say, each for itself, in the order of their names, and notes in `origins`
/// what each has set. Those that Kubernetes has set are passed over.
pub(super) fn apply(
    settings: &mut Settings,
    env: &[(String, String)],
    origins: &mut Origins,
    report: &mut Report,
) {
    let links = ServiceLinks::of(env.iter().map(|(name, _)| name.as_str()));
    let mut variables: Vec<&(String, String)> = env
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    variables.sort();
    for (name, text) in variables {
        match path_of(name, settings) {
            None if links.has(name, text) => {}
            None => report.push(problem(Severity::Warning, name, "no such setting", {
                let near = meant(name);
                near.map(|near| format!("did you mean {near}?"))
            })),
            Some(path) => match with(settings, &path, text) {
                Ok(changed) => {
                    *settings = changed;
                    origins.set(path.join("."), name);
                }
                Err(error) => {
                    let (message, hint) = explain(&error).into_parts();
                    report.push(problem(Severity::Error, name, &message, hint));
                }
            },
        }
    }
}

/// The variable that `name` may stand for: one that is written nearly so, or one that ends in it,
/// since the groups around a setting are easily forgotten.
fn meant(name: &str) -> Option<String> {
    if name == "TOLLGATE_PORT" {
        return Some(variable("listen.grpc"));
    }
    let known: Vec<String> = table::paths().map(variable).collect();
    if let Some(near) = nearest(name, known.iter().map(String::as_str)) {
        return Some(near.to_owned());
    }
    let plain = |text: &str| text.replace('_', "");
    let rest = plain(name.strip_prefix(PREFIX)?);
    let ends_in_it = |variable: &&String| {
        let steps = variable.match_indices(STEP);
        let mut tails = steps.map(|(at, step)| variable.get(at.saturating_add(step.len())..));
        tails.any(|tail| tail.is_some_and(|tail| plain(tail) == rest))
    };
    known.iter().find(ends_in_it).cloned()
}

fn problem(severity: Severity, name: &str, message: &str, hint: Option<String>) -> Problem {
    Problem {
        severity,
        file: name.into(),
        line: 0,
        column: 0,
        path: String::new(),
        message: message.to_owned(),
        hint,
    }
}

/// The setting that a variable names.
fn path_of(name: &str, settings: &Settings) -> Option<Vec<String>> {
    if let Some(path) = table::paths().find(|path| variable(path) == name) {
        return Some(path.split('.').map(str::to_owned).collect());
    }
    let domain = name.strip_prefix(PREFIX)?.strip_prefix("DOMAINS__")?;
    let (domain, field) = domain.rsplit_once(STEP)?;
    let field = field.to_lowercase();
    if domain.is_empty()
        || !table::DOMAIN_FIELDS
            .iter()
            .any(|(known, _, _)| *known == field)
    {
        return None;
    }
    // Names of variables are upper case and have no hyphens, those of domains need not be.
    let same = |known: &&String| known.replace(['-', '.'], "_").eq_ignore_ascii_case(domain);
    let domain = match settings.domains.keys().find(same) {
        Some(known) => known.clone(),
        None => domain.to_lowercase(),
    };
    Some(vec!["domains".to_owned(), domain, field])
}

/// The settings with one of them changed to what `text` says.
fn with(settings: &Settings, path: &[String], text: &str) -> Result<Settings, String> {
    // As YAML reads it; what is no YAML, or a number where a text belongs, is taken as text.
    let scalar = serde_yaml::from_str::<Value>(text)
        .ok()
        .filter(|value| !matches!(value, Value::Mapping(_) | Value::Sequence(_) | Value::Null))
        .unwrap_or_else(|| Value::String(text.to_owned()));
    replaced(settings, path, scalar).or_else(|error| {
        let as_text = replaced(settings, path, Value::String(text.to_owned()));
        // If text belongs there, what is wrong with the text says more.
        as_text.map_err(|other| {
            if other.starts_with("invalid ") {
                error
            } else {
                other
            }
        })
    })
}

fn replaced(settings: &Settings, path: &[String], scalar: Value) -> Result<Settings, String> {
    let mut all = serde_yaml::to_value(settings).map_err(|error| error.to_string())?;
    if let Some(redis) = all
        .get_mut("store")
        .and_then(|store| store.get_mut("redis"))
    {
        settings.store.redis.reveal(redis);
    }
    let mut at = &mut all;
    for step in path {
        if !at.is_mapping() {
            *at = Value::Mapping(Mapping::new());
        }
        let Value::Mapping(map) = at else {
            return Err("no such setting".to_owned());
        };
        at = map
            .entry(Value::String(step.clone()))
            .or_insert(Value::Null);
    }
    *at = scalar;
    serde_path_to_error::deserialize(all).map_err(|error| error.into_inner().to_string())
}
