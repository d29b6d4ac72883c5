//! What must hold wherever a run leads, beside [`violations`] and coming to rest.

use lamplighter_plan::rollout::check::violations;
use lamplighter_plan::rollout::{Phase, Plan, Stage, World, decide};

use crate::cluster::Cluster;
use crate::moves::Decided;

/// A decision breaks no invariant, and none of its prefixes leaves fewer pods that can serve than
/// have to, unless fewer could before, or what serves is what it leaves.
///
/// # Errors
///
/// The rule that is broken, as a sentence.
pub fn keeps(before: &Cluster, decided: &Decided) -> Result<(), String> {
    let Decided { seen, plan } = decided;
    if let Some(violation) = violations(seen, plan).first() {
        return Err(format!("BROKEN: {violation}"));
    }
    let world = &before.world;
    if matches!(world.memory.phase, Phase::Reverting(..)) || world.goal.replicas == 0 {
        return Ok(());
    }
    let floor = world.floor().min(can_serve(world));
    let mut cluster = before.clone();
    for action in &plan.actions {
        cluster.act(action, seen.memory.epoch);
        let can = can_serve(&cluster.world);
        if can < floor {
            return Err(format!(
                "BROKEN: {can} of at least {floor} pods can serve after: {action}"
            ));
        }
    }
    Ok(())
}

/// Pods that are ready and that the Service selects, whether or not the endpoints say so yet.
fn can_serve(world: &World) -> u32 {
    let selected =
        world.workloads().filter(|(_, found)| Some(found.environment) == world.service.selects);
    let pods = selected.flat_map(|(_, found)| found.pods.values());
    let able = pods.filter(|pod| pod.stage == Stage::Ready && pod.traffic);
    u32::try_from(able.count()).unwrap_or(u32::MAX)
}

/// If a second changes what is decided, the decision before it asked to be woken.
///
/// # Errors
///
/// It did not, as a sentence.
pub fn wakes(cluster: &Cluster) -> Result<(), String> {
    let seen = cluster.seen();
    let now = decide(&seen);
    if now.wake.is_some() || !is_quiet(&seen, &now) {
        return Ok(());
    }
    let mut later = cluster.clone();
    later.tick();
    let seen = later.seen();
    let then = decide(&seen);
    if is_quiet(&seen, &then) {
        return Ok(());
    }
    let what: Vec<String> = then.actions.iter().map(ToString::to_string).collect();
    let phase = &then.memory.phase;
    Err(format!("NOT WOKEN: a second later it would be {phase} and do [{}]", what.join(", ")))
}

/// It waits: for something to change, or for time to pass.
fn is_quiet(seen: &World, plan: &Plan) -> bool {
    plan.actions.is_empty() && !plan.remembers(&seen.memory)
}
