//! The rollout, decided: [`decide`] turns what is ([`World`]) into what to do next ([`Plan`]).
//!
//! # The rollout on one page
//!
//! 1. The revision that the user wants gets a workload of as many replicas as the user wants.
//! 2. Older revisions keep what they have until the wanted one is ready in full, so a revision
//!    that never becomes ready never takes the serving one down. One exception frees devices for
//!    a correction: an older revision without a ready pod goes at once while another older
//!    revision serves.
//! 3. Then older revisions are scaled to zero, and deleted once their last pod is gone.
//! 4. Records of revisions are kept for the newest [`replace::KEPT_RECORDS`]; older ones go.
//!
//! This is what the operator does today. [`rollout`] decides rollouts with strategies, a gated
//! switch and a way back; it is explored in `crates/sim` and will take this place.
//!
//! # Contract
//!
//! `decide` is total: it has no error, does not panic, reads no clock and does no I/O. Time comes
//! in as ages ([`Seconds`]) and goes out as [`Plan::wake`]. What it does, why, and what it waits
//! for are part of the result: [`Action`], [`Note`], [`Verdict`]. Deciding again in the world
//! that its actions lead to gives no actions. [`check::violations`] holds the named invariants
//! against any world and plan.
//!
//! Deliberately absent: Kubernetes types, serialisation, floats, hash maps, and strings other
//! than the ones that [`explain`] builds.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod check;
pub mod explain;
pub mod health;
pub mod output;
pub mod replace;
pub mod rollout;
pub mod world;

pub use output::{Action, Cause, Note, Plan, Routable, State, Verdict};
pub use world::{
    Ended, Failure, FailureClass, Goal, Pod, PodName, PodPhase, Refusal, Revision, RevisionId,
    Seconds, Workload, World,
};

/// What to do next, and how things stand.
pub fn decide(world: &World) -> Plan {
    if world.deleting {
        return Plan::without_actions(health::verdict(world));
    }
    let steps = [
        replace::raise_wanted(world),
        replace::retire_older(world),
        replace::delete_empty(world),
        replace::forget_records(world),
    ];
    let (actions, notes): (Vec<_>, Vec<_>) =
        steps.into_iter().flatten().map(|step| (step.action, step.note)).unzip();
    Plan {
        actions: actions.into_iter().flatten().collect(),
        verdict: health::verdict(world),
        wake: health::wake(world),
        notes,
    }
}
