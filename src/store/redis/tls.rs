//! What is shown and what is trusted in a TLS handshake.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::{Failure, FailureClass, TlsFiles};

/// What to speak TLS with; the files are read now.
///
/// Without a `ca_file` the machine's authorities are trusted, which operators already keep up to
/// date and to which they may have added their own; a list built in would age with the binary.
pub(super) fn client(files: &TlsFiles) -> Result<ClientConfig, Failure> {
    configured(files, roots(files.ca_file.as_deref())?)
}

/// Whether the files can be used, and the certificate belongs to the key. The machine's own
/// authorities are not looked at.
///
/// # Errors
/// If they cannot be used, with the reason.
pub fn check_tls_files(files: &TlsFiles) -> Result<(), Failure> {
    let roots = match &files.ca_file {
        Some(path) => roots(Some(path))?,
        None => RootCertStore::empty(),
    };
    configured(files, roots).map(drop)
}

fn configured(files: &TlsFiles, roots: RootCertStore) -> Result<ClientConfig, Failure> {
    // Named, and not the process's default, of which there might be none or another.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(format!("TLS cannot be set up: {error}")))?
        .with_root_certificates(roots);
    match (&files.cert_file, &files.key_file) {
        (Some(cert_file), Some(key_file)) => {
            let chain = certificates(cert_file, "tls.cert_file")?;
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| unreadable("tls.key_file", key_file, &error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                unusable(format!(
                    "tls.cert_file {} and tls.key_file {} do not fit together: {error}",
                    cert_file.display(),
                    key_file.display()
                ))
            })
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(_), None) => Err(unusable(
            "tls.cert_file is set without tls.key_file: set both, or neither",
        )),
        (None, Some(_)) => Err(unusable(
            "tls.key_file is set without tls.cert_file: set both, or neither",
        )),
    }
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in certificates(path, "tls.ca_file")? {
                roots.add(certificate).map_err(|error| {
                    let path = path.display();
                    unusable(format!("tls.ca_file {path} holds no authority: {error}"))
                })?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (_usable, _ignored) = roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                return Err(unusable(
                    "this machine trusts no authority: install its package of CA certificates, or \
                     set tls.ca_file",
                ));
            }
        }
    }
    Ok(roots)
}

fn certificates(path: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, PemError>>)
        .map_err(|error| unreadable(setting, path, &error))?;
    match read.is_empty() {
        true => Err(unusable(format!(
            "{setting} {} holds no certificate in PEM",
            path.display()
        ))),
        false => Ok(read),
    }
}

fn unreadable(setting: &str, path: &Path, error: &PemError) -> Failure {
    let path = path.display();
    match error {
        PemError::Io(error) => unusable(format!("cannot read {setting} {path}: {error}")),
        // The library's text for this names its own types.
        PemError::NoItemsFound => unusable(format!("{setting} {path} holds no PEM of that kind")),
        error => unusable(format!("{setting} {path} is not PEM: {error}")),
    }
}

fn unusable(detail: impl Into<String>) -> Failure {
    Failure::new(FailureClass::Tls, detail)
}
