//! The files that settings name: whether each is there, can be read, and holds what it is for.
//!
//! Without this, a path with a mistake in it would be found out by the first connection that needs
//! the file, long after the start. What is read here is dropped again: passwords and certificates
//! are read again when they are used.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{PemObject, SectionKind};

use super::{ListenAddr, Origins, RedisTls, Settings};
use crate::config::report::{Problem, Report, Said, Severity};
use crate::store::redis::{TlsFiles, check_tls_files};

/// Notes every file that cannot be used, at the setting that names it.
pub(super) fn note(
    settings: &Settings,
    env: &[(String, String)],
    origins: &Origins,
    report: &mut Report,
) {
    let mut notes = Notes { origins, report };
    let redis = &settings.store.redis;
    for (path, file, holds) in [
        (
            "store.redis.password_file",
            &redis.password_file,
            Holds::Password,
        ),
        (
            "store.redis.sentinel.password_file",
            &redis.sentinel.password_file,
            Holds::Password,
        ),
        ("admin.token_file", &settings.admin.token_file, Holds::Token),
    ] {
        if let Some(file) = file {
            notes.file(path, file, holds);
        }
    }
    note_tls("store.redis.tls", &redis.tls, &mut notes);
    note_tls("store.redis.sentinel.tls", &redis.sentinel.tls, &mut notes);
    let listen = &settings.listen;
    for (path, address) in [
        ("listen.grpc", &listen.grpc),
        ("listen.http", &listen.http),
        ("listen.admin", &listen.admin),
    ] {
        if let ListenAddr::Unix(socket) = address
            && let Err(said) = folder_of(socket)
        {
            notes.error(path, said);
        }
    }
    note_otel(settings, env, report);
}

struct Notes<'n> {
    origins: &'n Origins,
    report: &'n mut Report,
}

impl Notes<'_> {
    /// Notes what is wrong with a file; whether nothing is.
    fn file(&mut self, path: &str, file: &Path, holds: Holds) -> bool {
        match check(file, holds) {
            Ok(None) => true,
            Ok(Some(warning)) => {
                self.origins
                    .note(self.report, Severity::Warning, path, warning);
                true
            }
            Err(said) => {
                self.error(path, said);
                false
            }
        }
    }

    fn error(&mut self, path: &str, said: Said) {
        self.origins.note(self.report, Severity::Error, path, said);
    }
}

/// Each file by itself; then whether they can be used together.
fn note_tls(group: &str, tls: &RedisTls, notes: &mut Notes<'_>) {
    let mut usable = |name: &str, file: &Option<std::path::PathBuf>, holds| {
        let Some(file) = file else { return true };
        notes.file(&format!("{group}.{name}"), file, holds)
    };
    let trusted = usable("ca_file", &tls.ca_file, Holds::Certificates);
    let shown = usable("cert_file", &tls.cert_file, Holds::Certificates);
    let identity = usable("key_file", &tls.key_file, Holds::Key) && shown;
    let only = |ca_file: bool, identity: bool| TlsFiles {
        ca_file: tls.ca_file.clone().filter(|_| ca_file),
        cert_file: tls.cert_file.clone().filter(|_| identity),
        key_file: tls.key_file.clone().filter(|_| identity),
        server_name: None,
    };
    if trusted
        && tls.ca_file.is_some()
        && let Err(failure) = check_tls_files(&only(true, false))
    {
        notes.error(&format!("{group}.ca_file"), failure.detail.into());
    }
    if identity
        && tls.cert_file.is_some()
        && tls.key_file.is_some()
        && let Err(failure) = check_tls_files(&only(false, true))
    {
        let hint = "name a certificate and the key that it was made for";
        notes.error(
            &format!("{group}.cert_file"),
            Said::with_hint(failure.detail, hint),
        );
    }
}

/// OpenTelemetry's variables are often set for a whole cluster, so that these are warnings. Only
/// files of receivers that are pushed to by TLS matter.
fn note_otel(settings: &Settings, env: &[(String, String)], report: &mut Report) {
    let Some(push) = settings.push() else { return };
    let targets = [&push.metrics, &push.traces];
    let used: Vec<(&Path, Holds)> = targets
        .into_iter()
        .flatten()
        .filter(|target| target.endpoint.scheme_str() == Some("https"))
        .flat_map(|target| {
            let ca = target.files.ca.as_deref();
            let identity = target.files.identity.as_ref();
            [
                (ca, Holds::Certificates),
                (
                    identity.map(|(certificate, _)| &**certificate),
                    Holds::Certificates,
                ),
                (identity.map(|(_, key)| &**key), Holds::Key),
            ]
        })
        .filter_map(|(path, holds)| Some((path?, holds)))
        .collect();
    for (name, value) in env {
        let file = Path::new(value.trim());
        let names_file = name.starts_with("OTEL_EXPORTER_OTLP_")
            && (name.ends_with("CERTIFICATE") || name.ends_with("CLIENT_KEY"));
        let Some((_, holds)) = used.iter().find(|(path, _)| names_file && *path == file) else {
            continue;
        };
        if let Err(said) = check(file, *holds) {
            let (message, hint) = said.into_parts();
            report.push(Problem {
                severity: Severity::Warning,
                file: name.as_str().into(),
                line: 0,
                column: 0,
                path: String::new(),
                message: format!("{message}; nothing can be pushed until it can be used"),
                hint,
            });
        }
    }
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// One or more certificates, as PEM.
    Certificates,
    /// A private key, as PEM.
    Key,
    Password,
    Token,
}

impl Holds {
    const fn name(self) -> &'static str {
        match self {
            Self::Certificates => "certificate",
            Self::Key => "private key",
            Self::Password => "password",
            Self::Token => "token",
        }
    }
}

/// Whether a file can be used; what looks wrong in one that can.
pub(super) fn check(path: &Path, holds: Holds) -> Result<Option<Said>, Said> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if metadata.is_dir() {
        let message = format!("{} is a folder, not a file", path.display());
        let hint = format!("name the file in it that holds the {}", holds.name());
        return Err(Said::with_hint(message, hint));
    }
    // What comes through a pipe can be read once only, and not by us.
    if !metadata.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
    let read = read.map_err(|error| unreadable(path, &error))?;
    if u64::try_from(read).is_ok_and(|read| read >= LARGEST) {
        let message = format!("{} is larger than 1 MiB", path.display());
        return Err(Said::with_hint(
            message,
            format!("it holds one {}", holds.name()),
        ));
    }
    if bytes.trim_ascii().is_empty() {
        let message = format!("{} is empty", path.display());
        return Err(Said::with_hint(
            message,
            format!("put the {} into it", holds.name()),
        ));
    }
    match holds {
        Holds::Certificates | Holds::Key => pem(path, &bytes, holds).map(|()| None),
        Holds::Password => password(path, &bytes),
        Holds::Token => Ok(None),
    }
}

fn password(path: &Path, bytes: &[u8]) -> Result<Option<Said>, Said> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        let message = format!("{} is not UTF-8", path.display());
        return Err(Said::with_hint(message, "a password is text"));
    };
    let lines = text.strip_suffix('\n').unwrap_or(text).contains('\n');
    Ok(lines.then(|| {
        let message = format!("{} has more than one line", path.display());
        Said::with_hint(
            message,
            "all of them are taken for the password, save the last line's end",
        )
    }))
}

fn pem(path: &Path, bytes: &[u8], holds: Holds) -> Result<(), Said> {
    let shown = path.display();
    let mut kinds = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        match section {
            Ok((kind, der)) => {
                kinds.push(kind);
                if kind == SectionKind::Certificate && holds == Holds::Certificates {
                    readable(path, &der)?;
                }
            }
            Err(error) => {
                let message = format!("{shown} is not PEM: {error}");
                return Err(Said::with_hint(message, PEM_HINT));
            }
        }
    }
    let is_key = |kind: &SectionKind| {
        matches!(
            kind,
            SectionKind::EcPrivateKey | SectionKind::PrivateKey | SectionKind::RsaPrivateKey
        )
    };
    let is_certificate = |kind: &SectionKind| *kind == SectionKind::Certificate;
    let (wanted, other, other_name) = match holds {
        Holds::Key => (
            kinds.iter().any(is_key),
            kinds.iter().any(is_certificate),
            "certificate",
        ),
        _ => (
            kinds.iter().any(is_certificate),
            kinds.iter().any(is_key),
            "private key",
        ),
    };
    if wanted {
        return Ok(());
    }
    let message = format!("{shown} holds no {} in PEM", holds.name());
    let text = String::from_utf8_lossy(bytes);
    Err(match (other, text.contains("ENCRYPTED PRIVATE KEY")) {
        (true, _) => Said::with_hint(message, format!("it holds a {other_name}")),
        (false, true) if holds == Holds::Key => Said::with_hint(
            format!("the private key in {shown} is encrypted"),
            "decrypt it with openssl pkey, and let nobody else read the file",
        ),
        (false, _) => Said::with_hint(message, PEM_HINT),
    })
}

/// A certificate has to be one that can be read, at least as far as an authority's has to.
fn readable(path: &Path, der: &[u8]) -> Result<(), Said> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(der)).map_err(|error| {
        let message = format!(
            "{} holds a certificate that cannot be read: {error}",
            path.display()
        );
        Said::with_hint(message, PEM_HINT)
    })
}

/// Why there is no reading of a file.
fn unreadable(path: &Path, error: &io::Error) -> Said {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound => missing(path),
        ErrorKind::PermissionDenied => Said::with_hint(
            format!("{shown} cannot be read: permission denied"),
            "let the user that tollgate runs as read it",
        ),
        _ => Said::with_hint(
            format!("{shown} cannot be read: {error}"),
            "correct the path",
        ),
    }
}

/// A file that is not there, or something on the way to it.
fn missing(path: &Path) -> Said {
    let shown = path.display();
    if let Ok(target) = fs::read_link(path) {
        let message = format!(
            "{shown} is a link to {}, which does not exist",
            target.display()
        );
        return Said::with_hint(message, "create that file, or correct the link");
    }
    let mut message = format!("{shown} does not exist");
    if path.is_relative()
        && let Ok(absolute) = std::path::absolute(path)
    {
        message.push_str(&format!(
            " (from the working directory: {})",
            absolute.display()
        ));
    }
    Said::with_hint(message, "create it, or correct the path")
}

/// Whether there can be a socket: it needs a folder.
fn folder_of(socket: &Path) -> Result<(), Said> {
    let folder = match socket.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => return Ok(()),
    };
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => {
            let message = format!(
                "{} is not a folder, so no socket can be in it",
                folder.display()
            );
            Err(Said::with_hint(message, "correct the path"))
        }
        Err(error) => Err(unreadable(folder, &error)),
    }
}

const PEM_HINT: &str = "PEM is text between -----BEGIN and -----END lines; openssl converts others";

/// Bytes of a file that are read at most.
const LARGEST: u64 = 1024 * 1024;
