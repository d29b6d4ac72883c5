//! A configuration or a tokenizer that cannot be used, or that the weights do not fit.

use lamplighter_protocol::Reason::*;
use serde_json::json;

use super::{Damage, Fault, NORM, both, replace};
use crate::support::artifact::tiny;

pub(super) const FAULTS: &[Fault] = &[
    // The configuration, and what must fit it.
    both(
        "config is not JSON",
        ConfigInvalid,
        "config.json",
        Damage::Files(|f| {
            replace(f, "config.json", "{");
        }),
    ),
    both(
        "hidden size of zero",
        ConfigInvalid,
        "hidden_size",
        Damage::Model(|model| {
            model.config["hidden_size"] = json!(0);
        }),
    ),
    both(
        "heads that do not divide",
        ConfigInvalid,
        "num_attention_heads",
        Damage::Model(|model| {
            model.config["num_attention_heads"] = json!(3);
        }),
    ),
    both(
        "wrong hidden size",
        TensorShapeMismatch,
        "embeddings",
        Damage::Model(|model| {
            model.config["hidden_size"] = json!(2 * tiny::HIDDEN);
            let pooling = model.files.get_mut("1_Pooling/config.json").unwrap();
            pooling["word_embedding_dimension"] = json!(2 * tiny::HIDDEN);
        }),
    ),
    both(
        "wrong inner size",
        TensorShapeMismatch,
        "intermediate",
        Damage::Model(|model| {
            model.config["intermediate_size"] = json!(7);
        }),
    ),
    both(
        "wrong vocabulary size",
        TensorShapeMismatch,
        "word_embeddings",
        Damage::Model(|model| {
            model.config["vocab_size"] = json!(tiny::VOCABULARY + 1);
        }),
    ),
    both(
        "fewer layers than weights",
        ConfigInvalid,
        "num_hidden_layers",
        Damage::Model(|model| {
            model.config["num_hidden_layers"] = json!(tiny::LAYERS - 1);
        }),
    ),
    both(
        "more layers than weights",
        TensorMissing,
        "encoder.layer.2",
        Damage::Model(|model| {
            model.config["num_hidden_layers"] = json!(tiny::LAYERS + 1);
        }),
    ),
    both(
        "missing tensor",
        TensorMissing,
        NORM,
        Damage::Model(|model| {
            drop(model.tensors.remove(NORM));
        }),
    ),
    both(
        "another architecture",
        UnsupportedArchitecture,
        "LlamaModel",
        Damage::Model(|model| {
            model.config["architectures"] = json!(["LlamaModel"]);
        }),
    ),
    both(
        "a format that is not served",
        UnsupportedDtype,
        NORM,
        Damage::Model(|model| {
            model.tensor(NORM).dtype = "I32";
        }),
    ),
    both(
        "no sentence-transformers files",
        ConfigInvalid,
        "modules.json",
        Damage::Model(|model| {
            drop(model.files.remove("modules.json"));
        }),
    ),
    both(
        "unknown pooling",
        PoolingUnknown,
        "1_Pooling",
        Damage::Model(|model| {
            let pooling = json!({"word_embedding_dimension": tiny::HIDDEN, "pooling_mode_weightedmean_tokens": true});
            model.files.insert("1_Pooling/config.json", pooling);
        }),
    ),
    both(
        "tokenizer is no tokenizer",
        TokenizerInvalid,
        "tokenizer.json",
        Damage::Files(|f| {
            replace(f, "tokenizer.json", "[]");
        }),
    ),
    both(
        "tokenizer without tokens",
        TokenizerInvalid,
        "tokenizer.json",
        Damage::Model(|model| {
            model.tokenizer["model"]["vocab"] = json!({});
            model.tokenizer["added_tokens"] = json!([]);
        }),
    ),
    both(
        "a token beyond the table",
        TokenizerVocabMismatch,
        "99999",
        Damage::Model(|model| {
            model.tokenizer["model"]["vocab"]["unheard"] = json!(99_999);
        }),
    ),
];
