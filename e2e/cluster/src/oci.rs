//! Container images without a container engine: an OCI image layout in a tar file.
//!
//! The same description always gives the same bytes: entries are sorted, times and owners
//! are fixed. The one layer is not compressed, because the file never leaves the machine.

mod closure;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::error::Error;

pub use closure::{base_files, binary_closure, closure_with};

/// An image to be written.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Its name in the cluster, as in a pod's `image`.
    pub reference: String,
    /// What it holds. Missing parent folders are added.
    pub files: Vec<ImageFile>,
    /// The program to run, with its arguments. Empty for an image that is only mounted.
    pub entrypoint: Vec<String>,
    /// The user to run as, for example `65532:65532`; root when empty.
    pub user: String,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Labels of the image's configuration.
    pub labels: BTreeMap<String, String>,
}

/// One entry of an image.
#[derive(Debug, Clone)]
pub struct ImageFile {
    /// The absolute path in the image.
    pub path: PathBuf,
    /// What is there.
    pub content: Content,
    /// The permission bits.
    pub mode: u32,
}

/// The content of an image's entry.
#[derive(Debug, Clone)]
pub enum Content {
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// A file with the bytes that this file of the machine has.
    Host(PathBuf),
    /// A symbolic link.
    Link(PathBuf),
    /// A folder.
    Folder,
}

impl ImageFile {
    /// A program, copied from the machine.
    pub fn program(path: impl Into<PathBuf>, host: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), content: Content::Host(host.into()), mode: 0o755 }
    }

    /// A readable file, copied from the machine.
    pub fn copy(path: impl Into<PathBuf>, host: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), content: Content::Host(host.into()), mode: 0o644 }
    }

    /// A readable file with these bytes.
    pub fn bytes(path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), content: Content::Bytes(bytes.into()), mode: 0o644 }
    }
}

impl Image {
    /// Writes the image to a tar file that `ctr images import` and `skopeo` read. Returns
    /// the digest of its manifest, `sha256:…`.
    pub fn write(&self, path: &Path) -> Result<String, Error> {
        let cannot_write = || Error::file("write", path);
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;

        let mut layer_file = tempfile::tempfile_in(folder).map_err(cannot_write())?;
        let layer = self.write_layer(&mut layer_file)?;
        let config = Blob::json(CONFIG, &self.config(&layer.digest));
        let manifest = Blob::json(
            MANIFEST,
            &json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config.descriptor(),
                "layers": [layer.descriptor()],
            }),
        );
        let mut listed = manifest.descriptor();
        listed["annotations"] = json!({ "io.containerd.image.name": self.reference });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [listed] });

        // Written beside its place and renamed, so that a reader never sees half of it.
        let unfinished = tempfile::NamedTempFile::new_in(folder).map_err(cannot_write())?;
        let mut tar = tar::Builder::new(io::BufWriter::new(unfinished));
        let mut add = |name: &str, size: u64, data: &mut dyn io::Read| {
            let mut header = header(tar::EntryType::Regular, 0o644, size);
            tar.append_data(&mut header, name, data)
        };
        let mut add_all = || {
            let marker = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
            add("oci-layout", marker.len() as u64, &mut marker.as_bytes())?;
            let index = index.to_string();
            add("index.json", index.len() as u64, &mut index.as_bytes())?;
            for blob in [&config, &manifest] {
                add(&blob.path(), blob.size, &mut blob.bytes.as_slice())?;
            }
            layer_file.rewind()?;
            add(&layer.path(), layer.size, &mut layer_file)
        };
        add_all().map_err(cannot_write())?;
        let written = tar.into_inner().map_err(cannot_write())?;
        let written = written.into_inner().map_err(|e| cannot_write()(e.into_error()))?;
        written.persist(path).map_err(|e| cannot_write()(e.error))?;
        Ok(manifest.digest)
    }

    fn config(&self, diff_id: &str) -> serde_json::Value {
        let env: Vec<String> =
            self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "User": self.user,
                "Env": env,
                "Entrypoint": self.entrypoint,
                "Labels": self.labels,
                "WorkingDir": "/",
            },
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        })
    }

    fn write_layer(&self, into: &mut File) -> Result<Blob, Error> {
        let sink = Hashed { inner: io::BufWriter::new(into), hash: Sha256::new(), size: 0 };
        let mut tar = tar::Builder::new(sink);
        for (path, entry) in self.entries()? {
            append(&mut tar, &path, &entry)?;
        }
        let failed = |source| Error::file("write", Path::new("the image's layer"))(source);
        let mut sink = tar.into_inner().map_err(failed)?;
        sink.flush().map_err(failed)?;
        Ok(Blob {
            media_type: LAYER,
            digest: format!("sha256:{}", hex(&sink.hash.finalize())),
            size: sink.size,
            bytes: Vec::new(),
        })
    }

    /// All entries by their path in the tar, sorted, so that folders come before what they
    /// hold. Of two entries for one path the later wins.
    fn entries(&self) -> Result<BTreeMap<PathBuf, ImageFile>, Error> {
        let mut entries = BTreeMap::new();
        for file in &self.files {
            let Ok(relative) = file.path.strip_prefix("/") else {
                return Err(self.refuse(format!("{} is not absolute", file.path.display())));
            };
            let plain =
                relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            if !plain || relative.as_os_str().is_empty() {
                return Err(self.refuse(format!("{} is not a plain path", file.path.display())));
            }
            entries.insert(relative.to_owned(), file.clone());
        }
        let parents: Vec<PathBuf> =
            entries.keys().flat_map(|path| path.ancestors().skip(1)).map(Path::to_owned).collect();
        for parent in parents.into_iter().filter(|parent| !parent.as_os_str().is_empty()) {
            let folder = ImageFile { path: parent.clone(), content: Content::Folder, mode: 0o755 };
            entries.entry(parent).or_insert(folder);
        }
        Ok(entries)
    }

    fn refuse(&self, why: String) -> Error {
        Error::Image { reference: self.reference.clone(), why }
    }
}

fn append(tar: &mut tar::Builder<impl Write>, path: &Path, entry: &ImageFile) -> Result<(), Error> {
    let outcome = match &entry.content {
        Content::Bytes(bytes) => {
            let mut header = header(tar::EntryType::Regular, entry.mode, bytes.len() as u64);
            tar.append_data(&mut header, path, bytes.as_slice())
        }
        Content::Host(host) => {
            let file = File::open(host).map_err(Error::file("read", host))?;
            let size = file.metadata().map_err(Error::file("read", host))?.len();
            let mut header = header(tar::EntryType::Regular, entry.mode, size);
            // A file that grows meanwhile must not shift what follows it.
            tar.append_data(&mut header, path, file.take(size))
        }
        Content::Link(target) => {
            let mut header = header(tar::EntryType::Symlink, 0o777, 0);
            tar.append_link(&mut header, path, target)
        }
        Content::Folder => {
            let mut header = header(tar::EntryType::Directory, entry.mode, 0);
            tar.append_data(&mut header, path, io::empty())
        }
    };
    outcome.map_err(Error::file("put into the image", &entry.path))
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

struct Blob {
    media_type: &'static str,
    digest: String,
    size: u64,
    /// Empty for the layer, which may be large and stays in its file.
    bytes: Vec<u8>,
}

impl Blob {
    fn json(media_type: &'static str, value: &serde_json::Value) -> Self {
        let bytes = value.to_string().into_bytes();
        let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
        Self { media_type, digest, size: bytes.len() as u64, bytes }
    }

    fn descriptor(&self) -> serde_json::Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size })
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }
}

/// Counts and hashes what passes through.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The architecture's name in an image.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Lowercase hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
