//! Azure Blob Storage: what its REST API says to a client that lists and reads
//! (<https://learn.microsoft.com/en-us/rest/api/storageservices/list-blobs>).

use std::fmt::Write as _;

use lamplighter_artifact::ArtifactError;

use crate::model::{Counts, Scene, assert_is, files, hex};
use crate::server::{Answer, Request, Server};

/// The well-known key of the emulator
/// (<https://learn.microsoft.com/en-us/azure/storage/common/storage-use-azurite#well-known-storage-account-and-key>).
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

fn answer(request: &Request) -> Answer {
    let signed = request.header("authorization").unwrap_or_default();
    if !signed.starts_with("SharedKey lamp:") {
        return Answer::new(403, "<Error><Code>AuthenticationFailed</Code></Error>");
    }
    let files = files();
    if request.path == "/lamp/models" && request.query.contains("comp=list") {
        assert!(request.query.contains("prefix=minilm"), "{}", request.query);
        let mut blobs = String::new();
        for (path, content) in &files {
            write!(
                blobs,
                "<Blob><Name>minilm/{path}</Name><Properties>\
                 <Last-Modified>Mon, 05 Jan 2026 10:00:00 GMT</Last-Modified>\
                 <Etag>\"{}\"</Etag><Content-Length>{}</Content-Length>\
                 <Content-Type>application/octet-stream</Content-Type>\
                 <BlobType>BlockBlob</BlobType></Properties></Blob>",
                &hex(content)[..16],
                content.len()
            )
            .unwrap();
        }
        let body = format!(
            "<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker /></EnumerationResults>"
        );
        return Answer::new(200, body);
    }
    let path = request.path.strip_prefix("/lamp/models/minilm/");
    match path.and_then(|path| files.get(path)) {
        Some(content) => Answer::file(request, content, &format!("\"{}\"", &hex(content)[..16]))
            .with("last-modified", "Mon, 05 Jan 2026 10:00:00 GMT"),
        None => Answer::new(404, "<Error><Code>ContainerNotFound</Code></Error>"),
    }
}

#[tokio::test]
async fn a_prefix_of_a_container_comes_whole() {
    let server = Server::plain(answer).await;
    let endpoint = format!("{}/lamp", server.url());
    let settings = [
        ("AZURE_STORAGE_ACCOUNT_NAME", "lamp"),
        ("AZURE_STORAGE_ACCOUNT_KEY", KEY),
        ("AZURE_STORAGE_ENDPOINT", endpoint.as_str()),
    ];
    let scene = Scene::new("az://models/minilm", &settings);
    assert_is(&scene.load(&Counts::default()).await.unwrap(), &files());

    let scene = Scene::new("az://elsewhere/minilm", &settings);
    let error = scene.look(&Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::BucketMissing { .. }), "{error:?}");

    let nobody = [settings[0], settings[2], ("AZURE_SKIP_SIGNATURE", "true")];
    let error = Scene::new("az://models/minilm", &nobody).look(&Counts::default()).await;
    assert!(matches!(error, Err(ArtifactError::AuthDenied { .. })), "{error:?}");
}
