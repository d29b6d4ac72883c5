//! What the user insists on, and what there is a place for.

use lamplighter_plan::rollout::OnInsufficientCapacity;
use lamplighter_plan::rollout::strategy::Kind;

use crate::cluster::Nature::Good;
use crate::moves::Edit;
use crate::scenario::{Scenario, serving, to};

pub(super) fn worlds() -> Vec<Scenario> {
    let of = |name, about, replicas| Scenario::new(name, about, serving("a", replicas));
    vec![
        of("insisting", "the user insists on a second environment", 1)
            .with(|cluster| cluster.world.policy.strategy = Some(Kind::BlueGreen))
            .knows("b", Good)
            .then([to("b")]),
        of("refused", "the user insists on rolling what must not be mixed", 1)
            .with(|cluster| cluster.world.policy.strategy = Some(Kind::Rolling))
            .knows("B", Good)
            .then([to("B"), to("a")]),
        of("crowded-waits", "no place for a second environment until later", 1)
            .with(|cluster| cluster.places = 1)
            .knows("B", Good)
            .then([to("B")])
            .then([Edit::Places(2)]),
        of("crowded-falls-back", "no place for a second environment, so it rolls", 2)
            .with(|cluster| {
                cluster.places = 2;
                cluster.world.policy.capacity = OnInsufficientCapacity::Fallback;
            })
            .knows("h", Good)
            .then([to("h")]),
        of("crowded-rejects", "no place for a second environment, so it is given up", 1)
            .with(|cluster| {
                cluster.places = 1;
                cluster.world.policy.capacity = OnInsufficientCapacity::Reject;
            })
            .knows("B", Good)
            .then([to("B")])
            .faults(1),
        of("crowded-by-quota", "a quota refuses the pods of a second environment", 1)
            .with(|cluster| {
                cluster.places = 1;
                cluster.quota = true;
                cluster.world.policy.capacity = OnInsufficientCapacity::Reject;
            })
            .knows("B", Good)
            .then([to("B")])
            .faults(1),
    ]
}
