//! Commands that take a while: who waits for whom.

use std::time::Duration;

use super::*;

fn load_body(version: &str) -> Value {
    json!({"parameters": {"config": config(version).to_string()}})
}

#[tokio::test]
async fn a_load_is_seen_while_it_runs_and_one_at_a_time_for_a_model() {
    let running = Running::start(&[]).await;
    let loading = running.meanwhile("models/embedder/load", load_body("slow"));
    running.index_has("embedder:slow LOADING phase Build").await;
    let report = running.report().await;
    assert_eq!(report.models[2].state, ModelState::Loading);
    let probe = running.http.get(running.admin, "/readyz").await.unwrap();
    assert_eq!(probe.status, StatusCode::OK, "the worker stays ready");
    assert_eq!(running.answers("embedder:slow").await.unwrap_err(), "model_not_found");
    for refused in [running.load("embedder:slow").await, running.unload("embedder:slow").await] {
        assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text);
        assert!(refused.text.contains("is being loaded"), "{}", refused.text);
    }
    assert_eq!(running.load("embedder:2").await.status, StatusCode::OK, "another may come");
    running.go_on.notify_one();
    assert_eq!(loading.await.unwrap().status, StatusCode::OK);
    assert_eq!(running.answers("embedder:slow").await.unwrap(), "embedder:slow");
    running.stops_well().await;
}

#[tokio::test]
async fn a_load_goes_on_when_who_asked_for_it_is_gone() {
    let running = Running::start(&[]).await;
    let loading = running.meanwhile("models/embedder/load", load_body("slow"));
    running.index_has("embedder:slow LOADING phase Build").await;
    loading.abort();
    assert!(loading.await.unwrap_err().is_cancelled());
    running.go_on.notify_one();
    running.index_has("embedder:slow READY").await;
    assert_eq!(running.answers("embedder:slow").await.unwrap(), "embedder:slow");
    running.stops_well().await;
}

#[tokio::test]
async fn a_load_does_not_hold_a_worker_that_is_told_to_stop() {
    let running = Running::start(&[]).await;
    let loading = running.meanwhile("models/embedder/load", load_body("endless"));
    running.index_has("embedder:endless LOADING phase Build").await;
    running.stops_well().await;
    drop(loading);
}

#[tokio::test]
async fn an_unload_waits_for_the_requests_that_have_the_model_and_new_ones_do_not_get_it() {
    let running = Running::start(&[]).await;
    let engine = running.engine("other:1");
    let request = running.held_back("other").await;
    let unloading = running.meanwhile("models/other/unload", json!({}));
    running.index_has("other:1 UNLOADING requests that began before still have it").await;
    assert_eq!(running.answers("other").await.unwrap_err(), "model_not_found");
    assert_eq!(running.answers("embedder").await.unwrap(), "embedder:1");
    let report = running.report().await;
    assert_eq!(report.models.len(), 1, "it is none of those that answer: {report:?}");
    let again = running.load("other:1").await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert!(again.text.contains("is being unloaded"), "{}", again.text);
    assert!(!unloading.is_finished());

    engine.release();
    let answer = request.await.unwrap().unwrap();
    assert_eq!(answer.status, StatusCode::OK, "who began before is answered: {}", answer.text);
    assert_eq!(unloading.await.unwrap().status, StatusCode::OK);
    running.engines.lock().unwrap().remove("other:1");
    assert_eq!(Arc::strong_count(&engine), 1, "the worker has no part of it any more");
    assert_eq!(running.load("other:1").await.status, StatusCode::OK);
    running.stops_well().await;
}

#[tokio::test]
async fn an_unload_waits_for_what_runs_on_though_its_client_is_gone() {
    let running = Running::start(&["--request-timeout-seconds", "1"]).await;
    let engine = running.engine("other:1");
    let request = running.held_back("other").await;
    let late = request.await.unwrap().unwrap();
    assert_eq!(late.status, StatusCode::GATEWAY_TIMEOUT, "the request is over, its run is not");
    let unloaded = running.unload("other").await;
    assert_eq!(unloaded.status, StatusCode::GATEWAY_TIMEOUT, "{}", unloaded.text);
    assert!(unloaded.text.contains("no request reaches it any more"), "{}", unloaded.text);
    running.index_has("other:1 UNLOADING requests that began before still have it").await;
    engine.release();
    tokio::time::timeout(DEADLINE, async {
        while running.index().await.len() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it goes when the run is done");
    running.engines.lock().unwrap().remove("other:1");
    assert_eq!(Arc::strong_count(&engine), 1);
    running.stops_well().await;
}

/// Rounds of validation, and what comes and goes meanwhile.
#[tokio::test]
async fn a_model_that_came_later_is_asked_again_and_ends_the_worker_when_it_is_wrong() {
    let running = Running::start(&[]).await;
    assert_eq!(running.load("embedder:asked").await.status, StatusCode::OK);
    running.round().await;
    let engine = running.engine("embedder:asked");
    assert_eq!(engine.times_answered("check"), 1);
    engine.turn_wrong(2);
    running.validate().await;
    let failure = running.ends().await.unwrap_err();
    assert_eq!(failure.reason, Reason::RevalidationFailed);
    assert_eq!(failure.model.unwrap().to_string(), "embedder:asked");
}

#[tokio::test]
async fn a_round_neither_holds_a_model_that_is_unloaded_nor_ends_with_it() {
    let running = Running::start(&[]).await;
    for version in ["held", "asked"] {
        assert_eq!(running.load(&format!("embedder:{version}")).await.status, StatusCode::OK);
    }
    let engine = running.engine("embedder:held");
    running.validate().await;
    tokio::time::timeout(DEADLINE, async {
        while *engine.largest_batch.lock().unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the round has begun");
    let unloading = running.meanwhile("models/embedder:held/unload", json!({}));
    running.index_has("embedder:held UNLOADING requests that began before still have it").await;
    assert!(!unloading.is_finished(), "a run is still under way");
    // What the worker asks itself runs one batch at a time, so that the round waits for this one.
    engine.release();
    assert_eq!(unloading.await.unwrap().status, StatusCode::OK);
    running
        .http
        .status_when(running.admin, |report| report.revalidation.unwrap().rounds == 1)
        .await;
    assert_eq!(engine.times_answered("a lamp"), 0, "its other case is not asked");
    assert_eq!(running.engine("embedder:asked").times_answered("check"), 1, "the others are");
    running.round().await;
    running.stops_well().await;
}

impl Running {
    async fn validate(&self) {
        let pod = Some(crate::support::POD);
        let told = self.http.command(self.admin, "/validate", pod).await.unwrap();
        assert_eq!(told.status, StatusCode::ACCEPTED, "{}", told.text);
    }

    async fn round(&self) {
        let before = self.report().await.revalidation.unwrap().rounds;
        self.validate().await;
        let ended = |report: &Report| report.revalidation.unwrap().rounds > before;
        self.http.status_when(self.admin, ended).await;
    }
}
