//! What runs inside the cluster: its name service.

use std::time::Duration;

use serde_json::{Value, json};

use crate::component::Component;
use crate::error::Error;
use crate::health;
use crate::images;
use crate::kube;
use crate::layout::{DNS_SERVICE_IP, Layout};
use crate::wait::Look;

const LIMIT: Duration = Duration::from_mins(2);

/// No upstream server: what a test resolves must not depend on where it runs. Answers live
/// shortly, because tests look right after they changed something.
const COREFILE: &str = "\
.:53 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        ttl 2
    }
    cache 2
}
";

/// Applies the name service and does not wait for it.
pub(crate) fn apply(layout: &Layout) -> Result<(), Error> {
    kube::apply(layout, &name_service(&images::coredns(layout)?))
}

/// Waits until names resolve.
pub(crate) fn wait(layout: &Layout) -> Result<(), Error> {
    health::wait(layout, Component::Kubelet, "the name service (CoreDNS)", LIMIT, || {
        let path = "/apis/apps/v1/namespaces/kube-system/deployments/coredns";
        let deployment = match kube::get(layout, path) {
            Ok(deployment) => deployment,
            Err(error) => return Ok(Look::Pending(error.to_string())),
        };
        let status = &deployment["status"];
        let is_seen = status["observedGeneration"] == deployment["metadata"]["generation"];
        // While an old pod is being replaced, the ready one may be the old one.
        let counts = ["replicas", "updatedReplicas", "readyReplicas"];
        if is_seen && counts.iter().all(|count| status[*count] == 1) {
            return Ok(Look::Ready(()));
        }
        Ok(Look::Pending(why_not_ready(layout)))
    })
}

/// What the pod's container says about itself, for the message of a wait that failed.
fn why_not_ready(layout: &Layout) -> String {
    let path = "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-dns";
    let pods = kube::get(layout, path).unwrap_or_default();
    let container = &pods["items"][0]["status"]["containerStatuses"][0]["state"];
    if container.is_null() { "its pod does not run yet".to_owned() } else { container.to_string() }
}

fn name_service(image: &str) -> Vec<Value> {
    let labels = json!({ "k8s-app": "kube-dns" });
    let metadata =
        |name: &str| json!({ "name": name, "namespace": "kube-system", "labels": labels });
    vec![
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("coredns") }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": { "name": "system:coredns" },
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["endpoints", "services", "pods", "namespaces"],
                    "verbs": ["list", "watch"],
                },
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                },
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": "system:coredns" },
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "system:coredns",
            },
            "subjects": [{ "kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system" }],
        }),
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata("coredns"),
            "data": { "Corefile": COREFILE },
        }),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata("kube-dns"),
            "spec": {
                "selector": labels,
                "clusterIP": DNS_SERVICE_IP,
                "ports": [
                    { "name": "dns", "port": 53, "protocol": "UDP" },
                    { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
                ],
            },
        }),
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata("coredns"),
            "spec": {
                "replicas": 1,
                "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": pod(image) },
            },
        }),
    ]
}

fn pod(image: &str) -> Value {
    json!({
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        // The cluster's own name service would be itself.
        "dnsPolicy": "Default",
        "containers": [{
            "name": "coredns",
            "image": image,
            "imagePullPolicy": "Never",
            "args": ["-conf", "/etc/coredns/Corefile"],
            "ports": [
                { "name": "dns", "containerPort": 53, "protocol": "UDP" },
                { "name": "dns-tcp", "containerPort": 53, "protocol": "TCP" },
            ],
            "resources": { "requests": { "cpu": "50m", "memory": "50Mi" } },
            "readinessProbe": { "httpGet": { "path": "/ready", "port": 8181 }, "periodSeconds": 1 },
            "livenessProbe": {
                "httpGet": { "path": "/health", "port": 8080 },
                "initialDelaySeconds": 30,
                "failureThreshold": 5,
            },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] },
            },
            "volumeMounts": [{ "name": "config", "mountPath": "/etc/coredns", "readOnly": true }],
        }],
        "volumes": [{ "name": "config", "configMap": { "name": "coredns" } }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_selects_the_pods() {
        let objects = name_service("example.test/coredns:1");
        let of_kind = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
        let service = of_kind("Service");
        let deployment = of_kind("Deployment");
        assert_eq!(
            service["spec"]["selector"],
            deployment["spec"]["template"]["metadata"]["labels"]
        );
        assert_eq!(service["spec"]["clusterIP"], DNS_SERVICE_IP);
        assert_eq!(of_kind("ClusterRoleBinding")["subjects"][0]["name"], "coredns");
    }
}
