//! The disruption budget: a node drain takes one serving pod at a time, and never waits for one
//! that does not serve.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lamplighter_api::names;
use lamplighter_plan::rollout::Environment;

use crate::reconcile::blueprint::Identity;
use crate::reconcile::render::metadata;

pub(super) fn render(identity: &Identity, environment: Environment) -> PodDisruptionBudget {
    let environment = environment.as_str();
    PodDisruptionBudget {
        metadata: metadata(
            identity,
            names::disruption_budget(&identity.name, environment),
            names::object_labels(&identity.name),
        ),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(names::environment_selector(&identity.name, environment)),
                ..LabelSelector::default()
            }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
