//! What the children look like, byte by byte: these snapshots are what a cluster sees.

use lamplighter_operator::reconcile::render::{Rendered, render};
use lamplighter_plan::{Action, Plan, Routable, State, Verdict};

use crate::fixtures::valid;

fn rendered() -> Rendered {
    let valid = valid();
    let verdict = Verdict { state: State::Complete, routable: Routable::default() };
    let create = Action::Create { revision: valid.revision.clone(), replicas: valid.replicas };
    let plan = Plan { actions: vec![create], ..Plan::without_actions(verdict) };
    render(&valid, &plan)
}

#[test]
fn the_record() {
    insta::assert_yaml_snapshot!(rendered().record);
}

#[test]
fn the_manifest() {
    insta::assert_yaml_snapshot!(rendered().manifest);
}

#[test]
fn the_service() {
    insta::assert_yaml_snapshot!(rendered().service);
}

#[test]
fn the_disruption_budget() {
    insta::assert_yaml_snapshot!(rendered().disruption_budget);
}

#[test]
fn the_workload() {
    insta::assert_yaml_snapshot!(rendered().workload);
}

#[test]
fn the_worker_reads_the_manifest_that_was_rendered() {
    let data = rendered().manifest.data.unwrap();
    let manifest = lamplighter_protocol::Manifest::from_json(&data["manifest.json"]).unwrap();
    assert_eq!(manifest.revision, valid().revision.as_str());
    let credentials = manifest.models[0].source.credentials.clone().unwrap();
    let template = rendered().workload.spec.unwrap().template.unwrap();
    let mounts = template.spec.unwrap().containers[0].volume_mounts.clone().unwrap();
    assert!(mounts.iter().any(|mount| mount.mount_path == credentials), "{credentials}");
}

#[test]
fn rendering_twice_gives_the_same_bytes() {
    let text = |rendered: &Rendered| serde_json::to_string(&rendered.workload).unwrap();
    assert_eq!(text(&rendered()), text(&rendered()));
}

#[test]
fn nothing_is_sent_as_null() {
    let Rendered { record, manifest, service, disruption_budget, workload, .. } = rendered();
    let objects = [
        serde_json::to_string(&record).unwrap(),
        serde_json::to_string(&manifest).unwrap(),
        serde_json::to_string(&service).unwrap(),
        serde_json::to_string(&disruption_budget).unwrap(),
        serde_json::to_string(&workload).unwrap(),
    ];
    for object in objects {
        assert!(!object.contains(":null"), "{object}");
    }
}
