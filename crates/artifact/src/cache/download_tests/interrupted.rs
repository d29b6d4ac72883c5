//! Downloads that break off, and others that wait for them.

use super::*;

/// How many bytes the store was asked for.
#[derive(Debug)]
struct Asked {
    inner: InMemory,
    bytes: Arc<AtomicU64>,
    /// After how many bytes it answers no more.
    until: u64,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.inner, f)
    }
}

impl crate::source::Source for Asked {
    fn list<'a>(
        &'a self,
        activity: &'a Activity,
    ) -> futures::future::BoxFuture<'a, Result<crate::source::Listing, ArtifactError>> {
        Box::pin(async move {
            let inner = remote(Arc::new(self.inner.fork()));
            inner.source.list(activity).await
        })
    }

    fn read<'a>(
        &'a self,
        object: &'a Object,
        range: std::ops::Range<u64>,
    ) -> futures::future::BoxFuture<'a, Result<crate::source::Body<'a>, ArtifactError>> {
        Box::pin(async move {
            let length = range.end - range.start;
            if self.bytes.fetch_add(length, Ordering::Relaxed) + length > self.until {
                return Err(ArtifactError::Download { uri: URI.into(), found: "cut off".into() });
            }
            let inner = remote(Arc::new(self.inner.fork()));
            let body = inner.source.read(object, range).await?;
            let pieces: Vec<_> = body.collect().await;
            Ok(stream::iter(pieces).boxed())
        })
    }
}

/// A store that answers until it was asked for so many bytes, and how many it was asked for.
fn asked(store: &InMemory, until: u64) -> (Remote, Arc<AtomicU64>) {
    let bytes = Arc::new(AtomicU64::new(0));
    let asked = Asked { inner: store.fork(), bytes: Arc::clone(&bytes), until };
    let source = Box::new(asked);
    (
        Remote {
            source,
            origin: origin("http://one"),
            patience: PATIENCE,
            in_flight: Arc::new(crate::Budget::for_downloads()),
        },
        bytes,
    )
}

#[tokio::test]
async fn an_interrupted_download_is_invisible_and_gone_on_with() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    let bytes = 6 * REQUEST_BYTES + 5;
    put(&memory, &model(bytes)).await;
    let (cut, _) = asked(&memory, 4 * REQUEST_BYTES);
    let counts = Counts::default();
    let error = fetch(&cut, &shelf, &counts).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Download { .. }), "{error:?}");
    assert_eq!(copies(&shelf), 0);
    let kept = crate::cache::partial::size(shelf.root());
    assert!(kept > REQUEST_BYTES, "{kept}");

    let (whole, sent) = asked(&memory, u64::MAX);
    let counts = Counts::default();
    let fetched = fetch(&whole, &shelf, &counts).await.unwrap();
    let again = sent.load(Ordering::Relaxed);
    assert!(again < bytes - REQUEST_BYTES, "{again} of {bytes} were asked for again");
    let total = counts.total.load(Ordering::Relaxed);
    assert_eq!(counts.added.load(Ordering::Relaxed), total, "what was there counts as done");
    let weights = fs::read(fetched.root().join("model.safetensors")).unwrap();
    assert!(weights == safetensors(bytes), "the parts do not fit together");
    assert_eq!((copies(&shelf), leftovers(&shelf).len()), (1, 0));
    verify(fetched, None, &Counts::default()).await.unwrap();
}

#[tokio::test]
async fn what_an_interrupted_download_left_is_not_believed() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    let bytes = 6 * REQUEST_BYTES;
    put(&memory, &model(bytes)).await;
    let (cut, _) = asked(&memory, 4 * REQUEST_BYTES);
    fetch(&cut, &shelf, &Counts::default()).await.unwrap_err();
    let partial = leftovers(&shelf).into_iter().find(|name| name.starts_with(".partial")).unwrap();
    let weights = shelf.root().join(partial).join("model.safetensors");
    let mut content = fs::read(&weights).unwrap();
    content[100] ^= 1;
    fs::write(&weights, content).unwrap();

    let (whole, _) = asked(&memory, u64::MAX);
    let fetched = fetch(&whole, &shelf, &Counts::default()).await.unwrap();
    let weights = fs::read(fetched.root().join("model.safetensors")).unwrap();
    assert!(weights == safetensors(bytes), "a flipped bit was taken over");
}

#[tokio::test]
async fn a_dropped_download_is_gone_on_with() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    put(&memory, &model(99)).await;
    let slow = remote(stuck(memory.fork()));
    let counts = Counts::default();
    let mut fetching = Box::pin(fetch(&slow, &shelf, &counts));
    while leftovers(&shelf).len() < 2 {
        let still_running = futures::poll!(&mut fetching).is_pending();
        assert!(still_running);
        tokio::task::yield_now().await;
    }
    drop(fetching);
    assert_eq!(copies(&shelf), 0);
    fetch(&remote(Arc::new(memory)), &shelf, &Counts::default()).await.unwrap();
    assert_eq!((copies(&shelf), leftovers(&shelf).len()), (1, 0));
}

#[tokio::test]
async fn two_at_the_same_time_download_once_and_both_tell_how_far_it_is() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    put(&memory, &model(3 * REQUEST_BYTES)).await;
    let (one, first_sent) = asked(&memory, u64::MAX);
    let (two, second_sent) = asked(&memory, u64::MAX);
    let (first_counts, second_counts) = (Counts::default(), Counts::default());
    let both = futures::future::join(
        fetch(&one, &shelf, &first_counts),
        fetch(&two, &shelf, &second_counts),
    );
    let (first, second) = both.await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.root(), second.root());
    let sent = [first_sent, second_sent].map(|sent| sent.load(Ordering::Relaxed));
    assert!(sent.contains(&0), "both downloaded: {sent:?}");
    for counts in [first_counts, second_counts] {
        let [total, added] =
            [&counts.total, &counts.added].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(total, added);
        assert!(total > 3 * REQUEST_BYTES);
    }
    assert_eq!((copies(&shelf), leftovers(&shelf).len()), (1, 0));
}

#[tokio::test]
async fn who_waits_goes_on_when_the_other_one_dies() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    put(&memory, &model(99)).await;
    let slow = remote(stuck(memory.fork()));
    let unheard = Counts::default();
    let mut dying = Box::pin(fetch(&slow, &shelf, &unheard));
    while leftovers(&shelf).len() < 2 {
        assert!(futures::poll!(&mut dying).is_pending());
        tokio::task::yield_now().await;
    }
    let (whole, _) = asked(&memory, u64::MAX);
    let counts = Counts::default();
    let mut waiting = Box::pin(fetch(&whole, &shelf, &counts));
    for _ in 0..20 {
        assert!(futures::poll!(&mut waiting).is_pending(), "it did not wait");
        tokio::task::yield_now().await;
    }
    drop(dying);
    let fetched = waiting.await.unwrap();
    verify(fetched, None, &Counts::default()).await.unwrap();
    assert_eq!((copies(&shelf), leftovers(&shelf).len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn another_download_that_gets_no_further_is_not_waited_for_for_ever() {
    let (_cache, shelf) = shelf();
    let store = store(&model(99)).await;
    let held = shelf.claim(&key_of(&store).await).unwrap();
    let Found::Missing(held) = held else { panic!("{held:?}") };
    fs::write(held.path().join("config.json"), b"{").unwrap();
    let begun = Instant::now();
    let error = fetch(&remote(store), &shelf, &Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::CacheBusy { bytes: 1, .. }), "{error:?}");
    assert!(begun.elapsed() < WAIT + Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_sums_what_is_there_is_waited_for() {
    let (_cache, shelf) = shelf();
    let mut waiting = Waiting::begin(&shelf);
    for beat in 0..10 {
        let at_work = Some(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(beat));
        waiting.saw(Come { bytes: 7, at_work }, &shelf).unwrap();
        tokio::time::advance(WAIT / 2).await;
    }
    tokio::time::advance(WAIT).await;
    let at_work = Some(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(9));
    let error = waiting.saw(Come { bytes: 7, at_work }, &shelf).unwrap_err();
    assert!(matches!(error, ArtifactError::CacheBusy { bytes: 7, .. }), "{error:?}");
}

#[test]
fn summing_what_is_there_is_seen_in_the_journals_time() {
    let folder = tempfile::tempdir().unwrap();
    let (path, content) = (folder.path().join("a"), b"what is there");
    fs::write(&path, content).unwrap();
    let journal = Journal::open(folder.path()).unwrap();
    journal.note("a", content.len() as u64, Sha256Sum::of_bytes(content)).unwrap();
    let journal = Journal::open(folder.path()).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_hours(1);
    let ranges = folder.path().join(".ranges");
    File::open(&ranges).unwrap().set_modified(long_ago).unwrap();
    let (_, length, _) = open_to_append(&path, &journal, "a", 99).unwrap();
    assert_eq!(length, content.len() as u64);
    let age = ranges.metadata().unwrap().modified().unwrap().elapsed().unwrap_or_default();
    assert!(age < Duration::from_mins(1), "{age:?}");
}
