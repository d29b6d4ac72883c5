//! Whole rollouts in requests: what is asked, what becomes of an operator that is cut off, and of a
//! memory that is lost or behind.

use http::Method;
use serde_json::{Value, json};

use crate::apiserver::Asked;
use crate::cluster::{Cluster, DEPLOYMENT, SERVICE};
use crate::fixtures::{NAME, wanted};
use crate::pipeline::lines;

/// Every request of a whole blue-green rollout, with what lies between.
///
/// Guarantees: switch-01.
#[tokio::test]
async fn a_blue_green_rollout_in_requests() {
    let mut cluster = Cluster::complete().await;
    let old = wanted();
    cluster.change_model();
    cluster.server.edit(DEPLOYMENT, |deployment| {
        deployment["spec"]["rollout"]["strategy"] = json!("BlueGreen");
        deployment["spec"]["rollout"]["propagationDelaySeconds"] = json!(1);
    });
    let mut told = vec![("the spec changes", cluster.settle().await)];
    cluster.wait(42);
    told.push(("no connection can be older than the switch", cluster.settle().await));
    cluster.wait(601);
    told.push(("the window is over", cluster.settle().await));
    cluster.wait(1);
    told.push(("and then", cluster.settle().await));

    let requests: Vec<&Asked> = told.iter().flat_map(|(_, asked)| asked).collect();
    let moved = requests
        .iter()
        .find(|asked| asked.path == SERVICE && asked.method == Method::PATCH)
        .unwrap();
    assert_eq!(moved.body["spec"]["selector"]["lamplighter.dev/environment"], "green");
    assert!(moved.body["metadata"]["resourceVersion"].is_string(), "the switch is guarded");
    let scaled = requests
        .iter()
        .find(|asked| asked.content_type.contains("merge-patch") && asked.path.contains(&old))
        .unwrap();
    assert_eq!(scaled.body["spec"], json!({"replicas": 0}));
    assert!(scaled.body["metadata"]["resourceVersion"].is_string());
    for request in requests.iter().filter(|asked| asked.method == Method::DELETE) {
        assert!(request.body["preconditions"]["uid"].is_string(), "{request}");
        assert!(request.body["preconditions"]["resourceVersion"].is_string(), "{request}");
    }
    let place = |is_it: fn(&&Asked) -> bool| requests.iter().position(is_it);
    let mark = |asked: &&Asked| {
        asked.path.contains("controllerrevisions")
            && asked.body["metadata"]["annotations"]["lamplighter.dev/served"] == "true"
    };
    let switch =
        |asked: &&Asked| asked.path == SERVICE && !asked.body["spec"]["selector"].is_null();
    let marked = place(mark).expect("that it served is written down");
    assert!(marked < place(switch).unwrap(), "before the first request reaches it");
    let new = cluster.server.all("replicasets").pop().unwrap();
    let new = new["metadata"]["labels"]["lamplighter.dev/revision"].as_str().unwrap().to_owned();
    let text: Vec<String> =
        told.iter().map(|(what, asked)| format!("# {what}\n{}", lines(asked))).collect();
    insta::assert_snapshot!(text.join("\n").replace(&old, "OLD").replace(&new, "NEW"));
    assert_eq!(cluster.server.all("controllerrevisions").len(), 2, "the old record stays");
    let status = cluster.server.get(DEPLOYMENT).unwrap()["status"].clone();
    assert_eq!(status["history"][0]["outcome"], "Promoted");
    assert_eq!(status["active"]["environment"], "green");
}

/// The same after each of its requests was the last that an operator made: its successor ends at
/// the same place, and makes no pod twice.
///
/// Guarantees: switch-13, operator-01.
#[tokio::test]
async fn a_rollout_that_is_cut_off_after_any_write_ends_the_same() {
    let mut whole = Cluster::complete().await;
    let writes = rolled(&mut whole, None).await;
    assert!(writes > 10, "{writes}");
    let ended = ending(&whole);
    for cut in 1..writes {
        let mut cluster = Cluster::complete().await;
        rolled(&mut cluster, Some(cut)).await;
        assert_eq!(ending(&cluster), ended, "cut off after {cut} writes");
    }
}

/// Rolls out a change; the apiserver takes only so many writes in the first attempt. How many there
/// were in all.
async fn rolled(cluster: &mut Cluster, cut: Option<usize>) -> usize {
    cluster.change_model();
    cluster.server.edit(DEPLOYMENT, |deployment| {
        deployment["spec"]["rollout"]["strategy"] = json!("BlueGreen");
        deployment["spec"]["rollout"]["propagationDelaySeconds"] = json!(1);
    });
    let mut writes = 0;
    let mut cut = cut;
    for wait in [0, 42, 601, 1] {
        cluster.wait(wait);
        for _ in 0..60 {
            cluster.others();
            cluster.server.take_writes(cut.map(|cut| cut - writes));
            let outcome = cluster.reconcile().await;
            let asked = cluster.asked();
            let now = asked.iter().filter(|asked| asked.method != Method::GET).count();
            writes += now;
            // Its successor is not cut off.
            let is_cut = cut.is_some_and(|cut| writes > cut);
            cut = cut.filter(|_| !is_cut);
            if outcome.is_ok() && now == 0 && !is_cut {
                break;
            }
        }
    }
    writes
}

/// What is left, without what time and the number of attempts decide.
fn ending(cluster: &Cluster) -> Value {
    let status = cluster.server.get(DEPLOYMENT).unwrap()["status"].clone();
    let names = |plural: &str| {
        let mut names: Vec<String> = cluster
            .server
            .all(plural)
            .into_iter()
            .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort_unstable();
        names
    };
    json!({
        "active": status["active"]["revision"], "environment": status["active"]["environment"],
        "phase": status["rollout"]["phase"], "outcome": status["history"][0]["outcome"],
        "rollouts": status["history"].as_array().map(Vec::len),
        "replicasets": names("replicasets"), "pods": names("pods"), "services": names("services"),
        "budgets": names("poddisruptionbudgets"), "records": names("controllerrevisions"),
    })
}

/// The status was taken away by somebody: nothing is done before it is there again.
///
/// Guarantees: operator-08.
#[tokio::test]
async fn a_memory_that_is_lost_is_begun_anew_before_anything_is_done() {
    let mut cluster = Cluster::complete().await;
    let pods = cluster.server.all("pods");
    cluster.server.edit(DEPLOYMENT, |deployment| deployment["status"] = Value::Null);
    cluster.reconcile().await.unwrap();
    let asked = cluster.asked();
    assert_eq!(lines(&asked), format!("PATCH {DEPLOYMENT}/status (apply, forced)"));
    cluster.settle().await;
    assert_eq!(cluster.server.all("pods"), pods, "the pods that serve are the same");
    assert_eq!(cluster.condition("Ready")["status"], "True");
}

/// Objects that were written under a later memory: another operator leads, or the cache lags.
///
/// Guarantees: operator-02.
#[tokio::test]
async fn a_decision_on_an_older_memory_does_nothing() {
    let mut cluster = Cluster::complete().await;
    let path = format!("/apis/apps/v1/namespaces/library/replicasets/{NAME}-{}", wanted());
    cluster.server.edit(&path, |set| {
        set["metadata"]["annotations"]["lamplighter.dev/epoch"] = json!("99");
    });
    cluster.server.edit(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] = json!(1));
    cluster.reconcile().await.unwrap();
    let writes = lines(&cluster.asked());
    assert!(!writes.contains("replicasets"), "{writes}");
    assert_eq!(cluster.condition("Stalled")["reason"], "StatusOutdated");
    // The way out that the message names.
    cluster.server.edit(DEPLOYMENT, |deployment| deployment["status"]["epoch"] = Value::Null);
    cluster.settle().await;
    assert_eq!(cluster.server.get(&path).unwrap()["spec"]["replicas"], 1);
    assert_eq!(cluster.condition("Ready")["status"], "True");
}
