//! Where model files come from: sources, verification, metadata.
//!
//! A model's files travel through three types, and only the last one is fit to be loaded:
//!
//! ```text
//! Location ──fetch──▶ Fetched ──verify──▶ Artifact
//! where it is         files on a disk      complete, safe in format, digest known
//! ```
//!
//! [`fetch`] brings a store's files into the cache; a folder that is already on this machine (in an
//! image, on a mounted claim) stays where it is. [`verify`] reads every byte
//! once and every weight file's header, and names what is wrong by file and tensor.
//!
//! [`resolve()`] finds out what an artifact is without all of its bytes, where their sums are known.
//!
//! This crate knows nothing of operators, workers or engines: what fails is an
//! [`ArtifactError`], one variant per cause.

mod budget;
mod cache;
mod digest;
mod error;
mod fetch;
mod folder;
mod header;
mod location;
mod modules;
mod resolve;
mod source;
mod stamp;
mod structure;
mod sums;
mod verify;
mod weights;

pub use budget::{Budget, Share};
pub use cache::{CachedCopy, Fate, Policy, collect};
pub use digest::{Digest, FileRecord, Sha256Sum};
pub use error::ArtifactError;
pub use fetch::{Fetched, Places, fetch};
pub use location::Location;
pub use resolve::{Pin, Resolved, Unsummed, resolve};
pub use safetensors::Dtype;
pub use source::Author;
pub use verify::{Artifact, verify};
pub use weights::{TensorRecord, WeightIndex};

/// Hears how far a fetch or a verification has come. Called often, from several tasks.
pub trait Progress: Send + Sync {
    /// The bytes that are going to be handled. Not called when there is nothing to do.
    fn total(&self, bytes: u64);
    /// That many bytes more have been handled.
    fn add(&self, bytes: u64);
}
