//! Which tensors an artifact has, and in which of its files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use safetensors::Dtype;
use serde::Deserialize;

use crate::error::ArtifactError;
use crate::header::{self, HeaderError, Tensor};
use crate::modules;
use crate::structure::Files;

pub(crate) const SINGLE_FILE: &str = "model.safetensors";
const INDEX_FILE: &str = "model.safetensors.index.json";
/// An index is a list of names; a file of this size is something else.
const MAX_INDEX: u64 = 100_000_000;

/// A tensor and where it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TensorRecord {
    /// The file, relative to the artifact's root.
    pub file: String,
    /// The number format.
    pub dtype: Dtype,
    /// The lengths of its dimensions, outermost first.
    pub shape: Vec<u64>,
}

/// All tensors of an artifact by name; those of a module's own file are `<module>/<tensor>`, where
/// the module is named by its folder.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WeightIndex {
    tensors: BTreeMap<String, TensorRecord>,
}

impl WeightIndex {
    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorRecord> {
        &self.tensors
    }

    /// The files that hold them, sorted, relative to the artifact's root.
    pub fn files(&self) -> Vec<&str> {
        let files: BTreeSet<&str> =
            self.tensors.values().map(|tensor| tensor.file.as_str()).collect();
        files.into_iter().collect()
    }

    /// How many weights there are: the elements of all floating-point tensors. Integer tensors,
    /// such as a table of positions, are no weights.
    pub fn parameters(&self) -> u64 {
        let elements = |tensor: &TensorRecord| tensor.shape.iter().product::<u64>();
        self.tensors.values().filter(|tensor| is_float(tensor.dtype)).map(elements).sum()
    }

    /// The number format that most weights have, as safetensors names it: of equally many, the
    /// first by name. None where there is no weight.
    pub fn dtype(&self) -> Option<String> {
        let mut elements: BTreeMap<String, u64> = BTreeMap::new();
        for tensor in self.tensors.values().filter(|tensor| is_float(tensor.dtype)) {
            let of_dtype = elements.entry(format!("{:?}", tensor.dtype)).or_default();
            *of_dtype = of_dtype.saturating_add(tensor.shape.iter().product());
        }
        elements.into_iter().rev().max_by_key(|(_, elements)| *elements).map(|(dtype, _)| dtype)
    }

    fn insert(&mut self, file: &str, tensors: Vec<Tensor>) -> Result<(), ArtifactError> {
        for Tensor { name, dtype, shape } in tensors {
            if let Some(other) = self.tensors.get(&name) {
                return Err(ArtifactError::HeaderInvalid {
                    file: file.to_owned(),
                    tensor: Some(name),
                    expected: "each tensor in one file".to_owned(),
                    found: format!("the tensor also in {}", other.file),
                });
            }
            let file = file.to_owned();
            self.tensors.insert(name, TensorRecord { file, dtype, shape });
        }
        Ok(())
    }
}

/// Reads the headers of an artifact's weight files: those of its network, and those that modules of
/// sentence-transformers have in folders of their own.
pub(crate) fn read(files: &dyn Files) -> Result<WeightIndex, ArtifactError> {
    let mut index = of_network(files)?;
    for module in modules::read(files)? {
        let file = format!("{module}/{SINGLE_FILE}");
        let Some(size) = files.size(&file) else {
            let inside =
                |path: &str| path.strip_prefix(&module).is_some_and(|rest| rest.starts_with('/'));
            let mut pickles =
                files.listed().into_iter().filter(|(path, _)| inside(path) && is_pickle(path));
            if let Some((pickle, _)) = pickles.next() {
                return Err(ArtifactError::UnsafeFormat { file: pickle.to_owned() });
            }
            continue;
        };
        let mut tensors = read_header(files, &file, size)?;
        for tensor in &mut tensors {
            tensor.name = format!("{module}/{}", tensor.name);
        }
        index.insert(&file, tensors)?;
    }
    Ok(index)
}

/// As the libraries that write them do, a `model.safetensors` goes before an index.
fn of_network(files: &dyn Files) -> Result<WeightIndex, ArtifactError> {
    let mut index = WeightIndex::default();
    if let Some(size) = files.size(SINGLE_FILE) {
        index.insert(SINGLE_FILE, read_header(files, SINGLE_FILE, size)?)?;
        return Ok(index);
    }
    if let Some(size) = files.size(INDEX_FILE) {
        let placed = read_index(files, size)?;
        let shards: BTreeMap<&String, &String> =
            placed.iter().rev().map(|(tensor, shard)| (shard, tensor)).collect();
        for (shard, tensor) in shards {
            let size = files.size(shard).ok_or_else(|| ArtifactError::IndexMissingShard {
                file: INDEX_FILE.to_owned(),
                tensor: tensor.clone(),
                shard: shard.clone(),
            })?;
            index.insert(shard, read_header(files, shard, size)?)?;
        }
        for (tensor, shard) in placed {
            if index.tensors.get(&tensor).is_none_or(|found| found.file != shard) {
                let file = INDEX_FILE.to_owned();
                return Err(ArtifactError::IndexMissingTensor { file, tensor, shard });
            }
        }
        return Ok(index);
    }
    Err(match files.listed().into_iter().find(|(path, _)| is_pickle(path)) {
        Some((pickle, _)) => ArtifactError::UnsafeFormat { file: pickle.to_owned() },
        None => ArtifactError::FileMissing {
            file: SINGLE_FILE.to_owned(),
            remedy: "save the weights with safetensors, as one file or with an index",
        },
    })
}

/// `torch.save` and its kin write pickles: <https://docs.pytorch.org/docs/stable/generated/torch.load.html>.
fn is_pickle(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("bin" | "pt" | "pth" | "pkl" | "pickle" | "ckpt"))
}

fn is_float(dtype: Dtype) -> bool {
    !matches!(
        dtype,
        Dtype::BOOL
            | Dtype::U8
            | Dtype::I8
            | Dtype::I16
            | Dtype::U16
            | Dtype::I32
            | Dtype::U32
            | Dtype::I64
            | Dtype::U64
    )
}

fn read_header(files: &dyn Files, path: &str, size: u64) -> Result<Vec<Tensor>, ArtifactError> {
    let mut reader = files.open(path)?;
    header::read(path, size, &mut reader).map_err(|error| match error {
        HeaderError::Invalid(error) => error,
        HeaderError::Io(error) => files.unreadable(path, error),
    })
}

/// The index's `weight_map`: tensor name to file name.
fn read_index(files: &dyn Files, size: u64) -> Result<BTreeMap<String, String>, ArtifactError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }

    let invalid =
        |problem: String| ArtifactError::IndexInvalid { file: INDEX_FILE.to_owned(), problem };
    if size > MAX_INDEX {
        return Err(invalid(format!("it has {size} bytes")));
    }
    let json = files.whole(INDEX_FILE)?;
    let index: Index = serde_json::from_slice(&json).map_err(|error| invalid(error.to_string()))?;
    if index.weight_map.is_empty() {
        return Err(invalid("it places no tensor".to_owned()));
    }
    Ok(index.weight_map)
}
