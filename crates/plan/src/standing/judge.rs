//! How things stand: the verdict.

use super::verdict::{Cause, Routable, State, Verdict};
use super::world::{Pod, PodPhase, Workload, World};
use crate::terms::{FailureClass, PodName, Seconds};

/// How things stand.
pub fn verdict(world: &World) -> Verdict {
    Verdict { state: state(world), routable: routable(world) }
}

fn routable(world: &World) -> Routable {
    Routable {
        wanted: world.wanted_ready(),
        of: world.goal.replicas,
        older: world
            .older()
            .filter(|(_, workload)| workload.is_routable())
            .map(|(id, workload)| (id.clone(), workload.ready()))
            .collect(),
    }
}

fn state(world: &World) -> State {
    if world.deleting {
        return State::Deleting;
    }
    let pods = retiring(world);
    let Some(workload) = world.wanted().filter(|_| world.goal.replicas > 0) else {
        return match (world.goal.replicas, pods) {
            (0, 0) => State::ScaledToZero,
            (0, _) => State::Progressing(Cause::Retiring { pods }),
            (of, _) => State::Progressing(Cause::Creating { pods: 0, of }),
        };
    };
    if !world.is_complete() {
        unfinished(world, workload)
    } else if pods > 0 {
        State::Progressing(Cause::Retiring { pods })
    } else if workload.replicas < world.goal.replicas {
        State::Progressing(waiting(world, workload))
    } else {
        State::Complete
    }
}

/// Every workload, and how many of its pods are wanted once the wanted revision is ready in full.
fn unwanted(world: &World) -> impl Iterator<Item = (&Workload, u32)> {
    let own = world.wanted().map(|workload| (workload, world.goal.replicas));
    own.into_iter().chain(world.older().map(|(_, workload)| (workload, 0)))
}

/// Pods that are not wanted and were not told to leave. Pods on their way out are not among them:
/// one whose node is lost can stay for ever, and no user waits for it. For the same reason what
/// the cluster does not remove within the deadline is left to the notes.
fn retiring(world: &World) -> u32 {
    unwanted(world).fold(0, |sum, (workload, goal)| {
        let asked = workload.replicas.saturating_sub(goal);
        let is_due = workload.since <= world.deadline;
        let left = if is_due { workload.present().saturating_sub(goal) } else { 0 };
        sum.saturating_add(asked.max(left))
    })
}

fn unfinished(world: &World, workload: &Workload) -> State {
    let settled = world.is_settled();
    let cause = cause(world, workload);
    let class = failure_class(&cause);
    let overdue = is_overdue(world, workload);
    // What worked before is disturbed by a pod's failure, not condemned by it: the same bytes
    // and settings did work.
    if class == Some(FailureClass::Deterministic) && !settled {
        State::Stalled { cause, deadline: None }
    } else if overdue && !(settled && workload.is_routable()) {
        State::Stalled { cause, deadline: Some(world.deadline) }
    } else if settled && (overdue || class.is_some()) {
        State::Disturbed(cause)
    } else {
        State::Progressing(cause)
    }
}

fn failure_class(cause: &Cause) -> Option<FailureClass> {
    match cause {
        Cause::Failed { failure, .. } => Some(failure.class),
        Cause::Creating { .. }
        | Cause::Refused { .. }
        | Cause::Unschedulable { .. }
        | Cause::Waiting { .. }
        | Cause::Starting { .. }
        | Cause::Retiring { .. } => None,
    }
}

fn is_overdue(world: &World, workload: &Workload) -> bool {
    waits(world, workload).any(|since| since > world.deadline)
}

/// For how long each thing that the rollout waits for has been waited for.
fn waits<'a>(world: &World, workload: &'a Workload) -> impl Iterator<Item = Seconds> + use<'a> {
    let whole = if world.is_settled() {
        (workload.present() < world.goal.replicas).then(|| shortage(workload))
    } else {
        Some(standstill(workload))
    };
    unready(workload).map(|(_, pod)| pod.since).chain(whole)
}

/// For how long a rollout got no step further: since its start, or since a pod became ready. The
/// age of its pods does not tell, because pods that are evicted are replaced by younger ones.
fn standstill(workload: &Workload) -> Seconds {
    let ready = workload.pods.values().filter(|pod| pod.phase == PodPhase::Ready);
    ready.map(|pod| pod.since).fold(workload.since, Seconds::min)
}

/// For how long a workload that had its pods lacks some. The cluster replaces a pod within
/// moments or says since when it cannot; where it said nothing, the pod is missing since now.
fn shortage(workload: &Workload) -> Seconds {
    let refused = workload.refused.as_ref();
    refused.map_or(Seconds(0), |refusal| refusal.since.min(workload.since))
}

/// Pods that should become ready and are not.
fn unready(workload: &Workload) -> impl Iterator<Item = (&PodName, &Pod)> {
    workload.pods.iter().filter(|(_, pod)| match pod.phase {
        PodPhase::Unschedulable { .. } | PodPhase::Waiting { .. } | PodPhase::Starting => true,
        PodPhase::Ready | PodPhase::Terminating => false,
    })
}

/// The most telling of what stands in the way: a failure that repeats itself, then one that may
/// pass, then what keeps pods from starting, then plain waiting. Among equals the pod whose name
/// sorts first, so that the message stays with one pod.
fn cause(world: &World, workload: &Workload) -> Cause {
    let failed = |class: FailureClass| {
        unready(workload).find_map(|(name, pod)| {
            let failure = pod.failure.as_ref().filter(|failure| failure.class == class)?;
            Some(Cause::Failed { pod: name.clone(), failure: failure.clone() })
        })
    };
    let refused = || {
        let message = workload.refused.as_ref()?.message.clone();
        Some(Cause::Refused { message })
    };
    failed(FailureClass::Deterministic)
        .or_else(|| failed(FailureClass::Outside))
        .or_else(|| failed(FailureClass::Transient))
        .or_else(refused)
        .or_else(|| unschedulable(workload))
        .or_else(|| ended(world, workload))
        .or_else(|| held_up(workload))
        .unwrap_or_else(|| waiting(world, workload))
}

fn unschedulable(workload: &Workload) -> Option<Cause> {
    unready(workload).find_map(|(name, pod)| match &pod.phase {
        PodPhase::Unschedulable { message } => {
            Some(Cause::Unschedulable { pod: name.clone(), message: message.clone() })
        }
        PodPhase::Waiting { .. } | PodPhase::Starting | PodPhase::Ready | PodPhase::Terminating => {
            None
        }
    })
}

/// The pod that ended last, while that can be why another one is not ready yet: the cluster keeps
/// ended pods for weeks.
fn ended(world: &World, workload: &Workload) -> Option<Cause> {
    let recent = workload.since.min(world.deadline);
    let ended = workload.ended.as_ref().filter(|ended| ended.since <= recent)?;
    Some(Cause::Failed { pod: ended.pod.clone(), failure: ended.failure.clone() })
}

fn held_up(workload: &Workload) -> Option<Cause> {
    unready(workload).find_map(|(name, pod)| match &pod.phase {
        PodPhase::Waiting { reason, message } => Some(Cause::Waiting {
            pod: name.clone(),
            reason: reason.clone(),
            message: message.clone(),
        }),
        PodPhase::Unschedulable { .. }
        | PodPhase::Starting
        | PodPhase::Ready
        | PodPhase::Terminating => None,
    })
}

fn waiting(world: &World, workload: &Workload) -> Cause {
    let pods = workload.present();
    let of = world.goal.replicas;
    if pods < of {
        Cause::Creating { pods, of }
    } else {
        Cause::Starting { ready: workload.ready(), of }
    }
}
