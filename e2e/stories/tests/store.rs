//! The test store, asked by the client library that the worker uses.

use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use futures::TryStreamExt as _;
use lamplighter_e2e::fixtures::{BUCKET, Variant, write_bucket};
use lamplighter_e2e::s3::{Distance, Store, serve};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const KEYS: (&str, &str) = ("lamp", "wick-and-oil");
const WEIGHTS: &str = "all-MiniLM-L6-v2/model.safetensors";

struct Running {
    address: String,
    stop: Arc<Notify>,
    server: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn start(root: &Path, in_memory: bool) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let store = Store {
            root: root.to_owned(),
            access_key: KEYS.0.to_owned(),
            secret_key: KEYS.1.to_owned(),
            in_memory,
            distance: Distance::default(),
        };
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let server = tokio::spawn(async move {
            serve(listener, store, async move { stopped.notified().await }).await
        });
        Ok(Self { address, stop, server })
    }

    fn client(&self, bucket: &str, keys: (&str, &str)) -> anyhow::Result<AmazonS3> {
        Ok(AmazonS3Builder::new()
            .with_endpoint(&self.address)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name(bucket)
            .with_access_key_id(keys.0)
            .with_secret_access_key(keys.1)
            .build()?)
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.notify_one();
        self.server.await?
    }
}

/// A bucket with ten bytes in place of the real weights: 90 MB would tell nothing more.
async fn bucket(root: &Path) -> anyhow::Result<usize> {
    let minilm = tempfile::tempdir()?;
    std::fs::write(minilm.path().join("model.safetensors"), b"0123456789")?;
    std::fs::write(minilm.path().join(".hidden"), b"left out")?;
    write_bucket(root, minilm.path()).await
}

#[tokio::test]
async fn the_right_keys_list_a_prefix_and_read_whole_and_in_part() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    let objects = bucket(root.path()).await?;
    for in_memory in [false, true] {
        list_and_read(root.path(), objects, in_memory).await?;
    }
    Ok(())
}

async fn list_and_read(root: &Path, objects: usize, in_memory: bool) -> anyhow::Result<()> {
    let running = Running::start(root, in_memory).await?;
    let client = running.client(BUCKET, KEYS)?;
    let all: Vec<_> = client.list(None).try_collect().await?;
    ensure!(all.len() == objects, "{} of {objects} objects listed", all.len());
    let prefix = Key::from(Variant::SOUND.prefix());
    let sound: Vec<_> = client.list(Some(&prefix)).try_collect().await?;
    ensure!(sound.len() == 10, "{sound:#?}");
    ensure!(sound.iter().all(|object| object.location.as_ref().starts_with("tiny/sound/")));

    let key = Key::from(WEIGHTS);
    let whole = client.get(&key).await?;
    // The MD5 of the content, as S3 itself does for objects that were uploaded in one part.
    let tag = whole.meta.e_tag.clone();
    let md5 = "\"781e5e245d69b566979b86e28d23f2c7\"";
    ensure!(in_memory || tag.as_deref() == Some(md5), "{tag:?}");
    ensure!(whole.bytes().await?.as_ref() == b"0123456789");
    ensure!(client.get_range(&key, 3..6).await?.as_ref() == b"345");
    running.stop().await
}

#[tokio::test]
async fn wrong_keys_are_refused_and_missing_things_are_not_found() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    bucket(root.path()).await?;
    let running = Running::start(root.path(), false).await?;
    for wrong in [("lamp", "water"), ("nobody", "wick-and-oil")] {
        let refused = running.client(BUCKET, wrong)?.get(&Key::from(WEIGHTS)).await;
        ensure!(
            matches!(refused, Err(object_store::Error::PermissionDenied { .. })),
            "{wrong:?}: {refused:?}"
        );
    }
    let missing = running.client(BUCKET, KEYS)?.get(&Key::from("nothing/here")).await;
    ensure!(matches!(missing, Err(object_store::Error::NotFound { .. })), "{missing:?}");
    let listed: Result<Vec<_>, _> =
        running.client("no-such-bucket", KEYS)?.list(None).try_collect().await;
    // The client has no kind of its own for a bucket that is not there.
    let listed = format!("{listed:?}");
    ensure!(listed.contains("status: 404") && listed.contains("NoSuchBucket"), "{listed}");
    running.stop().await
}

#[tokio::test]
async fn a_bucket_is_not_written_over_another() -> anyhow::Result<()> {
    let root = tempfile::tempdir()?;
    std::fs::write(root.path().join("something"), b"")?;
    let refused = write_bucket(root.path(), root.path()).await;
    ensure!(format!("{refused:?}").contains("not empty"), "{refused:?}");
    Ok(())
}
