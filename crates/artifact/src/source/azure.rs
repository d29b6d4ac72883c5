//! `az://`: Azure Blob Storage.

use std::path::Path;
use std::sync::Arc;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::Source;
use super::bucket::Bucket;
use super::client::{options, retries};
use super::settings::{Environment, Settings};
use crate::error::ArtifactError;

const ACCOUNT: &str = "AZURE_STORAGE_ACCOUNT_NAME";
const KEY: &str = "AZURE_STORAGE_ACCOUNT_KEY";
const SAS: &str = "AZURE_STORAGE_SAS_TOKEN";
const ENDPOINT: &str = "AZURE_STORAGE_ENDPOINT";
/// Reads a public container as nobody.
const ANONYMOUS: &str = "AZURE_SKIP_SIGNATURE";
/// An application, with a secret or with the token of the pod's service account
/// (<https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html>).
const CLIENT: &str = "AZURE_CLIENT_ID";
const CLIENT_SECRET: &str = "AZURE_CLIENT_SECRET";
const TENANT: &str = "AZURE_TENANT_ID";
const AUTHORITY_HOST: &str = "AZURE_AUTHORITY_HOST";
const FEDERATED: &str = "AZURE_FEDERATED_TOKEN_FILE";
const NAMES: [&str; 9] =
    [ACCOUNT, KEY, SAS, ENDPOINT, ANONYMOUS, CLIENT, CLIENT_SECRET, TENANT, AUTHORITY_HOST];

/// A client for a prefix of a container, and the store's endpoint. Nothing is sent yet.
pub(super) fn open(
    container: &str,
    prefix: &str,
    uri: &str,
    credentials: Option<&Path>,
    environment: Environment<'_>,
) -> Result<(Box<dyn Source>, String), ArtifactError> {
    let settings = Settings::read(credentials, &NAMES, environment)?;
    let [account, key, sas] = settings.together([ACCOUNT, KEY, SAS]);
    let account = account.ok_or_else(|| ArtifactError::SettingInvalid {
        setting: ACCOUNT.to_owned(),
        problem: format!("it is missing; it names the storage account of {uri}"),
    })?;
    let endpoint = settings.endpoint(ENDPOINT)?;
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(&account)
        .with_container_name(container)
        .with_skip_signature(settings.flag(ANONYMOUS)?)
        .with_client_options(options(&settings, endpoint.as_deref())?)
        .with_retry(retries());
    if let Some(endpoint) = &endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let [client, secret, tenant, authority] =
        settings.together([CLIENT, CLIENT_SECRET, TENANT, AUTHORITY_HOST]);
    // The pod's own token is for the application of the environment.
    let federated = settings.variable(FEDERATED).filter(|_| secret.is_none());
    for (key, value) in [
        (AzureConfigKey::AccessKey, key),
        (AzureConfigKey::SasKey, sas),
        (AzureConfigKey::ClientId, client),
        (AzureConfigKey::ClientSecret, secret),
        (AzureConfigKey::AuthorityId, tenant),
        (AzureConfigKey::AuthorityHost, authority),
        (AzureConfigKey::FederatedTokenFile, federated),
    ] {
        if let Some(value) = value {
            builder = builder.with_config(key, value);
        }
    }
    let client = builder.build().map_err(|error| ArtifactError::SettingInvalid {
        setting: ACCOUNT.to_owned(),
        problem: error.to_string(),
    })?;
    let store = endpoint.unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
    let bucket = Bucket {
        client: Arc::new(client),
        name: container.to_owned(),
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
        open("models", "a", "az://models/a", path, &variables(environment)).map(|(_, store)| store)
    }

    #[test]
    fn a_store_is_named_by_its_endpoint_or_its_account() {
        let account = (ACCOUNT, "lamp");
        assert_eq!(store(&[account], &[]).unwrap(), "https://lamp.blob.core.windows.net");
        assert_eq!(
            store(&[account, (ENDPOINT, "http://127.0.0.1:10000/lamp")], &[]).unwrap(),
            "http://127.0.0.1:10000/lamp"
        );
    }

    #[test]
    fn settings_that_lack_the_account_or_are_malformed_are_named_and_not_shown() {
        for (files, setting) in [
            (vec![(KEY, "c2VjcmV0")], ACCOUNT),
            (vec![(ACCOUNT, "lamp"), (KEY, "not base64!")], ACCOUNT),
            (vec![(ACCOUNT, "lamp"), (ENDPOINT, "lamp.example")], ENDPOINT),
        ] {
            let error = store(&files, &[]).unwrap_err();
            assert!(error.to_string().contains(&format!("setting {setting} ")), "{error}");
            assert!(!error.to_string().contains("base64!"), "{error}");
        }
    }
}
