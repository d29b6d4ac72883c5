//! The Job that removes copies from a shared cache that no revision relies on.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EnvVar, PodSpec, PodTemplateSpec, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use lamplighter_api::names;

use crate::reconcile::blueprint::Blueprint;
use crate::reconcile::render::volumes::{self, Mounted};
use crate::reconcile::render::{metadata, pod};

/// How long a copy is kept after its last use when nobody relies on it any more: long enough for
/// whoever changes their mind, and for a pod that starts while the Job looks.
const GRACE_SECONDS: u32 = 600;
/// It waits once until the time of grace is over, and then removes files.
const DEADLINE_SECONDS: i64 = 3 * 600;
/// A volume that could not be mounted, or a file that could not be removed, may be later.
const RETRIES: i32 = 3;
/// Environment variable of the worker: the revisions that there are.
const ENV_KNOWN: &str = "LAMPLIGHTER_KNOWN_REVISIONS";
/// Environment variable of the worker: when that was, in seconds since 1970. No flag, because a worker
/// of an earlier release ends at one that it does not know.
const ENV_AS_OF: &str = "LAMPLIGHTER_CACHE_AS_OF";

pub(super) fn render(
    blueprint: &Blueprint,
    known: &BTreeSet<String>,
    hash: &str,
    as_of: Timestamp,
) -> Job {
    let identity = &blueprint.identity;
    let mut labels = names::object_labels(&identity.name);
    labels.insert(names::LABEL_ROLE.to_owned(), names::COLLECTOR.to_owned());
    labels.insert(names::LABEL_APP_COMPONENT.to_owned(), names::COLLECTOR.to_owned());
    let volumes = volumes::cache_volumes(blueprint);
    let spec = PodSpec {
        containers: vec![container(blueprint, known, as_of, &volumes)],
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(5),
        ..pod::common(blueprint, volumes)
    };
    Job {
        metadata: metadata(identity, names::collector(&identity.name, hash), labels.clone()),
        spec: Some(JobSpec {
            backoff_limit: Some(RETRIES),
            active_deadline_seconds: Some(DEADLINE_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(spec),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn container(
    blueprint: &Blueprint,
    known: &BTreeSet<String>,
    as_of: Timestamp,
    volumes: &[Mounted],
) -> Container {
    let args = ["cache", "gc", "--wait", "--grace-seconds"].map(str::to_owned);
    let quantity = |text: &str| Quantity(text.to_owned());
    let revisions = EnvVar {
        name: ENV_KNOWN.to_owned(),
        value: Some(known.iter().cloned().collect::<Vec<_>>().join(",")),
        ..EnvVar::default()
    };
    let as_of = EnvVar {
        name: ENV_AS_OF.to_owned(),
        value: Some(as_of.as_second().to_string()),
        ..EnvVar::default()
    };
    let env = [Some(revisions), Some(as_of), pod::no_gpu(blueprint)];
    Container {
        args: Some(args.into_iter().chain([GRACE_SECONDS.to_string()]).collect()),
        env: Some(env.into_iter().flatten().collect()),
        resources: Some(ResourceRequirements {
            requests: Some(BTreeMap::from([
                ("cpu".to_owned(), quantity("20m")),
                ("memory".to_owned(), quantity("32Mi")),
            ])),
            ..ResourceRequirements::default()
        }),
        env_from: None,
        ..pod::container(blueprint, "collector".to_owned(), volumes)
    }
}
