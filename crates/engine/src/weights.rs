//! Weights in memory.

mod header;
mod read;

use std::collections::BTreeMap;

use crate::Dtype;
use crate::layout::TensorHeader;

pub use read::read;

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
    Floats(Floats),
    /// A format that this crate does not read; harmless unless the model needs the tensor.
    Other(safetensors::Dtype),
}

/// Numbers, and what they were before they were widened.
#[derive(Debug)]
pub(crate) struct Floats {
    pub(crate) dtype: Dtype,
    pub(crate) values: Vec<f32>,
    /// The place of the first that is NaN or infinite.
    pub(crate) non_finite: Option<usize>,
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
                Values::Floats(Floats { dtype: Dtype::F32, .. }) => safetensors::Dtype::F32,
                Values::Floats(Floats { dtype: Dtype::F16, .. }) => safetensors::Dtype::F16,
                Values::Floats(Floats { dtype: Dtype::BF16, .. }) => safetensors::Dtype::BF16,
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
