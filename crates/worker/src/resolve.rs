//! `lamplighter-worker resolve`: what an artifact is, before a device or an old pod is touched.
//!
//! The answer is one line of JSON in the container's termination message, a
//! [`ResolveRecord`]; so is the reason if there is no answer.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter_artifact::{Digest, Location, Places, Resolved, Unsummed};
use lamplighter_engine::{EngineError, build, read};
use lamplighter_protocol::place::RESOLVE_RECORD_LIMIT;
use lamplighter_protocol::{
    Failure, Manifest, ModelEntry, ModelKey, Phase, Reason, ResolveField, ResolveRecord,
    ResolveRecordError, Task,
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::cli::ResolveArgs;
use crate::{failure, manifest, progress};

/// Looks at one model's artifact and leaves its record in the termination log.
pub async fn resolve(args: &ResolveArgs, stop: CancellationToken) -> Result<(), Failure> {
    let manifest = manifest::read(&args.manifest)?;
    let entry = entry(&manifest, &args.model)?;
    let deadline = args.resolve_deadline_seconds;
    let record = tokio::select! {
        biased;
        () = stop.cancelled() => Err(stopped()),
        done = tokio::time::timeout(deadline, look(args, &manifest, entry)) => {
            done.unwrap_or_else(|_| Err(late(deadline)))
        }
    };
    let record =
        record.map_err(|failed| Failure { phase: None, ..failed }.with_model(entry.key()))?;
    let line = record.to_termination_message().map_err(|error| unwritable(&error))?;
    failure::replace(&args.termination_log, &line).map_err(|error| {
        let path = args.termination_log.display();
        Failure::new(Reason::Internal, format!("{path} cannot be written: {error}"))
    })?;
    tracing::info!(model = %record.model, digest = record.digest, pin = record.pin, "resolved");
    Ok(())
}

/// The last words of this command: a pod has a container for each model, and all of them share
/// what the kubelet keeps.
pub fn last_words(failed: &Failure) -> String {
    failed.to_message_within(RESOLVE_RECORD_LIMIT)
}

fn entry<'a>(manifest: &'a Manifest, key: &ModelKey) -> Result<&'a ModelEntry, Failure> {
    manifest.models.iter().find(|entry| entry.key() == *key).ok_or_else(|| {
        let there: Vec<String> =
            manifest.models.iter().map(|entry| entry.key().to_string()).collect();
        let message = format!("the manifest has no model {key}; it has {}", there.join(", "));
        Failure::new(Reason::ArgumentsInvalid, message)
    })
}

async fn look(
    args: &ResolveArgs,
    manifest: &Manifest,
    entry: &ModelEntry,
) -> Result<ResolveRecord, Failure> {
    let of_artifact = |error| failure::of_artifact(&error);
    let location = Location::parse(&entry.source.uri).map_err(of_artifact)?;
    let expected: Option<Digest> =
        entry.expected_digest.as_ref().map(|text| text.parse()).transpose().map_err(of_artifact)?;
    let places = Places {
        cache: args.cache_dir.clone().unwrap_or_default(),
        claims: args.claims_dir.clone(),
        image: entry.source.image.clone().map(PathBuf::from),
        credentials: entry.source.credentials.clone().map(PathBuf::from),
        user: Some(manifest.user()),
    };
    let unsummed = if args.cache_dir.is_some() { Unsummed::Keep } else { Unsummed::Drop };
    let progress = progress::Logged::new(&entry.key());
    let resolved = lamplighter_artifact::resolve(
        &location,
        &entry.name,
        &entry.version,
        expected.as_ref(),
        &places,
        unsummed,
        &progress,
    )
    .await
    .map_err(of_artifact)?;
    let (key, task) = (entry.key(), entry.task);
    tokio::task::spawn_blocking(move || {
        try_settings(&resolved.settings)?;
        describe(key, task, &resolved)
    })
    .await
    .map_err(|lost| failure::of_lost_task(&lost))?
}

/// Whether the engine can be configured by the artifact. It reads all settings before it takes
/// the first of the weights; given none, it gets as far as to miss one.
fn try_settings(settings: &BTreeMap<String, Vec<u8>>) -> Result<(), Failure> {
    let folder = tempfile::tempdir().map_err(|error| no_scratch(&error))?;
    for (path, content) in settings {
        write(&folder.path().join(path), content).map_err(|error| no_scratch(&error))?;
    }
    let nothing = read(folder.path(), &[], &|_| {});
    match nothing.and_then(|weights| build(weights, folder.path())) {
        Ok(_) | Err(EngineError::TensorMissing { .. }) => Ok(()),
        Err(error) => Err(failure::of_engine(&error, Phase::Build)),
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, content)
}

/// What of `config.json` tells models apart.
#[derive(Deserialize)]
struct Config {
    architectures: Vec<String>,
    num_hidden_layers: u64,
    hidden_size: u64,
    vocab_size: u64,
}

fn describe(model: ModelKey, task: Task, resolved: &Resolved) -> Result<ResolveRecord, Failure> {
    let invalid = |problem: String| Failure {
        file: Some("config.json".to_owned()),
        ..Failure::new(Reason::ConfigInvalid, format!("config.json cannot be used: {problem}"))
    };
    let json = resolved.settings.get("config.json").map_or(&[][..], Vec::as_slice);
    let config: Config =
        serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
    let architecture = config.architectures.into_iter().next();
    Ok(ResolveRecord {
        model,
        task,
        architecture: architecture.ok_or_else(|| invalid("it names no architecture".to_owned()))?,
        layers: config.num_hidden_layers,
        hidden: config.hidden_size,
        vocabulary: config.vocab_size,
        dimensions: match task {
            // The engine pools tokens' vectors and does not project them.
            Task::Embedding => config.hidden_size,
        },
        dtype: resolved.weights.dtype().unwrap_or_default(),
        parameters: resolved.weights.parameters(),
        bytes: resolved.bytes,
        tokenizer_digest: format!("sha256:{}", resolved.tokenizer),
        digest: resolved.digest.to_string(),
        pin: resolved.pin.to_string(),
    })
}

fn stopped() -> Failure {
    let message = "told to stop before the artifact was resolved; resolving begins anew";
    Failure::new(Reason::DownloadFailed, message)
}

fn late(deadline: Duration) -> Failure {
    let message = format!(
        "the artifact was not resolved within {} s; write a SHA256SUMS beside its files, so that \
         the weights need not be read, or give the worker a cache",
        deadline.as_secs()
    );
    Failure::new(Reason::StartDeadlineExceeded, message)
}

fn no_scratch(error: &io::Error) -> Failure {
    let folder = std::env::temp_dir();
    let message = format!("{} cannot be written: {error}", folder.display());
    Failure::new(Reason::DiskFull, message)
}

fn unwritable(error: &ResolveRecordError) -> Failure {
    let reason = match error {
        ResolveRecordError::Field { field, .. } => match field {
            ResolveField::Name | ResolveField::Version => Reason::ManifestInvalid,
            ResolveField::Architecture => Reason::UnsupportedArchitecture,
            ResolveField::Dtype => Reason::UnsupportedDtype,
            ResolveField::Digest => Reason::Internal,
        },
        ResolveRecordError::Unprintable { .. } => Reason::Internal,
    };
    Failure::new(reason, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_does_not_fit_has_a_reason_of_its_own() {
        for (field, reason) in [
            (ResolveField::Name, Reason::ManifestInvalid),
            (ResolveField::Version, Reason::ManifestInvalid),
            (ResolveField::Architecture, Reason::UnsupportedArchitecture),
            (ResolveField::Dtype, Reason::UnsupportedDtype),
            (ResolveField::Digest, Reason::Internal),
        ] {
            let error = ResolveRecordError::Field { field, limit: 1, found: "x".to_owned() };
            assert_eq!(unwritable(&error).reason, reason);
        }
    }
}
