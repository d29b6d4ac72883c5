//! What pods read and write: the manifest, credentials, claims, images, the cache.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, ImageVolumeSource, KeyToPath,
    PersistentVolumeClaimVolumeSource, SecretVolumeSource, Volume, VolumeMount,
};
use lamplighter_api::names;
use lamplighter_protocol::place;

use crate::reconcile::blueprint::{Blueprint, image_folder};

/// A volume and where it is mounted.
pub(super) struct Mounted {
    pub(super) volume: Volume,
    pub(super) mount: VolumeMount,
}

impl Mounted {
    fn new(path: &str, read_only: bool, volume: Volume) -> Self {
        let mount = VolumeMount {
            name: volume.name.clone(),
            mount_path: path.to_owned(),
            read_only: read_only.then_some(true),
            ..VolumeMount::default()
        };
        Self { volume, mount }
    }
}

/// What is needed to look after the cache.
pub(super) fn cache_volumes(blueprint: &Blueprint) -> Vec<Mounted> {
    vec![
        Mounted::new(place::CACHE_DIR, false, cache(blueprint)),
        Mounted::new("/tmp", false, scratch("tmp")),
    ]
}

/// What every pod of a revision reads or writes.
pub(super) fn volumes(blueprint: &Blueprint) -> Vec<Mounted> {
    let manifest = names::revision_object(&blueprint.identity.name, blueprint.revision.as_str());
    let mut all = vec![Mounted::new(
        place::MANIFEST_DIR,
        true,
        Volume {
            name: "manifest".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: manifest,
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
    )];
    all.extend(cache_volumes(blueprint));
    all.extend(blueprint.credentials.iter().enumerate().map(|(number, credentials)| {
        Mounted::new(
            &credentials.directory,
            true,
            Volume {
                name: format!("credentials-{number}"),
                secret: Some(SecretVolumeSource {
                    secret_name: Some(credentials.secret.clone()),
                    // A missing Secret would hold the pod in ContainerCreating for ever; the
                    // worker says at once which credentials it lacks.
                    optional: Some(true),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            },
        )
    }));
    all.extend(blueprint.claims.iter().enumerate().map(|(number, claim)| {
        Mounted::new(
            &format!("{}/{claim}", place::CLAIMS_DIR),
            true,
            Volume {
                name: format!("claim-{number}"),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: claim.clone(),
                    read_only: Some(true),
                }),
                ..Volume::default()
            },
        )
    }));
    all.extend(blueprint.images.iter().enumerate().map(|(number, reference)| {
        Mounted::new(
            &image_folder(number),
            true,
            Volume {
                name: format!("image-{number}"),
                image: Some(ImageVolumeSource {
                    reference: Some(reference.clone()),
                    pull_policy: None,
                }),
                ..Volume::default()
            },
        )
    }));
    all
}

/// For those who answer requests.
pub(super) fn api_keys(blueprint: &Blueprint) -> Option<Mounted> {
    let entry = &blueprint.worker.api_keys.as_ref()?.secret_key_ref;
    let secret = SecretVolumeSource {
        secret_name: Some(entry.name.clone()),
        items: Some(vec![KeyToPath {
            key: entry.key.clone(),
            path: place::API_KEYS.to_owned(),
            mode: None,
        }]),
        // As with credentials: the worker says at once that they are missing.
        optional: Some(true),
        ..SecretVolumeSource::default()
    };
    let name = "api-keys".to_owned();
    let volume = Volume { name, secret: Some(secret), ..Volume::default() };
    Some(Mounted::new(place::API_KEYS_DIR, true, volume))
}

/// The claim that the user gives, or a folder that lives as long as the pod.
fn cache(blueprint: &Blueprint) -> Volume {
    match &blueprint.worker.cache {
        None => scratch("cache"),
        Some(cache) => Volume {
            name: "cache".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: cache.persistent_volume_claim.claim_name.clone(),
                read_only: None,
            }),
            ..Volume::default()
        },
    }
}

fn scratch(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}
