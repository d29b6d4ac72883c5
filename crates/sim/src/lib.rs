//! A simulated cluster around the plan.
//!
//! | module | what |
//! |---|---|
//! | [`cluster`] | pods, endpoints and time, as far as a decision can see them |
//! | [`moves`] | everything that can happen to it, and who does it |
//! | [`scenario`] | small worlds with a name: what they start from and what may happen there |
//! | [`explore`] | every order in which it can happen, until nothing new is found |
//! | [`heal`] | what becomes of it when nothing else happens |
//! | [`trace`] | a run as text that a person can read |

pub mod cluster;
pub mod explore;
pub mod heal;
pub mod moves;
pub mod scenario;
pub mod trace;
