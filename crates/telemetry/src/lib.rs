//! Logs, metrics, probes, signals and idle connections, the same in both binaries.
//!
//! A binary flattens [`log::LogArgs`] into its command line, takes a token from
//! [`shutdown::signals`], and serves [`metrics::router`] merged with [`probe::router`]
//! through [`admin::serve`].

pub mod admin;
pub mod idle;
pub mod log;
pub mod metrics;
pub mod probe;
pub mod shutdown;
