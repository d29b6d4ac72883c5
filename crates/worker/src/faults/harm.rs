//! Taking what a container has: its memory and its disk.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const MIB: usize = 1 << 20;
/// A machine without a limit keeps the rest.
const MOST_MEMORY: usize = 4 << 10;

/// Fills memory until the kernel kills the process. Where there is no limit, the process aborts
/// when it has 4 GiB; its signal tells the two apart.
pub(super) fn out_of_memory() {
    tracing::error!(mib = MOST_MEMORY, "a fault: memory is being filled");
    let held = devour(MOST_MEMORY);
    tracing::error!(mib = held.len(), "a fault: nothing limits the memory; the process aborts");
    std::process::abort();
}

/// So many MiB of which every page is in memory: they are written to, and not with zeros.
fn devour(mib: usize) -> Vec<Vec<u8>> {
    (0..mib).map(|_| vec![1; MIB]).collect()
}

/// Writes so many MiB to a file in the cache, or in the folder for temporary files if there is
/// no cache. A process that is started again writes the same file again, so that what it takes
/// does not add up. Returns the file.
pub(super) fn fill(cache: &Path, when: &str, mib: u64) -> io::Result<PathBuf> {
    let folder = if cache.is_dir() { cache.to_owned() } else { std::env::temp_dir() };
    let path = folder.join(format!(".lamplighter-fault-{when}"));
    let mut file = File::create(&path)?;
    let piece = vec![1; MIB];
    for _ in 0..mib {
        file.write_all(&piece)?;
    }
    file.sync_all()?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn memory_is_taken_and_not_only_promised() {
        let held = devour(3);
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), 3 * MIB);
        assert!(held.iter().flatten().all(|byte| *byte == 1));
    }

    #[test]
    fn a_file_takes_its_blocks_and_a_second_time_no_more() {
        let cache = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let path = fill(cache.path(), "at-load", 3).unwrap();
            assert!(path.starts_with(cache.path()));
            let data = path.metadata().unwrap();
            assert_eq!(data.len(), 3 * MIB as u64);
            assert!(data.blocks() * 512 >= data.len(), "it is no hole");
        }
        assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 1);
    }

    #[test]
    fn without_a_cache_the_folder_for_temporary_files_is_taken() {
        let gone = tempfile::tempdir().unwrap().path().join("cache");
        let path = fill(&gone, &format!("test-{}", std::process::id()), 1).unwrap();
        assert_eq!(path.parent(), Some(std::env::temp_dir().as_path()));
        std::fs::remove_file(path).unwrap();
    }
}
