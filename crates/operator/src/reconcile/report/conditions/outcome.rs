//! What the whole comes to: done, under way, held, disturbed or stuck, and why.

use lamplighter_api::{Reason, names};
use lamplighter_plan::RevisionId;
use lamplighter_plan::rollout::{Class as FailureClass, Note, Phase, retry_after};
use lamplighter_plan::standing::{Cause, State, explain};

use super::{Basis, Because, Outcome, Word, with_progress};
use crate::error::Class;
use crate::reconcile::apply::{Decided, Obstacle};
use crate::reconcile::memory::phase_word;
use crate::reconcile::resolving;

/// What could not be applied comes before all else: whatever the pods say, it is not what the
/// spec asks for.
pub(super) fn unapplied(obstacle: &Obstacle) -> Outcome {
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

/// What the whole comes to.
pub(super) fn outcome(basis: &Basis<'_>, progress: Option<&str>) -> Outcome {
    let Decided { valid, plan, .. } = basis.decided;
    let memory = &plan.memory;
    let wanted = &valid.wanted.revision;
    let serves = memory.active.as_ref().is_some_and(|active| active.revision == *wanted);
    if let Some(outcome) = by_memory(basis, serves) {
        return outcome;
    }
    if let Some(outcome) = plan.notes.iter().find_map(|note| by_note(basis, note)) {
        return outcome;
    }
    let is_idle = matches!(memory.phase, Phase::Stable | Phase::Baking(..));
    if valid.paused && !serves && is_idle && valid.replicas > 0 {
        let text = format!("spec.paused is true, so revision {wanted} is not brought up");
        return Outcome::Held(plain(Reason::Paused, text));
    }
    by_pods(basis, serves, progress)
}

/// A revision that was given up, or that a person chose to return from.
fn by_memory(basis: &Basis<'_>, serves: bool) -> Option<Outcome> {
    let Decided { valid, plan, .. } = basis.decided;
    let memory = &plan.memory;
    let wanted = &valid.wanted.revision;
    let still = memory
        .active
        .as_ref()
        .filter(|_| !serves)
        .map_or_else(String::new, |active| format!("; revision {} serves", active.revision));
    if let Some(pin) = memory.pin.as_ref().filter(|pin| pin.revision != *wanted) {
        let text = format!(
            "a person asked to return to revision {}, so revision {wanted} of the spec waits until the spec changes{still}",
            pin.revision
        );
        return Some(Outcome::Disturbed(plain(Reason::RolledBackTo, text)));
    }
    let failed = memory.failed.get(wanted).filter(|failed| !failed.released)?;
    let is_tried = memory.rollout().is_some_and(|rollout| rollout.to.revision == *wanted)
        && matches!(
            memory.phase,
            Phase::Gating(..) | Phase::AwaitingPromotion(..) | Phase::CuttingOver(..)
        );
    if is_tried {
        return None;
    }
    let word = Word::from(failed.reason.clone());
    if retry_after(failed, &valid.policy).is_some() {
        // Without a number that counts down: it would be written again and again. The time stands
        // in `status.failedRevisions`.
        let text = format!(
            "{}; attempt {} failed and another one follows{still}",
            failed.message, failed.attempts
        );
        let because = Because { word: word.clone(), text };
        return Some(match failed.class {
            FailureClass::Outside => Outcome::Stuck { because, word },
            _ => Outcome::UnderWay(because),
        });
    }
    let text = format!(
        "{}; change the spec, or annotate {}={wanted} to try again{still}",
        failed.message,
        names::COMMAND_RETRY
    );
    let given_up = if was_left(basis, wanted) { Reason::RolledBack.into() } else { word.clone() };
    Some(Outcome::Stuck { because: Because { word, text }, word: given_up })
}

/// The wanted revision served, and was left for what was there before.
fn was_left(basis: &Basis<'_>, wanted: &RevisionId) -> bool {
    let history = basis.subject.deployment.status.as_ref().map(|status| &status.history);
    let last = history.and_then(|history| history.first());
    last.is_some_and(|last| last.to == wanted.as_str() && last.outcome.starts_with("RolledBack"))
}

/// What the plan itself says that it waits for.
fn by_note(basis: &Basis<'_>, note: &Note) -> Option<Outcome> {
    let stuck = |reason: Reason| Outcome::Stuck {
        because: plain(reason, note.to_string()),
        word: reason.into(),
    };
    match note {
        Note::Overtaken => {
            let text = format!(
                "objects were written under a later status than this one: another operator leads, or the status was restored from a backup; in that case let it begin anew: kubectl patch mdpl {} --subresource=status --type=merge -p '{{\"status\":{{\"epoch\":null}}}}'",
                basis.decided.valid.identity.name
            );
            Some(Outcome::Stuck {
                because: plain(Reason::StatusOutdated, text),
                word: Reason::StatusOutdated.into(),
            })
        }
        Note::Resolving(revision) => {
            let because = match resolving::held_up(basis.subject.fetched, revision) {
                Some(why) => Because {
                    text: format!("{note}, but {}", why.message),
                    word: Word::from(why.reason),
                },
                None => plain(Reason::Resolving, note.to_string()),
            };
            Some(Outcome::UnderWay(because))
        }
        Note::PromotionAwaited(revision) => {
            let text = format!("{note}; annotate {}={revision}", names::COMMAND_PROMOTE);
            Some(Outcome::UnderWay(plain(Reason::AwaitingPromotion, text)))
        }
        Note::ServiceUnusable(_) => Some(stuck(Reason::ServiceUnusable)),
        Note::RollingRefused(_) => Some(stuck(Reason::RollingRefused)),
        Note::Sweeping { .. } | Note::Confirming { .. } | Note::Connected { .. }
            if basis.decided.valid.replicas > 0
                && !is_settled(&basis.decided.plan.memory.phase) =>
        {
            Some(Outcome::UnderWay(plain(Reason::RollingOut, note.to_string())))
        }
        _ => None,
    }
}

fn is_settled(phase: &Phase) -> bool {
    matches!(phase, Phase::Stable | Phase::Baking(..))
}

/// How the pods of the wanted revision stand.
fn by_pods(basis: &Basis<'_>, serves: bool, progress: Option<&str>) -> Outcome {
    let Decided { valid, plan, .. } = basis.decided;
    let revision = &valid.wanted.revision;
    let routable = &basis.verdict.routable;
    let leaving = explain::leaving(basis.standing);
    let told = |text: String| match &leaving {
        Some(leaving) => format!("{text}; {leaving}"),
        None => text,
    };
    let rolls = rolls(&plan.notes);
    let because = |cause: &Cause| {
        let cause_text = with_progress(cause, progress);
        let text = match &rolls {
            Some(rolls) => format!("{rolls}; {cause_text}"),
            None => cause_text,
        };
        Because { word: word(cause, routable.wanted), text: told(text) }
    };
    let is_settled = is_settled(&plan.memory.phase);
    if serves && is_settled && routable.of > 0 && routable.wanted >= routable.of {
        let text = format!(
            "{} of {} pods of revision {revision} serve every model",
            routable.wanted, routable.of
        );
        return Outcome::Done(plain(Reason::AllPodsReady, told(text)));
    }
    let waiting = || Because { word: some_or_none(routable.wanted), text: told(endpoints(basis)) };
    match &basis.verdict.state {
        State::ScaledToZero => {
            Outcome::Done(plain(Reason::ScaledToZero, told("spec.replicas is 0".to_owned())))
        }
        State::Deleting => {
            Outcome::UnderWay(plain(Reason::RollingOut, told("deleting".to_owned())))
        }
        // Its pods are ready, and requests do not reach them yet.
        State::Complete => Outcome::UnderWay(waiting()),
        State::Progressing(Cause::Retiring { .. }) if routable.of > 0 => {
            Outcome::UnderWay(waiting())
        }
        State::Progressing(cause) => Outcome::UnderWay(because(cause)),
        State::Disturbed(cause) => Outcome::Disturbed(because(cause)),
        // Whether a candidate is given up is the plan's to say.
        State::Stalled { cause, .. } if !(serves && is_settled) => {
            Outcome::UnderWay(because(cause))
        }
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

/// How far pods are replaced one at a time, and why it does not go on.
fn rolls(notes: &[Note]) -> Option<String> {
    let said: Vec<String> = notes
        .iter()
        .filter(|note| matches!(note, Note::Rolls { .. } | Note::FloorHolds { .. }))
        .map(ToString::to_string)
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

fn endpoints(basis: &Basis<'_>) -> String {
    let routable = &basis.verdict.routable;
    let plan = basis.decided.plan;
    // Its name alone: an age would be another text at every look.
    let under_way = plan.memory.rollout().map(|_| format!("; {}", phase_word(&plan.memory.phase)));
    format!(
        "requests reach {} of {} pods of revision {}{}",
        routable.wanted,
        routable.of,
        basis.decided.valid.wanted.revision,
        under_way.unwrap_or_default()
    )
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
