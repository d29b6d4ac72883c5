//! What the objects of one revision are made from. Everything in it comes from the revision's
//! record, so that a revision of last month is brought up as it was and not as the spec of today
//! would have it.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use lamplighter_api::{Device, Model, Precision, Task, ValidationCase, ValidationMode, WorkerSpec};
use lamplighter_plan::RevisionId;
use lamplighter_protocol as protocol;
use lamplighter_protocol::{Manifest, ModelEntry, ValidationPlan, place};

use super::revision::Snapshot;
use super::validate::{Invalid, MAX_MANIFEST};

/// Whose objects they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The deployment's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What every child refers to.
    pub owner: OwnerReference,
}

/// What the objects of one revision are made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    /// Whose objects they are.
    pub identity: Identity,
    /// The revision's name.
    pub revision: RevisionId,
    /// What it consists of.
    pub snapshot: Snapshot,
    /// How long a pod may take to finish its requests, in seconds.
    pub drain_seconds: u32,
    /// The pods.
    pub worker: WorkerSpec,
    /// The models.
    pub models: Vec<Model>,
    /// What workers are told, as JSON.
    pub manifest: String,
    /// Secrets to mount, one for each model that names one.
    pub credentials: Vec<Credentials>,
    /// Claims to mount.
    pub claims: BTreeSet<String>,
    /// References of images to mount, in the order of their folders.
    pub images: Vec<String>,
}

/// A Secret that is mounted for one model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials {
    /// The Secret's name.
    pub secret: String,
    /// Where its files are.
    pub directory: String,
}

impl Blueprint {
    /// What a revision's objects are made from.
    pub fn of(identity: &Identity, snapshot: Snapshot) -> Result<Self, Invalid> {
        let revision = snapshot.hash();
        let models = snapshot.models()?;
        let worker = snapshot.worker()?;
        let name = format!("{}/{}", identity.namespace, identity.name);
        Ok(Self {
            manifest: manifest(&models, &worker, &name, &revision)?,
            credentials: models.iter().filter_map(credentials).collect(),
            claims: models.iter().filter_map(claim).collect(),
            images: images(&models),
            drain_seconds: snapshot.drain_seconds()?,
            identity: identity.clone(),
            revision,
            snapshot,
            worker,
            models,
        })
    }
}

fn manifest(
    models: &[Model],
    worker: &WorkerSpec,
    name: &str,
    revision: &RevisionId,
) -> Result<String, Invalid> {
    let manifest = Manifest {
        format: protocol::manifest::FORMAT,
        deployment: name.to_owned(),
        revision: revision.to_string(),
        device: match worker.effective_device() {
            Device::Cpu => protocol::Device::Cpu,
            Device::Cuda => protocol::Device::Cuda,
        },
        precision: match worker.precision.unwrap_or(Precision::Auto) {
            Precision::Auto => protocol::Precision::Auto,
            Precision::F32 => protocol::Precision::F32,
            Precision::BF16 => protocol::Precision::BF16,
        },
        models: models
            .iter()
            .map(|model| entry(model, &images(models)))
            .collect::<Result<_, _>>()?,
    };
    manifest.check()?;
    let text = serde_json::to_string_pretty(&manifest)?;
    if text.len() > MAX_MANIFEST {
        return Err(Invalid::TooLarge { bytes: text.len() });
    }
    Ok(text)
}

fn entry(model: &Model, images: &[String]) -> Result<ModelEntry, Invalid> {
    let cases = model.validation.cases.iter();
    let cases = cases.map(|case| checked(model, case)).collect::<Result<_, _>>()?;
    Ok(ModelEntry {
        name: model.name.clone(),
        version: model.version.clone(),
        task: match model.task {
            Task::Embedding => protocol::Task::Embedding,
            Task::Rerank => protocol::Task::Rerank,
            Task::Classification => protocol::Task::Classification,
        },
        default: model.default,
        source: protocol::Source {
            uri: model.source.uri.clone(),
            image: image(model)
                .and_then(|image| images.iter().position(|other| *other == image))
                .map(image_folder),
            credentials: credentials(model).map(|credentials| credentials.directory),
        },
        expected_digest: model.expected_digest.clone(),
        validation: ValidationPlan {
            mode: match model.validation.mode {
                ValidationMode::Required => protocol::ValidationMode::Required,
                ValidationMode::Disabled => protocol::ValidationMode::Disabled,
            },
            cases,
        },
    })
}

fn checked(model: &Model, case: &ValidationCase) -> Result<protocol::Case, Invalid> {
    let odd = || Invalid::Case { model: model.name.clone(), case: case.name.clone() };
    let check = match (&case.similarity, &case.ranking) {
        (Some(similarity), None) => protocol::Check::Similarity {
            texts: similarity.texts.clone().try_into().map_err(|_| odd())?,
            at_least: similarity.at_least.clone(),
            at_most: similarity.at_most.clone(),
        },
        (None, Some(ranking)) => protocol::Check::Ranking {
            query: ranking.query.clone(),
            passages: ranking.passages.clone(),
            order: ranking
                .order
                .iter()
                .map(|index| usize::try_from(*index))
                .collect::<Result<_, _>>()
                .map_err(|_| odd())?,
        },
        (Some(_), Some(_)) | (None, None) => return Err(odd()),
    };
    Ok(protocol::Case { name: case.name.clone(), check })
}

/// Names and versions have no `@`, so no two models share a folder.
fn credentials(model: &Model) -> Option<Credentials> {
    let secret = model.source.secret_ref.as_ref()?.name.clone();
    let directory = format!("{}/{}@{}", place::CREDENTIALS_DIR, model.name, model.version);
    Some(Credentials { secret, directory })
}

fn claim(model: &Model) -> Option<String> {
    let rest = model.source.uri.strip_prefix("pvc://")?;
    rest.split('/').next().map(str::to_owned)
}

/// The images of all models, each once.
fn images(models: &[Model]) -> Vec<String> {
    let all: BTreeSet<String> = models.iter().filter_map(image).collect();
    all.into_iter().collect()
}

/// The reference in `oci://registry/repository:tag/path`: up to the first slash after the tag or
/// digest.
fn image(model: &Model) -> Option<String> {
    let rest = model.source.uri.strip_prefix("oci://")?;
    let registry = rest.find('/')?;
    let version = registry + rest[registry..].find([':', '@'])?;
    let end = rest[version..].find('/').map_or(rest.len(), |slash| version + slash);
    Some(rest[..end].to_owned())
}

/// Where the image of this number is mounted.
pub fn image_folder(number: usize) -> String {
    format!("{}/{number}", place::IMAGES_DIR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_says_the_precision_that_was_wished() {
        let of = |worker: &str| {
            let worker = serde_json::from_str(worker).unwrap();
            let model: Model = serde_json::from_value(serde_json::json!({
                "name": "m", "version": "1", "task": "Embedding", "source": {"uri": "pvc://a/b"},
            }))
            .unwrap();
            let revision = RevisionId::new("1");
            let text = manifest(&[model], &worker, "a/b", &revision).unwrap();
            Manifest::from_json(&text).unwrap().precision
        };
        assert_eq!(of("{}"), protocol::Precision::Auto);
        assert_eq!(of(r#"{"precision": "Auto"}"#), protocol::Precision::Auto);
        assert_eq!(of(r#"{"precision": "F32"}"#), protocol::Precision::F32);
        assert_eq!(of(r#"{"precision": "BF16"}"#), protocol::Precision::BF16);
    }

    #[test]
    fn an_images_reference_ends_with_its_tag_or_digest() {
        let digest = format!("ghcr.io/org/m@sha256:{}", "0".repeat(64));
        for (uri, expected) in [
            ("oci://ghcr.io/org/minilm:2.1.0", Some("ghcr.io/org/minilm:2.1.0")),
            ("oci://localhost:5000/m:1/models/a:b", Some("localhost:5000/m:1")),
            (&format!("oci://{digest}/a"), Some(digest.as_str())),
            ("oci://ghcr.io/org/minilm", None),
            ("pvc://models/minilm", None),
        ] {
            let model: Model = serde_json::from_value(serde_json::json!({
                "name": "m", "version": "1", "task": "Embedding", "source": {"uri": uri},
            }))
            .unwrap();
            assert_eq!(image(&model).as_deref(), expected, "{uri}");
        }
    }
}
