//! The rollout as a machine with a memory: strategies, gates, the switch, the return.
//!
//! # On one page
//!
//! ```text
//!            ┌───────────────────────── given up, failed ──────────────────────────┐
//!            ▼                                                                      │
//! Stable ──▶ Gating ──▶ (AwaitingPromotion) ──▶ CuttingOver ──▶ Shedding ──▶ Baking ──▶ Stable
//!   │                                               │              │           │
//!   │                                               └──────────────┴───────────┤ failed, not wanted
//!   │                                                                          ▼
//!   │                                                     Stable ◀── Clearing ◀── Reverting
//!   └──▶ Rolling (forward) ──▶ Baking
//!            ▲▼ failed, not wanted
//!        Rolling (back) ──▶ Stable
//! ```
//!
//! * **Gating**: a second environment; every pod loads, warms up and proves its answers.
//! * **`CuttingOver`**: the Service selects it; the endpoints have to say so.
//! * **Shedding**: who is connected to the old environment is asked to come again.
//! * **Baking**: the old environment is kept for as long as it takes to be sure.
//! * **Rolling**: a pod is withdrawn from the Service, leaves, and one of the other revision takes
//!   its place; the next one follows when that one is reached by requests. A walk back that takes
//!   too long gives way to a third revision, which may mend what keeps it from its end.
//! * **Reverting**, **Clearing**: the switch and the shedding, backwards.
//!
//! # Two rules that everything rests on
//!
//! A plan either changes the memory or the cluster, never both. So the memory always says what is
//! meant before anything is done about it, and every action is a function of a memory that was
//! written and of what the cluster shows: whoever is interrupted anywhere, or comes second, does
//! the same thing again or nothing.
//!
//! Every object carries the epoch of the memory that it was written under. A decision on a memory
//! that is older than an object does nothing at all.

mod act;
pub mod check;
pub mod explain;
mod heading;
pub mod health;
pub mod memory;
pub mod plan;
pub mod strategy;
mod transition;
mod wake;
pub mod world;

pub use heading::retry_after;
pub use memory::{
    Class, Direction, Environment, Failed, Memory, Phase, Pin, Placed, Rolling, Rollout, Withdrawn,
};
pub use plan::{Action, Note, Outcome, Plan};
pub use world::{
    Command, CommandKind, Goal, OnInsufficientCapacity, Pod, Policy, Promotion, Resolved, Retry,
    Revision, Service, Stage, Workload, World,
};

/// What to do next, or what to remember.
pub fn decide(world: &World) -> Plan {
    if world.goal.deleting {
        return Plan::idle(world, Vec::new());
    }
    if world.overtaken {
        return Plan::idle(world, vec![Note::Overtaken]);
    }
    if let Some(turn) = transition::next(world) {
        let mut memory = turn.memory;
        memory.epoch = world.memory.epoch.saturating_add(1);
        return Plan { actions: Vec::new(), memory, wake: None, notes: turn.notes };
    }
    let act::Steps { actions, notes } = act::steps(world);
    Plan { actions, memory: world.memory.clone(), wake: wake::wake(world), notes }
}
