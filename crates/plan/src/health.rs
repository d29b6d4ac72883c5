//! How things stand: the verdict, and when time alone will change it.

use crate::output::{Cause, Routable, State, Verdict};
use crate::world::{FailureClass, Pod, PodName, PodPhase, Seconds, Workload, World, count};

/// How things stand.
pub fn verdict(world: &World) -> Verdict {
    Verdict { state: state(world), routable: routable(world) }
}

/// When to look again although nothing may change: at the first deadline that has not passed.
/// None where time changes nothing: when all is well, and when it already stalled.
pub fn wake(world: &World) -> Option<Seconds> {
    let workload = world.wanted().filter(|_| !world.deleting && !world.is_complete())?;
    if let State::Stalled { .. } = state(world) {
        return None;
    }
    waits(world, workload)
        .filter(|since| *since <= world.deadline)
        .map(|since| Seconds(world.deadline.minus(since).0.saturating_add(1)))
        .min()
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
    let leaving = leaving(world);
    if world.goal.replicas == 0 {
        return if leaving > 0 {
            State::Progressing(Cause::Retiring { pods: leaving })
        } else {
            State::ScaledToZero
        };
    }
    let Some(workload) = world.wanted() else {
        return State::Progressing(Cause::Creating { pods: 0, of: world.goal.replicas });
    };
    if world.is_complete() {
        return if leaving > 0 {
            State::Progressing(Cause::Retiring { pods: leaving })
        } else {
            State::Complete
        };
    }
    unfinished(world, workload)
}

/// Pods that are to go: all of other revisions, and all when none is wanted.
fn leaving(world: &World) -> u32 {
    let older: u32 =
        world.older().fold(0, |sum, (_, workload)| sum.saturating_add(count(workload.pods.iter())));
    let own = world.wanted().filter(|_| world.goal.replicas == 0);
    older.saturating_add(own.map_or(0, |workload| count(workload.pods.iter())))
}

fn unfinished(world: &World, workload: &Workload) -> State {
    let settled = world.settled.as_ref() == Some(&world.goal.revision);
    // What worked before and still serves is disturbed by a pod's failure, not condemned by it.
    let still_works = settled && workload.is_routable();
    let cause = cause(world, workload);
    let class = failure_class(&cause);
    let overdue = is_overdue(world, workload);
    if class == Some(FailureClass::Deterministic) && !still_works {
        State::Stalled { cause, deadline: None }
    } else if overdue && !still_works {
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
    let is_short = present(workload) < world.goal.replicas;
    let missing = is_short.then_some(workload.since);
    unready(workload).map(|(_, pod)| pod.since).chain(missing)
}

/// Pods that are not on their way out.
fn present(workload: &Workload) -> u32 {
    count(workload.pods.values().filter(|pod| pod.phase != PodPhase::Terminating))
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
    let refused = || workload.refused.clone().map(|message| Cause::Refused { message });
    failed(FailureClass::Deterministic)
        .or_else(|| failed(FailureClass::Transient))
        .or_else(refused)
        .or_else(|| blocked(workload))
        .unwrap_or_else(|| waiting(world, workload))
}

fn blocked(workload: &Workload) -> Option<Cause> {
    let waiting = unready(workload).filter_map(|(name, pod)| match &pod.phase {
        PodPhase::Waiting { reason, message } => Some(Cause::Waiting {
            pod: name.clone(),
            reason: reason.clone(),
            message: message.clone(),
        }),
        PodPhase::Unschedulable { message } => {
            Some(Cause::Unschedulable { pod: name.clone(), message: message.clone() })
        }
        PodPhase::Starting | PodPhase::Ready | PodPhase::Terminating => None,
    });
    // `Unschedulable` sorts before `Waiting`: a pod without a node explains more than one whose
    // container is about to be created.
    waiting.min()
}

fn waiting(world: &World, workload: &Workload) -> Cause {
    let pods = present(workload);
    let of = world.goal.replicas;
    if pods < of {
        Cause::Creating { pods, of }
    } else {
        Cause::Starting { ready: workload.ready(), of }
    }
}
