//! The header of a safetensors file: <https://huggingface.co/docs/safetensors/index#format>.

use std::io::{self, Read};

use safetensors::tensor::Metadata;

use super::read::Failed;
use crate::error::EngineError;

/// The longest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// The header's length stands before it.
const LENGTH: u64 = 8;

/// Reads the header of `file`, which has `size` bytes, and where the tensors' bytes begin.
pub(super) fn read(
    file: &str,
    size: u64,
    reader: &mut impl Read,
) -> Result<(Metadata, u64), Failed> {
    let truncated = |expected| {
        Failed::Engine(EngineError::Truncated { file: file.to_owned(), expected, found: size })
    };
    if size < LENGTH {
        return Err(truncated(LENGTH));
    }
    let length = length(reader)?;
    if length > MAX_HEADER {
        return Err(invalid(file, format!("it has {length} bytes")));
    }
    let begin = LENGTH + length;
    if size < begin {
        return Err(truncated(begin));
    }
    let mut json = Vec::new();
    reader.take(length).read_to_end(&mut json)?;
    let metadata: Metadata =
        serde_json::from_slice(&json).map_err(|error| invalid(file, error.to_string()))?;
    let data = u64::try_from(metadata.data_len()).unwrap_or(u64::MAX);
    let expected = data.saturating_add(begin);
    if size < expected {
        return Err(truncated(expected));
    }
    if size > expected {
        return Err(invalid(file, format!("{} bytes follow the data", size - expected)));
    }
    Ok((metadata, begin))
}

fn length(reader: &mut impl Read) -> io::Result<u64> {
    let mut length = [0; size_of::<u64>()];
    reader.read_exact(&mut length)?;
    Ok(u64::from_le_bytes(length))
}

pub(super) fn invalid(file: &str, problem: String) -> Failed {
    Failed::Engine(EngineError::HeaderInvalid { file: file.to_owned(), problem })
}
