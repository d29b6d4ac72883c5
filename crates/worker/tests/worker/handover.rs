//! The real binary beside another program that has code for GPUs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use lamplighter_protocol::{Failure, Phase, Reason};

use crate::support::artifact::{Place, Tiny};
use crate::support::process::{self, BINARY};

/// A manifest for a GPU, and the binary in a folder with this script as the program for GPUs.
fn beside(script: &str) -> Place {
    let place = Place::new(&Tiny::new());
    place.write_manifest_for("Cuda", &[place.entry("embedder")]);
    let program = place.path().join("lamplighter-worker");
    if fs::hard_link(BINARY, &program).is_err() {
        fs::copy(BINARY, &program).unwrap();
    }
    let other = place.path().join("lamplighter-worker-cuda");
    fs::write(&other, script).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    place
}

async fn serve(place: &Place) -> process::Ended {
    let program = place.path().join("lamplighter-worker");
    process::to_end(process::serving(&program, place.path(), &[])).await
}

#[tokio::test]
async fn what_is_to_run_on_a_gpu_is_served_by_the_program_for_that() {
    let place = beside("#!/bin/sh\n[ \"$1\" = --version ] || { echo \"$@\" >$0.line; exit 7; }\n");
    let ended = serve(&place).await;
    assert_eq!(ended.status.code(), Some(7), "{ended:?}");
    let line = fs::read_to_string(place.path().join("lamplighter-worker-cuda.line")).unwrap();
    let manifest = place.path().join("manifest.json").display().to_string();
    assert!(line.starts_with("serve ") && line.contains(&manifest), "{line}");
}

#[tokio::test]
async fn where_the_driver_is_missing_the_failure_says_what_the_loader_said() {
    let said = "libcuda.so.1: cannot open shared object file: No such file or directory";
    let place = beside(&format!("#!/bin/sh\necho '{said}' >&2\nexit 127\n"));
    let ended = serve(&place).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let failure = last_words(place.termination_log().as_ref());
    assert_eq!((failure.reason, failure.phase), (Reason::DeviceUnavailable, Some(Phase::Transfer)));
    for part in [said, "nvidia.com/gpu", "runtimeClassName"] {
        assert!(failure.message.contains(part), "{failure}");
    }
}

#[tokio::test]
async fn whoever_is_told_to_stop_before_the_other_program_has_started_stops() {
    let place = beside("#!/bin/sh\necho >$0.begun\nexec sleep 60\n");
    let program = place.path().join("lamplighter-worker");
    let mut child = process::serving(&program, place.path(), &[]).spawn().unwrap();
    let begun = place.path().join("lamplighter-worker-cuda.begun");
    let in_time = tokio::time::timeout(Duration::from_secs(20), async {
        while !begun.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().await.unwrap()
    });
    let status = in_time.await.expect("it stops in time");
    assert_eq!(status.code(), Some(0), "{status:?}");
}

#[tokio::test]
async fn what_is_to_run_on_the_processor_is_never_handed_over() {
    let place = beside("#!/bin/sh\nexit 7\n");
    fs::remove_dir_all(place.artifact()).unwrap();
    place.write_manifest(&[place.entry("embedder")]);
    let ended = serve(&place).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let failure = last_words(place.termination_log().as_ref());
    assert_eq!(failure.reason, Reason::ArtifactNotFound);
}

fn last_words(path: &Path) -> Failure {
    let words = fs::read_to_string(path).unwrap();
    Failure::from_termination_message(&words).expect(&words)
}
