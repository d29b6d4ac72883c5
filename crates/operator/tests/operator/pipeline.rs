//! What leaves the process: which requests a reconcile makes, with which preconditions, and what
//! becomes of every kind of answer.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use kube::runtime::controller::Action;
use kube::runtime::watcher::Event;
use lamplighter_operator::backoff::resync;
use lamplighter_operator::context::Clock;
use lamplighter_operator::error::Class;
use lamplighter_operator::reports::Reporter;
use serde_json::{Value, json};

use crate::apiserver::Asked;
use crate::cluster::{Cluster, DEPLOYMENT, SERVICE};
use crate::fixtures::{NAME, NAMESPACE, SPEC, UID, from, now, wanted};

pub(crate) fn lines(asked: &[Asked]) -> String {
    asked.iter().map(Asked::to_string).collect::<Vec<_>>().join("\n")
}

fn find<'a>(asked: &'a [Asked], method: &Method, path_end: &str) -> &'a Asked {
    asked
        .iter()
        .find(|asked| asked.method == *method && asked.path.ends_with(path_end))
        .unwrap_or_else(|| panic!("no {method} …{path_end} in\n{}", lines(asked)))
}

/// Guarantees: api-01.
#[tokio::test]
async fn a_new_deployment_is_built_in_the_documented_order() {
    let mut cluster = Cluster::new();
    let asked = cluster.settle().await;
    let revision = wanted();
    insta::assert_snapshot!(lines(&asked).replace(&revision, "REVISION"));
    for request in asked.iter().filter(|asked| asked.method == Method::PATCH) {
        assert!(request.query.contains("fieldManager=lamplighter-operator"), "{request}");
    }
    let set = asked.iter().find(|asked| asked.path.contains("/replicasets/")).unwrap();
    let set = asked.iter().find(|asked| asked.method == Method::PATCH && asked.path == set.path);
    let set = &set.unwrap().body;
    assert_eq!(set["metadata"]["ownerReferences"][0]["uid"], UID);
    assert_eq!(set["metadata"]["annotations"]["lamplighter.dev/epoch"], "1");
    let status = &find(&asked, &Method::PATCH, "/status").body;
    assert_eq!(status["status"]["observedGeneration"], 3);
    assert!(status["metadata"]["resourceVersion"].is_string());
    assert!(status["spec"].is_null());
}

/// Guarantees: operator-07, told-01.
#[tokio::test]
async fn nothing_is_sent_while_nothing_changes() {
    let mut cluster = Cluster::complete().await;
    assert_eq!(cluster.condition("Ready")["status"], "True");
    cluster.sync();
    // Not even for events: a converged deployment costs nothing at all.
    for _ in 0..3 {
        let action = cluster.reconcile().await.unwrap();
        assert_ne!(action, Action::requeue(Duration::from_secs(10)));
        assert_eq!(lines(&cluster.server.take_asked()), "");
    }
}

/// Guarantees: operator-03.
#[tokio::test]
async fn a_new_default_image_is_told_and_touches_nothing() {
    let mut cluster = Cluster::complete().await;
    let upgraded = "registry.example/lamplighter-worker:9.9.9".to_owned();
    Arc::get_mut(&mut cluster.context).unwrap().images.cpu = upgraded;
    cluster.reconcile().await.unwrap();
    let asked = cluster.asked();
    assert_eq!(lines(&asked), format!("PATCH {DEPLOYMENT}/status (apply, forced)"));
    assert_eq!(asked[0].body["status"]["active"]["workerOutdated"], true);
    assert_eq!(lines(&cluster.settle().await), "");
}

/// Guarantees: switch-03.
#[tokio::test]
async fn a_changed_child_is_brought_back_by_one_guarded_write() {
    let mut cluster = Cluster::complete().await;
    cluster.server.edit(SERVICE, |service| {
        service["spec"]["selector"] = json!({"app": "somebody-else"});
        service["metadata"]["annotations"]["theirs"] = json!("kept");
    });
    let before = cluster.server.get(SERVICE).unwrap();
    cluster.reconcile().await.unwrap();
    let asked = cluster.asked();
    let write = find(&asked, &Method::PATCH, SERVICE);
    assert!(write.query.contains("force=true"));
    assert_eq!(write.body["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(write.body["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    assert_eq!(asked.len(), 1, "{}", lines(&asked));
    let after = cluster.server.get(SERVICE).unwrap();
    assert_eq!(after["metadata"]["annotations"]["theirs"], "kept");
    assert_eq!(after["spec"]["selector"]["lamplighter.dev/traffic"], "true");
}

#[tokio::test]
async fn an_annotation_that_leaves_the_spec_leaves_the_service() {
    let mut cluster = Cluster::complete().await;
    cluster.server.edit(DEPLOYMENT, |deployment| {
        deployment["spec"]["service"]["annotations"] = json!({});
    });
    cluster.reconcile().await.unwrap();
    find(&cluster.asked(), &Method::PATCH, SERVICE);
    let service = cluster.server.get(SERVICE).unwrap();
    assert_eq!(service["metadata"]["annotations"]["example.com/pool"], Value::Null);
    cluster.reconcile().await.unwrap();
    assert_eq!(lines(&cluster.asked()), "");
}

#[tokio::test]
async fn a_deleted_child_is_made_again() {
    let mut cluster = Cluster::complete().await;
    cluster.server.remove(SERVICE);
    cluster.reconcile().await.unwrap();
    let asked = cluster.asked();
    assert_eq!(lines(&asked), format!("GET {SERVICE}\nPATCH {SERVICE} (apply)"));
}

/// Guarantees: switch-03, switch-04.
#[tokio::test]
async fn a_foreign_service_is_left_alone_and_named() {
    let mut cluster = Cluster::new();
    let foreign = json!({
        "metadata": {
            "name": NAME, "namespace": NAMESPACE,
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "x",
                "controller": true,
            }],
        },
        "spec": {"selector": {"app": "web"}},
    });
    cluster.server.put(SERVICE, foreign);
    let before = cluster.server.get(SERVICE);
    let error = cluster.reconcile().await.unwrap_err();
    assert_eq!((error.class(), error.category()), (Class::Refused, "NameTaken"));
    assert_eq!(cluster.server.get(SERVICE), before);
    let stalled = cluster.condition("Stalled");
    assert_eq!(stalled["reason"], "NameTaken");
    let message = stalled["message"].as_str().unwrap();
    assert!(message.contains("it is controlled by Deployment web"));
    let asked = cluster.asked();
    assert!(!lines(&asked).contains("replicasets"), "{}", lines(&asked));
}

#[tokio::test]
async fn what_a_predecessor_left_is_waited_for() {
    let mut cluster = Cluster::complete().await;
    cluster.server.edit(DEPLOYMENT, |deployment| {
        deployment["metadata"]["uid"] = json!("another-life");
        deployment["status"] = Value::Null;
    });
    let error = cluster.reconcile().await.unwrap_err();
    assert_eq!((error.class(), error.category()), (Class::Transient, "PredecessorNotGone"));
    assert_eq!(cluster.condition("Reconciling")["status"], "True");
    let writes = cluster.asked();
    let writes: Vec<_> = writes.iter().filter(|asked| asked.method != Method::GET).collect();
    assert_eq!(writes.len(), 1, "only the status is written");
}

/// Guarantees: operator-02, operator-05.
#[tokio::test]
async fn a_decision_on_an_old_view_is_refused_and_not_reported() {
    let mut cluster = Cluster::complete().await;
    let path = format!("/apis/apps/v1/namespaces/library/replicasets/{NAME}-{}", wanted());
    cluster.server.edit(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] = json!(1));
    cluster.sync();
    cluster.server.edit(&path, |set| set["spec"]["replicas"] = json!(5));
    let error = cluster.reconcile_unsynced().await.unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    assert_eq!(lines(&cluster.asked()), format!("PATCH {path} (merge)"));
    assert_eq!(cluster.server.get(&path).unwrap()["spec"]["replicas"], 5);
}

/// Guarantees: operator-05.
#[tokio::test]
async fn a_workload_that_is_not_in_the_cache_yet_is_not_made_twice() {
    let mut cluster = Cluster::new();
    while cluster.server.all("replicasets").is_empty() {
        cluster.others();
        cluster.reconcile().await.unwrap();
    }
    let first = cluster.server.all("replicasets");
    cluster.asked();
    // All else has been delivered.
    cluster.sync();
    cluster.writers.replica_sets.apply_watcher_event(&Event::Init);
    cluster.writers.replica_sets.apply_watcher_event(&Event::InitDone);
    cluster.reconcile_unsynced().await.unwrap();
    let asked = cluster.asked();
    assert!(lines(&asked).contains("replicasets"), "it was not looked for: {}", lines(&asked));
    let written = asked
        .iter()
        .any(|asked| asked.method == Method::PATCH && asked.path.contains("/replicasets/"));
    assert!(!written, "{}", lines(&asked));
    assert_eq!(cluster.server.all("replicasets"), first);
}

/// Guarantees: operator-05.
#[tokio::test]
async fn a_workload_that_is_gone_is_an_old_view_and_no_refusal() {
    let mut cluster = Cluster::complete().await;
    let path = format!("/apis/apps/v1/namespaces/library/replicasets/{NAME}-{}", wanted());
    cluster.server.edit(DEPLOYMENT, |deployment| deployment["spec"]["replicas"] = json!(1));
    cluster.sync();
    cluster.server.remove(&path);
    let error = cluster.reconcile_unsynced().await.unwrap_err();
    assert_eq!((error.class(), error.category()), (Class::Conflict, "ChildGone"));
    assert_eq!(lines(&cluster.asked()), format!("PATCH {path} (merge)"));
}

#[tokio::test]
async fn what_changed_nothing_is_not_told() {
    let mut cluster = Cluster::complete().await;
    cluster.sync();
    // As if the apiserver wrote a value in another way than we do.
    let mut service = cluster.server.get(SERVICE).unwrap();
    service["spec"]["type"] = json!("nodePort");
    cluster.writers.services.apply_watcher_event(&Event::Apply(from(service)));
    let before = cluster.written();
    cluster.reconcile_unsynced().await.unwrap();
    assert_eq!(lines(&cluster.server.take_asked()), format!("PATCH {SERVICE} (apply, forced)"));
    assert_eq!(cluster.written(), before, "nothing was written, so nothing is counted");
}

/// Guarantees: switch-03.
#[tokio::test]
async fn foreign_owners_and_ports_of_the_service_are_left_alone() {
    let mut cluster = Cluster::complete().await;
    cluster.server.edit(SERVICE, |service| {
        let owners = service["metadata"]["ownerReferences"].as_array_mut().unwrap();
        owners.insert(0, json!({"apiVersion": "v1", "kind": "Other", "name": "x", "uid": "y"}));
        let ports = service["spec"]["ports"].as_array_mut().unwrap();
        ports.insert(0, json!({"name": "theirs", "port": 9, "protocol": "TCP"}));
    });
    cluster.reconcile().await.unwrap();
    assert_eq!(lines(&cluster.server.take_asked()), "");
}

#[tokio::test]
async fn pods_that_cannot_be_reached_are_asked_ever_more_rarely_and_then_left_alone() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut cluster = Cluster::complete().await;
    let context = Arc::get_mut(&mut cluster.context).unwrap();
    context.reporter = Reporter::at_port(port);
    let revision = wanted();
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{NAME}-{revision}-0");
    cluster.server.edit(&path, |pod| pod["status"]["podIP"] = json!("127.0.0.1"));
    // Nobody knows what is served, so the pods are asked.
    let record =
        format!("/apis/apps/v1/namespaces/{NAMESPACE}/controllerrevisions/{NAME}-{revision}");
    cluster.server.edit(&record, |record| {
        record["metadata"]["annotations"] = json!({"lamplighter.dev/served": "true"});
    });
    cluster.server.edit(DEPLOYMENT, |deployment| {
        deployment["status"]["active"]["models"] = json!([]);
    });
    let mut time = now();
    for seconds in [2, 4, 8, 16, 32] {
        let action = cluster.reconcile().await.unwrap();
        assert_eq!(action, Action::requeue(Duration::from_secs(seconds)));
        time = time.checked_add(Duration::from_secs(seconds)).unwrap();
        Arc::get_mut(&mut cluster.context).unwrap().clock = Clock::stopped_at(time);
    }
    let resync = Action::requeue(resync(UID));
    assert_eq!(cluster.reconcile().await.unwrap(), resync);
    assert_eq!(lines(&cluster.server.take_asked()), "", "the status is as it was");
}

/// Guarantees: operator-06.
#[tokio::test]
async fn what_the_apiserver_refuses_is_reported_in_its_words() {
    let mut cluster = Cluster::new();
    let refusal = "spec.ports[0].nodePort: port is already allocated";
    cluster.server.fail(Method::PATCH, SERVICE, 422, refusal);
    let error = cluster.reconcile().await.unwrap_err();
    assert_eq!(error.class(), Class::Refused);
    let stalled = cluster.condition("Stalled");
    assert_eq!(stalled["reason"], "ChildRefused");
    assert!(stalled["message"].as_str().unwrap().contains(refusal));
    // It goes on by itself once the port is free.
    cluster.reconcile().await.unwrap();
    assert_eq!(cluster.condition("Reconciling")["status"], "True");
}

/// Guarantees: operator-06.
#[tokio::test]
async fn an_apiserver_that_is_away_is_tried_again_and_said_so() {
    let mut cluster = Cluster::new();
    cluster.server.fail(Method::PATCH, SERVICE, 503, "try later");
    let error = cluster.reconcile().await.unwrap_err();
    assert_eq!(error.class(), Class::Transient);
    assert_eq!(cluster.condition("Ready")["status"], "False");
    assert_eq!(cluster.condition("Reconciling")["status"], "True");
}

#[tokio::test]
async fn a_status_of_an_old_view_is_refused_and_made_again() {
    let mut cluster = Cluster::new();
    cluster.sync();
    cluster.change_model();
    let error = cluster.reconcile_unsynced().await.unwrap_err();
    assert_eq!((error.class(), error.category()), (Class::Conflict, "StatusFailed"));
    assert_eq!(cluster.server.get(DEPLOYMENT).unwrap()["status"], Value::Null);
}

#[tokio::test]
async fn what_stopped_an_apply_is_told_also_when_the_status_cannot_be() {
    let mut cluster = Cluster::new();
    let refusal = "spec.ports[0].nodePort: port is already allocated";
    cluster.server.fail(Method::PATCH, SERVICE, 422, refusal);
    cluster.server.fail(Method::PATCH, "/status", 503, "try later");
    let error = cluster.reconcile().await.unwrap_err();
    assert_eq!((error.class(), error.category()), (Class::Transient, "StatusFailed"));
    let said = error.to_string();
    assert!(said.contains("try later") && said.contains(refusal), "{said}");
}

/// Guarantees: operator-06.
#[tokio::test(start_paused = true)]
async fn an_object_that_is_never_answered_for_does_not_keep_the_status_from_being_written() {
    let mut cluster = Cluster::new();
    cluster.server.fall_silent("/services/");
    let begun = tokio::time::Instant::now();
    let error = cluster.reconcile().await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(55), "{:?}", begun.elapsed());
    assert_eq!((error.class(), error.category()), (Class::Transient, "ApplyTimedOut"));
    assert_eq!(cluster.condition("Ready")["reason"], "WriteFailed");
    assert_eq!(cluster.condition("Reconciling")["status"], "True");
}

#[tokio::test(start_paused = true)]
async fn events_that_nobody_takes_do_not_keep_the_status_from_being_written() {
    let mut cluster = Cluster::complete().await;
    cluster.server.fall_silent("/events");
    // Two objects are brought back and a revision is made: three events before the status.
    cluster.server.edit(SERVICE, |service| service["spec"]["selector"] = json!({"app": "x"}));
    let budget = cluster.server.all("poddisruptionbudgets").pop().unwrap();
    let name = budget["metadata"]["name"].as_str().unwrap();
    let path = format!("/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets/{name}");
    cluster.server.edit(&path, |budget| budget["spec"]["maxUnavailable"] = json!(7));
    cluster.change_model();
    let begun = tokio::time::Instant::now();
    cluster.reconcile().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(11), "{:?}", begun.elapsed());
    assert_eq!(cluster.server.get(DEPLOYMENT).unwrap()["status"]["observedGeneration"], 4);
}

#[tokio::test]
async fn a_deployment_that_went_away_meanwhile_is_no_error() {
    let mut cluster = Cluster::new();
    cluster.server.fail(Method::PATCH, "/status", 404, "not found");
    assert_eq!(cluster.reconcile().await.unwrap(), Action::await_change());
}

/// Guarantees: api-06.
#[tokio::test]
async fn a_deployment_that_is_being_deleted_is_left_to_the_garbage_collector() {
    let mut cluster = Cluster::complete().await;
    cluster.server.edit(DEPLOYMENT, |deployment| {
        deployment["metadata"]["deletionTimestamp"] = json!(now().to_string());
    });
    cluster.server.remove(SERVICE);
    assert_eq!(cluster.reconcile().await.unwrap(), Action::await_change());
    assert_eq!(lines(&cluster.asked()), "");
}

#[tokio::test]
async fn a_spec_that_contradicts_itself_changes_nothing_but_the_status() {
    let mut cluster = Cluster::complete().await;
    let spec = SPEC.replace("name: classic", "name: embedder");
    cluster.server.edit(DEPLOYMENT, |deployment| {
        deployment["spec"] = serde_saphyr::from_str(&spec).unwrap();
    });
    cluster.reconcile().await.unwrap();
    assert_eq!(lines(&cluster.asked()), format!("PATCH {DEPLOYMENT}/status (apply, forced)"));
    assert_eq!(cluster.condition("Stalled")["reason"], "ModelsInvalid");
}

#[tokio::test]
async fn events_about_two_revisions_are_not_told_as_one() {
    let mut cluster = Cluster::complete().await;
    cluster.change_model();
    let mut created = None;
    while created.is_none() {
        cluster.others();
        cluster.reconcile().await.unwrap();
        let asked = cluster.server.take_asked();
        created = asked.into_iter().find(|asked| asked.body["reason"] == "RolloutStarted");
    }
    let created = created.unwrap();
    // The first one was told a moment ago: a repetition would be a patch of that event.
    assert_eq!(created.method, Method::POST);
    assert!(created.body["related"]["name"].as_str().unwrap().starts_with(NAME));
}

/// Guarantees: told-01.
#[tokio::test]
async fn an_event_tells_each_step_once() {
    let mut cluster = Cluster::new();
    let mut events = Vec::new();
    for _ in 0..12 {
        cluster.others();
        cluster.reconcile().await.unwrap();
        let asked = cluster.server.take_asked();
        let told = asked.iter().filter(|asked| asked.path.contains("/events"));
        events
            .extend(told.map(|asked| asked.body["reason"].as_str().unwrap_or("again").to_owned()));
    }
    assert_eq!(
        events,
        ["RevisionRead", "RolloutStarted", "RevisionCreated", "GatesPassed", "AllPodsReady"]
    );
}
