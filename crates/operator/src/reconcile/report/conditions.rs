//! The conditions: one function for each, from the verdict and from what could not be applied.
//!
//! kstatus reads them in this way: `Reconciling` means in progress, `Stalled` means failed, never
//! both; else `Ready` decides
//! (<https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>).

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use lamplighter_api::ConditionType::{
    Available, Degraded, Progressing, Ready, Reconciling, Stalled, Validated, WarmedUp,
};
use lamplighter_api::{Conditions, Model, Reason, State as Is, ValidationMode};
use lamplighter_plan::{Cause, RevisionId, State, Verdict, World, explain};
use lamplighter_protocol as protocol;

use super::Subject;
use crate::error::Class;
use crate::reconcile::apply::Obstacle;
use crate::reconcile::observe::revision_of;
use crate::reconcile::revision::Snapshot;
use crate::reconcile::validate::{Invalid, Valid};

/// What the conditions are derived from.
pub(super) struct Basis<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) valid: &'a Valid,
    pub(super) world: &'a World,
    pub(super) verdict: &'a Verdict,
}

type Word = Cow<'static, str>;

/// Why something is as it is: a word and a sentence.
struct Because {
    word: Word,
    text: String,
}

/// What the whole comes to.
enum Outcome {
    /// It is as the spec asks.
    Done(Because),
    /// It is getting there by itself.
    UnderWay(Because),
    /// It got there, and something is wrong since.
    Disturbed(Because),
    /// It gets there only if a person changes something.
    Stuck {
        /// Why not.
        because: Because,
        /// Why it is given up: the same word, or that its time is over.
        word: Word,
    },
}

/// The conditions of a spec that cannot be acted on. Pods that serve have passed the gates that
/// they were reported to have passed `before`.
pub(super) fn invalid(serving: usize, why: &Invalid, before: &[Condition]) -> Conditions {
    let word = why.reason();
    let mut conditions = Conditions::new();
    conditions
        .set(Ready, false, word, why.to_string())
        .set(Progressing, false, word, why.to_string())
        .set(Stalled, true, word, why.to_string());
    if serving > 0 {
        let text = format!("{} of an earlier spec still serve", counted(serving, "pod"));
        conditions
            .set(Available, true, Reason::SomePodsReady, text.clone())
            .set(Degraded, true, word, text);
        carry_gates(&mut conditions, before);
    } else {
        conditions.set(Available, false, word, why.to_string());
    }
    conditions
}

fn carry_gates(conditions: &mut Conditions, before: &[Condition]) {
    for gate in [WarmedUp, Validated] {
        let Some(old) = before.iter().find(|old| old.type_ == gate.as_str()) else { continue };
        let state = match old.status.as_str() {
            "True" => Is::True,
            "False" => Is::False,
            _ => Is::Unknown,
        };
        conditions.set(gate, state, old.reason.clone(), old.message.clone());
    }
}

/// The conditions of a plan and of what was done of it.
pub(super) fn planned(
    basis: &Basis<'_>,
    progress: Option<&str>,
    failure: Option<&Obstacle>,
) -> Conditions {
    let outcome = match failure {
        Some(obstacle) => unapplied(obstacle),
        None => outcome(basis, progress),
    };
    let mut conditions = Conditions::new();
    available(&mut conditions, basis);
    gates(&mut conditions, basis);
    summary(&mut conditions, outcome, basis.verdict.routable.total() > 0);
    conditions
}

fn summary(conditions: &mut Conditions, outcome: Outcome, serves: bool) {
    match outcome {
        Outcome::Done(Because { word, text }) => {
            let progress = if word == Reason::ScaledToZero.as_str() {
                word.clone()
            } else {
                Reason::NewRevisionAvailable.into()
            };
            conditions.set(Ready, true, word, text.clone()).set(Progressing, true, progress, text);
        }
        Outcome::UnderWay(Because { word, text }) => {
            conditions
                .set(Ready, false, word, text.clone())
                .set(Progressing, true, Reason::RollingOut, text.clone())
                .set(Reconciling, true, Reason::RollingOut, text);
        }
        Outcome::Disturbed(Because { word, text }) => {
            conditions
                .set(Ready, false, word.clone(), text.clone())
                .set(Progressing, true, Reason::NewRevisionAvailable, text.clone())
                .set(Degraded, serves, word, text);
        }
        Outcome::Stuck { because: Because { word, text }, word: given_up } => {
            conditions
                .set(Ready, false, word.clone(), text.clone())
                .set(Progressing, false, given_up.clone(), text.clone())
                .set(Stalled, true, given_up, text.clone())
                .set(Degraded, serves, word, text);
        }
    }
}

/// What could not be applied comes before all else: whatever the pods say, it is not what the
/// spec asks for.
fn unapplied(obstacle: &Obstacle) -> Outcome {
    let reason = obstacle.reason();
    match obstacle.class() {
        Class::Conflict | Class::Transient => {
            Outcome::UnderWay(plain(reason, format!("{obstacle}; it is tried again")))
        }
        Class::Refused | Class::Bug => {
            Outcome::Stuck { because: plain(reason, obstacle.to_string()), word: reason.into() }
        }
    }
}

fn outcome(basis: &Basis<'_>, progress: Option<&str>) -> Outcome {
    let revision = &basis.valid.revision;
    let routable = &basis.verdict.routable;
    let leaving = explain::leaving(basis.world);
    let told = |text: String| match &leaving {
        Some(leaving) => format!("{text}; {leaving}"),
        None => text,
    };
    let because = |cause: &Cause| Because {
        word: word(cause, routable.wanted),
        text: told(with_progress(cause, progress)),
    };
    match &basis.verdict.state {
        State::ScaledToZero => {
            Outcome::Done(plain(Reason::ScaledToZero, told("spec.replicas is 0".to_owned())))
        }
        State::Complete => Outcome::Done(plain(
            Reason::AllPodsReady,
            told(format!(
                "{} of {} pods of revision {revision} serve every model",
                routable.wanted, routable.of
            )),
        )),
        State::Deleting => {
            Outcome::UnderWay(plain(Reason::RollingOut, told("deleting".to_owned())))
        }
        State::Progressing(cause) => Outcome::UnderWay(because(cause)),
        State::Disturbed(cause) => Outcome::Disturbed(because(cause)),
        State::Stalled { cause, deadline: None } => {
            let because = because(cause);
            Outcome::Stuck { word: because.word.clone(), because }
        }
        State::Stalled { cause, deadline: Some(deadline) } => {
            let Because { word, text } = because(cause);
            let text = format!("not ready within {deadline}: {text}");
            Outcome::Stuck {
                because: Because { word, text },
                word: Reason::ProgressDeadlineExceeded.into(),
            }
        }
    }
}

fn plain(reason: Reason, text: String) -> Because {
    Because { word: reason.into(), text }
}

/// The word for what is waited for. A worker's own reason stands as it is.
fn word(cause: &Cause, ready: u32) -> Word {
    match cause {
        Cause::Failed { failure, .. } => failure.reason.clone().into(),
        Cause::Unschedulable { .. } => Reason::Unschedulable.into(),
        Cause::Refused { .. } => Reason::ChildRefused.into(),
        Cause::Waiting { reason, .. } => waiting(reason, ready),
        Cause::Creating { .. } | Cause::Starting { .. } => some_or_none(ready),
        Cause::Retiring { .. } => Reason::RollingOut.into(),
    }
}

/// The kubelet's words for what holds a container up:
/// <https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/images/types.go> and
/// <https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/kuberuntime/kuberuntime_container.go>.
fn waiting(reason: &str, ready: u32) -> Word {
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => Reason::ImagePullFailed.into(),
        "CreateContainerConfigError" => Reason::ConfigMissing.into(),
        "CrashLoopBackOff" | "CreateContainerError" | "RunContainerError" => {
            Reason::ContainerCrashed.into()
        }
        _ => some_or_none(ready),
    }
}

fn some_or_none(ready: u32) -> Word {
    if ready > 0 { Reason::SomePodsReady.into() } else { Reason::NoPodReady.into() }
}

fn available(conditions: &mut Conditions, basis: &Basis<'_>) {
    let routable = &basis.verdict.routable;
    let total = routable.total();
    if total == 0 && routable.of == 0 {
        conditions.set(Available, false, Reason::ScaledToZero, "spec.replicas is 0");
    } else if total == 0 {
        conditions.set(Available, false, Reason::NoPodReady, "no pod serves");
    } else {
        let reason = if routable.wanted >= routable.of {
            Reason::AllPodsReady
        } else {
            Reason::SomePodsReady
        };
        let older: u32 = routable.older.values().sum();
        let of = if older == 0 {
            String::new()
        } else {
            format!(", {older} of them of earlier revisions")
        };
        let verb = if total == 1 { "serves" } else { "serve" };
        let text = format!("{} {verb}{of}", counted(total as usize, "pod"));
        conditions.set(Available, true, reason, text);
    }
}

/// `WarmedUp` and `Validated`: a pod is ready only when its models passed both, so what serves has
/// passed them. Where nothing serves, a failure of one of the gates is said at that gate.
fn gates(conditions: &mut Conditions, basis: &Basis<'_>) {
    let Some(serving) = serving(basis) else { return unpassed(conditions, basis) };
    let warm = format!("every model of revision {serving} passed its warm-up");
    conditions.set(WarmedUp, true, Reason::WarmUpPassed, warm);
    match unchecked(basis, serving).as_slice() {
        [] => conditions.set(
            Validated,
            true,
            Reason::CasesPassed,
            format!("every model of revision {serving} answered its cases as expected"),
        ),
        models => conditions.set(
            Validated,
            false,
            Reason::ValidationDisabled,
            format!("spec.models: validation.mode is Disabled for {}", models.join(", ")),
        ),
    };
}

/// The revision of which most pods serve; the wanted one if it serves at all.
fn serving<'a>(basis: &'a Basis<'_>) -> Option<&'a RevisionId> {
    let routable = &basis.verdict.routable;
    if routable.wanted > 0 {
        return Some(&basis.valid.revision);
    }
    routable.older.iter().max_by_key(|(_, ready)| **ready).map(|(revision, _)| revision)
}

fn unpassed(conditions: &mut Conditions, basis: &Basis<'_>) {
    if basis.world.goal.replicas == 0 {
        conditions.set(WarmedUp, Is::Unknown, Reason::ScaledToZero, "spec.replicas is 0").set(
            Validated,
            Is::Unknown,
            Reason::ScaledToZero,
            "spec.replicas is 0",
        );
        return;
    }
    let failed = super::cause(&basis.verdict.state).and_then(|cause| match cause {
        Cause::Failed { failure, .. } => Some(failure),
        Cause::Creating { .. }
        | Cause::Refused { .. }
        | Cause::Unschedulable { .. }
        | Cause::Waiting { .. }
        | Cause::Starting { .. }
        | Cause::Retiring { .. } => None,
    });
    for (gate, reasons) in [(WarmedUp, WARM_UP_REASONS), (Validated, VALIDATION_REASONS)] {
        match failed.filter(|failure| reasons.iter().any(|word| word.as_str() == failure.reason)) {
            Some(failure) => {
                conditions.set(gate, false, failure.reason.clone(), failure.message.clone())
            }
            None => conditions.set(gate, false, Reason::NoPodReady, "no pod passed it yet"),
        };
    }
}

const WARM_UP_REASONS: &[protocol::Reason] =
    &[protocol::Reason::WarmupFailed, protocol::Reason::WarmupTimeout];
const VALIDATION_REASONS: &[protocol::Reason] = &[
    protocol::Reason::OutputNonFinite,
    protocol::Reason::NoValidationCases,
    protocol::Reason::GoldenInvalid,
    protocol::Reason::ValidationFailed,
];

/// The models of a revision whose answers nobody checks.
fn unchecked(basis: &Basis<'_>, revision: &RevisionId) -> Vec<String> {
    let models: Vec<Model> = if *revision == basis.valid.revision {
        basis.valid.snapshot.models()
    } else {
        let records = &basis.subject.fetched.records;
        records
            .iter()
            .find(|record| revision_of(record.as_ref()).as_ref() == Some(revision))
            .and_then(|record| Snapshot::from_record(record))
            .map(|snapshot| snapshot.models())
            .unwrap_or_default()
    };
    models
        .into_iter()
        .filter(|model| model.validation.mode == ValidationMode::Disabled)
        .map(|model| format!("{}:{}", model.name, model.version))
        .collect()
}

/// What is waited for, and how far the pods say that they are.
pub(super) fn with_progress(cause: &Cause, progress: Option<&str>) -> String {
    match (cause, progress) {
        (Cause::Starting { .. } | Cause::Creating { .. }, Some(progress)) => {
            format!("{cause}; {progress}")
        }
        _ => cause.to_string(),
    }
}

/// A text of at most so many bytes, cut at a character.
pub(super) fn shortened(mut text: String, most: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() > most {
        let mut end = most.saturating_sub(ELLIPSIS.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(ELLIPSIS);
    }
    text
}

fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
