//! What the children look like, byte by byte: these snapshots are what a cluster sees.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ReplicaSet;
use lamplighter_operator::reconcile::fetch::Fetched;
use lamplighter_operator::reconcile::memory::Remembered;
use lamplighter_operator::reconcile::observe::{Ages, world};
use lamplighter_operator::reconcile::render::{self, Rendered};
use lamplighter_operator::reconcile::validate::{Valid, validate};
use lamplighter_plan::rollout::{Environment, Plan};
use lamplighter_protocol::ModelKey;
use serde_json::Value;

use crate::fixtures::{
    CUDA_IMAGE, IMAGE, SPEC, deployment_of, images, now, place, record, valid, wanted, with_pods,
};

fn rendered() -> Rendered {
    rendered_from(&with_pods(Vec::new()), &Remembered::default())
}

/// What accompanies the workloads, by a plan that does nothing.
fn rendered_from(fetched: &Fetched, remembered: &Remembered) -> Rendered {
    let valid = valid();
    let ages = Ages::at(now());
    let world = world(&valid, remembered, std::collections::BTreeMap::new(), fetched, &ages);
    let plan = Plan {
        actions: Vec::new(),
        memory: remembered.memory.clone(),
        wake: None,
        notes: Vec::new(),
    };
    render::render(&valid, &world, &plan, fetched)
}

fn workload_of(valid: &Valid) -> ReplicaSet {
    workload_at(valid, None)
}

fn workload_at(valid: &Valid, commit: Option<&str>) -> ReplicaSet {
    let model = ModelKey { name: "embedder".to_owned(), version: "2.1.0".to_owned() };
    let digest = format!("sha256:{}", "0".repeat(64));
    let pinned = render::Pinned { digest, commit: commit.map(str::to_owned) };
    let digests = render::Digests::from([(model, pinned)]);
    render::workload(&valid.wanted, &digests, Environment::Blue, valid.replicas, 7)
}

fn workload() -> ReplicaSet {
    workload_of(&valid())
}

/// The variables of the pods, by name.
fn variables(workload: &ReplicaSet) -> BTreeMap<String, Option<String>> {
    let template = workload.spec.as_ref().unwrap().template.as_ref().unwrap();
    let container = &template.spec.as_ref().unwrap().containers[0];
    let variables = container.env.iter().flatten();
    variables.map(|variable| (variable.name.clone(), variable.value.clone())).collect()
}

#[test]
fn a_commit_goes_along_where_there_is_one_and_changes_nothing_else() {
    let commit = "c".repeat(40);
    let without = variables(&workload());
    let mut with = variables(&workload_at(&valid(), Some(&commit)));
    let told = with.remove("LAMPLIGHTER_EXPECTED_COMMITS").flatten();
    assert_eq!(told, Some(format!("embedder:2.1.0={commit}")));
    assert_eq!(with, without);
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

/// Guarantees: surroundings-02, surroundings-04.
#[test]
fn the_disruption_budget() {
    insta::assert_yaml_snapshot!(rendered().disruption_budgets);
}

/// Guarantees: drain-02.
#[test]
fn the_workload() {
    insta::assert_yaml_snapshot!(workload());
}

#[test]
fn the_resolver() {
    let valid = valid();
    insta::assert_yaml_snapshot!(render::resolver(&valid, &valid.wanted));
}

/// Guarantees: switch-09.
#[test]
fn the_preview_service() {
    let mut status = crate::fixtures::serving("00000000aa");
    let mut rollout = crate::fixtures::on_its_way().rollout.unwrap();
    rollout.from = Some(place("00000000aa", "blue"));
    rollout.to = place(&wanted(), "green");
    status.rollout = Some(rollout);
    let remembered = lamplighter_operator::reconcile::memory::remembered(Some(&status), now());
    let mut fetched = with_pods(Vec::new());
    let set = serde_json::to_value(fetched.replica_sets[0].as_ref()).unwrap();
    let set = crate::fixtures::from(crate::fixtures::moved(set, "green"));
    fetched.replica_sets = vec![std::sync::Arc::new(set)];
    insta::assert_yaml_snapshot!(rendered_from(&fetched, &remembered).preview);
    let unplaced = Fetched { replica_sets: Vec::new(), ..fetched };
    assert!(rendered_from(&unplaced, &remembered).preview.is_none());
    assert!(rendered().preview.is_none());
}

#[test]
fn an_old_revision_is_made_from_its_record_and_not_from_the_spec_of_today() {
    let before = SPEC.replace("4Gi", "2Gi").replace("drainSeconds: 20", "drainSeconds: 7");
    let old = validate(&deployment_of(&before), &Fetched::default(), &images()).unwrap();
    let mut fetched = with_pods(Vec::new());
    fetched.records.push(std::sync::Arc::new(record(&old, 1)));
    let made = render::blueprint(&valid(), &fetched, &old.wanted.revision).unwrap().unwrap();
    assert_eq!(made, old.wanted);
    let unknown = lamplighter_plan::RevisionId::new("ffffffffff");
    assert!(render::blueprint(&valid(), &fetched, &unknown).is_none());
}

/// What a pod of a revision serves does not change: nobody has a token to change it with.
#[test]
fn no_pod_can_be_told_to_load_or_unload() {
    let valid = valid();
    let known = std::collections::BTreeSet::new();
    let collector = render::collector(&valid.wanted, &known, "a1b2c3", now());
    let pods = [
        workload().spec.unwrap().template.unwrap().spec.unwrap(),
        render::resolver(&valid, &valid.wanted).spec.unwrap(),
        collector.spec.unwrap().template.spec.unwrap(),
    ];
    for pod in &pods {
        assert!(!pod.containers.is_empty());
        let text = serde_json::to_string(pod).unwrap();
        for word in [lamplighter_protocol::place::ENV_ADMIN_TOKEN_FILE, "admin-token"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
}

#[test]
fn the_worker_reads_the_manifest_that_was_rendered() {
    let data = rendered().manifest.data.unwrap();
    let manifest = lamplighter_protocol::Manifest::from_json(&data["manifest.json"]).unwrap();
    assert_eq!(manifest.revision, wanted());
    let credentials = manifest.models[0].source.credentials.clone().unwrap();
    let template = workload().spec.unwrap().template.unwrap();
    let mounts = template.spec.unwrap().containers[0].volume_mounts.clone().unwrap();
    assert!(mounts.iter().any(|mount| mount.mount_path == credentials), "{credentials}");
}

fn threads(spec: &str) -> Vec<Value> {
    let valid = validate(&deployment_of(spec), &Fetched::default(), &images()).unwrap();
    let set = workload_of(&valid);
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
fn a_revision_for_gpus_has_the_image_with_code_for_them_and_is_read_without_one() {
    let on_gpu = SPEC.replace("device: Cpu", "device: Cuda");
    let on_gpu = on_gpu.replace("limits: {memory: 4Gi}", "limits: {nvidia.com/gpu: 1}");
    let valid = validate(&deployment_of(&on_gpu), &Fetched::default(), &images()).unwrap();
    let manifest = lamplighter_protocol::Manifest::from_json(&valid.wanted.manifest).unwrap();
    assert_eq!(manifest.device, lamplighter_protocol::Device::Cuda);
    let set = serde_json::to_value(workload_of(&valid)).unwrap();
    let worker = &set["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(worker["image"], CUDA_IMAGE);
    assert_eq!(worker["resources"]["limits"]["nvidia.com/gpu"], "1");
    // Before that, nobody is there to answer a probe: see the worker's `handover`.
    let probe = &worker["startupProbe"];
    let seconds = |probe: &Value| {
        probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap()
    };
    assert!(probe["httpGet"]["path"] == "/livez" && seconds(probe) > 240, "{probe}");
    let known = std::collections::BTreeSet::new();
    let collector =
        render::collector(&valid.wanted, &known, "a1b2c3", now()).spec.unwrap().template.spec;
    let resolver = render::resolver(&valid, &valid.wanted).spec;
    let pods = serde_json::json!([resolver, collector]);
    let containers = pods.as_array().unwrap().iter().flat_map(|pod| {
        let containers = pod["containers"].as_array().unwrap();
        assert!(!containers.is_empty());
        containers
    });
    for container in containers {
        assert_eq!(container["image"], CUDA_IMAGE);
        assert_eq!(container["resources"]["limits"], Value::Null);
        let env = container["env"].as_array().unwrap();
        let none = serde_json::json!({"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"});
        assert!(env.contains(&none), "{env:?}");
    }

    let on_processor = self::valid();
    assert_eq!(on_processor.wanted.snapshot.image(), IMAGE);
    let resolver = serde_json::to_string(&render::resolver(&on_processor, &on_processor.wanted));
    assert!(!resolver.unwrap().contains("NVIDIA"));
}

/// Guarantees: strategy-08.
#[test]
fn the_template_does_not_depend_on_the_progress_deadline() {
    let made = |spec: &str| {
        let valid = validate(&deployment_of(spec), &Fetched::default(), &images()).unwrap();
        workload_of(&valid)
    };
    let later = SPEC.replace("progressDeadlineSeconds: 300", "progressDeadlineSeconds: 900");
    assert_ne!(later, SPEC);
    assert_eq!(made(SPEC), made(&later));
}

#[test]
fn rendering_twice_gives_the_same_bytes() {
    let text = || serde_json::to_string(&workload()).unwrap();
    assert_eq!(text(), text());
}

#[test]
fn nothing_is_sent_as_null() {
    let Rendered { record, manifest, service, disruption_budgets, .. } = rendered();
    let objects = [
        serde_json::to_string(&record).unwrap(),
        serde_json::to_string(&manifest).unwrap(),
        serde_json::to_string(&service).unwrap(),
        serde_json::to_string(&disruption_budgets).unwrap(),
        serde_json::to_string(&workload()).unwrap(),
    ];
    for object in objects {
        assert!(!object.contains(":null"), "{object}");
    }
}
