//! What users do and what goes wrong, on a real cluster with the real images and the chart.
//!
//! Every story is ignored unless asked for: `cargo xtask test --only stories` brings up what
//! they need and runs them.

mod admission;
mod cache;
mod change;
mod drain;
mod gates;
mod gpus;
mod installation;
mod keys;
mod leadership;
mod memory;
mod metrics;
mod quiet;
mod reading;
mod repair;
mod samples;
mod security;
mod serving;
mod sources;
