//! What the children look like, byte by byte: these snapshots are what a cluster sees.

use lamplighter_operator::reconcile::fetch::Fetched;
use lamplighter_operator::reconcile::render::{Rendered, render};
use lamplighter_operator::reconcile::validate::validate;
use lamplighter_plan::{Action, Plan, Routable, State, Verdict};

use serde_json::Value;

use crate::fixtures::{IMAGE, SPEC, deployment_of, valid};

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

fn threads(spec: &str) -> Vec<Value> {
    let valid = validate(&deployment_of(spec), &Fetched::default(), IMAGE).unwrap();
    let verdict = Verdict { state: State::Complete, routable: Routable::default() };
    let set = render(&valid, &Plan::without_actions(verdict)).workload;
    let template = serde_json::to_value(set).unwrap()["spec"]["template"].take();
    let env = template["spec"]["containers"][0]["env"].as_array().unwrap().clone();
    env.into_iter().filter(|variable| variable["name"] == "RAYON_NUM_THREADS").collect()
}

#[test]
fn threads_follow_the_cpu_limit_unless_the_user_says_how_many() {
    assert_eq!(threads(SPEC), [Value::Null; 0]);
    let limited = SPEC.replace("limits: {memory: 4Gi}", "limits: {memory: 4Gi, cpu: 1500m}");
    let [derived] = threads(&limited).try_into().unwrap();
    assert_eq!(derived["valueFrom"]["resourceFieldRef"]["resource"], "limits.cpu");
    assert_eq!(derived["valueFrom"]["resourceFieldRef"]["divisor"], "1");
    let chosen = limited.replace("OMP_NUM_THREADS", "RAYON_NUM_THREADS");
    let [own] = threads(&chosen).try_into().unwrap();
    assert_eq!(own["value"], "2");
}

#[test]
fn the_template_does_not_depend_on_the_progress_deadline() {
    let workload = |spec: &str| {
        let valid = validate(&deployment_of(spec), &Fetched::default(), IMAGE).unwrap();
        let verdict = Verdict { state: State::Complete, routable: Routable::default() };
        render(&valid, &Plan::without_actions(verdict)).workload
    };
    let later = SPEC.replace("progressDeadlineSeconds: 300", "progressDeadlineSeconds: 900");
    assert_ne!(later, SPEC);
    assert_eq!(workload(SPEC), workload(&later));
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
