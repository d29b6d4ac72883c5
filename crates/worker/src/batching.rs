//! Which texts are computed next, and together: batches across requests.
//!
//! ```text
//! admit ──▶ submit ──▶ next ──▶ (the engine) ──▶ finish
//! texts     tokens     one batch for one free thread
//! ```
//!
//! All of it is decided here, without threads, channels or a clock: time is what the caller says it
//! is, counted from one moment of its own. Nothing waits for a batch to become full: a free thread
//! takes what there is.

mod blame;
mod class;
mod form;
mod pace;
mod pieces;
mod prospect;
mod queue;
#[cfg(test)]
mod queue_tests;
mod suspicion;

pub(crate) use blame::{Fault, Ran, judge};
pub use class::{Class, UnknownClass};
pub(crate) use pace::retry_after;
pub(crate) use pieces::pieces;
pub(crate) use prospect::{Prospect, most_in_time};
pub(crate) use queue::{Arrival, Batch, Queue, WorkId};
pub(crate) use suspicion::Suspicion;
