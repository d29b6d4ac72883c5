//! A cgroup of our own above all pods, so that every process of every pod can be found,
//! whatever its name, its parent and the state of the container runtime.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::layout;

/// Its path in each hierarchy, as the kubelet wants it.
pub(crate) const ROOT: &str = "/lamplighter";

/// The controllers that the kubelet and runc use.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];

/// Makes the cgroup in every hierarchy of the machine.
pub(crate) fn ensure() -> Result<(), Error> {
    for hierarchy in with_controllers(hierarchies()) {
        let place = hierarchy.place();
        if hierarchy.is_unified {
            // A controller that the machine lacks is refused here and named by the kubelet.
            for controller in CONTROLLERS {
                let _ = fs::write(
                    hierarchy.mount.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                );
            }
        }
        layout::create_dir(&place)?;
        // A new cpuset of the first version is empty, and nothing can run in it.
        for setting in ["cpuset.mems", "cpuset.cpus"] {
            if let Ok(value) = fs::read_to_string(hierarchy.mount.join(setting)) {
                let _ = fs::write(place.join(setting), value);
            }
        }
    }
    Ok(())
}

/// Every process in a pod.
pub(crate) fn processes() -> Vec<i32> {
    let mut pids = Vec::new();
    for hierarchy in hierarchies() {
        for folder in folders_below(&hierarchy.place()) {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Removes the cgroup from every hierarchy. One that still holds a process stays.
pub(crate) fn remove() {
    for hierarchy in hierarchies() {
        for folder in folders_below(&hierarchy.place()) {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The folder and all below it, the deepest first.
fn folders_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .flat_map(|entry| folders_below(&entry.path()))
        .collect();
    folders.push(folder.to_owned());
    folders
}

#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    is_unified: bool,
}

impl Hierarchy {
    fn place(&self) -> PathBuf {
        self.mount.join(ROOT.trim_start_matches('/'))
    }
}

fn hierarchies() -> Vec<Hierarchy> {
    parse(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// Whether the machine mounts the memory controller of either version.
pub(crate) fn has_memory_controller() -> bool {
    hierarchies().iter().any(|hierarchy| {
        let listed = fs::read_to_string(hierarchy.mount.join("cgroup.controllers"));
        hierarchy.mount.ends_with("memory")
            || listed.is_ok_and(|text| text.split_whitespace().any(|name| name == "memory"))
    })
}

/// In a line the mount point is the fifth field, and the type the first after the dash.
fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let is_unified = match after.split(' ').next()? {
                "cgroup" => false,
                "cgroup2" => true,
                _ => return None,
            };
            Some(Hierarchy { mount: PathBuf::from(before.split(' ').nth(4)?), is_unified })
        })
        .collect()
}

/// Beside hierarchies of the first version, the unified one carries no controllers. runc
/// makes folders in it all the same, so it counts when everything is removed.
fn with_controllers(hierarchies: Vec<Hierarchy>) -> Vec<Hierarchy> {
    let has_first = hierarchies.iter().any(|hierarchy| !hierarchy.is_unified);
    hierarchies.into_iter().filter(|hierarchy| !(has_first && hierarchy.is_unified)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_counts_only_when_alone() {
        let unified = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            parse(unified),
            [Hierarchy { mount: "/sys/fs/cgroup".into(), is_unified: true }]
        );
        let hybrid = "31 23 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                      32 23 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let expected = Hierarchy { mount: "/sys/fs/cgroup/memory".into(), is_unified: false };
        assert_eq!(parse(hybrid).len(), 2);
        assert_eq!(with_controllers(parse(hybrid)), [expected]);
    }
}
