//! How stores are spoken to over HTTP: time-outs, certificates, what is tried again.
//!
//! Proxies are those of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`), certificate
//! authorities those of the system (`SSL_CERT_FILE`, `SSL_CERT_DIR`) and that of the settings.

use std::time::Duration;

use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};

use super::settings::{AUTHORITY, Settings};
use crate::error::ArtifactError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a response may pause. There is no limit on a whole response: its size is not known
/// to be small, and [`super::PATIENCE`] watches the whole fetch.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a request is made in all while nothing arrives.
pub(crate) const ATTEMPTS: u32 = 6;
/// Before the second attempt.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Before any later one.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Of a client of an object store. Plain HTTP is spoken only where the user wrote such an
/// endpoint.
pub(crate) fn options(
    settings: &Settings<'_>,
    endpoint: Option<&str>,
) -> Result<ClientOptions, ArtifactError> {
    let plain = endpoint.is_some_and(|url| url.starts_with("http://"));
    let mut options = ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        .with_timeout_disabled()
        .with_allow_http(plain);
    if let Some(pem) = settings.authority() {
        let certificates = Certificate::from_pem_bundle(pem.as_bytes())
            .map_err(|error| unusable_authority(&error.to_string()))?;
        if certificates.is_empty() {
            return Err(unusable_authority("it holds no certificate"));
        }
        for certificate in certificates {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

/// Six attempts within about 40 s when nothing answers, well within a fetch's patience.
pub(crate) fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: ATTEMPTS as usize - 1,
        retry_timeout: Duration::from_secs(40),
        backoff: BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: LONGEST_PAUSE, base: 2.0 },
    }
}

/// A client for what is no object store. It follows redirects, to HTTPS alone unless the endpoint
/// is plain HTTP itself.
pub(crate) fn client(
    settings: &Settings<'_>,
    endpoint: &str,
) -> Result<reqwest::Client, ArtifactError> {
    let mut authorities = Vec::new();
    if let Some(pem) = settings.authority() {
        authorities = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
            .map_err(|error| unusable_authority(&error.to_string()))?;
        if authorities.is_empty() {
            return Err(unusable_authority("it holds no certificate"));
        }
    }
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .https_only(!endpoint.starts_with("http://"))
        .user_agent(concat!("lamplighter/", env!("CARGO_PKG_VERSION")))
        .tls_certs_merge(authorities)
        .build()
        .map_err(|error| ArtifactError::SettingInvalid {
            setting: endpoint.to_owned(),
            problem: error.to_string(),
        })
}

fn unusable_authority(problem: &str) -> ArtifactError {
    ArtifactError::SettingInvalid { setting: AUTHORITY.to_owned(), problem: problem.to_owned() }
}
