//! User stories, run on a real cluster, and what they need: test models, a model store, and a
//! harness that installs the chart, gives each story a namespace of its own, and keeps a dump
//! when a story fails.
//!
//! The stories are in `tests/stories/`; `cargo xtask test` brings up the cluster, builds the
//! images and runs them. Rollouts under load are in `tests/rollouts/`; `cargo xtask e2e rollouts`
//! runs all of them and prints what each took.

pub mod audit;
pub mod call;
pub mod children;
pub mod command;
pub mod deploy;
mod dump;
pub mod fixtures;
pub mod load;
pub mod namespace;
pub mod openmetrics;
pub mod operator;
pub mod s3;
pub mod scene;
pub mod settings;
pub mod spec;
pub mod traffic;
pub mod trial;
pub mod volume;
pub mod wait;

pub use namespace::{Turn, with_namespace};
pub use scene::Scene;
