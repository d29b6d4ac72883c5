//! A second environment is made, and the Service moved to it.

use crate::cluster::Nature::{Broken, Endless, Good, Poisoned};
use crate::moves::Edit;
use crate::scenario::{Scenario, id, nothing, serving, to};

pub(super) fn worlds() -> Vec<Scenario> {
    let of = |name, about, replicas| Scenario::new(name, about, serving("a", replicas));
    vec![
        Scenario::new("first", "the first revision", nothing("a", 1)).faults(2),
        Scenario::new("first-2", "the first revision, with two pods", nothing("a", 2))
            .faults(2)
            .long(),
        Scenario::new(
            "first-broken",
            "the first revision fails, another one does not",
            nothing("b", 1),
        )
        .with(|cluster| {
            cluster.nature.insert(id("b"), Broken);
        })
        .knows("a", Good)
        .then([to("a")])
        .faults(1)
        .long(),
        of("blue-green-1", "one pod in each environment", 1)
            .knows("B", Good)
            .then([to("B")])
            .faults(1),
        of("blue-green-1-worse", "one pod in each environment, and two things go wrong", 1)
            .knows("B", Good)
            .then([to("B")])
            .faults(2)
            .long(),
        of("blue-green-2", "two pods in each environment", 2).knows("B", Good).then([to("B")]),
        of("blue-green-broken", "the candidate fails its gates", 1)
            .knows("B", Broken)
            .then([to("B")])
            .faults(1),
        of("blue-green-endless", "the candidate never gets ready, until nobody tries again", 1)
            .knows("B", Endless)
            .then([to("B")]),
        of("blue-green-poisoned", "the candidate answers wrongly after the switch", 1)
            .knows("B", Poisoned)
            .then([to("B")])
            .faults(1),
        of("blue-green-left-alone", "it answers wrongly, and the operator may not return", 1)
            .with(|cluster| cluster.world.policy.auto_rollback = false)
            .knows("B", Poisoned)
            .then([to("B")]),
        of("blue-green-a-b-a", "the old revision is wanted again", 1)
            .knows("B", Good)
            .then([to("B"), to("a")]),
        of(
            "blue-green-a-b-a-worse",
            "the old revision is wanted again, and something goes wrong",
            1,
        )
        .knows("B", Good)
        .then([to("B"), to("a")])
        .faults(1)
        .long(),
        of("blue-green-a-b-a-b", "the new revision, the old one, and the new one again", 1)
            .knows("B", Good)
            .then([to("B"), to("a"), to("B")]),
        of("blue-green-a-b-c", "another revision is wanted on the way", 1)
            .knows("B", Good)
            .knows("c", Good)
            .then([to("B"), to("c")]),
        of(
            "blue-green-a-b-c-poisoned",
            "another revision is wanted on the way, and is poisoned",
            1,
        )
        .knows("B", Good)
        .knows("C", Poisoned)
        .then([to("B"), to("C")])
        .long(),
        of("blue-green-scaled", "more pods are wanted on the way", 1)
            .knows("B", Good)
            .then([to("B")])
            .then([Edit::Replicas(2)]),
        of("blue-green-to-zero", "no pod is wanted on the way, and then one again", 1)
            .knows("B", Good)
            .then([to("B")])
            .then([Edit::Replicas(0), Edit::Replicas(1)]),
    ]
}
