//! Weights, from files into memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};

use crate::Dtype;
use crate::error::EngineError;
use crate::layout::TensorHeader;

/// The longest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// How much is read and converted at a time: fits a core's second-level cache.
const BUFFER: usize = 1 << 20;

/// The tensors of an artifact in memory, widened to 32-bit floats.
#[derive(Debug)]
pub struct Weights {
    pub(crate) tensors: BTreeMap<String, Stored>,
    bytes: u64,
}

/// A tensor and how it was stored.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) file: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Values,
}

#[derive(Debug)]
pub(crate) enum Values {
    Floats(Dtype, Vec<f32>),
    /// A format that this crate does not read; harmless unless the model needs the tensor.
    Other(safetensors::Dtype),
}

impl Weights {
    /// Bytes read from disk.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the headers said.
    pub(crate) fn headers(&self) -> BTreeMap<String, TensorHeader> {
        let header = |stored: &Stored| TensorHeader {
            file: stored.file.clone(),
            dtype: match stored.values {
                Values::Floats(Dtype::F32, _) => safetensors::Dtype::F32,
                Values::Floats(Dtype::F16, _) => safetensors::Dtype::F16,
                Values::Floats(Dtype::BF16, _) => safetensors::Dtype::BF16,
                Values::Other(other) => other,
            },
            shape: stored.shape.iter().map(|&length| length as u64).collect(),
        };
        self.tensors.iter().map(|(name, stored)| (name.clone(), header(stored))).collect()
    }

    /// The elements of all floating-point tensors, those that the model does not need among
    /// them. Integer tensors, such as a table of positions, are no weights.
    pub(crate) fn parameters(&self) -> u64 {
        let weights = self.tensors.values().filter(|stored| stored.values.are_floats());
        weights.map(|stored| stored.shape.iter().map(|&side| side as u64).product::<u64>()).sum()
    }
}

impl Values {
    fn are_floats(&self) -> bool {
        use safetensors::Dtype as Other;
        !matches!(
            self,
            Self::Other(
                Other::BOOL
                    | Other::U8
                    | Other::I8
                    | Other::U16
                    | Other::I16
                    | Other::U32
                    | Other::I32
                    | Other::U64
                    | Other::I64
            )
        )
    }
}

/// Reads the given safetensors files of the folder `dir`; `progress` hears of bytes as they are
/// read.
///
/// Numbers are read and widened, not mapped: a mapped file that is cut short by another process,
/// or a network volume that goes away, ends this process with a signal instead of an error.
pub fn read(dir: &Path, files: &[&str], progress: &dyn Fn(u64)) -> Result<Weights, EngineError> {
    let mut weights = Weights { tensors: BTreeMap::new(), bytes: 0 };
    for file in files {
        let path = dir.join(file);
        let opened = File::open(&path).and_then(|opened| Ok((opened.metadata()?.len(), opened)));
        let read = opened.map_err(Failed::Io).and_then(|(size, mut opened)| {
            read_file(file, size, &mut opened, progress, &mut weights.tensors).map(|()| size)
        });
        weights.bytes += read.map_err(|failed| match failed {
            Failed::Io(source) => EngineError::Read { path, source },
            Failed::Engine(error) => error,
        })?;
    }
    Ok(weights)
}

enum Failed {
    Io(io::Error),
    Engine(EngineError),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn read_file(
    file: &str,
    size: u64,
    reader: &mut impl Read,
    progress: &dyn Fn(u64),
    tensors: &mut BTreeMap<String, Stored>,
) -> Result<(), Failed> {
    let metadata = read_metadata(file, size, reader)?;
    let mut buffer = vec![0; BUFFER];
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else {
            continue;
        };
        let stored = Stored {
            file: file.to_owned(),
            shape: info.shape.clone(),
            values: read_values(info, reader, &mut buffer, progress)?,
        };
        if let Some(other) = tensors.insert(name.clone(), stored) {
            let problem = format!("{name} is also in {}", other.file);
            return Err(header_invalid(file, problem));
        }
    }
    Ok(())
}

fn read_metadata(file: &str, size: u64, reader: &mut impl Read) -> Result<Metadata, Failed> {
    let truncated = |expected| {
        Failed::Engine(EngineError::Truncated { file: file.to_owned(), expected, found: size })
    };
    let begin = 8;
    if size < begin {
        return Err(truncated(begin));
    }
    let mut length = [0; size_of::<u64>()];
    reader.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(header_invalid(file, format!("it has {length} bytes")));
    }
    if size < begin + length {
        return Err(truncated(begin + length));
    }
    let mut json = Vec::new();
    reader.take(length).read_to_end(&mut json)?;
    let metadata: Metadata =
        serde_json::from_slice(&json).map_err(|error| header_invalid(file, error.to_string()))?;
    let data = u64::try_from(metadata.data_len()).unwrap_or(u64::MAX);
    let expected = data.saturating_add(begin + length);
    if size < expected {
        return Err(truncated(expected));
    }
    if size > expected {
        return Err(header_invalid(file, format!("{} bytes follow the data", size - expected)));
    }
    Ok(metadata)
}

fn header_invalid(file: &str, problem: String) -> Failed {
    Failed::Engine(EngineError::HeaderInvalid { file: file.to_owned(), problem })
}

fn read_values(
    info: &TensorInfo,
    reader: &mut impl Read,
    buffer: &mut [u8],
    progress: &dyn Fn(u64),
) -> io::Result<Values> {
    let (begin, end) = info.data_offsets;
    let mut left = end - begin;
    let dtype = match info.dtype {
        safetensors::Dtype::F32 => Dtype::F32,
        safetensors::Dtype::F16 => Dtype::F16,
        safetensors::Dtype::BF16 => Dtype::BF16,
        other => {
            let skipped = u64::try_from(left).unwrap_or(u64::MAX);
            io::copy(&mut reader.take(skipped), &mut io::sink())?;
            progress(skipped);
            return Ok(Values::Other(other));
        }
    };
    let mut values = Vec::with_capacity(left / dtype.size());
    while left > 0 {
        let length = left.min(buffer.len());
        reader.read_exact(&mut buffer[..length])?;
        dtype.decode(&buffer[..length], &mut values);
        progress(length as u64);
        left -= length;
    }
    Ok(Values::Floats(dtype, values))
}
