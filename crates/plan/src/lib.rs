//! The rollout, decided: [`rollout::decide`] turns what is ([`rollout::World`]) into what to do next
//! ([`rollout::Plan`]). [`rollout`] has it on one page.
//!
//! # Contract
//!
//! `decide` is total: it has no error, does not panic, reads no clock and does no I/O. Time comes
//! in as ages ([`Seconds`]) and goes out as [`rollout::Plan::wake`]. What it does, why, and what it
//! waits for are part of the result. [`rollout::check::violations`] holds the named invariants
//! against any world and plan.
//!
//! [`standing`] says how the pods of the wanted revision stand, in the words of the status. It
//! decides nothing.
//!
//! Deliberately absent: Kubernetes types, serialisation, floats, hash maps, and strings other
//! than the ones that the `explain` modules build.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod rollout;
pub mod standing;
mod terms;

pub use terms::{Failure, FailureClass, PodName, Refusal, RevisionId, Seconds};
