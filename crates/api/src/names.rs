//! What objects and labels are called. Every name is a function of the deployment's own name.

use std::collections::BTreeMap;

/// The field manager of everything that the operator applies to children.
pub const FIELD_MANAGER: &str = "lamplighter-operator";
/// The field manager of the status.
pub const STATUS_FIELD_MANAGER: &str = "lamplighter-operator-status";

/// Label: the deployment's name.
pub const LABEL_DEPLOYMENT: &str = "lamplighter.dev/deployment";
/// Label: the environment, which is what a Service selects.
pub const LABEL_ENVIRONMENT: &str = "lamplighter.dev/environment";
/// Label: the revision's hash.
pub const LABEL_REVISION: &str = "lamplighter.dev/revision";
/// Label: [`TRAFFIC`] on pods that may get requests once they are ready. The Service selects
/// it, the ReplicaSet does not, so that a pod can be withdrawn without being replaced.
pub const LABEL_TRAFFIC: &str = "lamplighter.dev/traffic";
/// The value of [`LABEL_TRAFFIC`].
pub const TRAFFIC: &str = "true";

/// Annotation: the epoch of the status under which an object was last written.
pub const ANNOTATION_EPOCH: &str = "lamplighter.dev/epoch";
/// Annotation of a revision's record: what its models are, as JSON.
pub const ANNOTATION_RESOLVED: &str = "lamplighter.dev/resolved";
/// Annotation of a revision's record: [`SERVED`] once requests were sent to the revision.
pub const ANNOTATION_SERVED: &str = "lamplighter.dev/served";
/// The value of [`ANNOTATION_SERVED`].
pub const SERVED: &str = "true";
/// Annotation of a pod: how often its container had ended when that was last forgiven.
pub const ANNOTATION_FORGIVEN_EXITS: &str = "lamplighter.dev/forgiven-exits";
/// Annotation of pods, by which a ReplicaSet decides who goes first; the lowest does:
/// <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost>.
pub const ANNOTATION_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Annotation with a command: move the Service to the candidate of this revision.
pub const COMMAND_PROMOTE: &str = "lamplighter.dev/promote";
/// Annotation with a command: give up what is under way, and return.
pub const COMMAND_ABORT: &str = "lamplighter.dev/abort";
/// Annotation with a command: try this revision again that was given up.
pub const COMMAND_RETRY: &str = "lamplighter.dev/retry";
/// Annotation with a command: serve this earlier revision until the spec changes.
pub const COMMAND_ROLLBACK_TO: &str = "lamplighter.dev/rollback-to";
/// Annotation: replace every pod by a new one; the value tells one restart from the next.
pub const RESTARTED_AT: &str = "lamplighter.dev/restarted-at";

/// Label of the pod that reads what the models of a revision are: [`RESOLVER`].
pub const LABEL_ROLE: &str = "lamplighter.dev/role";
/// Value of [`LABEL_ROLE`].
pub const RESOLVER: &str = "resolver";
/// Value of [`LABEL_ROLE`] on what cleans a shared cache up.
pub const COLLECTOR: &str = "collector";

/// Label: the application, [`WORKER`].
pub const LABEL_APP_NAME: &str = "app.kubernetes.io/name";
/// Label: the part of the application.
pub const LABEL_APP_COMPONENT: &str = "app.kubernetes.io/component";
/// Label: the application that this is a part of.
pub const LABEL_APP_PART_OF: &str = "app.kubernetes.io/part-of";
/// Label: who manages the object.
pub const LABEL_APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`LABEL_APP_NAME`].
pub const WORKER: &str = "lamplighter-worker";

/// Longest name of a deployment; a rule of the CRD.
pub const MAX_DEPLOYMENT_NAME: usize = 46;
/// Length of a revision's hash.
pub const REVISION_LENGTH: usize = 10;

/// Longest value of a label and longest name of a pod's host, in characters:
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>.
const MAX_LABEL: usize = 63;
/// What a ReplicaSet appends to the names of its pods: a hyphen and five characters.
const POD_SUFFIX: usize = 6;

const _: () = assert!(
    MAX_DEPLOYMENT_NAME + 1 + REVISION_LENGTH + POD_SUFFIX <= MAX_LABEL,
    "a pod's name must fit into a label and a host name"
);

/// Name of the ControllerRevision, the ConfigMap and the ReplicaSet of a revision.
pub fn revision_object(deployment: &str, revision: &str) -> String {
    format!("{deployment}-{revision}")
}

/// Name of the Service.
pub fn service(deployment: &str) -> String {
    deployment.to_owned()
}

/// Name of the Service at which a candidate can be tried before it serves.
pub fn preview_service(deployment: &str) -> String {
    format!("{deployment}-preview")
}

/// Name of the pod that reads what the models of a revision are.
pub fn resolver(deployment: &str, revision: &str) -> String {
    format!("{deployment}-{revision}-read")
}

/// Name of the Job that cleans a shared cache up for a set of revisions.
pub fn collector(deployment: &str, set: &str) -> String {
    format!("{deployment}-{set}-gc")
}

/// Name of the `PodDisruptionBudget` of an environment.
pub fn disruption_budget(deployment: &str, environment: &str) -> String {
    format!("{deployment}-{environment}")
}

/// Labels of every object that belongs to a deployment. Labels of the deployment itself are
/// not copied: `GitOps` tools would take the children for objects of their own.
pub fn object_labels(deployment: &str) -> BTreeMap<String, String> {
    labels([
        (LABEL_DEPLOYMENT, deployment),
        (LABEL_APP_NAME, WORKER),
        (LABEL_APP_COMPONENT, "worker"),
        (LABEL_APP_PART_OF, "lamplighter"),
        (LABEL_APP_MANAGED_BY, FIELD_MANAGER),
    ])
}

/// Labels of what belongs to a revision wherever its pods are.
pub fn record_labels(deployment: &str, revision: &str) -> BTreeMap<String, String> {
    let mut all = object_labels(deployment);
    all.extend(labels([(LABEL_REVISION, revision)]));
    all
}

/// Labels of the workload and the pods of one revision.
pub fn revision_labels(
    deployment: &str,
    environment: &str,
    revision: &str,
) -> BTreeMap<String, String> {
    let mut all = object_labels(deployment);
    all.extend(labels([(LABEL_ENVIRONMENT, environment), (LABEL_REVISION, revision)]));
    all
}

/// Labels of a pod at its creation: those of its revision, and traffic.
pub fn pod_labels(deployment: &str, environment: &str, revision: &str) -> BTreeMap<String, String> {
    let mut all = revision_labels(deployment, environment, revision);
    all.extend(labels([(LABEL_TRAFFIC, TRAFFIC)]));
    all
}

/// What the ReplicaSet of a revision selects.
pub fn replica_set_selector(
    deployment: &str,
    environment: &str,
    revision: &str,
) -> BTreeMap<String, String> {
    labels([
        (LABEL_DEPLOYMENT, deployment),
        (LABEL_ENVIRONMENT, environment),
        (LABEL_REVISION, revision),
    ])
}

/// The pods of an environment: what a `PodDisruptionBudget` selects.
pub fn environment_selector(deployment: &str, environment: &str) -> BTreeMap<String, String> {
    labels([(LABEL_DEPLOYMENT, deployment), (LABEL_ENVIRONMENT, environment)])
}

/// What the Service selects: the pods of an environment that may get requests.
pub fn service_selector(deployment: &str, environment: &str) -> BTreeMap<String, String> {
    let mut all = environment_selector(deployment, environment);
    all.extend(labels([(LABEL_TRAFFIC, TRAFFIC)]));
    all
}

/// A selector as `key=value,…`, the form of `status.selector` and of a list request.
pub fn selector_string(selector: &BTreeMap<String, String>) -> String {
    let terms: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    terms.join(",")
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pod_name_fits_into_a_label() {
        let deployment = "d".repeat(MAX_DEPLOYMENT_NAME);
        let pod = format!("{}-abcde", revision_object(&deployment, &"0".repeat(REVISION_LENGTH)));
        assert!(pod.len() <= MAX_LABEL, "{pod} has {} characters", pod.len());
    }

    #[test]
    fn the_service_selects_what_the_replica_set_makes_and_can_withdraw_it() {
        let pod = pod_labels("search", "blue", "0123456789");
        for selector in [
            service_selector("search", "blue"),
            replica_set_selector("search", "blue", "0123456789"),
            environment_selector("search", "blue"),
        ] {
            for (key, value) in &selector {
                assert_eq!(pod.get(key), Some(value), "{key}");
            }
        }
        assert!(!replica_set_selector("search", "blue", "0123456789").contains_key(LABEL_TRAFFIC));
    }

    #[test]
    fn a_selector_is_printed_in_a_stable_order() {
        assert_eq!(
            selector_string(&environment_selector("search", "blue")),
            "lamplighter.dev/deployment=search,lamplighter.dev/environment=blue"
        );
    }
}
