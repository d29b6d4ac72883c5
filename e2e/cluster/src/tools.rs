//! The programs of the cluster, built from the Go module proxy.
//!
//! Versions and checksums stand in the `go.mod` and `go.sum` files below
//! `e2e/kubernetes`. A tool is built again only when one of those, its source or the
//! version of Go changed.

use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use sha2::{Digest as _, Sha256};

use crate::Progress;
use crate::command::last_lines;
use crate::error::Error;
use crate::layout::{self, Layout};
use crate::oci::hex;
use crate::wait::{self, Look};

struct Tool {
    name: &'static str,
    /// Its module, below `e2e/kubernetes`.
    module: &'static str,
    /// What to build in it; `tool` is what its `tool` directives name.
    package: &'static str,
    programs: &'static [&'static str],
    /// Settings of the linker. Kubernetes calls itself v0.0.0 unless it is told.
    link: &'static str,
}

const TOOLS: [Tool; 5] = [
    Tool {
        name: "kubernetes",
        module: "",
        package: ".",
        programs: &["kubernetes"],
        link: "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
               -X k8s.io/component-base/version.gitMajor=1 \
               -X k8s.io/component-base/version.gitMinor=36",
    },
    Tool { name: "pause", module: "", package: "./pause", programs: &["pause"], link: "-s -w" },
    Tool {
        name: "containerd",
        module: "tools/containerd",
        package: "tool",
        programs: &["containerd", "containerd-shim-runc-v2", "ctr"],
        link: "-s -w -X github.com/containerd/containerd/v2/version.Version=v2.4.2",
    },
    Tool {
        name: "coredns",
        module: "tools/coredns",
        package: "tool",
        programs: &["coredns"],
        link: "-s -w",
    },
    Tool {
        name: "helm",
        module: "tools/helm",
        package: "tool",
        programs: &["helm"],
        link: "-s -w",
    },
];

const TICK: Duration = Duration::from_secs(15);
/// Several times what the slowest tool takes on two cores with nothing downloaded yet.
const BUILD_LIMIT: Duration = Duration::from_mins(30);

/// Builds what is missing or out of date.
pub(crate) fn ensure(layout: &Layout, progress: &dyn Progress) -> Result<(), Error> {
    let go = Go::find()?;
    for tool in &TOOLS {
        let stamp = stamp(layout, tool, &go)?;
        let stamp_file = layout.stamp(tool.name);
        let has_all = tool.programs.iter().all(|program| layout.bin(program).exists());
        if has_all && fs::read_to_string(&stamp_file).is_ok_and(|built| built == stamp) {
            continue;
        }
        progress.step(&format!("building {} (once; the first time takes minutes)", tool.name));
        build(layout, tool, &go, progress)?;
        layout::write(&stamp_file, &stamp, 0o644)?;
    }
    Ok(())
}

struct Go {
    program: PathBuf,
    version: String,
}

impl Go {
    /// Go as on PATH, or where its own installer puts it, which sudo hides.
    fn find() -> Result<Self, Error> {
        for program in ["go", "/usr/local/go/bin/go"] {
            if let Ok(output) = Command::new(program).arg("version").output() {
                let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                return Ok(Self { program: program.into(), version });
            }
        }
        Err(Error::Missing {
            program: "go".to_owned(),
            remedy: "install Go 1.26.6 or newer from https://go.dev/dl",
        })
    }
}

fn stamp(layout: &Layout, tool: &Tool, go: &Go) -> Result<String, Error> {
    let module = module(layout, tool);
    let mut inputs: Vec<PathBuf> = sources(&module)?;
    if tool.package.starts_with("./") {
        inputs.extend(sources(&module.join(tool.package))?);
    }
    let mut hash = Sha256::new();
    for part in [go.version.as_str(), tool.package, tool.link] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    for input in inputs {
        hash.update(fs::read(&input).map_err(Error::file("read", &input))?);
        hash.update([0]);
    }
    Ok(hex(&hash.finalize()))
}

fn module(layout: &Layout, tool: &Tool) -> PathBuf {
    layout.repo.join("e2e/kubernetes").join(tool.module)
}

/// The files that decide what is built, in a fixed order.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(Error::file("read", folder))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("go" | "mod" | "sum"))
        })
        .collect();
    files.sort();
    Ok(files)
}

fn build(layout: &Layout, tool: &Tool, go: &Go, progress: &dyn Progress) -> Result<(), Error> {
    let aside = layout.repo.join(".local/building").join(tool.name);
    layout::remove(&aside)?;
    layout::create_dir(&aside)?;
    let mut target = aside.clone().into_os_string();
    target.push("/");
    let mut command = Command::new(&go.program);
    command
        .current_dir(module(layout, tool))
        .args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", tool.link, "-o"])
        .arg(target)
        .arg(tool.package)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off");
    follow(layout, tool.name, command, BUILD_LIMIT, progress)?;

    // Renamed into place, because the old program may be running.
    layout::create_dir(&layout.repo.join(".local/bin"))?;
    for program in tool.programs {
        let built = aside.join(program);
        fs::rename(&built, layout.bin(program)).map_err(Error::file("install", &built))?;
    }
    layout::remove(&aside)
}

/// Runs the build and says how far it is: the compiler prints each package it is done with.
fn follow(
    layout: &Layout,
    tool: &'static str,
    mut command: Command,
    limit: Duration,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let path = layout.build_log(&format!("build-{tool}"));
    layout::create_dir(path.parent().unwrap_or(Path::new("/")))?;
    let mut log = fs::File::create(&path).map_err(Error::file("write", &path))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A group of its own, so that the compilers it starts can be ended with it.
        .process_group(0)
        .spawn()
        .map_err(Error::file("run", Path::new("go")))?;

    let (sender, lines) = mpsc::channel();
    if let Some(output) = child.stderr.take() {
        std::thread::spawn(move || {
            for line in io::BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
    }
    let started = Instant::now();
    let deadline = started + limit;
    let mut next_tick = started + TICK;
    let (mut packages, mut downloads) = (0, 0);
    while Instant::now() < deadline {
        let next = next_tick.min(deadline);
        match lines.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                // A full disk shows better in the build itself.
                let _ = writeln!(log, "{line}");
                if line.starts_with("go: downloading") {
                    downloads += 1;
                } else {
                    packages += 1;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                next_tick += TICK;
                progress.detail(&format!(
                    "{tool}: {packages} packages compiled, {downloads} modules fetched, {} s",
                    started.elapsed().as_secs()
                ));
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let ended = wait::until(deadline.saturating_duration_since(Instant::now()), || {
        let status = child.try_wait().map_err(Error::file("wait for", Path::new("go")))?;
        Ok(status.map_or(Look::Pending(String::new()), Look::Ready))
    })?;
    if ended.as_ref().is_ok_and(ExitStatus::success) {
        return Ok(());
    }
    let last = last_lines(&fs::read_to_string(&path).unwrap_or_default(), 4);
    if ended.is_ok() {
        return Err(Error::Build { tool, last, log: path });
    }
    end_group(&mut child)?;
    Err(Error::BuildTimeout { tool, waited: limit, last, log: path })
}

/// Ends a child that leads a process group and was not waited for, and all of its group.
fn end_group(child: &mut Child) -> Result<(), Error> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let failed = Error::file("end", Path::new("go"));
    if let Some(group) = group {
        kill_process_group(group, Signal::KILL).map_err(|error| failed(error.into()))?;
    }
    child.wait().map(drop).map_err(Error::file("wait for", Path::new("go")))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Silent;

    impl Progress for Silent {
        fn step(&self, _: &str) {}
        fn detail(&self, _: &str) {}
    }

    fn follow_script(script: &str, limit: Duration) -> Result<(), Error> {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::of_machine(folder.path());
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        follow(&layout, "shell", command, limit, &Silent)
    }

    #[test]
    fn a_build_that_fails_says_its_last_words() {
        let limit = Duration::from_mins(1);
        follow_script("echo fine >&2", limit).unwrap();
        let error = follow_script("echo no such module >&2; exit 1", limit).unwrap_err();
        assert!(matches!(&error, Error::Build { last, .. } if last == "no such module"), "{error}");
    }

    #[test]
    fn a_build_that_takes_too_long_is_ended_with_all_its_processes() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("alive");
        // A FIFO is at its end for the reader when the last writer is gone.
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let script = format!("echo begun >&2; sleep 600 > {} & wait", pipe.display());
        let (sender, read) = mpsc::channel();
        std::thread::spawn(move || sender.send(fs::read(pipe)));
        let error = follow_script(&script, Duration::from_secs(2)).unwrap_err();
        assert!(matches!(&error, Error::BuildTimeout { last, .. } if last == "begun"), "{error}");
        let read = read.recv_timeout(Duration::from_mins(1)).expect("a process is left");
        assert_eq!(read.unwrap(), b"");
    }
}
