//! The two images that the cluster itself needs, made of programs that were built here.

use std::fs;
use std::path::Path;

use crate::error::Error;
use crate::layout::{self, Layout};
use crate::node::ctr;
use crate::oci::{Image, ImageFile};

/// The image of the process that holds each pod's namespaces.
pub(crate) fn pause(layout: &Layout) -> Result<String, Error> {
    reference(layout, "pause")
}

/// The image of the name service.
pub(crate) fn coredns(layout: &Layout) -> Result<String, Error> {
    reference(layout, "coredns")
}

/// The tag says what the program was built from, so that a new build is a new image.
fn reference(layout: &Layout, program: &str) -> Result<String, Error> {
    let path = layout.stamp(program);
    let stamp = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let tag = stamp.get(..12).unwrap_or("unknown");
    Ok(format!("lamplighter.test/{program}:{tag}"))
}

/// Imports the images that containerd does not have yet.
pub(crate) fn ensure(layout: &Layout) -> Result<(), Error> {
    let known = ctr(layout, ["images", "list", "--quiet"]).output()?;
    for program in ["pause", "coredns"] {
        let reference = reference(layout, program)?;
        if known.lines().any(|line| line == reference) {
            continue;
        }
        let path = format!("/{program}");
        let image = Image {
            reference,
            files: vec![ImageFile::program(&path, layout.bin(program))],
            entrypoint: vec![path],
            ..Image::default()
        };
        let tar = layout.run.join(format!("{program}.tar"));
        image.write(&tar)?;
        import(layout, &tar)?;
        layout::remove(&tar)?;
    }
    Ok(())
}

/// Makes the image of a tar file known to the kubelet.
pub(crate) fn import(layout: &Layout, tar: &Path) -> Result<(), Error> {
    ctr(layout, ["images", "import"]).args([tar]).output().map(|_| ())
}
