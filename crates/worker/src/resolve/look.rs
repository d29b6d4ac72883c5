//! From an address to the record of what is there.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use lamplighter_artifact::{Digest, Location, Places, Resolved, Unsummed};
use lamplighter_engine::{Description, Gives, TensorHeader, describe};
use lamplighter_protocol::{Failure, ModelKey, Phase, Reason, ResolveRecord, Task};

use crate::{failure, progress, tasks};

/// What is looked at.
pub(super) struct Sought<'a> {
    /// Where it is.
    pub(super) uri: &'a str,
    /// What it is called.
    pub(super) key: ModelKey,
    /// What it is for; what it can be used for, where nobody says it.
    pub(super) task: Option<Task>,
    /// The digest that it must have.
    pub(super) expected: Option<&'a str>,
    /// Whether bytes that have to be read go into the cache.
    pub(super) is_kept: bool,
    pub(super) places: Places,
}

/// Finds out what is at an address, without the weights' numbers.
pub(super) async fn look(sought: Sought<'_>) -> Result<ResolveRecord, Failure> {
    let of_artifact = |error| failure::of_artifact(&error);
    let Sought { uri, key, task, expected, is_kept, places } = sought;
    let location = Location::parse(uri).map_err(of_artifact)?;
    let expected: Option<Digest> = expected.map(str::parse).transpose().map_err(of_artifact)?;
    let unsummed = if is_kept { Unsummed::Keep } else { Unsummed::Drop };
    let progress = progress::Logged::new(&key);
    let resolved = lamplighter_artifact::resolve(
        &location,
        &key.name,
        &key.version,
        expected.as_ref(),
        &places,
        unsummed,
        &progress,
    )
    .await
    .map_err(of_artifact)?;
    tokio::task::spawn_blocking(move || {
        let description = understand(&resolved)?;
        let task = match task {
            Some(task) => {
                tasks::check(task, &description.architecture, &description.gives)?;
                task
            }
            None => tasks::of(&description.gives),
        };
        Ok(record(key, task, resolved, description))
    })
    .await
    .map_err(|lost| failure::of_lost_task(&lost))?
}

/// What the engine makes of settings, tokenizer and headers. It reads settings from a folder.
fn understand(resolved: &Resolved) -> Result<Description, Failure> {
    let folder = tempfile::tempdir().map_err(|error| no_scratch(&error))?;
    for (path, content) in &resolved.settings {
        write(&folder.path().join(path), content).map_err(|error| no_scratch(&error))?;
    }
    let tensors: BTreeMap<String, TensorHeader> = resolved
        .weights
        .tensors()
        .iter()
        .map(|(name, tensor)| {
            let (file, shape) = (tensor.file.clone(), tensor.shape.clone());
            (name.clone(), TensorHeader { file, dtype: tensor.dtype, shape })
        })
        .collect();
    describe(folder.path(), &tensors, &resolved.tokenizer_json)
        .map_err(|error| failure::of_engine(&error, Phase::Build))
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, content)
}

fn record(
    model: ModelKey,
    task: Task,
    resolved: Resolved,
    description: Description,
) -> ResolveRecord {
    ResolveRecord {
        model,
        task,
        architecture: description.architecture,
        model_type: description.model_type,
        layers: description.layers as u64,
        hidden: description.hidden as u64,
        heads: description.heads as u64,
        intermediate: description.intermediate as u64,
        vocabulary: description.vocabulary as u64,
        max_tokens: description.max_tokens as u64,
        pooling: match &description.gives {
            Gives::Vectors { pooling, .. } => pooling.name().to_owned(),
            Gives::Scores { .. } => String::new(),
        },
        dimensions: description.gives.numbers() as u64,
        dtype: resolved.weights.dtype().unwrap_or_default(),
        parameters: resolved.weights.parameters(),
        bytes: resolved.bytes,
        memory: description.memory,
        tokenizer_digest: format!("sha256:{}", resolved.tokenizer),
        digest: resolved.digest.to_string(),
        pin: resolved.pin.to_string(),
        commit: resolved.commit,
    }
}

fn no_scratch(error: &io::Error) -> Failure {
    let folder = std::env::temp_dir();
    let message = format!("{} cannot be written: {error}", folder.display());
    let is_full =
        [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind());
    let reason = if is_full { Reason::DiskFull } else { Reason::VolumeUnwritable };
    Failure::new(reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_that_is_full_is_told_from_one_that_may_not_be_written() {
        // ENOSPC and EROFS, as errno(3) numbers them on Linux.
        for (code, reason) in [(28, Reason::DiskFull), (30, Reason::VolumeUnwritable)] {
            assert_eq!(no_scratch(&io::Error::from_raw_os_error(code)).reason, reason);
        }
    }
}
