//! Pods are replaced one at a time.

use crate::cluster::Nature::{Broken, Endless, Good, Poisoned};
use crate::moves::Edit;
use crate::scenario::{Scenario, id, serving, to};

pub(super) fn worlds() -> Vec<Scenario> {
    let of = |name, about, replicas| Scenario::new(name, about, serving("a", replicas));
    vec![
        of("rolling-1", "the only pod is replaced", 1).knows("b", Good).then([to("b")]).faults(1),
        of("rolling-1-worse", "the only pod is replaced, and two things go wrong", 1)
            .knows("b", Good)
            .then([to("b")])
            .faults(2)
            .long(),
        of("rolling-2", "two pods are replaced", 2).knows("b", Good).then([to("b")]),
        of("rolling-2-worse", "two pods are replaced, and something goes wrong", 2)
            .knows("b", Good)
            .then([to("b")])
            .faults(1)
            .long(),
        of("rolling-3", "three pods are replaced", 3).knows("b", Good).then([to("b")]),
        of("rolling-surge", "none may be missed, so one more than wanted is made", 2)
            .with(|cluster| {
                cluster.world.policy.max_unavailable = 0;
                cluster.world.policy.max_surge = 1;
            })
            .knows("b", Good)
            .then([to("b")]),
        of("rolling-broken", "the new revision fails its gates", 2)
            .knows("b", Broken)
            .then([to("b")])
            .faults(1),
        of("rolling-endless", "the new revision never gets ready, until nobody tries again", 2)
            .knows("b", Endless)
            .then([to("b")]),
        of("rolling-poisoned", "the new revision answers wrongly after a while", 2)
            .knows("b", Poisoned)
            .then([to("b")]),
        of("rolling-a-b-a", "the old revision is wanted again", 1)
            .knows("b", Good)
            .then([to("b"), to("a")]),
        of("rolling-a-b-a-2", "the old revision is wanted again, with two pods", 2)
            .knows("b", Good)
            .then([to("b"), to("a")])
            .long(),
        of("rolling-a-b-a-b", "the new revision, the old one, and the new one again", 1)
            .knows("b", Good)
            .then([to("b"), to("a"), to("b")]),
        of("rolling-a-b-c", "another revision is wanted on the way", 1)
            .knows("b", Good)
            .knows("c", Good)
            .then([to("b"), to("c")])
            .long(),
        of("rolling-up", "more pods are wanted on the way", 1)
            .knows("b", Good)
            .then([to("b")])
            .then([Edit::Replicas(2)]),
        of("rolling-down", "fewer pods are wanted on the way", 2)
            .knows("b", Good)
            .then([to("b")])
            .then([Edit::Replicas(1)]),
        of("rolling-scaled", "fewer and more pods are wanted on the way", 2)
            .knows("b", Good)
            .then([to("b")])
            .then([Edit::Replicas(1), Edit::Replicas(3)])
            .long(),
        of("rolling-to-zero", "no pod is wanted on the way, and then one again", 1)
            .knows("b", Good)
            .then([to("b")])
            .then([Edit::Replicas(0), Edit::Replicas(1)]),
        of("rolling-to-zero-worse", "no pod is wanted on the way, and something goes wrong", 1)
            .knows("b", Good)
            .then([to("b")])
            .then([Edit::Replicas(0)])
            .faults(1)
            .long(),
        of(
            "rolling-wedged",
            "neither end can be loaded any more, and a third revision mends it",
            2,
        )
        .with(|cluster| {
            cluster.nature.insert(id("a"), Endless);
        })
        .knows("b", Broken)
        .knows("c", Good)
        .then([to("b"), to("c")]),
        of("rolling-stuck", "pods of the old revision are on a lost node and never go", 2)
            .with(|cluster| cluster.stuck.extend([id("a")]))
            .knows("b", Good)
            .then([to("b")]),
    ]
}
