use super::*;

#[test]
fn good_addresses_are_read_and_print_the_same() {
    let image = |path: &str| Location::Image { path: path.into() };
    let claim =
        |claim: &str, path: &str| Location::Claim { claim: claim.into(), path: path.into() };
    let s3 =
        |bucket: &str, prefix: &str| Location::S3 { bucket: bucket.into(), prefix: prefix.into() };
    let web = |base: &str| Location::Https { base: base.into() };
    let hub = |repository: &str, revision: &str| Location::Hub {
        repository: repository.into(),
        revision: revision.into(),
    };
    let oci = |reference: &str, path: &str| Location::Oci {
        reference: reference.into(),
        path: path.into(),
    };
    for (uri, expected) in [
        ("image:///models/minilm", image("/models/minilm")),
        ("image:///m", image("/m")),
        ("pvc://models/minilm/2.1.0", claim("models", "minilm/2.1.0")),
        ("pvc://a.b-c/x", claim("a.b-c", "x")),
        ("s3://models/minilm/2.1.0", s3("models", "minilm/2.1.0")),
        ("s3://my.bucket-1/a b/ü%20+", s3("my.bucket-1", "a b/ü%20+")),
        ("s3://models/..a/b..", s3("models", "..a/b..")),
        (
            "gs://models_1/minilm",
            Location::Gcs { bucket: "models_1".into(), prefix: "minilm".into() },
        ),
        ("az://models/a/b", Location::Azure { container: "models".into(), prefix: "a/b".into() }),
        ("https://models.example:8443/a%20b/c", web("https://models.example:8443/a%20b/c")),
        ("hf://org/repo@main", hub("org/repo", "main")),
        ("hf://org/repo@refs/pr/1", hub("org/repo", "refs/pr/1")),
        ("hf://gpt2@e7da7f2", hub("gpt2", "e7da7f2")),
        ("oci://ghcr.io/org/minilm:2.1.0", oci("ghcr.io/org/minilm:2.1.0", "")),
        ("oci://localhost:5000/m:1/models/a", oci("localhost:5000/m:1", "models/a")),
    ] {
        let location = Location::parse(uri).unwrap();
        assert_eq!(location, expected, "{uri}");
        assert_eq!(location.to_string(), uri);
    }
    for (uri, printed) in [
        ("s3://models/minilm/", "s3://models/minilm"),
        ("https://models.example/a/", "https://models.example/a"),
        ("hf://org/repo", "hf://org/repo@main"),
    ] {
        assert_eq!(Location::parse(uri).unwrap().to_string(), printed);
    }
    let digest = format!("oci://ghcr.io/org/m@sha256:{}/a", "0".repeat(64));
    assert_eq!(Location::parse(&digest).unwrap().to_string(), digest);
}

#[test]
fn bad_addresses_are_refused() {
    for uri in [
        "",
        "models/minilm",
        "s3:models/minilm",
        "image://models/minilm",
        "image:///",
        "image:////etc",
        "image:///models/../etc",
        "image:///models/./x",
        "image:///..",
        "image:///models//x",
        "image:///models/a\0b",
        "image:///models/a\nb",
        "image:///models\\..\\etc",
        "pvc://models",
        "pvc://models/",
        "pvc:///minilm",
        "pvc://Models/minilm",
        "pvc://../minilm",
        "pvc://models/../other/x",
        "pvc://models//etc/passwd",
        "s3://models",
        "s3://models/",
        "s3://ab/minilm",
        "s3://under_score/minilm",
        "s3://user:secret@models/minilm",
        "s3://models/minilm?versionId=3",
        "s3://models/minilm#main",
        "s3://models/..",
        "gs://models",
        "gs://Models/a",
        "gs://models/../a",
        "az://models--a/b",
        "az://my.models/b",
        "https://models.example",
        "https://models.example/",
        "https:///a",
        "https://user:secret@models.example/a",
        "https://models.example/a/../b",
        "https://models.example/a/%2e%2e/b",
        "https://models.example/a b",
        "https://MODELS.example/a",
        "https://models.example/a?b",
        "hf://",
        "hf://org/repo/more",
        "hf://org/../x",
        "hf://org/repo@",
        "hf://org/repo@a/../b",
        "hf://org/repo@a b",
        "hf://org/repo@a%2fb",
        "oci://minilm:1.0",
        "oci://org/minilm:1.0",
        "oci://ghcr.io/org/minilm",
        "oci://ghcr.io/org/minilm:",
        "oci://ghcr.io/Org/minilm:1",
        "oci://ghcr.io/org/minilm@sha256:123",
        "oci://ghcr.io/org/minilm:1/../x",
    ] {
        let error = Location::parse(uri).unwrap_err();
        assert!(matches!(error, ArtifactError::LocationInvalid { .. }), "{uri}: {error}");
    }
}

#[test]
fn a_bucket_or_claim_that_cannot_be_named_so_is_refused_by_its_rule() {
    for (uri, rule) in [
        ("s3://ab/x", "3 to 63 characters"),
        ("s3://a..b/x", "two dots in a row"),
        ("s3://192.168.5.4/x", "IP address"),
        ("s3://Models/x", "lower-case letters"),
        ("s3://under_score/x", "lower-case letters"),
        ("s3://-models/x", "begin and end with a letter or digit"),
        ("s3://models-/x", "begin and end with a letter or digit"),
        ("s3://.models/x", "begin and end with a letter or digit"),
        ("s3://my.-bucket/x", "each part between dots"),
        ("pvc:///x", "1 to 253 characters"),
        ("pvc://a..b/x", "two dots in a row"),
        ("pvc://a.-b/x", "each part between dots"),
    ] {
        let error = Location::parse(uri).unwrap_err().to_string();
        assert!(error.contains(rule), "{uri}: {error}");
    }
    let long = format!("s3://{}/x", "a".repeat(64));
    assert!(Location::parse(&long).unwrap_err().to_string().contains("3 to 63"));
    for uri in ["s3://192.168.5.400/x", "s3://1.2.3/x", "s3://models-s3alias/x"] {
        Location::parse(uri).unwrap();
    }
}

#[test]
fn an_unsupported_scheme_is_named() {
    for (uri, scheme) in [
        ("http://models.example/minilm", "http"),
        ("ftp://models/minilm", "ftp"),
        ("file:///models", "file"),
        ("S3://models/minilm", "S3"),
    ] {
        let error = Location::parse(uri).unwrap_err();
        assert_eq!(error.found().as_deref(), Some(scheme), "{error}");
        assert!(matches!(error, ArtifactError::SchemeUnsupported { .. }));
    }
}
