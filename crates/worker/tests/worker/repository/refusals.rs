//! Who may not, and what cannot be.

use axum::http::header::WWW_AUTHENTICATE;

use super::*;

async fn is_refused(running: &Running, path: &str, body: &Value, status: StatusCode, says: &str) {
    let answer = running.command(path, body).await;
    assert_eq!(answer.status, status, "{path} {body}: {}", answer.text);
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains(says), "{path} {body}: {error}");
}

#[tokio::test]
async fn without_a_token_file_models_cannot_change_and_the_answer_names_the_flag() {
    let dir = tempfile::tempdir().unwrap();
    let args = serve_args(dir.path(), &["--drain-delay-seconds", "0"]);
    let worker = Worker::bind(&args, manifest(&["embedder:1"])).await.unwrap();
    let admin = worker.admin_address();
    let stop = CancellationToken::new();
    let load =
        |entry: ModelEntry, _: Tracker| async move { Ok(model(&entry, Arc::new(Fake::new()))) };
    let task = tokio::spawn(worker.run(load, stop.clone()));
    let http = Http::one();
    http.ready_is(admin, StatusCode::OK).await;
    for path in ["index", "models/embedder/load", "models/embedder/unload", "models/a/default"] {
        let path = format!("/v2/repository/{path}");
        let off = http.post(admin, &path, Some(TOKEN), "{}").await.unwrap();
        assert_eq!(off.status, StatusCode::NOT_FOUND);
        let error = off.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains("--admin-token-file"), "{error}");
    }
    stop.cancel();
    assert_eq!(task.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_token_file_that_has_no_token_ends_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let mut args = serve_args(dir.path(), &[]);
    args.admin_token_file = Some(path.clone());
    for contents in [None, Some(" \n")] {
        if let Some(contents) = contents {
            std::fs::write(&path, contents).unwrap();
        }
        let failure = Worker::bind(&args, manifest(&["a:1"])).await.err().unwrap();
        assert_eq!(failure.reason, Reason::ArgumentsInvalid);
        assert!(failure.message.contains("--admin-token-file"), "{failure}");
    }
}

#[tokio::test]
async fn who_has_another_token_or_none_changes_nothing() {
    let running = Running::start(&[]).await;
    let unload = "/v2/repository/models/other/unload";
    for token in [None, Some(""), Some("water"), Some("wick-and-oi")] {
        let refused = running.http.post(running.admin, unload, token, "{}").await.unwrap();
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{token:?}");
        assert_eq!(refused.headers[WWW_AUTHENTICATE], "Bearer");
        assert!(refused.json()["error"].is_string());
    }
    std::fs::write(&running.token_file, "another").unwrap();
    let old = running.http.post(running.admin, unload, Some(TOKEN), "{}").await.unwrap();
    assert_eq!(old.status, StatusCode::UNAUTHORIZED, "the file is read again");
    std::fs::remove_file(&running.token_file).unwrap();
    let none = running.http.post(running.admin, unload, Some("another"), "{}").await.unwrap();
    assert_eq!(none.status, StatusCode::SERVICE_UNAVAILABLE, "{}", none.text);
    assert_eq!(running.answers("other").await.unwrap(), "other:1");
    running.stops_well().await;
}

#[tokio::test]
async fn what_contradicts_what_is_served_is_refused() {
    let running = Running::start(&[]).await;
    let config = |version: &str| json!({"parameters": {"config": config(version).to_string()}});
    running.load("embedder:2").await;
    let (conflict, missing) = (StatusCode::CONFLICT, StatusCode::NOT_FOUND);
    let none = json!({});
    let version = |version: &str| json!({"parameters": {"version": version}});
    is_refused(&running, "models/embedder/load", &config("2"), conflict, "unload it first").await;
    is_refused(&running, "models/embedder:1/unload", &none, conflict, "/default").await;
    is_refused(&running, "models/embedder:9/unload", &none, missing, "embedder:9").await;
    is_refused(&running, "models/nobody/unload", &none, missing, "nobody").await;
    is_refused(&running, "models/embedder/default", &version("9"), missing, "embedder:9").await;
    let ask = StatusCode::BAD_REQUEST;
    is_refused(&running, "models/embedder/unload", &none, ask, "loaded: 1, 2").await;
    is_refused(&running, "models/other/default", &none, ask, "parameters.version").await;
    is_refused(&running, "models/embedder:1/unload", &version("2"), ask, "another").await;

    for key in ["embedder:2", "other:1"] {
        assert_eq!(running.unload(key).await.status, StatusCode::OK);
    }
    is_refused(&running, "models/embedder:1/unload", &none, conflict, "the only model").await;
    assert_eq!(running.answers("embedder").await.unwrap(), "embedder:1");
    running.stops_well().await;
}

#[tokio::test]
async fn a_load_that_says_not_what_is_to_be_loaded_is_refused() {
    let running = Running::start(&[]).await;
    let ask = StatusCode::BAD_REQUEST;
    let load = "models/embedder/load";
    let with = |config: Value| json!({"parameters": {"config": config.to_string()}});
    is_refused(&running, load, &json!({}), ask, "parameters.config is missing").await;
    is_refused(&running, load, &json!({"parameters": {"config": {}}}), ask, "a text").await;
    is_refused(&running, load, &json!([]), ask, "JSON object").await;
    is_refused(&running, load, &with(json!({})), ask, "version").await;
    is_refused(&running, load, &with(config("")), ask, "non-empty").await;
    let mut foreign = config("2");
    foreign["name"] = json!("other");
    is_refused(&running, load, &with(foreign), ask, "other:2").await;
    let mut unknown = config("2");
    unknown["instances"] = json!(2);
    is_refused(&running, load, &with(unknown), ask, "instances").await;
    let files = json!({"parameters": {"config": "{}", "file:1/model.onnx": "AAAA"}});
    is_refused(&running, load, &files, ask, "file:1/model.onnx").await;
    assert_eq!(running.index().await, ["embedder:1* READY", "other:1* READY"]);
    running.stops_well().await;
}
