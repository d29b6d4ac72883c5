//! Keeps what is known about a failed story: objects, events and logs, as kubectl prints them.

use std::path::Path;

use crate::deploy::SYSTEM_NAMESPACE;
use crate::scene::Scene;

/// What is asked of kubectl, by the file that keeps the answer.
const IN_THE_NAMESPACE: [(&str, &[&str]); 5] = [
    ("events.txt", &["get", "events", "--sort-by=.lastTimestamp", "-o", "wide"]),
    ("modeldeployments.yaml", &["get", "modeldeployments", "-o", "yaml"]),
    ("pods.txt", &["describe", "pods"]),
    (
        "children.yaml",
        &[
            "get",
            "services,endpointslices,configmaps,replicasets,controllerrevisions,poddisruptionbudgets,pods",
            "-o",
            "yaml",
            "--show-managed-fields=false",
        ],
    ),
    (
        "workers.log",
        &["logs", "-l", "lamplighter.dev/deployment", "--all-containers", "--prefix", "--tail=300"],
    ),
];

/// As [`IN_THE_NAMESPACE`], of the operator.
const OF_THE_OPERATOR: [(&str, &[&str]); 2] = [
    (
        "operator.log",
        &["logs", "-l", "app.kubernetes.io/name=lamplighter", "--prefix", "--tail=500"],
    ),
    ("operator.txt", &["describe", "pods"]),
];

/// Writes the dump. What cannot be had is said in its file: a dump never hides the failure.
pub(crate) async fn keep(scene: &Scene, story: &str, failure: &str) {
    let folder = scene.settings.dump_folder(story);
    if let Err(error) = std::fs::create_dir_all(&folder) {
        eprintln!("{} cannot be made: {error}", folder.display());
        return;
    }
    write(&folder.join("failure.txt"), failure);
    let mut operator = scene.clone();
    SYSTEM_NAMESPACE.clone_into(&mut operator.namespace);
    for (file, arguments) in IN_THE_NAMESPACE {
        one(scene, &folder.join(file), arguments).await;
    }
    for (file, arguments) in OF_THE_OPERATOR {
        one(&operator, &folder.join(file), arguments).await;
    }
}

async fn one(scene: &Scene, file: &Path, arguments: &[&str]) {
    let text = match scene.kubectl_said(arguments, "").await {
        Ok(said) => format!("{}{}", said.stdout, said.stderr),
        Err(error) => format!("{error:#}\n"),
    };
    write(file, &text);
}

fn write(file: &Path, text: &str) {
    if let Err(error) = std::fs::write(file, text) {
        eprintln!("{} cannot be written: {error}", file.display());
    }
}
