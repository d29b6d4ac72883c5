//! Images without Docker: OCI tar files in `.local/images/`, named by what is in them.

mod faults;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use lamplighter_cluster::Cluster;
use lamplighter_cluster::oci::{Content, Image, ImageFile, base_files, binary_closure};

use crate::cuda::{self, ChipArgs};
use crate::exec::Exec;
use crate::model;
use crate::term;
use crate::workspace::{Profile, Workspace};

/// Numeric, because `runAsNonRoot` cannot check a name.
const USER: &str = "65532:65532";
/// A registry host that resolves nowhere, so that a missing image is never looked for outside.
const REGISTRY: &str = "localhost/lamplighter";
/// The image that `config/samples/baked-in.yaml` names, so that it can be applied as it is.
const SAMPLE: &str = "registry.example.com/lamplighter-worker-minilm:1.0.0";

/// Options of `cargo xtask images`.
#[derive(Args, Debug)]
pub(crate) struct ImagesArgs {
    /// Builds with optimisation, as for publishing. Takes several minutes more.
    #[arg(long)]
    release: bool,
    /// Also imports the images into the local cluster, which must be up.
    #[arg(long)]
    import: bool,
    /// Also writes the worker's image for NVIDIA GPUs. Needs no GPU; fetches NVIDIA's compiler.
    #[arg(long)]
    cuda: bool,
    #[command(flatten)]
    chip: ChipArgs,
}

/// An image that was written.
pub(crate) struct Built {
    /// Its name in a cluster; the tag is the beginning of its digest, or the sample's.
    pub(crate) reference: String,
    /// The tar file.
    pub(crate) tar: PathBuf,
}

impl Built {
    /// Repository and tag.
    pub(crate) fn split(&self) -> (&str, &str) {
        self.reference.rsplit_once(':').unwrap_or((&self.reference, "latest"))
    }
}

/// All images of the project.
pub(crate) struct Images {
    /// The operator.
    pub(crate) operator: Built,
    /// The worker.
    pub(crate) worker: Built,
    /// The worker with a small model baked in, for the user stories.
    pub(crate) worker_baked: Built,
    /// The worker with the real model baked in, as a sample wants it.
    pub(crate) sample: Built,
    /// The S3 server of the demo and the stories, with its models.
    pub(crate) store: Built,
    /// The worker that breaks on purpose, for the user stories; none among those to be published.
    pub(crate) worker_faults: Option<Built>,
}

impl Images {
    /// All of them.
    fn all(&self) -> impl Iterator<Item = &Built> {
        let always = [&self.operator, &self.worker, &self.worker_baked, &self.sample, &self.store];
        always.into_iter().chain(&self.worker_faults)
    }

    /// Makes the images known to the local cluster.
    pub(crate) fn import(&self, cluster: &Cluster) -> Result<()> {
        self.all().try_for_each(|image| import(image, cluster))
    }
}

fn import(image: &Built, cluster: &Cluster) -> Result<()> {
    term::detail(&format!("importing {}", image.reference));
    cluster.import_image(&image.tar)?;
    Ok(())
}

/// `cargo xtask images`.
pub(crate) fn run(workspace: &Workspace, args: &ImagesArgs) -> Result<()> {
    let profile = if args.release { Profile::Release } else { Profile::Dev };
    let images = build(workspace, profile)?;
    let for_gpus = args.cuda.then(|| cuda::image::write(workspace, args.chip, profile));
    let for_gpus = for_gpus.transpose()?;
    if args.import {
        let cluster = Cluster::at(workspace.root());
        images.import(&cluster)?;
        for_gpus.iter().try_for_each(|image| import(image, &cluster))?;
    }
    for image in images.all().chain(&for_gpus) {
        term::line(&format!("{}\n    {}", image.reference, image.tar.display()));
    }
    term::line(
        "\nDocker 25 or later: docker load --input TAR
A registry:         skopeo copy oci-archive:TAR docker://HOST/NAME:TAG",
    );
    Ok(())
}

/// Builds the programs and writes the images.
pub(crate) fn build(workspace: &Workspace, profile: Profile) -> Result<Images> {
    let mut command = Exec::new("build the programs", "cargo")
        .args(["build", "--workspace", "--bins"])
        .dir(workspace.root())
        .deadline(Duration::from_hours(2));
    if profile == Profile::Release {
        command = command.args(["--release"]);
    }
    term::step("images: building the programs");
    command.run(&workspace.logs())?;
    faults::check_absent(&workspace.binary(WORKER, profile))?;
    if profile == Profile::Dev {
        faults::build(workspace)?;
    }

    let minilm = model::minilm(workspace)?;
    let models = workspace.path(".local/store");
    if models.exists() {
        std::fs::remove_dir_all(&models)
            .with_context(|| format!("cannot remove {}", models.display()))?;
    }
    Exec::new("make the store's models", workspace.binary("lamplighter-fixtures", profile))
        .args(["bucket", "--out"])
        .args([&models])
        .args(["--minilm"])
        .args([&minilm])
        .deadline(Duration::from_mins(5))
        .run(&workspace.logs())?;

    term::step("images: writing OCI tar files");
    let writer = Writer { workspace, profile };
    let tiny = models.join("models/tiny");
    Ok(Images {
        operator: writer.write("operator", "lamplighter-operator", Vec::new(), None)?,
        worker: writer.write("worker", WORKER, Vec::new(), None)?,
        worker_baked: writer.write(
            "worker-baked",
            WORKER,
            tree(&tiny, Path::new("/models/tiny"))?,
            None,
        )?,
        sample: writer.write(
            "worker-minilm",
            WORKER,
            tree(&minilm, Path::new("/models/all-MiniLM-L6-v2"))?,
            Some(SAMPLE),
        )?,
        store: writer.write(
            "store",
            "lamplighter-s3",
            tree(&models, Path::new("/models"))?,
            None,
        )?,
        worker_faults: match profile {
            Profile::Dev => {
                Some(writer.write("worker-faults", faults::WORKER, Vec::new(), None)?)
            }
            Profile::Release => None,
        },
    })
}

/// The worker's program.
pub(crate) const WORKER: &str = "lamplighter-worker";

/// A model's tensors are given back to the operating system when they have been packed, instead of
/// leaving holes between others: by default glibc raises the size from which it does that with the
/// first of them, and keeps an arena for each thread
/// (<https://man7.org/linux/man-pages/man3/mallopt.3.html>). `cargo xtask bench load` shows the peak.
pub(crate) const WORKER_ALLOCATOR: [(&str, &str); 2] =
    [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "262144")];

/// Writes images of programs that were built in a profile.
pub(crate) struct Writer<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) profile: Profile,
}

/// What images differ by.
pub(crate) struct Parts<'a> {
    /// The program that runs.
    pub(crate) entrypoint: &'a Path,
    /// What there is, that program included.
    pub(crate) files: Vec<ImageFile>,
    /// The environment beside the path.
    pub(crate) env: &'a [(&'a str, &'a str)],
}

impl Writer<'_> {
    fn write(
        &self,
        name: &str,
        program: &str,
        extra: Vec<ImageFile>,
        reference: Option<&str>,
    ) -> Result<Built> {
        let binary = self.workspace.binary(program, self.profile);
        let inside = Path::new("/usr/local/bin").join(program);
        let mut files = base_files();
        files.extend(binary_closure(&binary)?);
        files.push(ImageFile::program(&inside, &binary));
        files.extend(extra);
        let env: &[_] = if program.starts_with(WORKER) { &WORKER_ALLOCATOR } else { &[] };
        self.write_parts(name, Parts { entrypoint: &inside, files, env }, reference)
    }

    /// As OCI tar file of this name.
    pub(crate) fn write_parts(
        &self,
        name: &str,
        parts: Parts<'_>,
        reference: Option<&str>,
    ) -> Result<Built> {
        let mut image = Image {
            reference: reference.map_or(format!("{REGISTRY}/{name}:unnamed"), str::to_owned),
            files: parts.files,
            entrypoint: vec![parts.entrypoint.display().to_string()],
            user: USER.to_owned(),
            env: environment(parts.env),
            labels: labels(name),
        };
        let tar = self.workspace.path(".local/images").join(format!("{name}.tar"));
        // The name is no part of the digest, so it can be made from it: a changed program is
        // a changed name, and no node ever runs an older image by mistake.
        let digest = image.write(&tar).with_context(|| format!("cannot write image {name}"))?;
        if reference.is_some() {
            return Ok(Built { reference: image.reference, tar });
        }
        let tag = digest.trim_start_matches("sha256:").chars().take(12).collect::<String>();
        image.reference = format!("{REGISTRY}/{name}:{tag}");
        image.write(&tar).with_context(|| format!("cannot write image {name}"))?;
        Ok(Built { reference: image.reference, tar })
    }
}

fn environment(more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let path = ("PATH", "/usr/local/bin");
    let all = std::iter::once(&path).chain(more);
    all.map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn labels(name: &str) -> BTreeMap<String, String> {
    [
        ("org.opencontainers.image.title", format!("lamplighter-{name}")),
        ("org.opencontainers.image.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("org.opencontainers.image.licenses", "Apache-2.0".to_owned()),
        ("org.opencontainers.image.source", env!("CARGO_PKG_REPOSITORY").to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// A folder with all that lies below it, as entries of an image. Links are followed.
fn tree(folder: &Path, inside: &Path) -> Result<Vec<ImageFile>> {
    let mut files =
        vec![ImageFile { path: inside.to_owned(), content: Content::Folder, mode: 0o755 }];
    let mut entries = std::fs::read_dir(folder)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .with_context(|| format!("cannot read {}", folder.display()))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, inside) = (entry.path(), inside.join(entry.file_name()));
        if path.is_dir() {
            files.extend(tree(&path, &inside)?);
        } else {
            files.push(ImageFile::copy(inside, path));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_listed_with_its_folders() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        std::fs::write(folder.path().join("b/c"), "c").unwrap();
        std::fs::write(folder.path().join("a"), "a").unwrap();
        let paths: Vec<_> = tree(folder.path(), Path::new("/models"))
            .unwrap()
            .into_iter()
            .map(|file| file.path.display().to_string())
            .collect();
        assert_eq!(paths, ["/models", "/models/a", "/models/b", "/models/b/c"]);
    }

    #[test]
    fn a_reference_splits_into_repository_and_tag() {
        let built =
            Built { reference: "localhost/lamplighter/worker:abc".to_owned(), tar: PathBuf::new() };
        assert_eq!(built.split(), ("localhost/lamplighter/worker", "abc"));
    }
}
