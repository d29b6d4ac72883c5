use super::*;

fn origin() -> Origin {
    Origin { store: "http://one".to_owned(), uri: "s3://models/a".to_owned() }
}

fn visible(shelf: &Shelf) -> Vec<String> {
    let entries = fs::read_dir(shelf.root()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn shelf() -> (tempfile::TempDir, Shelf) {
    let cache = tempfile::tempdir().unwrap();
    let shelf = Shelf::new(cache.path(), "a", "1.0.0").unwrap();
    (cache, shelf)
}

#[test]
fn a_folder_is_visible_only_when_it_is_published() {
    let (_cache, shelf) = shelf();
    let partial = shelf.begin().unwrap();
    fs::write(partial.path().join("config.json"), b"{}").unwrap();
    assert!(shelf.copies(&origin()).is_empty());
    let published = partial.publish(&shelf, "id", &origin(), Vec::new()).unwrap();
    assert_eq!(published.folder, shelf.root().join("id"));
    assert!(published.folder.join("config.json").is_file());
    assert_eq!(visible(&shelf), ["id"]);
    assert!(shelf.find("id", &origin()).is_some());
    let elsewhere = Origin { uri: "s3://models/b".to_owned(), ..origin() };
    assert!(shelf.find("id", &elsewhere).is_none());
    let other_store = Origin { store: "http://two".to_owned(), ..origin() };
    assert!(shelf.find("id", &other_store).is_none());
    let copies = shelf.copies(&origin());
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0].folder, published.folder);
}

#[test]
fn a_dropped_folder_leaves_nothing() {
    let (_cache, shelf) = shelf();
    let partial = shelf.begin().unwrap();
    fs::write(partial.path().join("config.json"), b"{}").unwrap();
    drop(partial);
    assert_eq!(visible(&shelf), [""; 0]);
}

#[test]
fn what_a_killed_process_left_is_swept_and_what_is_being_written_is_not() {
    let (_cache, shelf) = shelf();
    let alive = shelf.begin().unwrap();
    for (random, with_lock) in [("dead", true), ("older", false)] {
        fs::create_dir(shelf.root().join(format!("{PARTIAL}{random}"))).unwrap();
        if with_lock {
            File::create(shelf.root().join(format!("{LOCK}{random}"))).unwrap();
        }
    }
    let second = shelf.begin().unwrap();
    assert!(alive.path().is_dir() && second.path().is_dir());
    assert_eq!(visible(&shelf).len(), 4, "{:?}", visible(&shelf));
}

#[test]
fn the_second_to_publish_an_identity_takes_the_first_ones_folder() {
    let (_cache, shelf) = shelf();
    let [first, second] = [shelf.begin().unwrap(), shelf.begin().unwrap()];
    fs::write(first.path().join("from"), b"first").unwrap();
    fs::write(second.path().join("from"), b"second").unwrap();
    first.publish(&shelf, "id", &origin(), Vec::new()).unwrap();
    let published = second.publish(&shelf, "id", &origin(), Vec::new()).unwrap();
    assert_eq!(fs::read(published.folder.join("from")).unwrap(), b"first");
    assert_eq!(visible(&shelf), ["id"]);
}

#[test]
fn a_published_folder_without_a_usable_record_is_replaced() {
    let (_cache, shelf) = shelf();
    let old = shelf.begin().unwrap().publish(&shelf, "id", &origin(), Vec::new()).unwrap();
    fs::write(old.folder.join(RECORD_FILE), b"{").unwrap();
    assert!(shelf.find("id", &origin()).is_none());
    let partial = shelf.begin().unwrap();
    fs::write(partial.path().join("new"), b"").unwrap();
    let published = partial.publish(&shelf, "id", &origin(), Vec::new()).unwrap();
    assert!(published.folder.join("new").is_file());
}

#[test]
fn only_the_folder_that_was_found_is_discarded() {
    let (_cache, shelf) = shelf();
    let found = shelf.begin().unwrap().publish(&shelf, "id", &origin(), Vec::new()).unwrap();
    let aside = shelf.root().join("kept");
    fs::rename(&found.folder, &aside).unwrap();
    let newer = shelf.begin().unwrap().publish(&shelf, "id", &origin(), Vec::new()).unwrap();

    discard(&found).unwrap();
    assert_eq!(visible(&shelf), ["id", "kept"], "another folder was removed");
    discard(&newer).unwrap();
    assert_eq!(visible(&shelf), ["kept"]);
    discard(&newer).unwrap();
}

#[test]
fn others_that_nobody_uses_are_evicted_and_those_in_use_are_not() {
    let (_cache, shelf) = shelf();
    let publish =
        |id: &str| shelf.begin().unwrap().publish(&shelf, id, &origin(), Vec::new()).unwrap();
    drop(publish("old"));
    let fresh = publish("fresh");
    drop(publish("found"));
    let found = shelf.find("found", &origin()).unwrap();
    fs::create_dir(shelf.root().join("of-the-users-own")).unwrap();
    let kept = publish("kept");
    shelf.evict_others(&kept);
    assert_eq!(visible(&shelf), ["found", "fresh", "kept", "of-the-users-own"]);
    drop((fresh, found));
    shelf.evict_others(&kept);
    assert_eq!(visible(&shelf), ["kept", "of-the-users-own"]);
    drop(kept);
    assert!(shelf.find("kept", &origin()).is_some());
}

#[test]
fn names_that_are_no_single_folder_are_refused() {
    for (model, version) in [("..", "1"), ("a", ".."), ("a/b", "1"), ("", "1"), ("a", ".x")] {
        let error = Shelf::new(Path::new("/cache"), model, version).unwrap_err();
        assert!(matches!(error, ArtifactError::PathRefused { .. }), "{model} {version}");
    }
}
