use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;

use super::*;
use crate::fetch;
use crate::source::{Bucket, Origin, PATIENCE};

#[derive(Default)]
struct Counts {
    total: AtomicU64,
    added: AtomicU64,
}

impl Counts {
    fn get(&self) -> (u64, u64) {
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

const SINGLE: &str = "model.safetensors";
/// Longer than what is asked for first.
const WEIGHTS: u64 = 3 * 64 * 1024 + 100;

type Model = Vec<(&'static str, Vec<u8>)>;

fn safetensors(name: &str, bytes: u64) -> Vec<u8> {
    let numbers = bytes / 4;
    let header =
        format!(r#"{{"{name}":{{"dtype":"F32","shape":[{numbers}],"data_offsets":[0,{bytes}]}}}}"#);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend((0..bytes).map(|index| (index * 7 % 251) as u8));
    file
}

fn model() -> Model {
    vec![
        ("config.json", br#"{"hidden_size": 4}"#.to_vec()),
        ("tokenizer.json", br#"{"model": {}}"#.to_vec()),
        ("1_Pooling/config.json", b"{}".to_vec()),
        ("README.md", b"read me".to_vec()),
        (SINGLE, safetensors("a", WEIGHTS)),
        ("golden.json", b"{}".to_vec()),
        (".git/HEAD", b"hidden".to_vec()),
    ]
}

/// What `sha256sum` prints for these files.
fn sums_of(model: &Model, files: &[&str]) -> Vec<u8> {
    let mut text = String::new();
    for (path, content) in model.iter().filter(|(path, _)| files.contains(path)) {
        writeln!(text, "{}  {path}", Sha256Sum::of_bytes(content)).unwrap();
    }
    text.into_bytes()
}

fn with_sums(files: &[&str]) -> Model {
    let mut model = model();
    let sums = sums_of(&model, files);
    model.push((SUMS_FILE, sums));
    model
}

fn change(model: &mut Model, path: &str, content: &[u8]) {
    let (_, was) = model.iter_mut().find(|(listed, _)| *listed == path).unwrap();
    *was = content.to_vec();
}

fn write(model: &Model, folder: &Path) {
    for (path, content) in model {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

async fn put(store: &InMemory, model: &Model) {
    for (path, content) in model {
        let key = object_store::path::Path::parse(format!("minilm/{path}")).unwrap();
        store.put(&key, content.clone().into()).await.unwrap();
    }
}

fn remote(store: &InMemory) -> Remote {
    let origin = Origin { store: "http://one".to_owned(), uri: "s3://models/minilm".to_owned() };
    let bucket = Bucket {
        client: Arc::new(store.fork()),
        name: "models".to_owned(),
        prefix: "minilm".to_owned(),
        store: origin.store.clone(),
        uri: origin.uri.clone(),
        endpoint: "AWS_ENDPOINT_URL",
    };
    Remote {
        source: Box::new(bucket),
        origin,
        patience: PATIENCE,
        in_flight: Arc::new(crate::Budget::for_downloads()),
    }
}

fn kept(shelf: &Shelf) -> Kept<'_> {
    Kept { shelf: shelf.clone(), user: Some("search.scripture.7c9f") }
}

async fn of_folder(model: &Model, counts: &Counts) -> Result<Resolved, ArtifactError> {
    let volume = tempfile::tempdir().unwrap();
    write(model, volume.path());
    let root = volume.path().canonicalize().unwrap();
    let places = Places::default();
    let location = Location::Image { path: root };
    resolve(&location, "minilm", "1", None, &places, Unsummed::Drop, counts).await
}

async fn of_store(model: &Model, counts: &Counts) -> Result<Resolved, ArtifactError> {
    let store = InMemory::new();
    put(&store, model).await;
    in_store(remote(&store), None, counts).await
}

/// The digest that a worker finds when it has all bytes.
async fn verified(model: &Model) -> Digest {
    let volume = tempfile::tempdir().unwrap();
    write(model, volume.path());
    let root = volume.path().canonicalize().unwrap();
    let places = Places::default();
    let location = Location::Image { path: root };
    let counts = Counts::default();
    let fetched = fetch(&location, "minilm", "1", None, &places, &counts).await.unwrap();
    verify(fetched, None, &counts).await.unwrap().digest
}

#[tokio::test]
async fn every_way_to_the_digest_finds_what_a_worker_will_find() {
    let all = ["config.json", "tokenizer.json", "1_Pooling/config.json", "README.md", SINGLE];
    let golden = ["golden.json", "config.json"];
    for model in [model(), with_sums(&all), with_sums(&[SINGLE]), with_sums(&golden)] {
        let expected = verified(&model).await;
        let folder = of_folder(&model, &Counts::default()).await.unwrap();
        let store = of_store(&model, &Counts::default()).await.unwrap();
        assert_eq!((folder.digest, store.digest), (expected, expected));
        let cache = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(cache.path(), "minilm", "1").unwrap();
        let memory = InMemory::new();
        put(&memory, &model).await;
        let counts = Counts::default();
        let kept = in_store(remote(&memory), Some(&kept(&shelf)), &counts).await.unwrap();
        assert_eq!(kept.digest, expected);
        assert_eq!((kept.files, kept.pin), (store.files, store.pin));
        assert_eq!(kept.weights.parameters(), WEIGHTS / 4);
        assert_eq!(kept.weights.dtype().as_deref(), Some("F32"));
        assert_eq!(kept.tokenizer, Sha256Sum::of_bytes(br#"{"model": {}}"#));
        let settings: Vec<&str> = kept.settings.keys().map(String::as_str).collect();
        assert_eq!(settings, ["1_Pooling/config.json", "config.json"]);
    }
}

#[tokio::test]
async fn only_what_the_list_of_sums_leaves_out_is_summed() {
    let read_me = "read me".len() as u64;
    let weights = safetensors("a", WEIGHTS).len() as u64;
    let all = ["config.json", "tokenizer.json", "README.md", SINGLE];
    for (model, summed) in [
        (with_sums(&all), 0),
        (with_sums(&[SINGLE]), read_me),
        (with_sums(&["README.md"]), weights),
        (model(), read_me + weights),
    ] {
        for store in [false, true] {
            let counts = Counts::default();
            let found = if store {
                of_store(&model, &counts).await
            } else {
                of_folder(&model, &counts).await
            };
            found.unwrap();
            assert_eq!(counts.get(), (summed, summed), "in a store: {store}");
        }
    }
}

#[tokio::test]
async fn bytes_that_had_to_be_read_are_in_the_cache_for_the_worker() {
    let cache = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(cache.path(), "minilm", "1").unwrap();
    let store = InMemory::new();
    put(&store, &model()).await;
    let first = in_store(remote(&store), Some(&kept(&shelf)), &Counts::default()).await.unwrap();
    let counts = Counts::default();
    let fetched = cache::fetch(&remote(&store), &shelf, None, &counts).await.unwrap();
    assert_eq!(counts.get(), (0, 0), "downloaded a second time");
    let weights = fetched.root().join(SINGLE);
    fs::write(&weights, b"rotten").unwrap();
    drop(fetched);
    let again = in_store(remote(&store), Some(&kept(&shelf)), &Counts::default()).await.unwrap();
    assert_eq!(again, first);

    let cache = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(cache.path(), "minilm", "1").unwrap();
    let store = InMemory::new();
    put(&store, &with_sums(&[SINGLE])).await;
    in_store(remote(&store), Some(&kept(&shelf)), &Counts::default()).await.unwrap();
    assert!(!shelf.root().exists(), "nothing had to be brought");
}

#[tokio::test]
async fn a_list_of_sums_that_contradicts_the_bytes_is_refused_and_one_that_is_none_is_not_used() {
    for file in ["config.json", "tokenizer.json"] {
        let mut stale = with_sums(&["config.json", "tokenizer.json", SINGLE]);
        change(&mut stale, file, br#"{"hidden_size": 5}"#);
        for error in [
            of_folder(&stale, &Counts::default()).await.unwrap_err(),
            of_store(&stale, &Counts::default()).await.unwrap_err(),
        ] {
            assert!(matches!(error, ArtifactError::SumMismatch { .. }), "{error:?}");
            assert_eq!(error.file().as_deref(), Some(file));
            assert_ne!(error.expected(), error.found());
        }
    }
    let mut none = with_sums(&[]);
    change(&mut none, SUMS_FILE, b"SHA256 (a) = 0\n");
    let found = of_store(&none, &Counts::default()).await.unwrap();
    assert_eq!(found.digest, verified(&none).await);
    let mut itself = with_sums(&[SINGLE]);
    let (_, sums) = itself.last_mut().unwrap();
    sums.extend(format!("{}  SHA256SUMS\n", Sha256Sum::of_bytes(b"")).bytes());
    let found = of_store(&itself, &Counts::default()).await.unwrap();
    assert_eq!(found.digest, verified(&itself).await);
}

#[tokio::test]
async fn a_listed_file_that_is_not_there_is_missed_unless_it_is_for_other_programs() {
    let lacking = |path: &'static str| {
        let mut model = with_sums(&[SINGLE]);
        let (_, sums) = model.last_mut().unwrap();
        sums.extend(format!("{}  {path}\n", Sha256Sum::of_bytes(b"")).bytes());
        model
    };
    let missed = lacking("2_Dense/model.safetensors");
    let fetched = async |model: &Model| {
        let (_volume, fetched) = fetched(model).await;
        crate::verify(fetched, None, &Counts::default()).await
    };
    for error in [
        of_folder(&missed, &Counts::default()).await.unwrap_err(),
        of_store(&missed, &Counts::default()).await.unwrap_err(),
        fetched(&missed).await.unwrap_err(),
    ] {
        assert!(matches!(error, ArtifactError::FileMissing { .. }), "{error:?}");
        assert_eq!(error.file().as_deref(), Some("2_Dense/model.safetensors"));
        assert!(error.to_string().contains("SHA256SUMS lists it"), "{error}");
    }
    for path in ["pytorch_model.bin", "onnx/model.onnx", "golden-2.json/.x"] {
        of_store(&lacking(path), &Counts::default()).await.unwrap();
        fetched(&lacking(path)).await.unwrap();
    }
}

/// A folder that nobody resolved.
async fn fetched(model: &Model) -> (tempfile::TempDir, crate::Fetched) {
    let volume = tempfile::tempdir().unwrap();
    write(model, volume.path());
    let location = Location::Image { path: volume.path().canonicalize().unwrap() };
    let (places, counts) = (Places::default(), Counts::default());
    let fetched = fetch(&location, "minilm", "1", None, &places, &counts).await.unwrap();
    (volume, fetched)
}

#[tokio::test]
async fn a_worker_that_resolved_nothing_reads_the_list_of_sums_too() {
    let all = ["config.json", "golden.json", SINGLE];
    let mut stale = with_sums(&all);
    change(&mut stale, "config.json", br#"{"hidden_size": 5}"#);
    let (_volume, found) = fetched(&stale).await;
    let error = crate::verify(found, None, &Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::SumMismatch { .. }), "{error:?}");
    assert_eq!(error.file().as_deref(), Some("config.json"));

    let mut corrected = with_sums(&all);
    change(&mut corrected, "golden.json", b"{ }");
    let (_volume, found) = fetched(&corrected).await;
    crate::verify(found, None, &Counts::default()).await.unwrap();
}

#[tokio::test]
async fn the_pin_changes_with_every_write_to_the_store_and_the_digest_with_the_contents() {
    let store = InMemory::new();
    put(&store, &model()).await;
    let look = async || in_store(remote(&store), None, &Counts::default()).await.unwrap();
    let first = look().await;
    assert_eq!(look().await, first);
    let mut golden = model();
    golden.retain(|(path, _)| *path == "golden.json");
    put(&store, &golden).await;
    assert_eq!(look().await, first, "the golden file is no part of it");
    let mut same = model();
    same.retain(|(path, _)| *path == "README.md");
    put(&store, &same).await;
    let written = look().await;
    assert_eq!(written.digest, first.digest);
    assert_ne!(written.pin, first.pin);

    let one = of_folder(&model(), &Counts::default()).await.unwrap();
    let copy = of_folder(&model(), &Counts::default()).await.unwrap();
    assert_eq!(one, copy, "a folder's pin is made of its contents");
}

/// Guarantees: strategy-06.
#[tokio::test]
async fn what_is_broken_is_found_before_a_weight_is_read() {
    type Damage = fn(&mut Model);
    let damages: [(&str, Damage, Option<&str>); 8] = [
        ("NotFound", |model| model.clear(), None),
        ("FileMissing", |model| model.retain(|(path, _)| *path != SINGLE), Some(SINGLE)),
        (
            "FileMissing",
            |model| model.retain(|(path, _)| *path != "tokenizer.json"),
            Some("tokenizer.json"),
        ),
        ("ConfigInvalid", |model| change(model, "config.json", b"{"), Some("config.json")),
        ("TokenizerInvalid", |model| change(model, "tokenizer.json", b"["), Some("tokenizer.json")),
        (
            "Truncated",
            |model| {
                let whole = safetensors("a", WEIGHTS);
                change(model, SINGLE, &whole[..whole.len() - 1]);
            },
            Some(SINGLE),
        ),
        ("HeaderInvalid", |model| change(model, SINGLE, b"version https://git-lfs"), Some(SINGLE)),
        (
            "UnsafeFormat",
            |model| {
                model.retain(|(path, _)| *path != SINGLE);
                model.push(("pytorch_model.bin", Vec::new()));
            },
            Some("pytorch_model.bin"),
        ),
    ];
    for (name, damage, file) in damages {
        let mut broken = model();
        damage(&mut broken);
        let counts = Counts::default();
        for error in [
            of_folder(&broken, &counts).await.unwrap_err(),
            of_store(&broken, &counts).await.unwrap_err(),
        ] {
            assert!(format!("{error:?}").starts_with(name), "{name}: {error:?}");
            assert_eq!(error.file().as_deref(), file);
        }
        assert_eq!(counts.get(), (0, 0), "{name}");
    }
}

#[tokio::test]
async fn shards_are_looked_at_by_their_headers_too() {
    let mut sharded = model();
    sharded.retain(|(path, _)| *path != SINGLE);
    sharded.push(("one.safetensors", safetensors("a", 400)));
    sharded.push(("two.safetensors", safetensors("b", 800)));
    let index = br#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#;
    sharded.push(("model.safetensors.index.json", index.to_vec()));
    let found = of_store(&sharded, &Counts::default()).await.unwrap();
    assert_eq!(found.weights.parameters(), 300);
    assert_eq!(found.digest, verified(&sharded).await);
    sharded.retain(|(path, _)| *path != "two.safetensors");
    let error = of_store(&sharded, &Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::IndexMissingShard { .. }), "{error:?}");
}

/// Guarantees: gates-04.
#[tokio::test]
async fn another_digest_than_the_pinned_one_is_named() {
    let volume = tempfile::tempdir().unwrap();
    write(&model(), volume.path());
    let location = Location::Image { path: volume.path().canonicalize().unwrap() };
    let places = Places::default();
    let ask = async |expected: Option<Digest>| {
        let counts = Counts::default();
        resolve(&location, "a", "1", expected.as_ref(), &places, Unsummed::Drop, &counts).await
    };
    let found = ask(None).await.unwrap().digest;
    ask(Some(found)).await.unwrap();
    let other: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let error = ask(Some(other)).await.unwrap_err();
    assert_eq!(
        (error.expected(), error.found()),
        (Some(other.to_string()), Some(found.to_string()))
    );
}
