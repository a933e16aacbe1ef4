//! Certificates for a server and its clients, by an authority of a test's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// PEM files in a folder that lives as long as this.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    folder: Arc<TempDir>,
}

impl Certificates {
    /// Makes an authority, a server's certificate for 127.0.0.1 and localhost, and a client's.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let authority = authority();
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).expect("a writable folder");
        };
        write("ca.pem", authority.pem());
        for (name, hosts) in [
            (
                "server",
                vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            ),
            ("client", vec![]),
        ] {
            let key = KeyPair::generate().expect("a key");
            let signed = named(name, hosts).signed_by(&key, &authority);
            write(&format!("{name}.pem"), signed.expect("a certificate").pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self {
            folder: Arc::new(folder),
        }
    }

    /// Who signed all of them.
    pub(crate) fn authority(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// What a client shows, and its key.
    pub(crate) fn client(&self) -> (PathBuf, PathBuf) {
        (self.file("client.pem"), self.file("client.key"))
    }

    /// What a server shows, and its key.
    pub(crate) fn server(&self) -> (PathBuf, PathBuf) {
        (self.file("server.pem"), self.file("server.key"))
    }

    /// A server's settings: its clients must show a certificate by the same authority.
    pub(super) fn configure(&self, line: &mut impl FnMut(String)) {
        let mut set =
            |name: &str, file: &str| line(format!("{name} {}", self.file(file).display()));
        set("tls-cert-file", "server.pem");
        set("tls-key-file", "server.key");
        set("tls-ca-cert-file", "ca.pem");
        line("tls-auth-clients yes".into());
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = named("authority", vec![]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}

fn named(name: &str, hosts: Vec<String>) -> CertificateParams {
    let mut params = CertificateParams::new(hosts).expect("host names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
