//! Which folders of an artifact belong to modules of sentence-transformers.

use serde::Deserialize;

use crate::error::ArtifactError;
use crate::structure::Files;

/// The modules in the order in which they run
/// (<https://github.com/huggingface/sentence-transformers/blob/v6.2.0/sentence_transformers/base/model.py>).
const MODULES_FILE: &str = "modules.json";
/// A list of a few names; a file of this size is something else.
const MAX_MODULES: u64 = 1_000_000;

/// The folders below the artifact's root that its modules have, each once, in their order. Whether
/// the modules can be run is not looked at here.
pub(crate) fn read(files: &dyn Files) -> Result<Vec<String>, ArtifactError> {
    #[derive(Deserialize)]
    struct Module {
        path: String,
    }

    let Some(size) = files.size(MODULES_FILE) else {
        return Ok(Vec::new());
    };
    let invalid =
        |problem: String| ArtifactError::ConfigInvalid { file: MODULES_FILE.to_owned(), problem };
    if size > MAX_MODULES {
        return Err(invalid(format!("it has {size} bytes")));
    }
    let modules: Vec<Module> = serde_json::from_slice(&files.whole(MODULES_FILE)?)
        .map_err(|error| invalid(error.to_string()))?;
    let mut folders: Vec<String> = Vec::new();
    for Module { path } in modules {
        if !path.is_empty() && !folders.contains(&path) {
            folders.push(path);
        }
    }
    Ok(folders)
}
