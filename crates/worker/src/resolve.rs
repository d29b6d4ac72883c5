//! `lamplighter-worker resolve`: what an artifact is, before a device or an old pod is touched.
//!
//! The answer is one line of JSON in the container's termination message, a
//! [`ResolveRecord`]; so is the reason if there is no answer.

mod look;
mod people;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use lamplighter_artifact::Places;
use lamplighter_protocol::place::RESOLVE_RECORD_LIMIT;
use lamplighter_protocol::{
    Failure, Manifest, ModelEntry, ModelKey, Reason, ResolveField, ResolveRecord,
    ResolveRecordError,
};
use tokio_util::sync::CancellationToken;

use crate::cli::ResolveArgs;
use crate::{failure, manifest};
use look::{Sought, look};

/// Looks at artifacts: at that of one model of a manifest, whose record is left in the termination
/// log, or at those of addresses, for people.
pub async fn resolve(args: &ResolveArgs, stop: CancellationToken) -> Result<(), Failure> {
    if !args.uris.is_empty() {
        return people::resolve(args, stop).await;
    }
    let model = args.model.as_ref().ok_or_else(|| {
        let message = "say which model of the manifest, or give an address: \
                       lamplighter-worker resolve s3://bucket/prefix";
        Failure::new(Reason::ArgumentsInvalid, message)
    })?;
    let manifest = manifest::read(&args.manifest)?;
    let entry = entry(&manifest, model)?;
    let deadline = args.resolve_deadline_seconds;
    let record = tokio::select! {
        biased;
        () = stop.cancelled() => Err(stopped()),
        done = tokio::time::timeout(deadline, look_at(args, &manifest, entry)) => {
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

async fn look_at(
    args: &ResolveArgs,
    manifest: &Manifest,
    entry: &ModelEntry,
) -> Result<ResolveRecord, Failure> {
    let sought = Sought {
        uri: &entry.source.uri,
        key: entry.key(),
        task: Some(entry.task),
        expected: entry.expected_digest.as_deref(),
        is_kept: args.cache_dir.is_some(),
        places: Places {
            cache: args.cache_dir.clone().unwrap_or_default(),
            claims: args.claims_dir.clone(),
            image: entry.source.image.clone().map(PathBuf::from),
            credentials: entry.source.credentials.clone().map(PathBuf::from),
            user: Some(manifest.user()),
            ..Places::default()
        },
    };
    look(sought).await
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

fn unwritable(error: &ResolveRecordError) -> Failure {
    let reason = match error {
        ResolveRecordError::Field { field, .. } => match field {
            ResolveField::Name | ResolveField::Version => Reason::ManifestInvalid,
            ResolveField::Architecture | ResolveField::ModelType => Reason::UnsupportedArchitecture,
            ResolveField::Pooling => Reason::PoolingUnknown,
            ResolveField::Dtype => Reason::UnsupportedDtype,
            ResolveField::Digest | ResolveField::Commit => Reason::Internal,
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
