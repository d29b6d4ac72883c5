//! A small artifact, and what is done with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use lamplighter_artifact::{
    Artifact, ArtifactError, Location, Places, Progress, Resolved, Unsummed, fetch, resolve, verify,
};
use sha2::Digest as _;

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) const WEIGHTS: &str = "model.safetensors";
/// More than one request fetches.
pub(crate) const TENSOR: usize = (8 << 20) + 12_345;

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) total: AtomicU64,
    pub(crate) added: AtomicU64,
}

impl Counts {
    pub(crate) fn get(&self) -> (u64, u64) {
        (self.total.load(Ordering::Relaxed), self.added.load(Ordering::Relaxed))
    }
}

impl Progress for Counts {
    fn total(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) {
        self.added.fetch_add(bytes, Ordering::Relaxed);
    }
}

pub(crate) fn files() -> Files {
    let header =
        format!(r#"{{"a":{{"dtype":"U8","shape":[{TENSOR}],"data_offsets":[0,{TENSOR}]}}}}"#);
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend(header.as_bytes());
    weights.extend((0..TENSOR).map(|index| u8::try_from(index * 7 % 251).unwrap()));
    let files: [(&str, &[u8]); 6] = [
        ("config.json", br#"{"hidden_size": 4}"#),
        ("tokenizer.json", br#"{"model": {}}"#),
        ("1_Pooling/config.json", b"{}"),
        ("README.md", b"read me"),
        ("a b+c%20.txt", b"a name that has to be encoded"),
        (WEIGHTS, &weights),
    ];
    files.into_iter().map(|(path, content)| (path.to_owned(), content.to_vec())).collect()
}

pub(crate) fn hex(content: &[u8]) -> String {
    sha2::Sha256::digest(content).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// As `sha256sum` prints it.
pub(crate) fn sums(files: &Files) -> Vec<u8> {
    let lines = files.iter().map(|(path, content)| format!("{}  {path}\n", hex(content)));
    lines.collect::<String>().into_bytes()
}

/// A cache and credentials for one address.
pub(crate) struct Scene {
    folder: tempfile::TempDir,
    location: Location,
    places: Places,
}

impl Scene {
    /// `settings` are the files of the credentials folder.
    pub(crate) fn new(uri: &str, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let credentials = folder.path().join("credentials");
        fs::create_dir(&credentials).unwrap();
        for (name, value) in settings {
            fs::write(credentials.join(name), value).unwrap();
        }
        let places = Places {
            cache: folder.path().join("cache"),
            credentials: (!settings.is_empty()).then_some(credentials),
            ..Places::default()
        };
        Self { folder, location: Location::parse(uri).unwrap(), places }
    }

    pub(crate) async fn load(&self, counts: &Counts) -> Result<Artifact, ArtifactError> {
        let fetched = fetch(&self.location, "minilm", "1", None, &self.places, counts).await?;
        verify(fetched, None, counts).await
    }

    /// As a pod does that is held to what was resolved, with a cache of its own.
    pub(crate) async fn load_pinned(
        &self,
        resolved: &Resolved,
        commit: Option<&str>,
    ) -> Result<Artifact, ArtifactError> {
        let location = match commit {
            Some(commit) => self.location.clone().at(commit),
            None => self.location.clone(),
        };
        let (counts, digest) = (Counts::default(), Some(&resolved.digest));
        let fetched = fetch(&location, "minilm", "1", digest, &self.places, &counts).await?;
        verify(fetched, digest, &counts).await
    }

    pub(crate) async fn look(&self, counts: &Counts) -> Result<Resolved, ArtifactError> {
        let drop = Unsummed::Drop;
        resolve(&self.location, "minilm", "1", None, &self.places, drop, counts).await
    }

    /// The visible entries of the cache's shelf.
    pub(crate) fn visible(&self) -> Vec<PathBuf> {
        let folder = self.folder.path().join("cache/minilm/1");
        let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        entries.filter(|path| !name(path).starts_with('.')).collect()
    }
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Whether an artifact is just these files.
pub(crate) fn assert_is(artifact: &Artifact, files: &Files) {
    let found: Vec<&str> = artifact.files.iter().map(|file| file.path.as_str()).collect();
    let expected: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(found, expected);
    for (path, content) in files {
        assert!(fs::read(artifact.root.join(path)).unwrap() == *content, "{path} differs");
    }
}
