//! Step 8: writes the status, once, and tells events.
//!
//! The status is the memory of the next decision, so it is written only if the resource is still
//! the one that was looked at: a resourceVersion guards it, and a conflict means looking again.

use std::cmp::Ordering;
use std::time::Duration;

use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event as KubeEvent, EventType};
use kube::{Api, Resource, ResourceExt};
use lamplighter_api::{ConditionType, ModelDeployment, ModelDeploymentStatus, names};
use lamplighter_plan::RevisionId;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::report::{Event, PROGRESS_PERIOD, Report, Severity};
use crate::context::Context;
use crate::error::{Class, Error, said};

/// How long telling all events of one step may take. Events are for people: however many there are,
/// and however slow the apiserver takes them, the status must be written before the reconcile's own
/// deadline.
const EVENTS_DEADLINE: Duration = Duration::from_secs(5);

/// Whether a status is to be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Due {
    /// It says what the last one says.
    Unchanged,
    /// It differs in progress alone, and the last one is fresh: after this time.
    Later(Duration),
    /// Now.
    Now,
}

/// Writes the status if it says something new, tells the events, and says when to look again.
pub async fn publish(
    context: &Context,
    deployment: &ModelDeployment,
    report: Report,
) -> Result<Action, Error> {
    let Report { status, done, transitions, decisions, again, failure } = report;
    tell(context, deployment, done).await;
    if let Some(error) = failure.as_ref().filter(|error| error.class() == Class::Conflict) {
        tracing::debug!(%error, "decided on an old view, which is not worth a status");
    } else if due(deployment, &status, context.now()) == Due::Now {
        match write(context, deployment, &status).await {
            Ok(true) => {
                context.metrics.decided(&decisions);
                tell(context, deployment, transitions).await;
            }
            Ok(false) => return Ok(Action::await_change()),
            Err(source) => return Err(Error::Status { source, unreported: failure.map(Box::new) }),
        }
    }
    match failure {
        Some(obstacle) => Err(obstacle.into()),
        None => Ok(Action::requeue(match due(deployment, &status, context.now()) {
            Due::Later(left) => again.min(left),
            Due::Now | Due::Unchanged => again,
        })),
    }
}

fn due(deployment: &ModelDeployment, status: &ModelDeploymentStatus, now: Timestamp) -> Due {
    let Some(live) = &deployment.status else { return Due::Now };
    let (live, next) = (comparable(live), comparable(status));
    if live == next {
        return Due::Unchanged;
    }
    if without_progress(live) != without_progress(next) {
        return Due::Now;
    }
    let written = deployment
        .managed_fields()
        .iter()
        .filter(|entry| entry.manager.as_deref() == Some(names::STATUS_FIELD_MANAGER))
        .filter_map(|entry| entry.time.as_ref())
        .max();
    let Some(written) = written else { return Due::Now };
    let age = now.duration_since(written.0);
    let age = Duration::try_from(age).unwrap_or_default();
    match PROGRESS_PERIOD.checked_sub(age) {
        Some(left) if !left.is_zero() => Due::Later(left),
        Some(_) | None => Due::Now,
    }
}

/// Our own conditions in one order: others may add theirs, and the apiserver keeps its own order.
fn comparable(status: &ModelDeploymentStatus) -> ModelDeploymentStatus {
    let mut status = status.clone();
    status
        .conditions
        .retain(|found| ConditionType::ALL.iter().any(|kind| kind.as_str() == found.type_));
    status.conditions.sort_by(by_type);
    status
}

fn by_type(one: &Condition, other: &Condition) -> Ordering {
    one.type_.cmp(&other.type_)
}

/// What remains of a status without its sentences, in which numbers move, and without the deadline
/// that moves while bytes arrive.
fn without_progress(mut status: ModelDeploymentStatus) -> ModelDeploymentStatus {
    for condition in &mut status.conditions {
        condition.message.clear();
    }
    if let Some(candidate) = &mut status.candidate {
        candidate.reason = None;
        candidate.deadline_time = None;
    }
    status
}

/// False when the resource is gone.
async fn write(
    context: &Context,
    deployment: &ModelDeployment,
    status: &ModelDeploymentStatus,
) -> Result<bool, kube::Error> {
    let name = deployment.name_any();
    let namespace = deployment.namespace().unwrap_or_default();
    let patch = json!({
        "apiVersion": ModelDeployment::api_version(&()),
        "kind": ModelDeployment::kind(&()),
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": deployment.metadata.uid,
            "resourceVersion": deployment.metadata.resource_version,
        },
        "status": status,
    });
    let params = PatchParams::apply(names::STATUS_FIELD_MANAGER).force();
    let api = Api::<ModelDeployment>::namespaced(context.client.clone(), &namespace);
    match api.patch_status(&name, &params, &Patch::Apply(patch)).await {
        Ok(_) => {
            context.metrics.wrote("ModelDeploymentStatus");
            Ok(true)
        }
        Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells what can be told in [`EVENTS_DEADLINE`]; the rest is left to the log.
async fn tell(context: &Context, deployment: &ModelDeployment, events: Vec<Event>) {
    let about: ObjectReference = deployment.object_ref(&());
    let deadline = Instant::now() + EVENTS_DEADLINE;
    for event in events {
        log(&about, &event);
        let event = KubeEvent {
            type_: match event.severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: event.reason,
            action: event.action,
            note: Some(event.note),
            secondary: event.revision.map(|revision| workload(&about, &revision)),
        };
        match timeout_at(deadline, context.recorder.publish(&event, &about)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = said(&error), reason = event.reason, "event not told");
            }
            Err(_) => tracing::warn!(reason = event.reason, "event not told in time"),
        }
    }
}

/// The log says what the events say, in the order in which it happened.
fn log(about: &ObjectReference, event: &Event) {
    let namespace = about.namespace.as_deref().unwrap_or_default();
    let name = about.name.as_deref().unwrap_or_default();
    match event.severity {
        Severity::Normal => tracing::info!(namespace, name, event.reason, "{}", event.note),
        Severity::Warning => tracing::warn!(namespace, name, event.reason, "{}", event.note),
    }
}

/// The workload of a revision, to which an event is related.
fn workload(deployment: &ObjectReference, revision: &RevisionId) -> ObjectReference {
    let name = deployment.name.as_deref().unwrap_or_default();
    ObjectReference {
        api_version: Some(ReplicaSet::API_VERSION.to_owned()),
        kind: Some(ReplicaSet::KIND.to_owned()),
        name: Some(names::revision_object(name, revision.as_str())),
        namespace: deployment.namespace.clone(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
    use lamplighter_api::{Conditions, Reason};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn status(ready: bool, message: &str) -> ModelDeploymentStatus {
        let mut conditions = Conditions::new();
        conditions.set(ConditionType::Ready, ready, Reason::NoPodReady, message);
        ModelDeploymentStatus {
            conditions: conditions.build(&[], Some(1), &Time(at(0))),
            ..ModelDeploymentStatus::default()
        }
    }

    /// A resource whose status we wrote at second 100.
    fn written(status: ModelDeploymentStatus) -> ModelDeployment {
        let spec = serde_saphyr::from_str("{models: []}").unwrap();
        let mut deployment = ModelDeployment::new("search", spec);
        deployment.status = Some(status);
        deployment.metadata.managed_fields = Some(vec![ManagedFieldsEntry {
            manager: Some(names::STATUS_FIELD_MANAGER.to_owned()),
            time: Some(Time(at(100))),
            ..ManagedFieldsEntry::default()
        }]);
        deployment
    }

    /// Guarantees: operator-07.
    #[test]
    fn the_same_status_is_not_written() {
        let deployment = written(status(false, "1 MB"));
        assert_eq!(due(&deployment, &status(false, "1 MB"), at(999)), Due::Unchanged);
    }

    #[test]
    fn foreign_conditions_and_their_order_are_no_difference() {
        let mut live = status(false, "1 MB");
        live.conditions.reverse();
        live.conditions.push(Condition {
            type_: "example.com/Billed".to_owned(),
            status: "True".to_owned(),
            reason: "Paid".to_owned(),
            message: String::new(),
            last_transition_time: Time(at(5)),
            observed_generation: None,
        });
        assert_eq!(due(&written(live), &status(false, "1 MB"), at(999)), Due::Unchanged);
    }

    #[test]
    fn progress_is_written_at_most_once_in_its_period() {
        let deployment = written(status(false, "1 MB"));
        let next = status(false, "2 MB");
        assert_eq!(due(&deployment, &next, at(103)), Due::Later(Duration::from_secs(7)));
        assert_eq!(due(&deployment, &next, at(110)), Due::Now);
        assert_eq!(due(&deployment, &next, at(500)), Due::Now);
    }

    #[test]
    fn anything_else_is_written_at_once() {
        let deployment = written(status(false, "1 MB"));
        assert_eq!(due(&deployment, &status(true, "1 MB"), at(100)), Due::Now);
        let counted = ModelDeploymentStatus { ready_replicas: 1, ..status(false, "1 MB") };
        assert_eq!(due(&deployment, &counted, at(100)), Due::Now);
    }

    #[test]
    fn a_resource_without_a_status_gets_one() {
        let deployment = ModelDeployment { status: None, ..written(status(false, "")) };
        assert_eq!(due(&deployment, &status(false, ""), at(100)), Due::Now);
    }
}
