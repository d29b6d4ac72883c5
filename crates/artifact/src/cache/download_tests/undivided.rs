//! Stores that hand out no parts.

use super::*;

/// A store that does not say that it hands out parts.
#[derive(Debug)]
struct Undivided {
    inner: InMemory,
    /// Where the bytes of the weights go to.
    root: PathBuf,
    /// By how many bytes the weights that were handed out were at most ahead of those on the disk.
    ahead: Arc<AtomicU64>,
    /// How often the weights were asked for.
    times: Arc<AtomicU64>,
}

const PIECE: usize = 1 << 20;

impl crate::source::Source for Undivided {
    fn list<'a>(
        &'a self,
        activity: &'a Activity,
    ) -> futures::future::BoxFuture<'a, Result<crate::source::Listing, ArtifactError>> {
        Box::pin(async move {
            let inner = remote(Arc::new(self.inner.fork()));
            let mut listing = inner.source.list(activity).await?;
            listing.objects.iter_mut().for_each(|object| object.is_whole = true);
            Ok(listing)
        })
    }

    fn read<'a>(
        &'a self,
        object: &'a Object,
        range: std::ops::Range<u64>,
    ) -> futures::future::BoxFuture<'a, Result<crate::source::Body<'a>, ArtifactError>> {
        Box::pin(async move {
            let path = format!("minilm/{}", object.path);
            let content = self.inner.get(&path.as_str().into()).await.unwrap();
            let content = content.bytes().await.unwrap();
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let content = content.slice(range);
            let is_weights = object.path == "model.safetensors";
            self.times.fetch_add(u64::from(is_weights), Ordering::Relaxed);
            let starts = (0..content.len()).step_by(PIECE);
            let pieces = starts.map(move |start| {
                let end = content.len().min(start + PIECE);
                let there = crate::cache::partial::size(&self.root);
                let ahead = (end as u64).saturating_sub(there);
                if is_weights {
                    self.ahead.fetch_max(ahead, Ordering::Relaxed);
                }
                Ok(content.slice(start..end))
            });
            Ok(stream::iter(pieces).boxed())
        })
    }
}

#[tokio::test]
async fn a_file_that_comes_whole_is_written_as_it_comes() {
    let (_cache, shelf) = shelf();
    let bytes = 4 * REQUEST_BYTES + 5;
    let memory = InMemory::new();
    put(&memory, &model(bytes)).await;
    let [ahead, times] = [0, 0].map(|zero| Arc::new(AtomicU64::new(zero)));
    let source = Box::new(Undivided {
        inner: memory,
        root: shelf.root().to_owned(),
        ahead: Arc::clone(&ahead),
        times: Arc::clone(&times),
    });
    let in_flight = Arc::new(crate::Budget::for_downloads());
    let remote = Remote { source, origin: origin("http://one"), patience: PATIENCE, in_flight };
    let counts = Counts::default();
    let fetched = fetch(&remote, &shelf, &counts).await.unwrap();
    let weights = fs::read(fetched.root().join("model.safetensors")).unwrap();
    assert!(weights == safetensors(bytes), "the parts do not fit together");
    let ahead = ahead.load(Ordering::Relaxed);
    assert!(ahead <= REQUEST_BYTES + PIECE as u64, "{ahead} bytes were in memory");
    assert_eq!(times.load(Ordering::Relaxed), 1, "each request brings the whole");
    let [total, added] = [&counts.total, &counts.added].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(total, added);
}
