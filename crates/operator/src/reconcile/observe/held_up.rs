//! What keeps pods from starting, where that is more than a matter of time.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use lamplighter_api::Reason;
use lamplighter_plan::{Failure, FailureClass};

use super::condition;

/// Why the kubelet does not start a container:
/// <https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/images/types.go>.
pub fn held_up(status: &ContainerStatus) -> Option<Failure> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let reason = match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            Reason::ImagePullFailed
        }
        "CreateContainerConfigError" => Reason::ConfigMissing,
        "CreateContainerError" | "RunContainerError" => Reason::ContainerCrashed,
        _ => return None,
    };
    Some(Failure {
        container: Some(status.name.clone()),
        reason: reason.as_str().to_owned(),
        message: waiting.message.clone().unwrap_or_default(),
        class: FailureClass::Transient,
    })
}

/// Why a pod that is to read models does not begin, with its name in the message: a node is missing, or
/// a container is held up.
pub fn reader_held_up(pod: &Pod) -> Option<Failure> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let failure = statuses.into_iter().find_map(held_up).or_else(|| unplaced(pod))?;
    let container = failure.container.as_deref();
    let container = container.map(|name| format!(", container {name}")).unwrap_or_default();
    let message = format!("pod {}{container}: {}", pod.name_any(), failure.message);
    Some(Failure { message, ..failure })
}

fn unplaced(pod: &Pod) -> Option<Failure> {
    let placed = condition(pod, "PodScheduled").filter(|found| found.status == "False")?;
    Some(Failure {
        container: None,
        reason: Reason::Unschedulable.as_str().to_owned(),
        message: placed.message.clone().unwrap_or_default(),
        class: FailureClass::Transient,
    })
}
