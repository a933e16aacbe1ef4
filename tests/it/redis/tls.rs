//! TLS: whom we trust, who trusts us, and what is said where that fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tollgate::store::redis::{Access, DECIDE, Failure, FailureClass, Place, TlsFiles, connect};

use super::node::{Node, PATIENCE, charge, free_port};
use crate::topology::Flavour;

#[tokio::test]
async fn a_server_with_a_certificate_of_our_authority_is_reached() {
    let files = Files::make();
    let server = Server::start(&files, "server", "no").await;
    let (connection, _) = server.enter("localhost", &files.trusted()).await.unwrap();
    let sha = connection.load(DECIDE).await.unwrap();
    connection
        .eval(sha.clone(), &charge(&["ann"]), PATIENCE)
        .await
        .unwrap();
    // Its address is in the certificate, too.
    server.enter("127.0.0.1", &files.trusted()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_ours() {
    let files = Files::make();
    let server = Server::start(&files, "server", "yes").await;
    let ours = TlsFiles {
        cert_file: Some(files.path("client.crt")),
        key_file: Some(files.path("client.key")),
        ..files.trusted()
    };
    server.enter("localhost", &ours).await.unwrap();
    server
        .refuses("localhost", &files.trusted(), "tls.cert_file")
        .await;
    let strange = TlsFiles {
        cert_file: Some(files.path("strange.crt")),
        key_file: Some(files.path("strange.key")),
        ..files.trusted()
    };
    server.refuses("localhost", &strange, "tls.cert_file").await;
}

#[tokio::test]
async fn a_certificate_that_is_not_right_is_refused_with_what_to_check() {
    let files = Files::make();
    let server = Server::start(&files, "server", "no").await;
    let of_others = TlsFiles {
        ca_file: Some(files.path("strange.crt")),
        ..TlsFiles::default()
    };
    server.refuses("localhost", &of_others, "tls.ca_file").await;
    let of_the_system = TlsFiles::default();
    server
        .refuses("localhost", &of_the_system, "tls.ca_file")
        .await;
    let other_name = TlsFiles {
        server_name: Some("redis.example".to_owned()),
        ..files.trusted()
    };
    server
        .refuses("localhost", &other_name, "tls.server_name")
        .await;
    let expired = Server::start(&files, "expired", "no").await;
    expired
        .refuses("localhost", &files.trusted(), "has expired")
        .await;
    let elsewhere = Server::start(&files, "elsewhere", "no").await;
    elsewhere
        .refuses("localhost", &files.trusted(), "another name")
        .await;
    let named = TlsFiles {
        server_name: Some("redis.example".to_owned()),
        ..files.trusted()
    };
    elsewhere.enter("localhost", &named).await.unwrap();
}

#[tokio::test]
async fn a_port_that_speaks_otherwise_is_recognized() {
    let files = Files::make();
    let server = Server::start(&files, "server", "no").await;
    let plain = server.node.place();
    let access = Access {
        tls: Some(files.trusted()),
        ..Access::default()
    };
    // Redis waits for the end of what it takes for a line.
    let within = Duration::from_millis(300);
    let failure = connect(&plain, &access, within).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Timeout, "{failure}");
    assert!(
        failure
            .detail
            .contains("does not speak TLS, the scheme is redis://"),
        "{failure}"
    );
    let secured = Place::tcp("localhost", server.port);
    let failure = connect(&secured, &Access::default(), PATIENCE)
        .await
        .unwrap_err();
    assert!(failure.detail.contains("rediss://"), "{failure}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let files = Files::make();
    fs::write(files.path("text"), "no certificate").unwrap();
    let client = |certificate: &str, key: &str| TlsFiles {
        cert_file: Some(files.path(certificate)),
        key_file: Some(files.path(key)),
        ..files.trusted()
    };
    let cases = [
        (
            authority(&files.path("none.crt")),
            "cannot read tls.ca_file",
        ),
        (authority(&files.path("text")), "holds no certificate"),
        (
            client("none.crt", "client.key"),
            "cannot read tls.cert_file",
        ),
        (client("client.crt", "none.key"), "cannot read tls.key_file"),
        (client("client.crt", "client.crt"), "tls.key_file"),
        (client("client.crt", "server.key"), "do not fit together"),
        (
            TlsFiles {
                key_file: None,
                ..client("client.crt", "client.key")
            },
            "without tls.key_file",
        ),
        (
            TlsFiles {
                cert_file: None,
                ..client("client.crt", "client.key")
            },
            "without tls.cert_file",
        ),
    ];
    for (tls, says) in cases {
        let access = Access {
            tls: Some(tls),
            ..Access::default()
        };
        let place = Place::tcp("localhost", free_port());
        let failure = connect(&place, &access, PATIENCE).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Tls, "{failure}");
        assert!(failure.detail.contains(says), "{says}: {failure}");
    }
    let access = Access {
        tls: Some(files.trusted()),
        ..Access::default()
    };
    let socket = Place::Unix(files.path("redis.sock"));
    let failure = connect(&socket, &access, PATIENCE).await.unwrap_err();
    assert!(failure.detail.contains("unix socket"), "{failure}");
}

/// Redis 7 with TLS on a port of its own. (The other two servers are built without.)
struct Server {
    node: Node,
    port: u16,
}

impl Server {
    async fn start(files: &Files, name: &str, ask_clients: &str) -> Self {
        let port = free_port();
        let path = |end: &str| files.path(&format!("{name}.{end}")).display().to_string();
        let authority = files.path("authority.crt").display().to_string();
        let settings = [
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &path("crt"),
            "--tls-key-file",
            &path("key"),
            "--tls-ca-cert-file",
            &authority,
            "--tls-auth-clients",
            ask_clients,
        ];
        Self {
            node: Node::start(Flavour::Redis7, &settings).await,
            port,
        }
    }

    async fn enter(
        &self,
        host: &str,
        tls: &TlsFiles,
    ) -> Result<
        (
            tollgate::store::redis::Connection,
            tollgate::store::redis::Reached,
        ),
        Failure,
    > {
        let access = Access {
            tls: Some(tls.clone()),
            ..Access::default()
        };
        connect(&Place::tcp(host, self.port), &access, PATIENCE).await
    }

    async fn refuses(&self, host: &str, tls: &TlsFiles, says: &str) {
        let failure = self.enter(host, tls).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Tls, "{failure}");
        assert!(failure.detail.contains(says), "{says}: {failure}");
    }
}

/// An authority, and what it has signed.
struct Files(TempDir);

impl Files {
    fn make() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let mut parameters = named("authority", &[]);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        fs::write(files.path("authority.crt"), authority.pem()).unwrap();
        for (name, hosts, expired) in [
            ("server", &["localhost", "127.0.0.1"][..], false),
            ("elsewhere", &["redis.example"], false),
            ("expired", &["localhost"], true),
            ("client", &["client"], false),
        ] {
            let mut parameters = named(name, hosts);
            if expired {
                parameters.not_before = date_time_ymd(2020, 1, 1);
                parameters.not_after = date_time_ymd(2021, 1, 1);
            }
            let key = KeyPair::generate().unwrap();
            let certificate = parameters.signed_by(&key, &authority).unwrap();
            fs::write(files.path(&format!("{name}.crt")), certificate.pem()).unwrap();
            fs::write(files.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        let key = KeyPair::generate().unwrap();
        let strange = named("strange", &["localhost"]).self_signed(&key).unwrap();
        fs::write(files.path("strange.crt"), strange.pem()).unwrap();
        fs::write(files.path("strange.key"), key.serialize_pem()).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn trusted(&self) -> TlsFiles {
        authority(&self.path("authority.crt"))
    }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut parameters = CertificateParams::new(hosts).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

fn authority(file: &Path) -> TlsFiles {
    TlsFiles {
        ca_file: Some(file.to_owned()),
        ..TlsFiles::default()
    }
}
