//! How much memory a worker needs at least, by what is known of its models before they are loaded.

use crate::resolve::ResolveRecord;

/// What a worker takes before it has loaded anything, in bytes: threads, buffers, its allocator's
/// own needs. Measured at 6 MiB on Linux x86-64 with two cores; less than that is certain.
pub const WORKER: u64 = 4 << 20;

/// Bytes of the host's memory that a worker needs at least to serve these models on the processor:
/// of each its weights and one largest batch, whose memory it keeps.
///
/// What has less than that could not have served. What has more may still be too little: further
/// batches at the same time, tokenizers and the allocator come on top.
pub fn at_least(records: &[ResolveRecord]) -> u64 {
    records.iter().map(|record| record.memory).fold(WORKER, u64::saturating_add)
}

/// Bytes of the host's memory that a worker needs at least to bring these models to a GPU: what it
/// takes itself, and the weights of the largest model, all floats that are stored as 32-bit ones.
/// The models may take turns.
pub fn to_bring_to_device(records: &[ResolveRecord]) -> u64 {
    WORKER.saturating_add(records.iter().map(stored).max().unwrap_or_default())
}

/// Bytes of a GPU's memory that these models need at least: the weights of all, which stay there.
///
/// Not all that is stored is run, so of each the smaller one counts of what is stored and of what
/// was estimated to be run with a largest batch. What the driver takes and batches as large as a
/// GPU computes them come on top, and are more than what is estimated of batches here.
pub fn on_device(records: &[ResolveRecord]) -> u64 {
    let weights = |record: &ResolveRecord| stored(record).min(record.memory);
    records.iter().map(weights).fold(0, u64::saturating_add)
}

/// Bytes of all floats that are stored, as 32-bit ones.
fn stored(record: &ResolveRecord) -> u64 {
    record.parameters.saturating_mul(4)
}
