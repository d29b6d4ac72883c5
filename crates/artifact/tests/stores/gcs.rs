//! Google Cloud Storage's XML API is that of S3 where only reading is concerned, so an S3 server
//! answers it (<https://cloud.google.com/storage/docs/interoperability>).

use std::fs;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use lamplighter_artifact::ArtifactError;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

use crate::model::{Counts, Files, Scene, assert_is, files};

/// A server over a folder that asks nobody who he is; the folder lives as long as the test.
async fn serve(files: &Files) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = folder.path().join("models/minilm").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap()).build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let server = Builder::new(TokioExecutor::new());
        while let Ok((socket, _)) = listener.accept().await {
            let connection =
                server.serve_connection(TokioIo::new(socket), service.clone()).into_owned();
            tokio::spawn(async move { drop(connection.await) });
        }
    });
    (folder, url)
}

#[tokio::test]
async fn a_prefix_of_a_bucket_comes_whole() {
    let (_folder, url) = serve(&files()).await;
    let settings = [("GOOGLE_BASE_URL", url.as_str()), ("GOOGLE_SKIP_SIGNATURE", "true")];
    let scene = Scene::new("gs://models/minilm", &settings);
    assert_is(&scene.load(&Counts::default()).await.unwrap(), &files());
    let resolved = scene.look(&Counts::default()).await.unwrap();
    assert_eq!(resolved.files.len(), files().len());

    let scene = Scene::new("gs://models/other", &settings);
    let error = scene.look(&Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::NotFound { .. }), "{error:?}");
    let scene = Scene::new("gs://elsewhere/minilm", &settings);
    let error = scene.look(&Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::BucketMissing { .. }), "{error:?}");
    assert!(error.to_string().contains("GOOGLE_BASE_URL"), "{error}");
}
