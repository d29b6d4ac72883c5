//! etcd, the API server, the controllers and the scheduler.

use std::time::Duration;

use serde_json::json;

use crate::component::Component;
use crate::error::Error;
use crate::health;
use crate::kube;
use crate::layout::{self, API_PORT, Layout, NODE_IP, POD_CIDR, SERVICE_CIDR};
use crate::process::{self, Daemon};
use crate::wait::Look;

const LIMIT: Duration = Duration::from_secs(90);

/// Whether nothing was ever stored, which tells a new cluster from one that was killed.
pub(crate) fn is_new(layout: &Layout) -> bool {
    !layout.data.join("etcd/member").exists()
}

/// Starts etcd. It is not waited for: the API server connects whenever it answers.
pub(crate) fn start_etcd(layout: &Layout) -> Result<(), Error> {
    let data = layout.data.join("etcd");
    layout::create_dir(&data)?;
    let daemon = component(
        layout,
        Component::Etcd,
        vec![
            "--name=lamplighter".to_owned(),
            format!("--data-dir={}", data.display()),
            "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
            "--initial-advertise-peer-urls=http://127.0.0.1:2380".to_owned(),
            "--initial-cluster=lamplighter=http://127.0.0.1:2380".to_owned(),
            // What a power cut would take is a cluster that is made anew in seconds.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ],
    );
    process::ensure(layout, &daemon).map(|_| ())
}

/// Starts the API server and waits until it is ready.
pub(crate) fn start_api_server(layout: &Layout) -> Result<(), Error> {
    health::http(layout, Component::Etcd, 2379, "/health", LIMIT)?;
    let policy = layout.config("audit-policy.yaml");
    layout::write(&policy, &audit_policy(), 0o644)?;
    let daemon = Daemon {
        inputs: vec![policy.clone(), layout.pki("ca.crt")],
        ..component(
            layout,
            Component::ApiServer,
            api_server_args(layout, &policy.display().to_string()),
        )
    };
    process::ensure(layout, &daemon)?;
    health::wait(layout, Component::ApiServer, "kube-apiserver", LIMIT, || {
        Ok(match kube::kubectl(layout, ["get", "--raw", "/readyz"]).output() {
            Ok(_) => Look::Ready(()),
            Err(error) => Look::Pending(error.to_string()),
        })
    })
}

/// Starts the controllers and the scheduler.
pub(crate) fn start_controllers(layout: &Layout) -> Result<(), Error> {
    let credentials = |name: &str| {
        let path = layout.kubeconfig(name).display().to_string();
        ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
            .map(|flag| format!("--{flag}={path}"))
    };
    let mut args = vec![
        "--bind-address=127.0.0.1".to_owned(),
        "--use-service-account-credentials".to_owned(),
        format!(
            "--service-account-private-key-file={}",
            layout.pki("service-accounts.key").display()
        ),
        format!("--root-ca-file={}", layout.pki("ca.crt").display()),
        "--leader-elect=false".to_owned(),
        "--allocate-node-cidrs=true".to_owned(),
        format!("--cluster-cidr={POD_CIDR}"),
        format!("--service-cluster-ip-range={SERVICE_CIDR}"),
        format!("--flex-volume-plugin-dir={}", layout.volume_plugins().display()),
        "--controllers=*,-cloud-node-lifecycle".to_owned(),
        // The defaults, 20 a second, are what tests of many objects would wait for.
        "--kube-api-qps=200".to_owned(),
        "--kube-api-burst=400".to_owned(),
    ];
    args.extend(credentials(Component::ControllerManager.name()));
    let controllers = component(layout, Component::ControllerManager, args);

    let mut args = vec!["--bind-address=127.0.0.1".to_owned(), "--leader-elect=false".to_owned()];
    args.extend(credentials(Component::Scheduler.name()));
    let scheduler = component(layout, Component::Scheduler, args);

    for mut daemon in [controllers, scheduler] {
        daemon.inputs.push(layout.pki("ca.crt"));
        process::ensure(layout, &daemon)?;
    }
    Ok(())
}

/// Waits until the controllers work, which shows in what they make in a new cluster.
pub(crate) fn wait_for_controllers(layout: &Layout) -> Result<(), Error> {
    health::port(layout, Component::Scheduler, 10259, LIMIT)?;
    health::port(layout, Component::ControllerManager, 10257, LIMIT)?;
    health::wait(layout, Component::ControllerManager, "the default service account", LIMIT, || {
        Ok(match kube::get(layout, "/api/v1/namespaces/default/serviceaccounts/default") {
            Ok(_) => Look::Ready(()),
            Err(error) => Look::Pending(error.to_string()),
        })
    })
}

fn component(layout: &Layout, component: Component, mut args: Vec<String>) -> Daemon {
    args.insert(0, component.name().to_owned());
    Daemon { component, program: layout.kubernetes(), args, inputs: Vec::new() }
}

fn api_server_args(layout: &Layout, audit_policy: &str) -> Vec<String> {
    let pki = |name: &str| layout.pki(name).display().to_string();
    vec![
        // Loopback for this machine, the bridge for pods: only the wildcard covers both.
        "--bind-address=0.0.0.0".to_owned(),
        format!("--secure-port={API_PORT}"),
        format!("--advertise-address={NODE_IP}"),
        format!("--service-cluster-ip-range={SERVICE_CIDR}"),
        "--allow-privileged=true".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        format!("--client-ca-file={}", pki("ca.crt")),
        format!("--tls-cert-file={}", pki("kube-apiserver.crt")),
        format!("--tls-private-key-file={}", pki("kube-apiserver.key")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", pki("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", pki("service-accounts.key")),
        format!("--kubelet-client-certificate={}", pki("admin.crt")),
        format!("--kubelet-client-key={}", pki("admin.key")),
        format!("--kubelet-certificate-authority={}", pki("ca.crt")),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        format!("--cert-dir={}", layout.data.join("kube-apiserver").display()),
        format!("--audit-policy-file={audit_policy}"),
        format!("--audit-log-path={}", layout.log("audit").display()),
        // A log that is cut in the middle of a test would count too few writes.
        "--audit-log-maxsize=2000".to_owned(),
        "--audit-log-maxbackup=1".to_owned(),
    ]
}

/// Writes are logged with who made them and nothing of what they hold; reads are not.
fn audit_policy() -> String {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "Metadata",
                "verbs": ["create", "update", "patch", "delete", "deletecollection"],
            },
            { "level": "None" },
        ],
    })
    .to_string()
}
