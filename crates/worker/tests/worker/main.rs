//! The worker from outside: its routes, its start, its end.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap fails the test")]

mod admission;
mod api;
mod batches;
mod descriptors;
mod drain;
mod life;
mod load;
mod metrics;
mod refusals;
mod resolve;
mod revalidation;
mod shedding;
mod start;
mod support;
