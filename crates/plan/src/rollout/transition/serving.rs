//! A candidate that serves, or is about to: the switch, the time in which to return, the return.

use super::begin::begin;
use super::{Turn, is_confirmed, leads_on, now};
use crate::rollout::heading::{heading, is_given_up};
use crate::rollout::health::{self, Fault};
use crate::rollout::memory::{Class, Direction, Phase, Placed, Rolling, Rollout};
use crate::rollout::plan::{Note, Outcome};
use crate::rollout::wake;
use crate::rollout::world::{Workload, World};
use crate::terms::{Seconds, count};

/// The Service is moved, and the endpoints follow.
pub(super) fn cutting_over(world: &World, rollout: &Rollout, since: Seconds) -> Option<Turn> {
    let revision = &rollout.to.revision;
    if !leads_on(world, rollout)
        && let Some(turn) = called_off(world, rollout)
    {
        return Some(turn);
    }
    let fault = world.placed(&rollout.to).and_then(health::evidence);
    if let Some(fault) = fault
        && let Some(turn) = called_off(world, rollout)
    {
        return Some(turn.fails(revision, fault));
    }
    if is_confirmed(world, &rollout.to, world.goal.replicas.max(1)) {
        let mut turn = Turn::to(world, Phase::Shedding(rollout.clone(), now()))
            .with(Note::Confirmed(rollout.to.environment));
        turn.memory.active = Some(rollout.to.clone());
        return Some(turn);
    }
    // Where nobody would answer there is nothing to return to, late or not.
    let is_warm = rollout.fallback.as_ref().is_some_and(|fallback| is_warm(world, fallback));
    if since <= world.policy.confirm || !is_warm {
        return None;
    }
    let fault = Fault {
        class: Class::Transient,
        reason: "CutoverUnconfirmed".to_owned(),
        message: format!("the endpoints did not follow within {}", world.policy.confirm),
    };
    called_off(world, rollout).map(|turn| turn.fails(revision, fault))
}

/// The switch is given up: undone if it was begun, and if somebody answers where it leads back to.
fn called_off(world: &World, rollout: &Rollout) -> Option<Turn> {
    let fallback = rollout.fallback.as_ref()?;
    let is_begun = world.service.selects != Some(fallback.environment)
        || world.placed(&rollout.to).is_some_and(Workload::is_routed);
    if is_begun {
        let back = Turn::to(world, Phase::Reverting(rollout.clone(), now()));
        // Where no pod is wanted, nobody has to answer.
        return (world.goal.replicas == 0 || is_warm(world, fallback)).then_some(back);
    }
    let outcome = if is_given_up(world, &rollout.to.revision) {
        Outcome::Aborted
    } else {
        Outcome::Superseded
    };
    Some(Turn::to(world, Phase::Stable).finished(rollout, outcome))
}

fn is_warm(world: &World, placed: &Placed) -> bool {
    world.placed(placed).is_some_and(|workload| workload.ready() > 0)
}

/// What is connected elsewhere is asked to come again.
pub(super) fn shedding(world: &World, rollout: &Rollout, since: Seconds) -> Option<Turn> {
    if let Some(turn) = returns(world, rollout) {
        return Some(turn);
    }
    if !is_shed(world, since, |placed| *placed != rollout.to) {
        return None;
    }
    Some(served_on(world, rollout))
}

/// The candidate serves, and what was there before is kept.
pub(super) fn baking(world: &World, rollout: &Rollout, since: Seconds) -> Option<Turn> {
    if let Some(turn) = returns(world, rollout) {
        return Some(turn);
    }
    // What cannot begin, such as a strategy that is refused, does not hold up the end of this.
    let next = heading(world).revision.filter(|next| *next != rollout.to.revision);
    if let Some(turn) = next.and_then(|next| begin(world, &next, Some(retained(rollout)))) {
        return Some(turn);
    }
    if since < world.policy.bake {
        return None;
    }
    // Who serves nobody proves nothing. It begins to when pods are wanted again.
    if world.goal.replicas == 0 {
        return Some(Turn::to(world, Phase::Stable).finished(rollout, Outcome::Superseded));
    }
    let workload = world.placed(&rollout.to);
    if workload.and_then(health::evidence).is_some() {
        // Those who are kept to return to may be on their way up again.
        let is_over = since >= wake::unserved(&world.policy) || !may_return(world, rollout);
        return is_over.then(|| no_way_back(world, rollout));
    }
    let serving = workload.map_or(0, Workload::serving);
    if serving < world.goal.replicas {
        return unserved(world, rollout, since, serving);
    }
    let mut turn = Turn::to(world, Phase::Stable).finished(rollout, Outcome::Promoted);
    turn.memory.prove(&rollout.to.revision);
    Some(turn)
}

/// The time is over and it does not serve in full, by no fault of its own that is known: what is
/// kept stays a while longer. If then nobody serves at all, those who are kept do.
fn unserved(world: &World, rollout: &Rollout, since: Seconds, serving: u32) -> Option<Turn> {
    if since < wake::unserved(&world.policy) {
        return None;
    }
    let back = rollout.fallback.as_ref().filter(|_| serving == 0 && may_return(world, rollout));
    let revision = &rollout.to.revision;
    match back.and_then(|fallback| way_back(world, rollout, fallback)) {
        Some(turn) => Some(turn.fails(
            revision,
            Fault {
                class: Class::Transient,
                reason: "NobodyServes".to_owned(),
                message: format!("none of its pods has served for {}", world.policy.progress),
            },
        )),
        None => Some(no_way_back(world, rollout)),
    }
}

/// Something is kept to return to, and the operator may.
fn may_return(world: &World, rollout: &Rollout) -> bool {
    let apart = |fallback: &Placed| fallback.environment != rollout.to.environment;
    world.policy.auto_rollback && rollout.fallback.as_ref().is_some_and(apart)
}

fn no_way_back(world: &World, rollout: &Rollout) -> Turn {
    let turn = Turn::to(world, Phase::Stable).finished(rollout, Outcome::Aborted);
    turn.with(Note::NoWayBack(rollout.to.revision.clone()))
}

/// The Service is moved back.
pub(super) fn reverting(world: &World, rollout: &Rollout, since: Seconds) -> Option<Turn> {
    let fallback = rollout.fallback.as_ref()?;
    let forward = || Turn::to(world, Phase::CuttingOver(rollout.clone(), now()));
    let failed = world.memory.failed.get(&rollout.to.revision);
    if leads_on(world, rollout) && failed.is_none() {
        return Some(forward());
    }
    // Who was to answer died on the way back, and who did not answer soon enough does.
    let is_harmless = failed.is_none_or(|failed| failed.class == Class::Transient);
    let is_better = is_harmless
        && world.goal.replicas > 0
        && is_warm(world, &rollout.to)
        && !is_warm(world, fallback);
    if is_better && since > world.policy.confirm {
        return Some(forward());
    }
    if !is_confirmed(world, fallback, world.goal.replicas.min(1)) {
        return None;
    }
    let mut turn = Turn::to(world, Phase::Clearing(rollout.clone(), now()))
        .with(Note::Confirmed(fallback.environment));
    turn.memory.active = Some(fallback.clone());
    Some(turn)
}

/// What is connected to the environment that was left is asked to come again.
pub(super) fn clearing(world: &World, rollout: &Rollout, since: Seconds) -> Option<Turn> {
    if !is_shed(world, since, |placed| *placed == rollout.to) {
        return None;
    }
    let revision = &rollout.to.revision;
    // The wait after a failure may be over by now. Who wants to be elsewhere has returned.
    let has_failed = is_given_up(world, revision) || leads_on(world, rollout);
    let failed = world.memory.failed.get(revision).filter(|_| has_failed);
    let outcome = match failed.map(|failed| failed.class) {
        Some(Class::Deterministic | Class::Transient | Class::Outside | Class::Capacity) => {
            Outcome::RolledBackAuto
        }
        Some(Class::Withdrawn) | None => Outcome::RolledBack,
    };
    Some(Turn::to(world, Phase::Stable).finished(rollout, outcome))
}

/// After the switch: the bake, or its end for what is known to be good.
fn served_on(world: &World, rollout: &Rollout) -> Turn {
    if world.memory.known_good.contains(&rollout.to.revision) {
        let mut turn = Turn::to(world, Phase::Stable).finished(rollout, Outcome::FastPromoted);
        turn.memory.prove(&rollout.to.revision);
        turn
    } else {
        Turn::to(world, Phase::Baking(rollout.clone(), now()))
    }
}

/// Back to where the rollout came from: because the candidate fails, or because somebody wants so.
fn returns(world: &World, rollout: &Rollout) -> Option<Turn> {
    let fallback = rollout.fallback.as_ref()?;
    let revision = &rollout.to.revision;
    if is_given_up(world, revision) {
        return way_back(world, rollout, fallback);
    }
    let wants_back = heading(world).revision.as_ref() == Some(&fallback.revision);
    if wants_back && fallback.environment != rollout.to.environment {
        return way_back(world, rollout, fallback);
    }
    let fault = world.placed(&rollout.to).and_then(health::evidence)?;
    if !world.policy.auto_rollback {
        return None;
    }
    way_back(world, rollout, fallback).map(|turn| turn.fails(revision, fault))
}

/// Warm, if the old environment is kept and somebody answers there; cold by rolling back in the
/// same environment. None where the switch would lead to nobody.
fn way_back(world: &World, rollout: &Rollout, fallback: &Placed) -> Option<Turn> {
    if fallback.environment == rollout.to.environment {
        let rolling = Rolling {
            rollout: rollout.clone(),
            direction: Direction::Back,
            since: now(),
            withdrawn: None,
        };
        return Some(Turn::to(world, Phase::Rolling(rolling)));
    }
    is_warm(world, fallback).then(|| Turn::to(world, Phase::Reverting(rollout.clone(), now())))
}

/// What is kept to return to while the next rollout is under way. An environment that answers is
/// worth more than a proven revision that would have to be loaded again.
fn retained(rollout: &Rollout) -> &Placed {
    let apart = |fallback: &&Placed| fallback.environment != rollout.to.environment;
    rollout.fallback.as_ref().filter(apart).unwrap_or(&rollout.to)
}

/// Nobody is connected any more to the pods at these places, and no node routes to them.
fn is_shed(world: &World, since: Seconds, left: impl Fn(&Placed) -> bool) -> bool {
    let connected = count(
        world
            .workloads()
            .filter(|(id, workload)| {
                left(&Placed { revision: (*id).clone(), environment: workload.environment })
            })
            .flat_map(|(_, workload)| workload.pods.values())
            .filter(|pod| pod.connected),
    );
    let limit = Seconds(world.policy.propagation.0.saturating_add(world.policy.shed.0));
    since >= world.policy.propagation && (connected == 0 || since >= limit)
}
