//! Whether an artifact has the files that a model needs, wherever they are.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::ArtifactError;
use crate::folder::Entry;
use crate::weights::{self, WeightIndex};

pub(crate) const CONFIG_FILE: &str = "config.json";
pub(crate) const TOKENIZER_FILE: &str = "tokenizer.json";
/// A model's configuration has a few kilobytes; a file of this size is something else.
const MAX_CONFIG: u64 = 10_000_000;

/// The files of an artifact, of which only the needed parts are read.
pub(crate) trait Files {
    /// The paths below the artifact's root with their sizes in bytes, sorted by path.
    fn listed(&self) -> Vec<(&str, u64)>;

    /// Reads a listed file from its first byte on.
    fn open(&self, path: &str) -> Result<Box<dyn Read + '_>, ArtifactError>;

    /// What a failure to read on means.
    fn unreadable(&self, path: &str, error: io::Error) -> ArtifactError;

    /// The file's size in bytes; none if there is no such file.
    fn size(&self, path: &str) -> Option<u64> {
        self.listed().into_iter().find(|(listed, _)| *listed == path).map(|(_, size)| size)
    }

    /// All of a file.
    fn whole(&self, path: &str) -> Result<Vec<u8>, ArtifactError> {
        let mut bytes = Vec::new();
        self.open(path)?.read_to_end(&mut bytes).map_err(|error| self.unreadable(path, error))?;
        Ok(bytes)
    }
}

/// Files of a folder on this machine.
pub(crate) struct OnDisk<'a> {
    pub(crate) root: &'a Path,
    pub(crate) files: &'a [Entry],
}

impl OnDisk<'_> {
    fn on_disk(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

impl Files for OnDisk<'_> {
    fn listed(&self) -> Vec<(&str, u64)> {
        self.files.iter().map(|entry| (entry.path.as_str(), entry.size)).collect()
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + '_>, ArtifactError> {
        let file = File::open(self.on_disk(path)).map_err(|error| self.unreadable(path, error))?;
        Ok(Box::new(file))
    }

    fn unreadable(&self, path: &str, error: io::Error) -> ArtifactError {
        ArtifactError::reading(&self.on_disk(path), error)
    }
}

/// The tensors of an artifact whose weights have valid headers and which has a configuration
/// and a tokenizer. Of the weights, only the headers are read.
pub(crate) fn check(files: &dyn Files) -> Result<WeightIndex, ArtifactError> {
    let weights = weights::read(files)?;
    check_config(files)?;
    if files.size(TOKENIZER_FILE).is_none() {
        return Err(ArtifactError::FileMissing {
            file: TOKENIZER_FILE.to_owned(),
            remedy: "save the tokenizer in its fast form, with save_pretrained",
        });
    }
    Ok(weights)
}

fn check_config(files: &dyn Files) -> Result<(), ArtifactError> {
    let Some(size) = files.size(CONFIG_FILE) else {
        return Err(ArtifactError::FileMissing {
            file: CONFIG_FILE.to_owned(),
            remedy: "save the model with save_pretrained",
        });
    };
    let invalid =
        |problem: String| ArtifactError::ConfigInvalid { file: CONFIG_FILE.to_owned(), problem };
    if size > MAX_CONFIG {
        return Err(invalid(format!("it has {size} bytes")));
    }
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&files.whole(CONFIG_FILE)?)
        .map(drop)
        .map_err(|error| invalid(error.to_string()))
}
