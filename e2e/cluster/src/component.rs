//! The processes that a cluster consists of.

use std::fmt;

/// A process of the cluster. Each runs on its own, so that a test can take away just one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Component {
    /// The store of the API server.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// The container runtime.
    Containerd,
    /// The node's agent.
    Kubelet,
    /// The device plugin that offers pretended GPUs.
    GpuPlugin,
    /// What makes Services work.
    KubeProxy,
}

impl Component {
    /// All of them, in the order in which they start.
    pub const ALL: [Self; 8] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Containerd,
        Self::Kubelet,
        Self::GpuPlugin,
        Self::KubeProxy,
    ];

    /// Its name, as in its log file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::GpuPlugin => "gpu-plugin",
            Self::KubeProxy => "kube-proxy",
        }
    }

    /// The TCP ports that it listens on.
    pub fn ports(self) -> &'static [u16] {
        match self {
            Self::Etcd => &[2379, 2380],
            Self::ApiServer => &[6443],
            Self::ControllerManager => &[10257],
            Self::Scheduler => &[10259],
            Self::Containerd | Self::GpuPlugin => &[],
            Self::Kubelet => &[10248, 10250],
            Self::KubeProxy => &[10249, 10256],
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
