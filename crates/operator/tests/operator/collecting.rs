//! The clean-up of a cache that deployments share.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use lamplighter_api::ModelDeployment;
use lamplighter_operator::reconcile::collecting;
use lamplighter_operator::reconcile::fetch::Fetched;
use lamplighter_operator::reconcile::memory::remembered;
use lamplighter_operator::reconcile::observe::{Ages, world};
use lamplighter_operator::reconcile::validate::validate;
use serde_json::{Value, json};

use crate::cluster::{Cluster, DEPLOYMENT};
use crate::fixtures::{
    NAME, NAMESPACE, SPEC, controller, deployment_of, images, now, on_its_way, serving,
};

fn with_cache() -> ModelDeployment {
    deployment_of(&SPEC.replace(
        "  device: Cpu\n",
        "  device: Cpu\n  cache: {persistentVolumeClaim: {claimName: shared}}\n",
    ))
}

/// The Job that is wanted for a deployment with this status beside these others.
fn wanted(deployment: &ModelDeployment, others: Vec<ModelDeployment>) -> Option<Job> {
    let valid = validate(deployment, &Fetched::default(), &images()).unwrap();
    let sharers = others.into_iter().chain([deployment.clone()]).map(Arc::new).collect();
    let fetched = Fetched { sharers, ..Fetched::default() };
    let remembered = remembered(deployment.status.as_ref(), now());
    let world = world(&valid, &remembered, BTreeMap::new(), &fetched, &Ages::at(now()));
    collecting::wanted(&valid, &world, &fetched, now())
}

/// The revisions that a Job is told.
fn known(job: &Value) -> Vec<String> {
    let value = &job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"];
    value.as_str().unwrap().split(',').map(str::to_owned).collect()
}

fn stable() -> ModelDeployment {
    let mut deployment = with_cache();
    let valid = validate(&deployment, &Fetched::default(), &images()).unwrap();
    let mut status = serving(valid.wanted.revision.as_str());
    status.rollout = None;
    deployment.status = Some(status);
    deployment
}

#[test]
fn the_job() {
    let job = wanted(&stable(), Vec::new()).unwrap();
    insta::assert_yaml_snapshot!(job);
}

#[test]
fn every_deployment_on_the_claim_is_asked_what_it_needs() {
    let mut other = stable();
    other.metadata.name = Some("other".to_owned());
    let mut status = on_its_way();
    status.rollout.as_mut().unwrap().to.revision = "1111111111".to_owned();
    status.known_good = serving("2222222222").known_good;
    other.status = Some(status);
    let alone = wanted(&stable(), Vec::new()).unwrap();
    let both = wanted(&stable(), vec![other]).unwrap();
    assert_ne!(alone.metadata.name, both.metadata.name, "another set has another name");
    let known = known(&serde_json::to_value(both).unwrap());
    for revision in ["library/other/1111111111", "library/other/2222222222"] {
        assert!(known.contains(&revision.to_owned()), "{known:?}");
    }
    assert!(known.iter().any(|revision| revision.starts_with("library/scripture-search/")));
}

#[test]
fn nothing_is_cleaned_up_while_a_rollout_is_under_way_or_nothing_is_shared() {
    let mut deployment = stable();
    deployment.status.as_mut().unwrap().rollout = on_its_way().rollout;
    assert!(wanted(&deployment, Vec::new()).is_none());
    let mut deployment = stable();
    deployment.spec.worker.cache = None;
    assert!(wanted(&deployment, Vec::new()).is_none());
    let mut deployment = stable();
    deployment.status = None;
    assert!(wanted(&deployment, Vec::new()).is_none());
}

/// A deployment that keeps its downloads with its pods now, while a revision that it may return to
/// has its models on the claim.
#[tokio::test]
async fn a_deployment_that_left_the_claim_is_asked_as_long_as_a_record_names_it() {
    for (claim, is_known) in [("shared", true), ("elsewhere", false)] {
        let mut cluster = Cluster::new();
        cluster.server.edit(DEPLOYMENT, |deployment| {
            deployment["spec"]["worker"]["cache"] =
                json!({"persistentVolumeClaim": {"claimName": "shared"}});
        });
        let mut other = serde_json::to_value(stable()).unwrap();
        other["metadata"]["name"] = json!("other");
        other["metadata"]["uid"] = json!("uid-other");
        other["spec"]["worker"]["cache"] = Value::Null;
        other["status"] = json!(serving("2222222222"));
        cluster.server.put(&DEPLOYMENT.replace(NAME, "other"), other);
        let record = json!({
            "metadata": {
                "name": "other-2222222222", "namespace": NAMESPACE,
                "labels": {
                    "lamplighter.dev/deployment": "other", "lamplighter.dev/revision": "2222222222",
                },
                "ownerReferences": [controller("ModelDeployment", "other", "uid-other")],
            },
            "revision": 1,
            "data": {"worker": {"cache": {"persistentVolumeClaim": {"claimName": claim}}}},
        });
        let records = format!("/apis/apps/v1/namespaces/{NAMESPACE}/controllerrevisions");
        cluster.server.put(&format!("{records}/other-2222222222"), record);
        cluster.settle().await;
        cluster.wait(601);
        cluster.settle().await;
        let [job] = cluster.server.all("jobs").try_into().unwrap();
        let known = known(&job);
        let other = "library/other/2222222222".to_owned();
        assert_eq!(known.contains(&other), is_known, "{claim}: {known:?}");
    }
}

#[tokio::test]
async fn there_is_one_job_for_each_set_of_revisions_and_none_in_between() {
    let mut cluster = Cluster::new();
    cluster.server.edit(DEPLOYMENT, |deployment| {
        deployment["spec"]["worker"]["cache"] =
            json!({"persistentVolumeClaim": {"claimName": "shared"}});
    });
    cluster.settle().await;
    assert_eq!(cluster.server.all("jobs"), [Value::Null; 0], "the first one is being watched");
    cluster.wait(601);
    cluster.settle().await;
    let first = cluster.server.all("jobs");
    assert_eq!(first.len(), 1);
    assert_eq!(known(&first[0]).len(), 1);
    cluster.wait(100);
    assert!(cluster.settle().await.is_empty(), "it is made once, with the time of its set");

    cluster.change_model();
    cluster.server.edit(DEPLOYMENT, |deployment| {
        deployment["spec"]["rollout"]["strategy"] = json!("BlueGreen");
        deployment["spec"]["rollout"]["propagationDelaySeconds"] = json!(1);
    });
    cluster.settle().await;
    assert_eq!(cluster.server.all("jobs"), [Value::Null; 0], "it would not know the new one");
    for wait in [42, 601, 1] {
        cluster.wait(wait);
        cluster.settle().await;
    }
    let second = cluster.server.all("jobs");
    assert_eq!(second.len(), 1);
    assert_eq!(known(&second[0]).len(), 2, "the old one may have to come back");
    assert_eq!(cluster.condition("RollbackAvailable")["reason"], "Cached");
}
