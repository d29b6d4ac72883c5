//! What a real apiserver takes and refuses, and with which words: the table of `crates/api`.

#[allow(clippy::expect_used, reason = "a table that cannot be read is a broken checkout")]
#[path = "../../../../crates/api/tests/admission/table.rs"]
mod table;

use anyhow::{Context as _, bail, ensure};
use http::{Method, Request};
use lamplighter_e2e::{Scene, Turn, with_namespace};
use serde_json::{Value, json};

use self::table::{Case, Expectation, Table};

/// Nothing is stored, and unknown fields are refused as kubectl has them refused.
const DRY_RUN: &str = "?dryRun=All&fieldValidation=Strict";

/// Guarantees: api-03.
#[tokio::test]
#[ignore = "needs the cluster: cargo xtask test"]
async fn the_apiserver_takes_and_refuses_what_the_table_says() -> anyhow::Result<()> {
    with_namespace(Turn::Shared, async |scene| {
        let table = Table::load();
        let (mut taken, mut refused, mut wrong) = (0, 0, Vec::new());
        for case in &table.cases {
            let said = asked(&scene, case, &table.base).await?;
            match (&case.expect, said) {
                (Expectation::Accepted, None) => taken += 1,
                (Expectation::Refused { message, .. }, Some(words)) if words.contains(message) => {
                    refused += 1;
                }
                (Expectation::Refused { layer, message }, said) => wrong.push(format!(
                    "{}: by {layer:?} with {message:?} expected, found {said:?}",
                    case.name
                )),
                (Expectation::Accepted, Some(words)) => {
                    wrong.push(format!("{}: {words}", case.name));
                }
            }
        }
        ensure!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
        ensure!(taken >= 5 && refused >= 20, "only {taken} taken and {refused} refused");
        Ok(())
    })
    .await
}

/// The words with which the apiserver refuses a case; none when it takes it.
async fn asked(scene: &Scene, case: &Case, base: &Value) -> anyhow::Result<Option<String>> {
    let mut object = here(case.object(base), scene);
    let Some(old) = case.old(base) else {
        return said(scene, Method::POST, &collection(scene), DRY_RUN, &object)
            .await
            .map(Result::err);
    };
    let stored = said(scene, Method::POST, &collection(scene), "", &here(old, scene)).await?;
    let Ok(stored) = stored else { bail!("{}: the old object is refused: {stored:?}", case.name) };
    let version = stored["metadata"]["resourceVersion"].clone();
    object["metadata"]["resourceVersion"] = version;
    let name = stored["metadata"]["name"].as_str().context("no name")?;
    let path = format!("{}/{name}", collection(scene));
    let answer = said(scene, Method::PUT, &path, DRY_RUN, &object).await?;
    let deleted = said(scene, Method::DELETE, &path, "", &json!({})).await?;
    ensure!(deleted.is_ok(), "{deleted:?}");
    Ok(answer.err())
}

fn collection(scene: &Scene) -> String {
    format!("/apis/lamplighter.dev/v1alpha1/namespaces/{}/modeldeployments", scene.namespace)
}

fn here(mut object: Value, scene: &Scene) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.insert("namespace".to_owned(), json!(scene.namespace));
    }
    object
}

/// The apiserver's answer: an object, or the words of a refusal. Anything else is an error.
async fn said(
    scene: &Scene,
    method: Method,
    path: &str,
    query: &str,
    object: &Value,
) -> anyhow::Result<Result<Value, String>> {
    let request = Request::builder()
        .method(method)
        .uri(format!("{path}{query}"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(object)?)?;
    match scene.client.request::<Value>(request).await {
        Ok(answer) => Ok(Ok(answer)),
        Err(kube::Error::Api(status)) if matches!(status.code, 400 | 422) => {
            Ok(Err(status.message.clone()))
        }
        Err(error) => Err(error).context("the apiserver does not answer"),
    }
}
