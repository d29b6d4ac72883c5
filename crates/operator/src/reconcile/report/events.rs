//! Events: what was done, and what became of it. Only on transitions; what lasts is in the status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use lamplighter_api::{ConditionType, Reason, ServiceType};
use lamplighter_plan::RevisionId;
use lamplighter_plan::rollout::{Action, Note, Outcome, Phase, Plan};

use crate::reconcile::apply::Change;
use crate::reconcile::memory::{Remembered, outcome_word, shortened};
use crate::reconcile::validate::Valid;

/// Longest note, in bytes; a rule of the apiserver:
/// <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>.
const MAX_NOTE: usize = 1024;

/// Reasons of `Ready=False` that say only that a rollout takes its time.
const UNDER_WAY: [Reason; 6] = [
    Reason::NoPodReady,
    Reason::SomePodsReady,
    Reason::RollingOut,
    Reason::Resolving,
    Reason::AwaitingPromotion,
    Reason::Paused,
];

/// Something to tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// Whether somebody should look.
    pub severity: Severity,
    /// A word.
    pub reason: String,
    /// What the operator was at. Two events with one reason, one action and one revision are told
    /// as one that repeats, with the first one's note, so it names what makes a difference.
    pub action: String,
    /// The revision that it is about, if it is about one.
    pub revision: Option<RevisionId>,
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
    changes.iter().filter_map(|change| told(plan, change)).collect()
}

fn told(plan: Option<&Plan>, change: &Change) -> Option<Event> {
    let event = |reason: &str, action: String, revision: Option<&RevisionId>, note: String| Event {
        severity: Severity::Normal,
        reason: reason.to_owned(),
        action,
        revision: revision.cloned(),
        note: shortened(note, MAX_NOTE),
    };
    let action = match change {
        Change::Created(_) => return None,
        Change::Updated(object) => {
            let note = format!("{object} differed from what the spec asks for and was updated");
            return Some(event("ObjectUpdated", format!("Update{}", object.kind), None, note));
        }
        Change::Done(action) => action,
    };
    let (reason, doing, revision) = match action {
        Action::Resolve(revision) => ("RevisionRead", "Resolve".to_owned(), Some(revision)),
        Action::Create { placed, .. } => {
            ("RevisionCreated", "Create".to_owned(), Some(&placed.revision))
        }
        Action::Scale { revision, from, to } => {
            ("RevisionScaled", format!("ScaleFrom{from}To{to}"), Some(revision))
        }
        Action::Select { to, .. } => ("ServiceMoved", format!("Select-{to}"), None),
        Action::Withdraw(pod) => ("PodWithdrawn", format!("Withdraw-{pod}"), None),
        Action::Restore(pod) => ("PodRestored", format!("Restore-{pod}"), None),
        Action::Delete(revision) => ("RevisionDeleted", "Delete".to_owned(), Some(revision)),
        Action::Shed(_) | Action::Validate(_) | Action::Forget(_) => return None,
    };
    let why = plan?.notes.iter().find(|note| explains(note, action));
    let note = why.map_or_else(|| action.to_string(), |why| format!("{action}: {why}"));
    Some(event(reason, doing, revision, note))
}

fn explains(note: &Note, action: &Action) -> bool {
    match (note, action) {
        (
            Note::Resized { revision, .. } | Note::Swept(revision),
            Action::Scale { revision: of, .. },
        ) => revision == of,
        (Note::Rolls { .. }, Action::Scale { .. } | Action::Create { .. })
        | (Note::Gates { .. }, Action::Create { .. }) => true,
        _ => false,
    }
}

/// What was decided: one event for each thing that is remembered from now on.
pub(super) fn decided(plan: Option<&Plan>, before: &Remembered) -> Vec<Event> {
    let Some(plan) = plan.filter(|plan| plan.remembers(&before.memory)) else { return Vec::new() };
    plan.notes.iter().filter_map(said).collect()
}

/// A switch that some may see before others: beyond 100 endpoints there are several slices
/// (<https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#distribution-of-endpoints>),
/// and a load balancer follows the cluster in its own time.
pub(super) fn not_atomic(plan: &Plan, before: &Remembered, valid: &Valid) -> Option<Event> {
    const MOST_IN_A_SLICE: u32 = 100;
    let begins = plan.remembers(&before.memory)
        && matches!(plan.memory.phase, Phase::CuttingOver(..))
        && !matches!(before.memory.phase, Phase::CuttingOver(..));
    let is_balanced = valid.service.type_ == ServiceType::LoadBalancer;
    let is_split = valid.replicas > MOST_IN_A_SLICE;
    (begins && (is_balanced || is_split)).then(|| Event {
        severity: Severity::Warning,
        reason: "CutoverNotAtomic".to_owned(),
        action: "Select".to_owned(),
        revision: None,
        note: "behind a load balancer, or with more than 100 pods, clients do not all see the switch at the same moment".to_owned(),
    })
}

fn said(note: &Note) -> Option<Event> {
    use Severity::{Normal, Warning};
    let (severity, reason, action, revision) = match note {
        Note::Began { to, strategy, .. } => {
            (Normal, "RolloutStarted", strategy.to_string(), Some(to))
        }
        Note::Passed { pods } => (Normal, "GatesPassed", format!("Pods{pods}"), None),
        Note::Promoted(revision) => (Normal, "Promoted", "Promote".to_owned(), Some(revision)),
        Note::Confirmed(environment) => {
            (Normal, "SwitchConfirmed", format!("Confirm-{environment}"), None)
        }
        Note::Failed { revision, reason, .. } => {
            (Warning, "RevisionFailed", reason.clone(), Some(revision))
        }
        Note::NoWayBack(revision) => (Warning, "NoWayBack", "Observe".to_owned(), Some(revision)),
        Note::Finished { to, outcome, .. } => {
            let severity = match outcome {
                Outcome::Promoted | Outcome::FastPromoted | Outcome::Superseded => Normal,
                Outcome::Aborted
                | Outcome::RolledBack
                | Outcome::RolledBackAuto
                | Outcome::Blocked => Warning,
            };
            (severity, "RolloutFinished", outcome_word(*outcome).to_owned(), Some(to))
        }
        Note::Heard(kind) => (Normal, "CommandHeard", kind.to_string(), None),
        Note::Inapplicable(kind) => (Warning, "CommandInapplicable", kind.to_string(), None),
        Note::Unpinned(revision) => (Normal, "ReturnOver", "Unpin".to_owned(), Some(revision)),
        _ => return None,
    };
    Some(Event {
        severity,
        reason: reason.to_owned(),
        action,
        revision: revision.cloned(),
        note: shortened(note.to_string(), MAX_NOTE),
    })
}

/// What became of a revision: ready, stuck for a new reason, degraded, or no longer ready.
pub(super) fn transitions(
    before: &[Condition],
    after: &[Condition],
    revision: Option<&str>,
) -> Vec<Event> {
    let event = |severity, condition: &Condition| Event {
        severity,
        reason: condition.reason.clone(),
        action: "Observe".to_owned(),
        revision: revision.map(RevisionId::new),
        note: shortened(condition.message.clone(), MAX_NOTE),
    };
    let became = |kind: ConditionType| {
        let now = find(after, kind).filter(|condition| condition.status == "True")?;
        let is_old = find(before, kind)
            .is_some_and(|old| old.status == now.status && old.reason == now.reason);
        (!is_old).then_some(now)
    };
    let trouble = became(ConditionType::Stalled)
        .or_else(|| {
            let stalled = find(after, ConditionType::Stalled).is_some();
            became(ConditionType::Degraded).filter(|_| !stalled)
        })
        .or_else(|| set_back(before, after));
    let ready = became(ConditionType::Ready);
    ready
        .map(|condition| event(Severity::Normal, condition))
        .into_iter()
        .chain(trouble.map(|condition| event(Severity::Warning, condition)))
        .collect()
}

/// `Ready`, if it was lost or has a new reason that is a failure. A spec that has changed asks
/// for other pods, so that these are not ready yet is what was asked for.
fn set_back<'a>(before: &[Condition], after: &'a [Condition]) -> Option<&'a Condition> {
    let now = find(after, ConditionType::Ready).filter(|now| now.status == "False")?;
    let old = find(before, ConditionType::Ready);
    let fails = !UNDER_WAY.iter().any(|reason| reason.as_str() == now.reason);
    let is_lost = old.is_some_and(|old| {
        old.status == "True" && old.observed_generation == now.observed_generation
    });
    let fails_anew =
        fails && old.is_none_or(|old| old.status != now.status || old.reason != now.reason);
    (is_lost || fails_anew).then_some(now)
}

fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == kind.as_str())
}
