//! Routes of the Open Inference Protocol, version 2, over REST:
//! <https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md>,
//! with Triton's extensions for binary tensors and for the index of models
//! (<https://github.com/triton-inference-server/server/tree/main/docs/protocol>).
//!
//! A model reads the tensor `text`, of type BYTES and shape `[n]`, and a second one, `text_pair`, where
//! it looks at two texts together. It gives `embedding`, FP32 `[n, dimensions]`, or `scores`, FP32
//! `[n, labels]`.

mod index;
mod infer;
mod request;
mod server;
mod tensor;

use super::route::Route;

pub(super) fn routes() -> Vec<Route> {
    let example =
        r#"{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a lamp"]}]}"#;
    let infer = |route: Route| {
        route.takes::<request::Ask>(example).gives::<infer::Answer>().computes().or_bytes()
    };
    vec![
        Route::get("/v2", "Name, version and extensions of the worker.", server::metadata)
            .gives::<server::Metadata>()
            .also("/v2/"),
        Route::get("/v2/health/live", "Whether the process runs.", server::live)
            .gives::<server::Live>()
            .open(),
        Route::get("/v2/health/ready", "Whether every model answers.", server::ready)
            .gives::<server::Ready>()
            .open(),
        Route::get("/v2/models/{model}", "Tensors of a model.", index::metadata)
            .gives::<index::Metadata>(),
        Route::get(
            "/v2/models/{model}/versions/{version}",
            "Tensors of a version of a model.",
            index::metadata,
        )
        .gives::<index::Metadata>(),
        Route::get("/v2/models/{model}/ready", "Whether a model answers.", index::ready)
            .gives::<index::Ready>(),
        Route::get(
            "/v2/models/{model}/versions/{version}/ready",
            "Whether a version of a model answers.",
            index::ready,
        )
        .gives::<index::Ready>(),
        infer(Route::post("/v2/models/{model}/infer", "What a model gives.", infer::infer)),
        infer(Route::post(
            "/v2/models/{model}/versions/{version}/infer",
            "What a version of a model gives.",
            infer::infer,
        )),
        Route::post("/v2/repository/index", "Every model and its state.", index::index)
            .may_take::<index::Ask>(r#"{"ready": false}"#)
            .gives::<Vec<index::Entry>>(),
    ]
}
