//! What is said of files that settings name.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::files::{Holds, check};
use crate::config::Report;
use crate::config::settings::{Loaded, Overrides, Settings};

/// A folder with a file of every kind.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(TempDir::new().unwrap());
        let (certificate, key) = identity();
        let (_, other_key) = identity();
        for (name, text) in [
            ("cert.pem", certificate.as_str()),
            ("key.pem", &key),
            ("other-key.pem", &other_key),
            ("both.pem", &format!("{key}{certificate}")),
            ("empty", ""),
            ("blank", " \n"),
            ("text", "just words\n"),
            ("secret", "hunter2\n"),
            ("lines", "hunter2\nmore\n"),
            ("broken.pem", &certificate.replace("MI", "!!")),
            ("cut.pem", certificate.get(..200).unwrap()),
            (
                "encrypted.pem",
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            ),
            (
                "odd.pem",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ),
        ] {
            fs::write(folder.path(name), text).unwrap();
        }
        fs::write(folder.path("latin1"), b"hunt\xe9r2").unwrap();
        fs::write(folder.path("large"), vec![b'x'; 1024 * 1024]).unwrap();
        symlink("nowhere", folder.path("dangling")).unwrap();
        symlink("circle", folder.path("circle")).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What is said of a file, without the folder's name.
    fn said(&self, name: &str, holds: Holds) -> String {
        let said = match check(&self.path(name), holds) {
            Ok(None) => return "fine".to_owned(),
            Ok(Some(said)) | Err(said) => said,
        };
        let (message, hint) = said.into_parts();
        let folder = format!("{}/", self.0.path().display());
        format!("{message} ({})", hint.unwrap()).replace(&folder, "")
    }
}

/// A certificate and its key, as PEM.
fn identity() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Files, what they are to hold, and what is said of them.
const REFUSED: &[(&str, Holds, &str)] = &[
    (
        "none",
        Holds::Password,
        "none does not exist (create it, or correct the path)",
    ),
    (
        "empty",
        Holds::Password,
        "empty is empty (put the password into it)",
    ),
    (
        "blank",
        Holds::Token,
        "blank is empty (put the token into it)",
    ),
    (
        "empty",
        Holds::Certificates,
        "empty is empty (put the certificate into it)",
    ),
    (
        "latin1",
        Holds::Password,
        "latin1 is not UTF-8 (a password is text)",
    ),
    (
        "large",
        Holds::Key,
        "large is larger than 1 MiB (it holds one private key)",
    ),
    (
        "",
        Holds::Token,
        " is a folder, not a file (name the file in it that holds the token)",
    ),
    (
        "dangling",
        Holds::Key,
        "dangling is a link to nowhere, which does not exist (create that file, or correct the \
             link)",
    ),
    (
        "lines",
        Holds::Password,
        "lines has more than one line (all of them are taken for the password, save the last \
             line's end)",
    ),
    (
        "key.pem",
        Holds::Certificates,
        "key.pem holds no certificate in PEM (it holds a private key)",
    ),
    (
        "cert.pem",
        Holds::Key,
        "cert.pem holds no private key in PEM (it holds a certificate)",
    ),
    (
        "encrypted.pem",
        Holds::Key,
        "the private key in encrypted.pem is encrypted (decrypt it with openssl pkey, and let \
             nobody else read the file)",
    ),
];

#[test]
fn each_file_has_to_hold_what_it_is_for() {
    let folder = Folder::new();
    for (name, holds) in [
        ("secret", Holds::Password),
        ("text", Holds::Token),
        ("cert.pem", Holds::Certificates),
        ("both.pem", Holds::Certificates),
        ("both.pem", Holds::Key),
        ("key.pem", Holds::Key),
    ] {
        assert_eq!(folder.said(name, holds), "fine", "{name}");
    }
    for (name, holds, said) in REFUSED {
        assert_eq!(folder.said(name, *holds), *said, "{name}");
    }
    for (name, said) in [
        (
            "text",
            "text holds no certificate in PEM (PEM is text between -----BEGIN",
        ),
        ("cut.pem", "cut.pem is not PEM: "),
        ("broken.pem", "broken.pem is not PEM: "),
        (
            "odd.pem",
            "odd.pem holds a certificate that cannot be read: ",
        ),
        ("circle", "circle cannot be read: "),
        ("secret/x", "secret/x cannot be read: "),
    ] {
        let found = folder.said(name, Holds::Certificates);
        assert!(found.starts_with(said), "{name}: {found}");
    }
    let relative = check(Path::new("no/such/file"), Holds::Key).unwrap_err();
    let (message, _) = relative.into_parts();
    assert!(message.starts_with("no/such/file does not exist (from the working directory: /"));
}

fn load(text: &str, env: &[(&str, &str)]) -> Result<Loaded, Report> {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let flags = Overrides::default();
    Settings::load_to_serve(Some(("t.yaml", text.as_bytes())), env, flags)
}

#[test]
fn every_file_that_is_missing_is_told_at_once_with_its_place() {
    let text = "\
admin: {token_file: /none/token}
listen:
  grpc: unix:/none/grpc.sock
store:
  kind: redis
  redis:
    url: rediss-sentinel://s?sentinelServiceName=m
    password_file: /none/password
    tls:
      ca_file: /none/ca
      cert_file: /none/cert
      key_file: &key /none/key
    sentinel:
      password_file: '/none/sentinel'
      tls: {ca_file: /none/sca, cert_file: /none/scert, key_file: *key}
";
    let report = load(
        text,
        &[("TOLLGATE_STORE__REDIS__TLS__CA_FILE", "/none/other")],
    );
    let report = report.unwrap_err();
    let hint = "does not exist (create it, or correct the path)";
    let expected = [
        ("t.yaml:8:20", "store.redis.password_file: /none/password"),
        (
            "t.yaml:14:22",
            "store.redis.sentinel.password_file: /none/sentinel",
        ),
        ("t.yaml:1:21", "admin.token_file: /none/token"),
        (
            "TOLLGATE_STORE__REDIS__TLS__CA_FILE",
            "store.redis.tls.ca_file: /none/other",
        ),
        ("t.yaml:11:18", "store.redis.tls.cert_file: /none/cert"),
        ("t.yaml:12:17", "store.redis.tls.key_file: /none/key"),
        (
            "t.yaml:15:22",
            "store.redis.sentinel.tls.ca_file: /none/sca",
        ),
        (
            "t.yaml:15:44",
            "store.redis.sentinel.tls.cert_file: /none/scert",
        ),
        (
            "t.yaml:15:67",
            "store.redis.sentinel.tls.key_file: /none/key",
        ),
        ("t.yaml:3:9", "listen.grpc: /none"),
    ];
    let expected = expected.map(|(place, what)| format!("{place}: {what} {hint}"));
    assert_eq!(report.to_string(), expected.join("\n"));
    // Those who do not serve need no files.
    let file = Some(("t.yaml", text.as_bytes()));
    assert!(Settings::load(file, std::iter::empty(), Overrides::default()).is_ok());
}

#[test]
fn a_certificate_has_to_belong_to_its_key() {
    let folder = Folder::new();
    let load = |key: &str| {
        let (certificate, key) = (folder.path("cert.pem"), folder.path(key));
        load(
            &format!(
                "store:\n  kind: redis\n  redis:\n    url: rediss://h\n    tls: {{ca_file: {0}, \
                 cert_file: {0}, key_file: {1}}}\n",
                certificate.display(),
                key.display()
            ),
            &[],
        )
    };
    let loaded = load("key.pem").unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let report = load("other-key.pem").unwrap_err();
    assert_eq!(report.errors(), 1, "{report}");
    let report = report.to_string();
    assert!(report.starts_with("t.yaml:5:"), "{report}");
    assert!(
        report.contains("store.redis.tls.cert_file: tls.cert_file"),
        "{report}"
    );
    assert!(report.contains("do not fit together"), "{report}");
}

#[test]
fn a_pipe_is_not_read() {
    // Reading it here would wait for a writer, or take the password from the process that needs it.
    let folder = Folder::new();
    let pipe = folder.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    assert_eq!(folder.said("pipe", Holds::Password), "fine");
}

#[test]
fn files_of_opentelemetry_are_warned_of_where_they_matter() {
    let files = [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/none/ca"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/none/cert"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/none/key"),
    ];
    let warnings = |endpoint: &str| {
        let text = format!("telemetry: {{otlp_endpoint: '{endpoint}'}}\n");
        load(&text, &files).unwrap().warnings
    };
    assert!(warnings("http://h:4317").is_empty());
    let told = warnings("https://h:4317");
    assert_eq!((told.errors(), told.warnings()), (0, 3), "{told}");
    let first = told.to_string();
    assert!(
        first.starts_with(
            "OTEL_EXPORTER_OTLP_CERTIFICATE: warning: /none/ca does not exist; nothing can be \
             pushed until it can be used (create it"
        ),
        "{first}"
    );
}
