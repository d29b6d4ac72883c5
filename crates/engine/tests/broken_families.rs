//! What makes a model of each family, or its head, unfit to run.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use lamplighter_engine::{Built, EngineError, build, prepare, read};
use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize};
use serde_json::{Value, json};

const WEIGHTS: &str = "model.safetensors";
const DENSE: &str = "2_Dense/config.json";
const OF_DENSE: &str = "2_Dense/model.safetensors";
const OF_ENCODER: &str = "sentence_bert_config.json";
const ACTIVATION: &str = "config_sentence_transformers.json";

fn copy(name: &str) -> tempfile::TempDir {
    fn all(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                all(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }

    let dir = tempfile::tempdir().unwrap();
    all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/families").join(name), dir.path());
    dir
}

fn build_at(dir: &Path) -> Result<Built, EngineError> {
    let modules = ["2_Dense", "3_Dense"].map(|module| format!("{module}/model.safetensors"));
    let of_modules = modules.iter().map(String::as_str).filter(|file| dir.join(file).exists());
    let files: Vec<&str> = std::iter::once(WEIGHTS).chain(of_modules).collect();
    build(read(dir, &files, NonZeroUsize::MIN, &|_| {})?, prepare(dir)?)
}

/// Changes one of the JSON files.
fn json(dir: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = dir.join(file);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn set(dir: &Path, field: &str, value: Value) {
    json(dir, "config.json", |config| config[field] = value);
}

/// Keeps the tensors of a weight file for which `keep` has a name, with their numbers in `shape` if
/// that has one for them.
fn tensors(
    dir: &Path,
    file: &str,
    keep: impl Fn(&str) -> Option<String>,
    shape: impl Fn(&str) -> Option<Vec<usize>>,
) {
    let path = dir.join(file);
    let bytes = fs::read(&path).unwrap();
    let all = SafeTensors::deserialize(&bytes).unwrap();
    let kept = all.tensors().into_iter().filter_map(|(name, view)| {
        let shape = shape(&name).unwrap_or_else(|| view.shape().to_vec());
        let size = shape.iter().product::<usize>() * 4;
        Some((keep(&name)?, TensorView::new(view.dtype(), shape, &view.data()[..size]).unwrap()))
    });
    let written = serialize(kept.collect::<Vec<_>>(), None).unwrap();
    fs::write(path, written).unwrap();
}

fn without(dir: &Path, file: &str, tensor: &str) {
    tensors(dir, file, |name| (name != tensor).then(|| name.to_owned()), |_| None);
}

fn reshaped(dir: &Path, file: &str, tensor: &str, shape: &[usize]) {
    let same = |name: &str| Some(name.to_owned());
    tensors(dir, file, same, |name| (name == tensor).then(|| shape.to_vec()));
}

fn name(error: &EngineError) -> String {
    let debug = format!("{error:?}");
    debug.split([' ', '{', '(']).next().unwrap().to_owned()
}

type Breaking = fn(&Path);

/// The model, what is broken about it, the error's name, and what it names.
const BROKEN: &[(&str, Breaking, &str, &str)] = &[
    (
        "roberta-cls",
        |dir| set(dir, "model_type", json!("bert")),
        "UnsupportedArchitecture",
        "RobertaModel",
    ),
    ("roberta-cls", |dir| set(dir, "is_decoder", json!(true)), "ConfigInvalid", "config.json"),
    (
        "roberta-cls",
        |dir| set(dir, "max_position_embeddings", json!(2)),
        "ConfigInvalid",
        "max_position_embeddings",
    ),
    ("roberta-cls", |dir| set(dir, "pad_token_id", json!(300)), "ConfigInvalid", "pad_token_id"),
    (
        "roberta-cls",
        |dir| json(dir, OF_ENCODER, |file| file["max_seq_length"] = json!(65)),
        "ConfigInvalid",
        "3 to 64 tokens",
    ),
    (
        "xlm-roberta-mean",
        |dir| set(dir, "type_vocab_size", json!(2)),
        "TensorShapeMismatch",
        "token_type",
    ),
    (
        "xlm-roberta-mean",
        |dir| set(dir, "architectures", json!(["XLMRobertaForTokenClassification"])),
        "UnsupportedArchitecture",
        "XLMRobertaForTokenClassification",
    ),
    (
        "camembert-last",
        |dir| set(dir, "num_hidden_layers", json!(1)),
        "ConfigInvalid",
        "num_hidden_layers",
    ),
    (
        "camembert-last",
        |dir| without(dir, WEIGHTS, "encoder.layer.1.output.dense.bias"),
        "TensorMissing",
        "encoder.layer.1.output.dense.bias",
    ),
    ("distilbert-max", |dir| set(dir, "activation", json!("swish")), "ConfigInvalid", "activation"),
    ("distilbert-max", |dir| set(dir, "n_heads", json!(5)), "ConfigInvalid", "n_heads"),
    (
        "distilbert-max",
        |dir| set(dir, "n_layers", json!(3)),
        "TensorMissing",
        "transformer.layer.2",
    ),
    ("distilbert-max", |dir| set(dir, "n_layers", json!(1)), "ConfigInvalid", "n_layers"),
    ("distilbert-max", |dir| set(dir, "dim", json!(null)), "ConfigInvalid", "config.json"),
    ("distilbert-max", |dir| set(dir, "hidden_dim", json!(41)), "TensorShapeMismatch", "ffn.lin1"),
    (
        "mpnet-mean",
        |dir| set(dir, "relative_attention_num_buckets", json!(16)),
        "ConfigInvalid",
        "relative_attention_num_buckets",
    ),
    (
        "mpnet-mean",
        |dir| without(dir, WEIGHTS, "encoder.relative_attention_bias.weight"),
        "TensorMissing",
        "encoder.relative_attention_bias.weight",
    ),
    (
        "mpnet-mean",
        |dir| reshaped(dir, WEIGHTS, "encoder.relative_attention_bias.weight", &[16, 3]),
        "TensorShapeMismatch",
        "encoder.relative_attention_bias.weight",
    ),
    (
        "mpnet-mean",
        |dir| set(dir, "num_attention_heads", json!(2)),
        "TensorShapeMismatch",
        "relative",
    ),
    (
        "bert-dense",
        |dir| json(dir, DENSE, |dense| dense["in_features"] = json!(25)),
        "ConfigInvalid",
        DENSE,
    ),
    (
        "bert-dense",
        |dir| json(dir, DENSE, |dense| dense["out_features"] = json!(21)),
        "ConfigInvalid",
        "3_Dense/config.json",
    ),
    (
        "bert-dense",
        |dir| json(dir, DENSE, |dense| dense["out_features"] = json!(0)),
        "ConfigInvalid",
        DENSE,
    ),
    (
        "bert-dense",
        |dir| json(dir, DENSE, |dense| dense["activation_function"] = json!("torch.nn.GELU")),
        "ConfigInvalid",
        DENSE,
    ),
    (
        "bert-dense",
        |dir| json(dir, DENSE, |dense| dense["use_residual"] = json!(true)),
        "ConfigInvalid",
        DENSE,
    ),
    (
        "bert-dense",
        |dir| json(dir, DENSE, |dense| dense["module_input_name"] = json!("token_embeddings")),
        "ConfigInvalid",
        DENSE,
    ),
    (
        "bert-dense",
        |dir| fs::remove_file(dir.join(OF_DENSE)).unwrap(),
        "TensorMissing",
        "2_Dense/linear.weight",
    ),
    (
        "bert-dense",
        |dir| without(dir, OF_DENSE, "linear.bias"),
        "TensorMissing",
        "2_Dense/linear.bias",
    ),
    (
        "bert-dense",
        |dir| reshaped(dir, OF_DENSE, "linear.weight", &[19, 24]),
        "TensorShapeMismatch",
        "2_Dense/linear.weight",
    ),
    (
        "bert-dense",
        |dir| set(dir, "matryoshka_dimensions", json!([8, 13])),
        "ConfigInvalid",
        "matryoshka_dimensions",
    ),
    (
        "bert-reranker",
        |dir| json(dir, "modules.json", |modules| modules[0]["path"] = json!("0_Transformer")),
        "ConfigInvalid",
        "modules.json",
    ),
    (
        "bert-reranker",
        |dir| {
            json(dir, "modules.json", |modules| {
                let pooling = json!({"type": "sentence_transformers.models.Pooling", "path": "1"});
                modules.as_array_mut().unwrap().push(pooling);
            });
        },
        "ConfigInvalid",
        "modules.json",
    ),
    (
        "bert-reranker",
        |dir| json(dir, OF_ENCODER, |file| file["transformer_task"] = json!("feature-extraction")),
        "ConfigInvalid",
        OF_ENCODER,
    ),
    (
        "bert-reranker",
        |dir| json(dir, ACTIVATION, |file| file["activation_fn"] = json!("mine.Function")),
        "ConfigInvalid",
        "mine.Function",
    ),
    (
        "bert-reranker",
        |dir| without(dir, WEIGHTS, "bert.pooler.dense.weight"),
        "TensorMissing",
        "pooler.dense.weight",
    ),
    (
        "bert-classes",
        |dir| set(dir, "id2label", json!({"0": "bad", "1": "fair"})),
        "TensorShapeMismatch",
        "classifier.weight",
    ),
    (
        "bert-classes",
        |dir| set(dir, "id2label", json!({"0": "bad", "1": "fair", "3": "good"})),
        "ConfigInvalid",
        "id2label",
    ),
    (
        "roberta-tags",
        |dir| set(dir, "problem_type", json!("regression")),
        "ConfigInvalid",
        "problem_type",
    ),
    (
        "roberta-tags",
        |dir| without(dir, WEIGHTS, "classifier.out_proj.bias"),
        "TensorMissing",
        "classifier.out_proj.bias",
    ),
    (
        "camembert-classes",
        |dir| without(dir, WEIGHTS, "classifier.dense.weight"),
        "TensorMissing",
        "classifier.dense.weight",
    ),
    (
        "xlm-roberta-reranker",
        |dir| set(dir, "sentence_transformers", json!({"activation_fn": "torch.nn.Tanh"})),
        "ConfigInvalid",
        "torch.nn.Tanh",
    ),
    (
        "distilbert-classes",
        |dir| without(dir, WEIGHTS, "pre_classifier.bias"),
        "TensorMissing",
        "pre_classifier.bias",
    ),
    (
        "mpnet-reranker",
        |dir| reshaped(dir, WEIGHTS, "classifier.out_proj.weight", &[24, 1]),
        "TensorShapeMismatch",
        "classifier.out_proj.weight",
    ),
    (
        "mpnet-reranker",
        |dir| set(dir, "architectures", json!(["MPNetForTokenClassification"])),
        "UnsupportedArchitecture",
        "MPNetForTokenClassification",
    ),
    (
        "mpnet-reranker",
        |dir| set(dir, "architectures", json!(["MPNetModel"])),
        "ConfigInvalid",
        "modules.json",
    ),
];

#[test]
fn every_broken_model_has_exactly_its_error() {
    for (number, (model, break_it, expected, named)) in BROKEN.iter().enumerate() {
        let dir = copy(model);
        assert!(build_at(dir.path()).is_ok(), "{model}");
        break_it(dir.path());
        let Err(error) = build_at(dir.path()) else {
            panic!("{number}: the fault of {model} was not noticed");
        };
        assert_eq!(&name(&error), expected, "{number}: {model}: {error}");
        let told = format!("{error} {:?} {:?}", error.file(), error.tensor());
        assert!(told.contains(named), "{number}: {model}: {told} does not name {named}");
    }
}

#[test]
fn a_network_that_began_as_another_model_is_the_network_alone() {
    for (model, began) in
        [("mpnet-mean", "MPNetForMaskedLM"), ("roberta-cls", "RobertaForMaskedLM")]
    {
        let dir = copy(model);
        let plain = build_at(dir.path()).unwrap();
        set(dir.path(), "architectures", json!([began]));
        let other = build_at(dir.path()).unwrap();
        assert_eq!(other.facts().architecture, began);
        assert_eq!(other.facts().gives, plain.facts().gives);
        fs::remove_file(dir.path().join("modules.json")).unwrap();
        let Err(error) = build_at(dir.path()) else { panic!("how {model} pools is not known") };
        assert_eq!(error.file().as_deref(), Some("modules.json"), "{error}");
    }
}

#[test]
fn checkpoints_without_a_prefix_and_with_one_are_the_same_model() {
    for (model, prefix) in [
        ("roberta-cls", "roberta."),
        ("xlm-roberta-mean", "roberta."),
        ("camembert-last", "roberta."),
        ("distilbert-max", "distilbert."),
        ("mpnet-mean", "mpnet."),
    ] {
        let dir = copy(model);
        let plain = build_at(dir.path()).unwrap();
        tensors(dir.path(), WEIGHTS, |name| Some(format!("{prefix}{name}")), |_| None);
        let prefixed = build_at(dir.path()).unwrap();
        assert_eq!(prefixed.facts(), plain.facts(), "{model}");
        assert_eq!(prefixed.bytes(), plain.bytes(), "{model}");
    }
}
