//! NVIDIA's compiler and libraries below `.local/`, from Python packages
//! (<https://docs.nvidia.com/cuda/cuda-installation-guide-linux/#pip-wheels>), laid out as the build
//! scripts of the libraries that call them expect.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::exec::Exec;
use crate::term;
use crate::workspace::Workspace;

const REQUIREMENTS: &str = include_str!("requirements.txt");
const FOLDER: &str = ".local/cuda/toolkit";
/// The driver's library, which belongs to a machine's driver and is in no package.
pub(super) const DRIVER: &str = "libcuda.so.1";

/// Returns `CUDA_ERROR_NO_DEVICE`, on x86-64
/// (<https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html>).
const NO_DEVICE: &str = "    movl $100, %eax\n    ret\n";

/// A toolkit that is complete.
pub(crate) struct Toolkit {
    root: PathBuf,
}

impl Toolkit {
    /// Fetches the packages. Made once; made anew when the list of packages changes.
    pub(super) fn make(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.path(FOLDER);
        let toolkit = Self { root: folder.join("nvidia/cu13") };
        let stamp = folder.join("requirements.stamp");
        if fs::read_to_string(&stamp).is_ok_and(|done| done == REQUIREMENTS) {
            return Ok(toolkit);
        }
        term::step("cuda: fetching NVIDIA's compiler and libraries (about 1 GB)");
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        Exec::new("fetch the cuda toolkit", "python3")
            .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input"])
            .args(["--no-compile", "--target"])
            .args([&folder])
            .args(["-r"])
            .args([workspace.path("crates/xtask/src/cuda/requirements.txt")])
            .deadline(Duration::from_mins(30))
            .run(&workspace.logs())?;
        toolkit.complete(workspace)?;
        fs::write(&stamp, REQUIREMENTS)
            .with_context(|| format!("cannot write {}", stamp.display()))?;
        Ok(toolkit)
    }

    /// Where its shared libraries are.
    pub(super) fn libraries(&self) -> PathBuf {
        self.root.join("lib")
    }

    /// What tells build scripts and the linker where it is.
    pub(super) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let roots = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"];
        let mut all: Vec<_> =
            roots.into_iter().map(|name| (name, self.root.clone().into_os_string())).collect();
        all.push(("PATH", before(&[self.root.join("bin")], "PATH")));
        let libraries = [self.libraries(), self.stubs()];
        all.push(("LIBRARY_PATH", before(&libraries, "LIBRARY_PATH")));
        all
    }

    fn stubs(&self) -> PathBuf {
        self.root.join("lib/stubs")
    }

    /// Adds what the packages lack of an installed toolkit.
    fn complete(&self, workspace: &Workspace) -> Result<()> {
        let libraries = self.libraries();
        for (link, library) in links(&libraries)? {
            symlink(&library, libraries.join(&link))
                .with_context(|| format!("cannot link {link} in {}", libraries.display()))?;
        }
        symlink("lib", self.root.join("lib64")).context("cannot link lib64 of the toolkit")?;
        self.stub(workspace)
    }

    /// A library with the names of the driver's functions and nothing behind them: for the linker, which
    /// then says whether a name is misspelled. It is never loaded.
    fn stub(&self, workspace: &Workspace) -> Result<()> {
        self.library_of_labels(workspace, &self.stubs(), "libcuda.so", "")
    }

    /// A folder with a driver's library that is loaded, and says to everything that there is no GPU.
    pub(super) fn driver_without_gpu(&self, workspace: &Workspace) -> Result<PathBuf> {
        let folder = self.root.join("lib/without-gpu");
        self.library_of_labels(workspace, &folder, DRIVER, NO_DEVICE)?;
        Ok(folder)
    }

    /// A library in which each of the driver's functions does this, in assembly.
    fn library_of_labels(
        &self,
        workspace: &Workspace,
        folder: &Path,
        name: &str,
        body: &str,
    ) -> Result<()> {
        let header = self.root.join("include/cuda.h");
        let header = fs::read_to_string(&header)
            .with_context(|| format!("cannot read {}", header.display()))?;
        let source = folder.join("cuda.s");
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&source, assembly(&header, body)))
            .with_context(|| format!("cannot write {}", source.display()))?;
        Exec::new("make a stub of the driver", "cc")
            .args(["-shared", "-nostdlib", "-Wl,--build-id=none"])
            .args([format!("-Wl,-soname,{DRIVER}")])
            .args(["-o".into(), folder.join(name), source])
            .deadline(Duration::from_mins(1))
            .run(&workspace.logs())?;
        Ok(())
    }
}

/// Folders before those of a variable.
fn before(folders: &[PathBuf], variable: &str) -> OsString {
    let mut all = OsString::new();
    for folder in folders {
        all.push(folder);
        all.push(":");
    }
    all.push(std::env::var_os(variable).unwrap_or_default());
    all
}

/// Of each library `libx.so.N` the name by which a linker looks for it.
fn links(libraries: &Path) -> Result<Vec<(String, String)>> {
    let cannot_read = || format!("cannot read {}", libraries.display());
    let mut links = BTreeSet::new();
    for entry in fs::read_dir(libraries).with_context(cannot_read)? {
        let library = entry.with_context(cannot_read)?.file_name().to_string_lossy().into_owned();
        if let Some((name, _)) = library.split_once(".so.") {
            let link = format!("{name}.so");
            if !libraries.join(&link).exists() {
                links.insert((link, library));
            }
        }
    }
    Ok(links.into_iter().collect())
}

/// The driver's functions as labels with this behind each. The header also holds their older names, as parts of others
/// (`cuMemAlloc_v2`), and words that are none; both do no harm.
fn assembly(header: &str, body: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = header.split(|c| !is_part(c));
    let is_function = |word: &&str| {
        let rest = word.strip_prefix("cu");
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
    };
    let names: BTreeSet<&str> = words.filter(is_function).collect();
    let mut text = ".section .note.GNU-stack,\"\",@progbits\n.text\n".to_owned();
    for name in names {
        text.extend([".globl ", name, "\n.type ", name, ", @function\n", name, ":\n", body]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_of_the_driver_is_a_label() {
        let header =
            "#define cuMemAlloc cuMemAlloc_v2\nCUresult CUDAAPI cuInit(unsigned int Flags);\n";
        let text = assembly(header, "");
        let labels: Vec<&str> = text.lines().filter(|line| line.ends_with(':')).collect();
        assert_eq!(labels, ["cuInit:", "cuMemAlloc:", "cuMemAlloc_v2:"]);
        assert_eq!(assembly(header, NO_DEVICE).matches(NO_DEVICE).count(), 3);
    }

    #[test]
    fn a_library_is_linked_by_the_name_without_its_version() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libcublas.so.13", "libcudart.so.13", "libcudart.so", "libcudadevrt.a"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let expected = ("libcublas.so".to_owned(), "libcublas.so.13".to_owned());
        assert_eq!(links(folder.path()).unwrap(), [expected]);
    }
}
