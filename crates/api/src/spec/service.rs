//! The Service that clients connect to.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Service that clients connect to. It selects only pods that passed every gate.
#[derive(KubeSchema, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.nodePort) || self.type != 'ClusterIP'")
        .message("service.nodePort: a ClusterIP Service has no node port; set service.type to NodePort or LoadBalancer, or remove nodePort"),
    validation = Rule::new("!has(self.externalTrafficPolicy) || self.type != 'ClusterIP'")
        .message("service.externalTrafficPolicy: a ClusterIP Service has no external traffic; set service.type to NodePort or LoadBalancer, or remove externalTrafficPolicy")
)]
pub struct ServiceSpec {
    /// How the Service is reachable: inside the cluster only, at a port of every node, or
    /// through a load balancer of the cloud.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,

    /// The port of the Service. The pods' own port is fixed.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,

    /// The port at every node; the cluster chooses one when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30000, max = 32767))]
    pub node_port: Option<i32>,

    /// Annotations of the Service, for example for the cloud's load balancer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::annotations")]
    pub annotations: BTreeMap<String, String>,

    /// Whether traffic from outside may be passed on to pods of other nodes (`Cluster`) or stays
    /// on the node where it arrived and keeps the client's address (`Local`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ExternalTrafficPolicy")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self {
            type_: ServiceType::default(),
            port: default_port(),
            node_port: None,
            annotations: BTreeMap::new(),
            external_traffic_policy: None,
        }
    }
}

fn default_port() -> i32 {
    80
}

/// How a Service is reachable.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum ServiceType {
    /// Inside the cluster only.
    #[default]
    ClusterIP,
    /// At a port of every node.
    NodePort,
    /// Through a load balancer of the cloud.
    LoadBalancer,
}

impl ServiceType {
    /// The name as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// Where traffic from outside may go.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize,
)]
pub enum ExternalTrafficPolicy {
    /// To any pod of the cluster.
    Cluster,
    /// To pods of the node where it arrived.
    Local,
}

impl ExternalTrafficPolicy {
    /// The name as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}
