//! Who can answer requests: pods that passed their gates and that the endpoints hold.

use lamplighter_plan::rollout::{Workload, World};
use lamplighter_plan::standing::Routable;

/// Who can answer requests.
pub(super) fn routable(world: &World) -> Routable {
    let wanted = &world.goal.revision;
    let serving = world.workloads().filter(|(_, workload)| workload.serving() > 0);
    Routable {
        wanted: world.workload(wanted).map_or(0, Workload::serving),
        of: world.goal.replicas,
        older: serving
            .filter(|(id, _)| *id != wanted)
            .map(|(id, workload)| (id.clone(), workload.serving()))
            .collect(),
    }
}
