use std::fs::File;

use super::super::entry::Published;
use super::super::shelf::Found;
use super::*;
use crate::digest::{FileRecord, Sha256Sum};
use crate::source::Origin;

const HOUR: Duration = Duration::from_hours(1);

fn policy(known: Option<&[&str]>, grace: Duration) -> Policy {
    let known = known.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    Policy { known, grace, as_of: None, dry_run: false }
}

/// A copy with these contents; nobody is loading it.
fn put(cache: &Path, model: &str, content: &[u8], users: &[&str]) -> Digest {
    let on = Shelf::new(cache, model, "1").unwrap();
    let published = open(&on, content);
    for user in users {
        on.note_user(&published, user).unwrap();
    }
    published.digest()
}

fn open(on: &Shelf, content: &[u8]) -> Published {
    let files = vec![FileRecord {
        path: "a".to_owned(),
        size: content.len() as u64,
        sha256: Sha256Sum::of_bytes(content),
    }];
    let key = Sha256Sum::of_bytes(content).to_string();
    match on.claim(&key).unwrap() {
        Found::Published(published) => published,
        Found::Missing(partial) => {
            fs::write(partial.path().join("a"), content).unwrap();
            let origin = Origin { store: String::new(), uri: String::new() };
            on.publish(&partial, &key, &origin, &files).unwrap()
        }
        Found::Elsewhere(_) => panic!("nobody else is here"),
    }
}

fn fates(copies: &[CachedCopy]) -> Vec<Fate> {
    copies.iter().map(|copy| copy.fate).collect()
}

#[test]
fn what_a_known_user_relies_on_stays_however_old_it_is() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (users, known, idle, expected) in [
        (&["a.b.1"][..], None, 9 * HOUR, Fate::Needed),
        (&["a.b.1"], Some(&["a.b.1"][..]), 9 * HOUR, Fate::Needed),
        (&["a.b.1", "a.c.1"], Some(&["a.c.1"]), 9 * HOUR, Fate::Needed),
        (&["a.b.1"], Some(&["a.b.2"]), HOUR / 2, Fate::InGrace),
        (&["a.b.1"], Some(&["a.b.2"]), 9 * HOUR, Fate::Removed),
        (&["a.b.1"], Some(&["a.c.1"]), HOUR, Fate::Removed),
        // Who looks at one namespace knows nothing of the users in another.
        (&["a.b.1", "z.b.1"], Some(&["a.c.1"]), 9 * HOUR, Fate::Needed),
        (&["a.b.1"], Some(&[]), 9 * HOUR, Fate::Needed),
        (&[], Some(&[]), HOUR, Fate::Removed),
        (&[], None, HOUR / 2, Fate::InGrace),
        (&[], None, 9 * HOUR, Fate::Removed),
    ] {
        let found = judge(&names(users), idle, &policy(known, HOUR));
        assert_eq!(found, expected, "{users:?} {known:?} {idle:?}");
    }
}

#[test]
fn who_began_to_rely_on_a_copy_after_it_was_looked_at_keeps_it() {
    let cache = tempfile::tempdir().unwrap();
    let policy = policy(Some(&["ns.one.1"]), Duration::ZERO);
    put(cache.path(), "m", b"content", &[]);
    let on = Shelf::new(cache.path(), "m", "1").unwrap();
    let names = on.published_names().unwrap();
    let look = || look_at(&on, "m", "1", &names[0], &policy);
    let mut copy = look();
    assert_eq!(copy.fate, Fate::Removed, "nobody relies on it");
    put(cache.path(), "m", b"content", &["ns.one.1"]);
    assert_eq!(lock_and_remove(&on, &mut copy, look, &policy).unwrap(), Fate::Needed);
    assert_eq!(copy.users, ["ns.one.1"], "it is told who does");
    assert_eq!(look().users, ["ns.one.1"], "and that stays noted");
    assert_eq!(on.published_names().unwrap(), names);
}

#[test]
fn two_deployments_on_one_volume_keep_each_what_they_rely_on() {
    let cache = tempfile::tempdir().unwrap();
    let cache = cache.path();
    let both = put(cache, "shared", b"both", &["ns.one.1", "ns.two.1"]);
    let old = put(cache, "shared", b"old", &["ns.one.0"]);
    let other = put(cache, "other", b"other", &["ns.two.1"]);
    let on = Shelf::new(cache, "shared", "1").unwrap();

    // The first one is deleted; the second is still there.
    let found = collect(cache, &policy(Some(&["ns.two.1"]), Duration::ZERO)).unwrap();
    let shown: Vec<_> =
        found.iter().map(|copy| (copy.model.as_str(), copy.bytes > 3, copy.fate)).collect();
    assert!(shown.contains(&("other", true, Fate::Needed)), "{shown:?}");
    assert!(on.find(&both).is_some() && on.find(&old).is_none());
    assert!(Shelf::new(cache, "other", "1").unwrap().find(&other).is_some());

    let found = collect(cache, &policy(Some(&["ns.three.1"]), Duration::ZERO)).unwrap();
    assert_eq!(fates(&found), [Fate::Removed; 2]);
    assert_eq!(fs::read_dir(cache).unwrap().count(), 0, "nothing is left of it");
}

/// A clean-up that begins late does not know who came after it was ordered.
#[test]
fn what_was_used_after_the_users_were_asked_stays() {
    let cache = tempfile::tempdir().unwrap();
    put(cache.path(), "a", b"x", &["ns.new.1"]);
    let known: &[&str] = &["ns.old.1"];
    let asked = |as_of| Policy { as_of: Some(as_of), ..policy(Some(known), Duration::ZERO) };
    let now = SystemTime::now();
    let before = collect(cache.path(), &asked(now - HOUR)).unwrap();
    assert_eq!(fates(&before), [Fate::UsedSince]);
    let after = collect(cache.path(), &asked(now + HOUR)).unwrap();
    assert_eq!(fates(&after), [Fate::Removed]);
}

#[test]
fn what_is_being_loaded_stays() {
    let cache = tempfile::tempdir().unwrap();
    put(cache.path(), "a", b"x", &[]);
    let loading = open(&Shelf::new(cache.path(), "a", "1").unwrap(), b"x");
    let everything = policy(Some(&[]), Duration::ZERO);
    assert_eq!(fates(&collect(cache.path(), &everything).unwrap()), [Fate::InUse]);
    assert!(loading.folder.is_dir());
    drop(loading);
    assert_eq!(fates(&collect(cache.path(), &everything).unwrap()), [Fate::Removed]);
}

#[test]
fn a_dry_run_says_the_same_and_removes_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let digest = put(cache.path(), "a", b"x", &["ns.one.1"]);
    let dry = Policy { dry_run: true, ..policy(Some(&["ns.two.1"]), Duration::ZERO) };
    let found = collect(cache.path(), &dry).unwrap();
    assert_eq!(fates(&found), [Fate::Removed]);
    assert_eq!(found[0].users, ["ns.one.1"]);
    assert!(Shelf::new(cache.path(), "a", "1").unwrap().find(&digest).is_some());
}

#[test]
fn what_a_download_left_goes_when_nobody_came_back_for_it() {
    let cache = tempfile::tempdir().unwrap();
    let on = Shelf::new(cache.path(), "a", "1").unwrap();
    drop(on.claim("dead").unwrap());
    let Found::Missing(alive) = on.claim("alive").unwrap() else { panic!("it was not there") };
    let long_ago = SystemTime::now() - 2 * HOUR;
    for name in
        [".partial-dead", ".partial-dead/.ranges", ".partial-alive", ".partial-alive/.ranges"]
    {
        File::open(on.root().join(name)).unwrap().set_modified(long_ago).unwrap();
    }
    collect(cache.path(), &policy(None, HOUR)).unwrap();
    assert!(!on.root().join(".partial-dead").exists());
    assert!(alive.path().is_dir());
}

#[test]
fn what_is_none_of_ours_stays() {
    let cache = tempfile::tempdir().unwrap();
    let theirs = ["lost+found", "model/1/by-hand", ".hidden/1", "data/empty", "empty"];
    for folder in theirs {
        fs::create_dir_all(cache.path().join(folder)).unwrap();
    }
    assert!(collect(cache.path(), &policy(Some(&[]), Duration::ZERO)).unwrap().is_empty());
    for folder in theirs {
        assert!(cache.path().join(folder).is_dir(), "{folder}");
    }
    assert!(collect(&cache.path().join("nowhere"), &policy(None, HOUR)).unwrap().is_empty());
}

#[test]
fn what_cannot_be_looked_at_or_removed_does_not_end_the_clean_up() {
    let cache = tempfile::tempdir().unwrap();
    fs::create_dir_all(cache.path().join("a/no\nversion")).unwrap();
    put(cache.path(), "b", b"x", &[]);
    put(cache.path(), "c", b"y", &[]);
    // A record that nobody may open for writing: a program that runs.
    let on = Shelf::new(cache.path(), "b", "1").unwrap();
    let record = on.root().join(&on.published_names().unwrap()[0]).join(RECORD_FILE);
    fs::remove_file(&record).unwrap();
    std::os::unix::fs::symlink(std::env::current_exe().unwrap(), &record).unwrap();

    let found = collect(cache.path(), &policy(Some(&[]), Duration::ZERO)).unwrap();
    assert_eq!(fates(&found), [Fate::Stuck, Fate::Removed]);
    assert!(record.is_symlink());
    assert!(cache.path().join("a/no\nversion").is_dir());
    assert!(!cache.path().join("c").exists());
}

#[test]
fn a_golden_file_goes_with_its_copy() {
    let cache = tempfile::tempdir().unwrap();
    let digest = put(cache.path(), "a", b"x", &[]);
    let on = Shelf::new(cache.path(), "a", "1").unwrap();
    let golden = on.keep_golden(&digest, "name", b"{}").unwrap();
    collect(cache.path(), &policy(None, HOUR)).unwrap();
    assert!(golden.is_file(), "its copy is there");
    collect(cache.path(), &policy(None, Duration::ZERO)).unwrap();
    assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0, "nothing is left of it");
}
