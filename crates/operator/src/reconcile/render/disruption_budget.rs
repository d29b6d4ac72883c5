//! The disruption budget: a node drain takes one serving pod at a time, and never waits for one
//! that does not serve.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lamplighter_api::names;

use crate::reconcile::render::metadata;
use crate::reconcile::validate::{ENVIRONMENT, Valid};

pub(super) fn render(valid: &Valid) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(
            valid,
            names::disruption_budget(&valid.name, ENVIRONMENT),
            names::object_labels(&valid.name),
        ),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(names::environment_selector(&valid.name, ENVIRONMENT)),
                ..LabelSelector::default()
            }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
