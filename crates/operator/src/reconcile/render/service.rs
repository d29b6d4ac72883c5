//! The Services: what clients connect to, and where a candidate can be tried beforehand.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use lamplighter_api::{ServiceSpec as Wanted, names};
use lamplighter_plan::rollout::Environment;

use crate::reconcile::blueprint::Identity;
use crate::reconcile::render::{metadata, pod};

/// Selects the pods of the environment that may get requests, and of these the endpoints hold only
/// those that are ready.
pub(super) fn render(
    identity: &Identity,
    wanted: &Wanted,
    selects: Environment,
    epoch: Option<u64>,
) -> Service {
    let mut annotations = wanted.annotations.clone();
    annotations.extend(epoch.map(|epoch| (names::ANNOTATION_EPOCH.to_owned(), epoch.to_string())));
    Service {
        metadata: ObjectMeta {
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            ..metadata(
                identity,
                names::service(&identity.name),
                names::object_labels(&identity.name),
            )
        },
        spec: Some(ServiceSpec {
            type_: Some(wanted.type_.as_str().to_owned()),
            selector: Some(names::service_selector(&identity.name, selects.as_str())),
            // A pod gets no request before it passed its gates.
            publish_not_ready_addresses: Some(false),
            external_traffic_policy: wanted
                .external_traffic_policy
                .map(|policy| policy.as_str().to_owned()),
            ports: Some(vec![ServicePort { node_port: wanted.node_port, ..port(wanted.port) }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Selects the candidate's environment alone, and is reached from within the cluster alone.
pub(super) fn preview(identity: &Identity, wanted: &Wanted, selects: Environment) -> Service {
    Service {
        metadata: metadata(
            identity,
            names::preview_service(&identity.name),
            names::object_labels(&identity.name),
        ),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(names::environment_selector(&identity.name, selects.as_str())),
            publish_not_ready_addresses: Some(false),
            ports: Some(vec![port(wanted.port)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn port(number: i32) -> ServicePort {
    ServicePort {
        name: Some("http".to_owned()),
        protocol: Some("TCP".to_owned()),
        port: number,
        target_port: Some(IntOrString::String(pod::SERVING.to_owned())),
        ..ServicePort::default()
    }
}
