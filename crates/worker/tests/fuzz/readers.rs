//! Whoever reads bytes from outside, and what has to hold of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use lamplighter_artifact::{Location, Places, Progress, Unsummed, resolve};
use lamplighter_engine::golden::Golden;
use lamplighter_engine::{EngineError, TensorHeader, build, describe, prepare, read};
use lamplighter_protocol::{Class, Failure, Manifest, Reason, Report, ResolveRecord};
use lamplighter_worker::failure;
use serde_json::json;
use sha2::Digest as _;

use crate::artifact::{Place, Tiny, WEIGHTS, tiny};

/// What was read without objection.
pub(crate) const ACCEPTED: &str = "accepted";
const INDEX: &str = "model.safetensors.index.json";
/// What the golden file says that it belongs to.
const GOLDEN_DIGEST: &str =
    "sha256:6437aed75d651a386b58ab12761d4c743b5b02ff6bd344b5b889365fbedca0de";
const THREADS: NonZeroUsize = NonZeroUsize::new(3).unwrap();
const SHARDS: [&str; 2] = ["model-1.safetensors", "model-2.safetensors"];

pub(crate) trait Reader {
    fn name(&self) -> &str;

    /// What is damaged.
    fn seeds(&self) -> &[Vec<u8>];

    /// [`ACCEPTED`] or the reason; an error where it is wrong about it.
    fn read(&self, bytes: &[u8]) -> Result<String, String>;
}

pub(crate) fn all() -> Vec<Box<dyn Reader>> {
    let mut readers: Vec<Box<dyn Reader>> = Vec::new();
    for file in [
        "config.json",
        "modules.json",
        "1_Pooling/config.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "SHA256SUMS",
        WEIGHTS,
    ] {
        readers.push(Box::new(InArtifact::new(file, false)));
    }
    readers.push(Box::new(InArtifact::new(INDEX, true)));
    readers.push(Box::new(InArtifact::new(SHARDS[1], true)));
    readers.extend(messages());
    readers
}

/// One file of a sound artifact.
struct InArtifact {
    file: &'static str,
    place: Place,
    seeds: Vec<Vec<u8>>,
    runtime: tokio::runtime::Runtime,
}

impl InArtifact {
    fn new(file: &'static str, is_sharded: bool) -> Self {
        let place = Place::new(&Tiny::new());
        if is_sharded {
            shard(&place.artifact());
        }
        let path = place.artifact().join(file);
        if file == "SHA256SUMS" {
            let sum = |name| sha256(&fs::read(place.artifact().join(name)).unwrap());
            let lines = [
                sum("config.json"),
                "  config.json\n".to_owned(),
                sum("tokenizer.json"),
                " *tokenizer.json\n".to_owned(),
            ];
            fs::write(&path, lines.concat()).unwrap();
        }
        let seeds = vec![fs::read(&path).unwrap()];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { file, place, seeds, runtime }
    }
}

fn sha256(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in sha2::Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn shard(dir: &Path) {
    let mut parts: [BTreeMap<String, tiny::Tensor>; 2] = Default::default();
    let mut placed = serde_json::Map::new();
    for (at, (name, tensor)) in Tiny::new().tensors.into_iter().enumerate() {
        placed.insert(name.clone(), SHARDS[at % 2].into());
        parts[at % 2].insert(name, tensor);
    }
    for (shard, part) in SHARDS.iter().zip(&parts) {
        tiny::write_weights(&dir.join(shard), part);
    }
    fs::write(dir.join(INDEX), json!({"metadata": {}, "weight_map": placed}).to_string()).unwrap();
    fs::remove_file(dir.join(WEIGHTS)).unwrap();
}

impl Reader for InArtifact {
    fn name(&self) -> &str {
        self.file
    }

    fn seeds(&self) -> &[Vec<u8>] {
        &self.seeds
    }

    fn read(&self, bytes: &[u8]) -> Result<String, String> {
        let dir = self.place.artifact();
        fs::write(dir.join(self.file), bytes).unwrap();
        let location = Location::Image { path: dir.clone() };
        let places = Places::default();
        let resolving = resolve(&location, "m", "1", None, &places, Unsummed::Drop, &Unheard);
        let resolved = match self.runtime.block_on(resolving) {
            Ok(resolved) => resolved,
            Err(error) => return contents(failure::of_artifact(&error).reason),
        };
        let tensors = resolved.weights.tensors().iter().map(|(name, tensor)| {
            let (file, shape) = (tensor.file.clone(), tensor.shape.clone());
            (name.clone(), TensorHeader { file, dtype: tensor.dtype, shape })
        });
        let described = describe(&dir, &tensors.collect(), &resolved.tokenizer_json);
        let weights = read(&dir, &resolved.weights.files(), THREADS, &|_| {});
        // The headers were understood: so is what follows them.
        let weights = weights.map_err(|error| format!("resolved, but not read: {error}"))?;
        let built = prepare(&dir).and_then(|prepared| build(weights, prepared));
        match (described, built) {
            (Ok(_), Ok(_)) => Ok(ACCEPTED.to_owned()),
            (Err(_) | Ok(_), Err(error)) if only_when_loaded(&error) => contents(reason(&error)),
            (Err(error), Err(_)) => contents(reason(&error)),
            (Ok(_), Err(error)) => Err(format!("described, but not built: {error}")),
            (Err(error), Ok(_)) => Err(format!("built, but not described: {error}")),
        }
    }
}

/// What cannot be seen without the weights' numbers and the tokenizer's own library.
fn only_when_loaded(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::WeightsNonFinite { .. }
            | EngineError::TokenizerInvalid { .. }
            | EngineError::TokenizerVocabMismatch { .. }
    )
}

fn reason(error: &EngineError) -> Reason {
    failure::of_engine(error, lamplighter_protocol::Phase::Build).reason
}

/// What is wrong with contents stays wrong: who would try again, because it is told as the fault of
/// store or volume, would try for ever.
fn contents(reason: Reason) -> Result<String, String> {
    match reason.class() {
        Class::Deterministic => Ok(reason.to_string()),
        // A file that a damaged list names is missing, and may still be brought.
        Class::Outside if reason == Reason::ArtifactNotFound => Ok(reason.to_string()),
        other => Err(format!("{reason} is {other:?}")),
    }
}

struct Unheard;

impl Progress for Unheard {
    fn total(&self, _bytes: u64) {}
    fn add(&self, _bytes: u64) {}
}

/// What operator and worker, or a person, send as text.
struct Message {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    read: fn(&str) -> Result<(), String>,
}

impl Reader for Message {
    fn name(&self) -> &str {
        self.name
    }

    fn seeds(&self) -> &[Vec<u8>] {
        &self.seeds
    }

    fn read(&self, bytes: &[u8]) -> Result<String, String> {
        match (self.read)(&String::from_utf8_lossy(bytes)) {
            Ok(()) => Ok(ACCEPTED.to_owned()),
            Err(_) => Ok("refused".to_owned()),
        }
    }
}

fn messages() -> Vec<Box<dyn Reader>> {
    macro_rules! golden {
        ($($name:literal),+) => {
            vec![$(
                include_bytes!(concat!("../../../protocol/tests/golden/", $name, ".json")).to_vec()
            ),+]
        };
    }
    let messages = [
        Message {
            name: "manifest",
            seeds: golden!["manifest", "manifest_shortest"],
            read: |text| Manifest::from_json(text).map(drop).map_err(|error| error.to_string()),
        },
        Message {
            name: "failure",
            seeds: golden!["failure"],
            read: |text| Failure::from_termination_message(text).map(drop).ok_or_else(String::new),
        },
        Message {
            name: "resolve record",
            seeds: golden!["resolve", "resolve_earlier", "resolve_later"],
            read: |text| {
                let read = ResolveRecord::from_termination_message(text);
                let record = read.map_err(|error| error.to_string())?;
                // Numbers of any size add up to something.
                let _at_least = lamplighter_protocol::memory::at_least(&[record.clone(), record]);
                Ok(())
            },
        },
        Message {
            name: "report",
            seeds: golden!["report", "report_later", "report_revalidated", "report_settled"],
            read: |text| {
                serde_json::from_str::<Report>(text).map(drop).map_err(|error| error.to_string())
            },
        },
        Message {
            name: "golden.json",
            seeds: vec![
                include_bytes!("../../../engine/tests/golden/all-minilm-l6-v2.json").to_vec(),
            ],
            read: |text| {
                Golden::parse(text, GOLDEN_DIGEST).map(drop).map_err(|error| error.to_string())
            },
        },
    ];
    messages.into_iter().map(|message| Box::new(message) as Box<dyn Reader>).collect()
}
