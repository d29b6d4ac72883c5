//! What is around the deployment does not do as it should.

use crate::cluster::Nature::{Broken, Good, Poisoned, Unreachable, Unreadable};
use crate::moves::Edit;
use crate::scenario::{Scenario, know, nothing, serving, to};

pub(super) fn worlds() -> Vec<Scenario> {
    let of = |name, about| Scenario::new(name, about, serving("a", 1));
    vec![
        of("unreadable", "the models of the new revision cannot be read")
            .knows("b", Unreadable)
            .then([to("b")])
            .faults(2),
        of("unreachable", "the store of the models does not answer, until nobody tries again")
            .knows("b", Unreachable)
            .then([to("b")])
            .faults(2),
        of("taken", "somebody else takes the Service, and gives it back")
            .knows("B", Good)
            .then([to("B")])
            .then([Edit::Taken(true), Edit::Taken(false)]),
        of("taken-for-good", "somebody else takes the Service")
            .knows("b", Good)
            .then([to("b")])
            .then([Edit::Taken(true)]),
        of("halted", "the endpoints stop to follow")
            .knows("B", Good)
            .then([to("B")])
            .then([Edit::Halted(true)]),
        of("halted-for-a-while", "the endpoints stop to follow, and follow again")
            .knows("B", Good)
            .then([to("B")])
            .then([Edit::Halted(true), Edit::Halted(false)]),
        of("forgetful", "more records than are kept")
            .with(|cluster| {
                for past in ["p", "q", "r", "s", "t", "u", "v", "w", "x", "y", "z"] {
                    know(cluster, past, Good);
                }
            })
            .knows("b", Good)
            .then([to("b")]),
        Scenario::new(
            "haunted-first",
            "an operator that lost its lease acts, before anything serves",
            nothing("a", 1),
        )
        .haunted(),
        of("haunted-rolling", "an operator that lost its lease acts, while pods are replaced")
            .knows("b", Good)
            .then([to("b")])
            .haunted(),
        of("haunted-broken", "an operator that lost its lease acts, while a candidate fails")
            .knows("B", Broken)
            .then([to("B")])
            .haunted(),
        of("haunted-poisoned", "an operator that lost its lease acts, while a candidate is left")
            .knows("B", Poisoned)
            .then([to("B")])
            .haunted(),
        of("haunted-a-b-a", "an operator that lost its lease acts, while people change their mind")
            .knows("B", Good)
            .then([to("B"), to("a")])
            .haunted()
            .long(),
    ]
}
