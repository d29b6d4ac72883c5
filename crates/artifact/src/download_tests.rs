use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, RetryConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;
use crate::store::{PATIENCE, select};
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

fn remote(store: Arc<dyn ObjectStore>) -> Remote {
    Remote {
        store,
        bucket: "models".to_owned(),
        prefix: "minilm".to_owned(),
        origin: origin("http://one"),
        patience: PATIENCE,
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

fn on_disk(shelf: &Shelf) -> usize {
    fs::read_dir(shelf.root()).map_or(0, Iterator::count)
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
    assert_eq!(on_disk(&shelf), 1);

    let summing = Counts::default();
    let artifact = verify(fetched, None, &summing).await.unwrap();
    assert_eq!(summing.total.load(Ordering::Relaxed), 0, "summed a second time");
    let weights = fs::read(artifact.root.join("model.safetensors")).unwrap();
    assert!(weights == safetensors(bytes), "the parts are not in order");
    assert_eq!(artifact.files.len(), 5);
    assert_eq!(artifact.golden, Some(artifact.root.join("golden.json")));
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

    // Verified, it is still in use; when nobody uses it any more, the next one removes it.
    let artifact = verify(old, None, &Counts::default()).await.unwrap();
    put(&store, &[("minilm/config.json", b"{  }".to_vec())]).await;
    fetch(&remote, &shelf, &Counts::default()).await.unwrap();
    assert!(artifact.root.is_dir() && new.root().is_dir());
    drop((artifact, new));
    put(&store, &[("minilm/config.json", b"{   }".to_vec())]).await;
    fetch(&remote, &shelf, &Counts::default()).await.unwrap();
    assert_eq!(on_disk(&shelf), 1);
}

#[tokio::test]
async fn two_stores_with_one_bucket_name_share_no_copy() {
    let (_cache, shelf) = shelf();
    let store = store(&model(99)).await;
    let one = remote(Arc::clone(&store) as Arc<dyn ObjectStore>);
    let two = Remote { origin: origin("http://two"), ..remote(store) };
    let first = fetch(&one, &shelf, &Counts::default()).await.unwrap();
    let counts = Counts::default();
    let second = fetch(&two, &shelf, &counts).await.unwrap();
    assert_ne!(first.root(), second.root());
    assert!(counts.added.load(Ordering::Relaxed) > 0, "it was downloaded");

    let down = serve(|_| response("503 Slow Down", "")).await;
    let down = Remote { origin: origin("http://three"), ..remote(down) };
    let artifact = verify(first, None, &Counts::default()).await.unwrap();
    let error = super::fetch(&down, &shelf, Some(&artifact.digest), &Counts::default()).await;
    assert!(matches!(error, Err(ArtifactError::Download { .. })));
}

#[tokio::test]
async fn an_interrupted_fetch_leaves_nothing_and_does_not_hinder_the_next() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    put(&memory, &model(99)).await;
    let slow = remote(stuck(memory.fork()));
    let counts = Counts::default();
    let mut fetching = Box::pin(fetch(&slow, &shelf, &counts));
    while on_disk(&shelf) < 2 {
        let still_running = futures::poll!(&mut fetching).is_pending();
        assert!(still_running);
        tokio::task::yield_now().await;
    }
    drop(fetching);
    assert!(shelf.copies(&origin("http://one")).is_empty());
    fetch(&remote(Arc::new(memory)), &shelf, &Counts::default()).await.unwrap();
    assert_eq!(on_disk(&shelf), 1);
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
    assert_eq!(on_disk(&shelf), 0);
}

/// Guarantees: gates-03.
#[tokio::test(start_paused = true)]
async fn a_slow_fetch_is_not_given_up_while_bytes_arrive() {
    let (_cache, shelf) = shelf();
    let config =
        ThrottleConfig { wait_get_per_call: PATIENCE.mul_f64(0.9), ..ThrottleConfig::default() };
    let memory = InMemory::new();
    put(&memory, &model(99)).await;
    let slow = remote(Arc::new(ThrottledStore::new(memory, config)));
    let begun = Instant::now();
    fetch(&slow, &shelf, &Counts::default()).await.unwrap();
    assert!(begun.elapsed() > 2 * PATIENCE);
}

fn metas(objects: &[(&str, u64)]) -> Vec<ObjectMeta> {
    let meta = |(key, size): &(&str, u64)| ObjectMeta {
        location: object_store::path::Path::parse(key).unwrap(),
        last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
        size: *size,
        e_tag: None,
        version: None,
    };
    objects.iter().map(meta).collect()
}

#[test]
fn hidden_objects_and_folder_marks_are_no_files() {
    let listed =
        metas(&[("p", 0), ("p/b/x", 1), ("p/b", 0), ("p/a", 0), ("p/.hidden/x", 1), ("p/c/.x", 1)]);
    let objects = select(URI, "p", listed).unwrap();
    let paths: Vec<_> = objects.iter().map(|object| object.path.as_str()).collect();
    assert_eq!(paths, ["a", "b/x"]);
}

#[test]
fn listings_that_are_no_folder_are_refused() {
    let refused = |objects: &[(&str, u64)]| select(URI, "p", metas(objects)).unwrap_err();
    for objects in [&[][..], &[("p", 0)], &[("p/.hidden", 1)]] {
        let error = refused(objects);
        assert!(matches!(error, ArtifactError::NotFound { .. }), "{error:?}");
    }
    for objects in [&[("p/a", 1), ("p/a/b", 1)][..], &[("q/a", 1)], &[("pa", 1)]] {
        let error = refused(objects);
        assert!(matches!(error, ArtifactError::PathRefused { .. }), "{error:?}");
    }
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
    assert_eq!(on_disk(&shelf), 0);
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
async fn a_store_that_cannot_be_reached_is_replaced_only_by_a_copy_that_is_known_to_be_right() {
    let (_cache, shelf) = shelf();
    let up = remote(store(&model(99)).await);
    let first = fetch(&up, &shelf, &Counts::default()).await.unwrap();
    let first = verify(first, None, &Counts::default()).await.unwrap();
    let changed = remote(store(&model(98)).await);
    let second = fetch(&changed, &shelf, &Counts::default()).await.unwrap();
    assert_ne!(second.root(), first.root, "newer, but not the pinned one");

    let down = remote(serve(|_| response("503 Slow Down", "")).await);
    let pinned = Some(&first.digest);
    let cached = super::fetch(&down, &shelf, pinned, &Counts::default()).await.unwrap();
    assert_eq!(cached.root(), first.root);
    verify(cached, pinned, &Counts::default()).await.unwrap();

    let error = fetch(&down, &shelf, &Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Download { .. }), "{error:?}");
    assert!(error.to_string().contains("if the digest is pinned"), "{error}");
    let other: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let error = super::fetch(&down, &shelf, Some(&other), &Counts::default()).await.unwrap_err();
    assert!(error.to_string().contains("no cached copy has the pinned digest"), "{error}");

    let forbidden = remote(serve(|_| response("403 Forbidden", "")).await);
    let error = super::fetch(&forbidden, &shelf, pinned, &Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::AuthDenied { .. }), "{error:?}");
}
