//! Settings from their three sources, and what is wrong with them.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::redis_url::without_passwords;
use super::words::explain;
use super::{
    ListenAddr, Origins, RedisUrl, RedisUrls, Settings, StoreKind, checks, env, files, otel,
    reference_env,
};
use crate::config::report::{Notes, Path, Pos, Report, Said};

/// Settings that may take effect.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What looks wrong but was accepted. It holds no errors.
    pub warnings: Report,
}

/// What the command line says; it wins over everything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `policies.path`.
    pub policies: Option<PathBuf>,
    /// `listen.grpc`.
    pub grpc: Option<ListenAddr>,
    /// `listen.http`.
    pub http: Option<ListenAddr>,
    /// `listen.admin`.
    pub admin: Option<ListenAddr>,
    /// `store.redis.url`, then `store.redis.failover_urls`; with any, `store.kind` is redis.
    pub redis: Vec<RedisUrl>,
}

/// What the service starts in, besides the settings themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Surroundings {
    /// The files that settings name are looked at, and variables of envoyproxy/ratelimit warned of.
    Checked,
    Ignored,
}

impl Settings {
    /// Puts the settings together: `flags`, then the variables of `env` whose names begin with
    /// `TOLLGATE_` (`OTEL_` ones stand beside, see [`Settings::otel`]), then the `file` (its name and its bytes), then the defaults.
    ///
    /// # Errors
    /// If the file or a variable cannot be accepted. The report has the file's first problem and
    /// that of every variable.
    pub fn load(
        file: Option<(&str, &[u8])>,
        env: impl Iterator<Item = (String, String)>,
        flags: Overrides,
    ) -> Result<Loaded, Report> {
        load(file, env.collect(), flags, Surroundings::Ignored)
    }

    /// The same, for commands that serve by the settings or check whether they could. It reads the
    /// files that settings name (passwords, certificates, keys, the token), so it may block.
    ///
    /// # Errors
    /// As [`Settings::load`], and if a file is missing, cannot be read or does not hold what it is
    /// for.
    pub fn load_to_serve(
        file: Option<(&str, &[u8])>,
        env: impl Iterator<Item = (String, String)>,
        flags: Overrides,
    ) -> Result<Loaded, Report> {
        load(file, env.collect(), flags, Surroundings::Checked)
    }
}

fn load(
    file: Option<(&str, &[u8])>,
    env: Vec<(String, String)>,
    flags: Overrides,
    surroundings: Surroundings,
) -> Result<Loaded, Report> {
    let mut report = Report::default();
    let mut origins = Origins::default();
    let mut settings = match file {
        Some((name, bytes)) => {
            if let (Surroundings::Checked, Ok(text)) = (surroundings, std::str::from_utf8(bytes)) {
                origins = Origins::of_file(name, text);
            }
            read(bytes, &mut Notes::new(&name.into(), &mut report))
        }
        None => Some(Settings::default()),
    }
    .unwrap_or_default();
    env::apply(&mut settings, &env, &mut origins, &mut report);
    settings.otel = otel::read(env.iter().cloned(), &mut report);
    flags.apply(&mut settings, &mut origins);
    checks::note(&settings, &mut report);
    if surroundings == Surroundings::Checked {
        reference_env::note(&env, &settings, &mut report);
        files::note(&settings, &env, &origins, &mut report);
    }
    if report.errors() > 0 {
        return Err(report);
    }
    Ok(Loaded {
        settings,
        warnings: report,
    })
}

impl Overrides {
    fn apply(self, settings: &mut Settings, origins: &mut Origins) {
        let listen = &mut settings.listen;
        for (flag, name, setting) in [
            (self.grpc, "grpc", &mut listen.grpc),
            (self.http, "http", &mut listen.http),
            (self.admin, "admin", &mut listen.admin),
        ] {
            if let Some(address) = flag {
                *setting = address;
                origins.set(format!("listen.{name}"), &format!("--{name}"));
            }
        }
        if let Some(path) = self.policies {
            settings.policies.path = path;
        }
        let mut redis = self.redis.into_iter();
        if let Some(first) = redis.next() {
            settings.store.kind = StoreKind::Redis;
            settings.store.redis.url = first;
            settings.store.redis.failover_urls = RedisUrls(redis.collect());
        }
    }
}

/// Reads the file. None if there is a problem, which is noted.
fn read(bytes: &[u8], notes: &mut Notes<'_>) -> Option<Settings> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        notes.error(Pos::default(), &Path::Root, "the file is not UTF-8");
        return None;
    };
    // A file of comments says nothing, which is no mistake.
    let says_something = |line: &str| {
        let line = line.trim_start_matches('\u{feff}').trim();
        !line.is_empty() && !line.starts_with('#') && line != "---"
    };
    if !text.lines().any(says_something) {
        return Some(Settings::default());
    }
    // Whether it is YAML at all comes first: what stands before a mistake of grammar was perhaps
    // meant otherwise, so it is not judged.
    if let Err(error) = IgnoredAny::deserialize(serde_yaml::Deserializer::from_str(text)) {
        let pos = place(&error);
        notes.error(pos, &Path::Root, grammar(&bare(&error, pos)));
        return None;
    }
    match serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(settings) => Some(settings),
        Err(error) => {
            let path = without_passwords(&error.path().to_string());
            let error = error.into_inner();
            let pos = place(&error);
            let path = if path == "." { "" } else { &path };
            notes.error(pos, &Path::Written(path), explain(&bare(&error, pos)));
            None
        }
    }
}

fn place(error: &serde_yaml::Error) -> Pos {
    error.location().map_or_else(Pos::default, |place| Pos {
        line: u32::try_from(place.line()).unwrap_or(u32::MAX),
        column: u32::try_from(place.column()).unwrap_or(u32::MAX),
    })
}

/// What to say of a file that cannot be read as YAML.
fn grammar(message: &str) -> Said {
    if message.contains("more than one document") {
        return Said::with_hint("a second document", "settings are one: remove the `---`");
    }
    // It may quote the file.
    format!("not YAML: {}", without_passwords(message)).into()
}

/// serde_yaml's message without the place and the path that it adds.
fn bare(error: &serde_yaml::Error, pos: Pos) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", pos.line, pos.column);
    let message = message.replacen(&place, "", 1);
    // A path is one word; what serde says of a value has spaces before its first colon.
    match message.split_once(": ") {
        Some((path, rest)) if !path.contains(' ') => rest.to_owned(),
        _ => message,
    }
}
