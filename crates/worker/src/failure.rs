//! From an error of one of the lower crates to the typed reason that survives the process.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use lamplighter_artifact::ArtifactError;
use lamplighter_engine::EngineError;
use lamplighter_protocol::{Failure, Phase, Reason};

/// What became of an artifact, as a failure.
pub fn of_artifact(error: &ArtifactError) -> Failure {
    Failure {
        file: error.file(),
        tensor: error.tensor().map(str::to_owned),
        expected: error.expected(),
        found: error.found(),
        ..Failure::new(artifact_reason(error), error.to_string())
    }
}

/// What became of a model, as a failure. Which reason a failed run has depends on its phase.
pub fn of_engine(error: &EngineError, phase: Phase) -> Failure {
    Failure {
        file: error.file(),
        tensor: error.tensor().map(str::to_owned),
        expected: error.expected(),
        found: error.found(),
        ..Failure::new(engine_reason(error, phase), error.to_string())
    }
    .with_phase(phase)
}

/// A task that panicked or was lost.
pub fn of_lost_task(error: &tokio::task::JoinError) -> Failure {
    Failure::new(Reason::Internal, format!("a bug: {error}; the log line of the panic says where"))
}

/// One error line with everything that the failure names.
pub fn log(failure: &Failure) {
    tracing::error!(
        reason = failure.reason.as_str(),
        model = failure.model.as_ref().map(tracing::field::display),
        phase = failure.phase.map(Phase::as_str),
        file = failure.file,
        tensor = failure.tensor,
        expected = failure.expected,
        found = failure.found,
        "{}",
        failure.message
    );
}

/// Writes a termination message in place of what was there. The file is the kubelet's own, which
/// cannot be replaced by renaming.
pub fn replace(path: &Path, message: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| file.write_all(message.as_bytes()))
}

fn artifact_reason(error: &ArtifactError) -> Reason {
    match error {
        ArtifactError::LocationInvalid { .. }
        | ArtifactError::SchemeUnsupported { .. }
        | ArtifactError::NotMounted { .. }
        | ArtifactError::DigestInvalid { .. } => Reason::ManifestInvalid,
        ArtifactError::NotFound { .. }
        | ArtifactError::BucketMissing { .. }
        | ArtifactError::FileMissing { .. } => Reason::ArtifactNotFound,
        ArtifactError::AuthDenied { .. } | ArtifactError::SettingInvalid { .. } => {
            Reason::AuthDenied
        }
        // A file that changed, or could not be kept, was not brought here whole.
        ArtifactError::Download { .. }
        | ArtifactError::Stalled { .. }
        | ArtifactError::ChangedMeanwhile { .. }
        | ArtifactError::CacheBusy { .. }
        | ArtifactError::Write { .. } => Reason::DownloadFailed,
        ArtifactError::Unwritable { .. } => Reason::VolumeUnwritable,
        ArtifactError::DiskFull { .. } | ArtifactError::NoRoom { .. } => Reason::DiskFull,
        // The store's bytes may be right: only this volume's copy is not.
        ArtifactError::Read { .. } | ArtifactError::CacheRotten { .. } => Reason::ReadFailed,
        ArtifactError::DigestMismatch { .. }
        | ArtifactError::SumMismatch { .. }
        | ArtifactError::ChangedSinceVerified { .. } => Reason::DigestMismatch,
        ArtifactError::Truncated { .. } => Reason::ArtifactTruncated,
        ArtifactError::HeaderInvalid { .. } => Reason::HeaderInvalid,
        ArtifactError::IndexMissingShard { .. } => Reason::IndexMissingShard,
        ArtifactError::IndexMissingTensor { .. } => Reason::TensorMissing,
        ArtifactError::UnsafeFormat { .. } | ArtifactError::PathRefused { .. } => {
            Reason::UnsafeFormat
        }
        ArtifactError::ConfigInvalid { .. }
        | ArtifactError::SumsInvalid { .. }
        | ArtifactError::IndexInvalid { .. } => Reason::ConfigInvalid,
        ArtifactError::TokenizerInvalid { .. } => Reason::TokenizerInvalid,
        ArtifactError::Internal { .. } => Reason::Internal,
    }
}

fn engine_reason(error: &EngineError, phase: Phase) -> Reason {
    match error {
        EngineError::Read { .. } => Reason::ReadFailed,
        EngineError::Truncated { .. } => Reason::ArtifactTruncated,
        EngineError::HeaderInvalid { .. } => Reason::HeaderInvalid,
        EngineError::ConfigInvalid { .. } => Reason::ConfigInvalid,
        EngineError::UnsupportedArchitecture { .. } => Reason::UnsupportedArchitecture,
        EngineError::PoolingUnknown { .. } => Reason::PoolingUnknown,
        EngineError::TensorMissing { .. } => Reason::TensorMissing,
        EngineError::TensorShapeMismatch { .. } => Reason::TensorShapeMismatch,
        EngineError::UnsupportedDtype { .. } => Reason::UnsupportedDtype,
        EngineError::WeightsNonFinite { .. } => Reason::WeightsNonFinite,
        EngineError::TokenizerInvalid { .. } => Reason::TokenizerInvalid,
        EngineError::TokenizerVocabMismatch { .. } => Reason::TokenizerVocabMismatch,
        EngineError::DeviceUnavailable { .. } => Reason::DeviceUnavailable,
        EngineError::OutputNonFinite { .. } => Reason::OutputNonFinite,
        EngineError::WarmupTimeout { .. } => Reason::WarmupTimeout,
        EngineError::GoldenInvalid { .. } | EngineError::GoldenForeign { .. } => {
            Reason::GoldenInvalid
        }
        EngineError::Run { .. } if is_out_of_memory(&error.to_string()) => Reason::OutOfMemory,
        EngineError::Run { .. }
        | EngineError::TooLong { .. }
        | EngineError::Untokenizable { .. }
        | EngineError::NoSuchOutput { .. }
        | EngineError::NoSuchDimensions { .. }
        | EngineError::BatchTooLarge { .. } => match phase {
            Phase::WarmUp => Reason::WarmupFailed,
            Phase::Validate => Reason::ValidationFailed,
            _ => Reason::Internal,
        },
    }
}

/// The device's allocator has no error type of its own that reaches us; CUDA's says
/// `CUDA_ERROR_OUT_OF_MEMORY`
/// (<https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html>).
fn is_out_of_memory(text: &str) -> bool {
    let text = text.to_ascii_lowercase().replace('_', " ");
    text.contains("out of memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_error_names_is_kept() {
        let error = EngineError::TensorShapeMismatch {
            file: "model.safetensors".to_owned(),
            tensor: "pooler".to_owned(),
            expected: vec![2, 3],
            found: vec![3, 2],
        };
        let failure = of_engine(&error, Phase::Build);
        assert_eq!(failure.reason, Reason::TensorShapeMismatch);
        assert_eq!(failure.phase, Some(Phase::Build));
        assert_eq!(failure.file.as_deref(), Some("model.safetensors"));
        assert_eq!(failure.tensor.as_deref(), Some("pooler"));
        assert_eq!(failure.expected.as_deref(), Some("[2, 3]"));
        assert_eq!(failure.found.as_deref(), Some("[3, 2]"));
    }

    #[test]
    fn a_bucket_that_is_not_there_is_an_artifact_that_is_not_found() {
        let error = ArtifactError::BucketMissing {
            uri: "s3://models/a".to_owned(),
            bucket: "models".to_owned(),
            store: "http://minio:9000".to_owned(),
            setting: "AWS_ENDPOINT_URL",
        };
        let failure = of_artifact(&error);
        assert_eq!(failure.reason, Reason::ArtifactNotFound);
        assert!(failure.message.contains("no bucket models at http://minio:9000"), "{failure}");
    }

    #[test]
    fn a_failed_run_is_named_after_its_phase_unless_memory_ran_out() {
        let run = |words: &str| EngineError::Run { source: words.into() };
        for (phase, words, expected) in [
            (Phase::WarmUp, "boom", Reason::WarmupFailed),
            (Phase::Validate, "boom", Reason::ValidationFailed),
            (Phase::Transfer, "boom", Reason::Internal),
            (Phase::WarmUp, "CUDA_ERROR_OUT_OF_MEMORY", Reason::OutOfMemory),
            (Phase::Transfer, "device: out of memory", Reason::OutOfMemory),
        ] {
            assert_eq!(of_engine(&run(words), phase).reason, expected, "{words}");
        }
    }

    #[test]
    fn the_last_words_replace_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("termination-log");
        std::fs::write(&path, "x".repeat(10_000)).unwrap();
        let failure = Failure::new(Reason::DiskFull, "no room");
        replace(&path, &failure.to_termination_message()).unwrap();
        let read = std::fs::read_to_string(&path).unwrap();
        assert_eq!(Failure::from_termination_message(&read), Some(failure));
    }
}
