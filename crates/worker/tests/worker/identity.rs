//! As whom a worker asks a store, and through whom, where a cluster says so in its environment.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::artifact::{Place, Tiny};
use crate::support::process::{BINARY, Process, serving};
use crate::support::store::{BUCKET, KEYS, Store};

const ROLE: &str = "arn:aws:iam::123456789012:role/lamp";
const TOKEN: &str = "token-of-the-service-account";
const SESSION: &str = "of-a-session";
const NEVER: &str = "2999-01-01T00:00:00Z";

#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "RoleArn")]
    role: String,
    #[serde(rename = "WebIdentityToken")]
    token: String,
}

/// What AWS's token service says to a service account that assumes a role
/// (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>).
async fn assume(Query(asked): Query<Asked>) -> Result<String, StatusCode> {
    let known = asked.action == "AssumeRoleWithWebIdentity" && asked.role == ROLE;
    if !known || asked.token != TOKEN {
        return Err(StatusCode::FORBIDDEN);
    }
    let (id, secret) = KEYS;
    Ok(format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
         <AccessKeyId>{id}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
         <SessionToken>{SESSION}</SessionToken><Expiration>{NEVER}</Expiration>\
         </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    ))
}

/// The token service, which is asked over TLS alone; its address and its authority.
async fn token_service() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let app = Router::new().route("/", post(assume));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(app.clone()));
            tokio::spawn(async move {
                let socket = TokioIo::new(acceptor.accept(socket).await.unwrap());
                let server = Builder::new(TokioExecutor::new());
                drop(server.serve_connection(socket, service).await);
            });
        }
    });
    (url, certificate.pem())
}

/// What EKS's agent on a node says to a pod
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).
async fn pod_identity(headers: HeaderMap) -> Result<Json<Value>, StatusCode> {
    if headers.get(header::AUTHORIZATION).is_none_or(|found| found != TOKEN) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let (id, secret) = KEYS;
    Ok(Json(json!({
        "AccessKeyId": id, "SecretAccessKey": secret, "Token": SESSION, "Expiration": NEVER,
    })))
}

async fn agent() -> SocketAddr {
    let app = Router::new().route("/v1/credentials", get(pod_identity));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A worker whose model is in the store, with these files in the place of credentials.
async fn becomes_ready(
    store: &Store,
    place: &Place,
    files: &[(&str, String)],
    variables: &[(&str, String)],
) {
    Tiny::new().write(&store.folder("tiny"));
    let mut entry = place.entry("embedder");
    entry["source"] = json!({"uri": format!("s3://{BUCKET}/tiny")});
    entry["validation"] = json!({"cases": [{"name": "near", "check": {"similarity": {
        "texts": ["the lamp", "the lamp light"], "atLeast": "0.1",
    }}}]});
    if !files.is_empty() {
        let folder = place.path().join("credentials");
        fs::create_dir(&folder).unwrap();
        for (name, content) in files {
            fs::write(folder.join(name), content).unwrap();
        }
        entry["source"]["credentials"] = json!(folder);
    }
    place.write_manifest(&[entry]);
    let mut command = serving(Path::new(BINARY), place.path(), &[]);
    command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
    let mut worker = Process::start_as(command).await;
    worker.logged("every model passed: ready").await;
}

fn token(place: &Place) -> String {
    let path = place.path().join("token");
    fs::write(&path, TOKEN).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn the_role_of_the_pods_service_account_is_assumed() {
    let (store, place) = (Store::start().await, Place::new(&Tiny::new()));
    let (aws, authority) = token_service().await;
    let variables = [
        ("AWS_ENDPOINT_URL", store.url()),
        ("AWS_ROLE_ARN", ROLE.to_owned()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token(&place)),
        ("AWS_ENDPOINT_URL_STS", aws),
    ];
    becomes_ready(&store, &place, &[("ca.crt", authority)], &variables).await;
    assert_eq!(store.sessions(), [SESSION]);
}

#[tokio::test]
async fn an_agent_on_the_node_says_who_the_pod_is() {
    let (store, place, agent) = (Store::start().await, Place::new(&Tiny::new()), agent().await);
    let variables = [
        ("AWS_ENDPOINT_URL", store.url()),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{agent}/v1/credentials")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token(&place)),
    ];
    becomes_ready(&store, &place, &[], &variables).await;
    assert_eq!(store.sessions(), [SESSION]);
}

/// The store's name has no address (<https://www.rfc-editor.org/rfc/rfc6761#section-6.4>): only the
/// proxy, which here is the store itself, is reached.
#[tokio::test]
async fn a_store_is_reached_through_the_proxy_of_the_environment() {
    let (store, place) = (Store::start().await, Place::new(&Tiny::new()));
    let (id, secret) = KEYS;
    let variables = [
        ("HTTP_PROXY", store.url()),
        ("AWS_ENDPOINT_URL", "http://store.invalid".to_owned()),
        ("AWS_ACCESS_KEY_ID", id.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
    ];
    becomes_ready(&store, &place, &[], &variables).await;
    assert!(store.sent("model.safetensors") > 0);
}
