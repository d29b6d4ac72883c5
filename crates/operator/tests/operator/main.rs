//! The operator's pipeline from outside: what it renders, what it says, what it sends.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]
#![expect(clippy::expect_used, reason = "helpers of tests fail the test that calls them")]

mod apiserver;
mod cluster;
mod collecting;
mod conditions;
mod edge;
mod fitting;
mod fixtures;
mod lease;
mod memory;
mod observe;
mod pipeline;
mod render;
mod rollouts;
mod truth;
mod world;
