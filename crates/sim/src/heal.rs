//! What becomes of a cluster when nothing else goes wrong and nobody wants anything else.

use lamplighter_plan::RevisionId;
use lamplighter_plan::rollout::{Class, Phase, Stage, decide};

use crate::cluster::{Cluster, Nature};
use crate::moves::{Move, natural};

/// How many rounds it may take. A round is a second in which everybody gets to do what they can.
pub const ROUNDS: usize = 120;

/// Why a cluster did not come to rest where it should.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unhealed {
    /// It still does things.
    Restless,
    /// It rests in the middle of a rollout, or with pods that nothing needs.
    Unfinished(String),
    /// Something else serves than what should.
    Elsewhere {
        /// What serves.
        serves: Option<RevisionId>,
        /// What should.
        should: Option<RevisionId>,
    },
    /// Too few pods serve.
    Short {
        /// How many do.
        serving: u32,
        /// How many should.
        wanted: u32,
    },
}

/// One round: everybody does what they can, the operator last, and a second passes.
pub fn round(cluster: &mut Cluster) {
    cluster.old = None;
    cluster.world.goal.paused = false;
    for _ in 0..4 {
        Move::Control.make(cluster);
        for change in natural(cluster) {
            change.make(cluster);
        }
        Move::Publish.make(cluster);
        Move::Reconcile.make(cluster);
        cluster.normalise();
    }
    Move::Tick.make(cluster);
    cluster.normalise();
}

/// Whether another round would change nothing.
pub fn rests(cluster: &Cluster) -> bool {
    let mut next = cluster.clone();
    round(&mut next);
    next == *cluster
}

/// A revision for which there is no place is asked for again and again, and as often given up.
/// What serves meanwhile does so in full.
pub fn waits_for_a_place(cluster: &Cluster) -> bool {
    let world = &cluster.world;
    let failed = world.memory.failed.get(&world.goal.revision);
    let is_whole =
        world.memory.active.as_ref().and_then(|active| world.placed(active)).is_some_and(
            |workload| workload.serving() == world.goal.replicas && world.goal.replicas > 0,
        );
    failed.is_some_and(|failed| failed.class == Class::Capacity) && is_whole
}

/// What is wrong with where a cluster came to rest.
///
/// # Errors
///
/// It rests where no deployment should.
pub fn judge(cluster: &Cluster) -> Result<(), Unhealed> {
    let world = &cluster.world;
    let plan = decide(&cluster.seen());
    if !plan.actions.is_empty() || plan.remembers(&world.memory) {
        return Err(Unhealed::Restless);
    }
    let phase = &world.memory.phase;
    if *phase != Phase::Stable {
        return Err(Unhealed::Unfinished(phase.to_string()));
    }
    let serves = world.memory.active.as_ref().map(|active| active.revision.clone());
    let pin = world.memory.pin.as_ref().map(|pin| &pin.revision);
    let wanted = pin.unwrap_or(&world.goal.revision);
    let is_good = cluster.nature.get(wanted) == Some(&Nature::Good);
    let may_be_left = world.memory.failed.contains_key(wanted) || world.goal.replicas == 0;
    if is_good && !may_be_left && serves.as_ref() != Some(wanted) {
        return Err(Unhealed::Elsewhere { serves, should: Some(wanted.clone()) });
    }
    let bad = serves.as_ref().and_then(|serves| cluster.nature.get(serves));
    let is_proven = serves.as_ref().is_some_and(|id| world.memory.known_good.contains(id));
    let was_good = !world.memory.known_good.is_empty() && !is_proven;
    let mut better = world.memory.known_good.iter();
    let should = better.find(|good| !world.memory.failed.contains_key(*good)).cloned();
    if was_good && should.is_some() && bad.is_some_and(|nature| *nature != Nature::Good) {
        return Err(Unhealed::Elsewhere { serves, should });
    }
    let others = world.workloads().filter(|(id, _)| Some(*id) != serves.as_ref());
    if let Some((id, _)) = others.into_iter().next() {
        return Err(Unhealed::Unfinished(format!("{id} still has a workload")));
    }
    let wanted = if serves.is_some() { world.goal.replicas } else { 0 };
    let serving = world.routed();
    if serving != wanted && bad == Some(&Nature::Good) {
        return Err(Unhealed::Short { serving, wanted });
    }
    let leaving = |(_, workload): (_, &lamplighter_plan::rollout::Workload)| {
        workload.pods.values().any(|pod| pod.stage == Stage::Leaving)
    };
    if world.workloads().any(leaving) {
        return Err(Unhealed::Unfinished("a pod is still leaving".to_owned()));
    }
    Ok(())
}
