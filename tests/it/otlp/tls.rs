//! A receiver that wants TLS and a certificate.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use parking_lot::Mutex;
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::POLICY;
use super::receiver::Receiver;
use crate::envoy::bed::{TOLLGATE, Tollgate};
use crate::process::until;
use crate::topology::Certificates;

/// A Tollgate that pushes there, and trusts and shows these certificates.
async fn start(endpoint: SocketAddr, protocol: &str, certificates: &Certificates) -> Tollgate {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), POLICY).unwrap();
    let mut command = Command::new(TOLLGATE);
    command.arg("serve").arg("--policies").arg(folder.path());
    let (certificate, key) = certificates.client();
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://{endpoint}"))
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("OTEL_EXPORTER_OTLP_CERTIFICATE", certificates.authority())
        .env("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate)
        .env("OTEL_EXPORTER_OTLP_CLIENT_KEY", key)
        .env("OTEL_METRIC_EXPORT_INTERVAL", "100");
    Tollgate::run(command, ([127, 0, 0, 1], 0).into(), folder).await
}

#[tokio::test]
async fn metrics_go_over_grpc_with_tls_and_certificates_on_both_sides() {
    let certificates = Certificates::new();
    let (certificate, key) = certificates.server();
    let read = |path| std::fs::read(path).unwrap();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(read(certificate), read(key)))
        .client_ca_root(Certificate::from_pem(read(certificates.authority())));
    let receiver = Receiver::with_tls(tls).await;
    let _tollgate = start(receiver.grpc, "grpc", &certificates).await;
    until("a push", || (!receiver.pushes().is_empty()).then_some(())).await;
}

#[tokio::test]
async fn a_receiver_that_nobody_trusts_gets_nothing_and_that_is_told() {
    let (theirs, ours) = (Certificates::new(), Certificates::new());
    let (certificate, key) = theirs.server();
    let read = |path| std::fs::read(path).unwrap();
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(read(certificate), read(key)));
    let receiver = Receiver::with_tls(tls).await;
    let mut tollgate = start(receiver.grpc, "grpc", &ours).await;
    let why = |line: &str| line.contains("certificate").then_some(());
    tollgate.process.line("why not", why).await;
    assert!(receiver.pushes().is_empty());
}

#[tokio::test]
async fn metrics_go_over_http_with_tls_and_certificates_on_both_sides() {
    let certificates = Certificates::new();
    let (address, taken) = https(&certificates);
    let _tollgate = start(address, "http/protobuf", &certificates).await;
    let push = until("a push", || taken.lock().pop()).await;
    assert!(push.resource_metrics[0].resource.is_some());
}

/// Takes one request on each connection.
fn https(
    certificates: &Certificates,
) -> (SocketAddr, Arc<Mutex<Vec<ExportMetricsServiceRequest>>>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(certificates.authority()).unwrap();
    roots.add(authority).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (certificate, key) = certificates.server();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_file(certificate).unwrap()],
            PrivateKeyDer::from_pem_file(key).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let taken = Arc::new(Mutex::new(Vec::new()));
    let keeping = Arc::clone(&taken);
    // It waits for connections until the tests end.
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            // Whoever goes in the middle of it is not our concern.
            if let Ok(request) = take(StreamOwned::new(tls, connection)) {
                keeping.lock().push(request);
            }
        }
    });
    (address, taken)
}

fn take(stream: impl Read + Write) -> std::io::Result<ExportMetricsServiceRequest> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while stream.read_line(&mut line)? > 2 {
        let header = line.to_ascii_lowercase();
        if let Some(number) = header.strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.get_mut().write_all(answer)?;
    stream.get_mut().flush()?;
    Ok(ExportMetricsServiceRequest::decode(&body[..]).unwrap())
}
