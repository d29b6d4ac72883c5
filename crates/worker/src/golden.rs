//! `lamplighter-worker golden`: records an artifact's own validation cases.

use std::num::NonZeroUsize;
use std::path::Path;

use lamplighter_artifact::{Artifact, Location, Places, Progress, fetch, verify};
use lamplighter_engine::golden::{FILE, Golden};
use lamplighter_engine::{Device, EngineError, build, prepare, read, transfer};
use lamplighter_protocol::{Failure, Phase, Reason};

use crate::cli::GoldenArgs;
use crate::failure;

/// Asked when no text is given: several topics, lengths and scripts, so that damage to any
/// part of a model moves at least one of the vectors.
const TEXTS: [&str; 6] = [
    "light",
    "The lamplighter walked down the street and lit one lamp after another.",
    "A cat sleeps on the warm stone wall in the afternoon sun.",
    "In 1999 the price of copper rose by 7 % within three weeks.",
    "Größere Straßen wurden früher beleuchtet als die kleinen Gassen.",
    "def add(a, b): return a + b",
];

/// Loads the artifact and writes what it answers now.
pub async fn record(args: &GoldenArgs) -> Result<(), Failure> {
    let artifact = open(&args.artifact).await?;
    let texts = texts(args)?;
    let output = args.output.clone().unwrap_or_else(|| artifact.root.join(FILE));
    let digest = artifact.digest.to_string();
    let min_cosine = args.min_cosine.clone();
    let json = tokio::task::spawn_blocking(move || answers(&artifact, texts, &min_cosine))
        .await
        .map_err(|lost| failure::of_lost_task(&lost))?
        .map_err(|error| failure::of_engine(&error, Phase::Validate))?;
    replace(&output, json.as_bytes())
        .map_err(|error| internal(format!("{} cannot be written: {error}", output.display())))?;
    tracing::info!(file = %output.display(), %digest, "recorded");
    Ok(())
}

/// Writes beside the file and renames: a pod that starts meanwhile must not read half of it.
/// The name is hidden, because hidden files are no part of an artifact.
fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let unfinished = path.with_file_name(format!(".{name}-{}", std::process::id()));
    let written = std::fs::File::create(&unfinished).and_then(|mut file| {
        std::io::Write::write_all(&mut file, content)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    });
    if written.is_err() {
        // The first error is the one to tell; this one only leaves a hidden file.
        drop(std::fs::remove_file(&unfinished));
    }
    written
}

async fn open(dir: &Path) -> Result<Artifact, Failure> {
    let path = dir
        .canonicalize()
        .map_err(|error| internal(format!("{} cannot be opened: {error}", dir.display())))?;
    let places = Places::default();
    let opened = async {
        let location = Location::Image { path };
        let fetched = fetch(&location, "artifact", "local", None, &places, &Unheard).await?;
        verify(fetched, None, &Unheard).await
    };
    opened.await.map_err(|error| failure::of_artifact(&error))
}

fn answers(
    artifact: &Artifact,
    texts: Option<Vec<String>>,
    min_cosine: &str,
) -> Result<String, EngineError> {
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let weights = read(&artifact.root, &artifact.weights.files(), threads, &|_| {})?;
    let engine = transfer(build(weights, prepare(&artifact.root)?)?, Device::Cpu)?;
    let digest = artifact.digest.to_string();
    // A text of the user's that is too long is an error; one of ours is left out.
    let fits = |text: &&str| engine.tokenize(&[text]).is_ok();
    let ours = || TEXTS.into_iter().filter(fits).map(str::to_owned).collect();
    let texts: Vec<String> = texts.unwrap_or_else(ours);
    let named: Vec<(String, String)> = texts
        .into_iter()
        .enumerate()
        .map(|(index, text)| (format!("golden-{}", index + 1), text))
        .collect();
    Golden::record(engine.as_ref(), &digest, &named, min_cosine)?.to_json()
}

/// The texts of the command line; none if there are none.
fn texts(args: &GoldenArgs) -> Result<Option<Vec<String>>, Failure> {
    let mut texts = args.texts.clone();
    if let Some(file) = &args.texts_file {
        let lines = std::fs::read_to_string(file)
            .map_err(|error| internal(format!("{} cannot be read: {error}", file.display())))?;
        texts.extend(lines.lines().filter(|line| !line.is_empty()).map(str::to_owned));
    }
    Ok((!texts.is_empty()).then_some(texts))
}

struct Unheard;

impl Progress for Unheard {
    fn total(&self, _bytes: u64) {}
    fn add(&self, _bytes: u64) {}
}

fn internal(message: String) -> Failure {
    Failure::new(Reason::Internal, message)
}
