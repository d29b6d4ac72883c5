//! A simulated cluster around the plan.
//!
//! | module | what |
//! |---|---|
//! | [`cluster`] | pods, endpoints and time, as far as a decision can see them |
//! | [`moves`] | everything that can happen to it, and who does it |
//! | [`scenario`] | what a world to explore is made of |
//! | [`worlds`] | the worlds that are explored |
//! | [`explore`] | every order in which things can happen, until nothing new is found |
//! | [`rules`] | what must hold wherever a run leads |
//! | [`heal`] | what becomes of it when nothing else happens |
//! | [`coverage`] | what occurred |
//! | [`script`] | a run that somebody wrote down |
//! | [`trace`] | a run as text that a person can read |

pub mod cluster;
pub mod coverage;
pub mod explore;
pub mod heal;
pub mod moves;
pub mod rules;
pub mod scenario;
pub mod script;
pub mod trace;
pub mod worlds;
