//! What runs and what does not.

use std::fmt;
use std::path::PathBuf;

use crate::component::Component;
use crate::kube;
use crate::layout::{Layout, NODE};
use crate::node::GPU_RESOURCE;
use crate::pki::ADMIN;
use crate::process;

/// The state of the cluster at one moment.
#[derive(Debug, Clone)]
pub struct Status {
    /// Every component, in the order in which they start.
    pub components: Vec<(Component, State)>,
    /// Whether the node takes pods; `None` if the API server did not say.
    pub node_ready: Option<bool>,
    /// The GPUs that pods can ask for; `None` if the API server did not say.
    pub gpus: Option<u32>,
    /// The checkout from which the cluster was started.
    pub checkout: Option<PathBuf>,
    /// The administrator's credentials.
    pub kubeconfig: PathBuf,
}

/// The state of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs as this process.
    Running(u32),
    /// It was started and is gone.
    Ended,
    /// It was not started, or it was stopped.
    NotStarted,
}

impl Status {
    pub(crate) fn of(layout: &Layout) -> Self {
        let state = |component| match process::recorded(layout, component) {
            Some(record) if record.is_alive() => State::Running(record.pid()),
            Some(_) => State::Ended,
            None => State::NotStarted,
        };
        let components: Vec<_> =
            Component::ALL.map(|component| (component, state(component))).into();
        let node = process::running(layout, Component::ApiServer)
            .and_then(|_| kube::get(layout, &format!("/api/v1/nodes/{NODE}")).ok());
        Self {
            components,
            node_ready: node.as_ref().map(|node| kube::is_true(node, "Ready")),
            gpus: node.as_ref().and_then(|node| {
                node["status"]["allocatable"][GPU_RESOURCE].as_str()?.parse().ok()
            }),
            checkout: layout.owner(),
            kubeconfig: layout.kubeconfig(ADMIN),
        }
    }

    /// Whether every component runs and the node takes pods.
    pub fn is_healthy(&self) -> bool {
        let all_run = self.components.iter().all(|(_, state)| matches!(state, State::Running(_)));
        all_run && self.node_ready == Some(true) && self.gpus.is_some_and(|count| count > 0)
    }

    /// Whether at least one component runs.
    pub fn anything_runs(&self) -> bool {
        self.components.iter().any(|(_, state)| matches!(state, State::Running(_)))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (component, state) in &self.components {
            writeln!(f, "{component:<25}{state}")?;
        }
        let node = match self.node_ready {
            Some(true) => "ready",
            Some(false) => "not ready",
            None => "unknown",
        };
        writeln!(f, "{:<25}{node}", "node")?;
        let gpus = self.gpus.map_or("unknown".to_owned(), |count| count.to_string());
        writeln!(f, "{GPU_RESOURCE:<25}{gpus}")?;
        if let Some(checkout) = &self.checkout {
            writeln!(f, "{:<25}{}", "started from", checkout.display())?;
        }
        write!(f, "{:<25}{}", "kubeconfig", self.kubeconfig.display())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(pid) => write!(f, "running (pid {pid})"),
            Self::Ended => f.pad("ended"),
            Self::NotStarted => f.pad("not started"),
        }
    }
}
