//! Events: what was done, and what became of it. Only on transitions; what lasts is in the status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use lamplighter_api::ConditionType;
use lamplighter_plan::{Action, Plan};

use super::conditions::shortened;
use crate::reconcile::apply::Change;

/// Longest note, in bytes; a rule of the apiserver:
/// <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>.
const MAX_NOTE: usize = 1024;

/// Something to tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Whether somebody should look.
    pub severity: Severity,
    /// A word.
    pub reason: String,
    /// What the operator was at.
    pub action: &'static str,
    /// A sentence.
    pub note: String,
}

/// Whether somebody should look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// All is well.
    Normal,
    /// Somebody should look.
    Warning,
}

/// What was done, each with the plan's own reason. Objects that merely accompany a workload have
/// no event of their own.
pub(super) fn done(plan: Option<&Plan>, changes: &[Change]) -> Vec<Event> {
    let event = |reason: &str, note: String| Event {
        severity: Severity::Normal,
        reason: reason.to_owned(),
        action: "Reconcile",
        note: shortened(note, MAX_NOTE),
    };
    changes
        .iter()
        .filter_map(|change| match change {
            Change::Created(_) => None,
            Change::Updated(object) => Some(event(
                "ObjectUpdated",
                format!("{object} differed from what the spec asks for and was updated"),
            )),
            Change::Done(action) => {
                let reason = match action {
                    Action::Create { .. } => "RevisionCreated",
                    Action::Scale { .. } => "RevisionScaled",
                    Action::Delete { .. } => "RevisionDeleted",
                    Action::Forget { .. } => return None,
                };
                let why = plan?.notes.iter().find(|note| note.revision() == action.revision());
                let note = why.map_or_else(|| action.to_string(), |why| format!("{action}: {why}"));
                Some(event(reason, note))
            }
        })
        .collect()
}

/// What became of it: becoming ready, getting stuck for a new reason, being degraded.
pub(super) fn transitions(before: &[Condition], after: &[Condition]) -> Vec<Event> {
    let event = |severity, condition: &Condition| Event {
        severity,
        reason: condition.reason.clone(),
        action: "Observe",
        note: shortened(condition.message.clone(), MAX_NOTE),
    };
    let became = |kind: ConditionType| {
        let now = find(after, kind).filter(|condition| condition.status == "True")?;
        let is_old = find(before, kind)
            .is_some_and(|old| old.status == now.status && old.reason == now.reason);
        (!is_old).then_some(now)
    };
    let trouble = became(ConditionType::Stalled).or_else(|| {
        let stalled = find(after, ConditionType::Stalled).is_some();
        became(ConditionType::Degraded).filter(|_| !stalled)
    });
    let ready = became(ConditionType::Ready);
    ready
        .map(|condition| event(Severity::Normal, condition))
        .into_iter()
        .chain(trouble.map(|condition| event(Severity::Warning, condition)))
        .collect()
}

fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == kind.as_str())
}
