//! The conditions: one function for each, from the verdict and from what could not be applied.
//!
//! kstatus reads them in this way: `Reconciling` means in progress, `Stalled` means failed, never
//! both; else `Ready` decides
//! (<https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>).

mod outcome;

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use lamplighter_api::ConditionType::{
    Available, Degraded, Paused, Progressing, Ready, Reconciling, RollbackAvailable, Stalled,
    Validated, WarmedUp,
};
use lamplighter_api::{Conditions, Reason, State as Is, ValidationMode};
use lamplighter_plan::RevisionId;
use lamplighter_plan::rollout::{Phase, Placed};
use lamplighter_plan::standing::{Cause, State, Verdict, World as Standing};
use lamplighter_protocol as protocol;

use super::Subject;
use crate::reconcile::apply::{Decided, Obstacle};
use crate::reconcile::validate::Invalid;
use crate::reconcile::{render, resolving};

/// What the conditions are derived from.
pub(super) struct Basis<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) decided: &'a Decided<'a>,
    pub(super) standing: &'a Standing,
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
    /// Nothing goes on because the user said so.
    Held(Because),
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
        Some(obstacle) => outcome::unapplied(obstacle),
        None => outcome::outcome(basis, progress),
    };
    let mut conditions = Conditions::new();
    available(&mut conditions, basis);
    gates(&mut conditions, basis);
    rollback(&mut conditions, basis);
    if basis.decided.valid.paused {
        conditions.set(Paused, true, Reason::Paused, "spec.paused is true: nothing new begins");
    }
    summary(&mut conditions, outcome, basis.verdict.routable.total() > 0);
    conditions
}

/// What there is to return to, should what serves fail.
fn rollback(conditions: &mut Conditions, basis: &Basis<'_>) {
    let Decided { plan, world, .. } = basis.decided;
    let memory = &plan.memory;
    let answers = |placed: &Placed| {
        world.placed(placed).is_some_and(|workload| workload.ready() > 0)
            && memory.active.as_ref().is_some_and(|active| active.environment != placed.environment)
    };
    let kept = match &memory.phase {
        Phase::Shedding(rollout, _) | Phase::Baking(rollout, _) => rollout.fallback.as_ref(),
        _ => None,
    };
    if let Some(kept) = kept.filter(|kept| answers(kept)) {
        let text =
            format!("revision {} is kept in environment {}", kept.revision, kept.environment);
        conditions.set(RollbackAvailable, true, Reason::Retained, text);
        return;
    }
    let active = memory.active.as_ref().map(|active| &active.revision);
    let known = memory
        .known_good
        .iter()
        .find(|known| Some(*known) != active && !memory.failed.contains_key(*known));
    match known.or_else(|| kept.map(|kept| &kept.revision).filter(|kept| Some(*kept) != active)) {
        Some(known) => {
            let (reason, whence) = if keeps(basis.decided, known) {
                (Reason::Cached, "from volumes that keep its models")
            } else {
                (Reason::NeedsStore, "from its store")
            };
            let text = format!("revision {known} would have to be loaded again, {whence}");
            conditions.set(RollbackAvailable, true, reason, text)
        }
        None => conditions.set(
            RollbackAvailable,
            false,
            Reason::NothingKnownGood,
            "no other revision is known to be good",
        ),
    };
}

/// Whether the models of a revision come from volumes and images, or are kept in a shared cache
/// under the digests that are written down. The clean-up leaves them there as long as it is known
/// to be good.
fn keeps(decided: &Decided<'_>, revision: &RevisionId) -> bool {
    let blueprint = render::blueprint(decided.valid, decided.fetched, revision);
    let Some(Ok(blueprint)) = blueprint else { return false };
    let is_near = |model: &lamplighter_api::Model| {
        ["pvc://", "image://", "oci://"].iter().any(|near| model.source.uri.starts_with(near))
    };
    let digests = resolving::digests(decided.fetched, revision);
    let is_kept = |model: &lamplighter_api::Model| {
        blueprint.worker.cache.is_some()
            && digests.keys().any(|key| key.name == model.name && key.version == model.version)
    };
    blueprint.models.iter().all(|model| is_near(model) || is_kept(model))
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
        Outcome::Held(Because { word, text }) => {
            conditions.set(Ready, false, word.clone(), text.clone()).set(
                Progressing,
                Is::Unknown,
                word,
                text,
            );
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
        return Some(&basis.decided.valid.wanted.revision);
    }
    routable.older.iter().max_by_key(|(_, ready)| **ready).map(|(revision, _)| revision)
}

fn unpassed(conditions: &mut Conditions, basis: &Basis<'_>) {
    if basis.decided.valid.replicas == 0 {
        conditions.set(WarmedUp, Is::Unknown, Reason::ScaledToZero, "spec.replicas is 0").set(
            Validated,
            Is::Unknown,
            Reason::ScaledToZero,
            "spec.replicas is 0",
        );
        return;
    }
    let failed = cause(&basis.verdict.state).and_then(|cause| match cause {
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
    let blueprint = render::blueprint(basis.decided.valid, basis.subject.fetched, revision);
    let models = blueprint.and_then(Result::ok).map(|blueprint| blueprint.models);
    models
        .unwrap_or_default()
        .into_iter()
        .filter(|model| model.validation.mode == ValidationMode::Disabled)
        .map(|model| format!("{}:{}", model.name, model.version))
        .collect()
}

/// What is waited for, if anything is.
pub(super) fn cause(state: &State) -> Option<&Cause> {
    match state {
        State::Progressing(cause) | State::Disturbed(cause) | State::Stalled { cause, .. } => {
            Some(cause)
        }
        State::Deleting | State::ScaledToZero | State::Complete => None,
    }
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

fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
