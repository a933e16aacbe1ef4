//! The settings, for the commands that need them: the file, the environment, the flags.

use std::path::Path;

use crate::config::Report;
use crate::config::settings::{Loaded, Overrides, Settings};

/// Puts the settings together.
///
/// # Errors
/// If the file cannot be read or something in it, or in a variable, is refused; in words.
pub(super) fn load(config: Option<&Path>, flags: Overrides) -> Result<Loaded, String> {
    load_by(config, |file| Settings::load(file, environment(), flags))
}

/// The same for those who serve by them or check that: the files that they name are looked at, too.
///
/// # Errors
/// As [`load`], and if such a file cannot be used.
pub(super) fn load_to_serve(config: Option<&Path>, flags: Overrides) -> Result<Loaded, String> {
    load_by(config, |file| {
        Settings::load_to_serve(file, environment(), flags)
    })
}

fn load_by(
    config: Option<&Path>,
    load: impl FnOnce(Option<(&str, &[u8])>) -> Result<Loaded, Report>,
) -> Result<Loaded, String> {
    let text = match config {
        None => None,
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read(path)
                .map_err(|error| format!("cannot read the settings {name}: {error}"))?;
            Some((name, text))
        }
    };
    let file = text
        .as_ref()
        .map(|(name, text)| (name.as_str(), text.as_slice()));
    load(file).map_err(|report| format!("settings refused:\n{report}"))
}

/// The environment. What is not UTF-8 is shown as well as it can be: no setting is like that, and an
/// error says so.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}
