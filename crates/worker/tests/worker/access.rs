//! Keys and certificates of a running worker, and what happens when their files change.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use lamplighter_protocol::{Failure, Reason};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use crate::life::record_golden;
use crate::support::DEADLINE;
use crate::support::artifact::{Place, Tiny};
use crate::support::client::Http;
use crate::support::process::{Process, serve_to_end};

/// Writes a pair of files as the kubelet does: all at once. Returns the certificate.
fn certify(dir: &Path, folder: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let own = dir.join(folder);
    fs::create_dir(&own).unwrap();
    fs::write(own.join("tls.crt"), &certificate).unwrap();
    fs::write(own.join("tls.key"), key.serialize_pem()).unwrap();
    std::os::unix::fs::symlink(folder, dir.join("..next")).unwrap();
    fs::rename(dir.join("..next"), dir.join("tls")).unwrap();
    certificate
}

/// The first line of the answer to a request over TLS, and the protocol that was agreed upon.
async fn ask(
    address: SocketAddr,
    trusted: &str,
    protocol: &str,
    key: &str,
) -> Result<(String, Vec<u8>), std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let agreed = stream.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
    if protocol == "h2" {
        return Ok((String::new(), agreed));
    }
    let body = json!({"model": "embedder", "input": "lamp"}).to_string();
    let request = format!(
        "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok((answer.lines().next().unwrap_or_default().to_owned(), agreed))
}

/// Asks until the answer is as wanted.
async fn until<T>(what: &str, mut asked: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = asked().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("never: {what}"))
}

#[tokio::test]
async fn keys_and_certificates_are_replaced_while_the_worker_serves() {
    let place = Place::new(&Tiny::new());
    record_golden(&place, &["--text", "the lamp"]).await;
    place.write_manifest(&[place.entry("embedder")]);
    let file = |name: &str| place.path().join(name);
    let first = certify(place.path(), "..1");
    fs::write(file("keys"), "wick\n").unwrap();
    let (keys, tls) = (file("keys"), file("tls"));
    let flags = [
        ("--api-keys-file", keys.clone()),
        ("--tls-cert-file", tls.join("tls.crt")),
        ("--tls-key-file", tls.join("tls.key")),
    ];
    let flags = flags.map(|(flag, path)| [flag.to_owned(), path.display().to_string()]);
    let flags: Vec<&str> = flags.iter().flatten().map(String::as_str).collect();
    let worker = Process::start(place.path(), &flags).await;
    let serving = worker.serving;
    Http::one().ready_is(worker.admin, StatusCode::OK).await;

    let status = async |trusted: &str, key: &str| {
        ask(serving, trusted, "http/1.1", key).await.map(|(line, _)| line).unwrap_or_default()
    };
    assert_eq!(status(&first, "wick").await, "HTTP/1.1 200 OK");
    assert_eq!(status(&first, "oil").await, "HTTP/1.1 401 Unauthorized");
    assert_eq!(ask(serving, &first, "h2", "wick").await.unwrap().1, b"h2");
    let plain = Http::one().get(serving, "/health").await;
    assert!(plain.is_err(), "the serving port speaks TLS alone: {plain:?}");

    fs::write(file("keys"), "wick\noil\n").unwrap();
    let oil = async || (status(&first, "oil").await == "HTTP/1.1 200 OK").then_some(());
    until("the new key is in force", oil).await;
    fs::write(file("keys"), "oil\n").unwrap();
    let wick = async || (status(&first, "wick").await == "HTTP/1.1 401 Unauthorized").then_some(());
    until("the old key is out of force", wick).await;
    fs::remove_file(file("keys")).unwrap();

    let second = certify(place.path(), "..2");
    let renewed = async || (status(&second, "oil").await == "HTTP/1.1 200 OK").then_some(());
    until("the new certificate is in force, and a file that is gone takes no key away", renewed)
        .await;
    assert_eq!(status(&first, "oil").await, "", "the old certificate is gone");
    fs::write(tls.join("tls.crt"), "no certificate").unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(status(&second, "oil").await, "HTTP/1.1 200 OK", "what is broken is not taken");

    worker.terminate();
    let ended = worker.ended().await;
    assert!(ended.status.success(), "{ended:?}");
    let log = format!("{:?}", ended.log);
    assert!(!log.contains("wick") && !log.contains("oil"), "a key is in the log: {log}");
    assert!(log.contains("API keys") && log.contains("TLS certificate"), "{log}");
}

#[tokio::test]
async fn files_that_cannot_be_used_end_the_start_with_their_reason() {
    let place = Place::new(&Tiny::new());
    place.write_manifest(&[place.entry("embedder")]);
    let empty = place.path().join("empty");
    fs::write(&empty, "# nobody\n").unwrap();
    let empty = empty.display().to_string();
    let keys = Reason::ApiKeysUnusable;
    for (flags, reason, says) in [
        (vec!["--api-keys-file", empty.as_str()], keys, "holds no key"),
        (vec!["--api-keys-file", "/nowhere"], keys, "/nowhere: the file of keys cannot be read"),
        (
            vec!["--tls-cert-file", &empty, "--tls-key-file", &empty],
            Reason::ArgumentsInvalid,
            "certificate",
        ),
    ] {
        let ended = serve_to_end(place.path(), &flags).await;
        assert!(!ended.status.success(), "{flags:?}");
        let left = fs::read_to_string(place.termination_log()).unwrap();
        let failure = Failure::from_termination_message(&left).expect(&left);
        assert_eq!(failure.reason, reason, "{flags:?}");
        assert!(failure.to_string().contains(says), "{flags:?}: {left}");
    }
}
