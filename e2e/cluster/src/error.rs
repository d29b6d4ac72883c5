//! What can go wrong, each as a sentence that names the thing and the way out.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the cluster could not be brought up, asked, or taken down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The machine lacks something that a Kubernetes node needs.
    #[error("this machine cannot run the cluster yet:\n{}", bullets(.0))]
    Machine(Vec<String>),

    /// Another checkout's cluster runs here, and it is not healthy enough to be shared.
    #[error(
        "the cluster of this machine was started from {} and is not healthy; \
         run `cargo xtask cluster up` there, or `cargo xtask cluster down` here first",
        .0.display()
    )]
    OwnedElsewhere(PathBuf),

    /// Another process is starting or stopping the cluster and did not finish.
    #[error(
        "another `cargo xtask cluster` has been at work for more than {} s (it holds {}); \
         wait for it or end it",
        waited.as_secs(),
        lock.display()
    )]
    Busy {
        /// How long this call waited.
        waited: Duration,
        /// The lock file that is held.
        lock: PathBuf,
    },

    /// Something was asked of a cluster that does not run.
    #[error("{0} is not running; start the cluster with `cargo xtask cluster up`")]
    NotRunning(&'static str),

    /// A program from outside the project is missing.
    #[error("`{program}` was not found on PATH; {remedy}")]
    Missing {
        /// The program.
        program: String,
        /// How to get it.
        remedy: &'static str,
    },

    /// A command ended with a failure.
    #[error("`{command}` failed ({outcome}): {output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        outcome: String,
        /// The last lines that it wrote.
        output: String,
    },

    /// A tool did not build.
    #[error("building {tool} failed: {last}; the whole output is in {}", log.display())]
    Build {
        /// The tool.
        tool: &'static str,
        /// The last lines of the output.
        last: String,
        /// The whole output.
        log: PathBuf,
    },

    /// A tool took too long to build.
    #[error(
        "building {tool} took more than {} s and was ended: {last}; the whole output is in {}",
        waited.as_secs(),
        log.display()
    )]
    BuildTimeout {
        /// The tool.
        tool: &'static str,
        /// How long it was given.
        waited: Duration,
        /// The last lines of the output.
        last: String,
        /// The whole output.
        log: PathBuf,
    },

    /// A component ended although it should have stayed.
    #[error("{component} ended right after it was started: {last}; its log is {}", log.display())]
    Ended {
        /// The component.
        component: &'static str,
        /// The last line of its log.
        last: String,
        /// Its log.
        log: PathBuf,
    },

    /// A component is alive, and not ready in time.
    #[error(
        "{what} was not ready after {} s; last seen: {last}; look at {}",
        waited.as_secs(),
        log.display()
    )]
    NotReady {
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
        /// What was seen last.
        last: String,
        /// The log that should tell why.
        log: PathBuf,
    },

    /// Something of the cluster survived its teardown.
    #[error("the cluster is down except for: {}", .0.join("; "))]
    LeftOver(Vec<String>),

    /// An image cannot be made from what was given.
    #[error("cannot make the image {reference}: {why}")]
    Image {
        /// The image's reference.
        reference: String,
        /// What is wrong with its description.
        why: String,
    },

    /// A key or certificate could not be made.
    #[error("cannot make the certificate of {name}: {source}")]
    Certificate {
        /// Whose certificate.
        name: &'static str,
        /// Why.
        source: rcgen::Error,
    },

    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// The operation, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// A mapping for `map_err` that says which operation on which file failed.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

fn bullets(sentences: &[String]) -> String {
    let lines: Vec<String> = sentences.iter().map(|s| format!("  - {s}")).collect();
    lines.join("\n")
}
