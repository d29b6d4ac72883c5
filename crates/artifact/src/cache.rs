//! Downloads that are kept: complete, visible all at once, and shared by whoever has the volume.
//!
//! ```text
//! <cache>/<name>/<version>/
//!     <digest>/                     published by renaming, with its record in .lamplighter.json
//!     .users-<digest>/<who>         who uses it, one empty file each
//!     .golden-<digest>-<name>       a golden file for it, as a store had it at some time
//!     .listing-<key>                the digest of what a store's listing turned out to be
//!     .lock-<key>                   held by the process that downloads that listing
//!     .partial-<key>/               being downloaded, with the lengths that were summed in .ranges
//! ```
//!
//! Processes of several machines may share it. One downloads, the others wait until it is done or
//! dead; who comes next goes on where it was. Where the file system has no locks, each downloads
//! for itself. Whoever loads a published folder holds a shared lock of its record.

mod collect;
mod download;
mod entry;
mod golden;
mod journal;
mod lock;
mod partial;
mod receive;
mod room;
mod shelf;
mod steady;

pub use collect::{CachedCopy, Fate, Policy, collect};
pub(crate) use download::{bring, fetch};
pub(crate) use entry::{Published, discard};
pub(crate) use receive::sum;
pub(crate) use shelf::Shelf;
