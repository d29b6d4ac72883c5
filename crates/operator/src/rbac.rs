//! What the operator may do: the one table from which every manifest is generated.
//!
//! Deliberately absent: Secrets in any form, `pods/exec`, wildcards, and writing the spec of a
//! `ModelDeployment`.

use k8s_openapi::api::rbac::v1::PolicyRule;

/// One line of the table.
struct Grant {
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
}

/// For the namespaces that are watched: as a `ClusterRole`, or as a `Role` for a single namespace.
const RECONCILE: &[Grant] = &[
    Grant { group: "lamplighter.dev", resources: &["modeldeployments"], verbs: &["list", "watch"] },
    Grant { group: "lamplighter.dev", resources: &["modeldeployments/status"], verbs: &["patch"] },
    // For `blockOwnerDeletion` in owner references, where the admission plugin
    // OwnerReferencesPermissionEnforcement is on.
    Grant {
        group: "lamplighter.dev",
        resources: &["modeldeployments/finalizers"],
        verbs: &["update"],
    },
    Grant {
        group: "apps",
        resources: &["replicasets", "controllerrevisions"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    Grant {
        group: "",
        resources: &["configmaps"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    Grant {
        group: "",
        resources: &["services"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    Grant {
        group: "policy",
        resources: &["poddisruptionbudgets"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    // Cleans up a cache that deployments share.
    Grant {
        group: "batch",
        resources: &["jobs"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    Grant { group: "discovery.k8s.io", resources: &["endpointslices"], verbs: &["list", "watch"] },
    // One pod reads what a revision's models are; the pods of ReplicaSets get and lose a label.
    Grant {
        group: "",
        resources: &["pods"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    // The recorder patches an event that repeats.
    Grant { group: "events.k8s.io", resources: &["events"], verbs: &["create", "patch"] },
];

/// For an operator that watches all namespaces: a `Role` cannot grant what is in none.
const CLUSTER: &[Grant] = &[
    // How much memory the GPUs have on which pods may run.
    Grant { group: "", resources: &["nodes"], verbs: &["list", "watch"] },
];

/// For the operator's own namespace.
const LEADER_ELECTION: &[Grant] = &[Grant {
    group: "coordination.k8s.io",
    resources: &["leases"],
    verbs: &["get", "create", "update"],
}];

/// For `check`, in the namespace where it tries.
const CHECK: &[Grant] =
    &[Grant { group: "lamplighter.dev", resources: &["modeldeployments"], verbs: &["create"] }];

/// What reconciling needs in every namespace that is watched.
pub fn role_rules() -> Vec<PolicyRule> {
    rules(RECONCILE)
}

/// What reconciling needs besides where all namespaces are watched.
pub fn cluster_rules() -> Vec<PolicyRule> {
    rules(CLUSTER)
}

/// What reconciling needs where all namespaces are watched.
pub fn cluster_role_rules() -> Vec<PolicyRule> {
    [role_rules(), cluster_rules()].concat()
}

/// What leader election needs in the Lease's namespace.
pub fn leader_election_rules() -> Vec<PolicyRule> {
    rules(LEADER_ELECTION)
}

/// What `check` needs, by dry run only.
pub fn check_rules() -> Vec<PolicyRule> {
    rules(CHECK)
}

fn rules(grants: &[Grant]) -> Vec<PolicyRule> {
    let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    grants
        .iter()
        .map(|grant| PolicyRule {
            api_groups: Some(owned(&[grant.group])),
            resources: Some(owned(grant.resources)),
            verbs: owned(grant.verbs),
            ..PolicyRule::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<PolicyRule> {
        [cluster_role_rules(), leader_election_rules(), check_rules()].concat()
    }

    fn verbs_on(resource: &str) -> Vec<String> {
        all()
            .into_iter()
            .filter(|rule| rule.resources.iter().flatten().any(|found| found == resource))
            .flat_map(|rule| rule.verbs)
            .collect()
    }

    #[test]
    fn nothing_is_granted_by_wildcard() {
        for rule in all() {
            let words = [rule.api_groups, rule.resources, Some(rule.verbs)];
            assert!(words.into_iter().flatten().flatten().all(|word| !word.contains('*')));
        }
    }

    #[test]
    fn secrets_and_shells_are_out_of_reach() {
        for resource in ["secrets", "pods/exec", "pods/attach", "pods/portforward"] {
            assert_eq!(verbs_on(resource), [""; 0], "{resource}");
        }
    }

    /// Guarantees: api-01.
    #[test]
    fn the_spec_is_never_written() {
        let cluster: Vec<_> = cluster_role_rules()
            .into_iter()
            .filter(|rule| {
                rule.resources.iter().flatten().any(|resource| resource == "modeldeployments")
            })
            .flat_map(|rule| rule.verbs)
            .collect();
        assert_eq!(cluster, ["list", "watch"]);
    }

    #[test]
    fn endpoints_are_only_looked_at() {
        assert_eq!(verbs_on("endpointslices"), ["list", "watch"]);
    }

    #[test]
    fn nodes_are_only_looked_at_and_only_where_all_namespaces_are_watched() {
        assert_eq!(verbs_on("nodes"), ["list", "watch"]);
        let of_role = role_rules().into_iter().filter_map(|rule| rule.resources).flatten();
        assert_eq!(of_role.filter(|resource| resource == "nodes").count(), 0);
    }
}
