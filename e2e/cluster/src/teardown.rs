//! Taking the cluster down from whatever state it is in, a crash included.
//!
//! Everything is found by what only this cluster has: recorded processes, its containerd's
//! address, its cgroup, its folders, its names of chains.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};

use crate::Progress;
use crate::cgroup;
use crate::component::Component;
use crate::error::Error;
use crate::iptables;
use crate::layout::{self, BRIDGE, Layout};
use crate::network::{self, CHAIN_PREFIXES};
use crate::process;
use crate::wait::{self, Look};

const SHIM_SOCKETS: &str = "/run/containerd/s";

const LIMIT: Duration = Duration::from_secs(30);

/// Removes the whole cluster and what it stored, except for its logs.
pub(crate) fn run(layout: &Layout, progress: &dyn Progress) -> Result<(), Error> {
    progress.step("stopping the components");
    // Those that start or repair things end before those whose things they are.
    for component in Component::ALL.into_iter().rev() {
        process::discard(layout, component)?;
    }
    progress.step("ending the pods");
    end_pods(layout)?;
    progress.step("removing mounts, network and files");
    unmount_below(&[&layout.data, &layout.run]);
    cgroup::remove();
    iptables::remove_chains(layout, &CHAIN_PREFIXES)?;
    network::remove(layout)?;
    remove_files(layout)?;
    let left = left_over(layout);
    if left.is_empty() { Ok(()) } else { Err(Error::LeftOver(left)) }
}

/// A shim that lost its containerd keeps its pod alive, so both are killed until neither is
/// there. A shim is recognised by the address of our containerd in its arguments.
fn end_pods(layout: &Layout) -> Result<(), Error> {
    let outcome = wait::until(LIMIT, || {
        let shims = shims(layout);
        let processes = cgroup::processes();
        for pid in shims.iter().chain(&processes) {
            process::kill_pid(*pid);
        }
        if shims.is_empty() && processes.is_empty() {
            return Ok(Look::Ready(()));
        }
        Ok(Look::Pending(format!("processes of pods: {shims:?} {processes:?}")))
    })?;
    outcome.map_err(|left| Error::LeftOver(vec![left]))
}

/// The processes that containerd starts for its pods.
fn shims(layout: &Layout) -> Vec<i32> {
    let address = layout.containerd_socket();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            is_shim_of(&arguments, &address)
        })
        .collect()
}

fn is_shim_of(arguments: &[u8], address: &Path) -> bool {
    let words: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
    let is_shim =
        words.first().is_some_and(|program| program.ends_with(b"containerd-shim-runc-v2"));
    let address = address.as_os_str().as_encoded_bytes();
    is_shim && words.windows(2).any(|pair| pair[0] == b"-address" && pair[1] == address)
}

fn unmount_below(folders: &[&Path]) {
    for mount in mounts_below(folders).iter().rev() {
        // Whoever still has a file open there was not ours; the mount goes all the same.
        if unmount(mount, UnmountFlags::empty()).is_err() {
            let _ = unmount(mount, UnmountFlags::DETACH);
        }
    }
}

/// Mount points in the order in which they were mounted.
fn mounts_below(folders: &[&Path]) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| folders.iter().any(|folder| point.starts_with(folder))).collect()
}

fn remove_files(layout: &Layout) -> Result<(), Error> {
    // The logs stay: they are what tells why a cluster was not well.
    for entry in children(&layout.data).into_iter().filter(|path| *path != layout.logs()) {
        layout::remove(&entry)?;
    }
    for entry in children(&layout.run).into_iter().filter(|path| *path != layout.lock_file()) {
        layout::remove(&entry)?;
    }
    // The kubelet and libcni write these in fixed, shared places.
    for link in children(Path::new("/var/log/containers")) {
        if fs::read_link(&link).is_ok_and(|target| target.starts_with(&layout.data)) {
            layout::remove(&link)?;
        }
    }
    // libcni names one of them for its loopback, whoever asked; what is ours shows inside.
    let network_namespaces = layout.containerd_state().display().to_string();
    for result in children(Path::new("/var/lib/cni/results")) {
        if fs::read_to_string(&result).is_ok_and(|text| text.contains(&network_namespaces)) {
            layout::remove(&result)?;
        }
    }
    for socket in children(Path::new(SHIM_SOCKETS)) {
        remove_dead_socket(&socket)?;
    }
    let plugins = Path::new("/var/lib/kubelet/device-plugins");
    for name in
        ["kubelet.sock", "lamplighter-gpus.sock", "kubelet_internal_checkpoint", "DEPRECATION"]
    {
        layout::remove(&plugins.join(name))?;
    }
    for folder in [
        plugins.as_os_str(),
        "/var/lib/kubelet".as_ref(),
        "/var/log/containers".as_ref(),
        "/var/lib/cni/results".as_ref(),
        "/var/lib/cni".as_ref(),
        SHIM_SOCKETS.as_ref(),
        "/run/containerd".as_ref(),
    ] {
        // Refused by the system when it holds anything of anybody else.
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

/// Every containerd keeps the sockets of its shims here, under names that tell nothing. One
/// that nobody listens on is of no use to anybody.
fn remove_dead_socket(socket: &Path) -> Result<(), Error> {
    match UnixStream::connect(socket) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => layout::remove(socket),
        _ => Ok(()),
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

fn left_over(layout: &Layout) -> Vec<String> {
    let mut left = Vec::new();
    let mounts = mounts_below(&[&layout.data, &layout.run]);
    left.extend(mounts.iter().map(|mount| format!("the mount {}", mount.display())));
    if Path::new("/sys/class/net").join(BRIDGE).exists() {
        left.push(format!("the bridge {BRIDGE}"));
    }
    let chains = iptables::remaining_chains(layout, &CHAIN_PREFIXES);
    left.extend(chains.iter().map(|chain| format!("the iptables chain {chain}")));
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shims_of_our_containerd_are_ours() {
        let ours = Path::new("/run/lamplighter-cluster/containerd.sock");
        let shim = |address: &str| {
            format!("/x/containerd-shim-runc-v2\0-namespace\0k8s.io\0-id\0a\0-address\0{address}\0")
        };
        assert!(is_shim_of(shim("/run/lamplighter-cluster/containerd.sock").as_bytes(), ours));
        assert!(!is_shim_of(shim("/run/containerd/containerd.sock").as_bytes(), ours));
        let editor = b"vim\0-address\0/run/lamplighter-cluster/containerd.sock\0";
        assert!(!is_shim_of(editor, ours));
    }
}
