//! What people ask for besides another revision.

use lamplighter_plan::Seconds;
use lamplighter_plan::rollout::{CommandKind, Promotion};

use crate::cluster::Cluster;
use crate::cluster::Nature::{Broken, Good, Unreadable};
use crate::moves::Edit;
use crate::scenario::{Scenario, id, serving, to};

fn manual(cluster: &mut Cluster) {
    cluster.world.policy.promotion = Promotion::Manual(Seconds(1));
}

pub(super) fn worlds() -> Vec<Scenario> {
    let of = |name, about| Scenario::new(name, about, serving("a", 1));
    let ask = |kind| Edit::Command(kind, None);
    let promote = || Edit::Command(CommandKind::Promote, Some(id("B")));
    let return_to = |revision| Edit::Command(CommandKind::RollbackTo, Some(id(revision)));
    vec![
        of("manual", "a person promotes the candidate, or does not in time")
            .with(manual)
            .knows("B", Good)
            .then([to("B")])
            .then([promote()]),
        of("manual-worse", "a person promotes the candidate, and something goes wrong")
            .with(manual)
            .knows("B", Good)
            .then([to("B")])
            .then([promote()])
            .faults(1)
            .long(),
        of("manual-aborted", "a person gives up what waits to be promoted")
            .with(manual)
            .knows("B", Good)
            .then([to("B"), ask(CommandKind::Abort)])
            .then([promote()]),
        of("aborted", "a person gives the rollout up, at any time")
            .knows("B", Good)
            .then([to("B")])
            .then([ask(CommandKind::Abort)]),
        of("aborted-rolling", "a person gives the rolling update up, at any time")
            .knows("b", Good)
            .then([to("b")])
            .then([ask(CommandKind::Abort)]),
        of("retried", "a person asks for a retry of what fails again")
            .knows("B", Broken)
            .then([to("B"), ask(CommandKind::Retry)]),
        of("retried-unreadable", "a person asks for a retry of what can be read by now")
            .knows("b", Unreadable)
            .then([to("b"), ask(CommandKind::Retry)])
            .then([Edit::Nature(id("b"), Good)]),
        of("paused", "a person pauses and resumes")
            .knows("b", Good)
            .then([to("b")])
            .then([Edit::Paused(true), Edit::Paused(false)]),
        of("paused-blue-green", "a person pauses and resumes while the environment changes")
            .knows("B", Good)
            .then([to("B")])
            .then([Edit::Paused(true), Edit::Paused(false)]),
        of("returned", "a person returns to an earlier revision")
            .knows("B", Good)
            .then([to("B")])
            .then([return_to("a")]),
        of("returned-nowhere", "a person returns to a revision that nobody knows")
            .then([return_to("x")]),
        of("unpinned", "a person returns to another revision, and the specification follows")
            .knows("b", Good)
            .then([return_to("b"), to("b")]),
        of("unpinned-third", "a person returns to an earlier revision and later wants another one")
            .knows("B", Good)
            .knows("c", Good)
            .then([to("B"), return_to("a"), to("c")])
            .long(),
        of("deleted", "the deployment is deleted in the middle")
            .knows("B", Good)
            .then([to("B")])
            .then([Edit::Delete])
            .faults(1),
        of("deleted-rolling", "the deployment is deleted while pods are replaced")
            .knows("b", Good)
            .then([to("b")])
            .then([Edit::Delete]),
    ]
}
