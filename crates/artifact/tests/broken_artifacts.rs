//! Every way in which an artifact can be broken has its own error, and a whole one has none.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use lamplighter_artifact::{
    Artifact, ArtifactError, Digest, Location, Places, Progress, Resolved, Unsummed, fetch,
    resolve, verify,
};

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

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 1);
    bytes
}

const A: &str = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
const B: &str = r#"{"b":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}"#;
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const MODULES: &str = "modules.json";

fn whole(folder: &Path) {
    fs::write(folder.join("config.json"), b"{}").unwrap();
    fs::write(folder.join("tokenizer.json"), b"{}").unwrap();
    fs::write(folder.join(WEIGHTS), safetensors(A, 16)).unwrap();
}

fn sharded(folder: &Path) {
    whole(folder);
    fs::remove_file(folder.join(WEIGHTS)).unwrap();
    fs::write(folder.join("one.safetensors"), safetensors(A, 16)).unwrap();
    fs::write(folder.join("two.safetensors"), safetensors(B, 16)).unwrap();
    let index = r#"{"metadata":{},"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#;
    fs::write(folder.join(INDEX), index).unwrap();
}

async fn check_with(
    folder: &Path,
    expected: Option<&Digest>,
    progress: &Counts,
) -> Result<Artifact, ArtifactError> {
    let places = Places {
        cache: folder.join(".cache"),
        claims: folder.parent().unwrap().to_owned(),
        ..Places::default()
    };
    let claim = folder.file_name().unwrap().to_str().unwrap();
    let location = Location::Claim { claim: claim.to_owned(), path: "model".into() };
    let fetched = fetch(&location, "minilm", "1.0.0", None, &places, progress).await?;
    verify(fetched, expected, progress).await
}

async fn check(folder: &Path) -> Result<Artifact, ArtifactError> {
    check_with(folder, None, &Counts::default()).await
}

/// As [`check`], by who only looks what the artifact is.
async fn look_at(folder: &Path) -> Result<Resolved, ArtifactError> {
    let claims = folder.parent().unwrap().to_owned();
    let places = Places { cache: folder.join(".cache"), claims, ..Places::default() };
    let claim = folder.file_name().unwrap().to_str().unwrap();
    let location = Location::Claim { claim: claim.to_owned(), path: "model".into() };
    let counts = Counts::default();
    resolve(&location, "minilm", "1.0.0", None, &places, Unsummed::Drop, &counts).await
}

/// A volume with a folder `model` that `make` fills.
fn volume(make: impl Fn(&Path)) -> tempfile::TempDir {
    let volume = tempfile::Builder::new().prefix("volume").tempdir().unwrap();
    let model = volume.path().join("model");
    fs::create_dir(&model).unwrap();
    make(&model);
    volume
}

fn name(error: &ArtifactError) -> String {
    let debug = format!("{error:?}");
    debug.split([' ', '{', '(']).next().unwrap().to_owned()
}

/// What breaks a folder, and the error's name, file and tensor.
struct Broken {
    how: &'static str,
    make: fn(&Path),
    error: &'static str,
    file: Option<&'static str>,
    tensor: Option<&'static str>,
}

const fn broken(
    how: &'static str,
    make: fn(&Path),
    error: &'static str,
    file: Option<&'static str>,
    tensor: Option<&'static str>,
) -> Broken {
    Broken { how, make, error, file, tensor }
}

fn replace(folder: &Path, file: &str, content: impl AsRef<[u8]>) {
    fs::write(folder.join(file), content).unwrap();
}

fn remove(folder: &Path, file: &str) {
    fs::remove_file(folder.join(file)).unwrap();
}

fn pickle_only(folder: &Path, file: &str) {
    whole(folder);
    fs::rename(folder.join(WEIGHTS), folder.join(file)).unwrap();
}

/// With a module that has weights of its own, and two that have none.
fn modular(folder: &Path) {
    whole(folder);
    let modules = r#"[{"path":""},{"path":"1_Pooling"},{"path":"2_Dense"},{"path":"3_Dense"}]"#;
    fs::write(folder.join(MODULES), modules).unwrap();
    for module in ["1_Pooling", "2_Dense", "3_Dense"] {
        fs::create_dir(folder.join(module)).unwrap();
        fs::write(folder.join(module).join("config.json"), b"{}").unwrap();
    }
    for module in ["2_Dense", "3_Dense"] {
        fs::write(folder.join(module).join(WEIGHTS), safetensors(A, 16)).unwrap();
    }
}

const BROKEN: [Broken; 38] = [
    broken(
        "modules that are no list",
        |f| {
            modular(f);
            replace(f, MODULES, "{}");
        },
        "ConfigInvalid",
        Some(MODULES),
        None,
    ),
    broken(
        "a module without a path",
        |f| {
            modular(f);
            replace(f, MODULES, r#"[{"type":"x"}]"#);
        },
        "ConfigInvalid",
        Some(MODULES),
        None,
    ),
    broken(
        "more modules than any model has",
        |f| {
            modular(f);
            replace(f, MODULES, " ".repeat(1_000_001));
        },
        "ConfigInvalid",
        Some(MODULES),
        None,
    ),
    broken(
        "a module whose weights are a pickle",
        |f| {
            modular(f);
            remove(f, "2_Dense/model.safetensors");
            replace(f, "2_Dense/pytorch_model.bin", "");
        },
        "UnsafeFormat",
        Some("2_Dense/pytorch_model.bin"),
        None,
    ),
    broken(
        "truncated weights of a module",
        |f| {
            modular(f);
            replace(f, "3_Dense/model.safetensors", safetensors(A, 8));
        },
        "Truncated",
        Some("3_Dense/model.safetensors"),
        None,
    ),
    broken(
        "a tensor of the network that is named like one of a module",
        |f| {
            modular(f);
            replace(f, WEIGHTS, safetensors(&A.replace("\"a\"", "\"2_Dense/a\""), 16));
        },
        "HeaderInvalid",
        Some("2_Dense/model.safetensors"),
        Some("2_Dense/a"),
    ),
    broken("no folder", |f| fs::remove_dir(f).unwrap(), "NotFound", None, None),
    broken("nothing in it", |_| {}, "NotFound", None, None),
    broken("only hidden files", |f| replace(f, ".x", ""), "NotFound", None, None),
    broken(
        "no config",
        |f| {
            whole(f);
            remove(f, "config.json");
        },
        "FileMissing",
        Some("config.json"),
        None,
    ),
    broken(
        "config is no JSON",
        |f| {
            whole(f);
            replace(f, "config.json", "{");
        },
        "ConfigInvalid",
        Some("config.json"),
        None,
    ),
    broken(
        "config is a list",
        |f| {
            whole(f);
            replace(f, "config.json", "[]");
        },
        "ConfigInvalid",
        Some("config.json"),
        None,
    ),
    broken(
        "config is empty",
        |f| {
            whole(f);
            replace(f, "config.json", "");
        },
        "ConfigInvalid",
        Some("config.json"),
        None,
    ),
    broken(
        "no tokenizer",
        |f| {
            whole(f);
            remove(f, "tokenizer.json");
        },
        "FileMissing",
        Some("tokenizer.json"),
        None,
    ),
    broken(
        "no weights",
        |f| {
            whole(f);
            remove(f, WEIGHTS);
        },
        "FileMissing",
        Some(WEIGHTS),
        None,
    ),
    broken(
        "a pickle of torch",
        |f| pickle_only(f, "pytorch_model.bin"),
        "UnsafeFormat",
        Some("pytorch_model.bin"),
        None,
    ),
    broken(
        "another pickle",
        |f| pickle_only(f, "weights.pkl"),
        "UnsafeFormat",
        Some("weights.pkl"),
        None,
    ),
    broken("a checkpoint", |f| pickle_only(f, "last.pt"), "UnsafeFormat", Some("last.pt"), None),
    broken(
        "empty weights",
        |f| {
            whole(f);
            replace(f, WEIGHTS, "");
        },
        "Truncated",
        Some(WEIGHTS),
        None,
    ),
    broken(
        "weights end in the header",
        |f| {
            whole(f);
            replace(f, WEIGHTS, &safetensors(A, 0)[..20]);
        },
        "Truncated",
        Some(WEIGHTS),
        None,
    ),
    broken(
        "weights end in the data",
        |f| {
            whole(f);
            replace(f, WEIGHTS, safetensors(A, 15));
        },
        "Truncated",
        Some(WEIGHTS),
        None,
    ),
    broken(
        "weights go on",
        |f| {
            whole(f);
            replace(f, WEIGHTS, safetensors(A, 17));
        },
        "HeaderInvalid",
        Some(WEIGHTS),
        None,
    ),
    broken(
        "a header too long",
        |f| {
            whole(f);
            replace(f, WEIGHTS, 100_000_001_u64.to_le_bytes());
        },
        "HeaderInvalid",
        Some(WEIGHTS),
        None,
    ),
    broken(
        "a pointer of Git LFS",
        |f| {
            whole(f);
            replace(f, WEIGHTS, "version https://git-lfs\n");
        },
        "HeaderInvalid",
        Some(WEIGHTS),
        None,
    ),
    broken(
        "a header that is no JSON",
        |f| {
            whole(f);
            replace(f, WEIGHTS, safetensors("{a}", 0));
        },
        "HeaderInvalid",
        Some(WEIGHTS),
        None,
    ),
    broken(
        "an unknown dtype",
        |f| {
            whole(f);
            replace(f, WEIGHTS, safetensors(&A.replace("F32", "Q4"), 16));
        },
        "HeaderInvalid",
        Some(WEIGHTS),
        Some("a"),
    ),
    broken(
        "a shape of another size",
        |f| {
            whole(f);
            replace(f, WEIGHTS, safetensors(&A.replace("2,2", "2,3"), 16));
        },
        "HeaderInvalid",
        Some(WEIGHTS),
        Some("a"),
    ),
    broken(
        "a gap before the data",
        |f| {
            whole(f);
            replace(f, WEIGHTS, safetensors(&A.replace("0,16", "4,20"), 20));
        },
        "HeaderInvalid",
        Some(WEIGHTS),
        Some("a"),
    ),
    broken(
        "an index that is no JSON",
        |f| {
            sharded(f);
            replace(f, INDEX, "]");
        },
        "IndexInvalid",
        Some(INDEX),
        None,
    ),
    broken(
        "an index that places nothing",
        |f| {
            sharded(f);
            replace(f, INDEX, r#"{"weight_map":{}}"#);
        },
        "IndexInvalid",
        Some(INDEX),
        None,
    ),
    broken(
        "a missing shard",
        |f| {
            sharded(f);
            remove(f, "two.safetensors");
        },
        "IndexMissingShard",
        Some(INDEX),
        Some("b"),
    ),
    broken(
        "a truncated shard",
        |f| {
            sharded(f);
            replace(f, "two.safetensors", safetensors(B, 8));
        },
        "Truncated",
        Some("two.safetensors"),
        None,
    ),
    broken(
        "a shard without its tensor",
        |f| {
            sharded(f);
            replace(f, "two.safetensors", safetensors("{}", 0));
        },
        "IndexMissingTensor",
        Some(INDEX),
        Some("b"),
    ),
    broken(
        "a tensor in two shards",
        |f| {
            sharded(f);
            replace(f, "two.safetensors", safetensors(A, 16));
        },
        "HeaderInvalid",
        Some("two.safetensors"),
        Some("a"),
    ),
    broken(
        "a shard outside",
        |f| {
            sharded(f);
            replace(f, INDEX, r#"{"weight_map":{"a":"../x"}}"#);
        },
        "IndexMissingShard",
        Some(INDEX),
        Some("a"),
    ),
    broken(
        "a link out of the volume",
        |f| {
            whole(f);
            symlink("/etc/hostname", f.join("x")).unwrap();
        },
        "PathRefused",
        Some("x"),
        None,
    ),
    broken(
        "a link in a circle",
        |f| {
            whole(f);
            symlink(".", f.join("x")).unwrap();
        },
        "PathRefused",
        None,
        None,
    ),
    broken(
        "a name with a line end",
        |f| {
            whole(f);
            replace(f, "a\nb", "");
        },
        "PathRefused",
        Some("a\nb"),
        None,
    ),
];

/// Guarantees: gates-01.
#[tokio::test]
async fn every_broken_artifact_has_exactly_its_error() {
    for Broken { how, make, error, file, tensor } in &BROKEN {
        let volume = volume(make);
        let loaded = check(volume.path()).await.expect_err(how);
        let looked_at = look_at(volume.path()).await.expect_err(how);
        for found in [loaded, looked_at] {
            assert_eq!(name(&found), *error, "{how}: {found}");
            if let Some(file) = file {
                assert_eq!(found.file().as_deref(), Some(*file), "{how}: {found}");
            }
            assert_eq!(found.tensor(), *tensor, "{how}: {found}");
        }
    }
}

#[tokio::test]
async fn a_truncated_file_says_how_long_it_should_be() {
    let volume = volume(|folder| {
        whole(folder);
        replace(folder, WEIGHTS, safetensors(A, 10));
    });
    let error = check(volume.path()).await.unwrap_err();
    let size = |data: usize| format!("{} bytes", safetensors(A, data).len());
    assert_eq!(error.expected(), Some(size(16)));
    assert_eq!(error.found(), Some(size(10)));
}

#[tokio::test]
async fn weights_of_modules_are_the_artifacts_too_each_under_its_folders_name() {
    let volume = volume(modular);
    let artifact = check(volume.path()).await.unwrap();
    let dense = ["2_Dense/model.safetensors", "3_Dense/model.safetensors"];
    assert_eq!(artifact.weights.files(), [dense[0], dense[1], WEIGHTS]);
    let tensors: Vec<&String> = artifact.weights.tensors().keys().collect();
    assert_eq!(tensors, ["2_Dense/a", "3_Dense/a", "a"]);
    assert_eq!(artifact.weights.parameters(), 12);
    for file in dense {
        assert!(artifact.files.iter().any(|record| record.path == file), "{file} is summed");
    }
    assert_eq!(look_at(volume.path()).await.unwrap().weights, artifact.weights);
}

/// Which modules there are is for who runs them.
#[tokio::test]
async fn folders_that_no_module_names_are_not_looked_into() {
    let volume = volume(|folder| {
        modular(folder);
        replace(folder, MODULES, r#"[{"path":""},{"path":"../x"},{"path":"none"}]"#);
        replace(folder, "2_Dense/pytorch_model.bin", "");
        replace(folder, "2_Dense/model.safetensors", "");
    });
    let artifact = check(volume.path()).await.unwrap();
    assert_eq!(artifact.weights.files(), [WEIGHTS]);
}

#[tokio::test]
async fn a_whole_artifact_is_described() {
    for make in [whole, sharded] {
        let volume = volume(|folder| {
            make(folder);
            replace(folder, "pytorch_model.bin", "a pickle beside safetensors is not opened");
            replace(folder, "golden.json", "{}");
        });
        let counts = Counts::default();
        let artifact = check_with(volume.path(), None, &counts).await.unwrap();
        let total = counts.total.load(Ordering::Relaxed);
        assert_eq!(total, artifact.bytes + 2, "golden.json is read, but does not count");
        assert_eq!(counts.added.load(Ordering::Relaxed), total);
        assert_eq!(artifact.weights.parameters(), 4);
        assert_eq!(artifact.weights.tensors()["a"].shape, [2, 2]);
        assert!(artifact.golden.as_ref().unwrap().is_file());
        for file in artifact.weights.files() {
            assert!(artifact.root.join(file).is_file());
        }

        let resolved = look_at(volume.path()).await.unwrap();
        assert_eq!((&resolved.files, resolved.digest), (&artifact.files, artifact.digest));
        assert_eq!((&resolved.weights, resolved.bytes), (&artifact.weights, artifact.bytes));
        let again = check_with(volume.path(), Some(&artifact.digest), &counts).await.unwrap();
        assert_eq!((again.files, again.digest), (artifact.files, artifact.digest));
    }
}

/// Guarantees: gates-04.
#[tokio::test]
async fn other_contents_than_the_pinned_ones_are_refused() {
    let volume = volume(whole);
    let pinned = check(volume.path()).await.unwrap().digest;
    replace(&volume.path().join("model"), "config.json", "{ }");
    let error = check_with(volume.path(), Some(&pinned), &Counts::default()).await.unwrap_err();
    assert_eq!(name(&error), "DigestMismatch");
    assert_eq!(error.expected(), Some(pinned.to_string()));
    assert_ne!(error.found(), Some(pinned.to_string()));
}

type Change<'a> = &'a dyn Fn(&Path);

#[tokio::test]
async fn files_that_change_after_they_were_verified_are_named() {
    let again =
        |folder: &Path, file: &str| replace(folder, file, fs::read(folder.join(file)).unwrap());
    let changes: [(Change<'_>, Option<&str>, &str); 6] = [
        (&|_| {}, None, ""),
        (&|folder| replace(folder, "golden.json", "{}"), None, ""),
        (&|folder| again(folder, WEIGHTS), Some(WEIGHTS), "changed"),
        (&|folder| remove(folder, "tokenizer.json"), Some("tokenizer.json"), "removed"),
        (&|folder| replace(folder, "modules.json", "[]"), Some("modules.json"), "added"),
        (
            &|folder| {
                fs::copy(folder.join(WEIGHTS), folder.join("new")).unwrap();
                fs::rename(folder.join("new"), folder.join(WEIGHTS)).unwrap();
            },
            Some(WEIGHTS),
            "changed",
        ),
    ];
    for (change, file, how) in changes {
        let volume = volume(whole);
        let folder = volume.path().join("model");
        // Written some time ago, so that writing it again shows on any file system.
        let weights = fs::File::options().append(true).open(folder.join(WEIGHTS)).unwrap();
        weights.set_modified(std::time::UNIX_EPOCH).unwrap();
        let artifact = check(volume.path()).await.unwrap();
        change(&folder);
        match (artifact.unchanged(), file) {
            (Ok(()), None) => {}
            (Err(error), Some(file)) => {
                assert_eq!(name(&error), "ChangedSinceVerified");
                assert_eq!(error.file().as_deref(), Some(file));
                assert!(error.to_string().contains(how), "{error}");
            }
            (outcome, _) => panic!("{file:?} {how}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn a_file_that_may_not_be_read_is_named() {
    let volume = volume(whole);
    let config = volume.path().join("model/config.json");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&config).is_ok() {
        // The superuser reads everything; a link to nothing is unreadable for everyone.
        fs::remove_file(&config).unwrap();
        symlink("nothing", &config).unwrap();
    }
    let error = check(volume.path()).await.unwrap_err();
    assert_eq!(name(&error), "Read");
    assert!(error.file().unwrap().ends_with("config.json"), "{error}");
}

#[tokio::test]
async fn a_claim_that_is_not_mounted_is_not_found() {
    let volume = volume(whole);
    let places = Places {
        cache: volume.path().to_owned(),
        claims: volume.path().to_owned(),
        ..Places::default()
    };
    for uri in ["pvc://elsewhere/model", "image:///nowhere/model"] {
        let location = Location::parse(uri).unwrap();
        let error =
            fetch(&location, "a", "1", None, &places, &Counts::default()).await.unwrap_err();
        assert_eq!(name(&error), "NotFound");
        assert!(error.to_string().contains(uri), "{error}");
    }
}

#[tokio::test]
async fn a_folder_of_the_image_is_used_where_it_is() {
    let volume = volume(whole);
    let model = volume.path().join("model").canonicalize().unwrap();
    let places = Places {
        cache: volume.path().join("cache"),
        claims: volume.path().to_owned(),
        ..Places::default()
    };
    let location = Location::parse(&format!("image://{}", model.display())).unwrap();
    let fetched = fetch(&location, "a", "1", None, &places, &Counts::default()).await.unwrap();
    assert_eq!(fetched.root(), model);
    assert!(!places.cache.exists());
}

/// The same definition of the digest, written in Python, named this model's digest.
#[tokio::test]
#[ignore = "needs the real model: cargo xtask test sets LAMPLIGHTER_MINILM"]
async fn the_digest_of_the_real_model_is_the_one_its_reference_vectors_name() {
    let folder = std::env::var("LAMPLIGHTER_MINILM").unwrap();
    let folder = fs::canonicalize(folder).unwrap();
    let golden =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/tests/golden/all-minilm-l6-v2.json");
    let golden: serde_json::Value = serde_json::from_slice(&fs::read(golden).unwrap()).unwrap();
    let expected: Digest = golden["artifactDigest"].as_str().unwrap().parse().unwrap();
    let places =
        Places { cache: folder.join("cache"), claims: folder.clone(), ..Places::default() };
    let location = Location::Image { path: folder };
    let fetched =
        fetch(&location, "minilm", "1.0.0", None, &places, &Counts::default()).await.unwrap();
    let artifact = verify(fetched, Some(&expected), &Counts::default()).await.unwrap();
    assert_eq!(artifact.weights.parameters(), 22_713_216);
    let counts = Counts::default();
    let resolved =
        resolve(&location, "a", "1", Some(&expected), &places, Unsummed::Drop, &counts).await;
    let resolved = resolved.unwrap();
    assert_eq!((resolved.files, resolved.weights), (artifact.files, artifact.weights));
    let config: serde_json::Value =
        serde_json::from_slice(&resolved.settings["config.json"]).unwrap();
    assert_eq!(config["num_hidden_layers"], 6);
}
