//! Routes as Text Embeddings Inference has them:
//! <https://huggingface.github.io/text-embeddings-inference/>.
//!
//! It serves one model, so its requests name none. Here they may, in the field `model` or the header
//! `x-model`; without it the one is meant that alone gives what the route needs.
//!
//! `/embed_sparse` is not served: no model here has sparse vectors.

mod embed;
mod health;
mod info;
mod pairs;
mod predict;
mod rerank;
mod root;
mod shared;
mod similarity;
mod tokens;

use super::route::Route;

pub(super) fn routes() -> Vec<Route> {
    let inputs = r#"{"inputs": ["a lamp", "a river"]}"#;
    let root = |path| {
        Route::post(
            path,
            "What the model does: embeds, predicts, reranks or compares, by what the body holds.",
            root::ask,
        )
        .takes::<embed::Ask>(inputs)
        .names_model()
        .computes()
    };
    vec![
        Route::post("/embed", "One vector for each text.", embed::embed)
            .takes::<embed::Ask>(inputs)
            .gives::<embed::Vectors>()
            .names_model()
            .computes(),
        Route::post("/embed_all", "One vector for each token of each text.", embed::embed_all)
            .takes::<embed::AskAll>(inputs)
            .gives::<embed::TokenVectors>()
            .names_model()
            .computes(),
        Route::post("/similarity", "The cosine between a text and others.", similarity::compare)
            .takes::<similarity::Ask>(
                r#"{"inputs": {"source_sentence": "a lamp", "sentences": ["a light", "a river"]}}"#,
            )
            .gives::<similarity::Cosines>()
            .names_model()
            .computes(),
        Route::post("/predict", "What a classifier thinks of each text.", predict::predict)
            .takes::<predict::Ask>(r#"{"inputs": "a lamp"}"#)
            .gives::<predict::Answer>()
            .names_model()
            .computes(),
        Route::post("/rerank", "Texts in the order of a query.", rerank::rerank)
            .takes::<rerank::Ask>(r#"{"query": "light", "texts": ["a lamp", "a river"]}"#)
            .gives::<rerank::Ranks>()
            .names_model()
            .computes(),
        Route::post(
            "/tokenize",
            "The tokens of each text, and where they stand.",
            tokens::tokenize,
        )
        .takes::<tokens::AskTokens>(r#"{"inputs": "a lamp", "add_special_tokens": true}"#)
        .gives::<tokens::Tokens>()
        .names_model()
        .computes(),
        Route::post("/decode", "The text that tokens stand for.", tokens::decode)
            .takes::<tokens::AskTexts>(r#"{"ids": [1, 2], "skip_special_tokens": true}"#)
            .gives::<tokens::Texts>()
            .names_model()
            .computes(),
        root("/"),
        root("/invocations"),
        Route::get("/info", "What the model is and what it takes.", info::info)
            .gives::<info::Info>()
            .names_model(),
        Route::get("/health", "200 when every model answers, else 503.", health::health).open(),
        Route::get("/ping", "As /health.", health::health).open(),
        Route::get("/", "As /health.", health::health).open(),
        Route::get("/metrics", "Figures, as OpenMetrics text.", health::metrics),
    ]
}
