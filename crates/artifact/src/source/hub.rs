//! `hf://`: a repository of the Hugging Face Hub, or of what speaks its language
//! (<https://huggingface.co/docs/hub/api>).

use std::ops::Range;
use std::path::Path;

use futures::future::{BoxFuture, FutureExt as _};
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::client::client;
use super::https::{below, secret_header};
use super::settings::{Environment, Settings};
use super::web::{Refusal, Wanted, Web};
use super::{Activity, Author, Body, Listing, Object, Source, Stated, check_length};
use crate::digest::Sha256Sum;
use crate::error::ArtifactError;

const TOKEN: &str = "HF_TOKEN";
const ENDPOINT: &str = "HF_ENDPOINT";
const NAMES: [&str; 2] = [TOKEN, ENDPOINT];
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Ten thousand files with their sums need less.
const MAX_LISTING: usize = 16 << 20;

/// Weights for other programs, which would be downloaded for nothing. They are left out only
/// where there are safetensors: without, the pickle that cannot be used is to be named.
const FOREIGN: [&str; 17] = [
    "bin",
    "pt",
    "pth",
    "pkl",
    "pickle",
    "ckpt",
    "h5",
    "hdf5",
    "keras",
    "msgpack",
    "ot",
    "onnx",
    "onnx_data",
    "gguf",
    "ggml",
    "tflite",
    "mlmodel",
];
/// Folders of exports for other programs, with configurations of their own.
const FOREIGN_FOLDERS: [&str; 4] = ["onnx", "openvino", "coreml", "gguf"];

/// A repository at a revision.
struct Hub {
    web: Web,
    endpoint: Url,
    repository: String,
    revision: String,
}

/// A client for a repository, and the Hub's address. Nothing is sent yet.
pub(super) fn open(
    repository: &str,
    revision: &str,
    credentials: Option<&Path>,
    environment: Environment<'_>,
) -> Result<(Box<dyn Source>, String), ArtifactError> {
    let settings = Settings::read(credentials, &NAMES, environment)?;
    let store = settings.endpoint(ENDPOINT)?.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
    let endpoint = Url::parse(&store).map_err(|error| ArtifactError::SettingInvalid {
        setting: ENDPOINT.to_owned(),
        problem: error.to_string(),
    })?;
    let headers = match settings.get(TOKEN) {
        None => HeaderMap::new(),
        Some(token) => secret_header(TOKEN, &format!("Bearer {token}"))?,
    };
    let uri = format!("hf://{repository}@{revision}");
    let hub = Hub {
        web: Web::new(client(&settings, &store)?, headers, uri),
        endpoint,
        repository: repository.to_owned(),
        revision: revision.to_owned(),
    };
    Ok((Box::new(hub), store))
}

/// What the Hub says about a repository at a revision.
#[derive(Deserialize)]
struct Revision {
    /// The commit that the revision stands for now.
    sha: String,
    siblings: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "rfilename")]
    path: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob: Option<String>,
    lfs: Option<Large>,
}

/// A file that is not in the repository itself: its sum is.
#[derive(Deserialize)]
struct Large {
    sha256: Sha256Sum,
    size: u64,
}

impl Source for Hub {
    fn list<'a>(&'a self, activity: &'a Activity) -> BoxFuture<'a, Result<Listing, ArtifactError>> {
        self.list_revision(activity).boxed()
    }

    fn read<'a>(
        &'a self,
        object: &'a Object,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Body<'a>, ArtifactError>> {
        // The tag of an answer is that of the storage it came from, not the repository's; the
        // commit in the address makes sure of the contents.
        let wanted = Wanted { path: &object.path, size: object.size, e_tag: None };
        let commit = object.commit.as_deref().unwrap_or(&self.revision);
        let path = format!("{}/resolve/{commit}/{}", self.repository, object.path);
        let body = self.url(&path).map(|url| self.web.body(url, wanted, range));
        async move { body }.boxed()
    }
}

impl Hub {
    async fn list_revision(&self, activity: &Activity) -> Result<Listing, ArtifactError> {
        // A revision such as refs/pr/1 is one component.
        let mut url = self.url(&format!("api/models/{}/revision", self.repository))?;
        url.path_segments_mut()
            .map_err(|()| self.unusable("its address is none of the web"))?
            .push(&self.revision);
        url.set_query(Some("blobs=true"));
        let json = match self.web.document(&url, MAX_LISTING).await {
            Ok(json) => json,
            // To somebody unknown the Hub does not say whether there is such a repository.
            Err(Refusal::Status { status: StatusCode::UNAUTHORIZED, words })
                if self.web.headers.is_empty() =>
            {
                let found = format!(
                    "{words}; there is no such repository, or it is to be read with {TOKEN}"
                );
                return Err(ArtifactError::AuthDenied { uri: self.web.uri.clone(), found });
            }
            Err(refusal) => return Err(self.web.error(None, refusal)),
        };
        activity.heard(json.len() as u64);
        let revision: Revision =
            serde_json::from_slice(&json).map_err(|error| self.unusable(&error.to_string()))?;
        check_length(&self.web.uri, revision.siblings.len())?;
        let is_commit =
            !revision.sha.is_empty() && revision.sha.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_commit {
            return Err(self.unusable(&format!("{:?} is no commit", revision.sha)));
        }
        let files = without_foreign(revision.siblings);
        let objects = files
            .into_iter()
            .map(|file| self.object(&revision.sha, file))
            .collect::<Result<_, _>>()?;
        Ok(Listing { objects, commit: Some(revision.sha) })
    }

    fn object(&self, commit: &str, file: File) -> Result<Object, ArtifactError> {
        let File { path, size, blob, lfs } = file;
        let size = lfs
            .as_ref()
            .map(|large| large.size)
            .or(size)
            .ok_or_else(|| self.unusable(&format!("it does not say how long {path} is")))?;
        Ok(Object {
            path,
            size,
            commit: Some(commit.to_owned()),
            e_tag: blob,
            sha256: lfs.map(|large| Stated { sum: large.sha256, by: Author::Store }),
            ..Object::default()
        })
    }

    fn url(&self, path: &str) -> Result<Url, ArtifactError> {
        below(&self.endpoint, path).ok_or_else(|| ArtifactError::PathRefused {
            uri: self.web.uri.clone(),
            path: path.to_owned(),
            problem: "it cannot be part of a web address",
        })
    }

    fn unusable(&self, problem: &str) -> ArtifactError {
        ArtifactError::Download {
            uri: self.web.uri.clone(),
            found: format!("what {} says about it cannot be used: {problem}", self.endpoint),
        }
    }
}

/// The files without weights for other programs, if there are weights for this one.
fn without_foreign(files: Vec<File>) -> Vec<File> {
    let is_safe = |file: &File| {
        !file.path.contains('/') && extension(&file.path).as_deref() == Some("safetensors")
    };
    if !files.iter().any(is_safe) {
        return files;
    }
    files.into_iter().filter(|file| !is_foreign(&file.path)).collect()
}

/// Whether a file is for other programs.
pub(crate) fn is_foreign(path: &str) -> bool {
    path.split_once('/').is_some_and(|(folder, _)| FOREIGN_FOLDERS.contains(&folder))
        || extension(path).is_some_and(|found| FOREIGN.contains(&found.as_str()))
        || path.ends_with(".bin.index.json")
}

fn extension(path: &str) -> Option<String> {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    extension.map(str::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> Vec<File> {
        let file =
            |path: &&str| File { path: (*path).to_owned(), size: Some(1), blob: None, lfs: None };
        paths.iter().map(file).collect()
    }

    fn kept(paths: &[&str]) -> Vec<String> {
        without_foreign(files(paths)).into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn weights_for_other_programs_are_left_out_where_there_are_safetensors() {
        let rest = ["config.json", "1_Pooling/config.json", "model.safetensors", "vocab.txt"];
        let foreign = [
            "pytorch_model.bin",
            "tf_model.h5",
            "onnx/model.onnx",
            "onnx/config.json",
            "openvino/openvino_model.xml",
            "rust_model.ot",
            "pytorch_model.bin.index.json",
        ];
        assert_eq!(kept(&[&rest[..], &foreign].concat()), rest);
        let only = ["config.json", "pytorch_model.bin", "onnx/model.safetensors"];
        assert_eq!(kept(&only), only, "the pickle is to be named");
    }
}
