//! Routes as OpenAI has them: <https://platform.openai.com/docs/api-reference>.

mod embeddings;
mod models;

use super::route::Route;

pub(super) fn routes() -> Vec<Route> {
    let example = r#"{"model": "MODEL", "input": ["a lamp", "a river"]}"#;
    let embeddings = |path| {
        Route::post(path, "One vector for each input.", embeddings::embed)
            .takes::<embeddings::Ask>(example)
            .gives::<embeddings::Answer>()
            .names_model()
            .computes()
    };
    vec![
        embeddings("/v1/embeddings"),
        // Where Text Embeddings Inference has it, too.
        embeddings("/embeddings"),
        Route::get("/v1/models", "The names that requests may use.", models::list)
            .gives::<models::List>(),
        Route::get("/v1/models/{id}", "One of the names that requests may use.", models::one)
            .gives::<models::Entry>(),
    ]
}
