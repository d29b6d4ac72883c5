//! When to look again although nothing may change.

use super::heading::retry_after;
use super::memory::Phase;
use super::world::{Policy, Promotion, Resolved, Stage, Workload, World};
use crate::terms::Seconds;

/// The time until the first limit that has not passed. None where time changes nothing.
pub(crate) fn wake(world: &World) -> Option<Seconds> {
    let left = |(age, limit): (Seconds, Seconds)| {
        (age <= limit).then(|| Seconds(limit.0.saturating_sub(age.0).saturating_add(1)))
    };
    timers(world).into_iter().filter_map(left).min()
}

/// Everything that time alone decides: how old it is, and at which age it does.
fn timers(world: &World) -> Vec<(Seconds, Seconds)> {
    let policy = &world.policy;
    let mut timers = phase(world);
    // Not of the wanted one alone: whoever is to be returned to may have to wait as well.
    timers.extend(world.memory.failed.values().filter_map(|failed| {
        let wait = retry_after(failed, policy)?;
        Some((failed.since, wait))
    }));
    timers.extend(world.revisions.values().filter_map(|found| match &found.resolved {
        Resolved::Running(since) => Some((*since, policy.progress)),
        Resolved::Unknown | Resolved::Failed(..) | Resolved::Known(_) => None,
    }));
    timers
}

/// How long a bake may last that nobody serves at the end of.
pub(crate) fn unserved(policy: &Policy) -> Seconds {
    Seconds(policy.bake.0.saturating_add(policy.progress.0))
}

fn phase(world: &World) -> Vec<(Seconds, Seconds)> {
    let policy = &world.policy;
    let shed = Seconds(policy.propagation.0.saturating_add(policy.shed.0));
    match &world.memory.phase {
        Phase::Stable => Vec::new(),
        Phase::Gating(rollout, since) => candidate(world, world.placed(&rollout.to), *since),
        Phase::AwaitingPromotion(rollout, since) => {
            let pods = world.placed(&rollout.to).into_iter().flat_map(|found| found.pods.values());
            let proofs = pods.map(|pod| (pod.validated, policy.validation_age));
            let mut timers: Vec<_> = proofs.collect();
            if let Promotion::Manual(limit) = policy.promotion {
                timers.push((*since, limit));
            }
            timers
        }
        Phase::CuttingOver(_, since) | Phase::Reverting(_, since) => {
            vec![(*since, policy.confirm)]
        }
        Phase::Shedding(_, since) | Phase::Clearing(_, since) => {
            vec![(*since, policy.propagation), (*since, shed)]
        }
        Phase::Baking(_, since) => vec![(*since, policy.bake), (*since, unserved(policy))],
        Phase::Rolling(rolling) => {
            let out = rolling.withdrawn.as_ref().and_then(|withdrawn| withdrawn.out);
            let to = world.placed(&rolling.rollout.to);
            let mut timers = candidate(world, to, rolling.since);
            timers.push((rolling.since, policy.progress));
            timers.extend(out.map(|out| (out, policy.propagation)));
            timers.extend(leaving(world));
            timers
        }
    }
}

fn candidate(
    world: &World,
    workload: Option<&Workload>,
    since: Seconds,
) -> Vec<(Seconds, Seconds)> {
    let policy = &world.policy;
    let Some(workload) = workload else { return Vec::new() };
    let unscheduled = workload.pods.values().filter_map(|pod| match &pod.stage {
        Stage::Unschedulable(_) => Some((pod.since.min(since), policy.scheduling)),
        Stage::Starting | Stage::Ready | Stage::Leaving => None,
    });
    let refused = workload
        .refused
        .iter()
        .map(|refusal| (refusal.since.min(workload.since).min(since), policy.scheduling));
    let standstill = (workload.standstill().min(since), policy.progress);
    unscheduled.chain(refused).chain([standstill]).collect()
}

fn leaving(world: &World) -> impl Iterator<Item = (Seconds, Seconds)> {
    world
        .workloads()
        .flat_map(|(_, workload)| workload.pods.values())
        .filter(|pod| pod.stage == Stage::Leaving)
        .map(|pod| (pod.since, world.policy.progress))
}
