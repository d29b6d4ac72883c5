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

/// How many bytes the store was asked for.
#[derive(Debug)]
struct Asked {
    inner: InMemory,
    bytes: Arc<AtomicU64>,
    /// After how many bytes it answers no more.
    until: u64,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.inner, f)
    }
}

impl crate::source::Source for Asked {
    fn list<'a>(
        &'a self,
        activity: &'a Activity,
    ) -> futures::future::BoxFuture<'a, Result<crate::source::Listing, ArtifactError>> {
        Box::pin(async move {
            let inner = remote(Arc::new(self.inner.fork()));
            inner.source.list(activity).await
        })
    }

    fn read<'a>(
        &'a self,
        object: &'a Object,
        range: std::ops::Range<u64>,
    ) -> futures::future::BoxFuture<'a, Result<crate::source::Body<'a>, ArtifactError>> {
        Box::pin(async move {
            let length = range.end - range.start;
            if self.bytes.fetch_add(length, Ordering::Relaxed) + length > self.until {
                return Err(ArtifactError::Download { uri: URI.into(), found: "cut off".into() });
            }
            let inner = remote(Arc::new(self.inner.fork()));
            let body = inner.source.read(object, range).await?;
            let pieces: Vec<_> = body.collect().await;
            Ok(stream::iter(pieces).boxed())
        })
    }
}

/// A store that answers until it was asked for so many bytes, and how many it was asked for.
fn asked(store: &InMemory, until: u64) -> (Remote, Arc<AtomicU64>) {
    let bytes = Arc::new(AtomicU64::new(0));
    let asked = Asked { inner: store.fork(), bytes: Arc::clone(&bytes), until };
    let source = Box::new(asked);
    (
        Remote {
            source,
            origin: origin("http://one"),
            patience: PATIENCE,
            in_flight: Arc::new(crate::Budget::for_downloads()),
        },
        bytes,
    )
}

#[tokio::test]
async fn an_interrupted_download_is_invisible_and_gone_on_with() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    let bytes = 6 * REQUEST_BYTES + 5;
    put(&memory, &model(bytes)).await;
    let (cut, _) = asked(&memory, 4 * REQUEST_BYTES);
    let counts = Counts::default();
    let error = fetch(&cut, &shelf, &counts).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Download { .. }), "{error:?}");
    assert_eq!(copies(&shelf), 0);
    let kept = super::super::partial::size(shelf.root());
    assert!(kept > REQUEST_BYTES, "{kept}");

    let (whole, sent) = asked(&memory, u64::MAX);
    let counts = Counts::default();
    let fetched = fetch(&whole, &shelf, &counts).await.unwrap();
    let again = sent.load(Ordering::Relaxed);
    assert!(again < bytes - REQUEST_BYTES, "{again} of {bytes} were asked for again");
    let total = counts.total.load(Ordering::Relaxed);
    assert_eq!(counts.added.load(Ordering::Relaxed), total, "what was there counts as done");
    let weights = fs::read(fetched.root().join("model.safetensors")).unwrap();
    assert!(weights == safetensors(bytes), "the parts do not fit together");
    assert_eq!((copies(&shelf), leftovers(&shelf).len()), (1, 0));
    verify(fetched, None, &Counts::default()).await.unwrap();
}

#[tokio::test]
async fn what_an_interrupted_download_left_is_not_believed() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    let bytes = 6 * REQUEST_BYTES;
    put(&memory, &model(bytes)).await;
    let (cut, _) = asked(&memory, 4 * REQUEST_BYTES);
    fetch(&cut, &shelf, &Counts::default()).await.unwrap_err();
    let partial = leftovers(&shelf).into_iter().find(|name| name.starts_with(".partial")).unwrap();
    let weights = shelf.root().join(partial).join("model.safetensors");
    let mut content = fs::read(&weights).unwrap();
    content[100] ^= 1;
    fs::write(&weights, content).unwrap();

    let (whole, _) = asked(&memory, u64::MAX);
    let fetched = fetch(&whole, &shelf, &Counts::default()).await.unwrap();
    let weights = fs::read(fetched.root().join("model.safetensors")).unwrap();
    assert!(weights == safetensors(bytes), "a flipped bit was taken over");
}

#[tokio::test]
async fn a_dropped_download_is_gone_on_with() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    put(&memory, &model(99)).await;
    let slow = remote(stuck(memory.fork()));
    let counts = Counts::default();
    let mut fetching = Box::pin(fetch(&slow, &shelf, &counts));
    while leftovers(&shelf).len() < 2 {
        let still_running = futures::poll!(&mut fetching).is_pending();
        assert!(still_running);
        tokio::task::yield_now().await;
    }
    drop(fetching);
    assert_eq!(copies(&shelf), 0);
    fetch(&remote(Arc::new(memory)), &shelf, &Counts::default()).await.unwrap();
    assert_eq!((copies(&shelf), leftovers(&shelf).len()), (1, 0));
}

#[tokio::test]
async fn two_at_the_same_time_download_once_and_both_tell_how_far_it_is() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    put(&memory, &model(3 * REQUEST_BYTES)).await;
    let (one, first_sent) = asked(&memory, u64::MAX);
    let (two, second_sent) = asked(&memory, u64::MAX);
    let (first_counts, second_counts) = (Counts::default(), Counts::default());
    let both = futures::future::join(
        fetch(&one, &shelf, &first_counts),
        fetch(&two, &shelf, &second_counts),
    );
    let (first, second) = both.await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.root(), second.root());
    let sent = [first_sent, second_sent].map(|sent| sent.load(Ordering::Relaxed));
    assert!(sent.contains(&0), "both downloaded: {sent:?}");
    for counts in [first_counts, second_counts] {
        let [total, added] =
            [&counts.total, &counts.added].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(total, added);
        assert!(total > 3 * REQUEST_BYTES);
    }
    assert_eq!((copies(&shelf), leftovers(&shelf).len()), (1, 0));
}

#[tokio::test]
async fn who_waits_goes_on_when_the_other_one_dies() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    put(&memory, &model(99)).await;
    let slow = remote(stuck(memory.fork()));
    let unheard = Counts::default();
    let mut dying = Box::pin(fetch(&slow, &shelf, &unheard));
    while leftovers(&shelf).len() < 2 {
        assert!(futures::poll!(&mut dying).is_pending());
        tokio::task::yield_now().await;
    }
    let (whole, _) = asked(&memory, u64::MAX);
    let counts = Counts::default();
    let mut waiting = Box::pin(fetch(&whole, &shelf, &counts));
    for _ in 0..20 {
        assert!(futures::poll!(&mut waiting).is_pending(), "it did not wait");
        tokio::task::yield_now().await;
    }
    drop(dying);
    let fetched = waiting.await.unwrap();
    verify(fetched, None, &Counts::default()).await.unwrap();
    assert_eq!((copies(&shelf), leftovers(&shelf).len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn another_download_that_gets_no_further_is_not_waited_for_for_ever() {
    let (_cache, shelf) = shelf();
    let store = store(&model(99)).await;
    let held = shelf.claim(&key_of(&store).await).unwrap();
    let Found::Missing(held) = held else { panic!("{held:?}") };
    fs::write(held.path().join("config.json"), b"{").unwrap();
    let begun = Instant::now();
    let error = fetch(&remote(store), &shelf, &Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::CacheBusy { bytes: 1, .. }), "{error:?}");
    assert!(begun.elapsed() < WAIT + Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_sums_what_is_there_is_waited_for() {
    let (_cache, shelf) = shelf();
    let mut waiting = Waiting::begin(&shelf);
    for beat in 0..10 {
        let at_work = Some(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(beat));
        waiting.saw(Come { bytes: 7, at_work }, &shelf).unwrap();
        tokio::time::advance(WAIT / 2).await;
    }
    tokio::time::advance(WAIT).await;
    let at_work = Some(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(9));
    let error = waiting.saw(Come { bytes: 7, at_work }, &shelf).unwrap_err();
    assert!(matches!(error, ArtifactError::CacheBusy { bytes: 7, .. }), "{error:?}");
}

#[test]
fn summing_what_is_there_is_seen_in_the_journals_time() {
    let folder = tempfile::tempdir().unwrap();
    let (path, content) = (folder.path().join("a"), b"what is there");
    fs::write(&path, content).unwrap();
    let journal = Journal::open(folder.path()).unwrap();
    journal.note("a", content.len() as u64, Sha256Sum::of_bytes(content)).unwrap();
    let journal = Journal::open(folder.path()).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_hours(1);
    let ranges = folder.path().join(".ranges");
    File::open(&ranges).unwrap().set_modified(long_ago).unwrap();
    let (_, length, _) = open_to_append(&path, &journal, "a", 99).unwrap();
    assert_eq!(length, content.len() as u64);
    let age = ranges.metadata().unwrap().modified().unwrap().elapsed().unwrap_or_default();
    assert!(age < Duration::from_mins(1), "{age:?}");
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

/// Answers every request with `answer(request line)`, then closes the connection.
async fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> Arc<dyn ObjectStore> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(connection.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap();
            let answer = answer(request.lines().next().unwrap());
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let store = AmazonS3Builder::new()
        .with_bucket_name("models")
        .with_endpoint(endpoint)
        .with_region("us-east-1")
        .with_skip_signature(true)
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(retry);
    Arc::new(store.build().unwrap())
}

fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn listing(keys: &[&str]) -> String {
    let mut body = "<ListBucketResult>".to_owned();
    for key in keys {
        write!(
            body,
            "<Contents><Key>{key}</Key><Size>4</Size><ETag>\"e\"</ETag>\
             <LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        )
        .unwrap();
    }
    body.push_str("<IsTruncated>false</IsTruncated></ListBucketResult>");
    response("200 OK", &body)
}

type Check<'a> = &'a dyn Fn(&ArtifactError) -> bool;

async fn fail(answer: impl Fn(&str) -> String + Send + 'static) -> ArtifactError {
    let (_cache, shelf) = shelf();
    let error = fetch(&remote(serve(answer).await), &shelf, &Counts::default()).await.unwrap_err();
    assert_eq!(copies(&shelf), 0);
    error
}

#[tokio::test]
async fn each_answer_to_a_listing_has_its_error() {
    let denied = |error: &ArtifactError| matches!(error, ArtifactError::AuthDenied { .. });
    let not_found = |error: &ArtifactError| matches!(error, ArtifactError::NotFound { .. });
    let no_bucket = |error: &ArtifactError| {
        let words = "there is no bucket models at http://one for s3://models/minilm";
        matches!(error, ArtifactError::BucketMissing { .. }) && error.to_string().contains(words)
    };
    let download = |error: &ArtifactError| matches!(error, ArtifactError::Download { .. });
    let refused = |error: &ArtifactError| matches!(error, ArtifactError::PathRefused { .. });
    let expired = "<Error><Code>ExpiredToken</Code></Error>";
    let cases: [(String, Check<'_>); 12] = [
        (response("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>"), &denied),
        (response("401 Unauthorized", ""), &denied),
        (response("400 Bad Request", expired), &denied),
        (response("400 Bad Request", ""), &download),
        (response("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>"), &no_bucket),
        (response("404 Not Found", ""), &no_bucket),
        (response("500 Internal Server Error", ""), &download),
        (response("503 Slow Down", ""), &download),
        (response("200 OK", "<html>a web site</html>"), &not_found),
        (String::new(), &download),
        (listing(&[]), &not_found),
        (listing(&["minilm/a", "minilm/../../etc/passwd"]), &refused),
    ];
    for (answer, check) in cases {
        let expected = answer.clone();
        let error = fail(move |_| answer.clone()).await;
        assert!(check(&error), "{expected}: {error:?}");
    }
}

#[tokio::test]
async fn each_answer_to_a_download_has_its_error() {
    let denied = |error: &ArtifactError| matches!(error, ArtifactError::AuthDenied { .. });
    let download = |error: &ArtifactError| matches!(error, ArtifactError::Download { .. });
    let changed = |error: &ArtifactError| matches!(error, ArtifactError::ChangedMeanwhile { file, .. } if file == "a");
    let part = |range: &str, length: usize, body: &str| {
        format!(
            "HTTP/1.1 206 Partial Content\r\ncontent-length: {length}\r\n\
             content-range: bytes {range}\r\nconnection: close\r\n\r\n{body}"
        )
    };
    let no_bucket = |error: &ArtifactError| matches!(error, ArtifactError::BucketMissing { .. });
    let cases: [(String, Check<'_>); 8] = [
        (response("403 Forbidden", ""), &denied),
        (response("404 Not Found", ""), &changed),
        (response("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>"), &no_bucket),
        (response("412 Precondition Failed", ""), &changed),
        (response("500 Internal Server Error", ""), &download),
        (response("200 OK", "1234"), &download),
        (part("0-3/4", 4, "12"), &download),
        (part("0-1/2", 2, "12"), &download),
    ];
    for (answer, check) in cases {
        let expected = answer.clone();
        let error = fail(move |request| {
            if request.contains("list-type=2") { listing(&["minilm/a"]) } else { answer.clone() }
        })
        .await;
        assert!(check(&error), "{expected}: {error:?}");
    }
}

#[tokio::test]
async fn a_copy_with_the_expected_digest_needs_no_store() {
    let (_cache, shelf) = shelf();
    let up = remote(store(&model(99)).await);
    let first = fetch(&up, &shelf, &Counts::default()).await.unwrap();
    let first = verify(first, None, &Counts::default()).await.unwrap();

    for answer in ["503 Slow Down", "403 Forbidden"] {
        let down = remote(serve(move |_| response(answer, "")).await);
        let expected = Some(&first.digest);
        let cached = super::fetch(&down, &shelf, expected, &Counts::default()).await.unwrap();
        assert_eq!(cached.root(), first.root);
        verify(cached, expected, &Counts::default()).await.unwrap();
    }
    let down = remote(serve(|_| response("503 Slow Down", "")).await);
    let error = fetch(&down, &shelf, &Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Download { .. }), "{error:?}");
    assert!(error.to_string().contains("if its digest is expected"), "{error}");
    let other: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let error = super::fetch(&down, &shelf, Some(&other), &Counts::default()).await.unwrap_err();
    assert!(error.to_string().contains("no cached copy has the expected digest"), "{error}");
}

fn golden_of(digest: &Digest, words: &str) -> Vec<u8> {
    serde_json::json!({"artifactDigest": digest.to_string(), "words": words})
        .to_string()
        .into_bytes()
}

#[tokio::test]
async fn a_corrected_golden_file_is_read_and_the_copy_is_left_to_who_loads_it() {
    let (_cache, shelf) = shelf();
    let store = store(&model(99)).await;
    let up = remote(Arc::clone(&store) as Arc<dyn ObjectStore>);
    let first = fetch(&up, &shelf, &Counts::default()).await.unwrap();
    let loading = verify(first, None, &Counts::default()).await.unwrap();
    let digest = loading.digest;
    let read = async |remote: &Remote, expected: Option<&Digest>| {
        let fetched = super::fetch(remote, &shelf, expected, &Counts::default()).await.unwrap();
        let artifact = verify(fetched, expected, &Counts::default()).await.unwrap();
        assert_eq!((&artifact.root, artifact.digest), (&loading.root, digest));
        loading.unchanged().unwrap();
        fs::read(artifact.golden.unwrap()).unwrap()
    };
    assert_eq!(read(&up, Some(&digest)).await, b"{}");

    for (words, expected) in [("second", None), ("third", Some(&digest)), ("fourth", None)] {
        let corrected = golden_of(&digest, words);
        put(&store, &[("minilm/golden.json", corrected.clone())]).await;
        assert!(read(&up, expected).await == corrected, "{words}");
        assert!(read(&up, Some(&digest)).await == corrected, "{words}, again");
    }
    let corrected = golden_of(&digest, "fourth");
    let other: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    put(&store, &[("minilm/config.json", b"{ }".to_vec())]).await;
    put(&store, &[("minilm/golden.json", golden_of(&other, "of other files"))]).await;
    assert!(read(&up, Some(&digest)).await == corrected, "it was for other files");
    let down = remote(serve(|_| response("503 Slow Down", "")).await);
    assert!(read(&down, Some(&digest)).await == corrected, "the last one that was read");
    assert_eq!(copies(&shelf), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_says_nothing_about_a_golden_file_is_not_waited_for() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    put(&memory, &model(99)).await;
    let first = fetch(&remote(Arc::new(memory.fork())), &shelf, &Counts::default()).await.unwrap();
    let first = verify(first, None, &Counts::default()).await.unwrap();
    put(&memory, &[("minilm/golden.json", golden_of(&first.digest, "new"))]).await;
    let begun = Instant::now();
    let expected = Some(&first.digest);
    let silent = remote(stuck(memory));
    super::fetch(&silent, &shelf, expected, &Counts::default()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

/// A store that does not say that it hands out parts.
#[derive(Debug)]
struct Undivided {
    inner: InMemory,
    /// Where the bytes of the weights go to.
    root: PathBuf,
    /// By how many bytes the weights that were handed out were at most ahead of those on the disk.
    ahead: Arc<AtomicU64>,
    /// How often the weights were asked for.
    times: Arc<AtomicU64>,
}

const PIECE: usize = 1 << 20;

impl crate::source::Source for Undivided {
    fn list<'a>(
        &'a self,
        activity: &'a Activity,
    ) -> futures::future::BoxFuture<'a, Result<crate::source::Listing, ArtifactError>> {
        Box::pin(async move {
            let inner = remote(Arc::new(self.inner.fork()));
            let mut listing = inner.source.list(activity).await?;
            listing.objects.iter_mut().for_each(|object| object.is_whole = true);
            Ok(listing)
        })
    }

    fn read<'a>(
        &'a self,
        object: &'a Object,
        range: std::ops::Range<u64>,
    ) -> futures::future::BoxFuture<'a, Result<crate::source::Body<'a>, ArtifactError>> {
        Box::pin(async move {
            let path = format!("minilm/{}", object.path);
            let content = self.inner.get(&path.as_str().into()).await.unwrap();
            let content = content.bytes().await.unwrap();
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let content = content.slice(range);
            let is_weights = object.path == "model.safetensors";
            self.times.fetch_add(u64::from(is_weights), Ordering::Relaxed);
            let starts = (0..content.len()).step_by(PIECE);
            let pieces = starts.map(move |start| {
                let end = content.len().min(start + PIECE);
                let there = super::super::partial::size(&self.root);
                let ahead = (end as u64).saturating_sub(there);
                if is_weights {
                    self.ahead.fetch_max(ahead, Ordering::Relaxed);
                }
                Ok(content.slice(start..end))
            });
            Ok(stream::iter(pieces).boxed())
        })
    }
}

#[tokio::test]
async fn a_file_that_comes_whole_is_written_as_it_comes() {
    let (_cache, shelf) = shelf();
    let bytes = 4 * REQUEST_BYTES + 5;
    let memory = InMemory::new();
    put(&memory, &model(bytes)).await;
    let [ahead, times] = [0, 0].map(|zero| Arc::new(AtomicU64::new(zero)));
    let source = Box::new(Undivided {
        inner: memory,
        root: shelf.root().to_owned(),
        ahead: Arc::clone(&ahead),
        times: Arc::clone(&times),
    });
    let in_flight = Arc::new(crate::Budget::for_downloads());
    let remote = Remote { source, origin: origin("http://one"), patience: PATIENCE, in_flight };
    let counts = Counts::default();
    let fetched = fetch(&remote, &shelf, &counts).await.unwrap();
    let weights = fs::read(fetched.root().join("model.safetensors")).unwrap();
    assert!(weights == safetensors(bytes), "the parts do not fit together");
    let ahead = ahead.load(Ordering::Relaxed);
    assert!(ahead <= REQUEST_BYTES + PIECE as u64, "{ahead} bytes were in memory");
    assert_eq!(times.load(Ordering::Relaxed), 1, "each request brings the whole");
    let [total, added] = [&counts.total, &counts.added].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(total, added);
}
