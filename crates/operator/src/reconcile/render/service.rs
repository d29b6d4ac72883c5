//! The Service: selects the pods of the environment that may get requests, and of these the
//! kubelet adds only those that are ready.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lamplighter_api::names;

use crate::reconcile::render::{metadata, pod};
use crate::reconcile::validate::{ENVIRONMENT, Valid};

pub(super) fn render(valid: &Valid) -> Service {
    let wanted = &valid.service;
    let annotations = (!wanted.annotations.is_empty()).then(|| wanted.annotations.clone());
    Service {
        metadata: ObjectMeta {
            annotations,
            ..metadata(valid, names::service(&valid.name), names::object_labels(&valid.name))
        },
        spec: Some(ServiceSpec {
            type_: Some(wanted.type_.as_str().to_owned()),
            selector: Some(names::service_selector(&valid.name, ENVIRONMENT)),
            // A pod gets no request before it passed its gates.
            publish_not_ready_addresses: Some(false),
            external_traffic_policy: wanted
                .external_traffic_policy
                .map(|policy| policy.as_str().to_owned()),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                protocol: Some("TCP".to_owned()),
                port: wanted.port,
                node_port: wanted.node_port,
                target_port: Some(IntOrString::String(pod::SERVING.to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
