//! The worker's image for GPUs: both programs and NVIDIA's libraries, without the driver's, which the
//! NVIDIA container toolkit puts into a container that has a GPU.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lamplighter_cluster::oci::{ImageFile, base_files, binary_closure, closure_with};

use super::{Builder, ChipArgs, toolkit};
use crate::images::{Built, Parts, WORKER, WORKER_ALLOCATOR, Writer};
use crate::workspace::{Profile, Workspace};

/// What the worker hands over to: see `crates/worker/src/handover.rs`.
const PROGRAM: &str = "/usr/local/bin/lamplighter-worker-cuda";
/// Where NVIDIA's libraries are in the image.
const LIBRARIES: &str = "/usr/local/cuda/lib64";
/// Loaded by the library beside it, when it compiles something.
const LOADED_LATER: (&str, &str) = ("libnvrtc.so", "libnvrtc-builtins.so");

/// Builds the program and writes the image. The worker itself is there.
pub(crate) fn write(workspace: &Workspace, chip: ChipArgs, profile: Profile) -> Result<Built> {
    let builder = Builder::new(workspace, chip, profile)?;
    let program = builder.worker()?;
    let worker = workspace.binary(WORKER, profile);
    let inside = Path::new("/usr/local/bin").join(WORKER);
    let mut files = base_files();
    files.extend(binary_closure(&worker)?);
    files.extend(needed(&program, &builder.toolkit.libraries())?);
    files.push(ImageFile::program(&inside, &worker));
    files.push(ImageFile::program(PROGRAM, &program));
    let writer = Writer { workspace, profile };
    let parts = Parts { entrypoint: &inside, files, env: &environment() };
    writer.write_parts("worker-cuda", parts, None)
}

/// What the program is linked to: of this machine where the loader looks for it, and of the toolkit.
fn needed(program: &Path, toolkit: &Path) -> Result<Vec<ImageFile>> {
    let mut all = Vec::new();
    for library in closure_with(program, toolkit, toolkit::DRIVER)? {
        let Some(name) = library.strip_prefix(toolkit).ok().and_then(Path::to_str) else {
            all.push(ImageFile::program(&library, &library));
            continue;
        };
        all.push(of_toolkit(&library)?);
        if name.starts_with(LOADED_LATER.0) {
            all.push(of_toolkit(&loaded_later(toolkit)?)?);
        }
    }
    Ok(all)
}

fn of_toolkit(library: &Path) -> Result<ImageFile> {
    let name = library.file_name().context("a library has a name")?;
    Ok(ImageFile::program(Path::new(LIBRARIES).join(name), library))
}

fn loaded_later(toolkit: &Path) -> Result<PathBuf> {
    let cannot_read = || format!("cannot read {}", toolkit.display());
    for entry in std::fs::read_dir(toolkit).with_context(cannot_read)? {
        let entry = entry.with_context(cannot_read)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("{}.", LOADED_LATER.1)) {
            return Ok(entry.path());
        }
    }
    anyhow::bail!("{} has no {}", toolkit.display(), LOADED_LATER.1)
}

/// The last two are for the NVIDIA container toolkit
/// (<https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html>).
/// Some clouds mount the driver at a place of their own, which their images name, too.
fn environment() -> Vec<(&'static str, &'static str)> {
    let mut all = WORKER_ALLOCATOR.to_vec();
    all.extend([
        ("LD_LIBRARY_PATH", "/usr/local/cuda/lib64:/usr/local/nvidia/lib64"),
        ("NVIDIA_VISIBLE_DEVICES", "all"),
        ("NVIDIA_DRIVER_CAPABILITIES", "compute,utility"),
    ]);
    all
}
