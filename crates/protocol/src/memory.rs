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
