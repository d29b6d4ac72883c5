//! The pod network: one bridge with the node's own address on it.
//!
//! The bridge is made before anything else, because its address is the one that the API
//! server and the kubelet announce: both refuse a loopback address, and any other address
//! of the machine may change under a running cluster.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::command::Run;
use crate::error::Error;
use crate::layout::{self, BRIDGE, BRIDGE_CIDR, Layout, POD_CIDR};

/// The chains that hold the cluster's own packet rules, by table, with the built-in chain
/// that jumps to each.
const CHAINS: [(&str, &str, &str); 2] = [
    ("filter", "FORWARD", "LAMPLIGHTER-FORWARD"),
    ("nat", "POSTROUTING", "LAMPLIGHTER-POSTROUTING"),
];

/// Names of chains begin like this when they are ours, the kubelet's or kube-proxy's.
pub(crate) const CHAIN_PREFIXES: [&str; 2] = ["LAMPLIGHTER-", "KUBE-"];

const ROUTE_LOCALNET: &str = "/proc/sys/net/ipv4/conf/all/route_localnet";

/// Makes the bridge, lets packets of pods through and writes the CNI configuration.
pub(crate) fn ensure(layout: &Layout) -> Result<(), Error> {
    if !Path::new("/sys/class/net").join(BRIDGE).exists() {
        ip(layout, &["link", "add", BRIDGE, "type", "bridge"])?;
    }
    if !ip(layout, &["-o", "-4", "addr", "show", "dev", BRIDGE])?.contains(BRIDGE_CIDR) {
        ip(layout, &["addr", "add", BRIDGE_CIDR, "dev", BRIDGE])?;
    }
    ip(layout, &["link", "set", BRIDGE, "up"])?;
    set("/proc/sys/net/ipv4/ip_forward", "1")?;
    // Service addresses are rewritten by iptables, which sees bridged packets only then.
    set("/proc/sys/net/bridge/bridge-nf-call-iptables", "1")?;
    remember_route_localnet(layout)?;
    rules(layout)?;
    layout::write(&cni_dir(layout).join("10-lamplighter.conflist"), &cni(layout), 0o644)?;
    Ok(())
}

/// The folder that containerd reads the CNI configuration from.
pub(crate) fn cni_dir(layout: &Layout) -> PathBuf {
    layout.config("cni")
}

/// Deletes the bridge and undoes what is of consequence beyond the cluster. Forwarding
/// stays on: by now something else may rely on it.
pub(crate) fn remove(layout: &Layout) -> Result<(), Error> {
    if Path::new("/sys/class/net").join(BRIDGE).exists() {
        ip(layout, &["link", "delete", BRIDGE])?;
    }
    if let Ok(before) = fs::read_to_string(route_localnet_file(layout)) {
        set(ROUTE_LOCALNET, before.trim())?;
    }
    Ok(())
}

fn ip(layout: &Layout, args: &[&str]) -> Result<String, Error> {
    Run::new(layout, "ip").args(args).output()
}

fn set(path: &str, value: &str) -> Result<(), Error> {
    let path = Path::new(path);
    if fs::read_to_string(path).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    fs::write(path, value).map_err(Error::file("set", path))
}

/// kube-proxy turns this on so that node ports answer on 127.0.0.1, and never off again.
fn remember_route_localnet(layout: &Layout) -> Result<(), Error> {
    let file = route_localnet_file(layout);
    if file.exists() {
        return Ok(());
    }
    let current = fs::read_to_string(ROUTE_LOCALNET).unwrap_or_else(|_| "0".to_owned());
    layout::write(&file, &current, 0o644).map(|_| ())
}

fn route_localnet_file(layout: &Layout) -> PathBuf {
    layout.run.join("route_localnet.before")
}

/// Container engines set the policy of FORWARD to DROP, which would cut pods off. And what
/// leaves the machine needs the machine's address; one rule for the whole range does what
/// the bridge plugin would do with a chain for each pod.
fn rules(layout: &Layout) -> Result<(), Error> {
    for (table, parent, chain) in CHAINS {
        let iptables =
            |args: &[&str]| Run::new(layout, "iptables").args(["-w", "-t", table]).args(args);
        if !iptables(&["-n", "-L", chain]).succeeds() {
            iptables(&["-N", chain]).output()?;
        }
        iptables(&["-F", chain]).output()?;
        let rules: &[&[&str]] = if table == "filter" {
            &[&["-s", POD_CIDR, "-j", "ACCEPT"], &["-d", POD_CIDR, "-j", "ACCEPT"]]
        } else {
            &[&["-s", POD_CIDR, "!", "-d", POD_CIDR, "-j", "MASQUERADE"]]
        };
        for rule in rules {
            iptables(&["-A", chain]).args(*rule).output()?;
        }
        if !iptables(&["-C", parent, "-j", chain]).succeeds() {
            iptables(&["-A", parent, "-j", chain]).output()?;
        }
    }
    Ok(())
}

fn cni(layout: &Layout) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "lamplighter",
        "plugins": [{
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": true,
            // A pod may reach itself through its own Service.
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": "10.244.0.0/24" }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
                "dataDir": layout.data.join("cni"),
            },
        }],
    })
    .to_string()
}
