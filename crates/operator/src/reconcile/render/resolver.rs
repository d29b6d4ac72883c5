//! The pod that reads what the models of a revision are: the worker image without a device, one
//! container for each model, each with its answer in its termination message.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use lamplighter_api::{Model, names};
use lamplighter_plan::Seconds;
use lamplighter_protocol::place;

use crate::reconcile::blueprint::Blueprint;
use crate::reconcile::render::volumes::{self, Mounted};
use crate::reconcile::render::{metadata, pod};

/// What is reserved for each container: it streams files and keeps none.
const CPU: &str = "20m";
/// As [`CPU`].
const MEMORY: &str = "64Mi";

pub(super) fn render(blueprint: &Blueprint, deadline: Seconds) -> Pod {
    let (identity, revision) = (&blueprint.identity, blueprint.revision.as_str());
    let mut labels = names::record_labels(&identity.name, revision);
    labels.insert(names::LABEL_ROLE.to_owned(), names::RESOLVER.to_owned());
    labels.insert(names::LABEL_APP_COMPONENT.to_owned(), names::RESOLVER.to_owned());
    let volumes = volumes::volumes(blueprint);
    let containers = blueprint.models.iter().enumerate();
    Pod {
        metadata: metadata(identity, names::resolver(&identity.name, revision), labels),
        spec: Some(PodSpec {
            containers: containers
                .map(|(number, model)| container(blueprint, number, model, &volumes))
                .collect(),
            restart_policy: Some("Never".to_owned()),
            active_deadline_seconds: Some(i64::from(deadline.0)),
            termination_grace_period_seconds: Some(5),
            ..pod::common(blueprint, volumes)
        }),
        status: None,
    }
}

fn container(
    blueprint: &Blueprint,
    number: usize,
    model: &Model,
    volumes: &[Mounted],
) -> Container {
    let quantity = |text: &str| Quantity(text.to_owned());
    Container {
        args: Some(vec![
            "resolve".to_owned(),
            "--model".to_owned(),
            format!("{}:{}", model.name, model.version),
        ]),
        env: Some(environment(blueprint)).filter(|env| !env.is_empty()),
        resources: Some(ResourceRequirements {
            requests: Some(BTreeMap::from([
                ("cpu".to_owned(), quantity(CPU)),
                ("memory".to_owned(), quantity(MEMORY)),
            ])),
            ..ResourceRequirements::default()
        }),
        ..pod::container(blueprint, format!("model-{number}"), volumes)
    }
}

/// What has to be read is kept only where the pods of the revision find it.
fn environment(blueprint: &Blueprint) -> Vec<EnvVar> {
    let kept = blueprint.worker.cache.as_ref().map(|_| EnvVar {
        name: place::ENV_CACHE_DIR.to_owned(),
        value: Some(place::CACHE_DIR.to_owned()),
        ..EnvVar::default()
    });
    let no_gpu = pod::no_gpu(blueprint);
    let is_own = |own: &&EnvVar| no_gpu.as_ref().is_none_or(|set| set.name != own.name);
    let own: Vec<EnvVar> = blueprint.worker.env.iter().filter(is_own).cloned().collect();
    kept.into_iter().chain(no_gpu).chain(own).collect()
}
