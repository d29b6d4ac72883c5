//! A repository of a Hub.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lamplighter_artifact::ArtifactError;

use crate::model::{Counts, Files, Scene, WEIGHTS, assert_is, files, hex};
use crate::server::{Answer, Fault, Request, Server};

const TOKEN: &str = "hf_wick";
const COMMITS: [&str; 2] =
    ["1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"];

/// A Hub with one repository, which needs a token. Large files are kept by another server, as
/// those of the real one are.
struct Hub {
    server: Server,
    large: Server,
    /// The files at each commit; the last one is `main`.
    commits: Arc<Mutex<Vec<Files>>>,
}

impl Hub {
    async fn start(files: Files) -> Self {
        Self::start_with(files, false).await
    }

    /// With a storage whose addresses are good for one request each, if that is so.
    async fn start_with(files: Files, once: bool) -> Self {
        let used = Mutex::new(BTreeSet::new());
        let commits = Arc::new(Mutex::new(vec![files]));
        let of_large = Arc::clone(&commits);
        let large = Server::plain(move |request| {
            if !used.lock().unwrap().insert(request.query.clone()) && once {
                return Answer::new(403, "the signature was used");
            }
            let sum = request.path.trim_start_matches("/blob/");
            let commits = of_large.lock().unwrap();
            let mut contents = commits.iter().flat_map(|files| files.values());
            match contents.find(|content| hex(content) == sum) {
                Some(content) => Answer::file(request, content, "\"of-the-storage\""),
                None => Answer::new(404, ""),
            }
        })
        .await;
        let (of_hub, storage) =
            (Arc::clone(&commits), large.url().replace("127.0.0.1", "localhost"));
        let signatures = AtomicU64::new(0);
        let server = Server::plain(move |request| {
            let number = signatures.fetch_add(1, Ordering::Relaxed);
            let mut answer = answer(request, &of_hub.lock().unwrap(), &storage);
            for (name, value) in &mut answer.headers {
                if name == "location" {
                    write!(value, "?signature={number}").unwrap();
                }
            }
            answer
        })
        .await;
        Self { server, large, commits }
    }

    fn scene(&self, revision: &str) -> Scene {
        self.scene_with(revision, &[("HF_TOKEN", TOKEN)])
    }

    fn scene_with(&self, revision: &str, settings: &[(&str, &str)]) -> Scene {
        let url = self.server.url();
        let settings = [settings, &[("HF_ENDPOINT", url.as_str())]].concat();
        Scene::new(&format!("hf://org/minilm{revision}"), &settings)
    }

    /// How often the storage was asked for the weights.
    fn asked_of_weights(&self) -> usize {
        self.large.asked().len()
    }

    /// How often it was asked where they are.
    fn asked_where(&self) -> usize {
        let asked = self.server.asked();
        asked.iter().filter(|request| request.path.ends_with(WEIGHTS)).count()
    }
}

fn is_large(path: &str) -> bool {
    [WEIGHTS, "pytorch_model.bin"].contains(&path)
}

fn answer(request: &Request, commits: &[Files], storage: &str) -> Answer {
    if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return Answer::new(401, "").with("x-error-message", "Invalid username or password.");
    }
    let parts: Vec<&str> = request.path.trim_start_matches('/').splitn(5, '/').collect();
    match parts[..] {
        ["api", "models", "org", "minilm", rest] => {
            assert_eq!(request.query, "blobs=true");
            let revision = rest.trim_start_matches("revision/");
            let index = match revision {
                "main" | "refs/pr/1" => commits.len() - 1,
                _ => match COMMITS.iter().position(|commit| commit.starts_with(revision)) {
                    Some(index) if index < commits.len() => index,
                    _ => return Answer::new(404, "").with("x-error-code", "RevisionNotFound"),
                },
            };
            let siblings: Vec<_> = commits[index]
                .iter()
                .map(|(path, content)| {
                    let (sum, size) = (hex(content), content.len());
                    let mut file = serde_json::json!({
                        "rfilename": path, "size": size, "blobId": &sum[..40],
                    });
                    if is_large(path) {
                        file["lfs"] =
                            serde_json::json!({"sha256": sum, "size": size, "pointerSize": 130});
                    }
                    file
                })
                .collect();
            let body = serde_json::json!({"sha": COMMITS[index], "siblings": siblings});
            Answer::new(200, body.to_string())
        }
        ["org", "minilm", "resolve", commit, path] => {
            let index = COMMITS.iter().position(|known| *known == commit).unwrap();
            match commits[index].get(path) {
                None => Answer::new(404, "").with("x-error-code", "EntryNotFound"),
                Some(content) if is_large(path) => Answer::new(302, "")
                    .with("location", format!("{storage}/blob/{}", hex(content))),
                Some(content) => Answer::file(request, content, "\"of-the-repository\""),
            }
        }
        _ => Answer::new(404, "").with("x-error-code", "RepoNotFound"),
    }
}

fn with_foreign(mut files: Files) -> Files {
    files.insert("pytorch_model.bin".to_owned(), b"a pickle".to_vec());
    files.insert("onnx/model.onnx".to_owned(), b"for another program".to_vec());
    files.insert(".gitattributes".to_owned(), b"*.bin filter=lfs".to_vec());
    files
}

#[tokio::test]
async fn a_repository_comes_whole_and_without_what_is_for_other_programs() {
    let hub = Hub::start(with_foreign(files())).await;
    let counts = Counts::default();
    let scene = hub.scene("");
    let artifact = scene.load(&counts).await.unwrap();
    assert_is(&artifact, &files());
    let bytes: usize = files().values().map(Vec::len).sum();
    assert_eq!(counts.get(), (bytes as u64, bytes as u64));
    let large = hub.large.asked();
    assert!(!large.is_empty());
    for request in large {
        assert_eq!(request.header("authorization"), None, "the token is the Hub's alone");
    }
}

/// Of a file of two parts that break off.
#[tokio::test]
async fn the_hub_is_asked_where_a_file_is_and_not_for_each_part_of_it() {
    for (once, asked_where) in [(false, 1..=2), (true, 3..=4)] {
        let hub = Hub::start_with(files(), once).await;
        hub.large.misbehave("/blob/", Fault::Truncate(1_000), 2);
        let scene = hub.scene("");
        assert_is(&scene.load(&Counts::default()).await.unwrap(), &files());
        assert_eq!(hub.large.unmet(), 0);
        let asked = hub.large.asked();
        let answered = asked.len();
        assert!(answered >= 4, "two parts, and what is left of each: {answered}");
        for request in asked {
            assert_eq!(request.header("authorization"), None, "the token is the Hub's alone");
        }
        let found = hub.asked_where();
        assert!(asked_where.contains(&found), "{found} of {answered}, once: {once}");
    }
}

#[tokio::test]
async fn a_branch_is_the_commit_that_it_was_when_it_was_resolved() {
    let hub = Hub::start(files()).await;
    let scene = hub.scene("@main");
    let first = scene.look(&Counts::default()).await.unwrap();
    assert_eq!(first.commit.as_deref(), Some(COMMITS[0]));
    // The headers of the weights, but not the weights: the Hub says their sum.
    assert_eq!(hub.asked_of_weights(), 1);

    let mut changed = files();
    changed.insert("README.md".to_owned(), b"read this, too".to_vec());
    hub.commits.lock().unwrap().push(changed.clone());
    let second = scene.look(&Counts::default()).await.unwrap();
    assert_eq!(second.commit.as_deref(), Some(COMMITS[1]));
    assert_ne!((first.digest, first.pin), (second.digest, second.pin));
    for (revision, expected) in [("@1111111", &files()), ("@refs/pr/1", &changed)] {
        let scene = hub.scene(revision);
        assert_is(&scene.load(&Counts::default()).await.unwrap(), expected);
    }
}

/// What was resolved of a branch is still there when the branch moves on.
#[tokio::test]
async fn a_branch_that_moves_on_does_not_break_what_was_resolved_of_it() {
    let hub = Hub::start(files()).await;
    let resolved = hub.scene("@main").look(&Counts::default()).await.unwrap();
    let mut changed = files();
    changed.insert("README.md".to_owned(), b"read this, too".to_vec());
    hub.commits.lock().unwrap().push(changed);

    let error = hub.scene("@main").load_pinned(&resolved, None).await.unwrap_err();
    assert!(matches!(error, ArtifactError::DigestMismatch { .. }), "{error:?}");
    let scene = hub.scene("@main");
    let pinned = scene.load_pinned(&resolved, resolved.commit.as_deref()).await.unwrap();
    assert_is(&pinned, &files());
}

#[tokio::test]
async fn a_commit_that_changes_no_file_is_not_downloaded_again() {
    let hub = Hub::start(files()).await;
    let scene = hub.scene("@main");
    let first = scene.load(&Counts::default()).await.unwrap();
    hub.commits.lock().unwrap().push(files());
    hub.asked_of_weights();
    let second = scene.load(&Counts::default()).await.unwrap();
    assert_eq!(first.root, second.root);
    assert_eq!(hub.asked_of_weights(), 0);
}

#[tokio::test]
async fn who_may_not_read_is_told_what_is_missing() {
    let hub = Hub::start(files()).await;
    let scene = hub.scene_with("", &[]);
    let error = scene.load(&Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::AuthDenied { .. }), "{error:?}");
    let words = error.to_string();
    assert!(words.contains("Invalid username") && words.contains("HF_TOKEN"), "{words}");

    let scene = hub.scene_with("", &[("HF_TOKEN", "hf_water")]);
    let error = scene.load(&Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::AuthDenied { .. }), "{error:?}");
    assert!(!error.to_string().contains("hf_water"), "{error}");

    let error = hub.scene("@v9").load(&Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_repository_with_pickles_alone_is_refused_by_their_name() {
    let mut pickles = with_foreign(files());
    pickles.remove(WEIGHTS);
    let hub = Hub::start(pickles).await;
    let error = hub.scene("").look(&Counts::default()).await.unwrap_err();
    assert!(matches!(&error, ArtifactError::UnsafeFormat { file } if file == "pytorch_model.bin"));
}

/// What a Hub that fails for a while costs is time.
#[tokio::test]
async fn a_fault_that_passes_is_survived() {
    let faults: [(&str, Fault, usize); 13] = [
        ("/revision/", Fault::Status(503), 2),
        ("/revision/", Fault::HangUp, 1),
        ("/revision/", Fault::Truncate(20), 1),
        ("/config.json", Fault::Status(500), 1),
        ("/config.json", Fault::Later(1), 1),
        ("/blob/", Fault::Status(502), 2),
        ("/blob/", Fault::Truncate(1_000_000), 2),
        ("/blob/", Fault::Reset(1_000_000), 2),
        ("/blob/", Fault::Reset(0), 1),
        ("/blob/", Fault::Longer(10), 1),
        ("/blob/", Fault::NoRanges, 2),
        ("/blob/", Fault::WrongPart, 1),
        ("/blob/", Fault::HangUp, 1),
    ];
    let each = faults.map(|(part, fault, times)| async move {
        let hub = Hub::start(files()).await;
        let server = if part == "/blob/" { &hub.large } else { &hub.server };
        server.misbehave(part, fault, times);
        let counts = Counts::default();
        let scene = hub.scene("");
        let loaded = scene.load(&counts).await;
        let artifact = loaded.unwrap_or_else(|error| panic!("{part} {fault:?}: {error}"));
        assert_is(&artifact, &files());
        assert_eq!(server.unmet(), 0, "{part} {fault:?} did not happen");
        let (total, added) = counts.get();
        assert_eq!(total, added, "{part} {fault:?}: counted twice, or not at all");
    });
    futures::future::join_all(each).await;
}

/// What does not pass ends with its own error, and nothing of it is visible.
#[tokio::test]
async fn a_fault_that_stays_has_its_error() {
    type Check = fn(&ArtifactError) -> bool;
    let denied: Check = |error| matches!(error, ArtifactError::AuthDenied { .. });
    let gone: Check = |error| matches!(error, ArtifactError::NotFound { .. });
    let changed: Check = |error| matches!(error, ArtifactError::ChangedMeanwhile { .. });
    let broken: Check = |error| matches!(error, ArtifactError::Download { .. });
    let other: Check =
        |error| matches!(error, ArtifactError::SumMismatch { file, .. } if file == WEIGHTS);
    let faults: [(&str, Fault, Check); 11] = [
        ("/revision/", Fault::Status(403), denied),
        ("/revision/", Fault::Status(404), gone),
        ("/revision/", Fault::Status(400), broken),
        ("/revision/", Fault::Status(500), broken),
        ("/revision/", Fault::Later(3600), broken),
        ("/revision/", Fault::Flip, broken),
        ("/blob/", Fault::Status(403), denied),
        ("/blob/", Fault::Status(404), changed),
        ("/blob/", Fault::Truncate(0), broken),
        ("/blob/", Fault::WrongPart, broken),
        ("/blob/", Fault::Flip, other),
    ];
    let each = faults.map(|(part, fault, check)| async move {
        let hub = Hub::start(files()).await;
        let server = if part == "/blob/" { &hub.large } else { &hub.server };
        server.misbehave(part, fault, 100);
        let scene = hub.scene("");
        let error = scene.load(&Counts::default()).await.unwrap_err();
        assert!(check(&error), "{part} {fault:?}: {error:?}");
        assert!(scene.visible().is_empty(), "{part} {fault:?}");
        error.to_string()
    });
    let words = futures::future::join_all(each).await;
    assert!(words[4].contains("come back in 3600 s"), "{}", words[4]);
}

/// A server that stops sending in the middle is left after its read time-out, and asked for the
/// rest.
#[tokio::test]
async fn a_stall_is_ended_and_the_rest_asked_for() {
    let hub = Hub::start(files()).await;
    // The file has two parts, of which the second is shorter than that. Which is asked for first is
    // not settled.
    hub.large.misbehave("/blob/", Fault::Stall(1_000_000), 2);
    let begun = Instant::now();
    let scene = hub.scene("");
    let artifact = scene.load(&Counts::default()).await.unwrap();
    assert_is(&artifact, &files());
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    let ranges: Vec<_> =
        hub.large.asked().iter().map(|r| r.header("range").unwrap().to_owned()).collect();
    assert!(ranges.iter().any(|range| range.starts_with("bytes=1000000-")), "{ranges:?}");
}
