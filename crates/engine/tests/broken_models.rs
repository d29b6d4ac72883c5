//! Every way in which a model can be unfit to run has its own error.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
#![expect(dead_code, reason = "the support module serves other tests, too")]

mod support;

use std::fs;
use std::num::NonZeroUsize;

use lamplighter_engine::golden::Golden;
use lamplighter_engine::{EngineError, read};
use serde_json::{Value, json};
use support::{HIDDEN, Tensor, Tiny, WEIGHTS};

type Breaking = fn(&mut Tiny);

const QUERY: &str = "encoder.layer.1.attention.self.query.weight";
const POOLING: &str = "1_Pooling/config.json";
const TRANSFORMER: &str = "sentence_bert_config.json";
const PROMPTS: &str = "config_sentence_transformers.json";

fn name(error: &EngineError) -> String {
    let debug = format!("{error:?}");
    debug.split([' ', '{', '(']).next().unwrap().to_owned()
}

fn pooling(tiny: &mut Tiny, value: Value) {
    tiny.files.insert(POOLING, value);
}

fn module(tiny: &mut Tiny, kind: &str, path: &str) {
    let modules = tiny.files.get_mut("modules.json").unwrap().as_array_mut().unwrap();
    modules.push(json!({"idx": 3, "name": "3", "path": path, "type": kind}));
}

/// What is broken, the error's name, and a file or tensor that it names.
const BROKEN: [(&str, Breaking, &str, &str); 46] = [
    (
        "another architecture",
        |t| t.config["architectures"] = json!(["T5Model"]),
        "UnsupportedArchitecture",
        "T5Model",
    ),
    (
        "a head",
        |t| t.config["architectures"] = json!(["BertForTokenClassification"]),
        "UnsupportedArchitecture",
        "BertForTokenClassification",
    ),
    (
        "no architecture",
        |t| t.config["architectures"] = json!([]),
        "UnsupportedArchitecture",
        "bert",
    ),
    (
        "another type",
        |t| t.config["model_type"] = json!("roberta"),
        "UnsupportedArchitecture",
        "BertModel",
    ),
    (
        "a missing field",
        |t| drop(t.config.as_object_mut().unwrap().remove("hidden_size")),
        "ConfigInvalid",
        "config.json",
    ),
    (
        "a field of another type",
        |t| t.config["hidden_size"] = json!("8"),
        "ConfigInvalid",
        "config.json",
    ),
    (
        "an unknown activation",
        |t| t.config["hidden_act"] = json!("silu"),
        "ConfigInvalid",
        "config.json",
    ),
    (
        "heads that do not divide",
        |t| t.config["num_attention_heads"] = json!(3),
        "ConfigInvalid",
        "config.json",
    ),
    ("no heads", |t| t.config["num_attention_heads"] = json!(0), "ConfigInvalid", "config.json"),
    (
        "more positions than could ever be counted",
        |t| {
            t.config["max_position_embeddings"] = json!(10_u64.pow(18));
            t.files.remove(TRANSFORMER);
        },
        "ConfigInvalid",
        "config.json",
    ),
    (
        "more layers than could ever be counted",
        |t| t.config["num_hidden_layers"] = json!(u64::MAX),
        "ConfigInvalid",
        "config.json",
    ),
    (
        "relative positions",
        |t| t.config["position_embedding_type"] = json!("relative_key"),
        "ConfigInvalid",
        "config.json",
    ),
    ("a decoder", |t| t.config["is_decoder"] = json!(true), "ConfigInvalid", "config.json"),
    (
        "an epsilon of zero",
        |t| t.config["layer_norm_eps"] = json!(0.0),
        "ConfigInvalid",
        "config.json",
    ),
    (
        "padding outside the vocabulary",
        |t| t.config["pad_token_id"] = json!(62),
        "ConfigInvalid",
        "config.json",
    ),
    (
        "too few layers",
        |t| t.config["num_hidden_layers"] = json!(1),
        "ConfigInvalid",
        "config.json",
    ),
    (
        "too many layers",
        |t| t.config["num_hidden_layers"] = json!(3),
        "TensorMissing",
        "encoder.layer.2.attention.self.query.weight",
    ),
    ("no modules", |t| drop(t.files.remove("modules.json")), "ConfigInvalid", "modules.json"),
    (
        "a dense layer after the normalisation",
        |t| module(t, "sentence_transformers.models.Dense", "3_Dense"),
        "ConfigInvalid",
        "modules.json",
    ),
    (
        "another layer",
        |t| module(t, "sentence_transformers.models.LSTM", "3_LSTM"),
        "UnsupportedArchitecture",
        "LSTM",
    ),
    (
        "code of its own",
        |t| module(t, "custom.Transformer", "3"),
        "UnsupportedArchitecture",
        "custom.Transformer",
    ),
    (
        "normalised twice",
        |t| module(t, "sentence_transformers.models.Normalize", "3"),
        "ConfigInvalid",
        "modules.json",
    ),
    ("no pooling file", |t| drop(t.files.remove(POOLING)), "ConfigInvalid", POOLING),
    (
        "a pooling outside",
        |t| t.files.get_mut("modules.json").unwrap()[1]["path"] = json!("../x"),
        "ConfigInvalid",
        "modules.json",
    ),
    (
        "an unknown pooling",
        |t| pooling(t, json!({"embedding_dimension": HIDDEN, "pooling_mode": "weightedmean"})),
        "PoolingUnknown",
        POOLING,
    ),
    (
        "two poolings",
        |t| t.files.get_mut(POOLING).unwrap()["pooling_mode_cls_token"] = json!(true),
        "PoolingUnknown",
        POOLING,
    ),
    (
        "no pooling",
        |t| t.files.get_mut(POOLING).unwrap()["pooling_mode_mean_tokens"] = json!(false),
        "PoolingUnknown",
        POOLING,
    ),
    (
        "an old unknown pooling",
        |t| {
            pooling(
                t,
                json!({"word_embedding_dimension": HIDDEN, "pooling_mode_mean_sqrt_len_tokens": true}),
            );
        },
        "PoolingUnknown",
        POOLING,
    ),
    (
        "a pooling of another size",
        |t| pooling(t, json!({"embedding_dimension": 7, "pooling_mode": "mean"})),
        "ConfigInvalid",
        POOLING,
    ),
    (
        "token vectors normalised",
        |t| {
            drop(t.files.insert(
                "2_Normalize/config.json",
                json!({"module_input_name": "token_embeddings"}),
            ));
        },
        "ConfigInvalid",
        "2_Normalize/config.json",
    ),
    (
        "texts longer than positions",
        |t| drop(t.files.insert(TRANSFORMER, json!({"max_seq_length": 41}))),
        "ConfigInvalid",
        TRANSFORMER,
    ),
    (
        "texts without room",
        |t| drop(t.files.insert(TRANSFORMER, json!({"max_seq_length": 2}))),
        "ConfigInvalid",
        TRANSFORMER,
    ),
    (
        "a tokenizer without room",
        |t| {
            t.files.remove(TRANSFORMER);
            t.files.insert("tokenizer_config.json", json!({"model_max_length": -1.5}));
        },
        "ConfigInvalid",
        "tokenizer_config.json",
    ),
    (
        "another task",
        |t| drop(t.files.insert(TRANSFORMER, json!({"transformer_task": "fill-mask"}))),
        "ConfigInvalid",
        TRANSFORMER,
    ),
    (
        "a default prompt",
        |t| {
            drop(
                t.files.insert(
                    PROMPTS,
                    json!({"default_prompt_name": "q", "prompts": {"q": "query: "}}),
                ),
            );
        },
        "ConfigInvalid",
        PROMPTS,
    ),
    ("a missing tensor", |t| drop(t.tensors.remove(QUERY)), "TensorMissing", QUERY),
    (
        "a tensor of another shape",
        |t| t.tensor(QUERY).shape = vec![HIDDEN / 2, HIDDEN * 2],
        "TensorShapeMismatch",
        QUERY,
    ),
    (
        "another vocabulary",
        |t| t.config["vocab_size"] = json!(63),
        "TensorShapeMismatch",
        "embeddings.word_embeddings.weight",
    ),
    (
        "one tensor under two names",
        |t| drop(t.tensors.insert(format!("bert.{QUERY}"), t.tensors[QUERY].clone())),
        "HeaderInvalid",
        QUERY,
    ),
    ("a tensor of integers", |t| t.tensor(QUERY).dtype = "I32", "UnsupportedDtype", QUERY),
    (
        "a NaN",
        |t| t.tensor(QUERY).data[8..12].copy_from_slice(&f32::NAN.to_le_bytes()),
        "WeightsNonFinite",
        QUERY,
    ),
    (
        "an infinity",
        |t| t.tensor(QUERY).data[8..12].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes()),
        "WeightsNonFinite",
        QUERY,
    ),
    ("no tokenizer", |t| t.tokenizer = json!({}), "TokenizerInvalid", "tokenizer.json"),
    (
        "a tokenizer of another kind",
        |t| t.tokenizer["model"] = json!({"type": "New"}),
        "TokenizerInvalid",
        "tokenizer.json",
    ),
    (
        "a larger tokenizer",
        |t| t.tokenizer["model"]["vocab"]["new"] = json!(62),
        "TokenizerVocabMismatch",
        "62",
    ),
    (
        "a tokenizer with gaps",
        |t| t.tokenizer["model"]["vocab"]["lamp"] = json!(1_000_000),
        "TokenizerVocabMismatch",
        "1000000",
    ),
];

/// Guarantees: gates-01.
#[test]
fn every_broken_model_has_exactly_its_error() {
    assert!(Tiny::new().build().is_ok());
    for (how, break_it, expected, named) in BROKEN {
        let Err(error) = Tiny::new().with(break_it).build() else {
            panic!("{how} was not noticed");
        };
        assert_eq!(name(&error), expected, "{how}: {error}");
        let tensor = error.tensor().map(str::to_owned);
        let names: Vec<String> = [error.file(), tensor].into_iter().flatten().collect();
        let said = names.iter().any(|name| name == named) || error.to_string().contains(named);
        assert!(said, "{how}: {error} does not name {named}");
    }
}

#[test]
fn an_empty_default_prompt_changes_nothing() {
    let prompts = json!({"default_prompt_name": "q", "prompts": {"q": ""}});
    let none = json!({"default_prompt_name": null, "prompts": {"q": "query: "}});
    for prompts in [prompts, none] {
        let tiny = Tiny::new().with(|tiny| drop(tiny.files.insert(PROMPTS, prompts)));
        assert!(tiny.build().is_ok());
    }
}

#[test]
fn broken_weight_files_are_errors_wherever_they_end() {
    let dir = tempfile::tempdir().unwrap();
    Tiny::new().write(dir.path());
    let path = dir.path().join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    let read_bytes = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        read(dir.path(), &[WEIGHTS], NonZeroUsize::MIN, &|_| {}).unwrap_err()
    };
    for length in [0, 7, 8, 100, whole.len() - 1] {
        let error = read_bytes(&whole[..length]);
        assert_eq!(name(&error), "Truncated", "{length}: {error}");
    }
    let longer = [&whole[..], b"x"].concat();
    for bytes in [&longer[..], &[0xff; 64], b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{a"] {
        assert_eq!(name(&read_bytes(bytes)), "HeaderInvalid");
    }
    fs::write(&path, &whole).unwrap();
    let error = read(dir.path(), &[WEIGHTS, WEIGHTS], NonZeroUsize::MIN, &|_| {}).unwrap_err();
    assert_eq!(name(&error), "HeaderInvalid", "{error}");
}

/// Guarantees: gates-10.
#[test]
fn malformed_and_foreign_golden_files_are_refused() {
    let case = |change: Value| {
        let mut case = json!({"name": "a", "text": "b", "vector": [1.0], "minCosine": "0.9"});
        for (field, value) in change.as_object().unwrap() {
            case[field] = value.clone();
        }
        case
    };
    let file = |cases: Vec<Value>| {
        json!({"format": 1, "artifactDigest": "sha256:1", "cases": cases}).to_string()
    };
    let scores = |change: Value| {
        let mut case = json!({"name": "a", "text": "b", "scores": [1.0], "tolerance": "0.1"});
        for (field, value) in change.as_object().unwrap() {
            case[field] = value.clone();
        }
        case
    };
    assert!(Golden::parse(&file(vec![case(json!({}))]), "sha256:1").is_ok());
    assert!(Golden::parse(&file(vec![scores(json!({"second": "c"}))]), "sha256:1").is_ok());
    for json in [
        String::new(),
        "{}".to_owned(),
        file(vec![]),
        file(vec![case(json!({})), case(json!({}))]),
        file(vec![case(json!({"name": ""}))]),
        file(vec![case(json!({"vector": []}))]),
        file(vec![case(json!({"vector": [0.0, 0.0]}))]),
        file(vec![case(json!({"vector": [1e300]}))]),
        file(vec![case(json!({"vector": [null]}))]),
        file(vec![case(json!({"minCosine": "0"}))]),
        file(vec![case(json!({"minCosine": "1.1"}))]),
        file(vec![case(json!({"minCosine": "NaN"}))]),
        file(vec![case(json!({"minCosine": 0.9}))]),
        file(vec![case(json!({"tolerance": 0.9}))]),
        file(vec![case(json!({"tolerance": "0.9"}))]),
        file(vec![case(json!({"second": "c"}))]),
        file(vec![scores(json!({"scores": []}))]),
        file(vec![scores(json!({"scores": [1e300]}))]),
        file(vec![scores(json!({"tolerance": "-0.1"}))]),
        file(vec![scores(json!({"tolerance": "inf"}))]),
        file(vec![scores(json!({"vector": [1.0]}))]),
        file(vec![json!({"name": "a", "text": "b"})]),
        file(vec![case(json!({}))]).replace("\"format\":1", "\"format\":2"),
    ] {
        let error = Golden::parse(&json, "sha256:1").unwrap_err();
        assert_eq!(name(&error), "GoldenInvalid", "{json}: {error}");
    }
    let error = Golden::parse(&file(vec![case(json!({}))]), "sha256:2").unwrap_err();
    assert_eq!(name(&error), "GoldenForeign");
    assert_eq!(error.expected().as_deref(), Some("sha256:1"));
    assert_eq!(error.found().as_deref(), Some("sha256:2"));
}

#[test]
fn a_tensor_reads_back_its_floats() {
    assert_eq!(Tensor::floats(&[2], [1.5, -2.0]).values(), [1.5, -2.0]);
}
