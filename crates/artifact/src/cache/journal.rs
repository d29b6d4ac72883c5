//! How far a download had come, such that it can be proven after a crash.
//!
//! One line each time that another part of a file was written: the sum of the file from its first
//! byte on, how many bytes that were, and the path. A crash may leave a file with less than the
//! journal says, or with zeros; then the sums say so, and what they prove is used again.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sha2::Digest as _;

use crate::digest::Sha256Sum;

pub(super) const JOURNAL_FILE: &str = ".ranges";
const BUFFER: usize = 256 << 10;

/// The lengths up to which each file of a partial download was summed.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Mutex<File>,
    /// By path: length in bytes and the sum up to there, as they were when it was opened.
    known: BTreeMap<String, BTreeMap<u64, Sha256Sum>>,
}

impl Journal {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(folder.join(JOURNAL_FILE))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let mut known: BTreeMap<String, BTreeMap<u64, Sha256Sum>> = BTreeMap::new();
        for (sum, length, path) in text.split(|byte| *byte == b'\n').filter_map(parse) {
            known.entry(path).or_default().insert(length, sum);
        }
        Ok(Self { file: Mutex::new(file), known })
    }

    /// Removes the journal of a folder that is complete.
    pub(crate) fn remove(folder: &Path) -> io::Result<()> {
        std::fs::remove_file(folder.join(JOURNAL_FILE))
    }

    /// Notes that the first `length` bytes of a file have this sum.
    pub(crate) fn note(&self, path: &str, length: u64, sum: Sha256Sum) -> io::Result<()> {
        let line = format!("\n{sum} {length} {path}\n");
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
    }

    /// Gives the journal the time of now: whoever keeps it is at work. That it cannot be given one
    /// costs others patience.
    pub(crate) fn touch(&self) {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.set_modified(SystemTime::now()) {
            tracing::debug!(%error, "a journal has no new time");
        }
    }

    /// How many bytes of a file are proven, and the state of their sum. The file is cut off after
    /// them; `heard` is called with how many bytes were read.
    pub(crate) fn prove(
        &self,
        path: &str,
        file: &File,
        heard: &dyn Fn(u64),
    ) -> io::Result<(u64, sha2::Sha256)> {
        let mut proven = (0, sha2::Sha256::new());
        let mut hasher = sha2::Sha256::new();
        let mut position = 0;
        let mut reader = file;
        for (&length, &sum) in self.known.get(path).into_iter().flatten() {
            let read = read_on(&mut reader, length - position, &mut hasher)?;
            position += read;
            if position < length || Sha256Sum::of(hasher.clone()) != sum {
                break;
            }
            proven = (length, hasher.clone());
            heard(read);
        }
        file.set_len(proven.0)?;
        Ok(proven)
    }
}

/// Sums the next bytes of a file; returns how many there were.
fn read_on(reader: &mut &File, bytes: u64, hasher: &mut sha2::Sha256) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut reader = reader.take(bytes);
    let mut read = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(read),
            Ok(length) => {
                hasher.update(&buffer[..length]);
                read += length as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// None for a line that was not written to its end.
fn parse(line: &[u8]) -> Option<(Sha256Sum, u64, String)> {
    let (sum, rest) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    let (length, path) = rest.split_once(' ')?;
    Some((Sha256Sum::try_from(sum.to_owned()).ok()?, length.parse().ok()?, path.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::io::{Seek as _, SeekFrom};

    use super::*;

    const CONTENT: &[u8] = b"three parts of a file";
    const LENGTHS: [u64; 3] = [6, 12, 21];

    /// A file of `content`, with the journal of [`CONTENT`].
    fn left_behind(content: &[u8]) -> (tempfile::TempDir, File, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        for length in LENGTHS {
            let part = &CONTENT[..usize::try_from(length).unwrap()];
            journal.note("a b", length, Sha256Sum::of_bytes(part)).unwrap();
        }
        let path = folder.path().join("a b");
        fs::write(&path, content).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        (folder, file, journal)
    }

    #[test]
    fn only_what_is_as_it_was_summed_is_proven() {
        let mut zeros = CONTENT.to_vec();
        zeros[12..].fill(0);
        let mut flipped = CONTENT.to_vec();
        flipped[0] ^= 1;
        let mut longer = CONTENT.to_vec();
        longer.extend(b" and more");
        for (content, proven) in [
            (CONTENT, 21),
            (&longer, 21),
            (&CONTENT[..20], 12),
            (&zeros, 12),
            (&CONTENT[..5], 0),
            (&flipped, 0),
            (b"", 0),
        ] {
            let (_folder, mut file, journal) = left_behind(content);
            let heard = Cell::new(0);
            let (length, hasher) =
                journal.prove("a b", &file, &|bytes| heard.set(heard.get() + bytes)).unwrap();
            assert_eq!((length, heard.get()), (proven, proven), "{content:?}");
            let prefix = &CONTENT[..usize::try_from(proven).unwrap()];
            assert_eq!(Sha256Sum::of(hasher), Sha256Sum::of_bytes(prefix));
            assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), proven, "the rest is cut off");
        }
    }

    #[test]
    fn a_file_without_a_line_is_not_proven() {
        let (_folder, file, journal) = left_behind(CONTENT);
        assert_eq!(journal.prove("another", &file, &|_| {}).unwrap().0, 0);
    }

    #[test]
    fn a_journal_that_was_cut_off_anywhere_proves_what_is_left_of_it() {
        let (folder, _, _) = left_behind(CONTENT);
        let path = folder.path().join(JOURNAL_FILE);
        let whole = fs::read(&path).unwrap();
        let mut most = 0;
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            fs::write(folder.path().join("a b"), CONTENT).unwrap();
            let file =
                OpenOptions::new().read(true).write(true).open(folder.path().join("a b")).unwrap();
            let journal = Journal::open(folder.path()).unwrap();
            // What is appended to half a line must not be lost with it.
            journal.note("x", 1, Sha256Sum::of_bytes(b"x")).unwrap();
            assert!(Journal::open(folder.path()).unwrap().known.contains_key("x"), "{length}");
            let (proven, _) = journal.prove("a b", &file, &|_| {}).unwrap();
            assert!(proven >= most, "{length}: {proven} after {most}");
            most = proven;
        }
        assert_eq!(most, 21);
    }
}
