//! Where faults are played: a real S3 server, the real worker, and a neighbour in the cache.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lamplighter_artifact::Digest;
use lamplighter_protocol::{Failure, Reason, ResolveRecord};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::faults::{Damage, Fault};
use crate::support::artifact::{Place, Tiny};
use crate::support::process::{self, BINARY, Process};
use crate::support::store::{BUCKET, Store};

const NEIGHBOUR: &str = "neighbour";
/// How long a worker may take to give up a model that loads in a moment.
const PATIENCE: Duration = Duration::from_secs(15);

/// What became of one fault under one command.
pub(crate) struct Row {
    pub(crate) fault: String,
    command: &'static str,
    /// None where it is to go well.
    expected: Option<Reason>,
    got: Result<Option<Reason>, String>,
    /// Whether the failure names the thing.
    is_named: bool,
    /// The fields that a failure with this reason has and that this one lacks.
    lacks: Vec<&'static str>,
    /// What is visible and not whole.
    partial: Vec<PathBuf>,
    is_neighbour_intact: bool,
}

impl Row {
    pub(crate) fn is_right(&self) -> bool {
        self.got.as_ref() == Ok(&self.expected)
            && self.is_named
            && self.lacks.is_empty()
            && self.partial.is_empty()
            && self.is_neighbour_intact
    }

    pub(crate) fn cells(&self) -> Vec<String> {
        let word = |reason: &Option<Reason>| {
            reason.map_or("none".to_owned(), |reason| reason.as_str().to_owned())
        };
        let yes = |holds: bool| if holds { "yes" } else { "NO" }.to_owned();
        vec![
            self.fault.clone(),
            self.command.to_owned(),
            word(&self.expected),
            self.got.as_ref().map_or_else(Clone::clone, word),
            yes(self.is_named),
            if self.lacks.is_empty() { "all".to_owned() } else { format!("no {:?}", self.lacks) },
            if self.partial.is_empty() { "no".to_owned() } else { format!("{:?}", self.partial) },
            if self.is_neighbour_intact { "intact" } else { "HARMED" }.to_owned(),
        ]
    }
}

/// Where faults are played.
pub(crate) struct Stage {
    pub(crate) store: Store,
    /// A sound artifact with a golden file.
    sound: Place,
    /// A cache with the neighbour's copy in it.
    cache: tempfile::TempDir,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let store = Store::start().await;
        store.credentials(false);
        let sound = Place::new(&Tiny::new());
        let folder = sound.artifact().display().to_string();
        let golden = ["golden", "--artifact", &folder, "--text", "the lamp", "--text", "winter"];
        assert!(process::output(&golden).await.status.success());
        let stage = Self { store, sound, cache: tempfile::tempdir().unwrap() };
        copy(&stage.sound.artifact(), &stage.store.folder(NEIGHBOUR));
        let place = Place::new(&Tiny::new());
        place.write_manifest(&[stage.entry(NEIGHBOUR)]);
        let (said, _) = stage.resolve(&place, NEIGHBOUR, stage.cache.path()).await;
        assert!(said.is_none(), "the neighbour is resolved: {said:?}");
        stage
    }

    pub(crate) fn entry(&self, name: &str) -> Value {
        json!({
            "name": name,
            "version": "1",
            "task": "Embedding",
            "source": {
                "uri": format!("s3://{BUCKET}/{name}"),
                "credentials": self.store.credentials(true),
            },
        })
    }

    /// What is not broken is served: without this, a worker that always fails would pass.
    pub(crate) async fn sound(&self) -> Row {
        let place = self.place("sound", |_| {}, |_| {});
        let (said, record) = self.resolve(&place, "sound", &cache_of(&place)).await;
        let expected = expecting("sound", record.as_ref());
        let more: Vec<&str> = expected.iter().map(String::as_str).collect();
        let mut worker = Process::start(place.path(), &more).await;
        worker.logged("every model passed: ready").await;
        worker.terminate();
        let ended = worker.ended().await;
        let got = match said {
            None if ended.status.success() => Ok(None),
            other => Err(format!("{other:?} {ended:?}")),
        };
        self.row("nothing is broken", "both", None, got, (true, Vec::new()), &place)
    }

    /// Both commands' rows for a fault.
    pub(crate) async fn play(&self, fault: &Fault) -> Vec<Row> {
        let name = slug(fault.name);
        let folder = self.store.folder(&name);
        let change = |entry: &mut Value| {
            if let Damage::Entry(change) = fault.damage {
                change(entry);
            }
        };
        let place = self.place(&name, |folder| Self::damage(folder, fault.damage), change);
        let cache = cache_of(&place);
        let (said, record) = self.resolve(&place, &name, &cache).await;
        let named = (fault.name, fault.names);
        let resolved = self.judged(named, "resolve", fault.resolve, said.as_ref(), &place);
        if let Damage::Later(change) = fault.damage {
            // The copy that resolving made would be right.
            fs::remove_dir_all(cache.join(&name)).unwrap();
            change(&folder);
        }
        let expected = expecting(&name, record.as_ref());
        fs::remove_file(place.termination_log()).unwrap();
        let more: Vec<&str> = expected.iter().map(String::as_str).collect();
        let ends = ends(&place, &more).await;
        let said = last_words(&place);
        let mut served = self.judged(named, "serve", Some(fault.serve), said.as_ref(), &place);
        if !ends {
            served.got = Err("it serves".to_owned());
        }
        vec![resolved, served]
    }

    /// A cache that cannot be written, is full, or has no inodes left. Volumes of a namespace of
    /// their own; whoever is not root needs user namespaces for that.
    pub(crate) async fn disks(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        // Whoever is root may write anything; without his capabilities he is an owner like others.
        let as_owner = "setpriv --bounding-set=-all";
        for (fault, options, through, reason) in [
            ("read-only cache", "ro", "", Reason::VolumeUnwritable),
            ("cache of somebody else", "mode=0555", as_owner, Reason::VolumeUnwritable),
            ("full cache", "size=16k", "", Reason::DiskFull),
            ("cache without inodes", "nr_inodes=3", "", Reason::DiskFull),
        ] {
            let name = slug(fault);
            let place = self.place(&name, |_| {}, |_| {});
            let cache = cache_of(&place);
            fs::create_dir_all(&cache).unwrap();
            let script = format!(
                "mount -t tmpfs -o {options} tmpfs {} && exec {through} {BINARY} resolve --manifest {} \
                 --model {name}:1 --termination-log {} --cache-dir {}",
                cache.display(),
                place.path().join("manifest.json").display(),
                place.termination_log().display(),
                cache.display(),
            );
            let mut command = Command::new("unshare");
            if !rustix::process::geteuid().is_root() {
                command.args(["--user", "--map-root-user"]);
            }
            command
                .args(["--mount", "sh", "-c", &script])
                .stdin(Stdio::null())
                .stderr(Stdio::piped());
            let ended = process::to_end(command).await;
            assert!(place.termination_log().exists(), "unshare and mount work here: {ended:?}");
            let said = last_words(&place);
            let words = cache.display().to_string();
            rows.push(self.judged((fault, &words), "resolve", Some(reason), said.as_ref(), &place));
        }
        rows
    }

    /// A place with an artifact of that name in the store, damaged, and its manifest.
    pub(crate) fn place(
        &self,
        name: &str,
        damage: impl FnOnce(&Path),
        change: impl FnOnce(&mut Value),
    ) -> Place {
        let folder = self.store.folder(name);
        copy(&self.sound.artifact(), &folder);
        damage(&folder);
        let mut entry = self.entry(name);
        change(&mut entry);
        let place = Place::new(&Tiny::new());
        place.write_manifest(&[entry]);
        copy(self.cache.path(), &cache_of(&place));
        place
    }

    fn damage(folder: &Path, damage: Damage) {
        match damage {
            Damage::Model(change) => Tiny::new().with(change).write_over(folder),
            Damage::Relabelled(change) => {
                Tiny::new().with(change).write_over(folder);
                relabel(folder);
            }
            Damage::Files(change) => change(folder),
            Damage::Later(_) | Damage::Entry(_) => {}
        }
    }

    pub(crate) async fn resolve(
        &self,
        place: &Place,
        name: &str,
        cache: &Path,
    ) -> (Option<Failure>, Option<ResolveRecord>) {
        let line = resolve_line(place, name, cache);
        process::run(&line).await;
        let words = fs::read_to_string(place.termination_log()).unwrap();
        match ResolveRecord::from_termination_message(&words) {
            Ok(record) => (None, Some(record)),
            Err(_) => (last_words(place), None),
        }
    }

    fn judged(
        &self,
        (fault, names): (&str, &str),
        command: &'static str,
        expected: Option<Reason>,
        said: Option<&Failure>,
        place: &Place,
    ) -> Row {
        assert!(!names.is_empty(), "{fault}: every failure names something");
        let says = |failure: &Failure| serde_json::to_string(failure).unwrap();
        let is_named = said.is_none_or(|failure| says(failure).contains(names));
        let lacks = said.map(lacks).unwrap_or_default();
        let got = Ok(said.map(|failure| failure.reason));
        self.row(fault, command, expected, got, (is_named, lacks), place)
    }

    pub(crate) fn row(
        &self,
        fault: &str,
        command: &'static str,
        expected: Option<Reason>,
        got: Result<Option<Reason>, String>,
        (is_named, lacks): (bool, Vec<&'static str>),
        place: &Place,
    ) -> Row {
        let cache = cache_of(place);
        Row {
            fault: fault.to_owned(),
            command,
            expected,
            got,
            is_named,
            lacks,
            partial: partial(&cache),
            is_neighbour_intact: same(&self.cache.path().join(NEIGHBOUR), &cache.join(NEIGHBOUR)),
        }
    }
}

pub(crate) fn resolve_line(place: &Place, name: &str, cache: &Path) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    let words = [
        "resolve",
        "--manifest",
        &path(&place.path().join("manifest.json")),
        "--termination-log",
        &path(&place.termination_log()),
        "--model",
        &format!("{name}:1"),
        "--cache-dir",
        &path(cache),
    ]
    .map(str::to_owned);
    words.to_vec()
}

pub(crate) fn cache_of(place: &Place) -> PathBuf {
    place.path().join("cache")
}

/// The arguments by which the operator holds pods to what was resolved.
fn expecting(name: &str, record: Option<&ResolveRecord>) -> Vec<String> {
    record.map_or_else(Vec::new, |record| {
        vec!["--expected-digests".to_owned(), format!("{name}:1={}", record.digest)]
    })
}

/// Whether `serve` gives up by itself.
async fn ends(place: &Place, more: &[&str]) -> bool {
    let mut command = process::serving(BINARY.as_ref(), place.path(), more);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    tokio::time::timeout(PATIENCE, child.wait()).await.is_ok()
}

/// Which of the fields a failure lacks that every one with its reason has.
fn lacks(failure: &Failure) -> Vec<&'static str> {
    use Reason::*;
    let is_there = |field: &str| match field {
        "file" => failure.file.is_some(),
        "tensor" => failure.tensor.is_some(),
        "expected" => failure.expected.is_some(),
        "found" => failure.found.is_some() && failure.found != failure.expected,
        other => panic!("there is no field {other}"),
    };
    let fields: &[&'static str] = match failure.reason {
        ArtifactTruncated | HeaderInvalid | ConfigInvalid | PoolingUnknown => {
            &["file", "expected", "found"]
        }
        IndexMissingShard | TensorShapeMismatch | UnsupportedDtype | WeightsNonFinite => {
            &["file", "tensor", "expected", "found"]
        }
        TensorMissing => &["tensor"],
        UnsafeFormat | TokenizerInvalid | GoldenInvalid | DiskFull | VolumeUnwritable => &["file"],
        DigestMismatch | UnsupportedArchitecture | TokenizerVocabMismatch | ValidationFailed => {
            &["expected", "found"]
        }
        // A file, or the whole address.
        ArtifactNotFound if failure.file.is_some() => &["expected", "found"],
        _ => &[],
    };
    fields.iter().copied().filter(|field| !is_there(field)).collect()
}

/// What the process left; nothing if it went well.
fn last_words(place: &Place) -> Option<Failure> {
    let words = fs::read_to_string(place.termination_log()).unwrap_or_default();
    Failure::from_termination_message(&words)
}

fn slug(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(plain).collect()
}

/// The golden file says that it is of the files as they are now.
fn relabel(folder: &Path) {
    let digest = digest(folder);
    let path = folder.join("golden.json");
    let mut golden: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    golden["artifactDigest"] = json!(digest.to_string());
    fs::write(path, golden.to_string()).unwrap();
}

fn digest(folder: &Path) -> Digest {
    let mut records = Vec::new();
    for file in files(folder) {
        let content = fs::read(&file).unwrap();
        let path = file.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        let record = json!({"path": path, "size": content.len(), "sha256": sum(&content)});
        records.push(serde_json::from_value(record).unwrap());
    }
    Digest::of(&records)
}

fn sum(content: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(content).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Visible folders of the cache that are not just what their record says.
pub(crate) fn partial(cache: &Path) -> Vec<PathBuf> {
    let visible = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        let is_visible =
            |path: &PathBuf| !path.file_name().unwrap().to_str().unwrap().starts_with('.');
        entries.filter(is_visible).collect()
    };
    let shelves = visible(cache).into_iter().flat_map(|model| visible(&model));
    let copies = shelves.flat_map(|shelf| visible(&shelf));
    copies.filter(|copy| !is_whole(copy)).collect()
}

fn is_whole(copy: &Path) -> bool {
    let Ok(record) = fs::read(copy.join(".lamplighter.json")) else { return false };
    let record: Value = serde_json::from_slice(&record).unwrap();
    let recorded = record["files"].as_array().unwrap();
    recorded.iter().all(|file| {
        let content = fs::read(copy.join(file["path"].as_str().unwrap()));
        content.is_ok_and(|content| file["sha256"] == json!(sum(&content)))
    })
}

/// All files below a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { all.push(path) }
        }
    }
    all.sort();
    all
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

/// Whether two folders have the same files.
fn same(a: &Path, b: &Path) -> bool {
    let content = |folder: &Path| -> Vec<(PathBuf, Vec<u8>)> {
        let relative = |file: PathBuf| {
            let path = file.strip_prefix(folder).unwrap().to_owned();
            (path, fs::read(file).unwrap())
        };
        files(folder).into_iter().map(relative).collect()
    };
    content(a) == content(b)
}

/// As [`Tiny::write`], over what is there.
trait WriteOver {
    fn write_over(&self, folder: &Path);
}

impl WriteOver for Tiny {
    fn write_over(&self, folder: &Path) {
        let golden = fs::read(folder.join("golden.json")).unwrap();
        fs::remove_dir_all(folder).unwrap();
        fs::create_dir_all(folder).unwrap();
        self.write(folder);
        fs::write(folder.join("golden.json"), golden).unwrap();
    }
}
