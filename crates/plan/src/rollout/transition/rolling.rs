//! Pods are replaced one at a time, in the environment that serves.
//!
//! Forward and back are the same walk with other ends: towards the target grows one pod, and when
//! all of its pods are reached by requests one pod of the others leaves. What is given up on the
//! way forward so has touched one pod at most.

use super::begin::begin;
use super::{Turn, is_misplaced, leads_on, now};
use crate::rollout::heading::heading;
use crate::rollout::health;
use crate::rollout::memory::{Class, Direction, Phase, Placed, Rolling, Withdrawn};
use crate::rollout::plan::{Note, Outcome};
use crate::rollout::world::{Pod, Stage, Workload, World};
use crate::terms::{PodName, RevisionId};

/// What comes next on the walk.
pub(super) fn next(world: &World, rolling: &Rolling) -> Option<Turn> {
    turned(world, rolling)
        .or_else(|| arrived(world, rolling))
        .or_else(|| followed(world, rolling))
        .or_else(|| chosen(world, rolling))
}

/// The revision that is walked to.
pub(crate) fn target(rolling: &Rolling) -> Option<&Placed> {
    match rolling.direction {
        Direction::Forward => Some(&rolling.rollout.to),
        Direction::Back => rolling.rollout.from.as_ref(),
    }
}

/// The other workloads in the environment, and those of their pods that are not leaving.
pub(crate) fn others<'a>(
    world: &'a World,
    target: &'a Placed,
) -> impl Iterator<Item = (&'a RevisionId, &'a Workload)> {
    world.workloads().filter(|(id, workload)| {
        workload.environment == target.environment && **id != target.revision
    })
}

/// All pods of the target are reached by requests: it may grow, or one of the others may leave.
pub(crate) fn is_in_step(world: &World, target: &Placed) -> bool {
    world.placed(target).is_none_or(|workload| workload.serving() >= workload.replicas)
}

/// How many pods the environment asks for in all.
pub(crate) fn asked(world: &World, target: &Placed) -> u32 {
    world
        .workloads()
        .filter(|(_, workload)| workload.environment == target.environment)
        .fold(0, |sum, (_, workload)| sum.saturating_add(workload.replicas))
}

/// How many pods there may be.
pub(crate) fn room(world: &World) -> u32 {
    world.goal.replicas.saturating_add(world.surge())
}

fn turned(world: &World, rolling: &Rolling) -> Option<Turn> {
    let rollout = &rolling.rollout;
    // What was to leave next may be what the walk now leads to.
    let go = |direction| {
        let withdrawn = None;
        let rollout = rollout.clone();
        Turn::to(world, Phase::Rolling(Rolling { rollout, direction, since: now(), withdrawn }))
    };
    match rolling.direction {
        Direction::Forward if !leads_on(world, rollout) => Some(go(Direction::Back)),
        Direction::Forward if is_misplaced(world, &rollout.to) => {
            rolling.withdrawn.is_none().then(|| Turn::to(world, Phase::Stable))
        }
        Direction::Forward => {
            let fault = health::fault(world.placed(&rollout.to)?, &world.policy, rolling.since)?;
            Some(go(Direction::Back).fails(&rollout.to.revision, fault))
        }
        Direction::Back if leads_on(world, rollout) => {
            // What failed is left to the end, and tried again after that, unless there is no end.
            let is_clean = !world.memory.failed.contains_key(&rollout.to.revision);
            let from = rollout.from.as_ref().and_then(|from| world.placed(from));
            let is_dead = from.is_none_or(|workload| workload.serving() == 0);
            (is_clean || is_late(world, rolling) && is_dead).then(|| go(Direction::Forward))
        }
        Direction::Back => overtaken(world, rolling),
    }
}

fn arrived(world: &World, rolling: &Rolling) -> Option<Turn> {
    let target = target(rolling)?;
    let wanted = world.goal.replicas;
    let is_there = match world.placed(target) {
        Some(workload) => workload.replicas == wanted && workload.serving() >= wanted,
        None => wanted == 0,
    };
    let is_alone = others(world, target)
        .all(|(_, workload)| workload.replicas == 0 && workload.present() == 0);
    if !is_there || !is_alone || rolling.withdrawn.is_some() {
        return None;
    }
    let mut turn = match rolling.direction {
        Direction::Forward => Turn::to(world, Phase::Baking(rolling.rollout.clone(), now())),
        Direction::Back => over(world, rolling),
    };
    turn.memory.active = Some(target.clone());
    Some(turn)
}

/// The walk has taken longer than a step may, and waits for nothing that it began itself.
fn is_late(world: &World, rolling: &Rolling) -> bool {
    rolling.since > world.policy.progress && rolling.withdrawn.is_none()
}

/// The revision that is headed for, where a walk back leads to another one.
pub(crate) fn third(world: &World, rolling: &Rolling) -> Option<RevisionId> {
    let rollout = &rolling.rollout;
    let is_end = |id: &RevisionId| {
        *id == rollout.to.revision || rollout.from.as_ref().is_some_and(|from| from.revision == *id)
    };
    let is_back = rolling.direction == Direction::Back;
    heading(world).revision.filter(|revision| is_back && !is_end(revision))
}

/// The walk back takes too long, and a third revision is wanted: it may be the one that mends what
/// keeps the walk from its end.
fn overtaken(world: &World, rolling: &Rolling) -> Option<Turn> {
    let third = third(world, rolling).filter(|_| is_late(world, rolling))?;
    let begun = begin(world, &third, rolling.rollout.from.as_ref())?;
    let mut turn = over(world, rolling);
    turn.memory.phase = begun.memory.phase;
    turn.notes.extend(begun.notes);
    Some(turn)
}

/// The end of a walk back.
fn over(world: &World, rolling: &Rolling) -> Turn {
    let rollout = &rolling.rollout;
    let outcome = match world.memory.failed.get(&rollout.to.revision) {
        None => Outcome::Superseded,
        Some(failed) if failed.class == Class::Withdrawn => Outcome::Aborted,
        Some(failed) if failed.class == Class::Capacity => Outcome::Blocked,
        Some(_) if world.memory.active.as_ref() == Some(&rollout.to) => Outcome::RolledBackAuto,
        Some(_) => Outcome::Aborted,
    };
    Turn::to(world, Phase::Stable).finished(rollout, outcome)
}

/// No further pod is to be replaced.
pub(crate) fn is_held(world: &World, rolling: &Rolling) -> bool {
    world.goal.paused && rolling.direction == Direction::Forward
}

/// Too few would serve without it.
fn is_missed(world: &World, pod: &Pod) -> bool {
    let others = world.routed().saturating_sub(u32::from(pod.serves()));
    pod.stage == Stage::Ready && others < world.floor() && world.goal.replicas > 0
}

/// The pod that leaves next: whether it is out, gone, or stays after all.
fn followed(world: &World, rolling: &Rolling) -> Option<Turn> {
    let withdrawn = rolling.withdrawn.as_ref()?;
    let with = |withdrawn: Option<Withdrawn>| {
        Turn::to(world, Phase::Rolling(Rolling { withdrawn, ..rolling.clone() }))
    };
    let workload = world.workload(&withdrawn.revision);
    let pod = workload.and_then(|workload| Some((workload, workload.pods.get(&withdrawn.pod)?)));
    let Some((workload, pod)) = pod else {
        return Some(with(None));
    };
    if pod.stage == Stage::Leaving {
        // Its device is free when it is gone. One whose node is lost would never be.
        return (pod.since > world.policy.progress).then(|| with(None));
    }
    let is_other_gone =
        workload.replicas <= withdrawn.leaves && workload.present() <= withdrawn.leaves;
    // Where nothing new is to begin, a pod that was not told to leave yet stays.
    let is_spared = is_held(world, rolling) && workload.replicas > withdrawn.leaves;
    if is_other_gone || is_spared || is_missed(world, pod) {
        return Some(with(None).with(Note::Stays(withdrawn.pod.clone())));
    }
    let out = match (pod.routed, withdrawn.out) {
        (false, None) => Some(now()),
        (true, Some(_)) => None,
        (false, Some(_)) | (true, None) => return None,
    };
    Some(with(Some(Withdrawn { out, ..withdrawn.clone() })))
}

fn chosen(world: &World, rolling: &Rolling) -> Option<Turn> {
    let target = target(rolling)?;
    let (revision, pod) = victim(world, rolling, target).ok()??;
    let workload = world.workload(revision)?;
    let withdrawn = Withdrawn {
        pod: pod.clone(),
        revision: revision.clone(),
        leaves: workload.replicas.saturating_sub(1),
        out: None,
    };
    let phase = Phase::Rolling(Rolling { withdrawn: Some(withdrawn.clone()), ..rolling.clone() });
    Some(Turn::to(world, phase).with(Note::Leaves(withdrawn)))
}

/// Nothing may be taken away now.
pub(crate) struct FloorHolds {
    pub(crate) serving: u32,
    pub(crate) floor: u32,
}

/// The pod that may leave next, those first that serve nobody; none while something has to come
/// before.
pub(crate) fn victim<'a>(
    world: &'a World,
    rolling: &Rolling,
    target: &'a Placed,
) -> Result<Option<(&'a RevisionId, &'a PodName)>, FloorHolds> {
    let is_full = world.placed(target).is_some_and(|w| w.replicas >= world.goal.replicas);
    let has_room = asked(world, target) < room(world) && !is_full;
    if rolling.withdrawn.is_some() || is_held(world, rolling) || world.goal.replicas == 0 {
        return Ok(None);
    }
    let comes_first = has_room || !is_in_step(world, target);
    // A workload that has yet to lose a pod would lose another one.
    let settled = |workload: &&Workload| workload.present() <= workload.replicas;
    let mut leaving: Vec<(bool, bool, &RevisionId, &PodName, &Pod)> = others(world, target)
        .filter(|(_, workload)| settled(workload) && workload.replicas > 0)
        .flat_map(|(id, workload)| workload.pods.iter().map(move |(name, pod)| (id, name, pod)))
        .filter(|(_, _, pod)| pod.stage != Stage::Leaving)
        .map(|(id, name, pod)| (is_missed(world, pod), pod.serves(), id, name, pod))
        .collect();
    leaving.sort_unstable();
    let Some((is_missed, serves, id, name, _)) = leaving.first().copied() else {
        return Ok(None);
    };
    // On the way back, pods that serve nobody only hold what others may wait for.
    if comes_first && (serves || rolling.direction == Direction::Forward) {
        return Ok(None);
    }
    if is_missed {
        return Err(FloorHolds { serving: world.routed(), floor: world.floor() });
    }
    Ok(Some((id, name)))
}
