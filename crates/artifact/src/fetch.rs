//! From an address to files on this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Progress;
use crate::budget::Budget;
use crate::cache::{self, Published, Shelf};
use crate::digest::Digest;
use crate::error::ArtifactError;
use crate::folder::Folder;
use crate::location::Location;
use crate::source::Remote;

/// Where this machine keeps things.
#[derive(Clone, Debug)]
pub struct Places {
    /// Where downloads are kept, as `<name>/<version>/<digest>/`. May be shared by several
    /// processes, on several machines.
    pub cache: PathBuf,
    /// Where claims are mounted, each in a folder of its name.
    pub claims: PathBuf,
    /// Where the image of an `oci://` address is mounted; none where it is not.
    pub image: Option<PathBuf>,
    /// A folder with one file per setting of the store, named like the environment variables of
    /// the store's own tools (`AWS_ACCESS_KEY_ID`, `HF_TOKEN`, …), and `ca.crt`. What it does not
    /// hold is taken from the environment.
    pub credentials: Option<PathBuf>,
    /// Who relies on what is fetched, as a file name: a cached copy that somebody relies on is
    /// not removed from the cache. None leaves no trace.
    pub user: Option<String>,
    /// Bytes that may be in memory on their way into the cache, of all fetches that share it.
    pub in_flight: Arc<Budget>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            cache: PathBuf::new(),
            claims: PathBuf::new(),
            image: None,
            credentials: None,
            user: None,
            in_flight: Arc::new(Budget::for_downloads()),
        }
    }
}

/// Files that have been brought to this machine and not been looked at yet.
#[derive(Debug)]
pub struct Fetched {
    pub(crate) folder: Folder,
    pub(crate) sums: Sums,
    /// A golden file that is newer than the one among the files.
    pub(crate) golden: Option<PathBuf>,
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
/// A folder of an image or of a claim is used where it is. Files of a store are downloaded into
/// the cache and appear there all at once, complete. A copy that is there already is used again:
/// whatever the store says if it has the `expected` digest, else as long as the store lists the
/// same files. Of a copy with the expected digest, the store is only asked, for a few seconds,
/// whether there is another golden file for it, which is then kept beside the copy. A download that is interrupted, by an error or by dropping the future, is gone on
/// with by the next call, of whatever process; two at the same time download once.
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
        Place::Folder(folder) => Ok(Fetched { folder, sums: Sums::Unknown, golden: None }),
        Place::Store(remote) => {
            let shelf = Shelf::new(&places.cache, model, version)?;
            let fetched = cache::fetch(&remote, &shelf, expected, progress).await?;
            note_user(&shelf, &fetched, places.user.as_deref());
            Ok(fetched)
        }
    }
}

/// That it cannot be noted costs a download at worst.
pub(crate) fn note_user(shelf: &Shelf, fetched: &Fetched, user: Option<&str>) {
    let (Some(user), Sums::Fresh(published) | Sums::Recorded(published)) = (user, &fetched.sums)
    else {
        return;
    };
    if let Err(error) = shelf.note_user(published, user) {
        tracing::warn!(user, %error, "the cache does not know that this copy is relied on");
    }
}

/// Where files are, ready to be read.
pub(crate) enum Place {
    Folder(Folder),
    Store(Remote),
}

/// Opens a folder, or prepares to ask a store, to which nothing is sent yet.
pub(crate) async fn place(location: &Location, places: &Places) -> Result<Place, ArtifactError> {
    if let Some(remote) = Remote::open(location, places.credentials.as_deref())? {
        let in_flight = Arc::clone(&places.in_flight);
        return Ok(Place::Store(Remote { in_flight, ..remote }));
    }
    let (root, volume) = match location {
        Location::Claim { claim, path } => {
            let volume = places.claims.join(claim);
            (volume.join(path), volume)
        }
        Location::Oci { path, .. } => {
            let volume = places
                .image
                .clone()
                .ok_or_else(|| ArtifactError::NotMounted { uri: location.to_string() })?;
            (volume.join(path), volume)
        }
        Location::Image { path } => (path.clone(), PathBuf::from("/")),
        Location::S3 { .. }
        | Location::Gcs { .. }
        | Location::Azure { .. }
        | Location::Https { .. }
        | Location::Hub { .. } => {
            return Err(ArtifactError::NotMounted { uri: location.to_string() });
        }
    };
    let uri = location.to_string();
    let open = move || Folder::open(&root, &volume, &uri);
    Ok(Place::Folder(tokio::task::spawn_blocking(open).await??))
}
