//! A folder of a web server with a certificate authority of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use lamplighter_artifact::ArtifactError;

use crate::model::{Counts, Files, Scene, WEIGHTS, assert_is, files, hex, sums};
use crate::server::{Answer, Fault, Request, Server};

struct Site {
    server: Server,
    /// Replaces the weights after the first part of them was read.
    replace_after_read: Arc<AtomicBool>,
}

impl Site {
    async fn start(files: Files) -> Self {
        let files = Arc::new(Mutex::new(files));
        let shown = Arc::clone(&files);
        let replace_after_read = Arc::new(AtomicBool::new(false));
        let replace = Arc::clone(&replace_after_read);
        let server = Server::tls(move |request| {
            let mut files = shown.lock().unwrap();
            let answer = answer(request, &files);
            if request.method == "GET"
                && request.path.ends_with(WEIGHTS)
                && replace.swap(false, Ordering::Relaxed)
            {
                files.get_mut(WEIGHTS).unwrap()[100] ^= 1;
            }
            answer
        })
        .await;
        Self { server, replace_after_read }
    }

    fn scene(&self) -> Scene {
        let authority = self.server.authority.clone().unwrap();
        self.scene_with(&[("ca.crt", &authority), ("username", "lamp"), ("password", "wick")])
    }

    fn scene_with(&self, settings: &[(&str, &str)]) -> Scene {
        Scene::new(&format!("{}/models/minilm", self.server.url()), settings)
    }
}

fn answer(request: &Request, files: &Files) -> Answer {
    // printf lamp:wick | base64
    if request.header("authorization") != Some("Basic bGFtcDp3aWNr") {
        return Answer::new(401, "who are you?");
    }
    let path = request.path.strip_prefix("/models/minilm/");
    match path.and_then(|path| files.get(path)) {
        Some(content) => Answer::file(request, content, &format!("\"{}\"", &hex(content)[..16])),
        None => Answer::new(404, "no such file"),
    }
}

fn with_sums() -> Files {
    let mut all = files();
    all.insert("SHA256SUMS".to_owned(), sums(&files()));
    all
}

#[tokio::test]
async fn a_folder_comes_whole_as_its_list_of_sums_says() {
    let mut there = with_sums();
    there.insert("unlisted".to_owned(), b"not part of it".to_vec());
    let site = Site::start(there).await;
    let scene = site.scene();
    let artifact = scene.load(&Counts::default()).await.unwrap();
    assert_is(&artifact, &with_sums());

    site.server.asked();
    let counts = Counts::default();
    let resolved = site.scene().look(&counts).await.unwrap();
    assert_eq!(resolved.digest, artifact.digest);
    assert_eq!(counts.get(), (0, 0), "all sums are listed");
    let whole = |request: &&Request| request.method == "GET" && request.path.ends_with(WEIGHTS);
    let ranges: Vec<_> = site
        .server
        .asked()
        .iter()
        .filter(whole)
        .map(|r| r.header("range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, [Some("bytes=0-65535".to_owned())], "only the header");
}

#[tokio::test]
async fn a_server_whose_authority_is_not_known_is_not_believed() {
    let site = Site::start(with_sums()).await;
    let scene = site.scene_with(&[("username", "lamp"), ("password", "wick")]);
    let error = scene.look(&Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Download { .. }), "{error:?}");
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
}

#[tokio::test]
async fn who_may_not_read_is_told_so() {
    let site = Site::start(with_sums()).await;
    let authority = site.server.authority.clone().unwrap();
    let scene = site.scene_with(&[("ca.crt", &authority), ("token", "water")]);
    let error = scene.look(&Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::AuthDenied { .. }), "{error:?}");
    assert!(error.to_string().contains("who are you?"), "{error}");
    assert!(!error.to_string().contains("water"), "{error}");
}

#[tokio::test]
async fn a_list_of_sums_that_is_missing_or_wrong_is_named() {
    let load = async |there: Files| {
        let site = Site::start(there).await;
        site.scene().load(&Counts::default()).await.unwrap_err()
    };
    let error = load(files()).await;
    assert!(matches!(&error, ArtifactError::FileMissing { file, .. } if file == "SHA256SUMS"));
    assert!(error.to_string().contains("sha256sum"), "{error}");

    let mut there = with_sums();
    there.remove("README.md");
    let error = load(there).await;
    assert!(matches!(&error, ArtifactError::FileMissing { file, .. } if file == "README.md"));

    let mut there = with_sums();
    there.insert("SHA256SUMS".to_owned(), b"not a list of sums".to_vec());
    let error = load(there).await;
    assert!(matches!(error, ArtifactError::SumsInvalid { .. }), "{error:?}");

    let mut there = with_sums();
    let outside = format!("{}  ../../etc/passwd\n", hex(b""));
    there.get_mut("SHA256SUMS").unwrap().extend(outside.as_bytes());
    let error = load(there).await;
    assert!(matches!(error, ArtifactError::PathRefused { .. }), "{error:?}");

    let mut there = with_sums();
    there.insert("README.md".to_owned(), b"read ME".to_vec());
    let error = load(there).await;
    assert!(matches!(&error, ArtifactError::SumMismatch { file, .. } if file == "README.md"));
    assert!(error.to_string().contains("write SHA256SUMS anew"), "{error}");
}

#[tokio::test]
async fn a_server_that_hands_out_no_parts_is_read_as_a_whole() {
    let site = Site::start(with_sums()).await;
    site.server.misbehave(WEIGHTS, Fault::NoRanges, 100);
    let scene = site.scene();
    scene.look(&Counts::default()).await.unwrap();
    let asked = || -> Vec<Option<String>> {
        let asked = site.server.asked();
        let weights = asked
            .iter()
            .filter(|request| request.method == "GET" && request.path.ends_with(WEIGHTS));
        weights.map(|request| request.header("range").map(str::to_owned)).collect()
    };
    assert_eq!(asked(), [Some("bytes=0-65535".to_owned())], "only the header is read");
    let artifact = scene.load(&Counts::default()).await.unwrap();
    assert_is(&artifact, &with_sums());
    assert_eq!(asked().len(), 1, "each request brings the whole file");
}

#[tokio::test]
async fn a_file_that_is_replaced_between_two_reads_is_named() {
    let site = Site::start(with_sums()).await;
    site.replace_after_read.store(true, Ordering::Relaxed);
    let scene = site.scene();
    let error = scene.load(&Counts::default()).await.unwrap_err();
    assert!(
        matches!(&error, ArtifactError::ChangedMeanwhile { file, .. } if file == WEIGHTS),
        "{error:?}"
    );
    assert!(scene.visible().is_empty());
}
