//! What the pods of a revision say about it.

use super::memory::Class;
use super::world::{Policy, Stage, Workload};
use crate::terms::{FailureClass, Seconds};

/// How often a container may end by itself while it serves. Once can be chance: a machine check,
/// a request that used up the memory.
pub const TOLERATED_EXITS: u32 = 1;

/// Why a revision cannot serve.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Fault {
    pub(crate) class: Class,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// What its own containers did that rules the revision out. What is done to a pod (a drain, an
/// eviction, a lost node) is never among it.
pub(crate) fn evidence(workload: &Workload) -> Option<Fault> {
    let pods = || workload.pods.iter().filter(|(_, pod)| pod.stage != Stage::Leaving);
    let failed = pods().find_map(|(name, pod)| {
        let failure = pod.failure.as_ref()?;
        (failure.class == FailureClass::Deterministic).then(|| Fault {
            class: Class::Deterministic,
            reason: failure.reason.clone(),
            message: format!("pod {name}: {}", failure.message),
        })
    });
    let wrong = || {
        pods().find(|(_, pod)| pod.wrong).map(|(name, _)| Fault {
            class: Class::Deterministic,
            reason: "RevalidationFailed".to_owned(),
            message: format!("pod {name} gave the same wrong answer twice"),
        })
    };
    let exits = || {
        pods().find(|(_, pod)| pod.exits > TOLERATED_EXITS).map(|(name, pod)| Fault {
            class: Class::Deterministic,
            reason: "CrashedWhileServing".to_owned(),
            message: format!("the container of pod {name} ended {} times", pod.exits),
        })
    };
    failed.or_else(wrong).or_else(exits)
}

/// Why a candidate is given up that has been one for so long.
pub(crate) fn fault(workload: &Workload, policy: &Policy, since: Seconds) -> Option<Fault> {
    evidence(workload)
        .or_else(|| no_place(workload, policy, since))
        .or_else(|| no_progress(workload, policy, since))
}

fn no_place(workload: &Workload, policy: &Policy, since: Seconds) -> Option<Fault> {
    let capacity = |reason: &str, message: String| Fault {
        class: Class::Capacity,
        reason: reason.to_owned(),
        message,
    };
    let refused = workload
        .refused
        .as_ref()
        .filter(|refusal| refusal.since.min(workload.since).min(since) > policy.scheduling)
        .map(|refusal| capacity("PodsRefused", refusal.message.clone()));
    let unschedulable = || {
        workload.pods.iter().find_map(|(name, pod)| match &pod.stage {
            Stage::Unschedulable(words) if pod.since.min(since) > policy.scheduling => {
                Some(capacity("Unschedulable", format!("pod {name}: {words}")))
            }
            Stage::Unschedulable(_) | Stage::Starting | Stage::Ready | Stage::Leaving => None,
        })
    };
    refused.or_else(unschedulable)
}

fn no_progress(workload: &Workload, policy: &Policy, since: Seconds) -> Option<Fault> {
    let standstill = workload.standstill().min(since);
    let is_late = workload.ready() < workload.replicas && standstill > policy.progress;
    is_late.then(|| missing(workload).unwrap_or_else(|| slow(workload, policy)))
}

/// What somebody outside has to put right before any of the pods that ended gets further.
fn missing(workload: &Workload) -> Option<Fault> {
    let pods = workload.pods.iter().filter(|(_, pod)| pod.stage != Stage::Leaving);
    let mut ended = pods.filter_map(|(name, pod)| Some((name, pod.failure.as_ref()?)));
    let (name, first) = ended.clone().next()?;
    ended.all(|(_, failure)| failure.class == FailureClass::Outside).then(|| Fault {
        class: Class::Outside,
        reason: first.reason.clone(),
        message: format!("pod {name}: {}", first.message),
    })
}

fn slow(workload: &Workload, policy: &Policy) -> Fault {
    let last = workload.pods.iter().find_map(|(name, pod)| {
        let failure = pod.failure.as_ref()?;
        Some(format!("; pod {name} said {}: {}", failure.reason, failure.message))
    });
    Fault {
        class: Class::Transient,
        reason: "ProgressDeadlineExceeded".to_owned(),
        message: format!(
            "{} of {} pods ready and no step forward for more than {}{}",
            workload.ready(),
            workload.replicas,
            policy.progress,
            last.unwrap_or_default()
        ),
    }
}
