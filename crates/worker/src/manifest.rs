//! Reading the manifest that the operator mounts.

use std::path::Path;

use lamplighter_protocol::{Failure, Manifest, Reason};

/// The manifest of this file. The failure names the file.
pub(crate) fn read(path: &Path) -> Result<Manifest, Failure> {
    let invalid = |problem: String| Failure {
        file: Some(path.display().to_string()),
        ..Failure::new(Reason::ManifestInvalid, problem)
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| invalid(format!("{} cannot be read: {error}", path.display())))?;
    Manifest::from_json(&text).map_err(|error| invalid(error.to_string()))
}
