//! Where things are in a checkout. Everything that the commands make lies below `.local/`,
//! which git ignores; `target/` is cargo's own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A checkout.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The checkout that this program was built from.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .context("xtask was built outside a checkout")?;
        let root = root.canonicalize().with_context(|| {
            format!("the checkout {} has moved; build xtask again", root.display())
        })?;
        Ok(Self { root })
    }

    /// The top folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the top folder.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// Where each command's output is kept.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join(".local/log")
    }

    /// A program that cargo built, in the one profile that everything here uses.
    pub(crate) fn binary(&self, name: &str, profile: Profile) -> PathBuf {
        self.root.join("target").join(profile.folder()).join(name)
    }
}

/// Cargo's profiles, as far as these commands use them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Profile {
    /// Tests, the demo and their images.
    Dev,
    /// What is published.
    Release,
}

impl Profile {
    /// The folder of a profile below the target folder.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}
