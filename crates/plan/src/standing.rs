//! How the pods of the wanted revision stand, and what they wait for: the words of the status. What
//! is to be done about it is decided in [`crate::rollout`].

pub mod explain;
mod judge;
mod verdict;
mod world;

pub use judge::verdict;
pub use verdict::{Cause, Routable, State, Verdict};
pub use world::{Ended, Goal, Pod, PodPhase, Revision, Workload, World};
