//! S3, while its connections break: what its REST API says to a client that lists and reads
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>). Workers are tested with a
//! server that is whole.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use lamplighter_artifact::ArtifactError;

use crate::model::{Counts, Scene, WEIGHTS, assert_is, files, hex};
use crate::server::{Answer, Fault, Request, Server};

fn answer(request: &Request) -> Answer {
    let files = files();
    if request.path == "/models" && request.query.contains("list-type=2") {
        assert!(request.query.contains("prefix=minilm"), "{}", request.query);
        let mut objects = String::new();
        for (path, content) in &files {
            write!(
                objects,
                "<Contents><Key>minilm/{path}</Key><LastModified>2026-01-05T10:00:00.000Z</LastModified>\
                 <ETag>\"{}\"</ETag><Size>{}</Size></Contents>",
                &hex(content)[..16],
                content.len()
            )
            .unwrap();
        }
        let body = format!(
            "<ListBucketResult><Name>models</Name><IsTruncated>false</IsTruncated>{objects}\
             </ListBucketResult>"
        );
        return Answer::new(200, body);
    }
    match request.path.strip_prefix("/models/minilm/").and_then(|path| files.get(path)) {
        Some(content) => Answer::file(request, content, &format!("\"{}\"", &hex(content)[..16]))
            .with("last-modified", "Mon, 05 Jan 2026 10:00:00 GMT"),
        None => Answer::new(404, "<Error><Code>NoSuchKey</Code></Error>"),
    }
}

/// What the range of the second request for the weights begins with.
const SECOND: &str = "bytes=8388608-";

fn scene(server: &Server) -> Scene {
    let settings = [
        ("AWS_ACCESS_KEY_ID", "lamp"),
        ("AWS_SECRET_ACCESS_KEY", "wick-and-oil"),
        ("AWS_ENDPOINT_URL", &server.url()),
    ];
    Scene::new("s3://models/minilm", &settings)
}

#[tokio::test]
async fn a_fault_that_passes_is_survived_and_what_came_is_not_asked_for_again() {
    let faults: [(&str, Fault, usize); 9] = [
        ("/models", Fault::Status(503), 2),
        ("/models", Fault::HangUp, 1),
        ("/config.json", Fault::Status(500), 1),
        ("/config.json", Fault::Later(1), 1),
        (WEIGHTS, Fault::Status(502), 2),
        (WEIGHTS, Fault::Truncate(1_000_000), 2),
        (WEIGHTS, Fault::Reset(1_000_000), 2),
        (WEIGHTS, Fault::Reset(0), 1),
        (WEIGHTS, Fault::Longer(10), 1),
    ];
    let each = faults.map(|(part, fault, times)| async move {
        let server = Server::plain(answer).await;
        server.misbehave(part, fault, times);
        let counts = Counts::default();
        let scene = scene(&server);
        let loaded = scene.load(&counts).await;
        let artifact = loaded.unwrap_or_else(|error| panic!("{part} {fault:?}: {error}"));
        assert_is(&artifact, &files());
        assert_eq!(server.unmet(), 0, "{part} {fault:?} did not happen");
        let (total, added) = counts.get();
        assert_eq!(total, added, "{part} {fault:?}: every byte counts once");
        let asked = server.asked();
        let ranges: Vec<&str> =
            asked.iter().filter_map(|request| request.header("range")).collect();
        let goes_on =
            |range: &&str| !["bytes=0-", SECOND].iter().any(|first| range.starts_with(first));
        match fault {
            // Of what was sent before a reset, nobody knows what was read.
            Fault::Reset(_) => {}
            Fault::Truncate(_) => {
                let rest = ranges.iter().any(|range| range.starts_with("bytes=1000000-"));
                assert!(rest, "{ranges:?}");
            }
            _ => assert!(!ranges.iter().any(goes_on), "{part} {fault:?}: {ranges:?}"),
        }
    });
    futures::future::join_all(each).await;
}

#[tokio::test]
async fn a_fault_that_stays_has_its_own_outcome_and_leaves_nothing_that_is_seen() {
    type Check = fn(&ArtifactError) -> bool;
    let denied: Check = |error| matches!(error, ArtifactError::AuthDenied { .. });
    let changed: Check = |error| matches!(error, ArtifactError::ChangedMeanwhile { .. });
    let broken: Check = |error| matches!(error, ArtifactError::Download { .. });
    let faults: [(&str, Fault, Check); 6] = [
        ("/models", Fault::Status(403), denied),
        ("/models", Fault::Status(500), broken),
        (WEIGHTS, Fault::Status(403), denied),
        (WEIGHTS, Fault::Status(404), changed),
        (WEIGHTS, Fault::Status(412), changed),
        (WEIGHTS, Fault::Truncate(0), broken),
    ];
    let each = faults.map(|(part, fault, check)| async move {
        let server = Server::plain(answer).await;
        server.misbehave(part, fault, 100);
        let scene = scene(&server);
        let error = scene.load(&Counts::default()).await.unwrap_err();
        assert!(check(&error), "{part} {fault:?}: {error:?}");
        assert!(scene.visible().is_empty(), "{part} {fault:?}");
    });
    futures::future::join_all(each).await;
}

#[tokio::test]
async fn a_store_that_falls_silent_is_asked_again_for_the_rest() {
    let server = Server::plain(answer).await;
    server.misbehave(WEIGHTS, Fault::Stall(1_000_000), 2);
    let begun = Instant::now();
    let scene = scene(&server);
    let artifact = scene.load(&Counts::default()).await.unwrap();
    assert_is(&artifact, &files());
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    assert_eq!(server.unmet(), 0, "it did not fall silent");
    let asked = server.asked();
    let ranges: Vec<&str> = asked.iter().filter_map(|request| request.header("range")).collect();
    assert!(ranges.iter().any(|range| range.starts_with("bytes=1000000-")), "{ranges:?}");
}
