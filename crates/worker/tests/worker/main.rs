//! The worker from outside: its routes, its start, its end.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap fails the test")]

mod access;
mod admission;
mod answers;
mod api;
mod batches;
mod clients;
mod descriptors;
mod documents;
mod drain;
mod handover;
mod hub;
mod identity;
mod inference;
mod keys;
mod life;
mod load;
mod metrics;
mod precision;
mod refusals;
mod reload;
mod repository;
mod rerank;
mod resident;
mod resolve;
mod revalidation;
mod shapes;
mod shedding;
mod start;
mod support;
mod tasks;
mod tei;
mod threads;
