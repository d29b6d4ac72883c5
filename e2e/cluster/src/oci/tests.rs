use super::*;

fn image() -> Image {
    Image {
        reference: "example.test/tool:1".to_owned(),
        files: vec![
            ImageFile::bytes("/usr/share/tool/words", "hello"),
            ImageFile {
                path: "/bin/sh".into(),
                content: Content::Link("/usr/bin/tool".into()),
                mode: 0,
            },
            ImageFile { mode: 0o755, ..ImageFile::bytes("/usr/bin/tool", "\x7fELF") },
        ],
        entrypoint: vec!["/usr/bin/tool".to_owned(), "serve".to_owned()],
        user: "65532:65532".to_owned(),
        env: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
        labels: BTreeMap::from([("kind".to_owned(), "test".to_owned())]),
    }
}

/// The files of a tar, by name.
fn read(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(bytes);
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        assert_eq!(entry.header().mtime().unwrap(), 0, "{name}");
        let mut content = Vec::new();
        io::copy(&mut entry, &mut content).unwrap();
        files.insert(name, content);
    }
    files
}

#[test]
fn the_same_description_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("1.tar"), folder.path().join("2.tar"));
    let digest = image().write(&first).unwrap();
    let mut shuffled = image();
    shuffled.files.reverse();
    assert_eq!(shuffled.write(&second).unwrap(), digest);
    assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
}

#[test]
fn every_blob_is_there_and_is_what_its_name_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    let digest = image().write(&path).unwrap();
    let files = read(&fs::read(&path).unwrap());
    assert!(files.contains_key("oci-layout"));
    for (name, content) in &files {
        if let Some(expected) = name.strip_prefix("blobs/sha256/") {
            assert_eq!(hex(&Sha256::digest(content)), expected);
        }
    }

    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
        let content = files[&format!("blobs/{digest}")].clone();
        assert_eq!(descriptor["size"], content.len() as u64);
        content
    };
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    let index = json(&files["index.json"]);
    assert_eq!(index["manifests"][0]["digest"], digest);
    assert_eq!(
        index["manifests"][0]["annotations"]["io.containerd.image.name"],
        "example.test/tool:1"
    );
    let manifest = json(&blob(&index["manifests"][0]));
    let config = json(&blob(&manifest["config"]));
    assert_eq!(config["config"]["Entrypoint"], json!(["/usr/bin/tool", "serve"]));
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Env"], json!(["A=1"]));
    assert_eq!(config["config"]["Labels"]["kind"], "test");
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);

    let layer = read(&blob(&manifest["layers"][0]));
    let names: Vec<&str> = layer.keys().map(String::as_str).collect();
    let expected = [
        "bin",
        "bin/sh",
        "usr",
        "usr/bin",
        "usr/bin/tool",
        "usr/share",
        "usr/share/tool",
        "usr/share/tool/words",
    ];
    assert_eq!(names.iter().map(|name| name.trim_end_matches('/')).collect::<Vec<_>>(), expected);
    assert_eq!(layer["usr/share/tool/words"], b"hello");
}

#[test]
fn a_path_that_leaves_the_image_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["relative", "/", "/../etc/passwd"] {
        let image = Image { files: vec![ImageFile::bytes(path, "")], ..image() };
        let error = image.write(&folder.path().join("image.tar")).unwrap_err();
        assert!(error.to_string().contains("example.test/tool:1"), "{error}");
    }
}

#[test]
fn the_closure_of_a_program_holds_its_loader_and_libraries() {
    let files = binary_closure(Path::new("/bin/sh")).unwrap();
    assert!(files.iter().any(|file| file.path.to_string_lossy().contains("ld-linux")));
    assert!(files.iter().any(|file| file.path.ends_with("libc.so.6")));
}
