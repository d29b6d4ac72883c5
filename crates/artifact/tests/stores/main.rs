//! Artifacts come whole from every kind of store, and each way in which a store can fail has its
//! own outcome.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod azure;
mod gcs;
mod https;
mod hub;
mod model;
mod s3;
mod server;
