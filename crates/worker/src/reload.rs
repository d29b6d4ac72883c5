//! Files that are replaced while the process runs, such as a mounted Secret.
//!
//! They are read again and again rather than watched: the kubelet replaces a mounted folder by
//! swapping a symbolic link (<https://kubernetes.io/docs/concepts/configuration/secret/#mounted-secrets-are-updated-automatically>),
//! and other volumes tell of changes in other ways or in none.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

/// How often files are looked at: a kubelet takes up to a minute itself.
pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// Longer files are no keys and no certificates.
const LONGEST: u64 = 1 << 20;

/// The contents of some files at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Contents(pub(crate) Vec<Vec<u8>>);

/// Reads all of the files.
pub(crate) fn read(paths: &[PathBuf]) -> io::Result<Contents> {
    paths.iter().map(|path| read_one(path)).collect::<io::Result<_>>().map(Contents)
}

fn read_one(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(named)?;
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(named)?;
    if bytes.len() as u64 > LONGEST {
        let problem = format!("{} is longer than {LONGEST} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(bytes)
}

/// Gives `take` the files whenever they are others than before, for ever. What it refuses, and what
/// cannot be read, is told once, and what was taken last stays in force.
pub(crate) async fn keep_up<E: Display>(
    paths: Vec<PathBuf>,
    mut last: Contents,
    every: Duration,
    what: &'static str,
    take: impl Fn(&Contents) -> Result<(), E>,
) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        ticks.tick().await;
        let again = paths.clone();
        let found = match tokio::task::spawn_blocking(move || read(&again)).await {
            Ok(Ok(found)) if found == last => {
                told.clear();
                continue;
            }
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(error.to_string()),
            Err(lost) => Err(lost.to_string()),
        };
        let taken = found.and_then(|found| take(&found).map(|()| found).map_err(|e| e.to_string()));
        match taken {
            Ok(found) => {
                tracing::info!(what, "read anew, and in force");
                last = found;
                told.clear();
            }
            Err(error) if error == told => {}
            Err(error) => {
                tracing::error!(what, error, "what was read last stays in force");
                told = error;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn what_is_refused_or_gone_leaves_the_last_in_force_until_it_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        std::fs::write(&path, "one").unwrap();
        let first = read(std::slice::from_ref(&path)).unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let take = {
            let taken = Arc::clone(&taken);
            move |found: &Contents| {
                let text = String::from_utf8(found.0[0].clone()).unwrap();
                if text.starts_with("bad") {
                    return Err("it is bad");
                }
                taken.lock().unwrap().push(text);
                Ok(())
            }
        };
        let every = Duration::from_millis(5);
        let watch = tokio::spawn(keep_up(vec![path.clone()], first, every, "keys", take));
        let until = async |count: usize| {
            let seen = async {
                while taken.lock().unwrap().len() < count {
                    tokio::time::sleep(every).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), seen).await.expect("it is taken");
        };
        for (old, new, count) in [("bad", "two", 1), ("", "three", 2)] {
            if old.is_empty() {
                std::fs::remove_file(&path).unwrap();
            } else {
                std::fs::write(&path, old).unwrap();
            }
            // A few looks at what cannot be taken.
            tokio::time::sleep(every * 10).await;
            std::fs::write(dir.path().join("new"), new).unwrap();
            std::fs::rename(dir.path().join("new"), &path).unwrap();
            until(count).await;
        }
        watch.abort();
        assert_eq!(*taken.lock().unwrap(), ["two", "three"]);
    }

    #[test]
    fn a_file_without_end_is_not_read_to_its_end() {
        let error = read(&[PathBuf::from("/dev/zero")]).unwrap_err();
        assert!(error.to_string().contains("longer than"), "{error}");
    }
}
