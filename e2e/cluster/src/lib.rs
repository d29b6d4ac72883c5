//! A real Kubernetes on one machine, from the package registries alone.
//!
//! No container engine, no virtual machine, no image registry: every component is built
//! from the Go module proxy and runs as a process of its own, with a kubelet and a
//! containerd that start real pods on one node. There is one such cluster per machine.

mod addons;
mod cgroup;
mod command;
mod component;
mod control_plane;
mod error;
mod health;
mod images;
mod iptables;
mod kube;
mod layout;
mod lock;
mod network;
mod node;
pub mod oci;
mod packages;
mod pki;
mod preflight;
mod process;
mod status;
mod teardown;
mod tenancy;
mod tools;
mod wait;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use component::Component;
pub use error::Error;
pub use layout::NODE;
pub use status::{State, Status};

use layout::Layout;
use tenancy::Tenancy;
use wait::Look;

/// How long a cluster of another checkout may take to be all there or all gone.
const TENANCY_SETTLES: Duration = Duration::from_secs(15);

/// Told what is going on, because some of it takes minutes.
pub trait Progress {
    /// Something begins.
    fn step(&self, what: &str);
    /// How far what began last has come.
    fn detail(&self, what: &str);
}

/// The cluster of this machine, driven from one checkout.
#[derive(Debug, Clone)]
pub struct Cluster {
    layout: Layout,
}

impl Cluster {
    /// A handle; nothing is started or asked.
    pub fn at(repo_root: &Path) -> Self {
        Self { layout: Layout::of_machine(repo_root) }
    }

    /// Builds what is missing and starts what does not run. Whatever state the cluster is
    /// in, it is ready afterwards: a running one is left alone, a dead one is revived.
    pub fn up(&self, progress: &dyn Progress) -> Result<(), Error> {
        preflight::root()?;
        let _lock = lock::take(&self.layout, progress)?;
        self.build_tools(progress)?;
        match self.settled_tenancy()? {
            Tenancy::Own => {}
            Tenancy::Shared(owner) => {
                progress.step(&format!("using the cluster started from {}", owner.display()));
                return Ok(());
            }
            Tenancy::Dead(owner) => {
                progress.step(&format!("removing the cluster that {} left dead", owner.display()));
                teardown::run(&self.layout, progress)?;
            }
            Tenancy::Broken(owner) => return Err(Error::OwnedElsewhere(owner)),
        }
        packages::ensure(&self.layout, progress)?;
        preflight::check(&self.layout)?;
        self.start(progress)
    }

    /// Builds the programs that [`Cluster::up`] would build, and starts nothing. Needs no root.
    pub fn build_tools(&self, progress: &dyn Progress) -> Result<(), Error> {
        tools::ensure(&self.layout, progress)?;
        self.write_wrappers()
    }

    /// Removes the cluster with everything in it. Its logs stay.
    pub fn down(&self, progress: &dyn Progress) -> Result<(), Error> {
        preflight::root()?;
        let _lock = lock::take(&self.layout, progress)?;
        teardown::run(&self.layout, progress)
    }

    /// What runs right now.
    pub fn status(&self) -> Status {
        Status::of(&self.layout)
    }

    /// Ends one component at once, as a crash would. `up` brings it back.
    pub fn kill(&self, component: Component) -> Result<(), Error> {
        process::kill(&self.layout, component)
    }

    /// Makes the image of a tar file, as [`oci::Image::write`] makes it, known to the node.
    pub fn import_image(&self, tar: &Path) -> Result<(), Error> {
        if process::running(&self.layout, Component::Containerd).is_none() {
            return Err(Error::NotRunning(Component::Containerd.name()));
        }
        images::import(&self.layout, tar)
    }

    /// The administrator's credentials. The path is the same for every checkout.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig(pki::ADMIN)
    }

    /// A kubectl that always talks to this cluster.
    pub fn kubectl(&self) -> PathBuf {
        self.layout.wrapper("kubectl")
    }

    /// A helm that always talks to this cluster.
    pub fn helm(&self) -> PathBuf {
        self.layout.wrapper("helm")
    }

    /// One JSON line for each write that the API server was asked for, with who asked.
    pub fn audit_log(&self) -> PathBuf {
        self.layout.log("audit")
    }

    /// The log of a component.
    pub fn log(&self, component: Component) -> PathBuf {
        self.layout.log(component.name())
    }

    /// A cluster that is just coming or going looks broken for a moment.
    fn settled_tenancy(&self) -> Result<Tenancy, Error> {
        let layout = &self.layout;
        let mut broken = PathBuf::new();
        let settled = wait::until(TENANCY_SETTLES, || {
            Ok(match Tenancy::of(layout.owner(), &layout.repo, &self.status(), Path::exists) {
                Tenancy::Broken(owner) => {
                    broken = owner;
                    Look::Pending(String::new())
                }
                tenancy => Look::Ready(tenancy),
            })
        })?;
        Ok(settled.unwrap_or(Tenancy::Broken(broken)))
    }

    fn start(&self, progress: &dyn Progress) -> Result<(), Error> {
        let layout = &self.layout;
        if control_plane::is_new(layout) {
            layout::remove(&layout.logs())?;
        }
        let owner = layout.repo.display().to_string();
        layout::write(&layout.owner_file(), &owner, 0o644)?;
        pki::ensure(layout)?;
        network::ensure(layout)?;

        progress.step("starting the control plane");
        control_plane::start_etcd(layout)?;
        node::start_containerd(layout)?;
        control_plane::start_api_server(layout)?;
        control_plane::start_controllers(layout)?;

        progress.step("starting the node");
        node::wait_for_containerd(layout)?;
        images::ensure(layout)?;
        let since = node::start_agents(layout)?;
        control_plane::wait_for_controllers(layout)?;
        addons::apply(layout)?;
        progress.detail("waiting until the node is ready");
        node::wait_until_ready(layout, &since)?;

        progress.step("starting the name service");
        addons::wait(layout)
    }

    fn write_wrappers(&self) -> Result<(), Error> {
        let layout = &self.layout;
        let helm_home = layout.data.join("helm");
        let kubectl = format!("exec '{}' kubectl \"$@\"", layout.kubernetes().display());
        let helm = format!(
            "export HELM_CACHE_HOME='{home}/cache' HELM_CONFIG_HOME='{home}/config' \
             HELM_DATA_HOME='{home}/data'\nexec '{program}' \"$@\"",
            home = helm_home.display(),
            program = layout.bin("helm").display(),
        );
        for (name, run) in [("kubectl", kubectl), ("helm", helm)] {
            // Set without asking: what a developer has in KUBECONFIG may be production.
            let kubeconfig = self.kubeconfig();
            let script =
                format!("#!/bin/sh\nexport KUBECONFIG='{}'\n{run}\n", kubeconfig.display());
            layout::write(&layout.wrapper(name), &script, 0o755)?;
        }
        Ok(())
    }
}
