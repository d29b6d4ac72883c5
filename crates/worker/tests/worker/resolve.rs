//! The real binary's `resolve`: the record, what is read for it, and every reason for none.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use lamplighter_artifact::{Artifact, Location, Places, Progress, fetch, verify};
use lamplighter_protocol::place::RESOLVE_RECORD_LIMIT;
use lamplighter_protocol::{Class, Failure, Reason, ResolveRecord, Task};
use serde_json::{Value, json};

use crate::support::artifact::{Place, Tiny, WEIGHTS, tiny};
use crate::support::process::{self, Ended};
use crate::support::store::{BUCKET, Store};

/// Far more than what is asked for first.
const HEAD: usize = 1 << 20;

/// With a head that the model does not need, so that it has weights worth not reading.
fn large() -> Tiny {
    Tiny::new().with(|tiny| {
        let head = tiny::Tensor::floats(&[HEAD / 4], std::iter::repeat_n(0.5, HEAD / 4));
        tiny.tensors.insert("classifier.weight".to_owned(), head);
    })
}

fn line(place: &Place, model: &str, more: &[&str]) -> Vec<String> {
    let file = |name: &str| place.path().join(name).display().to_string();
    let mut line = vec!["resolve".to_owned()];
    for (flag, value) in [
        ("--manifest", file("manifest.json")),
        ("--termination-log", file("termination-log")),
        ("--model", model.to_owned()),
    ] {
        line.extend([flag.to_owned(), value]);
    }
    line.extend(more.iter().map(ToString::to_string));
    line
}

async fn run(place: &Place, model: &str, more: &[&str]) -> (Ended, String) {
    let ended = process::run(&line(place, model, more)).await;
    let words = fs::read_to_string(place.termination_log()).unwrap();
    assert!(words.len() <= RESOLVE_RECORD_LIMIT, "{} bytes", words.len());
    (ended, words)
}

async fn record(place: &Place, more: &[&str]) -> ResolveRecord {
    let (ended, words) = run(place, "embedder:1", more).await;
    assert_eq!(ended.status.code(), Some(0), "{words} {ended:?}");
    ResolveRecord::from_termination_message(&words).expect(&words)
}

async fn fails(place: &Place, more: &[&str]) -> Failure {
    let (ended, words) = run(place, "embedder:1", more).await;
    assert_eq!(ended.status.code(), Some(1), "{words}");
    let failure = Failure::from_termination_message(&words).expect(&words);
    assert_eq!(failure.model.as_ref().map(ToString::to_string).as_deref(), Some("embedder:1"));
    failure
}

struct Unheard;

impl Progress for Unheard {
    fn total(&self, _bytes: u64) {}
    fn add(&self, _bytes: u64) {}
}

/// What a worker finds when it loads the folder.
async fn loaded(folder: &Path) -> Artifact {
    let places = Places::default();
    let location = Location::Image { path: folder.canonicalize().unwrap() };
    let fetched = fetch(&location, "a", "1", None, &places, &Unheard).await.unwrap();
    verify(fetched, None, &Unheard).await.unwrap()
}

async fn write_sums(folder: &Path) {
    let mut sums = String::new();
    for file in loaded(folder).await.files {
        writeln!(sums, "{}  {}", file.sha256, file.path).unwrap();
    }
    fs::write(folder.join("SHA256SUMS"), sums).unwrap();
}

fn in_store(store: &Store, prefix: &str, right: bool) -> Value {
    json!({
        "name": "embedder",
        "version": "1",
        "task": "Embedding",
        "source": {
            "uri": format!("s3://{BUCKET}/{prefix}"),
            "credentials": store.credentials(right),
        },
    })
}

#[tokio::test]
async fn a_folders_record_says_what_a_worker_will_find() {
    let place = Place::new(&Tiny::new());
    place.write_manifest_for("Cuda", &[place.entry("embedder")]);
    let record = record(&place, &[]).await;
    let artifact = loaded(&place.artifact()).await;
    assert_eq!(record.model.to_string(), "embedder:1");
    assert_eq!((record.task, record.architecture.as_str()), (Task::Embedding, "BertModel"));
    let sizes = [record.layers, record.hidden, record.vocabulary, record.dimensions];
    let expected = [tiny::LAYERS, tiny::HIDDEN, tiny::VOCABULARY, tiny::HIDDEN];
    assert_eq!(sizes, expected.map(|size| size as u64));
    assert_eq!(record.dtype, "F32");
    assert_eq!((record.parameters, record.bytes), (artifact.weights.parameters(), artifact.bytes));
    assert_eq!(record.digest, artifact.digest.to_string());
    let tokenizer = artifact.files.iter().find(|file| file.path == "tokenizer.json").unwrap();
    assert_eq!(record.tokenizer_digest, format!("sha256:{}", tokenizer.sha256));
}

#[tokio::test]
async fn weights_in_a_store_are_read_only_where_nobody_knows_their_sums() {
    let store = Store::start().await;
    let folder = store.folder("minilm");
    large().write(&folder);
    let place = Place::new(&Tiny::new());
    place.write_manifest(&[in_store(&store, "minilm", true)]);

    let dropped = record(&place, &[]).await;
    assert_eq!(dropped.digest, loaded(&folder).await.digest.to_string());
    assert!(store.sent(WEIGHTS) > HEAD as u64, "every byte was summed");

    let cache = place.path().join("cache");
    store.forget();
    let kept = record(&place, &["--cache-dir", cache.to_str().unwrap()]).await;
    assert_eq!(kept, dropped);
    assert!(store.sent(WEIGHTS) > HEAD as u64);
    assert!(cache.join("embedder/1").is_dir());
    store.forget();
    assert_eq!(record(&place, &["--cache-dir", cache.to_str().unwrap()]).await, dropped);
    assert!(store.sent(WEIGHTS) < HEAD as u64 / 8, "the cached copy was summed");

    write_sums(&folder).await;
    store.forget();
    let listed = record(&place, &[]).await;
    assert_eq!(listed.digest, loaded(&folder).await.digest.to_string());
    let sent = store.sent(WEIGHTS);
    assert!((1..HEAD as u64 / 8).contains(&sent), "{sent} bytes of the weights");
    assert_eq!(listed.parameters, dropped.parameters);
}

/// Guarantees: strategy-06.
#[tokio::test]
async fn a_store_that_refuses_or_has_nothing_leaves_its_reason() {
    let store = Store::start().await;
    large().write(&store.folder("minilm"));
    let place = Place::new(&Tiny::new());
    place.write_manifest(&[in_store(&store, "minilm", false)]);
    assert_eq!(fails(&place, &[]).await.reason, Reason::AuthDenied);
    place.write_manifest(&[in_store(&store, "other", true)]);
    assert_eq!(fails(&place, &[]).await.reason, Reason::ArtifactNotFound);
    let mut elsewhere = in_store(&store, "minilm", true);
    elsewhere["source"]["uri"] = json!("s3://nowhere/minilm");
    place.write_manifest(&[elsewhere]);
    let failure = fails(&place, &[]).await;
    assert_eq!(failure.reason, Reason::ArtifactNotFound);
    assert!(failure.message.contains("no bucket nowhere"), "{failure}");
}

/// Guarantees: strategy-06.
#[tokio::test]
async fn a_broken_artifact_leaves_the_reason_that_a_worker_would() {
    type Damage = fn(&mut Tiny);
    let damages: [(Reason, &str, Damage); 9] = [
        (Reason::UnsupportedArchitecture, "LlamaModel", |tiny| {
            tiny.config["architectures"] = json!(["LlamaModel"]);
        }),
        (Reason::ConfigInvalid, "hidden_size", |tiny| tiny.config["hidden_size"] = json!(0)),
        (Reason::ConfigInvalid, "modules.json", |tiny| drop(tiny.files.remove("modules.json"))),
        (Reason::TokenizerInvalid, "tokenizer.json", |tiny| tiny.tokenizer = json!([])),
        (Reason::TokenizerVocabMismatch, "99999", |tiny| {
            tiny.tokenizer["model"]["vocab"]["unheard"] = json!(99_999);
        }),
        (Reason::TensorShapeMismatch, "intermediate", |tiny| {
            tiny.config["intermediate_size"] = json!(7);
        }),
        (Reason::ConfigInvalid, "num_hidden_layers", |tiny| {
            tiny.config["num_hidden_layers"] = json!(1);
        }),
        (Reason::TensorMissing, "embeddings.LayerNorm.bias", |tiny| {
            tiny.tensors.remove("embeddings.LayerNorm.bias").unwrap();
        }),
        (Reason::UnsupportedDtype, "embeddings.LayerNorm.bias", |tiny| {
            let tensor = tiny.tensors.get_mut("embeddings.LayerNorm.bias").unwrap();
            tensor.dtype = "I32";
        }),
    ];
    for (reason, says, damage) in damages {
        let place = Place::new(&Tiny::new().with(damage));
        place.write_manifest(&[place.entry("embedder")]);
        let failure = fails(&place, &[]).await;
        assert_eq!(failure.reason, reason, "{failure}");
        assert!(failure.message.contains(says), "{failure}");
        assert_eq!(failure.phase, None, "resolving is no phase of a load");
    }
    let place = Place::new(&Tiny::new());
    place.write_manifest(&[place.entry("embedder")]);
    let weights = place.artifact().join(WEIGHTS);
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 7]).unwrap();
    let failure = fails(&place, &[]).await;
    assert_eq!(failure.reason, Reason::ArtifactTruncated);
    assert_eq!(failure.file.as_deref(), Some(WEIGHTS));
}

fn printed(output: &std::process::Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn an_address_at_a_terminal_gives_a_table_or_the_record() {
    let place = Place::new(&Tiny::new());
    let uri = format!("image://{}", place.artifact().canonicalize().unwrap().display());
    let table = process::output(&["resolve", &uri]).await;
    assert!(table.status.success(), "{table:?}");
    let digest = loaded(&place.artifact()).await.digest.to_string();
    let table = printed(&table);
    for expected in [uri.as_str(), "BertModel", "mean", &digest] {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    let json = process::output(&["resolve", "--json", "--model", "a:1", &uri]).await;
    let record: ResolveRecord = serde_json::from_str(&printed(&json)).unwrap();
    assert_eq!((record.model.to_string().as_str(), &record.digest), ("a:1", &digest));

    let missing = process::output(&["resolve", "image:///nowhere/at/all"]).await;
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(printed(&missing), "", "what is no result is no output");
    let said = String::from_utf8(missing.stderr).unwrap();
    assert!(said.contains("ArtifactNotFound") && said.contains("/nowhere/at/all"), "{said}");
}

#[tokio::test]
async fn two_addresses_give_what_differs_and_the_strategy_that_follows() {
    let (old, same) = (Place::new(&Tiny::new()), Place::new(&Tiny::new()));
    let new = Place::new(&Tiny::new().with(|tiny| {
        let pooling =
            json!({"word_embedding_dimension": tiny::HIDDEN, "pooling_mode_cls_token": true});
        tiny.files.insert("1_Pooling/config.json", pooling);
    }));
    let uri =
        |place: &Place| format!("image://{}", place.artifact().canonicalize().unwrap().display());
    let told = printed(&process::output(&["resolve", &uri(&old), &uri(&new)]).await);
    assert!(told.contains("strategy BlueGreen") && told.contains("pooling"), "{told}");
    assert!(!told.contains("architecture"), "only what differs: {told}");
    let told = printed(&process::output(&["resolve", &uri(&old), &uri(&same)]).await);
    assert!(told.contains("strategy Rolling"), "{told}");
    let told = process::output(&["resolve", "--json", &uri(&old), &uri(&new)]).await;
    let told: Value = serde_json::from_str(&printed(&told)).unwrap();
    assert_eq!(told["strategy"]["kind"], "BlueGreen");
    assert_eq!(told["to"]["pooling"], "cls");

    let half = process::output(&["resolve", &uri(&old), "image:///nowhere/at/all"]).await;
    assert_eq!(half.status.code(), Some(1));
    let said = String::from_utf8(half.stderr).unwrap();
    assert!(said.contains("/nowhere/at/all"), "which of the two: {said}");
}

/// Guarantees: gates-04.
#[tokio::test]
async fn a_pinned_digest_that_differs_is_named_with_both() {
    let place = Place::new(&Tiny::new());
    let mut entry = place.entry("embedder");
    let found = loaded(&place.artifact()).await.digest.to_string();
    entry["expectedDigest"] = json!(found);
    place.write_manifest(&[entry.clone()]);
    assert_eq!(record(&place, &[]).await.digest, found);
    let pinned = format!("sha256:{}", "0".repeat(64));
    entry["expectedDigest"] = json!(pinned);
    place.write_manifest(&[entry]);
    let failure = fails(&place, &[]).await;
    assert_eq!(failure.reason, Reason::DigestMismatch);
    assert_eq!((failure.expected, failure.found), (Some(pinned), Some(found)));
}

#[tokio::test]
async fn what_cannot_be_asked_for_or_told_is_refused_by_name() {
    let place = Place::new(&Tiny::new());
    let long = "m".repeat(64);
    place.write_manifest(&[place.entry("embedder"), place.entry(&long)]);
    for (model, code, reason) in [
        ("nothing:1".to_owned(), 1, Reason::ArgumentsInvalid),
        ("embedder".to_owned(), 2, Reason::ArgumentsInvalid),
        (format!("{long}:1"), 1, Reason::ManifestInvalid),
    ] {
        let (ended, words) = run(&place, &model, &[]).await;
        assert_eq!(ended.status.code(), Some(code), "{words}");
        let failure = Failure::from_termination_message(&words).expect(&words);
        assert_eq!(failure.reason, reason, "{failure}");
        assert!(failure.message.contains(&model[..8]), "{failure}");
    }
}

/// A model in a store that takes connections and never answers.
fn in_silence(place: &Place, silent: SocketAddr) {
    let credentials = place.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("AWS_ENDPOINT_URL"), format!("http://{silent}")).unwrap();
    let mut entry = place.entry("embedder");
    entry["source"] = json!({"uri": "s3://models/minilm", "credentials": credentials});
    place.write_manifest(&[entry]);
}

#[tokio::test]
async fn a_store_that_never_answers_is_given_up_at_the_deadline() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::new(&Tiny::new());
    in_silence(&place, silent.local_addr().unwrap());
    let failure = fails(&place, &["--resolve-deadline-seconds", "1"]).await;
    assert_eq!(failure.reason, Reason::StartDeadlineExceeded);
}

#[tokio::test]
async fn one_that_is_told_to_stop_leaves_that_it_may_be_tried_again() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = Place::new(&Tiny::new());
    in_silence(&place, silent.local_addr().unwrap());
    let mut asked = None;
    let asking = async { asked = Some(silent.accept().await.unwrap()) };
    let ended = process::run_and_stop(&line(&place, "embedder:1", &[]), asking).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let words = fs::read_to_string(place.termination_log()).unwrap();
    let failure = Failure::from_termination_message(&words).expect(&words);
    assert!(failure.message.contains("told to stop"), "{failure}");
    assert_eq!(failure.reason.class(), Class::Transient);
    drop(asked);
}

#[tokio::test]
#[ignore = "needs the real model: cargo xtask test sets LAMPLIGHTER_MINILM"]
async fn the_real_models_record_says_what_is_known_of_it() {
    let folder = PathBuf::from(std::env::var("LAMPLIGHTER_MINILM").unwrap());
    let folder = folder.canonicalize().unwrap();
    let place = Place::new(&Tiny::new());
    let mut entry = place.entry("embedder");
    entry["source"]["uri"] = json!(format!("image://{}", folder.display()));
    place.write_manifest(&[entry]);
    let record = record(&place, &[]).await;
    let golden =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/tests/golden/all-minilm-l6-v2.json");
    let golden: Value = serde_json::from_slice(&fs::read(golden).unwrap()).unwrap();
    assert_eq!(golden["artifactDigest"], record.digest);
    assert_eq!(record.architecture, "BertModel");
    let sizes = [record.layers, record.hidden, record.vocabulary, record.dimensions];
    assert_eq!(sizes, [6, 384, 30_522, 384]);
    assert_eq!((record.dtype.as_str(), record.parameters), ("F32", 22_713_216));
}
