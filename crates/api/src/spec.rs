//! What a user asks for: `spec` of a `ModelDeployment`.
#![expect(
    unreachable_pub,
    reason = "KubeSchema copies each public struct into the body of a function"
)]

mod model;
mod rollout;
mod service;
mod validation;
mod worker;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use model::{LocalReference, Model, Source, Task};
pub use rollout::{
    Compatibility, OnInsufficientCapacity, Promotion, RetrySpec, RolloutSpec, Strategy,
};
pub use service::{ExternalTrafficPolicy, ServiceSpec, ServiceType};
pub use validation::{Ranking, Similarity, Validation, ValidationCase, ValidationMode};
pub use worker::{Device, ImagePullPolicy, Precision, WorkerSpec};

use crate::status::ModelDeploymentStatus;

/// The models to serve and how to run them.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "lamplighter.dev",
    version = "v1alpha1",
    kind = "ModelDeployment",
    plural = "modeldeployments",
    singular = "modeldeployment",
    shortname = "mdpl",
    category = "lamplighter",
    namespaced,
    status = "ModelDeploymentStatus",
    derive = "PartialEq",
    doc = "Models that are kept loaded, warm and checked in worker pods behind one Service.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether every wanted pod serves every model."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why, in one word."
    ),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".spec.replicas",
        description = "Wanted pods."
    ),
    printcolumn(
        name = "Available",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "Pods that passed every gate and serve."
    ),
    printcolumn(
        name = "Revision",
        type_ = "string",
        json_path = ".status.active.revision",
        description = "The revision that serves."
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.rollout.phase",
        description = "What is under way, if anything is."
    ),
    printcolumn(
        name = "Environment",
        type_ = "string",
        priority = 1,
        json_path = ".status.active.environment",
        description = "The environment that the Service selects."
    ),
    printcolumn(
        name = "Candidate",
        type_ = "string",
        priority = 1,
        json_path = ".status.candidate.revision",
        description = "The revision that is on its way."
    ),
    printcolumn(
        name = "Rollback-Until",
        type_ = "string",
        priority = 1,
        json_path = ".status.rollbackUntil",
        description = "Until when a failure returns to what was there before."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "What is going on and the way out."
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation."
    ),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,44}[a-z0-9])?$')")
        .message("metadata.name: must be 1 to 46 lowercase letters, digits or hyphens, start with a letter and not end with a hyphen; the Service and the pods are named after it")
)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentSpec {
    /// How many pods serve. Each pod loads every model of the list. With 0 nothing runs and
    /// nothing is reserved.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,

    /// While true nothing new begins: what is under way stays where it is, pods that fail are
    /// still replaced, and what serves goes on serving.
    #[serde(default)]
    pub paused: bool,

    /// The models that every pod loads, in parallel, before it is ready. Requests name them as
    /// `name` or `name:version`.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into(), "version".into()]),
        validation = Rule::new("self.all(m, self.filter(n, n.name == m.name).size() == 1 ? true : self.filter(n, n.name == m.name && n.default).size() == 1)")
            .message("models: of several versions with one name exactly one must be marked default: true, so that a request for the plain name has one meaning")
    )]
    pub models: Vec<Model>,

    /// The Service that clients connect to. It has the name of this resource.
    #[serde(default)]
    pub service: ServiceSpec,

    /// The pods that load and serve the models.
    #[serde(default)]
    pub worker: WorkerSpec,

    /// How a change reaches the pods and how long it may take.
    #[serde(default)]
    pub rollout: RolloutSpec,
}

fn default_replicas() -> i32 {
    1
}
