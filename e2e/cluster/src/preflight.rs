//! Whether this machine can run the cluster at all, asked before anything is changed.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use crate::cgroup;
use crate::command::Run;
use crate::component::Component;
use crate::error::Error;
use crate::layout::{BRIDGE, BRIDGE_CIDR, Layout};
use crate::process;
use crate::wait::{self, Look};

/// Images, their unpacked layers and logs, with room to work.
const DISK_NEEDED: u64 = 4 << 30;

const PORTS_FREED_WITHIN: Duration = Duration::from_secs(5);

/// Root is asked for first, because without it the other questions cannot be answered.
pub(crate) fn root() -> Result<(), Error> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::Machine(vec![
        "it is not run by root, which namespaces, mounts and packet rules need; \
         use `sudo --preserve-env=PATH,HOME cargo xtask cluster up`"
            .to_owned(),
    ]))
}

/// Collects everything that stands in the way, each as a sentence.
pub(crate) fn check(layout: &Layout) -> Result<(), Error> {
    let mut problems = Vec::new();
    problems.extend(file_systems(layout));
    problems.extend(bridge_filter(layout));
    if !cgroup::has_memory_controller() {
        problems.push(
            "the memory cgroup controller is not mounted; boot with `cgroup_enable=memory`"
                .to_owned(),
        );
    }
    problems.extend(foreign_bridge(layout));
    for component in Component::ALL {
        problems.extend(ports(layout, component)?);
    }
    problems.extend(disk(layout));
    if problems.is_empty() { Ok(()) } else { Err(Error::Machine(problems)) }
}

fn file_systems(layout: &Layout) -> Option<String> {
    let has_overlay = || {
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        known.lines().any(|line| line.ends_with("\toverlay"))
    };
    if !has_overlay() {
        load(layout, "overlay");
    }
    if !has_overlay() {
        return Some("the kernel has no overlay file system; load the module `overlay`".to_owned());
    }
    // An overlay cannot be the upper part of another one.
    let existing = layout.data.ancestors().find(|path| path.exists())?;
    let kind = Run::new(layout, "stat").args(["-f", "-c", "%T"]).args([existing]).output().ok()?;
    (kind.trim() == "overlayfs").then(|| {
        format!(
            "{} lies on an overlay file system, on which images cannot be unpacked; \
             mount a disk or a tmpfs there",
            layout.data.display()
        )
    })
}

fn bridge_filter(layout: &Layout) -> Option<String> {
    let setting = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if !setting.exists() {
        load(layout, "br_netfilter");
    }
    (!setting.exists()).then(|| {
        "the kernel does not filter bridged packets, without which Services do not work; \
         load the module `br_netfilter`"
            .to_owned()
    })
}

/// A kernel without modules has it built in or lacks it; the caller looks again.
fn load(layout: &Layout, module: &str) {
    Run::new(layout, "modprobe").args([module]).succeeds();
}

fn foreign_bridge(layout: &Layout) -> Option<String> {
    if !Path::new("/sys/class/net").join(BRIDGE).exists() {
        return None;
    }
    let addresses =
        Run::new(layout, "ip").args(["-o", "-4", "addr", "show", "dev", BRIDGE]).output().ok()?;
    let is_foreign = addresses.contains(" inet ") && !addresses.contains(BRIDGE_CIDR);
    is_foreign.then(|| {
        format!(
            "the bridge {BRIDGE} belongs to another Kubernetes; stop that one and run \
             `ip link delete {BRIDGE}`"
        )
    })
}

/// A port that is in use is fine when it is in use by our own component. A component that
/// was killed a moment ago may still hold its ports while the kernel frees its memory.
fn ports(layout: &Layout, component: Component) -> Result<Vec<String>, Error> {
    if process::running(layout, component).is_some() {
        return Ok(Vec::new());
    }
    let outcome = wait::until(PORTS_FREED_WITHIN, || {
        let taken: Vec<u16> =
            component.ports().iter().copied().filter(|port| is_taken(*port)).collect();
        Ok(if taken.is_empty() { Look::Ready(()) } else { Look::Pending(format!("{taken:?}")) })
    })?;
    if outcome.is_ok() {
        return Ok(Vec::new());
    }
    let taken = component.ports().iter().filter(|port| is_taken(**port));
    Ok(taken
        .map(|port| {
            format!(
                "port {port}, which {component} needs, is in use; \
                 `ss -ltnp 'sport = :{port}'` names the process to stop"
            )
        })
        .collect())
}

fn is_taken(port: u16) -> bool {
    let outcome = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    outcome.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

fn disk(layout: &Layout) -> Option<String> {
    let existing = layout.data.ancestors().find(|path| path.exists())?;
    let found = rustix::fs::statvfs(existing).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    (free < DISK_NEEDED).then(|| {
        format!(
            "only {} MB are free below {}; the cluster needs {} MB",
            free >> 20,
            existing.display(),
            DISK_NEEDED >> 20
        )
    })
}
