//! The decision held against tables, golden traces, random worlds and a small simulated cluster.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test that calls them")]

mod build;
mod converge;
mod properties;
mod table;
mod traces;
