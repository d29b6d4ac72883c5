//! The serving process: one worker, many models, all of them right before the first request.
//!
//! ```text
//! serve ── load (each model: fetch → verify → read → build → transfer → warm up → validate)
//!   │        └── board: what /readyz, /status and the metrics say meanwhile
//!   ├── server: accept, age and drain connections
//!   │     └── http: routes and error shapes ── registry: which model ── run: on which thread
//!   │                                                       batching: when, and together with what
//!   ├── revalidate: the validation cases again, while requests are served
//!   ├── repository: models come and go while others are served, if somebody with a token says so
//!   └── admin: probes, status, metrics and commands, on a listener of their own
//! resolve ── what an artifact is, before anything is loaded
//! golden ── what a model answers now, as what it must answer later
//! handover ── on a GPU, to the program that has code for one
//! entry ── command line, log and exit code around each of them
//! ```
//!
//! Nothing is loaded on the request path: a [`registry`] is complete before the first request
//! is let in, each never changes, and the next one comes only by a command. A model that fails any
//! gate at the start ends the process with a typed [`lamplighter_protocol::Failure`]; one that fails
//! later leaves what is served as it is.
//!
//! With the feature `faults` there is a second program that breaks on purpose, for tests. The
//! program that is shipped is built without it.

#![expect(clippy::result_large_err, reason = "a failure is made once and ends the process")]

pub mod admin;
pub mod arguments;
mod batching;
mod bearer;
pub mod board;
pub mod cache;
mod cases;
pub mod cli;
pub mod entry;
pub mod failure;
#[cfg(any(test, feature = "faults"))]
pub mod faults;
pub mod golden;
mod handover;
pub mod http;
pub mod lifecycle;
pub mod load;
mod manifest;
pub mod memory;
pub mod metrics;
mod progress;
pub mod registry;
mod reload;
pub mod repository;
pub mod resolve;
pub mod revalidate;
pub mod run;
pub mod serve;
pub mod server;
pub mod stop;
mod tasks;
