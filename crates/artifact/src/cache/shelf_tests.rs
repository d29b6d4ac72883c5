use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::digest::Sha256Sum;

fn origin() -> Origin {
    Origin { store: "http://one".to_owned(), uri: "s3://models/a".to_owned() }
}

fn names(shelf: &Shelf) -> Vec<String> {
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

fn files(content: &[u8]) -> Vec<FileRecord> {
    vec![FileRecord {
        path: "config.json".to_owned(),
        size: content.len() as u64,
        sha256: Sha256Sum::of_bytes(content),
    }]
}

fn begin(shelf: &Shelf, key: &str) -> Partial {
    match shelf.claim(key).unwrap() {
        Found::Missing(partial) => partial,
        other => panic!("{other:?}"),
    }
}

fn publish(shelf: &Shelf, key: &str, content: &[u8]) -> Published {
    let partial = begin(shelf, key);
    fs::write(partial.path().join("config.json"), content).unwrap();
    shelf.publish(&partial, key, &origin(), &files(content)).unwrap()
}

#[test]
fn a_folder_is_visible_only_when_it_is_published() {
    let (_cache, shelf) = shelf();
    let partial = begin(&shelf, "key");
    fs::write(partial.path().join("config.json"), b"{}").unwrap();
    assert!(!shelf.has_any());
    let published = shelf.publish(&partial, "key", &origin(), &files(b"{}")).unwrap();
    drop(partial);
    let digest = published.digest();
    assert_eq!(published.folder, shelf.root().join(short(&digest)));
    assert_eq!(names(&shelf), [".listing-key".to_owned(), short(&digest)]);
    assert_eq!(shelf.find(&digest).unwrap().folder, published.folder);
    assert!(matches!(shelf.claim("key").unwrap(), Found::Published(_)));
    assert!(shelf.find(&Digest::of(&files(b"{ }"))).is_none());
}

#[test]
fn a_listing_is_downloaded_by_one_and_gone_on_with_by_the_next() {
    let (_cache, shelf) = shelf();
    let partial = begin(&shelf, "key");
    fs::write(partial.path().join("config.json"), b"12345").unwrap();
    let come = || match shelf.claim("key").unwrap() {
        Found::Elsewhere(come) => come,
        other => panic!("two write the same folder: {other:?}"),
    };
    let first = come();
    assert_eq!(first.bytes, 5);
    let journal = File::open(partial.path().join(".ranges")).unwrap();
    journal.set_modified(SystemTime::now() - LEFTOVER).unwrap();
    assert_ne!(come(), first, "the time is part of how far it is");
    partial.journal.touch();
    assert!(come().at_work.unwrap() >= first.at_work.unwrap());
    begin(&shelf, "another");
    drop(partial);
    let next = begin(&shelf, "key");
    assert_eq!(fs::read(next.path().join("config.json")).unwrap(), b"12345");
    next.remove().unwrap();
    assert!(!names(&shelf).contains(&".lock-key".to_owned()));
}

#[test]
fn only_what_nobody_writes_and_nobody_wrote_for_a_while_is_swept() {
    let (_cache, shelf) = shelf();
    let alive = begin(&shelf, "alive");
    drop(begin(&shelf, "dead"));
    let dead = shelf.root().join(".partial-dead");
    drop(begin(&shelf, "second"));
    assert!(dead.is_dir(), "it may come back");

    let long_ago = SystemTime::now() - 2 * LEFTOVER;
    for path in [&dead, &dead.join(".ranges"), &shelf.root().join(".partial-alive")] {
        File::open(path).unwrap().set_modified(long_ago).unwrap();
    }
    let second = begin(&shelf, "second");
    assert!(!dead.exists() && alive.path().is_dir() && second.path().is_dir());

    drop(second);
    shelf.make_room("alive").unwrap();
    assert_eq!(names(&shelf), [".lock-alive", ".partial-alive"]);
}

#[test]
fn room_is_made_of_what_downloads_of_other_models_left() {
    let (cache, ours) = shelf();
    drop(begin(&ours, "mine"));
    let other = Shelf::new(cache.path(), "b", "1.0.0").unwrap();
    drop(begin(&other, "dead"));
    let alive = begin(&other, "alive");
    fs::create_dir_all(cache.path().join("of-somebody/else")).unwrap();
    fs::write(cache.path().join("a-file"), b"").unwrap();

    ours.make_room("mine").unwrap();
    assert_eq!(names(&other), [".lock-alive", ".partial-alive"]);
    assert!(alive.path().is_dir() && cache.path().join("of-somebody/else").is_dir());
    assert_eq!(names(&ours), [".lock-mine", ".partial-mine"], "it goes on with that");
}

/// The clean-up may come between the making of a shelf and the lock in it.
#[test]
fn a_shelf_that_is_removed_while_it_is_empty_is_made_anew() {
    let (_cache, shelf) = shelf();
    for number in 0..500 {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) && fs::remove_dir(shelf.root()).is_err() {
                    std::hint::spin_loop();
                }
            });
            let claimed = shelf.claim(&number.to_string());
            is_over.store(true, Ordering::Relaxed);
            let Ok(Found::Missing(partial)) = claimed else { panic!("{claimed:?}") };
            partial.remove().unwrap();
        });
        drop(fs::remove_dir(shelf.root()));
    }
}

#[test]
fn the_same_contents_are_published_once() {
    let (_cache, shelf) = shelf();
    let first = publish(&shelf, "one", b"{}");
    let second = publish(&shelf, "two", b"{}");
    assert_eq!(first.folder, second.folder);
    let short = short(&first.digest());
    assert_eq!(names(&shelf), [".listing-one".to_owned(), ".listing-two".to_owned(), short]);
}

/// Another process may be loading it.
#[test]
fn a_copy_that_can_be_used_is_never_replaced() {
    let (_cache, shelf) = shelf();
    let loading = publish(&shelf, "one", b"{}");
    let inode = || fs::metadata(&loading.folder).unwrap().ino();
    let was = inode();
    for key in ["two", "three"] {
        let partial = begin(&shelf, key);
        let mut all = files(b"{}");
        for (path, content) in [("config.json", "{}"), ("golden.json", key)] {
            fs::write(partial.path().join(path), content).unwrap();
        }
        let (size, sha256) = (key.len() as u64, Sha256Sum::of_bytes(key.as_bytes()));
        all.push(FileRecord { path: "golden.json".to_owned(), size, sha256 });
        let published = if key == "two" {
            shelf.publish(&partial, key, &origin(), &all).unwrap()
        } else {
            // As if the first one had appeared in the same moment.
            let onto = shelf.entry(&loading.digest());
            entry::publish(partial.path(), &onto, &origin(), &all).unwrap()
        };
        assert_eq!((&published.folder, &published.files), (&loading.folder, &loading.files));
        assert_eq!(inode(), was, "{key}");
        assert!(!partial.path().exists(), "{key}");
    }
}

#[test]
fn a_published_folder_without_a_usable_record_is_replaced() {
    let (_cache, shelf) = shelf();
    let old = publish(&shelf, "key", b"{}");
    fs::write(old.folder.join(entry::RECORD_FILE), b"{").unwrap();
    assert!(shelf.find(&old.digest()).is_none());
    let new = publish(&shelf, "key", b"{}");
    assert_eq!(new.folder, old.folder);
    assert!(shelf.find(&old.digest()).is_some());
}

#[test]
fn a_note_of_a_listing_that_was_not_written_to_its_end_is_as_good_as_none() {
    let (_cache, shelf) = shelf();
    let old = publish(&shelf, "key", b"{}");
    for note in ["", "sha256:123", "sha256:"] {
        fs::write(shelf.root().join(".listing-key"), note).unwrap();
        assert!(matches!(shelf.claim("key").unwrap(), Found::Missing(_)), "{note:?}");
    }
    let again = publish(&shelf, "key", b"{}");
    assert_eq!(again.folder, old.folder);
}

#[test]
fn only_the_folder_that_was_found_is_discarded() {
    let (_cache, shelf) = shelf();
    let found = publish(&shelf, "key", b"{}");
    let aside = shelf.root().join("kept");
    fs::rename(&found.folder, &aside).unwrap();
    let newer = publish(&shelf, "key", b"{}");

    entry::discard(&found).unwrap();
    assert!(newer.folder.is_dir() && aside.is_dir(), "another folder was removed");
    entry::discard(&newer).unwrap();
    assert!(!newer.folder.exists() && aside.is_dir());
    entry::discard(&newer).unwrap();
}

#[test]
fn who_relies_on_a_folder_is_noted_beside_it() {
    let (_cache, shelf) = shelf();
    let published = publish(&shelf, "key", b"{}");
    for user in ["search.scripture.7c9f", "search.scripture.7c9f", "search.other.1"] {
        shelf.note_user(&published, user).unwrap();
    }
    let folder = shelf.root().join(format!("{USERS}{}", short(&published.digest())));
    let mut users: Vec<_> =
        fs::read_dir(folder).unwrap().map(|user| user.unwrap().file_name()).collect();
    users.sort();
    assert_eq!(users, ["search.other.1", "search.scripture.7c9f"]);
}

#[test]
fn a_lock_that_a_killed_process_left_hinders_nobody() {
    let (_cache, shelf) = shelf();
    fs::create_dir_all(shelf.root()).unwrap();
    File::create(shelf.root().join(".lock-key")).unwrap().write_all(b"").unwrap();
    publish(&shelf, "key", b"{}");
    assert!(!names(&shelf).contains(&".lock-key".to_owned()));
}

#[test]
fn names_that_are_no_single_folder_are_refused() {
    for (model, version) in [("..", "1"), ("a", ".."), ("a/b", "1"), ("", "1"), ("a", ".x")] {
        let error = Shelf::new(Path::new("/cache"), model, version).unwrap_err();
        assert!(matches!(error, ArtifactError::PathRefused { .. }), "{model} {version}");
    }
}
