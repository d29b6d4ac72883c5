//! `s3://`: Amazon S3 and what speaks its language.

use std::path::Path;
use std::sync::Arc;

use object_store::aws::AmazonS3Builder;

use super::Source;
use super::bucket::Bucket;
use super::client::{options, retries};
use super::settings::{Environment, Settings, both};
use crate::error::ArtifactError;

const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";
const REGION: &str = "AWS_REGION";
const DEFAULT_REGION: &str = "AWS_DEFAULT_REGION";
const ENDPOINT: &str = "AWS_ENDPOINT_URL";
const ENDPOINT_S3: &str = "AWS_ENDPOINT_URL_S3";
const NAMES: [&str; 7] = [KEY_ID, SECRET, TOKEN, REGION, DEFAULT_REGION, ENDPOINT, ENDPOINT_S3];

/// Set in a pod whose service account has a role: with a token of the cluster
/// (<https://docs.aws.amazon.com/eks/latest/userguide/pod-configuration.html>), …
const ROLE: &str = "AWS_ROLE_ARN";
const ROLE_TOKEN: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ROLE_SESSION: &str = "AWS_ROLE_SESSION_NAME";
const ROLE_ENDPOINT: &str = "AWS_ENDPOINT_URL_STS";
/// … with EKS Pod Identity
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>).
const POD_IDENTITY: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const POD_IDENTITY_TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// What S3-compatible stores without regions expect, too.
const FALLBACK_REGION: &str = "us-east-1";

/// A client for a prefix, and the store's endpoint. Nothing is sent yet.
///
/// Credentials are keys, else those of the pod's service account. Without any, requests are not
/// signed; a node's own role is never used, because it is not the model's.
pub(super) fn open(
    bucket: &str,
    prefix: &str,
    uri: &str,
    credentials: Option<&Path>,
    environment: Environment<'_>,
) -> Result<(Box<dyn Source>, String), ArtifactError> {
    let settings = Settings::read(credentials, &NAMES, environment)?;
    let region = settings.get(REGION).or_else(|| settings.get(DEFAULT_REGION));
    let region = region.unwrap_or_else(|| FALLBACK_REGION.to_owned());
    let (setting, endpoint) = match settings.endpoint(ENDPOINT_S3)? {
        Some(endpoint) => (ENDPOINT_S3, Some(endpoint)),
        None => (ENDPOINT, settings.endpoint(ENDPOINT)?),
    };
    let access = Access::of(&settings)?;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&region)
        .with_virtual_hosted_style_request(false)
        .with_client_options(options(&settings, endpoint.as_deref())?)
        .with_retry(retries());
    if let Some(endpoint) = &endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let client = access.apply(builder).build().map_err(|error| ArtifactError::SettingInvalid {
        setting: setting.to_owned(),
        problem: error.to_string(),
    })?;
    let store = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
    let bucket = Bucket {
        client: Arc::new(client),
        name: bucket.to_owned(),
        prefix: prefix.to_owned(),
        store: store.clone(),
        uri: uri.to_owned(),
        endpoint: setting,
    };
    Ok((Box::new(bucket), store))
}

/// As whom the store is asked. Not printable: it holds a secret.
enum Access {
    Keys { id: String, secret: String, token: Option<String> },
    Role { arn: String, token_file: String, session: Option<String>, endpoint: Option<String> },
    PodIdentity { uri: String, token_file: String },
    Nobody,
}

impl Access {
    fn of(settings: &Settings<'_>) -> Result<Self, ArtifactError> {
        let [id, secret, token] = settings.together([KEY_ID, SECRET, TOKEN]);
        if let Some((id, secret)) = both((KEY_ID, id), (SECRET, secret))? {
            return Ok(Self::Keys { id, secret, token });
        }
        let variable = |name| (name, settings.variable(name));
        if let Some((arn, token_file)) = both(variable(ROLE), variable(ROLE_TOKEN))? {
            return Ok(Self::Role {
                arn,
                token_file,
                session: settings.variable(ROLE_SESSION),
                endpoint: settings.variable(ROLE_ENDPOINT),
            });
        }
        if let Some((uri, token_file)) = both(variable(POD_IDENTITY), variable(POD_IDENTITY_TOKEN))?
        {
            return Ok(Self::PodIdentity { uri, token_file });
        }
        Ok(Self::Nobody)
    }

    fn apply(self, builder: AmazonS3Builder) -> AmazonS3Builder {
        use object_store::aws::AmazonS3ConfigKey as Key;
        match self {
            Self::Keys { id, secret, token } => {
                let builder = builder.with_access_key_id(id).with_secret_access_key(secret);
                match token {
                    Some(token) => builder.with_token(token),
                    None => builder,
                }
            }
            Self::Role { arn, token_file, session, endpoint } => {
                let mut builder = builder
                    .with_config(Key::RoleArn, arn)
                    .with_config(Key::WebIdentityTokenFile, token_file);
                if let Some(session) = session {
                    builder = builder.with_config(Key::RoleSessionName, session);
                }
                if let Some(endpoint) = endpoint {
                    builder = builder.with_config(Key::StsEndpoint, endpoint);
                }
                builder
            }
            Self::PodIdentity { uri, token_file } => builder
                .with_config(Key::ContainerCredentialsFullUri, uri)
                .with_config(Key::ContainerAuthorizationTokenFile, token_file),
            Self::Nobody => builder.with_skip_signature(true),
        }
    }
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
        open("models", "a", "s3://models/a", path, &variables(environment)).map(|(_, store)| store)
    }

    #[test]
    fn a_store_is_named_by_its_endpoint_or_its_region() {
        for (files, environment, expected) in [
            (vec![(ENDPOINT, "http://minio:9000/")], vec![], "http://minio:9000"),
            (
                vec![(ENDPOINT, "http://minio:9000")],
                vec![(ENDPOINT, "http://other")],
                "http://minio:9000",
            ),
            (vec![], vec![(ENDPOINT, "http://a"), (ENDPOINT_S3, "http://b")], "http://b"),
            (vec![(REGION, "eu-1")], vec![], "https://s3.eu-1.amazonaws.com"),
            (vec![], vec![(DEFAULT_REGION, "eu-2")], "https://s3.eu-2.amazonaws.com"),
            (vec![], vec![], "https://s3.us-east-1.amazonaws.com"),
        ] {
            assert_eq!(store(&files, &environment).unwrap(), expected);
        }
    }

    #[test]
    fn who_asks_is_decided_by_what_is_there() {
        let keys = [(KEY_ID, "id"), (SECRET, "secret")];
        let role = [(ROLE, "arn:aws:iam::1:role/a"), (ROLE_TOKEN, "/token")];
        let identity = [(POD_IDENTITY, "http://169.254.170.23/v1"), (POD_IDENTITY_TOKEN, "/token")];
        let who = |environment: &[(&'static str, &'static str)]| {
            let environment = variables(environment);
            let settings = Settings::read(None, &NAMES, &environment).unwrap();
            match Access::of(&settings).unwrap() {
                Access::Keys { .. } => "keys",
                Access::Role { .. } => "role",
                Access::PodIdentity { .. } => "pod identity",
                Access::Nobody => "nobody",
            }
        };
        assert_eq!(who(&[]), "nobody");
        assert_eq!(who(&identity), "pod identity");
        assert_eq!(who(&[identity, role].concat()), "role");
        assert_eq!(who(&[identity, role, keys].concat()), "keys");
        for environment in [&keys[..], &role, &identity, &[]] {
            store(&[], environment).unwrap();
        }
    }

    #[test]
    fn incomplete_settings_are_named() {
        for (files, environment, setting) in [
            (vec![(KEY_ID, "id")], vec![(SECRET, "env-secret")], SECRET),
            (vec![], vec![(SECRET, "env-secret")], KEY_ID),
            (vec![], vec![(ROLE, "arn:aws:iam::1:role/a")], ROLE_TOKEN),
            (vec![(ENDPOINT, "minio:9000")], vec![], ENDPOINT),
            (vec![("ca.crt", "no certificate")], vec![], "ca.crt"),
        ] {
            let error = store(&files, &environment).unwrap_err();
            assert!(error.to_string().contains(&format!("setting {setting} ")), "{error}");
            assert!(!error.to_string().contains("env-secret"), "{error}");
        }
    }
}
