//! `gs://`: Google Cloud Storage.

use std::path::Path;
use std::sync::Arc;

use object_store::gcp::GoogleCloudStorageBuilder;

use super::Source;
use super::bucket::Bucket;
use super::client::{options, retries};
use super::settings::{Environment, Settings};
use crate::error::ArtifactError;

/// In the folder the key itself, as JSON; in the environment the path of the file with it
/// (<https://cloud.google.com/docs/authentication/application-default-credentials>).
const KEY: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// Reads a public bucket as nobody.
const ANONYMOUS: &str = "GOOGLE_SKIP_SIGNATURE";
/// Another endpoint, such as a private one.
const ENDPOINT: &str = "GOOGLE_BASE_URL";
const NAMES: [&str; 3] = [KEY, ANONYMOUS, ENDPOINT];

const DEFAULT_ENDPOINT: &str = "https://storage.googleapis.com";

/// A client for a prefix, and the store's endpoint. Nothing is sent yet.
///
/// Without a key the pod's own identity is asked of the metadata server, as with Workload
/// Identity.
pub(super) fn open(
    bucket: &str,
    prefix: &str,
    uri: &str,
    credentials: Option<&Path>,
    environment: Environment<'_>,
) -> Result<(Box<dyn Source>, String), ArtifactError> {
    let settings = Settings::read(credentials, &NAMES, environment)?;
    let endpoint = settings.endpoint(ENDPOINT)?;
    let is_anonymous = settings.flag(ANONYMOUS)?;
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_skip_signature(is_anonymous)
        .with_client_options(options(&settings, endpoint.as_deref())?)
        .with_retry(retries());
    if let Some(endpoint) = &endpoint {
        builder = builder.with_base_url(endpoint);
    }
    if !is_anonymous {
        builder = match (settings.file(KEY), settings.variable(KEY)) {
            (Some(key), _) => builder.with_service_account_key(key),
            (None, Some(path)) => builder.with_application_credentials(path),
            (None, None) => builder,
        };
    }
    let client = builder.build().map_err(|error| ArtifactError::SettingInvalid {
        setting: KEY.to_owned(),
        problem: error.to_string(),
    })?;
    let store = endpoint.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
    let bucket = Bucket {
        client: Arc::new(client),
        name: bucket.to_owned(),
        prefix: prefix.to_owned(),
        store: store.clone(),
        uri: uri.to_owned(),
        endpoint: ENDPOINT,
    };
    Ok((Box::new(bucket), store))
}

#[cfg(test)]
mod tests {
    use super::super::settings::tests::{folder, variables};
    use super::*;

    fn store(
        files: &[(&str, &str)],
        environment: &[(&'static str, &'static str)],
    ) -> Result<String, ArtifactError> {
        let folder = (!files.is_empty()).then(|| folder(files));
        let path = folder.as_ref().map(tempfile::TempDir::path);
        open("models", "a", "gs://models/a", path, &variables(environment)).map(|(_, store)| store)
    }

    #[test]
    fn a_store_is_named_by_its_endpoint() {
        assert_eq!(store(&[], &[]).unwrap(), DEFAULT_ENDPOINT);
        let files = [(ENDPOINT, "http://127.0.0.1:4443/"), (ANONYMOUS, "true")];
        assert_eq!(store(&files, &[]).unwrap(), "http://127.0.0.1:4443");
    }

    #[test]
    fn a_key_that_is_none_is_named_and_not_shown() {
        for (files, environment) in [
            (vec![(KEY, "not-a-json-key")], vec![]),
            (vec![], vec![(KEY, "/there/is/no/such/file")]),
        ] {
            let error = store(&files, &environment).unwrap_err();
            assert!(error.to_string().contains(&format!("setting {KEY} ")), "{error}");
            assert!(!error.to_string().contains("not-a-json-key"), "{error}");
        }
    }
}
