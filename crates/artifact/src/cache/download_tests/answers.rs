//! What a store may answer, and what needs no answer.

use super::*;

/// Answers every request with `answer(request line)`, then closes the connection.
async fn serve(answer: impl Fn(&str) -> String + Send + 'static) -> Arc<dyn ObjectStore> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(connection.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap();
            let answer = answer(request.lines().next().unwrap());
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let store = AmazonS3Builder::new()
        .with_bucket_name("models")
        .with_endpoint(endpoint)
        .with_region("us-east-1")
        .with_skip_signature(true)
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(retry);
    Arc::new(store.build().unwrap())
}

fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn listing(keys: &[&str]) -> String {
    let mut body = "<ListBucketResult>".to_owned();
    for key in keys {
        write!(
            body,
            "<Contents><Key>{key}</Key><Size>4</Size><ETag>\"e\"</ETag>\
             <LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
        )
        .unwrap();
    }
    body.push_str("<IsTruncated>false</IsTruncated></ListBucketResult>");
    response("200 OK", &body)
}

type Check<'a> = &'a dyn Fn(&ArtifactError) -> bool;

async fn fail(answer: impl Fn(&str) -> String + Send + 'static) -> ArtifactError {
    let (_cache, shelf) = shelf();
    let error = fetch(&remote(serve(answer).await), &shelf, &Counts::default()).await.unwrap_err();
    assert_eq!(copies(&shelf), 0);
    error
}

#[tokio::test]
async fn each_answer_to_a_listing_has_its_error() {
    let denied = |error: &ArtifactError| matches!(error, ArtifactError::AuthDenied { .. });
    let not_found = |error: &ArtifactError| matches!(error, ArtifactError::NotFound { .. });
    let no_bucket = |error: &ArtifactError| {
        let words = "there is no bucket models at http://one for s3://models/minilm";
        matches!(error, ArtifactError::BucketMissing { .. }) && error.to_string().contains(words)
    };
    let download = |error: &ArtifactError| matches!(error, ArtifactError::Download { .. });
    let refused = |error: &ArtifactError| matches!(error, ArtifactError::PathRefused { .. });
    let expired = "<Error><Code>ExpiredToken</Code></Error>";
    let cases: [(String, Check<'_>); 12] = [
        (response("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>"), &denied),
        (response("401 Unauthorized", ""), &denied),
        (response("400 Bad Request", expired), &denied),
        (response("400 Bad Request", ""), &download),
        (response("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>"), &no_bucket),
        (response("404 Not Found", ""), &no_bucket),
        (response("500 Internal Server Error", ""), &download),
        (response("503 Slow Down", ""), &download),
        (response("200 OK", "<html>a web site</html>"), &not_found),
        (String::new(), &download),
        (listing(&[]), &not_found),
        (listing(&["minilm/a", "minilm/../../etc/passwd"]), &refused),
    ];
    for (answer, check) in cases {
        let expected = answer.clone();
        let error = fail(move |_| answer.clone()).await;
        assert!(check(&error), "{expected}: {error:?}");
    }
}

#[tokio::test]
async fn each_answer_to_a_download_has_its_error() {
    let denied = |error: &ArtifactError| matches!(error, ArtifactError::AuthDenied { .. });
    let download = |error: &ArtifactError| matches!(error, ArtifactError::Download { .. });
    let changed = |error: &ArtifactError| matches!(error, ArtifactError::ChangedMeanwhile { file, .. } if file == "a");
    let part = |range: &str, length: usize, body: &str| {
        format!(
            "HTTP/1.1 206 Partial Content\r\ncontent-length: {length}\r\n\
             content-range: bytes {range}\r\nconnection: close\r\n\r\n{body}"
        )
    };
    let no_bucket = |error: &ArtifactError| matches!(error, ArtifactError::BucketMissing { .. });
    let cases: [(String, Check<'_>); 8] = [
        (response("403 Forbidden", ""), &denied),
        (response("404 Not Found", ""), &changed),
        (response("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>"), &no_bucket),
        (response("412 Precondition Failed", ""), &changed),
        (response("500 Internal Server Error", ""), &download),
        (response("200 OK", "1234"), &download),
        (part("0-3/4", 4, "12"), &download),
        (part("0-1/2", 2, "12"), &download),
    ];
    for (answer, check) in cases {
        let expected = answer.clone();
        let error = fail(move |request| {
            if request.contains("list-type=2") { listing(&["minilm/a"]) } else { answer.clone() }
        })
        .await;
        assert!(check(&error), "{expected}: {error:?}");
    }
}

#[tokio::test]
async fn a_copy_with_the_expected_digest_needs_no_store() {
    let (_cache, shelf) = shelf();
    let up = remote(store(&model(99)).await);
    let first = fetch(&up, &shelf, &Counts::default()).await.unwrap();
    let first = verify(first, None, &Counts::default()).await.unwrap();

    for answer in ["503 Slow Down", "403 Forbidden"] {
        let down = remote(serve(move |_| response(answer, "")).await);
        let expected = Some(&first.digest);
        let cached =
            super::super::fetch(&down, &shelf, expected, &Counts::default()).await.unwrap();
        assert_eq!(cached.root(), first.root);
        verify(cached, expected, &Counts::default()).await.unwrap();
    }
    let down = remote(serve(|_| response("503 Slow Down", "")).await);
    let error = fetch(&down, &shelf, &Counts::default()).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Download { .. }), "{error:?}");
    assert!(error.to_string().contains("if its digest is expected"), "{error}");
    let other: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let error =
        super::super::fetch(&down, &shelf, Some(&other), &Counts::default()).await.unwrap_err();
    assert!(error.to_string().contains("no cached copy has the expected digest"), "{error}");
}

fn golden_of(digest: &Digest, words: &str) -> Vec<u8> {
    serde_json::json!({"artifactDigest": digest.to_string(), "words": words})
        .to_string()
        .into_bytes()
}

#[tokio::test]
async fn a_corrected_golden_file_is_read_and_the_copy_is_left_to_who_loads_it() {
    let (_cache, shelf) = shelf();
    let store = store(&model(99)).await;
    let up = remote(Arc::clone(&store) as Arc<dyn ObjectStore>);
    let first = fetch(&up, &shelf, &Counts::default()).await.unwrap();
    let loading = verify(first, None, &Counts::default()).await.unwrap();
    let digest = loading.digest;
    let read = async |remote: &Remote, expected: Option<&Digest>| {
        let fetched =
            super::super::fetch(remote, &shelf, expected, &Counts::default()).await.unwrap();
        let artifact = verify(fetched, expected, &Counts::default()).await.unwrap();
        assert_eq!((&artifact.root, artifact.digest), (&loading.root, digest));
        loading.unchanged().unwrap();
        fs::read(artifact.golden.unwrap()).unwrap()
    };
    assert_eq!(read(&up, Some(&digest)).await, b"{}");

    for (words, expected) in [("second", None), ("third", Some(&digest)), ("fourth", None)] {
        let corrected = golden_of(&digest, words);
        put(&store, &[("minilm/golden.json", corrected.clone())]).await;
        assert!(read(&up, expected).await == corrected, "{words}");
        assert!(read(&up, Some(&digest)).await == corrected, "{words}, again");
    }
    let corrected = golden_of(&digest, "fourth");
    let other: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    put(&store, &[("minilm/config.json", b"{ }".to_vec())]).await;
    put(&store, &[("minilm/golden.json", golden_of(&other, "of other files"))]).await;
    assert!(read(&up, Some(&digest)).await == corrected, "it was for other files");
    let down = remote(serve(|_| response("503 Slow Down", "")).await);
    assert!(read(&down, Some(&digest)).await == corrected, "the last one that was read");
    assert_eq!(copies(&shelf), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_says_nothing_about_a_golden_file_is_not_waited_for() {
    let (_cache, shelf) = shelf();
    let memory = InMemory::new();
    put(&memory, &model(99)).await;
    let first = fetch(&remote(Arc::new(memory.fork())), &shelf, &Counts::default()).await.unwrap();
    let first = verify(first, None, &Counts::default()).await.unwrap();
    put(&memory, &[("minilm/golden.json", golden_of(&first.digest, "new"))]).await;
    let begun = Instant::now();
    let expected = Some(&first.digest);
    let silent = remote(stuck(memory));
    super::super::fetch(&silent, &shelf, expected, &Counts::default()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}
