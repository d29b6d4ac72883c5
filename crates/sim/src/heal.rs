//! What becomes of a cluster when nothing else goes wrong and nobody wants anything else.

use lamplighter_plan::RevisionId;
use lamplighter_plan::rollout::{Class, Direction, Note, Phase, Stage, Workload, decide};

use crate::cluster::{Cluster, Nature};
use crate::moves::{Move, natural};
use crate::trace;

/// How many rounds it may take. A round is a second in which everybody gets to do what they can.
pub const ROUNDS: usize = 120;

/// How often everybody gets to do what they can in a second.
pub const TURNS: usize = 4;

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
    for _ in 0..TURNS {
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

/// It came to rest, and where it should.
///
/// # Errors
///
/// It did not, as text.
pub fn rest(cluster: &Cluster) -> Result<(), String> {
    let at = trace::state(cluster);
    match judge(cluster) {
        Ok(()) if rests(cluster) => Ok(()),
        Ok(()) => Err(format!("NEVER RESTS: {at}")),
        Err(problem) => Err(format!(
            "THEN NOTHING ELSE HAPPENS, AND IT ENDS AS: {at}\n    {}\n    {problem:?}",
            cluster.world.memory.phase
        )),
    }
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
    // Nobody can finish anything then.
    if world.goal.deleting || cluster.halted || world.service.unusable.is_some() {
        return Ok(());
    }
    let phase = &world.memory.phase;
    let waits = waits_for_what_cannot_be(cluster);
    if *phase != Phase::Stable && !waits {
        return Err(Unhealed::Unfinished(phase.to_string()));
    }
    let serves = world.memory.active.as_ref().map(|active| active.revision.clone());
    let is_refused = plan.notes.iter().any(|note| matches!(note, Note::RollingRefused(_)));
    let wanted = world.memory.pin.as_ref().map_or(&world.goal.revision, |pin| &pin.revision);
    let is_good = cluster.nature.get(wanted) == Some(&Nature::Good);
    let may_be_left =
        is_refused || world.memory.failed.contains_key(wanted) || world.goal.replicas == 0;
    if is_good && !may_be_left && serves.as_ref() != Some(wanted) {
        return Err(Unhealed::Elsewhere { serves, should: Some(wanted.clone()) });
    }
    if let Some(should) = better(cluster, serves.as_ref()) {
        return Err(Unhealed::Elsewhere { serves, should: Some(should) });
    }
    if waits { Ok(()) } else { complete(cluster, serves.as_ref()) }
}

/// It walks back to what cannot be loaded any more, and there is nothing else to do.
fn waits_for_what_cannot_be(cluster: &Cluster) -> bool {
    let Phase::Rolling(rolling) = &cluster.world.memory.phase else { return false };
    let from = rolling.rollout.from.as_ref().and_then(|from| cluster.nature.get(&from.revision));
    rolling.direction == Direction::Back && from != Some(&Nature::Good)
}

/// What is known to be good, where something serves that shows that it is not, and never was.
fn better(cluster: &Cluster, serves: Option<&RevisionId>) -> Option<RevisionId> {
    let memory = &cluster.world.memory;
    let serves = serves?;
    let is_bad = matches!(cluster.nature.get(serves), Some(Nature::Broken | Nature::Poisoned));
    if !is_bad || memory.known_good.contains(serves) || !cluster.world.policy.auto_rollback {
        return None;
    }
    memory.known_good.iter().find(|good| !memory.failed.contains_key(*good)).cloned()
}

/// As many pods serve as are wanted, and there are no others.
fn complete(cluster: &Cluster, serves: Option<&RevisionId>) -> Result<(), Unhealed> {
    let world = &cluster.world;
    let is_stuck = |id: &RevisionId, workload: &Workload| {
        workload.replicas == 0 && workload.present() == 0 && cluster.stuck.contains(id)
    };
    let is_good = |id: &RevisionId| cluster.nature.get(id) == Some(&Nature::Good);
    // What cannot be whole is made up for by what was there beside it.
    if serves.is_some_and(|serves| !is_good(serves)) {
        return Ok(());
    }
    let mut others = world.workloads().filter(|(id, _)| Some(*id) != serves);
    if let Some((id, _)) = others.find(|(id, workload)| !is_stuck(id, workload)) {
        return Err(Unhealed::Unfinished(format!("{id} still has a workload")));
    }
    let wanted = if serves.is_some() { world.goal.replicas } else { 0 };
    let serving = world.routed();
    if serving != wanted {
        return Err(Unhealed::Short { serving, wanted });
    }
    let leaving = |(id, workload): (&RevisionId, &Workload)| {
        workload.pods.values().any(|pod| pod.stage == Stage::Leaving) && !cluster.stuck.contains(id)
    };
    if world.workloads().any(leaving) {
        return Err(Unhealed::Unfinished("a pod is still leaving".to_owned()));
    }
    Ok(())
}
