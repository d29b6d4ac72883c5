//! What the memory asks of the cluster. Nothing here changes the memory.

use super::heading::heading;
use super::memory::{Direction, Environment, Phase, Placed, Rolling, Rollout};
use super::plan::{Action, Note};
use super::strategy::Kind;
use super::transition::{begin, candidate, rolling, routed_elsewhere};
use super::world::{Resolved, Stage, Workload, World};
use crate::replace::KEPT_RECORDS;
use crate::world::{RevisionId, count};

/// Actions, and the reasons for them and for others' absence.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) actions: Vec<Action>,
    pub(crate) notes: Vec<Note>,
}

/// Everything that is to be done now.
pub(crate) fn steps(world: &World) -> Steps {
    let mut steps = Steps::default();
    resolve(world, &mut steps);
    waiting(world, &mut steps);
    select(world, &mut steps);
    match &world.memory.phase {
        Phase::Rolling(rolling) => {
            size(world, Some(rolling.rollout.to.environment), &mut steps);
            roll(world, rolling, &mut steps);
        }
        Phase::Stable
        | Phase::Gating(..)
        | Phase::AwaitingPromotion(..)
        | Phase::CuttingOver(..)
        | Phase::Shedding(..)
        | Phase::Baking(..)
        | Phase::Reverting(..)
        | Phase::Clearing(..) => size(world, None, &mut steps),
    }
    restore(world, &mut steps);
    ask(world, &mut steps);
    sweep(world, &mut steps);
    forget(world, &mut steps);
    steps
}

impl Steps {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn note(&mut self, note: Note) {
        self.notes.push(note);
    }
}

/// What is headed for has to be known before anything else happens.
fn resolve(world: &World, steps: &mut Steps) {
    let Some(revision) = heading(world).revision else { return };
    let is_active = world.memory.active.as_ref().is_some_and(|active| active.revision == revision);
    match world.revisions.get(&revision).map(|found| &found.resolved) {
        Some(Resolved::Known(_)) => {}
        Some(Resolved::Running(_)) => steps.note(Note::Resolving(revision)),
        Some(Resolved::Unknown | Resolved::Failed(..)) | None => {
            if !is_active {
                steps.act(Action::Resolve(revision.clone()));
                steps.note(Note::Resolving(revision));
            }
        }
    }
}

/// Why nothing begins.
fn waiting(world: &World, steps: &mut Steps) {
    let heading = heading(world);
    steps.notes.extend(heading.note);
    let active = world.memory.active.as_ref();
    let is_idle = match &world.memory.phase {
        Phase::Stable => true,
        Phase::Baking(rollout, _) => heading.revision.as_ref() != Some(&rollout.to.revision),
        Phase::Gating(..)
        | Phase::AwaitingPromotion(..)
        | Phase::CuttingOver(..)
        | Phase::Shedding(..)
        | Phase::Reverting(..)
        | Phase::Clearing(..)
        | Phase::Rolling(_) => false,
    };
    let Some(revision) = heading.revision.filter(|_| is_idle) else { return };
    if active.is_some_and(|active| active.revision == revision) {
        return;
    }
    match begin::plan(world, &revision, active) {
        Ok(_) | Err(begin::Obstacle::Unresolved) => {}
        Err(begin::Obstacle::Paused) => steps.note(Note::Paused),
        Err(begin::Obstacle::ServiceUnusable(why)) => steps.note(Note::ServiceUnusable(why)),
        Err(begin::Obstacle::Refused(triggers)) => steps.note(Note::RollingRefused(triggers)),
        Err(begin::Obstacle::Leftover(id)) => {
            let pods = world.workload(&id).map_or(0, Workload::present);
            steps.note(Note::Sweeping { revision: id, pods });
        }
    }
}

/// The environment that the Service is to select.
pub(crate) fn selected(world: &World) -> Option<Environment> {
    let active = || world.memory.active.as_ref().map(|active| active.environment);
    match &world.memory.phase {
        Phase::CuttingOver(rollout, _) => Some(rollout.to.environment),
        Phase::Reverting(rollout, _) => {
            rollout.fallback.as_ref().map(|fallback| fallback.environment).or_else(active)
        }
        Phase::Gating(rollout, _) if rollout.strategy == Kind::Initial => {
            Some(rollout.to.environment)
        }
        Phase::Stable
        | Phase::Gating(..)
        | Phase::AwaitingPromotion(..)
        | Phase::Shedding(..)
        | Phase::Baking(..)
        | Phase::Clearing(..)
        | Phase::Rolling(_) => active(),
    }
}

fn select(world: &World, steps: &mut Steps) {
    let Some(to) = selected(world).filter(|_| world.service.unusable.is_none()) else { return };
    let from = world.service.selects;
    if from != Some(to) && leads_to_pods(world) {
        steps.act(Action::Select { from, to });
    }
    let place = match &world.memory.phase {
        Phase::CuttingOver(rollout, _) => Some(&rollout.to),
        Phase::Reverting(rollout, _) => rollout.fallback.as_ref(),
        Phase::Stable
        | Phase::Gating(..)
        | Phase::AwaitingPromotion(..)
        | Phase::Shedding(..)
        | Phase::Baking(..)
        | Phase::Clearing(..)
        | Phase::Rolling(_) => None,
    };
    if let Some(place) = place {
        steps.note(Note::Confirming {
            routed: world.placed(place).map_or(0, Workload::serving),
            of: world.goal.replicas,
            others: routed_elsewhere(world, place),
        });
    }
}

/// A switch leads to pods that can answer, now: whoever decided it may have done so on a memory
/// that is out of date. What serves already is selected in any case.
fn leads_to_pods(world: &World) -> bool {
    let ready = |placed: &Placed| world.placed(placed).map_or(0, Workload::ready);
    match &world.memory.phase {
        Phase::CuttingOver(rollout, _) => ready(&rollout.to) >= world.goal.replicas.max(1),
        Phase::Reverting(rollout, _) => rollout
            .fallback
            .as_ref()
            .is_some_and(|fallback| ready(fallback) >= world.goal.replicas.min(1)),
        // Somebody answers in the environment of an attempt that was given up.
        Phase::Gating(rollout, _) if rollout.strategy == Kind::Initial => {
            !world.workloads().any(|(_, workload)| {
                Some(workload.environment) == world.service.selects && workload.ready() > 0
            })
        }
        Phase::Stable
        | Phase::Gating(..)
        | Phase::AwaitingPromotion(..)
        | Phase::Shedding(..)
        | Phase::Baking(..)
        | Phase::Clearing(..)
        | Phase::Rolling(_) => true,
    }
}

/// Every environment that is needed has as many pods as are wanted, except the one in which pods
/// are replaced.
fn size(world: &World, except: Option<Environment>, steps: &mut Steps) {
    let is_left = |placed: &Placed| match &world.memory.phase {
        Phase::Reverting(rollout, _) => *placed == rollout.to,
        Phase::Stable
        | Phase::Gating(..)
        | Phase::AwaitingPromotion(..)
        | Phase::CuttingOver(..)
        | Phase::Shedding(..)
        | Phase::Baking(..)
        | Phase::Clearing(..)
        | Phase::Rolling(_) => false,
    };
    let sized = |placed: &Placed| Some(placed.environment) != except && !is_left(placed);
    for placed in needed(world).into_iter().filter(sized) {
        resize(world, &placed, world.goal.replicas, steps);
    }
}

fn needed(world: &World) -> Vec<Placed> {
    let rollout = world.memory.rollout();
    let ends = rollout
        .into_iter()
        .flat_map(|rollout| [rollout.from.as_ref(), rollout.fallback.as_ref(), Some(&rollout.to)]);
    let mut found: Vec<Placed> = world
        .memory
        .active
        .iter()
        .chain(ends.flatten())
        .filter(|placed| world.memory.needs(placed) && is_kept_warm(world, placed))
        .cloned()
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Where the candidate replaced the pods of the fallback one by one, none of them is kept.
fn is_kept_warm(world: &World, placed: &Placed) -> bool {
    let active = world.memory.active.as_ref();
    active.is_none_or(|active| active == placed || active.environment != placed.environment)
}

fn resize(world: &World, placed: &Placed, to: u32, steps: &mut Steps) {
    match world.workload(&placed.revision) {
        None => steps.act(Action::Create { placed: placed.clone(), replicas: to }),
        Some(workload) if workload.environment == placed.environment && workload.replicas != to => {
            let (revision, from) = (placed.revision.clone(), workload.replicas);
            steps.act(Action::Scale { revision: revision.clone(), from, to });
            steps.note(Note::Resized { revision, from, to });
        }
        Some(_) => {}
    }
}

fn roll(world: &World, rolling: &Rolling, steps: &mut Steps) {
    let Some(target) = rolling::target(rolling) else { return };
    let wanted = world.goal.replicas;
    steps.note(Note::Rolls {
        direction: rolling.direction,
        there: world.placed(target).map_or(0, Workload::serving),
        of: wanted,
    });
    if wanted == 0 {
        let all = rolling::others(world, target).map(|(id, _)| id);
        for id in all.chain([&target.revision]) {
            to_zero(world, id, steps);
        }
        return;
    }
    if rolling.withdrawn.is_some() {
        withdraw(world, rolling, steps);
        return;
    }
    grow(world, rolling, target, steps);
    if let Err(rolling::FloorHolds { serving, floor }) = rolling::victim(world, rolling, target) {
        steps.note(Note::FloorHolds { serving, floor });
    }
}

/// The pod that leaves next gets no new requests; when no node routes to it any more it is told to
/// go.
fn withdraw(world: &World, rolling: &Rolling, steps: &mut Steps) {
    let Some(withdrawn) = &rolling.withdrawn else { return };
    let Some(workload) = world.workload(&withdrawn.revision) else { return };
    let Some(pod) = workload.pods.get(&withdrawn.pod) else { return };
    if pod.stage == Stage::Leaving {
        return;
    }
    if pod.traffic {
        steps.act(Action::Withdraw(withdrawn.pod.clone()));
    }
    let is_out = withdrawn.out.is_some_and(|out| out >= world.policy.propagation);
    if is_out && !pod.traffic && !pod.routed && workload.replicas > withdrawn.leaves {
        steps.act(Action::Scale {
            revision: withdrawn.revision.clone(),
            from: workload.replicas,
            to: withdrawn.leaves,
        });
    }
}

/// A pod that was withdrawn and stays after all.
fn restore(world: &World, steps: &mut Steps) {
    let leaves = world.memory.withdrawn().map(|withdrawn| &withdrawn.pod);
    for (name, pod) in world.workloads().flat_map(|(_, workload)| &workload.pods) {
        if !pod.traffic && pod.stage != Stage::Leaving && Some(name) != leaves {
            steps.act(Action::Restore(name.clone()));
        }
    }
}

/// One pod more of the target, when all that it has are reached and there is room. Pods that are
/// leaving hold their devices until they are gone, unless their node is lost.
fn grow(world: &World, rolling: &Rolling, target: &Placed, steps: &mut Steps) {
    let is_held = world.goal.paused && rolling.direction == Direction::Forward;
    let workload = world.workload(&target.revision);
    if workload.is_some_and(|workload| workload.environment != target.environment) {
        return;
    }
    let has = workload.map_or(0, |workload| workload.replicas);
    let wanted = world.goal.replicas;
    if has > wanted {
        resize(world, target, wanted, steps);
        return;
    }
    let holds = |workload: &Workload| {
        count(
            workload
                .pods
                .values()
                .filter(|pod| pod.stage != Stage::Leaving || pod.since <= world.policy.progress),
        )
    };
    let held = world
        .workloads()
        .filter(|(_, workload)| workload.environment == target.environment)
        .fold(0, |sum: u32, (_, workload)| {
            sum.saturating_add(holds(workload).max(workload.replicas))
        });
    if has < wanted && held < rolling::room(world) && rolling::is_in_step(world, target) && !is_held
    {
        resize(world, target, has.saturating_add(1), steps);
    }
}

/// What pods are asked for besides serving.
fn ask(world: &World, steps: &mut Steps) {
    let connected = |workload: &Workload| workload.pods.values().any(|pod| pod.connected);
    match &world.memory.phase {
        Phase::Shedding(rollout, _) => {
            for (id, workload) in world.workloads() {
                if *id != rollout.to.revision && connected(workload) {
                    shed(id, workload, steps);
                }
            }
        }
        Phase::Clearing(rollout, _) => {
            let left = world.placed(&rollout.to).filter(|workload| connected(workload));
            if let Some(workload) = left {
                shed(&rollout.to.revision, workload, steps);
            }
        }
        Phase::Gating(rollout, _) => gates(world, rollout, steps),
        Phase::AwaitingPromotion(rollout, _) => {
            steps.note(Note::PromotionAwaited(rollout.to.revision.clone()));
            if let Some(age) = candidate::stale(world, rollout) {
                steps.act(Action::Validate(rollout.to.revision.clone()));
                let limit = world.policy.validation_age;
                steps.note(Note::ValidationStale { age, limit });
            }
        }
        Phase::Baking(rollout, since) => steps.note(Note::Bakes {
            revision: rollout.to.revision.clone(),
            since: *since,
            of: world.policy.bake,
        }),
        Phase::Stable | Phase::CuttingOver(..) | Phase::Reverting(..) | Phase::Rolling(_) => {}
    }
}

fn gates(world: &World, rollout: &Rollout, steps: &mut Steps) {
    let ready = world.placed(&rollout.to).map_or(0, Workload::ready);
    steps.note(Note::Gates { ready, of: world.goal.replicas });
    if world.goal.paused {
        steps.note(Note::Paused);
    }
}

fn shed(id: &RevisionId, workload: &Workload, steps: &mut Steps) {
    steps.act(Action::Shed(id.clone()));
    let pods = count(workload.pods.values().filter(|pod| pod.connected));
    steps.note(Note::Connected { pods });
}

/// What nothing needs goes, once nobody can reach it.
fn sweep(world: &World, steps: &mut Steps) {
    for (id, workload) in world.workloads() {
        let placed = Placed { revision: id.clone(), environment: workload.environment };
        if world.memory.needs(&placed) || is_rolled(world, workload) {
            continue;
        }
        if workload.is_empty() {
            steps.act(Action::Delete(id.clone()));
        } else if workload.is_routed() && !is_served_without(world, id) {
            let pods = workload.present();
            steps.note(Note::Sweeping { revision: id.clone(), pods });
        } else if workload.replicas > 0 {
            to_zero(world, id, steps);
            steps.note(Note::Swept(id.clone()));
        }
    }
}

/// While pods are replaced, the environment that they are in is the walk's.
fn is_rolled(world: &World, workload: &Workload) -> bool {
    match &world.memory.phase {
        Phase::Rolling(rolling) => rolling.rollout.to.environment == workload.environment,
        Phase::Stable
        | Phase::Gating(..)
        | Phase::AwaitingPromotion(..)
        | Phase::CuttingOver(..)
        | Phase::Shedding(..)
        | Phase::Baking(..)
        | Phase::Reverting(..)
        | Phase::Clearing(..) => false,
    }
}

/// As many pods serve as are wanted, this revision's not counted.
fn is_served_without(world: &World, id: &RevisionId) -> bool {
    let others = world.workloads().filter(|(other, _)| *other != id);
    let serving = others.fold(0, |sum: u32, (_, workload)| sum.saturating_add(workload.serving()));
    serving >= world.goal.replicas
}

fn to_zero(world: &World, id: &RevisionId, steps: &mut Steps) {
    let from = world.workload(id).map_or(0, |workload| workload.replicas);
    if from > 0 {
        steps.act(Action::Scale { revision: id.clone(), from, to: 0 });
    }
}

/// Records beyond the newest [`KEPT_RECORDS`] go, except of what may be returned to.
fn forget(world: &World, steps: &mut Steps) {
    let memory = &world.memory;
    let is_in_use = |id: &RevisionId| {
        *id == world.goal.revision
            || memory.known_good.contains(id)
            || memory.active.as_ref().is_some_and(|active| active.revision == *id)
            || memory.pin.as_ref().is_some_and(|pin| pin.revision == *id)
            || memory.rollout().is_some_and(|rollout| {
                let ends = [rollout.from.as_ref(), rollout.fallback.as_ref(), Some(&rollout.to)];
                ends.into_iter().flatten().any(|placed| placed.revision == *id)
            })
    };
    let mut past: Vec<_> = world
        .revisions
        .iter()
        .filter(|(id, found)| found.recorded && found.workload.is_none() && !is_in_use(id))
        .map(|(id, found)| (found.sequence, id))
        .collect();
    past.sort_unstable();
    let excess = past.len().saturating_sub(KEPT_RECORDS);
    for (_, id) in past.into_iter().take(excess) {
        steps.act(Action::Forget(id.clone()));
    }
}
