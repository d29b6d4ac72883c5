//! From an address to files on this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Progress;
use crate::digest::Digest;
use crate::download;
use crate::error::ArtifactError;
use crate::folder::Folder;
use crate::location::Location;
use crate::publish::{Origin, Published, Shelf};
use crate::s3;
use crate::store::{PATIENCE, Remote};

/// Where this machine keeps things.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Places {
    /// Where downloads are kept, as `<name>/<version>/<identity of the listing>/`. May be shared
    /// by several processes, on several machines.
    pub cache: PathBuf,
    /// Where claims are mounted, each in a folder of its name.
    pub claims: PathBuf,
    /// A folder with one file per setting of the store, named like the environment variables
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION` and
    /// `AWS_ENDPOINT_URL`. What it does not hold is taken from the environment.
    pub credentials: Option<PathBuf>,
}

/// Files that have been brought to this machine and not been looked at yet.
#[derive(Debug)]
pub struct Fetched {
    pub(crate) folder: Folder,
    pub(crate) sums: Sums,
}

/// What is known of the files' sums.
#[derive(Debug)]
pub(crate) enum Sums {
    /// Nothing: the files lie where their owner put them.
    Unknown,
    /// They were summed while they were written just now.
    Fresh(Arc<Published>),
    /// They were summed when they were written, some time ago.
    Recorded(Arc<Published>),
}

impl Fetched {
    /// The folder that the files are in.
    pub fn root(&self) -> &Path {
        &self.folder.root
    }
}

/// Brings the files of `model` in `version` to this machine.
///
/// A folder of the image or of a claim is used where it is. Objects of a store are downloaded
/// into the cache and appear there all at once, complete; copies of other contents that nobody
/// uses any more are then removed. A copy that is there already is used again as long as the
/// store lists the same objects. While the store cannot be reached, a copy is used only if it is
/// known to be right: if its digest is the `expected` one. A fetch that is interrupted, by an
/// error or by dropping the future, leaves nothing behind.
///
/// A cached copy is in use, and not removed by others, until the last of the [`Fetched`] and the
/// artifacts made of it is dropped.
pub async fn fetch(
    location: &Location,
    model: &str,
    version: &str,
    expected: Option<&Digest>,
    places: &Places,
    progress: &dyn Progress,
) -> Result<Fetched, ArtifactError> {
    match place(location, places).await? {
        Place::Folder(folder) => Ok(Fetched { folder, sums: Sums::Unknown }),
        Place::Store(remote) => {
            let shelf = Shelf::new(&places.cache, model, version)?;
            download::fetch(&remote, &shelf, expected, progress).await
        }
    }
}

/// Where files are, ready to be read.
pub(crate) enum Place {
    Folder(Folder),
    Store(Remote),
}

/// Opens a folder, or prepares to ask a store, to which nothing is sent yet.
pub(crate) async fn place(location: &Location, places: &Places) -> Result<Place, ArtifactError> {
    let (root, volume) = match location {
        Location::Image { path } => (path.clone(), PathBuf::from("/")),
        Location::Claim { claim, path } => {
            let volume = places.claims.join(claim);
            (volume.join(path), volume)
        }
        Location::S3 { bucket, prefix } => {
            let settings = s3::Settings::read(places.credentials.as_deref(), &|name| {
                std::env::var(name).ok().filter(|value| !value.is_empty())
            })?;
            return Ok(Place::Store(Remote {
                store: settings.connect(bucket)?,
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                origin: Origin { store: settings.store(), uri: location.to_string() },
                patience: PATIENCE,
            }));
        }
    };
    let uri = location.to_string();
    let open = move || Folder::open(&root, &volume, &uri);
    Ok(Place::Folder(tokio::task::spawn_blocking(open).await??))
}
