//! TLS for the serving listener, with a certificate that may be replaced while it is in use.
//!
//! Connections keep the certificate that they began with; `--max-connection-age-seconds` bounds for
//! how long.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::reload::{self, Contents};

/// What clients may speak, the best first
/// (<https://www.iana.org/assignments/tls-extensiontype-values#alpn-protocol-ids>).
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificate that is in force.
pub struct Tls(RwLock<Arc<ServerConfig>>);

/// Why a certificate is not taken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("the certificate or its key cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// The first file is no certificate.
    #[error("the file of certificates is not PEM with at least one: {0}")]
    NoCertificate(pem::Error),
    /// The second file is no key.
    #[error("the file of the key is not PEM with a private key: {0}")]
    NoKey(pem::Error),
    /// They do not go together, or are of a kind that is not spoken here.
    #[error("the certificate and the key cannot be used together: {0}")]
    Unusable(#[from] rustls::Error),
}

impl Tls {
    /// Reads a chain of certificates and a private key, both PEM, and goes on to read them for as
    /// long as the process runs. A pair that cannot be used leaves the last one in force.
    ///
    /// Must be called inside a tokio runtime.
    pub fn from_files(certificates: PathBuf, key: PathBuf) -> Result<Arc<Self>, TlsError> {
        let paths = vec![certificates, key];
        let contents = reload::read(&paths)?;
        let tls = Arc::new(Self(RwLock::new(config(&contents)?)));
        let taking = Arc::clone(&tls);
        let take = move |contents: &Contents| taking.take(contents);
        tokio::spawn(reload::keep_up(paths, contents, reload::EVERY, "TLS certificate", take));
        Ok(tls)
    }

    /// For the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)).into()
    }

    fn take(&self, contents: &Contents) -> Result<(), TlsError> {
        let config = config(contents)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }
}

fn config(contents: &Contents) -> Result<Arc<ServerConfig>, TlsError> {
    let file = |at: usize| contents.0.get(at).map(Vec::as_slice).unwrap_or_default();
    let chain = CertificateDer::pem_slice_iter(file(0)).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(TlsError::NoCertificate)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_slice(file(1)).map_err(TlsError::NoKey)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> [Vec<u8>; 2] {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        [certificate.pem().into_bytes(), key.serialize_pem().into_bytes()]
    }

    #[test]
    fn only_a_certificate_with_its_own_key_is_taken() {
        let [certificate, key] = pair();
        let [_, other] = pair();
        let take = |certificate: &[u8], key: &[u8]| {
            config(&Contents(vec![certificate.to_vec(), key.to_vec()])).map(|_| ())
        };
        assert!(take(&certificate, &key).is_ok());
        assert!(matches!(take(&certificate, &other), Err(TlsError::Unusable(_))));
        assert!(matches!(take(&key, &key), Err(TlsError::NoCertificate(_))));
        assert!(matches!(take(b"", &key), Err(TlsError::NoCertificate(_))));
        assert!(matches!(take(&certificate, &certificate), Err(TlsError::NoKey(_))));
        let half = &certificate[..certificate.len() / 2];
        assert!(take(half, &key).is_err(), "half a file is no certificate");
    }
}
