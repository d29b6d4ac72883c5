//! The container runtime and the agents of the one node.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cgroup;
use crate::command::Run;
use crate::component::Component;
use crate::error::Error;
use crate::health;
use crate::images;
use crate::kube;
use crate::layout::{self, DNS_SERVICE_IP, Layout, NODE, NODE_IP, POD_CIDR};
use crate::network;
use crate::process::{self, Daemon};
use crate::wait::Look;

const LIMIT: Duration = Duration::from_secs(90);

/// The pretended GPUs of the node.
pub(crate) const GPU_RESOURCE: &str = "nvidia.com/gpu";
pub(crate) const GPU_COUNT: u32 = 8;

/// Starts containerd. It is not waited for here.
pub(crate) fn start_containerd(layout: &Layout) -> Result<(), Error> {
    let config = layout.config("containerd.toml");
    layout::write(&config, &containerd_config(layout, &images::pause(layout)?), 0o644)?;
    let daemon = Daemon {
        component: Component::Containerd,
        program: layout.bin("containerd"),
        args: vec!["--config".to_owned(), config.display().to_string()],
        inputs: vec![config],
    };
    process::ensure(layout, &daemon).map(|_| ())
}

/// Waits until containerd answers.
pub(crate) fn wait_for_containerd(layout: &Layout) -> Result<(), Error> {
    health::wait(layout, Component::Containerd, "containerd", LIMIT, || {
        Ok(match ctr(layout, ["version"]).output() {
            Ok(_) => Look::Ready(()),
            Err(error) => Look::Pending(error.to_string()),
        })
    })
}

/// containerd's client, in the namespace of the kubelet.
pub(crate) fn ctr<'a>(layout: &Layout, args: impl IntoIterator<Item = &'a str>) -> Run {
    let socket = layout.containerd_socket();
    Run::new(layout, layout.bin("ctr"))
        .args([Path::new("--address"), &socket, Path::new("--namespace"), Path::new("k8s.io")])
        .args(args)
}

/// When the kubelet was started, if it was: what the node says of itself from before that
/// is what a dead kubelet said.
pub(crate) struct Since(Option<String>);

/// Starts the kubelet, the GPUs and kube-proxy.
pub(crate) fn start_agents(layout: &Layout) -> Result<Since, Error> {
    cgroup::ensure()?;
    let now = kube::time(time::OffsetDateTime::now_utc());
    let was_started = process::ensure(layout, &kubelet(layout)?)?;
    process::ensure(layout, &gpu_plugin(layout))?;
    process::ensure(layout, &kube_proxy(layout)?)?;
    Ok(Since(was_started.then_some(now)))
}

/// Waits until the node takes pods, with its GPUs, and Services work.
pub(crate) fn wait_until_ready(layout: &Layout, since: &Since) -> Result<(), Error> {
    health::http(layout, Component::Kubelet, 10248, "/healthz", LIMIT)?;
    health::wait(layout, Component::Kubelet, "the node", LIMIT, || {
        Ok(match kube::get(layout, &format!("/api/v1/nodes/{NODE}")) {
            Ok(node) => look_at(&node, since),
            Err(error) => Look::Pending(error.to_string()),
        })
    })?;
    health::http(layout, Component::KubeProxy, 10256, "/healthz", LIMIT)
}

fn look_at(node: &Value, since: &Since) -> Look<()> {
    let Some(ready) = kube::condition(node, "Ready") else {
        return Look::Pending("the node has not said how it is".to_owned());
    };
    let said_at = ready["lastHeartbeatTime"].as_str().unwrap_or_default();
    // Both have the same form, so that their order as text is their order in time.
    if since.0.as_deref().is_some_and(|started| said_at < started) {
        return Look::Pending(format!("the node was last heard of at {said_at}"));
    }
    if ready["status"] != "True" {
        let message = ready["message"].as_str().unwrap_or_default();
        return Look::Pending(format!("the node is not ready: {message}"));
    }
    let gpus = &node["status"]["allocatable"][GPU_RESOURCE];
    if gpus.as_str().and_then(|count| count.parse().ok()) != Some(GPU_COUNT) {
        return Look::Pending(format!("the node offers {GPU_RESOURCE}: {gpus}"));
    }
    Look::Ready(())
}

fn kubelet(layout: &Layout) -> Result<Daemon, Error> {
    let config = layout.config("kubelet.yaml");
    layout::write(&config, &kubelet_config(layout), 0o644)?;
    let root = layout.data.join("kubelet");
    layout::create_dir(&root)?;
    Ok(Daemon {
        component: Component::Kubelet,
        program: layout.kubernetes(),
        args: vec![
            "kubelet".to_owned(),
            format!("--config={}", config.display()),
            format!("--kubeconfig={}", layout.kubeconfig("kubelet").display()),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={NODE_IP}"),
            format!("--root-dir={}", root.display()),
            format!("--cert-dir={}", root.join("pki").display()),
        ],
        inputs: vec![config, layout.pki("ca.crt")],
    })
}

fn gpu_plugin(layout: &Layout) -> Daemon {
    Daemon {
        component: Component::GpuPlugin,
        program: layout.kubernetes(),
        args: vec![
            "gpu-plugin".to_owned(),
            format!("--resource={GPU_RESOURCE}"),
            format!("--count={GPU_COUNT}"),
        ],
        inputs: Vec::new(),
    }
}

fn kube_proxy(layout: &Layout) -> Result<Daemon, Error> {
    let config = layout.config("kube-proxy.yaml");
    layout::write(&config, &kube_proxy_config(layout), 0o644)?;
    Ok(Daemon {
        component: Component::KubeProxy,
        program: layout.kubernetes(),
        args: vec!["kube-proxy".to_owned(), format!("--config={}", config.display())],
        inputs: vec![config, layout.pki("ca.crt")],
    })
}

fn containerd_config(layout: &Layout, pause_image: &str) -> String {
    format!(
        "version = 3
root = '{root}'
state = '{state}'
# Neither is used, and both would leave folders in shared places.
disabled_plugins = ['io.containerd.internal.v1.opt', 'io.containerd.tracing.processor.v1.otlp']

[grpc]
address = '{socket}'

[ttrpc]
address = '{socket}.ttrpc'

[plugins.'io.containerd.nri.v1.nri']
disable = true

[plugins.'io.containerd.cri.v1.images']
snapshotter = 'overlayfs'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{pause_image}'

[plugins.'io.containerd.cri.v1.runtime']
# Lowering the score needs CAP_SYS_RESOURCE, which root in a sandbox often lacks.
restrict_oom_score_adj = true
disable_apparmor = true
# Then all that has to be unmounted at the end lies below the state folder.
netns_mounts_under_state_dir = true

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
Root = '{runc}'

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni', '/opt/cni/bin']
conf_dir = '{cni}'
",
        root = layout.data.join("containerd").display(),
        state = layout.containerd_state().display(),
        socket = layout.containerd_socket().display(),
        runc = layout.run.join("runc").display(),
        cni = network::cni_dir(layout).display(),
    )
}

fn kubelet_config(layout: &Layout) -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": layout.pki("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": layout.pki("kubelet-server.crt"),
        "tlsPrivateKeyFile": layout.pki("kubelet-server.key"),
        "clusterDNS": [DNS_SERVICE_IP],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{}", layout.containerd_socket().display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup::ROOT,
        "failCgroupV1": false,
        "failSwapOn": false,
        "maxPods": 250,
        // Looked at often, so that a restarted kubelet offers its GPUs at once; written only
        // when something changed, so that an idle cluster stays idle.
        "nodeStatusUpdateFrequency": "1s",
        "nodeStatusReportFrequency": "5m",
        // A developer's machine is never empty: its own load must not evict anything.
        "enforceNodeAllocatable": [],
        "evictionHard": {
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        // Images were imported and could not be pulled again.
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": layout.data.join("pod-logs"),
        "volumePluginDir": layout.volume_plugins(),
    })
    .to_string()
}

fn kube_proxy_config(layout: &Layout) -> String {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": { "kubeconfig": layout.kubeconfig("kube-proxy") },
        "clusterCIDR": POD_CIDR,
        "hostnameOverride": NODE,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // The defaults raise limits of the whole machine.
        "conntrack": { "maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::BRIDGE_CIDR;

    #[test]
    fn the_kubelet_and_containerd_agree_on_the_socket() {
        let layout = Layout::of_machine(Path::new("/checkout"));
        let socket = layout.containerd_socket().display().to_string();
        let kubelet: serde_json::Value = serde_json::from_str(&kubelet_config(&layout)).unwrap();
        assert_eq!(kubelet["containerRuntimeEndpoint"], format!("unix://{socket}"));
        let containerd = containerd_config(&layout, "example.test/pause:1");
        assert!(containerd.contains(&format!("address = '{socket}'")), "{containerd}");
        assert!(containerd.contains("sandbox = 'example.test/pause:1'"), "{containerd}");
    }

    #[test]
    fn what_a_dead_kubelet_said_does_not_count() {
        let node = |heartbeat: &str, gpus: &str| {
            json!({ "status": {
                "allocatable": { GPU_RESOURCE: gpus },
                "conditions": [
                    { "type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat },
                ],
            }})
        };
        let started = Since(Some("2026-01-02T03:04:05Z".to_owned()));
        let is_ready = |node: &Value| matches!(look_at(node, &started), Look::Ready(()));
        assert!(!is_ready(&node("2026-01-02T03:04:04Z", "8")));
        assert!(!is_ready(&node("2026-01-02T03:04:06Z", "0")));
        assert!(is_ready(&node("2026-01-02T03:04:06Z", "8")));
        let untouched = Since(None);
        assert!(matches!(look_at(&node("2025-01-01T00:00:00Z", "8"), &untouched), Look::Ready(())));
    }

    #[test]
    fn the_node_address_is_the_bridge_address() {
        assert_eq!(BRIDGE_CIDR.split('/').next(), Some(NODE_IP));
    }
}
