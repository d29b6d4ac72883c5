//! `lamplighter-worker golden`: records an artifact's own validation cases.

use std::num::NonZeroUsize;
use std::path::Path;

use lamplighter_artifact::{Artifact, Location, Places, Progress, fetch, verify};
use lamplighter_engine::golden::{FILE, Golden, Nearness};
use lamplighter_engine::{
    Device, EngineError, Gives, Kernel, Precision, Processor, Text, TooLong, build, prepare, read,
    transfer_to,
};
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

/// Asked of a model that gives one score: a good passage, a bad one and a middling one, in several
/// lengths.
const PAIRS: [(&str, &str); 5] = [
    ("who lights the lamps?", "The lamplighter lit one lamp after another."),
    ("who lights the lamps?", "In 1999 the price of copper rose by 7 % within three weeks."),
    ("where does the cat sleep?", "A cat sleeps on the warm stone wall in the afternoon sun."),
    ("light", "Größere Straßen wurden früher beleuchtet als die kleinen Gassen."),
    ("how are two numbers added?", "def add(a, b): return a + b"),
];
/// What stands between the two texts of a pair.
const BETWEEN: char = '\t';

/// Loads the artifact and writes what it answers now.
pub async fn record(args: &GoldenArgs) -> Result<(), Failure> {
    let artifact = open(&args.artifact).await?;
    let texts = texts(args)?;
    let output = args.output.clone().unwrap_or_else(|| artifact.root.join(FILE));
    let digest = artifact.digest.to_string();
    let (min_cosine, tolerance) = (args.min_cosine.clone(), args.tolerance.clone());
    let nearness = move |artifact: &Artifact| {
        let nearness = Nearness { min_cosine: &min_cosine, tolerance: &tolerance };
        answers(artifact, texts.as_deref(), nearness)
    };
    let json = tokio::task::spawn_blocking(move || nearness(&artifact))
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
    texts: Option<&[String]>,
    nearness: Nearness<'_>,
) -> Result<String, EngineError> {
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let weights = read(&artifact.root, &artifact.weights.files(), threads, &|_| {})?;
    let built = build(weights, prepare(&artifact.root)?)?;
    // What is recorded is compared with answers of any precision.
    let kernel = Kernel::fastest_in(Precision::F32);
    let engine = transfer_to(built, Device::Cpu, Processor::with(kernel))?;
    let digest = artifact.digest.to_string();
    // A text of the user's that is too long is an error; one of ours is left out.
    let fits = |text: &Text<'_>| engine.split(&[*text], TooLong::Refuse).is_ok();
    let pairs = PAIRS.map(|(query, passage)| Text::Pair(query, passage));
    let ours = match &engine.facts().gives {
        Gives::Scores { labels, .. } if labels.len() == 1 => &pairs[..],
        Gives::Vectors { .. } | Gives::Scores { .. } => &TEXTS.map(Text::One),
    };
    let gives_vectors = matches!(engine.facts().gives, Gives::Vectors { .. });
    let question = |text| question(text, gives_vectors);
    let texts: Vec<Text<'_>> = match texts {
        Some(texts) => texts.iter().map(String::as_str).map(question).collect(),
        None => ours.iter().copied().filter(fits).collect(),
    };
    let named: Vec<(String, Text<'_>)> = texts
        .into_iter()
        .enumerate()
        .map(|(index, text)| (format!("golden-{}", index + 1), text))
        .collect();
    Golden::record(engine.as_ref(), &digest, &named, nearness)?.to_json()
}

/// Of a model that gives scores, a text with a tab in it is two.
fn question(text: &str, gives_vectors: bool) -> Text<'_> {
    match text.split_once(BETWEEN) {
        Some((first, second)) if !gives_vectors => Text::Pair(first, second),
        _ => Text::One(text),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tab_makes_two_texts_where_scores_are_given() {
        assert_eq!(question("a\tb\tc", false), Text::Pair("a", "b\tc"));
        assert_eq!(question("a b", false), Text::One("a b"));
        assert_eq!(question("a\tb", true), Text::One("a\tb"));
    }
}
