//! How an S3 bucket is reached.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::error::ArtifactError;

const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";
const REGION: &str = "AWS_REGION";
const ENDPOINT: &str = "AWS_ENDPOINT_URL";

/// What S3-compatible stores without regions expect, too.
const DEFAULT_REGION: &str = "us-east-1";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a response may pause. There is no limit on a whole response: its size is not known
/// to be small, and [`crate::store::PATIENCE`] watches the whole fetch.
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// Credentials and settings of a store. Not printable: it holds a secret.
pub(crate) struct Settings {
    access: Option<Access>,
    region: String,
    endpoint: Option<String>,
}

struct Access {
    key_id: String,
    secret: String,
    token: Option<String>,
}

impl Settings {
    /// Reads the files of a folder, and for what it does not hold, the environment.
    ///
    /// Key, secret and token always come from the same place, so that no key of one account is
    /// paired with another's secret. Without any, requests are not signed.
    pub(crate) fn read(
        folder: Option<&Path>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ArtifactError> {
        let files = match folder {
            Some(folder) => Files::read(folder)?,
            None => Files::default(),
        };
        let access = match Access::from(&|name| files.get(name))? {
            Some(access) => Some(access),
            None => Access::from(environment)?,
        };
        let setting = |name| files.get(name).or_else(|| environment(name));
        let endpoint = setting(ENDPOINT);
        if let Some(endpoint) = &endpoint
            && !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme))
        {
            return Err(ArtifactError::SettingInvalid {
                setting: ENDPOINT.to_owned(),
                problem: format!("{endpoint:?} does not start with http:// or https://"),
            });
        }
        Ok(Self {
            access,
            region: setting(REGION).unwrap_or_else(|| DEFAULT_REGION.to_owned()),
            endpoint,
        })
    }

    /// Where the store is: two stores may have a bucket of one name.
    pub(crate) fn store(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => format!("https://s3.{}.amazonaws.com", self.region),
        }
    }

    /// A client for one bucket. Nothing is sent yet.
    pub(crate) fn connect(&self, bucket: &str) -> Result<Arc<dyn ObjectStore>, ArtifactError> {
        let plain = self.endpoint.as_ref().is_some_and(|url| url.starts_with("http://"));
        let options = ClientOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_read_timeout(READ_TIMEOUT)
            .with_timeout_disabled()
            .with_allow_http(plain);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&self.region)
            .with_virtual_hosted_style_request(false)
            .with_client_options(options)
            .with_retry(retries());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        builder = match &self.access {
            None => builder.with_skip_signature(true),
            Some(access) => {
                let builder = builder
                    .with_access_key_id(&access.key_id)
                    .with_secret_access_key(&access.secret);
                match &access.token {
                    Some(token) => builder.with_token(token),
                    None => builder,
                }
            }
        };
        let store = builder.build().map_err(|error| ArtifactError::SettingInvalid {
            setting: ENDPOINT.to_owned(),
            problem: error.to_string(),
        })?;
        Ok(Arc::new(store))
    }
}

/// Six attempts within about 40 s when nothing answers, well within the fetch's patience.
fn retries() -> RetryConfig {
    RetryConfig {
        max_retries: 5,
        retry_timeout: Duration::from_secs(40),
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
    }
}

impl Access {
    fn from(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, ArtifactError> {
        let missing = |setting: &str, other: &str| ArtifactError::SettingInvalid {
            setting: setting.to_owned(),
            problem: format!("it is missing although there is {other}"),
        };
        match (get(KEY_ID), get(SECRET)) {
            (Some(key_id), Some(secret)) => Ok(Some(Self { key_id, secret, token: get(TOKEN) })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(missing(SECRET, KEY_ID)),
            (None, Some(_)) => Err(missing(KEY_ID, SECRET)),
        }
    }
}

/// The settings that a folder holds.
#[derive(Default)]
struct Files(Vec<(&'static str, String)>);

impl Files {
    fn read(folder: &Path) -> Result<Self, ArtifactError> {
        let mut files = Vec::new();
        for name in [KEY_ID, SECRET, TOKEN, REGION, ENDPOINT] {
            let path = folder.join(name);
            match fs::read_to_string(&path) {
                Ok(value) if value.trim().is_empty() => {}
                Ok(value) => files.push((name, value.trim().to_owned())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ArtifactError::reading(&path, error)),
            }
        }
        if files.is_empty() {
            return Err(ArtifactError::SettingInvalid {
                setting: folder.display().to_string(),
                problem: format!("it holds none of {KEY_ID}, {SECRET}, {REGION}, {ENDPOINT}"),
            });
        }
        Ok(Self(files))
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(file, _)| *file == name).map(|(_, value)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in files {
            fs::write(folder.path().join(name), value).unwrap();
        }
        folder
    }

    fn read(
        files: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> Result<Settings, ArtifactError> {
        let folder = (!files.is_empty()).then(|| folder(files));
        let environment = |name: &str| {
            let found = environment.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::read(folder.as_ref().map(tempfile::TempDir::path), &environment)
    }

    #[test]
    fn files_go_before_the_environment_and_keys_are_never_mixed() {
        let settings = read(
            &[(KEY_ID, "file-id\n"), (SECRET, "file-secret\n"), (ENDPOINT, "http://minio:9000\n")],
            &[(KEY_ID, "env-id"), (SECRET, "env-secret"), (TOKEN, "env-token"), (REGION, "eu-1")],
        )
        .unwrap();
        let access = settings.access.unwrap();
        assert_eq!((access.key_id.as_str(), access.secret.as_str()), ("file-id", "file-secret"));
        assert_eq!(access.token, None);
        assert_eq!(settings.region, "eu-1");
        assert_eq!(settings.endpoint.as_deref(), Some("http://minio:9000"));

        let settings = read(
            &[(REGION, "eu-2")],
            &[(KEY_ID, "env-id"), (SECRET, "env-secret"), (TOKEN, "env-token"), (REGION, "eu-1")],
        )
        .unwrap();
        assert_eq!(settings.access.unwrap().token.as_deref(), Some("env-token"));
        assert_eq!(settings.region, "eu-2");
    }

    #[test]
    fn without_credentials_requests_are_not_signed() {
        let settings = read(&[], &[]).unwrap();
        assert!(settings.access.is_none());
        assert_eq!(settings.region, DEFAULT_REGION);
        settings.connect("models").unwrap();
    }

    #[test]
    fn a_store_is_named_by_its_endpoint_or_its_region() {
        let store = |files: &[(&str, &str)]| read(files, &[]).unwrap().store();
        assert_eq!(store(&[(ENDPOINT, "http://minio:9000/")]), "http://minio:9000");
        assert_eq!(store(&[(ENDPOINT, "http://minio:9000")]), "http://minio:9000");
        assert_eq!(store(&[(REGION, "eu-1")]), "https://s3.eu-1.amazonaws.com");
        assert_eq!(store(&[]), "https://s3.us-east-1.amazonaws.com");
    }

    #[test]
    fn incomplete_or_malformed_settings_are_named() {
        for (files, environment, setting) in [
            (vec![(KEY_ID, "id")], vec![(SECRET, "env-secret")], SECRET),
            (vec![], vec![(SECRET, "env-secret")], KEY_ID),
            (vec![(ENDPOINT, "minio:9000")], vec![], ENDPOINT),
        ] {
            let Err(error) = read(&files, &environment) else {
                panic!("{setting} was not missed");
            };
            assert!(error.to_string().contains(&format!("setting {setting} ")), "{error}");
            assert!(!error.to_string().contains("env-secret"), "{error}");
        }
    }

    #[test]
    fn a_credentials_folder_with_other_names_is_an_error_not_anonymous_access() {
        let error = read(&[("accesskey", "id")], &[]).err().unwrap();
        assert!(matches!(error, ArtifactError::SettingInvalid { .. }), "{error}");
    }
}
