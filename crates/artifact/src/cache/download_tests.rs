use std::fmt::Write as _;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt as _, RetryConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::super::journal::Journal;
use super::super::receive::{FILES_AT_A_TIME, REQUEST_BYTES, open_to_append};
use super::*;
use crate::source::{Bucket, PATIENCE};
use crate::verify;

#[path = "download_tests/answers.rs"]
mod answers;
#[path = "download_tests/interrupted.rs"]
mod interrupted;
#[path = "download_tests/undivided.rs"]
mod undivided;

const URI: &str = "s3://models/minilm";

#[derive(Default)]
struct Counts {
    total: AtomicU64,
    added: AtomicU64,
}

impl Progress for Counts {
    fn total(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) {
        self.added.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A file of one tensor of `bytes` bytes, with contents that differ from place to place.
fn safetensors(bytes: u64) -> Vec<u8> {
    let header =
        format!(r#"{{"a":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend((0..bytes).map(|index| (index * 7 % 251) as u8));
    file
}

async fn store(objects: &[(&str, Vec<u8>)]) -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    put(&store, objects).await;
    store
}

async fn put(store: &InMemory, objects: &[(&str, Vec<u8>)]) {
    for (key, content) in objects {
        store.put(&(*key).into(), content.clone().into()).await.unwrap();
    }
}

fn model(bytes: u64) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("minilm/config.json", b"{}".to_vec()),
        ("minilm/tokenizer.json", b"{}".to_vec()),
        ("minilm/1_Pooling/config.json", b"{}".to_vec()),
        ("minilm/1_Pooling/empty", Vec::new()),
        ("minilm/model.safetensors", safetensors(bytes)),
        ("minilm/golden.json", b"{}".to_vec()),
        ("minilm/.git/HEAD", b"hidden".to_vec()),
        ("minilm2/config.json", b"a neighbour".to_vec()),
    ]
}

fn origin(store: &str) -> Origin {
    Origin { store: store.to_owned(), uri: URI.to_owned() }
}

fn remote(client: Arc<dyn ObjectStore>) -> Remote {
    at("http://one", client)
}

/// The prefix of the tests in the bucket of a store.
fn at(store: &str, client: Arc<dyn ObjectStore>) -> Remote {
    let bucket = Bucket {
        client,
        name: "models".to_owned(),
        prefix: "minilm".to_owned(),
        store: store.to_owned(),
        uri: URI.to_owned(),
        endpoint: "AWS_ENDPOINT_URL",
    };
    Remote {
        source: Box::new(bucket),
        origin: origin(store),
        patience: PATIENCE,
        in_flight: Arc::new(crate::Budget::for_downloads()),
    }
}

/// As the tests that pin no digest call it.
async fn fetch(
    remote: &Remote,
    shelf: &Shelf,
    progress: &dyn Progress,
) -> Result<Fetched, ArtifactError> {
    super::fetch(remote, shelf, None, progress).await
}

fn shelf() -> (tempfile::TempDir, Shelf) {
    let cache = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(cache.path(), "minilm", "2.1.0").unwrap();
    (cache, shelf)
}

/// The same objects behind a store whose downloads never begin.
fn stuck(store: InMemory) -> Arc<dyn ObjectStore> {
    let config =
        ThrottleConfig { wait_get_per_call: Duration::from_hours(1), ..ThrottleConfig::default() };
    Arc::new(ThrottledStore::new(store, config))
}

/// The visible folders.
fn copies(shelf: &Shelf) -> usize {
    shelf.published_names().map_or(0, |names| names.len())
}

/// Everything but copies and what their listings were.
fn leftovers(shelf: &Shelf) -> Vec<String> {
    let entries = fs::read_dir(shelf.root()).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".partial-") || name.starts_with(".lock-")).collect()
}

#[tokio::test]
async fn files_arrive_whole_summed_and_counted() {
    let (_cache, shelf) = shelf();
    let bytes = 2 * REQUEST_BYTES + 12_345;
    let counts = Counts::default();
    let remote = remote(store(&model(bytes)).await);
    let fetched = fetch(&remote, &shelf, &counts).await.unwrap();
    let expected: u64 = model(bytes)[..6].iter().map(|(_, content)| content.len() as u64).sum();
    assert_eq!(counts.total.load(Ordering::Relaxed), expected);
    assert_eq!(counts.added.load(Ordering::Relaxed), expected);
    assert_eq!((copies(&shelf), leftovers(&shelf).len()), (1, 0));

    let summing = Counts::default();
    let artifact = verify(fetched, None, &summing).await.unwrap();
    assert_eq!(summing.total.load(Ordering::Relaxed), 0, "summed a second time");
    let weights = fs::read(artifact.root.join("model.safetensors")).unwrap();
    assert!(weights == safetensors(bytes), "the parts are not in order");
    assert_eq!(artifact.files.len(), 5);
    assert_eq!(fs::read(artifact.golden.unwrap()).unwrap(), b"{}");
    assert_eq!(artifact.digest, crate::Digest::of(&artifact.files));
}

#[tokio::test(start_paused = true)]
async fn a_copy_in_the_cache_is_used_again_and_summed_again() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    put(&memory, &model(99)).await;
    let listing = remote(Arc::new(memory.fork()));
    let first = fetch(&listing, &shelf, &Counts::default()).await.unwrap();
    let first = verify(first, None, &Counts::default()).await.unwrap();

    let again = fetch(&remote(stuck(memory)), &shelf, &Counts::default()).await.unwrap();
    let summing = Counts::default();
    let again = verify(again, Some(&first.digest), &summing).await.unwrap();
    assert_eq!((again.root, again.digest), (first.root, first.digest));
    assert!(summing.added.load(Ordering::Relaxed) > first.bytes, "golden.json is summed, too");
}

#[tokio::test]
async fn a_rotten_copy_is_removed_and_downloaded_again() {
    let (_cache, shelf) = shelf();
    let remote = remote(store(&model(99)).await);
    let fetched = fetch(&remote, &shelf, &Counts::default()).await.unwrap();
    let weights = fetched.root().join("model.safetensors");
    let artifact = verify(fetched, None, &Counts::default()).await.unwrap();

    for rot in [&safetensors(98)[..], b"x", b""] {
        fs::write(&weights, rot).unwrap();
        let fetched = fetch(&remote, &shelf, &Counts::default()).await.unwrap();
        let error = verify(fetched, None, &Counts::default()).await.unwrap_err();
        assert!(matches!(error, ArtifactError::CacheRotten { .. }), "{error:?}");
        assert_eq!(error.file().as_deref(), Some("model.safetensors"));

        let fetched = fetch(&remote, &shelf, &Counts::default()).await.unwrap();
        let healed = verify(fetched, None, &Counts::default()).await.unwrap();
        assert_eq!((&healed.root, &healed.files), (&artifact.root, &artifact.files));
    }
}

#[tokio::test]
async fn an_object_that_changed_in_the_store_is_downloaded_beside_the_old_copy() {
    let (_cache, shelf) = shelf();
    let store = store(&model(99)).await;
    let remote = remote(Arc::clone(&store) as Arc<dyn ObjectStore>);
    let old = fetch(&remote, &shelf, &Counts::default()).await.unwrap();
    put(&store, &[("minilm/config.json", b"{ }".to_vec())]).await;
    let new = fetch(&remote, &shelf, &Counts::default()).await.unwrap();
    assert_ne!(old.root(), new.root());
    assert_eq!(fs::read(new.root().join("config.json")).unwrap(), b"{ }");
    assert_eq!(fs::read(old.root().join("config.json")).unwrap(), b"{}");

    // Whatever the store holds now: the digest says which one is meant.
    let old = verify(old, None, &Counts::default()).await.unwrap();
    let expected = Some(&old.digest);
    let again = super::fetch(&remote, &shelf, expected, &Counts::default()).await.unwrap();
    assert_eq!(again.root(), old.root);
    assert_eq!(copies(&shelf), 2);
}

#[tokio::test]
async fn the_same_bytes_of_two_stores_are_kept_once() {
    let (_cache, shelf) = shelf();
    let store = store(&model(99)).await;
    let one = remote(Arc::clone(&store) as Arc<dyn ObjectStore>);
    let two = at("http://two", store);
    let first = fetch(&one, &shelf, &Counts::default()).await.unwrap();
    let counts = Counts::default();
    let second = fetch(&two, &shelf, &counts).await.unwrap();
    assert_eq!(first.root(), second.root());
    assert!(counts.added.load(Ordering::Relaxed) > 0, "nobody knew yet that they were the same");
    assert_eq!((copies(&shelf), leftovers(&shelf).len()), (1, 0));
    verify(second, None, &Counts::default()).await.unwrap();
}

/// Under which name the listing is downloaded.
async fn key_of(store: &InMemory) -> String {
    let remote = remote(Arc::new(store.fork()));
    key(&remote.origin, &remote.list(&Activity::new()).await.unwrap().objects)
}

#[tokio::test]
async fn what_was_in_vain_leaves_nothing() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    put(&memory, &model(99)).await;
    let remote = remote(Arc::new(memory));
    let mut objects = remote.list(&Activity::new()).await.unwrap().objects;
    objects[0].sha256 = Some(crate::source::Stated {
        sum: Sha256Sum::of_bytes(b"something else"),
        by: crate::Author::Store,
    });
    let error = bring(&remote, &shelf, &objects, &Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::SumMismatch { .. }), "{error:?}");
    assert!(error.to_string().contains("the store says"), "{error}");
    assert_eq!((copies(&shelf), leftovers(&shelf).len()), (0, 0));
}

/// Guarantees: gates-03.
#[tokio::test(start_paused = true)]
async fn a_fetch_without_a_byte_for_too_long_is_given_up() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    put(&memory, &model(99)).await;
    let begun = Instant::now();
    let error = fetch(&remote(stuck(memory)), &shelf, &Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Stalled { seconds: 60, bytes: 0, .. }), "{error:?}");
    assert!(begun.elapsed() < PATIENCE + Duration::from_secs(1));
    assert_eq!(copies(&shelf), 0);
}

/// Guarantees: gates-03.
#[tokio::test(start_paused = true)]
async fn a_slow_fetch_is_not_given_up_while_bytes_arrive() {
    let (_cache, shelf) = shelf();
    let config =
        ThrottleConfig { wait_get_per_call: PATIENCE.mul_f64(0.9), ..ThrottleConfig::default() };
    let memory = InMemory::new();
    put(&memory, &model(99)).await;
    // More files than are asked for at a time, so that one answer is not the last.
    let more: Vec<String> =
        (0..2 * FILES_AT_A_TIME).map(|number| format!("minilm/more-{number}")).collect();
    let more: Vec<_> = more.iter().map(|path| (path.as_str(), vec![1])).collect();
    put(&memory, &more).await;
    let slow = remote(Arc::new(ThrottledStore::new(memory, config)));
    let begun = Instant::now();
    fetch(&slow, &shelf, &Counts::default()).await.unwrap();
    assert!(begun.elapsed() > 2 * PATIENCE, "{:?}", begun.elapsed());
}
