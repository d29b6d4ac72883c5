//! What commands do.

use super::*;

#[tokio::test]
async fn a_version_comes_beside_another_takes_its_name_over_and_the_first_one_goes() {
    let running = Running::start(&[]).await;
    assert_eq!(running.index().await, ["embedder:1* READY", "other:1* READY"]);
    let loaded = running.load("embedder:2").await;
    assert_eq!(loaded.status, StatusCode::OK, "{}", loaded.text);
    let listed = ["embedder:1* READY", "other:1* READY", "embedder:2 READY"];
    assert_eq!(running.index().await, listed);
    assert_eq!(running.answers("embedder").await.unwrap(), "embedder:1");
    assert_eq!(running.answers("embedder:2").await.unwrap(), "embedder:2");
    let models = running.http.get(running.serving, "/v1/models").await.unwrap().json();
    let names: Vec<&str> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["id"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["embedder", "embedder:1", "embedder:2", "other", "other:1"]);

    let switched =
        running.command("models/embedder/default", &json!({"parameters": {"version": "2"}})).await;
    assert_eq!(switched.status, StatusCode::OK, "{}", switched.text);
    assert_eq!(running.answers("embedder").await.unwrap(), "embedder:2");
    let engine = running.engine("embedder:1");
    let unloaded = running.unload("embedder:1").await;
    assert_eq!(unloaded.status, StatusCode::OK, "{}", unloaded.text);
    running.engines.lock().unwrap().remove("embedder:1");
    assert_eq!(Arc::strong_count(&engine), 1, "the worker has no part of it any more");
    assert_eq!(running.answers("embedder:1").await.unwrap_err(), "model_not_found");
    assert_eq!(running.answers("embedder").await.unwrap(), "embedder:2");
    assert_eq!(running.index().await, ["other:1* READY", "embedder:2* READY"]);

    let report = running.report().await;
    let keys: Vec<String> = report.models.iter().map(|model| model.key.to_string()).collect();
    assert_eq!(keys, ["other:1", "embedder:2"]);
    assert!(report.models.iter().all(|model| model.state == ModelState::Ready));
    let samples = parse(&running.http.get(running.admin, "/metrics").await.unwrap().text);
    let of = |key: &str| samples.keys().filter(|name| name.contains(&format!("\"{key}\""))).count();
    assert_eq!(of("embedder:1"), 0, "{samples:?}");
    assert!(of("embedder:2") > 0);
    running.stops_well().await;
}

#[tokio::test]
async fn the_same_key_may_come_and_go_and_take_the_name_at_once() {
    let running = Running::start(&[]).await;
    for _ in 0..3 {
        let mut config = config("2");
        config["default"] = json!(true);
        config["name"] = json!("embedder");
        let body = json!({"parameters": {"config": config.to_string()}});
        let loaded = running.command("models/embedder:2/load", &body).await;
        assert_eq!(loaded.status, StatusCode::OK, "{}", loaded.text);
        assert_eq!(running.answers("embedder").await.unwrap(), "embedder:2");
        let back = running.command("models/embedder:1/default", &json!({})).await;
        assert_eq!(back.status, StatusCode::OK, "{}", back.text);
        let version = json!({"parameters": {"version": "2", "unload_dependents": false}});
        let unloaded = running.command("models/embedder/unload", &version).await;
        assert_eq!(unloaded.status, StatusCode::OK, "{}", unloaded.text);
        assert_eq!(running.answers("embedder").await.unwrap(), "embedder:1");
    }
    let unloaded = running.unload("other").await;
    assert_eq!(
        unloaded.status,
        StatusCode::OK,
        "of one version no other is meant: {}",
        unloaded.text
    );
    running.stops_well().await;
}

#[tokio::test]
async fn a_load_that_fails_changes_nothing_and_is_told_until_the_next_try() {
    let running = Running::start(&["--start-deadline-seconds", "1"]).await;
    let broken = running.load("embedder:broken").await;
    assert_eq!(broken.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", broken.text);
    let json = broken.json();
    assert_eq!(json["error"], "embedder:broken: TensorMissing: no pooler");
    let failure: Failure = serde_json::from_value(json["failure"].clone()).unwrap();
    assert_eq!((failure.reason, failure.phase), (Reason::TensorMissing, Some(Phase::Build)));
    let panicked = running.load("embedder:panic").await;
    assert_eq!(panicked.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", panicked.text);
    let late = running.load("embedder:endless").await;
    assert_eq!(late.status, StatusCode::GATEWAY_TIMEOUT, "{}", late.text);
    assert!(late.text.contains("--start-deadline-seconds"), "{}", late.text);

    let index = running.index().await;
    assert_eq!(index[..2], ["embedder:1* READY", "other:1* READY"]);
    assert_eq!(index[2], "embedder:broken UNAVAILABLE TensorMissing: no pooler");
    assert!(index[3].starts_with("embedder:panic UNAVAILABLE Internal: "), "{index:?}");
    assert!(index[4].starts_with("embedder:endless UNAVAILABLE StartDeadlineExceeded: "));
    let ready = running.command("index", &json!({"ready": true})).await.json();
    assert_eq!(ready.as_array().unwrap().len(), 2);
    let failed = running.report().await.models[2].clone();
    assert_eq!((failed.state, failed.failure.unwrap()), (ModelState::Failed, failure));
    let probe = running.http.get(running.admin, "/readyz").await.unwrap();
    assert_eq!(probe.status, StatusCode::OK, "the worker stays ready");
    assert_eq!(running.answers("embedder").await.unwrap(), "embedder:1");
    assert_eq!(running.answers("embedder:broken").await.unwrap_err(), "model_not_found");

    running.load("embedder:broken").await;
    let lines: Vec<_> = running.index().await;
    let of_broken = lines.iter().filter(|line| line.starts_with("embedder:broken")).count();
    assert_eq!(of_broken, 1, "the next try is told instead: {lines:?}");
    running.stops_well().await;
}

#[tokio::test]
async fn of_many_loads_that_failed_only_the_last_are_remembered() {
    let running = Running::start(&[]).await;
    for number in 0..40 {
        let config = json!({
            "version": "broken", "task": "Embedding", "source": {"uri": "image:///nowhere"},
        });
        let body = json!({"parameters": {"config": config.to_string()}});
        running.command(&format!("models/model-{number}/load"), &body).await;
    }
    let index = running.index().await;
    assert!(index.len() < 20, "{index:?}");
    assert!(index.last().unwrap().starts_with("model-39:broken"), "{index:?}");
    let metrics = running.http.get(running.admin, "/metrics").await.unwrap().text;
    assert!(metrics.contains("model-39:broken") && !metrics.contains("model-1:broken"));
    running.stops_well().await;
}
