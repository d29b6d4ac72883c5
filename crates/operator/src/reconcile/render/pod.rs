//! The pod template: one container under the `restricted` Pod Security Standard
//! (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    LocalObjectReference, ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceFieldSelector, SeccompProfile, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lamplighter_api::{Device, names};
use lamplighter_protocol::{ModelKey, place};

use super::volumes::{Mounted, api_keys, volumes};
use crate::reconcile::blueprint::Blueprint;
use crate::reconcile::observe::CONTAINER;

/// What each model was when it was resolved.
pub type Digests = BTreeMap<ModelKey, Pinned>;

/// What a model was when it was resolved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pinned {
    /// The identity of its contents.
    pub digest: String,
    /// The commit that its address stood for, where the store has such.
    pub commit: Option<String>,
}

/// Name of the port for requests.
pub(super) const SERVING: &str = "serving";
/// Name of the port for probes, metrics and reports.
const ADMIN: &str = "admin";
/// User and group of the worker, as in the worker image. Fixed, so that volumes keep an owner
/// that fits.
const USER: i64 = 65532;
/// How long endpoints may take to forget a pod that was told to stop. Until then it keeps
/// accepting, so it counts towards the time that it may take to end.
const PROPAGATION_SECONDS: u32 = 10;
/// Between the end of the drain and the kill: closing files, flushing logs.
const SLACK_SECONDS: u32 = 5;
/// Environment variable of the worker: seconds from SIGTERM until it accepts no more.
const ENV_DRAIN_DELAY: &str = "LAMPLIGHTER_DRAIN_DELAY_SECONDS";
/// Environment variable of the worker: seconds after that to finish what is in flight.
const ENV_DRAIN_TIMEOUT: &str = "LAMPLIGHTER_DRAIN_TIMEOUT_SECONDS";
/// Environment variable of the worker: seconds until it gives up a start.
const ENV_START_DEADLINE: &str = "LAMPLIGHTER_START_DEADLINE_SECONDS";
/// Twice the longest deadline that a user can set. The operator decides when a pod is late, by a
/// deadline that can be changed while pods start; a template is written once, so the worker's own
/// limit lies beyond it and only keeps a forgotten process from waiting for ever.
const START_DEADLINE_SECONDS: u32 = 2 * 24 * 60 * 60;
/// Environment variable that sizes the worker's thread pools.
const ENV_THREADS: &str = "RAYON_NUM_THREADS";

/// Seconds between two looks whether a pod for GPUs answers probes yet.
const GPU_PERIOD: i32 = 2;
/// Seconds that it may take for other things than to start the program with code for GPUs twice.
const GPU_SLACK: i32 = 30;
/// By which the NVIDIA container toolkit is told which GPUs a container sees
/// (<https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html>).
const ENV_GPUS: &str = "NVIDIA_VISIBLE_DEVICES";
/// Neither a GPU nor the driver.
const NO_GPU: &str = "void";

pub(super) fn template(
    blueprint: &Blueprint,
    environment: &str,
    digests: &Digests,
) -> PodTemplateSpec {
    let mut volumes = volumes(blueprint);
    volumes.extend(api_keys(blueprint));
    let name = &blueprint.identity.name;
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(names::pod_labels(name, environment, blueprint.revision.as_str())),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![server(blueprint, digests, &volumes)],
            termination_grace_period_seconds: Some(i64::from(
                blueprint.drain_seconds.saturating_add(PROPAGATION_SECONDS + SLACK_SECONDS),
            )),
            runtime_class_name: blueprint.worker.runtime_class_name.clone(),
            ..common(blueprint, volumes)
        }),
    }
}

/// What every pod of a revision has: where it runs, as whom, and what it can read.
pub(super) fn common(blueprint: &Blueprint, volumes: Vec<Mounted>) -> PodSpec {
    let worker = &blueprint.worker;
    PodSpec {
        volumes: Some(volumes.into_iter().map(|mounted| mounted.volume).collect()),
        security_context: Some(pod_security()),
        // A worker never talks to the apiserver, and Services of the namespace are no business of
        // its environment.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: non_empty(
            worker
                .image_pull_secrets
                .iter()
                .map(|secret| LocalObjectReference { name: secret.name.clone() })
                .collect(),
        ),
        service_account_name: worker.service_account_name.clone(),
        priority_class_name: worker.priority_class_name.clone(),
        node_selector: (!worker.node_selector.is_empty()).then(|| worker.node_selector.clone()),
        tolerations: non_empty(worker.tolerations.clone()),
        affinity: worker.affinity.clone(),
        ..PodSpec::default()
    }
}

fn server(blueprint: &Blueprint, digests: &Digests, volumes: &[Mounted]) -> Container {
    Container {
        args: Some(vec!["serve".to_owned()]),
        ports: Some(vec![port(SERVING, place::SERVING_PORT), port(ADMIN, place::ADMIN_PORT)]),
        env: Some(environment(blueprint, digests)),
        resources: blueprint.worker.resources.clone(),
        startup_probe: on_gpu(blueprint).then(|| Probe {
            period_seconds: Some(GPU_PERIOD),
            timeout_seconds: Some(2),
            failure_threshold: Some(
                (2 * i32::from(place::GPU_PROGRAM_SECONDS) + GPU_SLACK) / GPU_PERIOD,
            ),
            ..get(place::LIVE_ROUTE)
        }),
        // The process is alive, nothing else: a busy or a loading pod is never killed by a probe.
        liveness_probe: Some(Probe {
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            failure_threshold: Some(6),
            ..get(place::LIVE_ROUTE)
        }),
        readiness_probe: Some(Probe {
            period_seconds: Some(2),
            timeout_seconds: Some(2),
            failure_threshold: Some(3),
            ..get(place::READY_ROUTE)
        }),
        ..container(blueprint, CONTAINER.to_owned(), volumes)
    }
}

fn on_gpu(blueprint: &Blueprint) -> bool {
    blueprint.worker.effective_device() == Device::Cuda
}

/// What every container of a revision has.
pub(super) fn container(blueprint: &Blueprint, name: String, volumes: &[Mounted]) -> Container {
    let worker = &blueprint.worker;
    Container {
        name,
        image: Some(blueprint.snapshot.image().to_owned()),
        image_pull_policy: worker.image_pull_policy.map(|policy| policy.as_str().to_owned()),
        env_from: non_empty(worker.env_from.clone()),
        volume_mounts: Some(volumes.iter().map(|mounted| mounted.mount.clone()).collect()),
        termination_message_path: Some(place::TERMINATION_LOG.to_owned()),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // A cache of many gigabytes is not walked through at each start.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

fn environment(blueprint: &Blueprint, digests: &Digests) -> Vec<EnvVar> {
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let value = |name: &str, seconds: u32| EnvVar {
        name: name.to_owned(),
        value: Some(seconds.to_string()),
        ..EnvVar::default()
    };
    let mut all = vec![
        field(place::ENV_POD_UID, "metadata.uid"),
        field(place::ENV_POD_NAME, "metadata.name"),
        value(ENV_DRAIN_DELAY, PROPAGATION_SECONDS),
        value(ENV_DRAIN_TIMEOUT, blueprint.drain_seconds),
        value(ENV_START_DEADLINE, START_DEADLINE_SECONDS),
    ];
    all.extend(expected(digests));
    all.extend(threads(blueprint));
    all.extend(blueprint.worker.api_keys.as_ref().map(|_| EnvVar {
        name: place::ENV_API_KEYS_FILE.to_owned(),
        value: Some(format!("{}/{}", place::API_KEYS_DIR, place::API_KEYS)),
        ..EnvVar::default()
    }));
    all.extend(blueprint.worker.env.iter().cloned());
    all
}

/// What was resolved is what is loaded, whatever the store holds by then: the digests say which
/// bytes, and the commits where they still are when a branch has moved on.
fn expected(digests: &Digests) -> impl Iterator<Item = EnvVar> {
    let pair = |(model, value): (&ModelKey, &String)| format!("{model}={value}");
    let contents = digests.iter().map(|(model, pinned)| pair((model, &pinned.digest))).collect();
    let commits = digests
        .iter()
        .filter_map(|(model, pinned)| Some(pair((model, pinned.commit.as_ref()?))))
        .collect();
    let pairs: [(&str, Vec<String>); 2] =
        [(place::ENV_DIGESTS, contents), (place::ENV_COMMITS, commits)];
    pairs.into_iter().filter(|(_, pairs)| !pairs.is_empty()).map(|(name, pairs)| EnvVar {
        name: name.to_owned(),
        value: Some(pairs.join(",")),
        ..EnvVar::default()
    })
}

/// As many threads as the CPU limit allows, rounded up. By itself the worker's math library takes
/// one for each core of the node, which a quota then throttles:
/// <https://github.com/huggingface/candle/blob/main/candle-core/src/utils.rs>. What the user sets
/// stands.
fn threads(blueprint: &Blueprint) -> Option<EnvVar> {
    let worker = &blueprint.worker;
    let is_limited = worker
        .resources
        .as_ref()
        .and_then(|resources| resources.limits.as_ref())
        .is_some_and(|limits| limits.contains_key("cpu"));
    let is_set = worker.env.iter().any(|variable| variable.name == ENV_THREADS);
    (is_limited && !is_set).then(|| EnvVar {
        name: ENV_THREADS.to_owned(),
        value_from: Some(EnvVarSource {
            resource_field_ref: Some(ResourceFieldSelector {
                container_name: Some(CONTAINER.to_owned()),
                divisor: Some(Quantity("1".to_owned())),
                resource: "limits.cpu".to_owned(),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    })
}

/// For a container that computes nothing. An image for GPUs asks for all that its node has, and where
/// the container runtime listens to images, it would get them beside those to whom they belong.
pub(super) fn no_gpu(blueprint: &Blueprint) -> Option<EnvVar> {
    on_gpu(blueprint).then(|| EnvVar {
        name: ENV_GPUS.to_owned(),
        value: Some(NO_GPU.to_owned()),
        ..EnvVar::default()
    })
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn get(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(ADMIN.to_owned()),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

fn non_empty<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}
